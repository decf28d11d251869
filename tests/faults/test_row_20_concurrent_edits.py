"""Row 20: many people and pipelines change the same thing at once."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from sortition.record.entry import find_break

from flagserver.storage.redis.store import RedisStore

from .site import STATE, WHY, Site, at_share, until

pytestmark = pytest.mark.needs("redis-server")

EDITORS = 50
EDITS = 4


def test_of_fifty_editors_each_success_is_one_version_and_one_entry(site: Site):
    with at_share(site, 25) as asker:
        other = site.another_web()
        other.start()
        until(lambda: other.ready()["writable"], "the second server")
        version = site.web.ask("GET", "/api/v1/status").json["versions"]["production"]
        begins = int(site.meta()["seq"])
        answers: Counter[int] = Counter()

        def edit(number: int) -> None:
            web = (site.web, other)[number % 2]
            for turn in range(EDITS):
                revision = web.ask("GET", STATE).json["revision"]
                # No two are the same, for what changes nothing raises nothing.
                body = WHY | {"share": 1 + (number * EDITS + turn) / 100}
                answer = web.ask("PATCH", STATE, body, revision=revision, seconds=60)
                answers[answer.status] += 1

        editors = [threading.Thread(target=edit, args=(number,)) for number in range(EDITORS)]
        for editor in editors:
            editor.start()
        for editor in editors:
            editor.join()

        assert answers.total() == EDITORS * EDITS
        assert answers.keys() <= {200, 412, 503}
        assert answers[200] > 0
        with RedisStore(site.redis.url) as store:
            # Each success raised the version by one, and nothing else did.
            assert store.versions()["production"] - version == answers[200]
            links = store.record()
            assert links[-1].seq - begins == answers[200]
            assert find_break(links) is None
        until(
            lambda: (asker.client.status().version or "").endswith(f".{version + answers[200]}"),
            "the client to have the last",
        )


@pytest.mark.slow
def test_a_write_without_a_revision_or_with_an_old_one_is_refused(site: Site):
    with at_share(site, 25):
        body = WHY | {"share": 30}

        assert site.web.ask("PATCH", STATE, body).status == 428
        stale = site.web.ask("PATCH", STATE, body, revision=0)
        assert (stale.status, stale.json["revision"]) == (412, 1)
