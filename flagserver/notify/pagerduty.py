"""Notices that wake somebody, as PagerDuty's Events API v2 takes them.

A notice with an incident raises it (`trigger`) or ends it (`resolve`); both name it by the same
`dedup_key`, so that a repeat raises nothing new. What is neither incident nor page is not told.
"""

from __future__ import annotations

import hashlib
from typing import Any

from flagserver.domain.notices import Notice, Severity
from flagserver.ports import Clock, Egress

from .posting import encoded, page_of, post, shortened

ADDRESS = "https://events.pagerduty.com/v2/enqueue"
SEVERITIES = {Severity.PAGE: "critical", Severity.WARNING: "warning", Severity.INFO: "info"}
SUMMARY_LENGTH = 1024
DEDUP_LENGTH = 255
FACT_LENGTH = 2000


class PagerDuty:
    """Raises incidents and ends them."""

    name = "pagerduty"

    def __init__(
        self, egress: Egress, clock: Clock, routing_key: str, base_url: str, url: str = ADDRESS
    ) -> None:
        self._egress = egress
        self._clock = clock
        self._routing_key = routing_key
        self._base_url = base_url
        self._url = url

    def send(self, notice: Notice) -> None:
        """Deliver it. Raises NotDelivered."""
        if notice.incident is None and notice.severity is not Severity.PAGE:
            return
        body = encoded(
            {"routing_key": self._routing_key} | event(notice, page_of(notice, self._base_url))
        )
        post(self._egress, self._url, body, {}, self._clock.now())


def event(notice: Notice, page: str) -> dict[str, Any]:
    """Return a notice as an event, without the routing key. page: where its link leads."""
    named = {"dedup_key": dedup_key(notice.incident or notice.id)}
    if notice.resolves:
        return {"event_action": "resolve", **named}
    about = {
        "component": notice.service,
        "group": notice.environment,
        "class": notice.kind,
    }
    return {
        "event_action": "trigger",
        **named,
        "client": "Sortition",
        "client_url": page,
        "payload": {
            "summary": shortened(notice.title, SUMMARY_LENGTH),
            "source": f"sortition/{notice.environment}" if notice.environment else "sortition",
            "severity": SEVERITIES[notice.severity],
            "timestamp": notice.at,
            **{name: told for name, told in about.items() if told is not None},
            "custom_details": {
                **{label: shortened(fact, FACT_LENGTH) for label, fact in notice.facts.items()},
                **({"by hand": list(notice.by_hand)} if notice.by_hand else {}),
            },
        },
        "links": [{"href": page, "text": "Open"}],
    }


def dedup_key(incident: str) -> str:
    """Return the key of an incident: itself, or its beginning and hash where it is too long."""
    key = f"sortition:{incident}"
    if len(key) <= DEDUP_LENGTH:
        return key
    digest = hashlib.sha256(incident.encode()).hexdigest()
    return f"{key[: DEDUP_LENGTH - len(digest) - 1]}#{digest}"
