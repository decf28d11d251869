"""Making preview links. Nothing of them is kept but what the record says."""

from __future__ import annotations

from dataclasses import dataclass

from sortition.record import preview as signed
from sortition.record.preview import Preview

from flagserver.domain import access, documents, previews
from flagserver.domain.documents import Change, Fact, Principal
from flagserver.domain.errors import Conflict, NotFound
from flagserver.domain.flags import Flag
from flagserver.domain.previews import NewPreview
from flagserver.domain.times import from_unix
from flagserver.ports import Clock, Documents, Entropy, Signer

ID_OCTETS = 8


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
            role=by.role,
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
        self._store.commit(Change(writes=(), fact=fact), at=now, salt=self._entropy.hex(16))
        text = signed.write(made, self._signer)
        return Made(made, text, previews.link(command.page, text))

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
