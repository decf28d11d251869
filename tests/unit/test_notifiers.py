"""What each notifier sends, and what it makes of an answer; against a server that misbehaves."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flagserver.domain.notices import Notice, Severity
from flagserver.egress import GuardedEgress, Place
from flagserver.notify.log import Log
from flagserver.notify.pagerduty import PagerDuty, dedup_key
from flagserver.notify.posting import retry_after
from flagserver.notify.slack import Slack, message
from flagserver.notify.webhook import Webhook, read_keys, signatures
from flagserver.ports import NotDelivered, Notifier
from tests.builders import T0, FakeClock
from tests.capturing import Capturing, Trouble

BASE = "https://flags.example"
SECRET = "whsec_3RztOw7QBH6oAU1vfVmCOypEI01A4eMZJK7NyZJw8LQ="
EXAMPLE = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""The secret of Standard Webhooks' own example, which everybody can read."""
KINDS = ("webhook", "slack", "pagerduty")

ROLLED_BACK = Notice(
    id="7f3a-9",
    kind="rollout:rolled_back",
    severity=Severity.WARNING,
    at="2026-11-23T12:09:31Z",
    environment="production",
    service="shop",
    subject="rollout/r-7f3a",
    title="Rolled back: shop 1.5.0 in production, HTTP errors 1.84 % > 1 % at 25 %",
    facts={"Reached": "25 % (step 2 of 4)", "Why": "HTTP errors 1.84 % > 1 %"},
    incident="production/shop/r-7f3a",
)
FAILED = Notice(
    id="7f3a-10",
    kind="rollout:rollback_failed",
    severity=Severity.PAGE,
    at="2026-11-23T12:10:31Z",
    environment="production",
    service="shop",
    subject="rollout/r-7f3a",
    title="Rollback FAILED: shop 1.5.0 in production still gets 25 %",
    facts={"Why": "the load balancer refuses"},
    incident="production/shop/r-7f3a",
    by_hand=("aws elbv2 modify-rule --rule-arn arn:aws:… --actions file://back.json",),
)


@pytest.fixture
def server() -> Iterator[Capturing]:
    with Capturing() as running:
        yield running


def notifier(kind: str, server: Capturing, seconds: float | None = None) -> Notifier:
    """Return the notifier of a kind that talks to this server; its address holds "secret"."""
    places = [Place("127.0.0.1", server.port, inside=True)]
    egress, clock, url = GuardedEgress(places), FakeClock(), f"{server.url}/T0/secret"
    if kind == "webhook":
        return Webhook(egress, clock, url, read_keys(SECRET), BASE)
    if kind == "slack":
        return Slack(egress, clock, url, BASE)
    return PagerDuty(egress, clock, "secret-routing-key", BASE, url)


def sent(server: Capturing, kind: str, notice: Notice) -> Any:
    notifier(kind, server).send(notice)
    return server.requests[-1].json


# --- what an answer means -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("trouble", "after", "refused"),
    [
        (Trouble(429, retry_after="7"), 7.0, False),
        (Trouble(429, retry_after="Mon, 23 Nov 2026 12:00:30 GMT"), 30.0, False),
        (Trouble(429, retry_after="soon"), None, False),
        (Trouble(503, retry_after="999999"), 3600.0, False),
        (Trouble(500), None, False),
        (Trouble(502), None, False),
        (Trouble(302, headers={"Location": "http://127.0.0.1/"}), None, False),
        (Trouble(401), None, False),
        (Trouble(403, b"action_prohibited"), None, False),
        (Trouble(404, b"no_service"), None, False),
        (Trouble(410, b"channel_is_archived"), None, False),
        (Trouble(400, b"invalid_payload"), None, True),
        (Trouble(413), None, True),
        (Trouble(422), None, True),
        (Trouble(cut=10), None, False),
        (Trouble(raw=b""), None, False),
        (Trouble(body=b"x" * 1_000_000), None, False),
    ],
)
def test_what_is_not_taken_is_not_delivered(
    server: Capturing, kind: str, trouble: Trouble, after: float | None, refused: bool
):
    server.troubles.append(trouble)

    with pytest.raises(NotDelivered) as failed:
        notifier(kind, server).send(FAILED)

    assert (failed.value.retry_after, failed.value.refused) == (after, refused)
    assert len(server.requests) == 1, "a notifier tries once"


def test_a_notice_too_large_to_send_holds_up_no_other(server: Capturing):
    with pytest.raises(NotDelivered, match="larger than") as failed:
        notifier("webhook", server).send(_with(FAILED, facts={"Why": "x" * 200_000}))

    assert failed.value.refused
    assert server.requests == []


@pytest.mark.parametrize("kind", KINDS)
def test_any_2xx_is_taken(server: Capturing, kind: str):
    for status in (200, 201, 202, 204):
        server.troubles.append(Trouble(status))
        notifier(kind, server).send(FAILED)


@pytest.mark.parametrize("kind", KINDS)
def test_whoever_hangs_is_given_up(server: Capturing, kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("flagserver.notify.posting.SEND_SECONDS", 0.2)
    server.troubles.append(Trouble(hang=True))

    with pytest.raises(NotDelivered, match=r"no answer within 0\.2 s"):
        notifier(kind, server).send(FAILED)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_secret_is_said(server: Capturing, kind: str, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    made = notifier(kind, server)
    said = [repr(made)]
    for trouble in (Trouble(500, b"no\r\nservice\x1b[0m"), Trouble(raw=b"?"), Trouble(404)):
        server.troubles.append(trouble)
        with pytest.raises(NotDelivered) as failed:
            made.send(FAILED)
        said.append(f"{failed.value} {failed.value.__cause__}")

    assert "answered 500 no  service [0m" in said[1]
    everything = " ".join(said) + caplog.text
    assert "secret" not in everything
    assert SECRET.removeprefix("whsec_") not in everything


def test_a_host_that_is_not_on_the_list_is_told_nothing(server: Capturing):
    made = Slack(GuardedEgress([]), FakeClock(), f"{server.url}/secret", BASE)

    with pytest.raises(NotDelivered, match="not on the list"):
        made.send(FAILED)

    assert server.requests == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, None), ("0", 0.0), ("-1", None), ("1.5", None), ("\u0662", None), ("", None),
     ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0), ("Mon, 23 Nov 2026 12:01:00 -0000", 60.0)],
)  # fmt: skip
def test_when_to_come_back(text: str | None, seconds: float | None):
    assert retry_after(text, T0) == seconds


# --- webhook --------------------------------------------------------------------------------------


def test_a_webhook_tells_all_of_a_notice(server: Capturing):
    told = sent(server, "webhook", FAILED)

    assert told == {"format": 1, **FAILED.to_body(), "url": f"{BASE}/rollouts/r-7f3a"}
    assert Notice.from_body({k: v for k, v in told.items() if k not in {"format", "url"}}) == FAILED


def test_its_signature_is_checked_by_the_receiver(server: Capturing):
    notifier("webhook", server).send(FAILED)
    [request] = server.requests

    # As a receiver has it, in its own few lines.
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    stamp = request.headers["webhook-timestamp"]
    signed = f"{request.headers['webhook-id']}.{stamp}.".encode() + request.body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"
    assert datetime.fromtimestamp(int(stamp), UTC) == T0
    assert request.headers["webhook-id"] == FAILED.id
    assert request.headers["content-type"] == "application/json"


def test_the_receiver_that_the_documents_show_tells_ours_from_others(server: Capturing):
    page = Path(__file__).parents[2] / "docs" / "reference" / "notifications.md"
    [shown] = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(shown, names)  # noqa: S102 (a page of ours)
    notifier("webhook", server).send(FAILED)
    [request] = server.requests
    names["time"] = SimpleNamespace(time=T0.timestamp)

    def ours(body: bytes = request.body, secret: str = SECRET, changed: Any = None) -> bool:
        return bool(names["is_ours"]({**request.headers, **(changed or {})}, body, secret))

    assert ours()
    assert not ours(body=request.body + b" ")
    assert not ours(secret="whsec_" + base64.b64encode(bytes(range(32))).decode())
    assert not ours(changed={"webhook-id": "another"})
    assert not ours(changed={"webhook-timestamp": str(int(T0.timestamp()) - 1)})
    names["time"] = SimpleNamespace(time=lambda: T0.timestamp() + 301)
    assert not ours()


def test_signatures_are_those_of_standard_webhooks():
    """The example that the specification's own libraries are tested with."""
    body = b'{"test": 2432232314}'

    key = base64.b64decode(EXAMPLE)

    made = signatures([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)

    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_while_a_secret_is_changed_both_sign():
    new = "whsec_Wv5nO0M0mZ8pUuXeYl0QGd6o1pF7bqQJ"

    both = signatures(read_keys(f"{new}\n{SECRET}\n"), "n", 1, b"{}").split()

    assert both == [signatures(read_keys(each), "n", 1, b"{}") for each in (new, SECRET)]


@pytest.mark.parametrize(
    "secret",
    [
        *("hunter2", "whsec_", "whsec_hunter2", SECRET.removeprefix("whsec_"), "whsec_!!!!"),
        "whsec_" + base64.b64encode(b"short").decode(),
        "whsec_" + base64.b64encode(b"\0" * 32).decode(),
        "whsec_" + base64.b64encode(bytes(range(65))).decode(),
        "whsec_" + base64.b64encode(bytes(range(32))).decode(),
        "whsec_" + base64.b64encode(b"a secret of the team of ops!").decode(),
        f"whsec_{EXAMPLE}",
        SECRET + "\nhunter2",
    ],
)
def test_a_weak_secret_is_refused_and_not_repeated(secret: str):
    with pytest.raises(ValueError, match="whsec_ and the base64") as refused:
        read_keys(secret)

    assert "hunter2" not in str(refused.value)


# --- Slack ----------------------------------------------------------------------------------------


def test_slack_shows_title_facts_and_a_link(server: Capturing):
    told = sent(server, "slack", ROLLED_BACK)

    assert told["text"] == ROLLED_BACK.title.replace(">", "&gt;")
    head, facts, foot = told["blocks"]
    assert head["text"]["text"] == f"*{told['text']}*"
    assert [each["text"] for each in facts["fields"]] == [
        "*Reached*\n25 % (step 2 of 4)",
        "*Why*\nHTTP errors 1.84 % &gt; 1 %",
    ]
    assert foot["elements"][0]["text"] == (
        f"<{BASE}/rollouts/r-7f3a|Open> · production · 2026-11-23T12:09:31Z"
    )


def test_a_page_calls_those_who_are_there_and_says_what_to_do(server: Capturing):
    told = sent(server, "slack", FAILED)

    assert told["blocks"][0]["text"]["text"].startswith("<!here> *Rollback FAILED")
    assert FAILED.by_hand[0] in told["blocks"][2]["text"]["text"]
    resolved = message(_with(FAILED, resolves=True), BASE)
    assert "<!here>" not in json.dumps(resolved)


INJECTIONS = [
    "<https://evil.test|Open rollout>",
    "<!channel>",
    "<!here|x>",
    "<@U123>",
    "<#C123>",
    "&lt;!channel&gt;",
    "a & b",
    "<!subteam^S1>",
    "> quoted",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_nothing_in_a_name_is_markup(text: str):
    """Outside of what is ours (the call and the link) no sign that means something is left."""
    told = message(
        _with(
            ROLLED_BACK, title=text, facts={text: text}, environment=text, at=text, by_hand=(text,)
        ),
        f"{BASE}/rollouts/r-7f3a",
    )

    texts = [told["text"], *_texts(told["blocks"])]
    ours = f"<{BASE}/rollouts/r-7f3a|Open>"
    for each in texts:
        theirs = each.replace(ours, "")
        assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", theirs)
    shown = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert sum(shown in each for each in texts) == 5


def test_a_name_cannot_end_the_commands():
    told = message(_with(FAILED, by_hand=("echo ``` <!here>",)), BASE)

    assert told["blocks"][2]["text"]["text"] == "*By hand*\n```echo ''' &lt;!here&gt;```"


def test_slacks_limits_are_kept_whatever_is_told():
    long = "&<>" * 2000
    told = message(
        _with(
            FAILED,
            title=long,
            facts={f"{number} {long}": long for number in range(100)},
            by_hand=(long,) * 10,
            environment=long,
        ),
        f"{BASE}/rollouts/{'x' * 2000}",
    )

    assert len(told["blocks"]) <= 50
    for block in told["blocks"]:
        assert len(block.get("fields", [])) <= 10
        assert all(len(each["text"]) <= 2000 for each in block.get("fields", []))
        assert len(block.get("text", {}).get("text", "")) <= 3000
        assert all(len(each["text"]) <= 3000 for each in block.get("elements", []))


def test_a_channel_is_not_told_of_every_step(server: Capturing):
    notifier("slack", server).send(_with(ROLLED_BACK, kind="rollout:step:reached"))

    assert server.requests == []


# --- PagerDuty ------------------------------------------------------------------------------------


def test_a_failed_rollback_pages(server: Capturing):
    told = sent(server, "pagerduty", FAILED)

    assert told["routing_key"] == "secret-routing-key"
    assert (told["event_action"], told["payload"]["severity"]) == ("trigger", "critical")
    assert told["dedup_key"] == "sortition:production/shop/r-7f3a"
    assert told["payload"]["summary"] == FAILED.title
    assert told["payload"]["timestamp"] == FAILED.at
    assert told["payload"]["component"] == "shop"
    assert told["payload"]["group"] == "production"
    assert told["payload"]["class"] == "rollout:rollback_failed"
    assert told["payload"]["custom_details"]["by hand"] == list(FAILED.by_hand)
    assert told["client_url"] == f"{BASE}/rollouts/r-7f3a"


def test_what_ends_it_names_the_same_incident(server: Capturing):
    raised = sent(server, "pagerduty", FAILED)
    ended = sent(server, "pagerduty", _with(FAILED, id="later", resolves=True))

    assert ended == {
        "routing_key": "secret-routing-key",
        "event_action": "resolve",
        "dedup_key": raised["dedup_key"],
    }


def test_a_rollback_that_worked_is_a_warning(server: Capturing):
    assert sent(server, "pagerduty", ROLLED_BACK)["payload"]["severity"] == "warning"


def test_what_is_no_incident_wakes_nobody(server: Capturing):
    notifier("pagerduty", server).send(_with(ROLLED_BACK, incident=None))
    assert server.requests == []

    told = sent(server, "pagerduty", _with(FAILED, incident=None))
    assert told["dedup_key"] == "sortition:7f3a-10"


def test_a_long_incident_has_a_key_of_its_own():
    keys = {dedup_key("x" * 300 + end) for end in "ab"}

    assert len(keys) == 2
    assert all(len(key) <= 255 for key in keys)


def test_pagerdutys_limits_are_kept(server: Capturing):
    long = "x" * 100_000
    told = sent(server, "pagerduty", _with(FAILED, title=long, facts={"Why": long}))

    assert len(told["payload"]["summary"]) == 1024
    assert len(json.dumps(told)) < 10_000


# --- log ------------------------------------------------------------------------------------------


def test_the_log_tells_everything_on_one_line(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)

    Log().send(_with(FAILED, title="Rollback FAILED\nERROR forged \x1b[31m"))
    Log().send(_with(FAILED, resolves=True))

    [failed, ended] = caplog.records
    assert failed.levelno == logging.ERROR
    assert ended.levelno == logging.INFO
    said = failed.getMessage()
    assert said.startswith("Rollback FAILED ERROR forged  [31m | Why: the load balancer refuses")
    assert FAILED.by_hand[0] in said
    assert "\n" not in said


def _with(notice: Notice, **changes: Any) -> Notice:
    body = {**notice.to_body(), **changes}
    return Notice.from_body(body)


def _texts(blocks: Any) -> Iterator[str]:
    """Yield every text of a message."""
    if isinstance(blocks, dict):
        if isinstance(blocks.get("text"), str):
            yield blocks["text"]
        blocks = list(blocks.values())
    if isinstance(blocks, list):
        for each in blocks:
            yield from _texts(each)
