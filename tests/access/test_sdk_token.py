"""An SDK's token reads its environment's snapshot and posts outcomes, and nothing else."""

from __future__ import annotations

from typing import Any

from flagserver.services.snapshots import View
from tests.http.api import Api, an_api

from . import tables

OPENED = {
    "GET /api/v1/sdk/snapshot",
    "GET /api/v1/sdk/stream",
    "POST /api/v1/sdk/outcomes",
    # The same flags in OpenFeature's protocol, evaluated here.
    "POST /ofrep/v1/evaluate/flags/{key}",
    "POST /ofrep/v1/evaluate/flags",
    # Which token it is, and of which environment.
    "GET /api/v1/status",
}

CANARY = "canary-7f3a"

SNAPSHOT_FIELDS = {
    *("format", "store", "epoch", "version", "environment", "flush_seconds", "histogram_edges"),
    "flags",
}
FLAG_FIELDS = {
    *("revision", "salt", "variants", "rest", "weights", "share", "killed", "conditions"),
    *("prerequisites", "archived"),
}
"""What a snapshot may hold: what evaluating needs."""


class Heard:
    """A watcher of changes, as streams are."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def changed(self, view: View, message: bytes) -> None:
        self.messages.append(message)

    def streams(self) -> int:
        return 0


def a_flag_with_words(api: Api) -> None:
    """Make a flag about which everything is said that can be said."""
    words: dict[str, Any] = {"description": f"{CANARY}-description", "owner": f"{CANARY}-owner"}
    api.flag("new-search", reason=f"{CANARY}-reason", **words)
    path = "/api/v1/flags/new-search/environments/production"
    told = {"share": 5, "reason": f"{CANARY}-reason", "confirm_environment": "production"}
    assert api.admin.patch(path, told, revision=0).status == 200


def test_an_sdk_token_reads_its_environments_snapshot_and_posts_outcomes_and_nothing_else() -> None:
    """That the routes keep to the table is shown in `test_matrix.py`."""
    told = tables.lines(tables.API)

    opened = {
        " ".join(line) for line, cells in told.items() if len(cells) > 1 and set(cells[:2]) != {"-"}
    }

    assert opened == OPENED


def test_nothing_an_sdk_is_sent_carries_descriptions_owners_or_people() -> None:
    api, heard = an_api(), Heard()
    api.services.snapshots.watch(heard)
    person = api.admin.post("/api/v1/people", {"name": f"{CANARY} Ana", "login": f"{CANARY}-ana"})
    a_flag_with_words(api)
    sdk = api.sdk()

    sent = [
        sdk.get("/api/v1/sdk/snapshot").text,
        sdk.get("/api/v1/sdk/stream").text,
        sdk.get("/api/v1/status").text,
        sdk.post("/ofrep/v1/evaluate/flags", {"context": {"targetingKey": "abc"}}).text,
        *(message.decode() for message in heard.messages),
    ]

    assert person.status == 201
    assert len(heard.messages) > 0
    for text in sent:
        for secret in (CANARY, person.json["person"]["id"], "admin token"):
            assert secret not in text


def test_a_snapshot_has_the_fields_that_evaluating_needs_and_no_others() -> None:
    api = an_api()
    a_flag_with_words(api)

    snapshot: dict[str, Any] = api.sdk().get("/api/v1/sdk/snapshot").json

    assert set(snapshot) <= SNAPSHOT_FIELDS
    assert set(snapshot["flags"]["new-search"]) <= FLAG_FIELDS
