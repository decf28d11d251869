"""A store that is cut off from its replica: a failover would forget what is committed to it now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flagserver.storage.redis.store import RedisStore
from tests.engines import Engine
from tests.proxy import Proxy
from tests.servers import Server, redis_server, wait_until

pytestmark = pytest.mark.needs("redis-server")


class Pair:
    """A store and its replica, with a network between them that can fail."""

    def __init__(self, primary: Server, replica: Server, between: Proxy) -> None:
        self.primary, self.replica, self.between = primary, replica, between

    def linked(self) -> bool:
        with self.replica.client() as client:
            return bool(client.info("replication")["master_link_status"] == "up")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with (
        redis_server(tmp_path / "primary", "--repl-diskless-sync-delay", "0", port=True) as primary,
        Proxy(primary.url) as between,
        redis_server(
            *(tmp_path / "replica", "--replicaof", "127.0.0.1", str(between.port)), port=True
        ) as replica,
    ):
        pair = Pair(primary, replica, between)
        wait_until(pair.linked, "the replica to follow")
        yield pair


def test_a_lease_is_secure_when_a_replica_has_it(pair: Pair) -> None:
    with RedisStore(pair.primary.url) as store:
        lease = store.acquire("rollout/r-1", "one", ttl_seconds=15)
        assert lease is not None
        # A replica on a busy machine may take longer than the 200 ms, once.
        wait_until(lambda: store.secure(lease, ttl_seconds=15), "the replica to have it")

        pair.between.hole()
        assert not store.secure(lease, ttl_seconds=15)


def test_nothing_is_enlarged_meanwhile_and_everything_can_go_back(
    pair: Pair, tmp_path: Path
) -> None:
    with RedisStore(pair.primary.url) as store:
        engine = Engine(directory=tmp_path, over=store)
        id = engine.start(guards=[], schedule="5%:15s,25%:15s,100%")
        engine.run(15)
        assert (engine.weight, engine.share) == (5, 5)

        pair.between.hole()
        engine.run(30)
        assert (engine.weight, engine.share) == (5, 5)
        assert engine.rollout(id).is_pending_intent
        assert engine.controller.held == {}

        pair.between.heal()
        pair.between.cut()
        wait_until(pair.linked, "the replica to follow again")
        engine.run(10)
        assert (engine.weight, engine.share) == (25, 25)
