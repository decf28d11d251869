"""Row 1: a server that starts while its store is away."""

from __future__ import annotations

from pathlib import Path

import pytest

from .site import STATE, Site, Web, a_site, at_share, until

pytestmark = pytest.mark.needs("redis-server")


def test_it_serves_its_own_disk_read_only_and_goes_on_when_the_store_is_back(site: Site):
    with at_share(site, 25) as asker:
        site.until_kept()
        site.web.kill()
        site.redis.kill()

        # when the server starts without its store
        assert site.web.start() < 10
        ready = site.web.ask("GET", "/readyz")

        # then flags are served, and it says that they are its own
        assert (ready.status, ready.json["ready"]) == (200, True)
        assert (ready.json["source"], ready.json["writable"]) == ("disk", False)
        with site.asker() as newcomer:
            assert newcomer.share == 25
            newcomer.goes_on()
        refused = site.web.ask("POST", f"{STATE}/kill", {})
        assert (refused.status, refused.json["code"]) == (503, "store_unavailable")
        assert int(refused.headers["Retry-After"]) >= 1

        # and when the store is back, it follows, without a restart
        site.redis.start()
        site.until_writable()
        assert site.web.ready()["source"] == "store"
        assert site.web.share(50).status == 200
        asker.until(50)


@pytest.mark.slow
def test_with_nothing_on_disk_it_refuses_and_never_serves_an_empty_set(site: Site):
    with at_share(site, 25) as asker:
        token = site.sdk_token()
        site.redis.kill()
        fresh = site.another_web()
        fresh.start()

        for path in ("/readyz", "/api/v1/sdk/snapshot", "/api/v1/flags"):
            answer = fresh.ask("GET", path, token=token)
            assert (answer.status, answer.json["status"]) == (503, 503), path
            assert int(answer.headers["Retry-After"]) >= 1, path
        assert not fresh.ready()["ready"]

        site.redis.start()
        until(lambda: fresh.ready()["ready"], "the newcomer to serve")
        snapshot = fresh.ask("GET", "/api/v1/sdk/snapshot", token=token)
        assert snapshot.json["flags"]["new-search"]["share"] == 250_000
        asker.goes_on()


def test_a_first_admin_token_that_cannot_be_one_stops_the_start_without_the_store(tmp_path: Path):
    with a_site(tmp_path, started=False) as site:
        site.redis.kill()
        wrong = Web(tmp_path / "wrong", site.store_proxy.url, "secret")

        status, output = wrong.command("web")

        assert status == 1
        assert "SORTITION_ADMIN_TOKEN_FILE" in output
        assert "secret" not in output
