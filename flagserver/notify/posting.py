"""What notifiers share: one POST, what its answer means, and where a notice's page is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from flagserver.domain.notices import Notice
from flagserver.ports import Egress, EgressError, NotDelivered

SEND_SECONDS = 5.0
LONGEST_RETRY_AFTER = 3600.0
ANSWER_LIMIT = 64 * 1024
BODY_LIMIT = 128 * 1024

REFUSED = frozenset({400, 413, 415, 422})
"""Answers that speak of the notice. Any other failure speaks of the place (moved, revoked, asleep),
and may pass."""


def encoded(body: Mapping[str, Any]) -> bytes:
    """Return the octets of a JSON body, short and the same every time."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def post(egress: Egress, url: str, body: bytes, headers: Mapping[str, str], now: datetime) -> None:
    """POST a JSON body. Raises NotDelivered unless it was taken (2xx). now: for a Retry-After."""
    if len(body) > BODY_LIMIT:
        raise NotDelivered(f"larger than {BODY_LIMIT} octets", refused=True)
    headers = {"Content-Type": "application/json", **headers}
    try:
        answer = egress.send(
            "POST", url, headers=headers, body=body, seconds=SEND_SECONDS, limit=ANSWER_LIMIT
        )
    except EgressError as error:
        raise NotDelivered(str(error)) from None
    if 200 <= answer.status < 300:
        return
    raise NotDelivered(
        f"answered {answer.status} {_start_of(answer.body)}".rstrip(),
        retry_after=retry_after(answer.headers.get("retry-after"), now),
        refused=answer.status in REFUSED,
    )


def retry_after(text: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header means (a number or a date), an hour at most."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_RETRY_AFTER)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    seconds = (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)


def page_of(notice: Notice, base_url: str) -> str:
    """Return where people read more: the page of what the notice is about, or the first page."""
    kind, _, name = notice.subject.partition("/")
    places = {"rollout": "rollouts", "flag": "flags", "approval": "approvals"}
    if kind in places and name:
        return f"{base_url}/{places[kind]}/{quote(name, safe='')}"
    return f"{base_url}/"


def shortened(text: str, length: int) -> str:
    """Return a text of at most that many characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _start_of(body: bytes) -> str:
    """Return how an answer begins, fit for a log line."""
    text = body[:120].decode("utf-8", "replace")
    return "".join(each if each.isprintable() else " " for each in text).strip()
