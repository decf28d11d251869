"""Notices to a Slack channel, through an incoming webhook, as Block Kit.

An incoming webhook cannot change what it said before, nor answer in a thread, so what happens at
every step is left out. Its address is its secret.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from flagserver.domain.notices import Notice, Severity
from flagserver.ports import Clock, Egress

from .posting import encoded, page_of, post, shortened

QUIET = "rollout:step:"
"""Kinds that begin so are not told: a rollout has many steps, and a channel many readers."""

FIELDS_OF_A_SECTION = 10
MOST_FACTS = 40
# Slack takes 2,000 characters of a field and 3,000 of a text, and an escape makes five of one.
FACT_LENGTH = 350
TITLE_LENGTH = 500
COMMANDS_LENGTH = 550

ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class Slack:
    """Tells what people in a channel want to know."""

    name = "slack"

    def __init__(self, egress: Egress, clock: Clock, url: str, base_url: str) -> None:
        self._egress = egress
        self._clock = clock
        self._url = url
        self._base_url = base_url

    def send(self, notice: Notice) -> None:
        """Deliver it. Raises NotDelivered."""
        if notice.kind.startswith(QUIET):
            return
        body = encoded(message(notice, page_of(notice, self._base_url)))
        post(self._egress, self._url, body, {}, self._clock.now())


def message(notice: Notice, page: str) -> dict[str, Any]:
    """Return a notice as Slack is to show it. page: where its link leads."""
    title = escaped(notice.title, TITLE_LENGTH)
    return {
        # What a phone's lock screen and a screen reader say.
        "text": title,
        "blocks": list(_blocks(notice, title, page)),
        "unfurl_links": False,
        "unfurl_media": False,
    }


def escaped(text: str, length: int) -> str:
    """Return text that Slack shows as it stands: `<url|words>` makes no link and `<!here>` calls
    nobody. Cut first, for half an escape would be none."""
    return shortened(text, length).translate(ESCAPES)


def _blocks(notice: Notice, title: str, page: str) -> Iterator[dict[str, Any]]:
    call = "<!here> " if notice.severity is Severity.PAGE and not notice.resolves else ""
    yield {"type": "section", "text": _text(f"{call}*{title}*")}
    fields = [
        _text(f"*{escaped(label, 50)}*\n{escaped(fact, FACT_LENGTH)}")
        for label, fact in islice(notice.facts.items(), MOST_FACTS)
    ]
    for start in range(0, len(fields), FIELDS_OF_A_SECTION):
        yield {"type": "section", "fields": fields[start : start + FIELDS_OF_A_SECTION]}
    if notice.by_hand:
        commands = escaped("\n".join(notice.by_hand).replace("`", "'"), COMMANDS_LENGTH)
        yield {"type": "section", "text": _text(f"*By hand*\n```{commands}```")}
    # A link and no button: Slack wants an answer to a button, and a webhook hears of none.
    about = [f"<{escaped(page, 500)}|Open>", escaped(notice.at, 50)]
    if notice.environment:
        about.insert(1, escaped(notice.environment, 100))
    yield {"type": "context", "elements": [_text(" · ".join(about))]}


def _text(marked: str) -> dict[str, Any]:
    """Return a text object; verbatim: names of channels and addresses in it become no links."""
    return {"type": "mrkdwn", "text": marked, "verbatim": True}
