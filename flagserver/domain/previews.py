"""Preview links: what somebody may ask for, and what becomes of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator
from sortition.record.preview import Preview

from .commands import Command, Key, Reason
from .documents import Body
from .errors import Conflict, Invalid
from .flags import Flag

LONGEST_HOURS = 7 * 24

MOST_LINKS = 200
"""Links whose time is not over, in one environment."""

MOST_REVOKED = 500
"""Of those that are revoked. They travel with every snapshot until their time is over."""

PARAMETER = "sortition_preview"


_PAGE = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?(/[^\s<>\"]*)?", re.IGNORECASE | re.ASCII)


class NewPreview(Command):
    """A link that shows a variant of a flag for some hours. page: of the service that shows it."""

    variant: Key
    hours: int = Field(default=8, ge=1, le=LONGEST_HOURS)
    page: Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000)] = ""
    reason: Reason | None = None

    @field_validator("page")
    @classmethod
    def _is_a_page(cls, page: str) -> str:
        if page and not _PAGE.fullmatch(page):
            raise ValueError("must be a page's address, as in https://shop.example/search")
        return page


def preview(flag: Flag, environment: str, command: NewPreview, *, id: str, now: float) -> Preview:
    """Return the preview that is asked for. now: unix seconds. Raises Invalid."""
    if command.variant not in flag.variants:
        raise Invalid(
            f"{flag.key} has no variant {command.variant!r}; it has {', '.join(flag.variants)}.",
            field="/variant",
        )
    expires = int(now) + command.hours * 3600
    return Preview(id, environment, expires, {flag.key: command.variant})


@dataclass(frozen=True, slots=True)
class Link:
    """A link that was made: what is kept of it, which nobody could use. by: who made it; made: RFC
    3339; expires: unix seconds."""

    id: str
    flag: str
    variant: str
    by: str
    made: str
    expires: int


@dataclass(frozen=True, slots=True)
class Links:
    """The links of an environment whose time is not over, oldest first; revoked ones are gone."""

    links: tuple[Link, ...] = ()

    @classmethod
    def from_body(cls, body: Body, now: float) -> Links:
        """Return the links that a document holds, as of a moment."""
        found = (Link(**each) for each in body.get("links", ()))
        return cls(tuple(link for link in found if link.expires > now))

    def to_body(self) -> dict[str, Any]:
        """Return the document's body."""
        return {"links": [asdict(link) for link in self.links]}

    def with_one(self, link: Link) -> Links:
        """Return them with another. Raises Conflict where there are too many."""
        if len(self.links) >= MOST_LINKS:
            words = f"{MOST_LINKS} links are open in this environment. Revoke some of them first."
            raise Conflict(words)
        return Links((*self.links, link))

    def without(self, id: str) -> Links:
        """Return them without one."""
        return Links(tuple(link for link in self.links if link.id != id))

    def of(self, flag: str) -> Iterable[Link]:
        """Return those of a flag, the newest first."""
        return [link for link in reversed(self.links) if link.flag == flag]


def revoked(kept: Mapping[str, int], link: Link, now: float) -> dict[str, int]:
    """Return the revoked links with one more, id -> when its time is over; those whose time is over
    are forgotten. Raises Conflict where there are too many."""
    left = {id: expires for id, expires in kept.items() if expires > now}
    if len(left) >= MOST_REVOKED:
        raise Conflict(
            f"{MOST_REVOKED} links of this environment are revoked and not over. Killing the flag "
            "ends this one, and so does another preview key."
        )
    return {**left, link.id: link.expires}


def link(page: str, text: str) -> str:
    """Return the address of a page that carries a preview; "" where no page was named."""
    if not page:
        return ""
    before, mark, fragment = page.partition("#")
    joint = "&" if "?" in before else "?"
    return f"{before}{joint}{PARAMETER}={text}{mark}{fragment}"
