"""Flags are compiled when a snapshot arrives, so that a request costs one hash and one comparison.

Whatever the request cannot change is settled at once: conditions (they see only the resource),
kills, shares of 0 and 100 %, and prerequisites that are settled themselves.
"""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Mapping
from functools import lru_cache

from . import bucketing
from .conditions import Resource
from .model import Flag, Json, evaluation_order
from .reasons import ErrorCode, Reason
from .records import dataclass


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One answer. `variant` and `revision` are None when there was nothing to evaluate."""

    value: Json
    variant: str | None
    reason: Reason
    revision: int | None = None
    error: ErrorCode | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """How an answer came about: the numbers of the lot beside the answer itself.

    point, threshold: unsigned 32-bit and 0..2**32, or None when no lot was drawn.
    because: one sentence.
    """

    evaluation: Evaluation
    point: int | None
    threshold: int | None
    because: str


class CompiledFlag:
    """One flag, ready to answer.

    seed, threshold: the lot; a settled flag has threshold 0 (rest) or 2**32 (exposed).
    exposed, rest: the answers when `choose` tells; `choose` is None for a flag with one exposed
    variant and no open prerequisite (`simple`), where the comparison alone decides.
    """

    __slots__ = (
        "_among",
        "_open",
        "exposed",
        "flag",
        "rest",
        "seed",
        "settled",
        "threshold",
    )

    def __init__(
        self,
        flag: Flag,
        threshold: int,
        settled: str | None,
        open_prerequisites: tuple[tuple[CompiledFlag, str], ...] = (),
    ) -> None:
        self.flag = flag
        self.seed = bucketing.seed(flag.salt)
        self.threshold = threshold
        self.settled = settled
        """Why every request gets the same side (in words), or None when a lot is drawn."""
        weights = [(variant, weight) for variant, weight in flag.weights if weight]
        reason = _reason(flag, settled)
        self.exposed = _answers(flag, reason, *(variant for variant, _ in weights))
        (self.rest,) = _answers(flag, reason, flag.rest)
        self._among: tuple[int, tuple[int, ...]] | None = None
        """Seed and edges of the second lot, where there is something to draw."""
        if len(weights) > 1:
            edges = bucketing.cumulative_thresholds(weight for _, weight in weights)
            self._among = (bucketing.variant_seed(flag.salt), edges)
        self._open = open_prerequisites

    @property
    def simple(self) -> bool:
        """Whether `hash(id, seed) < threshold` alone picks between two answers."""
        return self._among is None and not self._open

    def choose(self, request_id: str) -> Evaluation:
        """Return the shared answer for a request id that is text and not empty.

        The value is the flag's own object: who hands it to a host copies it (`fresh`).
        Raises UnicodeEncodeError for lone surrogates.
        """
        if bucketing.point(request_id, self.seed) >= self.threshold:
            return self.rest
        for parent, variant in self._open:
            if parent.choose(request_id).variant != variant:
                return self.rest
        if self._among is None:
            return self.exposed[0]
        seed, edges = self._among
        return self.exposed[bisect_right(edges, bucketing.point(request_id, seed))]

    def evaluate(self, request_id: object) -> Evaluation:
        """Return the answer for anything given as a request id; never raises."""
        problem = id_problem(request_id)
        if problem is not None:
            return Evaluation(None, None, Reason.ERROR, self.flag.revision, problem)
        return self.choose(str(request_id))

    def settled_variant(self) -> str | None:
        """Return the variant that every request gets, or None while a lot decides."""
        if self.threshold == 0:
            return self.rest.variant
        if self.threshold == bucketing.POINTS and self.simple:
            return self.exposed[0].variant
        return None

    def failed_prerequisite(self, request_id: str) -> str | None:
        """Return the first open prerequisite that this request does not meet."""
        for parent, variant in self._open:
            if parent.choose(request_id).variant != variant:
                return f"{parent.flag.key} does not serve {variant}"
        return None


def compile_flags(flags: Mapping[str, Flag], resource: Resource) -> dict[str, CompiledFlag]:
    """Compile a valid set of flags for one process. Raises InvalidSnapshot on cycles."""
    compiled: dict[str, CompiledFlag] = {}
    for key in evaluation_order(flags):
        compiled[key] = compile_flag(flags[key], resource, compiled)
    return compiled


def compile_flag(
    flag: Flag, resource: Resource, compiled: Mapping[str, CompiledFlag]
) -> CompiledFlag:
    """Compile one flag whose prerequisites are among `compiled`."""
    why = _settled_to_rest(flag, resource)
    if why is not None:
        return CompiledFlag(flag, 0, why)
    open_prerequisites = []
    for prerequisite in flag.prerequisites:
        parent = compiled[prerequisite.flag]
        served = parent.settled_variant()
        if served is None:
            open_prerequisites.append((parent, prerequisite.variant))
        elif served != prerequisite.variant:
            return CompiledFlag(
                flag, 0, f"prerequisite {prerequisite.flag} serves {served} to everybody here"
            )
    threshold = bucketing.threshold(flag.share)
    one_variant = sum(1 for _, weight in flag.weights if weight) == 1
    everybody = threshold == bucketing.POINTS and one_variant and not open_prerequisites
    return CompiledFlag(
        flag, threshold, "share is 100 %" if everybody else None, tuple(open_prerequisites)
    )


def explain(compiled: CompiledFlag, request_id: str) -> Explanation:
    """Return the answer for a request id together with the numbers that led to it."""
    evaluation = fresh(compiled.evaluate(request_id))
    if evaluation.error is not None:
        return Explanation(evaluation, None, None, "The request id is empty or not text.")
    point = bucketing.point(request_id, compiled.seed)
    if compiled.settled is not None:
        because = f"Every request here gets this: {compiled.settled}."
        return Explanation(evaluation, point, compiled.threshold, because)
    if point >= compiled.threshold:
        because = f"Point {point} is not below threshold {compiled.threshold}: the rest."
    elif (failed := compiled.failed_prerequisite(request_id)) is not None:
        because = f"Drawn, but prerequisite {failed} to this request."
    else:
        because = f"Point {point} is below threshold {compiled.threshold}: exposed."
    return Explanation(evaluation, point, compiled.threshold, because)


def fresh(evaluation: Evaluation) -> Evaluation:
    """Return the evaluation with a value that its receiver may change."""
    if not isinstance(evaluation.value, (dict, list)):
        return evaluation
    e = evaluation
    return Evaluation(copy.deepcopy(e.value), e.variant, e.reason, e.revision, e.error)


def id_problem(request_id: object) -> ErrorCode | None:
    """Tell what is wrong with a request id, or None. Never says what it was."""
    if not isinstance(request_id, str) or not request_id:
        return ErrorCode.TARGETING_KEY_MISSING
    try:
        request_id.encode()
    except UnicodeEncodeError:
        return ErrorCode.INVALID_CONTEXT
    return None


def _settled_to_rest(flag: Flag, resource: Resource) -> str | None:
    if flag.killed:
        return "the flag is killed"
    if flag.share == 0:
        return "share is 0 %"
    for condition in flag.conditions:
        if not condition.holds(resource):
            return f"condition on {condition.attribute} does not hold here"
    return None


def _reason(flag: Flag, settled: str | None) -> Reason:
    if flag.killed:
        return Reason.DISABLED
    return Reason.STATIC if settled is not None else Reason.SPLIT


def _answers(flag: Flag, reason: Reason, *variants: str) -> tuple[Evaluation, ...]:
    if len(variants) == 1:
        value = flag.variants[variants[0]]
        if isinstance(value, bool):
            return _shared_answer(value, variants[0], reason, flag.revision)
    return tuple(Evaluation(flag.variants[v], v, reason, flag.revision) for v in variants)


@lru_cache(maxsize=4096)
def _shared_answer(
    value: bool, variant: str, reason: Reason, revision: int
) -> tuple[Evaluation, ...]:
    """Return the answer of a switch, alone in its tuple: flags that answer alike share it."""
    return (Evaluation(value, variant, reason, revision),)
