"""The store's user needs no more than the documents say, and no less."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flagserver.domain.errors import Refusal, StoreUnavailable
from flagserver.storage.redis.store import RedisStore
from tests.contract.test_store_trouble import CALLS
from tests.servers import redis_server

DOCUMENT = Path(__file__).parents[2] / "docs/reference/storage.md"


def documented() -> list[str]:
    """Return the rules that the documents give a user."""
    found = re.search(r"`(~\{sortition\}:\*[^`]+)`", DOCUMENT.read_text(encoding="utf-8"))
    assert found
    return found[1].split()


def refused(store: RedisStore) -> set[str]:
    """Return the calls that the store's user may not make."""
    names = set()
    for name, call in CALLS.items():
        try:
            call(store)
        except StoreUnavailable:
            names.add(name)
        except Refusal:
            pass
    return names


@pytest.mark.needs("redis-server")
def test_a_user_with_the_documented_rights_may_do_all_that_is_asked(tmp_path: Path) -> None:
    rules = documented()
    with redis_server(tmp_path) as server, server.client() as admin:
        url = f"{server.url}?username=sortition&password=told"
        admin.execute_command("ACL", "SETUSER", "sortition", "on", ">told", *rules)
        with RedisStore(url) as store:
            assert refused(store) == set()

        admin.execute_command("ACL", "SETUSER", "sortition", "-time")
        with RedisStore(url) as store:
            assert "time" in refused(store)
