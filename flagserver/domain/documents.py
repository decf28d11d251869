"""How things are kept: documents in collections, each with its revision; changed by `Change`s."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .notices import Notice

Body = Mapping[str, Any]
"""A JSON object."""

FLAGS = "flags"
ENVIRONMENTS = "environments"
TOKENS = "tokens"
ROLLOUTS = "rollouts"
"""Those that live: a controller reads them at every tick."""
ENDED_ROLLOUTS = "rollouts/ended"
PEOPLE = "people"
"""The only documents with anybody's name."""
ROSTER = "roster"
"""One document that every change of a person raises."""
MARKS = "rollouts/marks"
"""What people say of rollouts that have ended, keyed by rollout."""
APPROVALS = "approvals"
"""What waits for a second person, and for a while what has waited; see `approvals`."""
PREVIEWS = "previews"
"""One document for each environment: the preview links there whose time is not over."""
REVOKED_PREVIEWS = "previews/revoked"
"""One document for each environment: id -> unix seconds until which it would have counted."""
CONTROLLERS = "controllers"
"""What was told of them: a document while it is told that none looks."""


def states(environment: str) -> str:
    """Return the collection of flag states of one environment, keyed by flag."""
    return f"states/{environment}"


def schedules(environment: str) -> str:
    """Return the collection of schedule templates of one environment, keyed by name."""
    return f"schedules/{environment}"


@dataclass(frozen=True, slots=True)
class Document:
    """One thing as it is kept. revision: 1 after creation, if nothing else was said, and raised
    by every change."""

    collection: str
    key: str
    revision: int
    body: Body


@dataclass(frozen=True, slots=True)
class Write:
    """A document's new body, given that its revision is `expected` (0: it must not exist).

    body: None takes the document away; it must be there, at that revision.
    revision: what it has then, None: one more than `expected`. A document that moves to another
    collection goes on counting there.
    """

    collection: str
    key: str
    expected: int
    body: Body | None
    revision: int | None = None


EVERYWHERE = "*"
"""Stands for all environments for which nothing else was said."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts. id: opaque (`token:ab12cd`, `person:…`); role: what decided that they may.

    roles: of a person, environment -> role, EVERYWHERE always among them; None of anything else.
    """

    id: str
    role: str
    scope: str
    environment: str | None = None
    """The one environment that this principal is confined to, or None for all."""
    roles: Mapping[str, str] | None = None
    owner: str | None = None
    """The person behind a token: who made it. None where nobody is known."""

    def role_in(self, environment: str | None) -> str:
        """Return what decides that they may in an environment; None: in what all of them share."""
        if self.roles is None:
            return self.role
        everywhere = self.roles[EVERYWHERE]
        return everywhere if environment is None else self.roles.get(environment, everywhere)


@dataclass(frozen=True, slots=True)
class Fact:
    """What the record will say about a change. `action` is subject:object:verb."""

    actor: str
    role: str
    action: str
    target: str
    environment: str | None = None
    before: Any = None
    after: Any = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A caller's key for one request, so that a retry gets the first answer.

    key: unique per principal and key.  fingerprint: hash of what was asked.
    """

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Change:
    """Everything that one decision writes, all of it or nothing.

    claims: name -> owner of what must be unique (a flag's seed, a target in a rollout).
    releases: name -> owner of claims to be given back; one that somebody else has stays theirs. A
    name may be released by one owner and claimed by another in the same change.
    at_versions: environment -> snapshot version that must still hold, for decisions that looked
    at more than the documents they write (prerequisites); else the store raises Moved.
    notices: what people are to be told of it, kept until each notifier has delivered it.
    environments: whose snapshot version rises.  flags: keys of the flags that changed in them.
    """

    writes: tuple[Write, ...]
    fact: Fact
    environments: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    claims: Mapping[str, str] = field(default_factory=dict)
    releases: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()
    at_versions: Mapping[str, int] = field(default_factory=dict)
    idempotency: Idempotency | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did. seq: its entry in the record; versions: environment -> new version.

    repeated: the idempotency key had been used for the same request; nothing was written now.
    """

    seq: int
    versions: Mapping[str, int]
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """A change as those who follow hear of it.

    id: position in the feed.  versions: environment -> (from, to).
    documents: (collection, key) of everything written.
    """

    id: str
    seq: int
    versions: Mapping[str, tuple[int, int]]
    flags: tuple[str, ...]
    documents: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class EnvironmentContent:
    """All of one environment at one version, read in one go.

    revoked: id of a preview link -> unix seconds until which it would have counted.
    """

    environment: str
    store: str
    epoch: int
    version: int
    flags: Mapping[str, Document]
    states: Mapping[str, Document]
    revoked: Mapping[str, int] = field(default_factory=dict)
