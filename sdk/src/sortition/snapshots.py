"""The flags a client holds: compiled, swapped whole, and counted where they are asked."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import NamedTuple

from .core.conditions import Resource
from .core.evaluate import CompiledFlag, compile_flag
from .core.model import Flag, Snapshot, SnapshotVersion, evaluation_order


class Tally:
    """A count that any thread raises by `tally.n += 1`.

    There is no call in that, so CPython with its lock does not lose any between threads.
    """

    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


class Tallies:
    """Counts by name, raised without a lock: they may be in the way of a host's request."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}

    def add(self, name: str) -> None:
        """Count one more."""
        tally = self._tallies.get(name)
        if tally is None:
            tally = self._tallies.setdefault(name, Tally())
        tally.n += 1

    def as_dict(self) -> dict[str, int]:
        """Return name -> count."""
        return {name: tally.n for name, tally in self._tallies.copy().items()}


class Served:
    """One compiled flag and how often each of its answers was given; counts only rise.

    exposed, rest: counted by the short way of `Client.is_enabled`, in the manner of Tally.
    """

    __slots__ = (
        "compiled",
        "exposed",
        "rest",
        "seed",
        "tallies",
        "threshold",
        "when_exposed",
        "when_rest",
    )

    def __init__(self, compiled: CompiledFlag) -> None:
        self.compiled = compiled
        self.seed = compiled.seed
        self.threshold = compiled.threshold
        # Read for switches only, whose values are booleans.
        self.when_exposed: bool = compiled.exposed[0].value
        self.when_rest: bool = compiled.rest.value
        self.exposed = 0
        self.rest = 0
        answers = (*compiled.exposed, compiled.rest)
        self.tallies = {str(answer.variant): Tally() for answer in answers}

    def count(self, variant: str | None) -> None:
        """Count that this variant was given."""
        self.tallies[str(variant)].n += 1

    def counts(self) -> Counter[tuple[str, str]]:
        """Return how often each variant was given since this flag was compiled."""
        key = self.compiled.flag.key
        counts = Counter({(key, variant): tally.n for variant, tally in self.tallies.items()})
        counts[key, str(self.compiled.exposed[0].variant)] += self.exposed
        counts[key, str(self.compiled.rest.variant)] += self.rest
        return counts


class Held(NamedTuple):
    """One set of flags: replaced as one thing, so that no thread and no fork sees half of it.

    switches: the flags whose answer is a boolean, one hash and one comparison.
    """

    snapshot: Snapshot | None
    all: Mapping[str, Served]
    switches: Mapping[str, Served]


class HeldFlags:
    """What a client knows. One thread calls `put` and `assignments`; any may read `now`."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self.now = Held(None, {}, {})
        self._retired: deque[list[Served]] = deque([[], []], maxlen=2)
        self._reported: dict[int, tuple[Served, Counter[tuple[str, str]]]] = {}

    @property
    def version(self) -> SnapshotVersion | None:
        """The version that is held, or None."""
        snapshot = self.now.snapshot
        return None if snapshot is None else snapshot.version

    def put(self, snapshot: Snapshot) -> None:
        """Replace all flags at once. The caller has checked that this one may."""
        before = self.now.all
        held = self._served(snapshot.flags)
        switches = {
            key: each
            for key, each in held.items()
            if each.compiled.simple and each.compiled.flag.is_boolean
        }
        self.now = Held(snapshot, held, switches)
        # Threads may still be asking the old ones: they are counted for two more reports.
        self._retired[-1].extend(old for key, old in before.items() if held.get(key) is not old)

    def assignments(self) -> Counter[tuple[str, str]]:
        """Return (flag, variant) -> evaluations since the last time."""
        counted = [*self.now.all.values(), *(each for some in self._retired for each in some)]
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

    def _served(self, flags: Mapping[str, Flag]) -> dict[str, Served]:
        """Compile what changed, and what stands on it; the rest goes on as it is."""
        before = self.now.all
        held: dict[str, Served] = {}
        compiled: dict[str, CompiledFlag] = {}
        for key in evaluation_order(flags):
            flag, old = flags[key], before.get(key)
            same = old is not None and old.compiled.flag is flag
            parents = (prerequisite.flag for prerequisite in flag.prerequisites)
            if old is not None and same and all(held[p] is before.get(p) for p in parents):
                held[key] = old
            else:
                held[key] = Served(compile_flag(flag, self._resource, compiled))
            compiled[key] = held[key].compiled
        return held
