"""Preview links: what somebody may ask for, and what becomes of it."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator
from sortition.record.preview import Preview

from .commands import Command, Key, Reason
from .errors import Invalid
from .flags import Flag

LONGEST_HOURS = 7 * 24

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


def link(page: str, text: str) -> str:
    """Return the address of a page that carries a preview; "" where no page was named."""
    if not page:
        return ""
    before, mark, fragment = page.partition("#")
    joint = "&" if "?" in before else "?"
    return f"{before}{joint}{PARAMETER}={text}{mark}{fragment}"
