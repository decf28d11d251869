"""A fake that stands where a driver stands whose engine owns the weights; it runs the contract of
`ports.Follower` as the real one does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from flagserver.domain.engines import Event, Lane, Phase
from flagserver.domain.errors import Conflict, Invalid, Refusal, TargetOwned, TargetUnavailable
from flagserver.domain.schedule import percent_text
from flagserver.domain.targets import Mode, Reading, Target

OVER = frozenset({Phase.DONE, Phase.GONE_BACK, Phase.BROKEN})


@dataclass
class FakeDeployment:
    """One deployment of the engine, to be changed at will. back_in: how many calls a way back takes
    from the one that begins it."""

    id: str
    steps: str = "10%:5m,100%"
    share: int = 0
    phase: Phase = Phase.PREPARING
    reason: str | None = None
    back: str | None = None
    back_in: int = 2

    @property
    def lane(self) -> Lane:
        """What the engine says of it."""
        event = Event(self.id, "Shift", str(self.phase))
        status = "going" if self.back else None
        return Lane(
            *("Fake", self.id, str(self.phase), self.phase, self.reason, self.back, status),
            events=(event,),
        )


@dataclass
class FakeFollower:
    """`ports.Follower` in memory.

    groups: by name, with the deployment that runs there, or the last one.  faults: what the next
    writes meet: `unavailable` (not done), `applied` (done, and said to be unavailable).
    down: whether nothing answers at all.  calls: what was asked for.
    """

    kind: str = "codedeploy"
    monotonic: Callable[[], float] = lambda: 0.0
    groups: dict[str, FakeDeployment] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    down: bool = False
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def settle(self, target: Target) -> Target:
        self._ask("settle", target)
        for name, it in self.groups.items():
            if target.name == it.id or (target.name == name and it.phase not in OVER):
                told = {"deployment": it.id, "steps": it.steps}
                return Target.of(self.kind, name, Mode.FOLLOW, **told)
        if target.name in self.groups:
            raise Conflict(f"Nothing runs in {target.name}.", field="/name")
        raise Invalid(f"There is no {target.name}.", field="/name")

    def check(self, target: Target) -> None:
        self._ask("check", target)
        if self._of(target).phase in OVER:
            raise Conflict(f"{target.get('deployment')} is over.", field="/name")

    def nearest(self, target: Target, share: int) -> int:
        return share

    def read(self, target: Target) -> Reading:
        self._ask("read", target)
        return self._reading(target)

    def read_all(self, targets: Collection[Target]) -> Mapping[Target, Reading | Refusal]:
        self.calls.append(("read_all", *(target.name for target in targets)))
        down = TargetUnavailable("The fake is down.")
        return {target: down if self.down else self._reading(target) for target in targets}

    def set(self, target: Target, share: int, before: Reading, deadline: float) -> Reading:
        self._ask("set", target, share)
        raise TargetOwned(f"The fake sets the weights of {target.name}.")

    def go_on(self, target: Target, deadline: float) -> None:
        self._ask("go_on", target)
        it = self._of(target)
        waits = {Phase.READY: Phase.SHIFTING, Phase.WATCHING: Phase.DONE}
        if it.phase in waits:
            self._write(deadline, lambda: setattr(it, "phase", waits[it.phase]))

    def roll_back(self, target: Target, deadline: float) -> Reading:
        self._ask("roll_back", target)
        it = self._of(target)
        if it.back is not None:
            it.back_in -= 1
        elif it.phase is not Phase.GONE_BACK:
            self._write(deadline, lambda: self._go_back(it))
        if it.back is not None and it.back_in <= 0:
            it.phase, it.share = Phase.GONE_BACK, 0
        if it.phase is not Phase.GONE_BACK:
            raise TargetUnavailable(f"{it.lane.words}. {percent_text(it.share)} is left.")
        return self._reading(target)

    def commands_by_hand(self, target: Target) -> list[str]:
        return [f"fake roll-back {target.get('deployment')}"]

    # --- how ---

    def _go_back(self, it: FakeDeployment) -> None:
        it.phase, it.back = Phase.GOING_BACK, f"{it.id}-back"

    def _ask(self, verb: str, target: Target, *more: Any) -> None:
        self.calls.append((verb, target.name, *more))
        if self.down:
            raise TargetUnavailable("The fake is down.")

    def _of(self, target: Target) -> FakeDeployment:
        return self.groups.get(target.name, FakeDeployment("gone", phase=Phase.BROKEN))

    def _reading(self, target: Target) -> Reading:
        it = self._of(target)
        if it.id != target.get("deployment"):
            return Reading(None, foreign=f"{target.get('deployment')} does not exist any more.")
        return Reading(it.share, lane=it.lane)

    def _write(self, deadline: float, act: Callable[[], None]) -> None:
        if self.monotonic() >= deadline:
            raise TargetUnavailable("There was no time left to write; nothing was written.")
        fault = self.faults.pop(0) if self.faults else None
        if fault != "unavailable":
            act()
        if fault is not None:
            raise TargetUnavailable("The fake did not answer.")
