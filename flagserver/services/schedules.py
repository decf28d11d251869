"""Schedules: what rollouts go by, and the templates that each environment has of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flagserver.domain import access, documents, templates
from flagserver.domain.commands import Reasoned
from flagserver.domain.documents import Change, Committed, Document, Idempotency, Principal
from flagserver.domain.environments import Environment
from flagserver.domain.errors import Conflict, Invalid, NotFound, RevisionRequired, StaleRevision
from flagserver.domain.schedule import Schedule, parse
from flagserver.domain.schedule_commands import TemplateBody
from flagserver.domain.templates import Edit, Template
from flagserver.domain.times import rfc3339
from flagserver.ports import Clock, Documents, Entropy


@dataclass(frozen=True, slots=True)
class TemplateView:
    """A named schedule at a revision; 0: it is built in."""

    template: Template
    revision: int


class Schedules:
    """Use cases around schedule templates."""

    def __init__(self, store: Documents, clock: Clock, entropy: Entropy) -> None:
        self._store = store
        self._clock = clock
        self._entropy = entropy

    # Looking

    def all(self, environments: Iterable[str]) -> list[TemplateView]:
        """Return what can be named: what is built in, then these environments' templates."""
        return [
            *(TemplateView(each, 0) for each in templates.built_in()),
            *(view for environment in environments for view in self._of(environment)),
        ]

    def get(self, environment: str, name: str) -> TemplateView:
        """Return what a name means in an environment. Raises NotFound."""
        self._environment(environment)
        found = self._find(environment, name)
        if found is not None:
            return found
        try:
            schedule = parse(name)
        except Invalid:
            words = f"There is no schedule {name!r} in {environment}."
            raise NotFound(words) from None
        known = {each.name: each for each in templates.built_in()}
        return TemplateView(known.get(name, Template(None, schedule, "As its name says.")), 0)

    def read(self, environment: Environment, text: str | None) -> Schedule:
        """Return the schedule that a text means in an environment; without one, its default.

        Raises Invalid.
        """
        named = named_in(self._store, environment.key)
        if text is not None:
            return parse(text, named)
        try:
            return parse(environment.default_schedule, named)
        except Invalid as error:
            raise Invalid(
                f"The default of {environment.key} cannot be used: {error.detail} Name a schedule, "
                "or give the environment another default."
            ) from None

    # Changing

    def plan(self, environment: str, name: str, command: TemplateBody) -> Edit:
        """Return what `put` would do. Raises what it raises, but for revisions."""
        self._environment(environment)
        found = self._find(environment, name)
        return self._put(found, command, environment, name)

    def put(
        self,
        environment: str,
        name: str,
        command: TemplateBody,
        revision: int | None,
        by: Principal,
        idempotency: Idempotency | None = None,
    ) -> TemplateView:
        """Keep a schedule under a name. revision: None makes a new one.

        Raises NotFound for the environment, Invalid, Conflict, RevisionRequired where there is one
        by this name already, and StaleRevision.
        """
        access.check(by, access.MANAGE, environment)
        self._environment(environment)
        if self._repeats(idempotency):
            return self.get(environment, name)
        found = self._find(environment, name)
        edit = self._put(found, command, environment, name)
        expected = _expected(found, revision)
        if not expected:
            self._check_room(environment)
        done = self._commit(edit, expected, by, command.reason, idempotency)
        return self.get(environment, name) if done.repeated else _made(edit, expected + 1)

    def delete(
        self,
        environment: str,
        name: str,
        command: Reasoned,
        revision: int,
        by: Principal,
        idempotency: Idempotency | None = None,
    ) -> None:
        """Take a template away; rollouts that go by it keep their steps.

        Raises NotFound, StaleRevision, and Conflict for an environment's default and what is built
        in.
        """
        access.check(by, access.MANAGE, environment)
        if self._repeats(idempotency):
            return
        found = self.get(environment, name)
        edit = templates.delete(found.template, self._environment(environment).default_schedule)
        if found.revision != revision:
            words = f"{name} is at revision {found.revision} now."
            raise StaleRevision(words, revision=found.revision)
        self._commit(edit, revision, by, command.reason, idempotency)

    # How

    def _put(
        self, found: TemplateView | None, command: TemplateBody, environment: str, name: str
    ) -> Edit:
        before = None if found is None else found.template
        at = rfc3339(self._clock.now())
        return templates.put(before, command, environment, name, at=at)

    def _of(self, environment: str) -> list[TemplateView]:
        found = self._store.read_all(documents.schedules(environment))
        return [_view(document) for _, document in sorted(found.items())]

    def _find(self, environment: str, name: str) -> TemplateView | None:
        document = self._store.read(documents.schedules(environment), name)
        return None if document is None else _view(document)

    def _environment(self, key: str) -> Environment:
        document = self._store.read(documents.ENVIRONMENTS, key)
        if document is None:
            raise NotFound(f"There is no environment {key!r}.")
        return Environment.from_body(document.body)

    def _check_room(self, environment: str) -> None:
        if len(self._of(environment)) >= templates.MOST:
            raise Conflict(f"{environment} has {templates.MOST} templates, the most there can be.")

    def _repeats(self, idempotency: Idempotency | None) -> bool:
        return idempotency is not None and self._store.repeats(idempotency)

    def _commit(
        self,
        edit: Edit,
        expected: int,
        by: Principal,
        reason: str | None,
        idempotency: Idempotency | None,
    ) -> Committed:
        change = Change((edit.write(expected),), edit.fact(by, reason), idempotency=idempotency)
        return self._store.commit(change, at=self._clock.now(), salt=self._entropy.hex(16))


def named_in(store: Documents, environment: str) -> dict[str, Schedule]:
    """Return the templates of an environment by name, as `schedule.parse` takes them."""
    found = store.read_all(documents.schedules(environment))
    return {name: _view(document).template.schedule for name, document in found.items()}


def _view(document: Document) -> TemplateView:
    return TemplateView(Template.from_body(document.body), document.revision)


def _made(edit: Edit, revision: int) -> TemplateView:
    assert edit.after is not None  # noqa: S101 (it was put)
    return TemplateView(edit.after, revision)


def _expected(found: TemplateView | None, revision: int | None) -> int:
    """Return the revision that must be there."""
    if revision is not None:
        return revision
    if found is not None:
        raise RevisionRequired(
            f"There is a schedule {found.template.name} already. Say which revision you replace: "
            'If-Match: "<revision>".'
        )
    return 0
