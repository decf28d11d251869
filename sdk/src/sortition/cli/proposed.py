"""What waits for a second person, in words: all that they approve of, line by line. It reads
`result` and `command` of an approval as the API gives them (shares in parts per million)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from . import rollout_words as words
from .output import clean, duration, percent

Body = Mapping[str, Any]

DOES = {"roll_back": "rolls back", "hold": "holds", "pass": "passes"}
OVERTIMES = {
    "person": "waits for a person",
    "roll_back": "rolls back",
    "proceed": "goes on all the same",
}


def lines(found: Body) -> list[str]:
    """Return what would become of it, a line each."""
    result = found["result"]
    if "before" in result:
        told = _of_flag(result["before"], result["after"])
    elif "schedule" in result:
        told = _of_start(result, found["command"])
    else:
        told = iter([_of_verb(result)])
    return [f"  {clean(line)}" for line in told]


def _of_flag(before: Body, after: Body) -> Iterator[str]:
    for name in sorted({*before, *after}):
        was, is_now = before.get(name), after.get(name)
        if was != is_now:
            yield f"{name}: {_told(name, was)} → {_told(name, is_now)}"


def _told(name: str, value: Any) -> str:
    return _share(value) if name == "share" else json.dumps(value, ensure_ascii=False)


def _of_verb(result: Body) -> str:
    step, count = result["step"] + 1, result["steps"]
    here = f"at step {step}/{count}, {_share(result['share'])}" if step else "before the first step"
    following = "the end" if result["next"] is None else _share(result["next"])
    return f"{here}; next {following}"


def _of_start(result: Body, command: Body) -> Iterator[str]:
    yield f"version {result['version']}" if result["version"] else "no new version"
    if result["supersedes"]:
        yield f"in place of {result['supersedes']}, which ends"
    if len({target["kind"] == "flag" for target in result["targets"]}) > 1:
        yield words.RELATIONS.get(result["relation"], str(result["relation"]))
    yield from map(_target, result["targets"])
    yield from _steps(result["schedule"], result["until"])
    if command.get("start_at"):
        yield f"begins at {command['start_at']}"
    if command.get("requires"):
        yield f"first complete in {command['requires']['environment']}"
    if command.get("hold_if_lost"):
        yield f"holds if not watched for {command['hold_if_lost']}"
    yield from map(_guard, result["guards"])
    if not result["guards"]:
        yield "no guards: nothing but a person takes it back"


def _target(target: Body) -> str:
    followed = ", followed" if target["mode"] == "follow" else ""
    return f"moves {target['kind']}/{target['name']}{followed}{_settings(target['settings'])}"


def _settings(settings: Body) -> str:
    return "".join(
        f", {name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in settings.items()
    )


def _steps(schedule: Body, until: str | None) -> Iterator[str]:
    steps = schedule["steps"]
    for number, step in enumerate(steps, 1):
        last = number == len(steps)
        hold = schedule["bake"] if last else step["hold"]
        told = f"step {number}/{len(steps)}: {_share(step['share'])}"
        told += f" for {duration(hold)}" if hold else ""
        told += f" until {until}, and stays" if last and until else ""
        if last and schedule["keep"]:
            told += f", {_share(schedule['keep'])} kept on the old version meanwhile"
        if step["minimum_sample"]:
            told += f", from {step['minimum_sample']:,} requests"
        yield told + (", when somebody approves" if step["approval"] else "")
    yield f"not decided in time: {OVERTIMES.get(schedule['overtime'], schedule['overtime'])}"


def _guard(guard: Body) -> str:
    signal, sample = guard["signal"], guard["minimum_sample"]
    measured = f"{signal['measure']} from {signal['source']}{_settings(signal['settings'])}"
    points = f"{guard['points']} of {guard['of']} points of {duration(guard['period'])}"
    least = f", from {sample:,} requests" if sample else ""
    does = f"else {DOES[guard['on_breach']]}, without data {DOES[guard['no_data']]}"
    return f"guard {guard['name']} ({measured}): {words.limit(guard)}, {points}{least}; {does}"


def _share(ppm: float) -> str:
    return percent(ppm / words.PPM_PER_PERCENT)
