"""Fakes that stand where drivers stand; each runs the same contract suite as the real one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flagserver.domain.errors import Conflict, Invalid, Refusal, TargetOwned, TargetUnavailable
from flagserver.domain.signals import Ask, Measured, Signal
from flagserver.domain.targets import Reading, Target


@dataclass
class FakeWeight:
    """How one target stands."""

    share: int = 0
    owner: str | None = None
    healthy: bool = True
    foreign: str | None = None
    alone: bool = True
    """Whether only the stable side is named at all, as after a rollback."""


@dataclass
class FakeTargetDriver:
    """`ports.TargetDriver` in memory.

    weights: by the target's name; one that is not there does not exist.
    faults: what the next writes meet, one each: `unavailable` (not done), `applied` (done, but said
    to be unavailable), `lost` (answered, not done), `late` (answered with the old reading, done).
    down: whether nothing answers at all.  calls: what was asked for, ("set", name, share) and such.
    step: expresses shares in steps of so many parts per million, downwards.
    """

    kind: str = "alb"
    monotonic: Callable[[], float] = lambda: 0.0
    weights: dict[str, FakeWeight] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    down: bool = False
    step: int = 1_000
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def check(self, target: Target) -> None:
        self._ask("check", target)
        weight = self.weights.get(target.name)
        if weight is None:
            raise Invalid(f"{target.name} does not exist.", field="/name")
        if weight.foreign is not None:
            raise Invalid(weight.foreign, field="/name")
        if weight.owner is not None:
            raise TargetOwned(f"{weight.owner} owns {target.name}.", field="/name")
        if not weight.healthy:
            raise Conflict("The canary has no healthy target.", field="/settings/canary")
        if weight.share:
            raise Conflict("The canary serves already.", field="/settings/canary")

    def nearest(self, target: Target, share: int) -> int:
        return share - share % self.step

    def read(self, target: Target) -> Reading:
        self._ask("read", target)
        return self._reading(target)

    def read_all(self, targets: Collection[Target]) -> Mapping[Target, Reading | Refusal]:
        self.calls.append(("read_all", *(target.name for target in targets)))
        down = TargetUnavailable("The fake is down.")
        return {target: down if self.down else self._reading(target) for target in targets}

    def set(self, target: Target, share: int, before: Reading, deadline: float) -> Reading:
        self._ask("set", target, share)
        found, wanted = self._reading(target), self.nearest(target, share)
        if found.owner or found.foreign:
            raise TargetOwned(found.owner or found.foreign or "")
        if found.share == wanted:
            return found
        if found.share != before.share:
            raise TargetOwned(f"{target.name} was changed since we looked.")
        if not found.share and not found.healthy:
            raise TargetUnavailable("The canary has no healthy target.")
        return self._write(target, deadline, share=wanted, alone=wanted == 0)

    def roll_back(self, target: Target, deadline: float) -> Reading:
        self._ask("roll_back", target)
        weight = self._weight(target)
        if weight.owner is not None:
            raise TargetOwned(f"{weight.owner} owns {target.name}.")
        if weight.alone and not weight.share and weight.foreign is None:
            return self._reading(target)
        return self._write(target, deadline, share=0, alone=True, foreign=None)

    def commands_by_hand(self, target: Target) -> list[str]:
        return [f"fake roll-back {target.name}"]

    # --- for tests ---

    def add(self, target: Target, **told: Any) -> FakeWeight:
        """Let a target exist, and return how it stands, to be changed at will."""
        self.weights[target.name] = FakeWeight(**told)
        return self.weights[target.name]

    def _ask(self, verb: str, target: Target, *more: Any) -> None:
        self.calls.append((verb, target.name, *more))
        if self.down:
            raise TargetUnavailable("The fake is down.")

    def _weight(self, target: Target) -> FakeWeight:
        return self.weights.get(target.name, FakeWeight(foreign="It does not exist any more."))

    def _reading(self, target: Target) -> Reading:
        weight = self._weight(target)
        share = None if weight.foreign is not None else weight.share
        return Reading(share, weight.owner, weight.healthy, weight.foreign)

    def _write(self, target: Target, deadline: float, **changes: Any) -> Reading:
        if self.monotonic() >= deadline:
            raise TargetUnavailable("There was no time left to write; nothing was written.")
        fault = self.faults.pop(0) if self.faults else None
        before = self._reading(target)
        if fault == "unavailable":
            raise TargetUnavailable("The fake did not answer.")
        if fault != "lost":
            self.weights[target.name] = replace(self._weight(target), **changes)
        if fault == "applied":
            raise TargetUnavailable("The fake's answer was lost.")
        return before if fault == "late" else self._reading(target)


@dataclass
class FakeSignalSource:
    """`ports.SignalSource` in memory: answers what a test put there.

    answers: by signal; a signal that is not there has an error.  unusable: signals that `check`
    refuses, with the setting at fault.  down: whether nothing answers at all.
    """

    name: str = "cloudwatch"
    answers: dict[Signal, Measured] = field(default_factory=dict)
    unusable: dict[Signal, str] = field(default_factory=dict)
    asked: list[Ask] = field(default_factory=list)
    down: bool = False

    def check(self, signal: Signal) -> None:
        if signal in self.unusable:
            raise Invalid("It cannot be measured.", field=f"/settings/{self.unusable[signal]}")

    def measure(self, asks: Sequence[Ask], now: float) -> Mapping[Ask, Measured]:
        self.asked += asks
        return {ask: self._answer(ask, now) for ask in asks}

    def _answer(self, ask: Ask, now: float) -> Measured:
        if self.down:
            return Measured(error="The fake is down.")
        found = self.answers.get(ask.signal, Measured(error="The fake knows nothing of it."))
        oldest = now - ask.window_seconds
        return replace(
            found,
            canary=tuple(point for point in found.canary if oldest < point.at <= now),
            control=tuple(point for point in found.control if oldest < point.at <= now),
        )
