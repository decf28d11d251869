"""The flags a client holds: compiled, swapped whole, and counted where they are asked."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

from .core.conditions import Resource
from .core.evaluate import CompiledFlag, Evaluation, compile_flags
from .core.model import Snapshot, SnapshotVersion


class Served:
    """One compiled flag and how often each of its answers was given.

    Counts only rise; `HeldFlags.assignments` reports what they rose by. An increment has no call in
    it, so CPython with its lock does not lose any between threads.
    """

    __slots__ = (
        "compiled",
        "exposed",
        "others",
        "rest",
        "seed",
        "threshold",
        "when_exposed",
        "when_rest",
    )

    def __init__(self, compiled: CompiledFlag) -> None:
        self.compiled = compiled
        self.seed = compiled.seed
        self.threshold = compiled.threshold
        self.when_exposed = compiled.exposed[0].value
        self.when_rest = compiled.rest.value
        self.exposed = 0
        self.rest = 0
        self.others: dict[str | None, int] = {}

    def answer(self, request_id: str) -> Evaluation:
        """Return and count the answer for a usable request id."""
        evaluation = self.compiled.choose(request_id)
        self.others[evaluation.variant] = self.others.get(evaluation.variant, 0) + 1
        return evaluation

    def counts(self) -> Counter[tuple[str, str]]:
        """Return how often each variant was given since this flag was compiled."""
        key = self.compiled.flag.key
        counts = Counter({(key, str(variant)): n for variant, n in self.others.items()})
        counts[key, str(self.compiled.exposed[0].variant)] += self.exposed
        counts[key, str(self.compiled.rest.variant)] += self.rest
        return counts


class HeldFlags:
    """What a client knows. `switches` holds the flags whose answer is one hash and one comparison."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self.snapshot: Snapshot | None = None
        self.all: Mapping[str, Served] = {}
        self.switches: Mapping[str, Served] = {}
        self._retired: deque[list[Served]] = deque([[], []], maxlen=2)
        self._reported: dict[int, tuple[Served, Counter[tuple[str, str]]]] = {}

    @property
    def version(self) -> SnapshotVersion | None:
        """The version that is held, or None."""
        return None if self.snapshot is None else self.snapshot.version

    def put(self, snapshot: Snapshot) -> None:
        """Replace all flags at once. The caller has checked that this one may."""
        compiled = compile_flags(snapshot.flags, self._resource)
        before = self.all
        held = {}
        for key, each in compiled.items():
            old = before.get(key)
            unchanged = (
                old is not None and old.compiled.flag is each.flag and not each.flag.prerequisites
            )
            held[key] = old if old is not None and unchanged else Served(each)
        # Threads may still be asking the old ones: they are counted for two more reports.
        self._retired[-1].extend(old for key, old in before.items() if held.get(key) is not old)
        self.snapshot = snapshot
        self.all = held
        self.switches = {
            key: each
            for key, each in held.items()
            if each.compiled.simple and each.compiled.flag.is_boolean
        }

    def assignments(self) -> Counter[tuple[str, str]]:
        """Return (flag, variant) -> evaluations since the last time."""
        counted = [*self.all.values(), *(each for some in self._retired for each in some)]
        risen: Counter[tuple[str, str]] = Counter()
        reported = {}
        for served in counted:
            counts = served.counts()
            _, before = self._reported.get(id(served), (served, Counter()))
            risen.update(counts - before)
            reported[id(served)] = (served, counts)
        self._reported = reported
        self._retired.append([])
        return risen
