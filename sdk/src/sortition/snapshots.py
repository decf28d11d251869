"""The flags a client holds: compiled, replaced as one thing, and counted where they are asked."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from .core.conditions import Resource
from .core.evaluate import CompiledFlag, compile_flag
from .core.model import Change, Flag, Gap, Snapshot, SnapshotVersion, evaluation_order
from .core.records import dataclass

SAMPLE = 64
"""Points of one flag that are looked at between two reports; where fewer are drawn, all are."""


class Tally:
    """A count that any thread raises by `tally.n += 1`.

    There is no call in that, so CPython with its lock does not lose any between threads.
    """

    __slots__ = ("n", "told")

    def __init__(self) -> None:
        self.n = 0
        self.told = 0


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

    exposed, rest: counted in the manner of Tally. With several exposed variants, each of them has
    a tally instead.
    sees: whether points are shown to `see`. The first of a tick are, whatever they led to, so the
    sample knows no side; and later it costs a look at this alone.
    """

    __slots__ = (
        "_points",
        "_tallies",
        "_told",
        "compiled",
        "exposed",
        "rest",
        "seed",
        "sees",
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
        self._told = (0, 0)
        self.sees = True
        self._points: list[int] = []
        several = len(compiled.exposed) > 1
        self._tallies = {str(e.variant): Tally() for e in compiled.exposed} if several else None

    @property
    def is_switch(self) -> bool:
        """Whether its answer is a boolean that one hash and one comparison decide."""
        return self.compiled.simple and self.compiled.flag.is_boolean

    def count(self, variant: str | None) -> None:
        """Count that this variant was given."""
        tally = None if self._tallies is None else self._tallies.get(str(variant))
        if tally is not None:
            tally.n += 1
        elif variant == self.compiled.rest.variant:
            self.rest += 1
        else:
            self.exposed += 1

    def see(self, point: int) -> None:
        """Take a point into the sample."""
        self._points.append(point)
        if len(self._points) >= SAMPLE:
            self.sees = False

    def points(self) -> list[int]:
        """Return the sample, and begin another."""
        points = self._points
        if points:
            self._points = []
            self.sees = True
        return points

    def rises(self) -> Iterator[tuple[str, int]]:
        """Yield the variants that were given since the last time, and how often."""
        now = (self.exposed, self.rest)
        if now != self._told:
            before, self._told = self._told, now
            answers = (self.compiled.exposed[0], self.compiled.rest)
            for answer, n, told in zip(answers, now, before, strict=True):
                yield str(answer.variant), n - told
        for variant, tally in (self._tallies or {}).items():
            n = tally.n
            yield variant, n - tally.told
            tally.told = n


@dataclass(frozen=True, slots=True)
class Held:
    """What a client holds; version is None before there is anything.

    switches: the flags whose answer is a boolean, one hash and one comparison.
    """

    version: SnapshotVersion | None
    environment: str
    flush_seconds: float
    histogram_edges: tuple[float, ...]
    all: Mapping[str, Served]
    switches: Mapping[str, Served]
    revoked_previews: tuple[str, ...] = ()

    def snapshot(self) -> Snapshot | None:
        """Return it in the form in which it travels, or None."""
        if self.version is None:
            return None
        flags = {key: served.compiled.flag for key, served in self.all.items()}
        return Snapshot(
            *(self.version, self.environment, self.flush_seconds, self.histogram_edges, flags),
            self.revoked_previews,
        )


class HeldFlags:
    """What a client knows. One thread calls `put`, `change`, `settle` and `assignments`; any may
    read `now`, and finds there all of a snapshot or change, or nothing of it."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._all: dict[str, Served] = {}
        self._switches: dict[str, Served] = {}
        self._standing: dict[str, set[str]] = {}
        """Flag -> whatever has it as a prerequisite, or had: `put` begins anew."""
        self._retired: deque[list[Served]] = deque([[], []], maxlen=2)
        self.now = Held(None, "", 5.0, (), self._all, self._switches)

    def put(self, snapshot: Snapshot) -> Iterable[str]:
        """Replace all flags. The caller has checked that this snapshot may. Return all keys."""
        return self._put(snapshot, anew=False)

    def settle(self, resource: Resource) -> Iterable[str]:
        """Compile all flags for another resource. Return all keys."""
        self._resource = resource
        snapshot = self.now.snapshot()
        return () if snapshot is None else self._put(snapshot, anew=True)

    def change(self, change: Change) -> Iterable[str]:
        """Make a change, at a cost in proportion to it and not to the set. Return the keys.

        Raises Gap, or InvalidSnapshot when the result would not be valid; nothing is changed then.
        """
        if self.now.version is None:
            raise Gap("nothing is held")
        version = change.leads(self.now.version)
        gone = {key for key in change.removed if key in self._all} - change.flags.keys()
        self._stand(change.flags.values())
        served = self._served(self._near(change.flags, gone))
        fresh = {key: each for key, each in served.items() if self._all.get(key) is not each}
        if len(fresh) + len(gone) > 1:
            self._all, self._switches = self._all.copy(), self._switches.copy()
        # Else in place: one entry is seen or not, and a fork before the version says so has what
        # it would be given again.
        for key in (*fresh, *gone):
            self._set(key, fresh.get(key))
        revoked = change.revoked_previews
        self._say(version, self.now, self.now.revoked_previews if revoked is None else revoked)
        return (*fresh, *gone)

    def assignments(self) -> Counter[tuple[str, str]]:
        """Return (flag, variant) -> evaluations since the last time."""
        risen: Counter[tuple[str, str]] = Counter()
        for served in chain(self._all.values(), *self._retired):
            for variant, n in served.rises():
                if n:
                    risen[served.compiled.flag.key, variant] += n
        self._retired.append([])
        return risen

    def points(self) -> dict[str, list[int]]:
        """Return a sample of the points that were drawn since the last time, by flag."""
        seen: dict[str, list[int]] = {}
        for served in chain(self._all.values(), *self._retired):
            points = served.points()
            if points:
                seen.setdefault(served.compiled.flag.key, []).extend(points)
        return seen

    def _put(self, snapshot: Snapshot, *, anew: bool) -> Iterable[str]:
        served = self._served(snapshot.flags, anew=anew)
        before = self._all
        self._standing = {}
        self._stand(snapshot.flags.values())
        self._all = served
        self._switches = {key: each for key, each in served.items() if each.is_switch}
        self._say(snapshot.version, snapshot, snapshot.revoked_previews)
        # Threads may still be asking the old ones: they are counted for two more reports.
        self._retired[-1].extend(old for key, old in before.items() if served.get(key) is not old)
        return {**before, **served}

    def _say(self, version: SnapshotVersion, of: Snapshot | Held, revoked: tuple[str, ...]) -> None:
        """Let readers have what was put together."""
        self.now = Held(
            version,
            *(of.environment, of.flush_seconds, of.histogram_edges),
            *(self._all, self._switches, revoked),
        )

    def _set(self, key: str, served: Served | None) -> None:
        old = self._all.get(key)
        if old is not None:
            self._retired[-1].append(old)
        if served is None or not served.is_switch:
            self._switches.pop(key, None)
        else:
            self._switches[key] = served
        if served is None:
            self._all.pop(key, None)
        else:
            self._all[key] = served

    def _stand(self, flags: Iterable[Flag]) -> None:
        for flag in flags:
            for prerequisite in flag.prerequisites:
                self._standing.setdefault(prerequisite.flag, set()).add(flag.key)

    def _near(self, changed: Mapping[str, Flag], gone: set[str]) -> dict[str, Flag]:
        """Return the changed flags, whatever stands on them or on those gone, and whatever all of
        these stand on: as they are after the change, and no more of the set than that."""
        reached = {*changed, *gone}
        waiting = list(reached)
        while waiting:
            more = self._standing.get(waiting.pop(), set()) - reached
            reached |= more
            waiting.extend(more)
        near: dict[str, Flag] = {}
        waiting = list(reached - gone)
        while waiting:
            key = waiting.pop()
            held = self._all.get(key)
            flag = changed.get(key) or (None if held is None else held.compiled.flag)
            if flag is not None and key not in near and key not in gone:
                near[key] = flag
                waiting.extend(prerequisite.flag for prerequisite in flag.prerequisites)
        return near

    def _served(self, flags: Mapping[str, Flag], *, anew: bool = False) -> dict[str, Served]:
        """Compile what changed, and what stands on it; the rest goes on as it is.

        Raises InvalidSnapshot.
        """
        before = self._all
        held: dict[str, Served] = {}
        compiled: dict[str, CompiledFlag] = {}
        for key in evaluation_order(flags):
            flag, old = flags[key], before.get(key)
            parents = (prerequisite.flag for prerequisite in flag.prerequisites)
            if (
                old is not None
                and not anew
                and (old.compiled.flag is flag or old.compiled.flag == flag)
                and all(held[parent] is before.get(parent) for parent in parents)
            ):
                held[key] = old
            else:
                held[key] = Served(compile_flag(flag, self._resource, compiled))
            compiled[key] = held[key].compiled
        return held
