"""What people are shown of a rollout's judgement: how each guard of each comparison stands.

A controller keeps plain sums with every look (`standing`), which costs next to nothing; whoever
shows them works out the intervals (`told`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sortition.judgement import policy, words
from sortition.judgement.counts import Counts
from sortition.judgement.design import SLOWEST, Latency
from sortition.judgement.evidence import Standing, more_needed
from sortition.judgement.intervals import difference_interval, rate_interval

from .guards import Action
from .times import from_unix

COMPARED, ALONE = "comparison", "thresholds"

ALONE_WORDS = (
    "Judged by limits alone: no guard of it counts requests of both versions, so harm and a shared "
    "outage look the same."
)


def standing(
    action: Action, until: float, onsets: Mapping[tuple[str, str], float | None]
) -> dict[str, Any]:
    """Return how a look left a rollout's comparisons, as JSON has it.

    until: unix second at which the newest tick ended.  onsets: (comparison, guard) -> unix second
    at which its harm seems to have begun, of those with evidence of harm.
    """
    seen, decision = action.seen, action.decision
    assert seen is not None and decision is not None  # noqa: S101, PT018 (`act` has them)
    return {
        "until": until,
        "sentence": decision.sentence,
        "evidence": seen.evidence,
        "bound": seen.design.bound,
        "beta": seen.design.beta,
        "calibration": seen.design.calibration,
        "guards": [
            _standing(seen, one, each, onsets.get((one.target, each.watched.name)))
            for one in seen.compared
            for each in one.assessment.standings
        ],
    }


def _standing(
    seen: policy.Seen, one: policy.Compared, each: Standing, onset: float | None
) -> dict[str, Any]:
    watched, design = each.watched, seen.design
    slow = isinstance(watched, Latency)
    verdict = policy.verdict_of(seen, one, each)
    return {
        "target": one.target,
        "guard": watched.name,
        "kind": verdict.kind.value,
        "says": None if verdict.label is None else verdict.label.value,
        "critical": verdict.critical,
        "sentence": verdict.sentence,
        "whole": list(each.whole),
        "step": list(each.step),
        "limit": SLOWEST if slow else watched.limit,
        "tolerated": watched.noise.slowdown
        if isinstance(watched, Latency)
        else watched.noise.tolerated,
        "dispersion": watched.noise.dispersion,
        "harm": each.harm,
        "holds": design.hold_line,
        "rolls_back": design.bound / (watched.weight * one.weight),
        "acceptable": each.acceptable,
        "certified": 1 / design.beta,
        "needed": more_needed(each, design.beta),
        "onset": onset,
    }


def weighed(action: Action, guard: str) -> dict[str, Any]:
    """Return what the comparison that shows most harm weighed of one guard, for a look; nothing
    where it is not compared."""
    compared = () if action.seen is None else action.seen.compared
    found = [
        (one.weight, each)
        for one in compared
        for each in one.assessment.standings
        if each.watched.name == guard
    ]
    if not found or action.seen is None:
        return {}
    weight, worst = max(found, key=lambda each: each[1].harm)
    return {
        "evidence": {
            "evidence": worst.harm,
            "rolls_back_at": action.seen.design.bound / (worst.watched.weight * weight),
            "acceptable": worst.acceptable,
        }
    }


def told(kept: Mapping[str, Any] | None, now: float) -> dict[str, Any]:
    """Return what is shown. kept: the newest `standing`, None where nothing was ever compared."""
    if kept is None:
        return {
            "by": ALONE,
            "sentence": ALONE_WORDS,
            "evidence": None,
            "says": None,
            "bound": None,
            "age": None,
            "calibration": None,
            "guards": [],
        }
    return {
        "by": COMPARED,
        "sentence": kept["sentence"],
        "evidence": kept["evidence"],
        "says": f"{words.odds(kept['evidence'])} against no harm",
        "bound": kept["bound"],
        "age": round(max(0.0, now - kept["until"]), 1),
        # What was kept by older versions does not say.
        "calibration": kept.get("calibration") or None,
        "guards": [_told(guard, kept["beta"]) for guard in kept["guards"]],
    }


def _told(guard: Mapping[str, Any], beta: float) -> dict[str, Any]:
    whole, step = Counts(*guard["whole"]), Counts(*guard["step"])
    canary, control = (step.canary_failed, step.canary), (step.control_failed, step.control)
    onset = guard["onset"]
    return {
        **{
            name: guard[name]
            for name in ("target", "guard", "kind", "says", "critical", "sentence", "limit")
        },
        "tolerated": guard["tolerated"],
        "dispersion": guard.get("dispersion", 1.0),
        "canary": _arm(whole.canary_failed, whole.canary, beta),
        "control": _arm(whole.control_failed, whole.control, beta),
        "difference": list(difference_interval(canary, control, beta)),
        "evidence": guard["harm"],
        "against": f"{words.odds(guard['harm'])} against no harm",
        "holds_at": guard["holds"],
        "rolls_back_at": guard["rolls_back"],
        "acceptable": guard["acceptable"],
        "certified_at": guard["certified"],
        "needed": guard["needed"],
        "onset": None if onset is None else from_unix(onset),
    }


def _arm(failed: int, requests: int, beta: float) -> dict[str, Any]:
    low, high = rate_interval(failed, requests, beta)
    return {
        "requests": requests,
        "failed": failed,
        "rate": failed / requests if requests else None,
        "low": low,
        "high": high,
    }
