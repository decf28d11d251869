"""What a rollout would do, for people: each step with its shares, who really sees it, and what
stands against it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from . import rollout_words as words
from .output import clean, duration, percent, table

Plan = Mapping[str, Any]


def shown(plan: Plan, *, problems: bool = True) -> RenderableType:
    """Return a plan to be printed. problems: whether to say what would refuse the start now; a
    start says so itself."""
    parts: list[RenderableType] = [Text(line) for line in _head(plan)]
    parts += [Text(), _steps(plan)]
    if any(step.get("shows") for step in plan["steps"]):
        parts += [Text(), Text(SHOWS), _shows(plan)]
    if plan.get("first_share"):
        parts += [Text(), Text(f"→ {clean(plan['first_share']['sentence'])}")]
    warnings = [line for step in plan["steps"] for line in step["warnings"]]
    if warnings:
        parts += [Text(), *(Text(f"⚠ {clean(line)}") for line in warnings)]
    if plan.get("notes"):
        parts += [Text(), *(Text(f"→ {clean(line)}") for line in plan["notes"])]
    if problems and plan["problems"]:
        parts += [Text(), Text("It would be refused now:")]
        parts += [Text(f"✖ {clean(line)}") for line in plan["problems"]]
    return Group(*parts)


def _head(plan: Plan) -> list[str]:
    bakes = duration(plan["duration"])
    lines = [f"{words.title(plan)}  {words.schedule(plan)}  {bakes} in all"]
    if plan.get("until"):
        lines.append(f"a split: the last share is held until {plan['until']}, and stays")
    if _moves_both(plan):
        lines.append(words.RELATIONS.get(plan["relation"], str(plan["relation"])))
    rate = plan["requests_per_second"]
    lines.append(
        "requests: not known, nor what a step can show; see --rate" if rate is None else _rate(rate)
    )
    guards = ", ".join(_guard(guard) for guard in plan["guards"])
    lines.append(f"guards: {guards or 'none: nothing but a person takes it back'}")
    if plan.get("calibration"):
        lines.append(f"noise: {clean(plan['calibration']['sentence'])}")
    return lines


def _rate(rate: float) -> str:
    return f"requests: about {rate:,.4g} per second"


def _guard(guard: Mapping[str, Any]) -> str:
    does = "" if guard["on_breach"] == "roll_back" else ", only holds"
    of = f"{guard['points']} of {guard['of']}"
    return clean(f"{guard['name']} {words.limit(guard)} ({of}{does})")


def _moves_both(plan: Plan) -> bool:
    kinds = {id.partition("/")[0] for step in plan["steps"] for id in step["shares"]}
    return "flag" in kinds and len(kinds) > 1


def _steps(plan: Plan) -> RenderableType:
    number = len(plan["steps"])
    rows = [
        [
            f"{step['number']}/{number}",
            f"T+{duration(step['at'])}",
            duration(step["hold"]) if step["hold"] else "–",
            "\n".join(_shares(step)),
            "\n".join(_exposed(step["exposure"])),
            "–" if step["requests"] is None else f"{step['requests']:,}",
        ]
        for step in plan["steps"]
    ]
    return table("Step", "At", "Held", "Shares", "Who really sees it", "Requests>", rows=rows)


def _shares(step: Mapping[str, Any]) -> list[str]:
    lines = [f"{words.target_of(id)} {percent(share)}" for id, share in step["shares"].items()]
    if step.get("kept"):
        lines.append(f"{percent(step['kept'])} kept as a control")
    return lines


SHOWS = "What each step can show at these requests; what is less stays unseen:"


def _shows(plan: Plan) -> RenderableType:
    """Return from where on harm is found within each step, and what a pass of it will say."""
    several = len({seen["target"] for step in plan["steps"] for seen in step["shows"]}) > 1
    rows = [
        [
            f"{step['number']}/{len(plan['steps'])}",
            f"{seen['guard']}, {words.target_of(seen['target'])}" if several else seen["guard"],
            f"{seen['requests']:,}",
            _usual(seen),
            _detects(seen),
            seen["passes"],
        ]
        for step in plan["steps"]
        for seen in step.get("shows", ())
    ]
    return table("Step", "Guard", "Requests>", "Usual>", "Found from>", "A pass says", rows=rows)


def _usual(seen: Mapping[str, Any]) -> str:
    if seen["usual"] is None:
        return "–"
    return f"{percent(seen['usual'])}{' assumed' if seen['assumed'] else ''}"


def _detects(seen: Mapping[str, Any]) -> str:
    if seen["detects"] is None:
        return "nothing, by comparison"
    return f"{seen['detects']:.3g}×" if seen["usual"] is None else percent(seen["detects"])


def _exposed(exposure: Mapping[str, Any]) -> list[str]:
    lines = []
    if exposure["canary"] is not None:
        lines.append(f"new version {percent(exposure['canary'])}")
    for key, share in exposure["flags"].items():
        both = exposure["both"].get(key)
        also = "" if both is None else f", with the new version {percent(both)}"
        lines.append(f"{key} {percent(share)}{also}")
    return lines
