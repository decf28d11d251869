"""Row 4 with real Sentinels: they notice, they agree, and everybody finds the new master."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis

from flagserver.processes import Child, Process
from tests.servers import Server, free_ports, redis_server

from .site import KEEPING, Site, Web, a_site, at_share, until

pytestmark = [pytest.mark.needs("redis-server"), pytest.mark.slow]

SERVICE = "flags"
DOWN_MILLISECONDS = 1_500
PROMPT = ("--repl-diskless-sync-delay", "0")
"""Else a replica waits five seconds before it is in step."""


@contextmanager
def sentinels(directory: Path, master: Server, count: int = 3) -> Iterator[list[int]]:
    """Run Sentinels that watch a master, until they know each other and its replicas."""
    ports = free_ports(count)
    binary = shutil.which("redis-server")
    assert binary
    with ExitStack() as stack:
        for port in ports:
            place = directory / f"sentinel-{port}"
            place.mkdir(parents=True)
            settings = place / "sentinel.conf"
            settings.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {place}\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {master.url.rpartition(':')[2]} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} {DOWN_MILLISECONDS}\n"
                f"sentinel failover-timeout {SERVICE} 10000\n"
            )
            command = (binary, str(settings), "--sentinel")
            process = Process(Child("sentinel", command), lambda _: None)
            stack.callback(process.stop, 5)
        until(lambda: all(knows_all(port, count) for port in ports), "the Sentinels to agree")
        yield ports


def knows_all(port: int, count: int) -> bool:
    try:
        with redis.Redis(port=port, socket_timeout=1) as client:
            [state] = client.sentinel_masters().values()
    except (redis.RedisError, ValueError):
        return False
    return state["num-other-sentinels"] == count - 1 and state["num-slaves"] == 1


@contextmanager
def a_guarded_site(directory: Path) -> Iterator[tuple[Site, Server]]:
    """Run a site whose server asks Sentinels where its store is; give its replica too."""
    with ExitStack() as stack:
        site = stack.enter_context(a_site(directory, *KEEPING, *PROMPT, started=False))
        port = site.redis.url.rpartition(":")[2]
        options = (*KEEPING, *PROMPT, "--replicaof", "127.0.0.1", port)
        replica = stack.enter_context(redis_server(directory / "replica", *options, port=True))
        ports = stack.enter_context(sentinels(directory, site.redis))
        places = ",".join(f"127.0.0.1:{port}" for port in ports)
        site.web.store_url = f"redis-sentinel://{places}/{SERVICE}"
        site.web.start()
        site.until_writable()
        yield site, replica


def test_everybody_finds_the_new_master_and_nothing_is_restarted(tmp_path: Path):
    with a_guarded_site(tmp_path) as (site, replica), at_share(site, 25) as asker:
        until(lambda: length(replica) == length(site.redis), "the replica to be in step")

        site.redis.kill()
        until(lambda: not site.web.ready()["writable"], "the loss to be noticed")
        asker.goes_on()

        site.until_writable()
        assert site.web.share(50).status == 200
        asker.until(50)
        assert "lost" not in site.web.problems()


def test_a_server_that_starts_after_the_failover_finds_it_too(tmp_path: Path):
    with a_guarded_site(tmp_path) as (site, replica), at_share(site, 25):
        until(lambda: length(replica) == length(site.redis), "the replica to be in step")
        site.redis.kill()
        newcomer = Web(tmp_path / "newcomer", site.web.store_url, site.web.token)
        site.stack.callback(newcomer.kill)
        newcomer.start()

        until(lambda: newcomer.ready()["writable"], "the newcomer")
        assert newcomer.share(40).status == 200


def length(server: Server) -> int:
    with server.client() as client:
        return int(client.xlen("{sortition}:record"))
