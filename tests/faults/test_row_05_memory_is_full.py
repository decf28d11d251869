"""Row 5: the store's memory is full, or it throws away what it has no room for."""

from __future__ import annotations

import pytest

from .site import KEEPING, STATE, Site, at_share, until

pytestmark = pytest.mark.needs("redis-server")

EVICTING = (*KEEPING, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")


def test_a_full_store_refuses_changes_as_a_whole_and_goes_on_when_there_is_room(site: Site):
    with at_share(site, 25) as asker, site.redis.client() as client:
        version = site.web.ask("GET", "/api/v1/status").json["versions"]["production"]
        record, seq = client.xlen("{sortition}:record"), site.meta()["seq"]

        client.config_set("maxmemory", "1mb")
        refused = site.web.share(50)

        assert (refused.status, refused.json["code"]) == (503, "store_unavailable")
        assert "memory is full" in refused.json["detail"]
        assert "Nothing was changed" in refused.json["detail"]
        assert int(refused.headers["Retry-After"]) >= 1
        # nothing is half done, and reading goes on
        assert (client.xlen("{sortition}:record"), site.meta()["seq"]) == (record, seq)
        assert int(client.hget("{sortition}:versions", "production") or 0) == version
        assert site.web.ask("GET", STATE).json["share"] == 25
        # It is looked at every half minute, and after every interruption.
        site.store_proxy.reset()
        until(lambda: "% full" in site.web.problems(), "the warning")
        asker.goes_on()

        client.config_set("maxmemory", "0")
        assert site.web.share(50).status == 200
        asker.until(50)


@pytest.mark.slow
def test_a_store_that_would_throw_flags_away_is_not_begun_with(site: Site):
    from tests.servers import redis_server

    with redis_server(site.directory / "evicting", *EVICTING, port=True) as evicting:
        web = site.another_web("new")
        web.store_url = evicting.url
        web.start()

        def said() -> str:
            return " ".join(web.lines)

        until(lambda: "throws flags away" in said(), "the warning")
        assert web.ask("GET", "/readyz").status == 503
        with evicting.client() as client:
            assert client.keys("*") == []
            status, output = web.command("doctor")
            assert (status, "maxmemory-policy noeviction" in output) == (9, True)

            client.config_set("maxmemory-policy", "noeviction")
        until(lambda: web.ready()["writable"], "the store to be taken")


@pytest.mark.slow
def test_a_store_that_begins_to_throw_flags_away_is_no_longer_followed(site: Site):
    with at_share(site, 25) as asker, site.redis.client() as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        # It is looked at every half minute, and after every interruption.
        site.store_proxy.reset()
        until(lambda: "throws flags away" in site.web.problems(), "the alarm")

        refused = site.web.share(50)
        assert (refused.status, refused.json["code"]) == (503, "store_unavailable")
        assert asker.share == 25

        client.config_set("maxmemory-policy", "noeviction")
        site.until_writable()
        assert site.web.share(50).status == 200
        asker.until(50)


@pytest.mark.slow
def test_a_store_without_a_log_on_disk_is_named(tmp_path_factory: pytest.TempPathFactory):
    from .site import a_site

    with a_site(tmp_path_factory.mktemp("lax"), "--appendonly", "no") as site:
        assert "keeps no log on disk" in site.web.problems()
        assert site.web.ready()["problems"]
        status, output = site.web.command("doctor")
        assert (status, "appendonly yes" in output) == (0, True)
