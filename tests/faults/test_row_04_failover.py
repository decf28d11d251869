"""Row 4: a failover to a replica that lacks the last changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.proxy import Proxy
from tests.servers import Server, redis_server

from .site import KEEPING, STATE, Site, at_share, until

pytestmark = pytest.mark.needs("redis-server")


@contextmanager
def a_replica(site: Site) -> Iterator[tuple[Server, Proxy]]:
    """Run a replica of the site's store, over a proxy of its own, and wait until it is in step."""
    with Proxy(site.redis.url) as link:
        options = (*KEEPING, "--replicaof", "127.0.0.1", str(link.port))
        with redis_server(site.directory / "replica", *options, port=True) as replica:
            until(lambda: in_step(site, replica), "the replica to be in step")
            yield replica, link


def in_step(site: Site, replica: Server) -> bool:
    with replica.client() as client:
        up = client.info("replication")["master_link_status"] == "up"
        seq = client.hget("{sortition}:meta", "seq")
    return up and seq == site.meta()["seq"].encode()


def fail_over(site: Site, replica: Server) -> None:
    """What a Sentinel does, and what then stands at the store's address."""
    site.redis.kill()
    site.store_proxy.upstream = replica.url
    site.store_proxy.reset()


def promote(replica: Server) -> None:
    with replica.client() as client:
        client.replicaof("NO", "ONE")


@pytest.mark.slow
def test_a_failover_that_lost_nothing_is_a_short_refusal(site: Site):
    with at_share(site, 25) as asker, a_replica(site) as (replica, _):
        fail_over(site, replica)
        # Not promoted yet: it refuses, and that is told as it is.
        until(lambda: "replica" in site.web.problems(), "the replica to be seen")
        refused = site.web.ask("POST", f"{STATE}/kill", {})
        assert (refused.status, refused.json["code"]) == (503, "store_unavailable")
        assert "read-only replica" in refused.json["detail"]
        assert int(refused.headers["Retry-After"]) >= 1

        promote(replica)

        site.until_writable()
        answer = site.web.share(50)
        assert answer.status == 200, answer
        asker.until(50)


@pytest.mark.slow
def test_what_a_failover_lost_is_never_taken_back_in_silence(site: Site):
    with at_share(site, 25) as asker, a_replica(site) as (replica, link):
        # given changes that were answered and did not reach the replica: a kill among them
        link.hole()
        assert site.web.share(50).status == 200
        assert site.web.ask("POST", f"{STATE}/kill", {}).status == 200
        asker.until(0)
        site.until_kept()
        served = asker.client.status().version

        # when it takes over
        fail_over(site, replica)
        promote(replica)
        until(lambda: "lost changes" in site.web.problems(), "the alarm")

        # then the kill holds, for those who listen, for newcomers, and after a restart
        site.web.kill()
        site.web.start()
        until(lambda: "lost changes" in site.web.problems(), "the alarm after a restart")
        with site.asker() as newcomer:
            assert newcomer.share == asker.share == 0
        refused = site.web.ask("PATCH", STATE, {"share": 1}, revision=1)
        assert (refused.status, refused.json["code"]) == (503, "store_unavailable")

        # until an operator decides: in a new epoch, with what was killed still killed
        status, output = site.web.command("store", "status")
        assert status == 9
        assert "expose more in production: new-search" in output
        id = site_id(replica)
        status, output = site.web.command("store", "accept", "--store", id, "--reason", "failover")
        assert status == 0, output
        assert "Killed in production: new-search" in output
        site.until_writable()
        assert site.web.share(10).status == 200
        assert site.web.ask("GET", STATE).json["killed"] is True
        revision = site.web.ask("GET", STATE).json["revision"]
        sure = {"reason": "all is well", "confirm_environment": "production"}
        assert site.web.ask("POST", f"{STATE}/unkill", sure, revision=revision).status == 200
        asker.until(10)
        assert served is not None
        now = asker.client.status().version
        assert now is not None
        assert now.split(".")[1] == "2"
        assert served.split(".")[1] == "1"


def site_id(server: Server) -> str:
    with server.client() as client:
        return str(client.hget("{sortition}:meta", "store").decode())
