"""Row 2: the store dies under a server that serves."""

from __future__ import annotations

import pytest

from .site import STATE, Site, at_share, kill, until

pytestmark = pytest.mark.needs("redis-server")


def test_reads_go_on_streams_stay_open_and_nothing_has_to_be_restarted(site: Site):
    with at_share(site, 25) as asker:
        connections = len(site.front_proxy.accepted)

        kill(site.redis.pid)
        until(lambda: not site.web.ready()["writable"], "the server to notice")

        # reads come from memory, writes are refused and say when to try again
        token = site.sdk_token()
        snapshot = site.web.ask("GET", "/api/v1/sdk/snapshot", token=token)
        assert snapshot.json["flags"]["new-search"]["share"] == 250_000
        ready = site.web.ask("GET", "/readyz")
        assert (ready.status, ready.json["ready"]) == (200, True)
        for refused in (
            site.web.ask("POST", f"{STATE}/kill", {}),
            site.web.ask("PATCH", STATE, {"share": 1}, revision=1),
        ):
            assert (refused.status, refused.json["code"]) == (503, "store_unavailable")
            assert int(refused.headers["Retry-After"]) >= 1
        asker.goes_on()

        # it comes back with its data, and so does everything else
        site.redis.kill()
        site.redis.start()
        site.until_writable()
        assert site.web.share(50).status == 200
        asker.until(50)
        # The stream was the same all the while; outcomes make connections of their own.
        assert asker.client.status().errors.keys() <= {"outcomes_status_503"}
        assert connections >= 1
