"""Environments: looking at them, making and changing them."""

from __future__ import annotations

from dataclasses import dataclass

from flagserver.domain import access, documents, environments
from flagserver.domain.commands import EnvironmentEdit, NewEnvironment
from flagserver.domain.documents import Change, Document, Fact, Idempotency, Principal, Write
from flagserver.domain.environments import FIRST_ENVIRONMENTS, Environment
from flagserver.domain.errors import AlreadyExists, Invalid, NotFound, under
from flagserver.domain.notices import Notice
from flagserver.domain.schedule import parse
from flagserver.domain.times import rfc3339
from flagserver.ports import Clock, Documents, Entropy

from .schedules import named_in


@dataclass(frozen=True, slots=True)
class EnvironmentView:
    """An environment at a revision."""

    environment: Environment
    revision: int


class Environments:
    """Use cases around environments."""

    def __init__(self, store: Documents, clock: Clock, entropy: Entropy) -> None:
        self._store = store
        self._clock = clock
        self._entropy = entropy

    def all(self) -> list[EnvironmentView]:
        """Return every environment: uncritical ones first, then by key."""
        found = map(_view, self._store.read_all(documents.ENVIRONMENTS).values())
        return sorted(found, key=lambda v: (v.environment.critical, v.environment.key))

    def get(self, key: str) -> EnvironmentView:
        """Return one environment. Raises NotFound."""
        document = self._store.read(documents.ENVIRONMENTS, key)
        if document is None:
            raise NotFound(f"There is no environment {key!r}.")
        return _view(document)

    def create(
        self, command: NewEnvironment, by: Principal, idempotency: Idempotency | None = None
    ) -> EnvironmentView:
        """Make an environment in which every flag exposes nobody. Raises AlreadyExists."""
        access.check(by, access.MANAGE)
        environment = environments.create(command, at=rfc3339(self._clock.now()))
        self._commit(
            environment,
            Fact(
                actor=by.id,
                role=by.role_in(None),
                action="environment:create",
                target=f"environment/{command.key}",
                environment=command.key,
                after=environment.to_body(),
                reason=command.reason,
            ),
            expected=0,
            idempotency=idempotency,
        )
        return self.get(command.key)

    def edit(
        self,
        key: str,
        command: EnvironmentEdit,
        revision: int,
        by: Principal,
        idempotency: Idempotency | None = None,
    ) -> EnvironmentView:
        """Change what is said of an environment, and what enlarging takes there. People are told
        where it waits for a second person no more.

        Raises StaleRevision, and Invalid for a schedule that is not there.
        """
        access.check(by, access.MANAGE)
        before = self.get(key).environment
        if command.default_schedule is not None:
            with under("/default_schedule"):
                parse(command.default_schedule, named_in(self._store, key))
        after = environments.edit(before, command, at=rfc3339(self._clock.now()))
        loosened = before.four_eyes and not after.four_eyes
        self._commit(
            after,
            Fact(
                actor=by.id,
                role=by.role_in(None),
                action=environments.LOOSEN if loosened else environments.EDIT,
                target=f"environment/{key}",
                environment=key,
                before=before.to_body(),
                after=after.to_body(),
                reason=command.reason,
            ),
            expected=revision,
            idempotency=idempotency,
            notices=(environments.loosened(after, command.reason),) if loosened else (),
        )
        return self.get(key)

    def create_first(self, by: Principal) -> None:
        """Make what a new installation begins with, unless there is any environment."""
        if self._store.read_all(documents.ENVIRONMENTS):
            return
        for command in FIRST_ENVIRONMENTS:
            try:
                self.create(command, by)
            except AlreadyExists:
                continue

    def _commit(
        self,
        environment: Environment,
        fact: Fact,
        *,
        expected: int,
        idempotency: Idempotency | None,
        notices: tuple[Notice, ...] = (),
    ) -> None:
        body = environment.to_body()
        write = Write(documents.ENVIRONMENTS, environment.key, expected, body)
        change = Change(writes=(write,), fact=fact, notices=notices, idempotency=idempotency)
        self._store.commit(change, at=self._clock.now(), salt=self._entropy.hex(16))


def known_environment(store: Documents, key: str, field: str = "/environment") -> Environment:
    """Return the environment that a field of a request names. Raises Invalid, which lists them."""
    document = store.read(documents.ENVIRONMENTS, key)
    if document is None:
        known = ", ".join(sorted(store.read_all(documents.ENVIRONMENTS)))
        raise Invalid(f"There is no environment {key!r}; there are: {known}.", field=field)
    return Environment.from_body(document.body)


def _view(document: Document) -> EnvironmentView:
    return EnvironmentView(Environment.from_body(document.body), document.revision)
