"""The sentences: for each decision one, with the numbers that it rests on."""

from __future__ import annotations

from math import isinf

from .design import Design, Latency, Rate, Watched
from .evidence import Assessment, Standing


def odds(evidence: float) -> str:
    """Return evidence for people: `1,270 : 1`."""
    if evidence >= 1e6:
        return f"{evidence:.1e} : 1"
    return f"{evidence:,.0f} : 1" if evidence >= 10 else f"{evidence:.2g} : 1"


def percent(rate: float) -> str:
    """Return a rate for people."""
    return f"{rate * 100:.3g} %"


def times(canary: tuple[int, int], control: tuple[int, int]) -> str:
    """Return how many times the control's rate the canary's is: `22×`; (failed, whole)."""
    if not control[0] or not canary[1]:
        return "none of the control's failed" if not control[0] else "nothing to compare"
    ratio = canary[0] / canary[1] / (control[0] / control[1])
    return f"{ratio:.0f}×" if ratio >= 10 else f"{ratio:.2g}×"


def _failed(watched: Watched) -> str:
    return (
        f"took longer than {watched.limit * 1000:,.0f} ms"
        if isinstance(watched, Latency)
        else "failed"
    )


def counted(standing: Standing) -> str:
    """Return what both arms had."""
    n_t, x_t, n_c, x_c = standing.whole
    verb = _failed(standing.watched)
    ratio = times((x_t, n_t), (x_c, n_c))
    return f"{x_t:,} of {n_t:,} canary requests {verb}, {x_c:,} of {n_c:,} on control, {ratio}"


def _tolerated(watched: Watched) -> str:
    if isinstance(watched, Rate):
        return f"tolerated {watched.noise.tolerated:.2g}×, limit {percent(watched.limit)}"
    return f"tolerated {watched.noise.slowdown:.2g}× as slow"


def proven(target: str, standing: Standing, weight: float, evidence: float, design: Design) -> str:
    """Say why harm is proven."""
    watched = standing.watched
    line = design.bound / (watched.weight * weight)
    slow = ""
    if isinstance(watched, Latency):
        slow = f"{target} is more than {watched.noise.slowdown:.2g}× as slow as control; "
    return (
        f"ROLL BACK {target}, {watched.name}: {slow}{counted(standing)}; {_tolerated(watched)}; "
        f"evidence {odds(standing.harm)}, alone enough at {odds(line)}; altogether "
        f"{odds(evidence)} of {odds(design.bound)}; false-alarm budget {percent(design.alpha)}."
    )


def standing(one: Standing, design: Design, state: str) -> str:
    """Say how a guard stands."""
    watched = one.watched
    if not one.whole.canary:
        return f"{watched.name}: {state}."
    return (
        f"{watched.name}: {state}; {counted(one)}; {_tolerated(watched)}; evidence of harm "
        f"{odds(one.harm)} (holds at {odds(design.hold_line)}), that it is acceptable "
        f"{odds(one.acceptable)} (needs {odds(1 / design.beta)})."
    )


def backstop(target: str, one: Standing) -> str:
    """Say why no further evidence is needed."""
    return (
        f"ROLL BACK {target}, {one.watched.name}: {_recent(one)}. Above 5 % and more than twice "
        "the control's in two minutes one after the other: no further evidence is needed."
    )


def _recent(one: Standing) -> str:
    n_t, x_t, n_c, x_c = one.recent
    verb = _failed(one.watched)
    arms = f"{x_t:,} of {n_t:,} canary requests {verb}, {x_c:,} of {n_c:,} on control"
    return f"in the last minute {arms}"


def shared_outage(target: str, one: Standing) -> str:
    """Say why the canary is not blamed."""
    n_t, x_t, n_c, x_c = one.recent
    return (
        f"HOLD: both versions break the limit of {one.watched.name} "
        f"({times((x_t, n_t), (x_c, n_c))}; {_recent(one)}): a shared outage, not {target}."
    )


def limit_broken(target: str, one: Standing) -> str:
    """Say what is broken, and why it does not go back yet."""
    return (
        f"HOLD: {target} breaks the limit of {one.watched.name}; {_recent(one)}. "
        "The evidence that it is worse than control is not there yet."
    )


def slower(target: str, latency: Latency) -> str:
    """Say how slow it is."""
    return (
        f"HOLD: {target} is more than {latency.noise.noticed:.2g}× as slow as control, which is "
        f"still tolerable (rolls back above {latency.noise.slowdown:.2g}×)."
    )


def mismatch(target: str, one: Assessment) -> str:
    """Say how far the draws are off."""
    got = "?" if one.canary_share is None else percent(one.canary_share)
    against = "beyond all doubt" if isinf(one.mismatch) else odds(one.mismatch)
    return (
        f"HOLD: {target} got {got} of what was drawn, which is not its share ({against}): "
        "the arms cannot be compared until that is explained."
    )
