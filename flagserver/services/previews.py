"""Making preview links and revoking them. What is kept of them, nobody could use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from sortition.record import preview as signed
from sortition.record.preview import Preview

from flagserver.domain import access, documents, previews
from flagserver.domain.commands import Reasoned
from flagserver.domain.documents import Change, Document, Fact, Principal, Write
from flagserver.domain.errors import AlreadyExists, Conflict, NotFound, StaleRevision
from flagserver.domain.flags import Flag
from flagserver.domain.previews import Link, Links, NewPreview
from flagserver.domain.times import from_unix, rfc3339
from flagserver.ports import Clock, Documents, Entropy, Signer

ID_OCTETS = 8

ATTEMPTS = 10
"""How often links are read anew because somebody else made or revoked one meanwhile."""


@dataclass(frozen=True, slots=True)
class Made:
    """A preview, its text, and the link that carries it ("" where no page was named)."""

    preview: Preview
    text: str
    link: str


class Previews:
    """Use cases around preview links. signer: None where the server has no key for them."""

    def __init__(
        self, store: Documents, signer: Signer | None, clock: Clock, entropy: Entropy
    ) -> None:
        self._store = store
        self._signer = signer
        self._clock = clock
        self._entropy = entropy

    @property
    def public_key(self) -> str | None:
        """What a service's middleware checks previews with; None where none are made."""
        return None if self._signer is None else str(self._signer.verifier)

    def make(self, key: str, environment: str, command: NewPreview, by: Principal) -> Made:
        """Make a link, and write down that somebody did. Raises NotFound, Forbidden, Invalid, and
        Conflict where the server has no key for it or the flag is archived."""
        access.check(by, access.PREVIEW, environment)
        if self._signer is None:
            raise Conflict(
                "This server has no key to sign previews with: SORTITION_PREVIEW_KEY_FILE names it."
            )
        flag = self._flag(key, environment)
        now = self._clock.now()
        id = self._entropy.hex(ID_OCTETS)
        made = previews.preview(flag, environment, command, id=id, now=now.timestamp())
        fact = Fact(
            actor=by.id,
            role=by.role_in(environment),
            action="preview:make",
            target=f"flag/{key}",
            environment=environment,
            after={
                "id": made.id,
                "variant": command.variant,
                "expires": from_unix(made.expires),
            },
            reason=command.reason,
        )
        text = signed.write(made, self._signer)
        kept = Link(made.id, key, command.variant, by.id, rfc3339(now), made.expires)
        self._keep(environment, fact, lambda links: links.with_one(kept))
        return Made(made, text, previews.link(command.page, text))

    def open(self, key: str, environment: str, by: Principal) -> Sequence[Link]:
        """Return the links of a flag whose time is not over, the newest first. Raises Forbidden."""
        access.check(by, access.SHRINK, environment)
        return list(self._links(environment)[1].of(key))

    def revoke(self, key: str, environment: str, id: str, command: Reasoned, by: Principal) -> None:
        """End a link; services hear of it with flags. Raises NotFound, Forbidden, Conflict."""
        known = (link for link in self.open(key, environment, by) if link.id == id)
        link = next(known, None)
        if link is None:
            raise NotFound("This link was revoked already, or its time is over.")
        fact = Fact(
            actor=by.id,
            role=by.role_in(environment),
            action="preview:revoke",
            target=f"flag/{key}",
            environment=environment,
            before={"id": id, "variant": link.variant, "expires": from_unix(link.expires)},
            reason=command.reason,
        )
        self._keep(environment, fact, lambda links: links.without(id), revoked=link)

    def _keep(
        self,
        environment: str,
        fact: Fact,
        decide: Callable[[Links], Links],
        revoked: Link | None = None,
    ) -> None:
        """Write the links as they are decided to be, and which of them services are told of."""
        now = self._clock.now()
        for _ in range(ATTEMPTS):
            revision, links = self._links(environment)
            body = decide(links).to_body()
            writes = [Write(documents.PREVIEWS, environment, revision, body)]
            if revoked is not None:
                writes.append(self._revocation(environment, revoked))
            told = () if revoked is None else (environment,)
            change = Change(tuple(writes), fact, environments=told)
            with suppress(StaleRevision, AlreadyExists):
                self._store.commit(change, at=now, salt=self._entropy.hex(16))
                return
        raise Conflict("Preview links change too quickly. Try again.")

    def _links(self, environment: str) -> tuple[int, Links]:
        """Return the links of an environment, and the revision that they are at."""
        document = self._store.read(documents.PREVIEWS, environment)
        body = {} if document is None else document.body
        return _revision(document), Links.from_body(body, self._clock.now().timestamp())

    def _revocation(self, environment: str, link: Link) -> Write:
        document = self._store.read(documents.REVOKED_PREVIEWS, environment)
        body = {} if document is None else document.body
        after = previews.revoked(body, link, self._clock.now().timestamp())
        return Write(documents.REVOKED_PREVIEWS, environment, _revision(document), after)

    def _flag(self, key: str, environment: str) -> Flag:
        document = self._store.read(documents.FLAGS, key)
        if document is None:
            raise NotFound(f"There is no flag {key!r}.")
        if self._store.read(documents.ENVIRONMENTS, environment) is None:
            raise NotFound(f"There is no environment {environment!r}.")
        flag = Flag.from_body(document.body)
        if flag.archived:
            raise Conflict(f"{key} is archived: services do not get it any more.")
        return flag


def _revision(document: Document | None) -> int:
    return 0 if document is None else document.revision
