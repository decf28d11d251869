"""What real SDKs draw comes back as counts, and the report holds them against the lot."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from itertools import count

import pytest
import sortition
from sortition.core import bucketing

from flagserver.domain.commands import NewToken
from flagserver.services.neutrality import Report
from tests.admin.house import ANA, House
from tests.servers import wait_until

FLAG = "new-search"


@pytest.fixture
def house() -> House:
    """A flag that has been at 25 % for half an hour."""
    house = House()
    house.clock.late = 1800
    house.flag(FLAG)
    house.share(FLAG, 25.0)
    house.clock.late = 0
    return house


@pytest.fixture
def client(house: House) -> Iterator[sortition.Client]:
    command = NewToken(scope="sdk", environment="production")
    key = house.services.tokens.create(command, ANA).text
    with house.served() as address:
        made = sortition.Client(address, key=key, resource={"service.name": "shop"}, snapshot="")
        with closing(made):
            assert made.wait_ready(20), made.status()
            yield made


def some_ids(salt: str) -> list[str]:
    """Ids that are no rare case for this salt, which is drawn anew in each run: 4,000 of which
    about 1,000 are exposed at 25 %."""
    seed, edge = bucketing.seed(salt), bucketing.threshold(250_000)
    for attempt in count():
        chance = random.Random(attempt)
        ids = [f"{chance.getrandbits(128):032x}" for _ in range(4_000)]
        if abs(sum(bucketing.point(id, seed) < edge for id in ids) - 1_000) < 50:
            return ids
    raise AssertionError


def report(house: House) -> Report:
    """The report two minutes from now, when what was served has settled."""
    house.clock.late = -125
    (found,) = house.services.neutrality.reports(FLAG, "production")
    return found


def test_what_a_client_draws_is_reported_and_as_expected(
    house: House, client: sortition.Client
) -> None:
    ids = some_ids(house.services.flags.get(FLAG).flag.salt)

    on = sum(client.is_enabled(FLAG, id) for id in ids)
    client.close(5)

    wait_until(lambda: report(house).ratio.assignments == 4_000, "what was served to be told")
    found = report(house)
    assert found.ratio.kind == "within", found.ratio
    assert {row.name: row.count for row in found.ratio.variants} == {"on": on, "off": 4_000 - on}
    # Of each tick a sample of 64, whatever became of them.
    assert found.points.points % 64 == 0
    assert found.points.points > 0
    assert found.points.kind == "too_few"


def test_one_id_that_asks_all_the_time_is_outside(house: House, client: sortition.Client) -> None:
    """As where a health check asks with an id of its own: counts come in one lump."""
    for _ in range(2_000):
        client.is_enabled(FLAG, "health-check")
    client.close(5)

    wait_until(lambda: report(house).ratio.assignments == 2_000, "what was served to be told")
    assert report(house).ratio.kind == "outside"
