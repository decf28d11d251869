"""`sync`: engines and flags as a rollout left them. Safe to repeat; says what it found and did."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from flagserver.domain import access, documents, syncing
from flagserver.domain.commands import Reasoned
from flagserver.domain.documents import Change, Fact, Principal
from flagserver.domain.errors import Refusal
from flagserver.domain.flags import State as FlagState
from flagserver.domain.rollout import Rollout
from flagserver.domain.schedule import percent_text
from flagserver.domain.syncing import Does, Finding
from flagserver.domain.targets import Reading, Target
from flagserver.domain.times import moment
from flagserver.ports import Clock, Documents, Entropy, TargetDriver

from .turns import RolloutView, Turns, check_revision

log = logging.getLogger(__name__)

CALL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Synced:
    """What came of it. findings: of each target, empty while the rollout is not over."""

    view: RolloutView
    findings: tuple[Finding, ...]

    @property
    def is_in_line(self) -> bool:
        """Tell whether everything is as the rollout left it."""
        return all(finding.is_in_line for finding in self.findings)


class Syncing:
    """Looks after what a rollout left."""

    def __init__(
        self,
        store: Documents,
        drivers: Mapping[str, TargetDriver],
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._store = store
        self._drivers = drivers
        self._clock = clock
        self._entropy = entropy
        self._turns = Turns(store, clock, entropy)

    def sync(
        self,
        id: str,
        command: Reasoned,
        by: Principal,
        revision: int | None = None,
        *,
        dry: bool = False,
    ) -> Synced:
        """Bring what a rollout moved to where it left it, as far as that exposes less. Raises
        NotFound, Forbidden, StaleRevision, StoreUnavailable.

        One that is still on its way is the controller's: nothing is done about it here.
        dry: only say what is found.
        """
        view = self._turns.get(id)
        rollout = view.rollout
        access.check(by, access.SHRINK, rollout.environment)
        check_revision(view, revision)
        if not syncing.is_over(rollout):
            return Synced(view, ())
        newer = self._newer(rollout)
        found = [self._look(rollout, target, newer) for target in rollout.targets]
        if dry:
            return Synced(view, tuple(found))
        done = tuple(self._do(finding) for finding in found)
        lowered = [finding for finding, was in zip(done, found, strict=True) if finding != was]
        if lowered:
            self._record(rollout, lowered, command.reason, by)
        return Synced(view, done)

    def _look(self, rollout: Rollout, target: Target, newer: Mapping[str, str]) -> Finding:
        if target.is_flag:
            return syncing.flag(rollout, target, self._flag(rollout, target))
        return syncing.traffic(rollout, target, self._read(target), newer, self._now())

    def _flag(self, rollout: Rollout, target: Target) -> FlagState | None:
        document = self._store.read(documents.states(rollout.environment), target.name)
        return None if document is None else FlagState.from_body(document.body)

    def _read(self, target: Target) -> Reading | None:
        driver = self._drivers.get(target.kind)
        try:
            return None if driver is None else driver.read(target)
        except Refusal as error:
            log.warning("%s cannot be read: %s", target.id, error.detail)
            return None

    def _do(self, finding: Finding) -> Finding:
        """Return what is so after what was to be done is done."""
        if finding.does is not Does.LOWER:
            return finding
        target = finding.target
        deadline = self._clock.monotonic() + CALL_SECONDS
        try:
            got = self._drivers[target.kind].roll_back(target, deadline)
        except Refusal as error:
            return replace(finding, does=Does.LEAVE, reason=f"{finding.reason} {error.detail}")
        if got.share != 0:
            said = "It does not show what was set yet."
            return replace(finding, does=Does.LEAVE, reason=f"{finding.reason} {said}")
        said = f"{finding.reason} The canary was taken out again."
        return replace(finding, does=Does.NOTHING, found=0, reason=said)

    def _newer(self, rollout: Rollout) -> dict[str, str]:
        """Return which rollout moves a target since: target id -> its name."""
        mine = {target.id for target in rollout.traffic}
        later = [
            it.id
            for it in self._turns.headers()
            if it.created > rollout.created and it.targets & mine
        ]
        return {
            target.id: other.name
            for view in (*self._turns.read_ended(later).values(), *self._turns.live().values())
            if (other := view.rollout).created > rollout.created
            for target in other.traffic
            if target.id in mine
        }

    def _record(
        self, rollout: Rollout, lowered: list[Finding], why: str | None, by: Principal
    ) -> None:
        found = (f"{finding.target.id}: {finding.reason}" for finding in lowered)
        said = " ".join([*([f"{why}:"] if why else []), *found])
        fact = Fact(
            actor=by.id,
            role=by.role_in(rollout.environment),
            action="rollout:sync",
            target=rollout.name,
            environment=rollout.environment,
            after={finding.target.id: percent_text(0) for finding in lowered},
            reason=said,
        )
        change = Change(writes=(), fact=fact)
        self._store.commit(change, at=self._clock.now(), salt=self._entropy.hex(16))

    def _now(self) -> float:
        return moment(self._clock.now())
