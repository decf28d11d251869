"""A store that is cut off from its replica: a failover would forget what is committed to it now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from flagserver.storage.redis import keys
from flagserver.storage.redis.store import RedisStore
from tests.engines import Engine
from tests.proxy import Proxy
from tests.servers import Cluster, Server, redis_cluster, redis_server, wait_until

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
        answers_in_time(store)
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
        answers_in_time(store)
        engine.run(10)
        assert (engine.weight, engine.share) == (25, 25)


def answers_in_time(store: RedisStore) -> None:
    """Wait until the replica has what is written within the time that a write waits for it."""
    lease = store.acquire("probe", "a test", ttl_seconds=60)
    assert lease is not None
    wait_until(lambda: store.secure(lease, ttl_seconds=60), "the replica to have it in time")


@pytest.mark.slow
def test_the_same_in_a_cluster_by_the_replica_of_the_node_that_has_our_keys(
    tmp_path: Path,
) -> None:
    with (
        redis_cluster(tmp_path) as cluster,
        a_replica(cluster, tmp_path / "replica") as replica,
        RedisStore(cluster.url) as store,
    ):
        lease = store.acquire("rollout/r-1", "one", ttl_seconds=15)
        assert lease is not None
        wait_until(lambda: store.secure(lease, ttl_seconds=15), "the replica to have it")

        replica.kill()
        assert not store.secure(lease, ttl_seconds=15)


@contextmanager
def a_replica(cluster: Cluster, directory: Path) -> Iterator[Server]:
    """Give the node that has our keys a replica."""
    with (
        cluster.client() as client,
        redis_server(
            *(directory, "--cluster-enabled", "yes", "--repl-diskless-sync-delay", "0"), port=True
        ) as replica,
        replica.client() as own,
    ):
        ours = client.get_node_from_key(keys.META)
        [bus] = [
            node.options[node.options.index("--cluster-port") + 1]
            for node in cluster.nodes
            if node.url.endswith(f":{ours.port}")
        ]
        own.execute_command("CLUSTER", "MEET", "127.0.0.1", ours.port, bus)
        with redis.Redis(port=ours.port) as master:
            master.config_set("repl-diskless-sync-delay", 0)
            id = master.execute_command("CLUSTER", "MYID")

        def knows_it() -> bool:
            try:
                return bool(own.execute_command("CLUSTER", "REPLICATE", id))
            except redis.ResponseError:
                return False

        wait_until(knows_it, "the replica to know the node")
        wait_until(
            lambda: own.info("replication")["master_link_status"] == "up", "the replica to follow"
        )
        yield replica
