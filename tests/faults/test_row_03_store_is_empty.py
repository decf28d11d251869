"""Row 3: the store comes back empty, or is another one."""

from __future__ import annotations

import pytest

from tests.servers import redis_server

from .site import KEEPING, STATE, Site, at_share, until

pytestmark = pytest.mark.needs("redis-server")


def flush(site: Site) -> None:
    with site.redis.client() as client:
        client.flushall()


def test_a_flushed_store_replaces_nothing_also_across_a_restart(site: Site):
    with at_share(site, 25) as asker:
        site.until_kept()
        flush(site)
        until(lambda: "empty" in site.web.problems(), "the alarm")

        for _ in range(2):
            # nothing changes for anybody, and nothing is made in it
            with site.asker() as newcomer:
                assert newcomer.share == 25
                newcomer.goes_on()
            ready = site.web.ready()
            assert (ready["ready"], ready["writable"]) == (True, False)
            refused = site.web.ask("POST", f"{STATE}/kill", {})
            assert refused.status in {404, 503}
            with site.redis.client() as client:
                assert client.keys("{sortition}:*") == []
            site.web.kill()
            site.web.start()
            until(lambda: "empty" in site.web.problems(), "the alarm after a restart")
        assert asker.share == 25

        status, output = site.web.command("doctor")
        assert status == 9
        assert "empty" in output


@pytest.mark.slow
def test_the_right_data_brought_back_end_the_alarm(site: Site):
    with at_share(site, 25) as asker:
        site.until_kept()
        with site.redis.client() as client:
            kept = {key: client.dump(key) for key in client.keys("*")}
            client.flushall()
            until(lambda: "empty" in site.web.problems(), "the alarm")
            for key, value in kept.items():
                client.restore(key, 0, value)

        # A look in the midst of the restoring finds another reason for doubt, for a moment.
        until(lambda: site.web.share(50).status == 200, "changes to be possible")
        asker.until(50)


@pytest.mark.slow
def test_an_operator_accepts_an_empty_store_and_everybody_follows(site: Site):
    with at_share(site, 25) as asker:
        site.until_kept()
        flush(site)
        until(lambda: "empty" in site.web.problems(), "the alarm")

        status, output = site.web.command("store", "status")
        assert (status, "--store empty" in output) == (9, True)
        status, output = site.web.command("store", "accept", "--store", "wrong", "--reason", "x")
        assert (status, "is empty, and not wrong" in output) == (1, True)
        status, output = site.web.command("store", "accept", "--store", "empty", "--reason", "gone")
        assert status == 0, output

        site.until_writable()
        assert site.web.share(50).status == 200
        asker.until(50)
        version = asker.client.status().version
        assert version is not None
        assert version.split(".")[1] == "2"


@pytest.mark.slow
def test_another_store_at_the_same_address_replaces_nothing(site: Site):
    with (
        at_share(site, 25) as asker,
        redis_server(site.directory / "other", *KEEPING, port=True) as other,
    ):
        elsewhere = site.another_web("elsewhere")
        elsewhere.store_url = other.url
        elsewhere.start()
        until(lambda: elsewhere.ready()["writable"], "the other installation")
        elsewhere.create()

        site.store_proxy.upstream = other.url
        site.store_proxy.reset()
        until(lambda: "and not" in site.web.problems(), "the alarm")

        assert site.web.ask("POST", f"{STATE}/kill", {}).status == 503
        asker.goes_on()
        assert asker.share == 25
        # and the other's tokens open nothing here
        theirs = elsewhere.sdk_token()
        assert site.web.ask("GET", "/api/v1/sdk/snapshot", token=theirs).status == 503

        site.store_proxy.upstream = site.redis.url
        site.store_proxy.reset()
        site.until_writable()
        assert site.web.share(50).status == 200
        asker.until(50)
