"""Gates: what a deployment engine is told when it asks before it goes on.

A question is judged when it is asked. What is final at once, whoever asked reports; what has to
wait is kept, judged again at every look, and reported by us. A final answer that the engine does
not have after a while (whoever asked has died) is reported by us too: to answer twice does no harm,
and not to answer costs an hour.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from flagserver.domain import access, documents, guards, hooks
from flagserver.domain.approvals import Base, Proposal, State
from flagserver.domain.documents import Change, Document, Fact, Principal, Write
from flagserver.domain.errors import (
    AlreadyExists,
    Conflict,
    NotFound,
    Refusal,
    StaleRevision,
)
from flagserver.domain.guards import Guard, Verdict
from flagserver.domain.hook_commands import CodeDeployHook
from flagserver.domain.hooks import Answer, Asking, Hook, Says
from flagserver.domain.rollout import Rollout
from flagserver.domain.signals import Ask, Measured
from flagserver.domain.times import moment
from flagserver.domain.verbs import CONTROLLER
from flagserver.ports import Clock, Documents, Entropy, Gates, Leases, SignalSource

from .background import Alone, Background
from .turns import RolloutView, Turns

log = logging.getLogger(__name__)

ATTEMPTS = 5

REPORT_SECONDS = 30.0
"""Whoever asked has so long to report what it was told; then we do."""

LEASE = "hooks"
LEASE_SECONDS = 30.0
LOOK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Kept:
    """A question as it is kept, and what it was told just now."""

    hook: Hook
    answer: Answer


class Hooks:
    """Answers hooks, and reports what could not be answered at once."""

    def __init__(
        self,
        store: Documents,
        gates: Gates,
        sources: Mapping[str, SignalSource],
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._store = store
        self._gates = gates
        self._sources = sources
        self._clock = clock
        self._entropy = entropy
        self._turns = Turns(store, clock, entropy)
        self.answers: Counter[tuple[str, str]] = Counter()
        """(hook, what it was told) -> how often, of this process."""

    # Asked

    def ask(self, command: CodeDeployHook, by: Principal) -> Kept:
        """Answer a hook. The same question again gets the same answer once that is final.

        Raises NotFound for a deployment that is not there, Conflict when none of its hooks waits,
        TargetUnavailable when CodeDeploy does not say.
        """
        access.check(by, access.CHANGE)
        key = key_of(command.execution)
        for _ in range(ATTEMPTS):
            known = self._store.read(hooks.HOOKS, key)
            if known is not None:
                hook = Hook.from_body(known.body)
                access.check(by, access.CHANGE, hook.environment)
                if hook.final:
                    return Kept(hook, Answer(hook.says, hook.reason))
            try:
                return self._answer(command, known, by)
            except (StaleRevision, AlreadyExists):
                continue
        raise Conflict("Somebody else answers this hook at the same time. Ask again.")

    def _answer(self, command: CodeDeployHook, known: Document | None, by: Principal) -> Kept:
        asking = self._gates.asking(command.deployment)
        if asking.hook is None:
            ended = "" if asking.over is None else f" It has ended: {asking.over}."
            raise Conflict(f"No hook of {command.deployment} waits for an answer.{ended}")
        now = self._now()
        if known is None:
            hook = Hook(
                command.execution,
                command.deployment,
                asking.application,
                asking.group,
                asking.hook,
                now,
                by.environment,
            )
        else:
            hook = Hook.from_body(known.body)
        return self._judge(hook, asking, known, by)

    # Kept

    def waiting(self) -> list[Hook]:
        """Return the questions whose engine has no answer yet, the oldest first."""
        found = self._store.read_all(hooks.HOOKS).values()
        return sorted((Hook.from_body(d.body) for d in found), key=lambda hook: hook.asked)

    def tick(self) -> None:
        """Judge what waits, and report what is final and was not taken yet. Raises
        StoreUnavailable."""
        for document in self._store.read_all(hooks.HOOKS).values():
            try:
                self._look(document)
            except (StaleRevision, AlreadyExists):
                continue
            except Refusal as error:
                log.warning("a hook could not be answered: %s", error.detail)

    def _look(self, document: Document) -> None:
        hook, now = Hook.from_body(document.body), self._now()
        if not hook.final:
            asking = self._asking(hook)
            if asking is None or asking.over is not None:
                over = "it is not there" if asking is None else asking.over or ""
                self._commit(hook, document, hooks.dropped(hook, over, CONTROLLER), gone=True)
                return
            asking = replace(asking, hook=hook.hook)
            hook = self._judge(hook, asking, document, CONTROLLER).hook
            if not hook.final:
                return
            document = replace(document, revision=document.revision + 1, body=hook.to_body())
        elif now - (hook.answered or 0.0) < REPORT_SECONDS:
            return
        self._report(hook, document)

    def _asking(self, hook: Hook) -> Asking | None:
        try:
            return self._gates.asking(hook.deployment)
        except NotFound:
            return None

    def _report(self, hook: Hook, document: Document) -> None:
        taken = self._gates.answer(hook.deployment, hook.execution, passed=hook.says is Says.ALLOW)
        log.info("%s of %s was told: %s", hook.hook, hook.deployment, hook.says)
        self._commit(hook, document, hooks.reported(hook, taken, CONTROLLER), gone=True)

    # Judged

    def _judge(self, hook: Hook, asking: Asking, known: Document | None, by: Principal) -> Kept:
        """Return what a hook is told now; what is new about it is committed."""
        rollout = self._following(asking, hook.environment)
        verdicts: Sequence[Verdict] = ()
        if rollout is not None and asking.going_back is None:
            verdicts = self._measure(rollout, hooks.watched(rollout, hook.hook), asking)
        now = self._now()
        proposal = self._proposed(asking, hook.environment) if rollout is None else None
        told = hooks.answer(rollout, asking, verdicts, hook.asked, now, proposal)
        final = told.says is not Says.WAIT
        after = replace(
            hook,
            rollout=hook.rollout if rollout is None else rollout.id,
            environment=hook.environment if rollout is None else rollout.environment,
            says=told.says,
            reason=told.reason,
            answered=now if final else None,
        )
        if known is None or final or (after.rollout, after.reason) != (hook.rollout, hook.reason):
            self._commit(after, known, hooks.fact(after, told, by))
        if known is None or final:
            self.answers[hook.hook, str(told.says)] += 1
        return Kept(after, told)

    def _following(self, asking: Asking, environment: str | None) -> Rollout | None:
        """Return the newest rollout that follows a deployment, one that lives first."""
        found = _newest(self._turns.live().values(), asking, environment)
        if found is not None:
            return found
        since = [it.id for it in self._turns.headers() if it.ended >= asking.began]
        return _newest(self._turns.read_ended(since).values(), asking, environment)

    def _proposed(self, asking: Asking, environment: str | None) -> str | None:
        """Return the id of a start that a second person can still approve of, and that would follow
        a deployment."""
        for document in self._store.read_all(documents.APPROVALS).values():
            proposal = Proposal.from_body(document.body)
            if (
                proposal.state(self._clock.now()) is State.OPEN
                and environment in (None, proposal.asked.environment)
                and hooks.would_follow(proposal.asked, asking)
                and all(map(self._holds, proposal.asked.base))
            ):
                return proposal.id
        return None

    def _holds(self, base: Base) -> bool:
        document = self._store.read(base.collection, base.key)
        return base.revision == (0 if document is None else document.revision)

    def _measure(self, rollout: Rollout, some: Sequence[Guard], asking: Asking) -> list[Verdict]:
        """Return how guards stand, each source asked once. Points of before the deployment tell of
        another version in the same target group."""
        now = self._now()
        asks = {
            guard.name: guard.ask(rollout.environment, rollout.service, rollout.version)
            for guard in some
        }
        measured: dict[Ask, Measured] = {}
        for name, source in self._sources.items():
            of_it = [ask for ask in asks.values() if ask.signal.source == name]
            if of_it:
                measured |= source.measure(list(dict.fromkeys(of_it)), now)
        nothing = Measured(error="the source did not answer")
        return [
            guards.judge(guard, measured.get(asks[guard.name], nothing), now, since=asking.began)
            for guard in some
        ]

    def _commit(
        self, hook: Hook, known: Document | None, fact: Fact, *, gone: bool = False
    ) -> None:
        expected = 0 if known is None else known.revision
        body = None if gone else hook.to_body()
        write = Write(hooks.HOOKS, key_of(hook.execution), expected, body)
        change = Change(writes=(write,), fact=fact)
        self._store.commit(change, at=self._clock.now(), salt=self._entropy.hex(16))

    def _now(self) -> float:
        return moment(self._clock.now())


class Gatekeeper(Background):
    """Looks after the questions that wait, one process at a time, in a thread of its own: an engine
    that does not answer holds up no rollout."""

    def __init__(self, some: Hooks, leases: Leases, holder: str) -> None:
        super().__init__("sortition-hooks", "hooks wait", every=LOOK_SECONDS)
        self._hooks = some
        self._alone = Alone(leases, LEASE, holder, LEASE_SECONDS)

    def look(self) -> None:
        """Look once, if nobody else does. Raises StoreUnavailable."""
        if self._alone.take() is not None:
            self._hooks.tick()

    def leave(self) -> None:
        """Let another one look."""
        self._alone.give_up()


def key_of(execution: str) -> str:
    """Return the key under which a question is kept; an execution id is long."""
    return hashlib.sha256(execution.encode()).hexdigest()[:32]


def _newest(
    views: Iterable[RolloutView], asking: Asking, environment: str | None
) -> Rollout | None:
    found = [
        view.rollout
        for view in views
        if hooks.follows(view.rollout, asking)
        and environment in (None, view.rollout.environment)
        and (view.rollout.ended is None or view.rollout.ended >= asking.began)
    ]
    return max(found, key=lambda rollout: rollout.created, default=None)
