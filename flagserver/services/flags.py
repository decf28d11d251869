"""Flags: looking at them, and every way to change them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sortition.core.bucketing import seed
from sortition.core.evaluate import Explanation, compile_flags, explain
from sortition.record.replay import STATES

from flagserver.domain import access, documents, doubts, flags
from flagserver.domain.approvals import Base, Consent, Wish
from flagserver.domain.commands import Enlarging, FlagEdit, NewFlag, Reasoned, StateEdit
from flagserver.domain.documents import Change, Document, Fact, Idempotency, Principal, Write
from flagserver.domain.environments import Environment
from flagserver.domain.errors import (
    AlreadyExists,
    ClaimTaken,
    Conflict,
    Locked,
    Moved,
    NotFound,
    StaleRevision,
)
from flagserver.domain.flags import Flag, State
from flagserver.domain.snapshots import build_flags
from flagserver.domain.times import rfc3339
from flagserver.ports import Clock, Documents, Entropy

from .catalogue import Catalogue, FlagView, StateView, state_view
from .four_eyes import FourEyes

SALT_OCTETS = 8
"""A flag's salt is 64 random bits."""

ATTEMPTS = 5
"""How often a decision is made anew when the environment moved under it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a change would do."""

    before: StateView
    after: State
    enlarges: bool


class Flags:
    """Use cases around flags. Every change is one commit with one entry in the record."""

    def __init__(
        self,
        store: Documents,
        clock: Clock,
        entropy: Entropy,
        told: Callable[[Fact], None] = lambda _: None,
    ) -> None:
        """told: of every change, once it is made; raises nothing."""
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._told = told
        self._catalogue = Catalogue(store)
        self._four_eyes = FourEyes(store, clock, entropy)

    # Looking

    def all(self, *, archived: bool = False, query: str = "") -> list[FlagView]:
        """Return the flags by key; `query` is looked for in key, description and owner."""
        wanted = query.casefold()
        return [
            view
            for view in self._catalogue.views()
            if (archived or not view.flag.archived) and (not wanted or wanted in _text(view.flag))
        ]

    def get(self, key: str) -> FlagView:
        """Return one flag, archived or not. Raises NotFound."""
        document = self._document(key)
        flag = Flag.from_body(document.body)
        environments = sorted(self._store.read_all(documents.ENVIRONMENTS))
        states = {
            name: state_view(flag, name, self._store.read(documents.states(name), key))
            for name in environments
        }
        return FlagView(flag, document.revision, states)

    def state(self, key: str, environment: str) -> StateView:
        """Return a flag's state in an environment. Raises NotFound."""
        self._environment(environment)
        flag = Flag.from_body(self._document(key).body)
        return state_view(flag, environment, self._store.read(documents.states(environment), key))

    def history(
        self,
        key: str,
        *,
        environment: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[Mapping[str, Any]]:
        """Return what the record says about a flag, newest first."""
        self._document(key)
        return self._store.history(
            target=_target(key), environment=environment, before=before, limit=limit
        )

    def explain(self, key: str, environment: str, request_id: str) -> Explanation:
        """Return how a request id is decided, conditions aside (they need a process). It is not
        kept."""
        self._environment(environment)
        content = self._store.read_environment(environment)
        compiled = compile_flags(build_flags(content), {})
        if key not in compiled:
            raise NotFound(f"There is no live flag {key!r}.")
        return explain(compiled[key], request_id)

    # Changing a flag itself

    def create(
        self, command: NewFlag, by: Principal, idempotency: Idempotency | None = None
    ) -> FlagView:
        """Create a flag that exposes nobody anywhere. Raises AlreadyExists."""
        access.check(by, access.DEFINE)
        for _ in range(ATTEMPTS):
            flag = flags.create(command, salt=self._entropy.hex(SALT_OCTETS), at=self._now())
            fact = _fact(by, "flag:create", command.key, None, flag.to_body(), command.reason)
            try:
                self._commit(
                    writes=(_flag_write(flag, expected=0),),
                    fact=fact,
                    environments=self._environments(),
                    flags=(command.key,),
                    claims={f"seed:{seed(flag.salt)}": command.key},
                    idempotency=idempotency,
                )
            except ClaimTaken:
                continue
            return self.get(command.key)
        raise Conflict("Every salt drawn has the seed of another flag. Try again.")

    def edit(
        self,
        key: str,
        command: FlagEdit,
        revision: int,
        by: Principal,
        idempotency: Idempotency | None = None,
    ) -> FlagView:
        """Change a flag's description, owner or kind. Raises StaleRevision."""
        access.check(by, access.DEFINE)
        before = Flag.from_body(self._document(key).body)
        after = flags.edit(before, command, at=self._now())
        self._commit(
            writes=(_flag_write(after, expected=revision),),
            fact=_fact(by, "flag:edit", key, before.to_body(), after.to_body(), command.reason),
            idempotency=idempotency,
        )
        return self.get(key)

    def archive(
        self,
        key: str,
        command: Reasoned,
        revision: int,
        by: Principal,
        idempotency: Idempotency | None = None,
    ) -> FlagView:
        """Take a flag out of every snapshot. Raises Conflict while another flag depends on it, or
        a rollout moves it."""
        return self._set_archived(key, True, command, revision, by, idempotency)

    def unarchive(
        self,
        key: str,
        command: Reasoned,
        revision: int,
        by: Principal,
        idempotency: Idempotency | None = None,
    ) -> FlagView:
        """Bring an archived flag back, exposing nobody: it is killed where it was exposed."""
        return self._set_archived(key, False, command, revision, by, idempotency)

    # Changing a flag in an environment

    def plan(self, key: str, environment: str, command: StateEdit) -> Plan:
        """Return what a change would do, without doing it. Raises Invalid, Locked."""
        flag, before = self._live(key, environment)
        after = flags.change(flag, before.state, command, at=self._now())
        flags.check_lock(before.state, after)
        flags.check_uniform(self._environment(environment), before.state, after)
        if after.prerequisites != before.state.prerequisites:
            self._check_prerequisites(flag, after, self._store.read_environment(environment))
        return Plan(before, after, flags.enlarges(before.state, after))

    def change(
        self,
        key: str,
        environment: str,
        command: StateEdit,
        revision: int,
        by: Principal,
        idempotency: Idempotency | None = None,
        consent: Consent | None = None,
    ) -> StateView:
        """Change share, weights, conditions or prerequisites. consent: a second person's, by whom
        it is carried out.

        Raises StaleRevision, Invalid, Locked, what `flags.check_may_enlarge` raises, and
        ApprovalRequired where a second person has to approve first.
        """
        access.check(by, access.CHANGE, environment)

        def decide(flag: Flag, before: State) -> State:
            return flags.change(flag, before, command, at=self._now())

        return self._change_state(
            *(key, environment, "flag:share:change", decide, command, revision, by, idempotency),
            consent=consent,
        )

    def kill(
        self,
        key: str,
        environment: str,
        command: Reasoned,
        by: Principal,
        revision: int | None = None,
        idempotency: Idempotency | None = None,
    ) -> StateView:
        """Serve the rest variant to everybody, keeping the share. Waits for nobody: without a
        revision it holds against whatever is there."""
        access.check(by, access.SHRINK, environment)

        def decide(flag: Flag, before: State) -> State:
            return replace(before, killed=True, changed=self._now())

        return self._change_state(
            key, environment, "flag:kill", decide, command, revision, by, idempotency
        )

    def unkill(
        self,
        key: str,
        environment: str,
        command: Enlarging,
        revision: int,
        by: Principal,
        idempotency: Idempotency | None = None,
        consent: Consent | None = None,
    ) -> StateView:
        """Take a kill back: the share that was kept is served again. Counts as enlarging."""
        access.check(by, access.CHANGE, environment)

        def decide(flag: Flag, before: State) -> State:
            return replace(before, killed=False, changed=self._now())

        return self._change_state(
            *(key, environment, "flag:unkill", decide, command, revision, by, idempotency),
            consent=consent,
        )

    # How

    def _change_state(
        self,
        key: str,
        environment: str,
        action: str,
        decide: Callable[[Flag, State], State],
        command: Enlarging | Reasoned,
        revision: int | None,
        by: Principal,
        idempotency: Idempotency | None,
        *,
        consent: Consent | None = None,
    ) -> StateView:
        where = self._environment(environment)
        for _ in range(ATTEMPTS):
            flag, before = self._live(key, environment)
            after = decide(flag, before.state)
            if flags.same(before.state, after) and revision in (None, before.revision):
                return before
            flags.check_lock(before.state, after)
            flags.check_uniform(where, before.state, after)
            grows = flags.enlarges(before.state, after)
            if grows and isinstance(command, Enlarging):
                self._check_may_enlarge(where, command, by)
            at_versions: dict[str, int] = {}
            if after.prerequisites != before.state.prerequisites:
                content = self._store.read_environment(environment)
                self._check_prerequisites(flag, after, content)
                at_versions = {environment: content.version}
            expected = before.revision if revision is None else revision
            if consent is not None or (grows and where.four_eyes):
                if consent is None and idempotency and self._store.repeats(idempotency):
                    return self.state(key, environment)
                if expected != before.revision:
                    raise self._stale(key, environment)
                asked = _asked(action, before, after, command)
                self._four_eyes.check(where, asked, by, idempotency, consent)
            fact = _state_fact(by, action, before.state, after, command.reason)
            approved = () if consent is None else (consent.write(fact.target),)
            write = Write(documents.states(environment), key, expected, after.to_body())
            try:
                self._commit(
                    writes=(write, *approved),
                    fact=fact if consent is None else consent.told(fact),
                    environments=(environment,),
                    flags=(key,),
                    at_versions=at_versions,
                    idempotency=idempotency,
                )
            except Moved:
                continue
            except (StaleRevision, AlreadyExists):
                # A first change finds that somebody else made one: as stale as any other.
                if revision is None:
                    continue
                raise self._stale(key, environment) from None
            return self.state(key, environment)
        raise Conflict(f"{environment} changes too quickly to decide about {key}. Try again.")

    def _check_may_enlarge(self, where: Environment, command: Enlarging, by: Principal) -> None:
        if where.critical:
            access.check(by, access.ENLARGE, where.key)
        flags.check_may_enlarge(where, command)
        doubts.check(self._store.read(doubts.COLLECTION, doubts.KEY))

    def _set_archived(
        self,
        key: str,
        archived: bool,
        command: Reasoned,
        revision: int,
        by: Principal,
        idempotency: Idempotency | None,
    ) -> FlagView:
        access.check(by, access.DEFINE)
        for _ in range(ATTEMPTS):
            before = Flag.from_body(self._document(key).body)
            after = replace(before, archived=archived, changed=self._now())
            contents = [self._store.read_environment(name) for name in self._environments()]
            if archived:
                for content in contents:
                    _check_nobody_depends_on(key, content)
                    _check_in_no_rollout(key, content)
            kills = [] if archived else [w for c in contents for w in self._kill_writes(key, c)]
            action = "flag:archive" if archived else "flag:unarchive"
            told = {**after.to_body(), **_told_of(kills, contents)}
            try:
                self._commit(
                    writes=(_flag_write(after, expected=revision), *kills),
                    fact=_fact(by, action, key, before.to_body(), told, command.reason),
                    environments=self._environments(),
                    flags=(key,),
                    at_versions=dict(
                        zip(self._environments(), (c.version for c in contents), strict=True)
                    ),
                    idempotency=idempotency,
                )
            except Moved:
                continue
            return self.get(key)
        raise Conflict(f"Flags change too quickly to decide about {key}. Try again.")

    def _kill_writes(self, key: str, content: documents.EnvironmentContent) -> list[Write]:
        document = content.states.get(key)
        if document is None:
            return []
        state = State.from_body(document.body)
        if state.serves_only_rest():
            return []
        killed = replace(state, killed=True, changed=self._now())
        return [Write(document.collection, key, document.revision, killed.to_body())]

    def _check_prerequisites(
        self, flag: Flag, after: State, content: documents.EnvironmentContent
    ) -> None:
        all_flags = dict(build_flags(content))
        all_flags[flag.key] = flags.compiled_form(flag, after, 0)
        known = {key: Flag.from_body(d.body) for key, d in content.flags.items()}
        flags.check_prerequisites(flag.key, after, known, all_flags)

    def _stale(self, key: str, environment: str) -> StaleRevision:
        now = self.state(key, environment).revision
        return StaleRevision(
            f"{key} in {environment} is at revision {now} now. Look at it again, then change it.",
            revision=now,
        )

    def _commit(self, **parts: Any) -> None:
        change = Change(**parts)
        done = self._store.commit(change, at=self._clock.now(), salt=self._entropy.hex(16))
        if not done.repeated:
            self._told(change.fact)

    def _now(self) -> str:
        return rfc3339(self._clock.now())

    def _document(self, key: str) -> Document:
        document = self._store.read(documents.FLAGS, key)
        if document is None:
            raise NotFound(f"There is no flag {key!r}.")
        return document

    def _live(self, key: str, environment: str) -> tuple[Flag, StateView]:
        self._environment(environment)
        flag = Flag.from_body(self._document(key).body)
        if flag.archived:
            raise Conflict(f"{key} is archived. Unarchive it before changing it.")
        document = self._store.read(documents.states(environment), key)
        return flag, state_view(flag, environment, document)

    def _environment(self, key: str) -> Environment:
        document = self._store.read(documents.ENVIRONMENTS, key)
        if document is None:
            known = ", ".join(self._environments())
            raise NotFound(f"There is no environment {key!r}; there are: {known}.")
        return Environment.from_body(document.body)

    def _environments(self) -> tuple[str, ...]:
        return tuple(sorted(self._store.read_all(documents.ENVIRONMENTS)))


def _told_of(kills: list[Write], contents: list[documents.EnvironmentContent]) -> dict[str, Any]:
    """Return what the entry says of states that are killed with the bringing back of a flag."""
    found = {documents.states(content.environment): content for content in contents}
    states = {
        found[write.collection].environment: {
            write.key: {
                "before": found[write.collection].states[write.key].body,
                "after": write.body,
            }
        }
        for write in kills
    }
    return {STATES: states} if states else {}


def _state_fact(
    by: Principal, action: str, before: State, after: State, reason: str | None
) -> Fact:
    return Fact(
        actor=by.id,
        role=by.role_in(after.environment),
        action=action,
        target=_target(after.flag),
        environment=after.environment,
        before=before.to_body(),
        after=after.to_body(),
        reason=reason,
    )


def _asked(action: str, before: StateView, after: State, command: Enlarging | Reasoned) -> Wish:
    """Return a change of what is served as a second person approves of it."""
    state = before.state
    return Wish(
        environment=state.environment,
        thing=_target(state.flag),
        action=action,
        base=(Base(documents.states(state.environment), state.flag, before.revision),),
        command=command.model_dump(mode="json", exclude_none=True),
        result={"before": _served(state), "after": _served(after)},
    )


def _served(state: State) -> dict[str, Any]:
    """Return a state without when it became so."""
    return {name: value for name, value in state.to_body().items() if name != "changed"}


def _text(flag: Flag) -> str:
    """Return what a search looks into."""
    return f"{flag.key} {flag.description} {flag.owner}".casefold()


def _check_nobody_depends_on(key: str, content: documents.EnvironmentContent) -> None:
    for other, flag in build_flags(content).items():
        if key in {prerequisite.flag for prerequisite in flag.prerequisites}:
            raise Conflict(f"{other} has {key} as a prerequisite. Remove that first.")


def _check_in_no_rollout(key: str, content: documents.EnvironmentContent) -> None:
    document = content.states.get(key)
    rollout = None if document is None else State.from_body(document.body).rollout
    if rollout is not None:
        raise Locked(
            f"{key} is in rollout {rollout} in {content.environment}. Roll that back, or wait for "
            "its end."
        )


def _flag_write(flag: Flag, *, expected: int) -> Write:
    return Write(documents.FLAGS, flag.key, expected, flag.to_body())


def _target(key: str) -> str:
    return f"flag/{key}"


def _fact(
    by: Principal,
    action: str,
    key: str,
    before: dict[str, Any] | None,
    after: dict[str, Any],
    reason: str | None,
) -> Fact:
    return Fact(by.id, by.role_in(None), action, _target(key), None, before, after, reason)
