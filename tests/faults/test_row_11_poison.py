"""Row 11: flags that cannot be: refused on writing, and whole snapshots of them by every reader.

The same octets are given to the server, on the wire and around it, and to an SDK.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sortition.core.evaluate import compile_flags
from sortition.core.model import InvalidSnapshot, Snapshot
from sortition.testing import snapshot_with

from .site import FLAG, STATE, WHY, Site, at_share, until

Poison = Callable[[dict[str, Any]], None]


def put(*path: str | int, value: Any) -> Poison:
    def poison(snapshot: dict[str, Any]) -> None:
        *way, last = path
        place: Any = snapshot
        for step in way:
            place = place[step]
        place[last] = value

    return poison


def drop(*path: str) -> Poison:
    def poison(snapshot: dict[str, Any]) -> None:
        *way, last = path
        place: Any = snapshot
        for step in way:
            place = place[step]
        del place[last]

    return poison


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


ON = ("flags", FLAG)
A_CONDITION = {"attribute": "cloud.region", "operator": "in", "values": ["eu"]}

POISONS: dict[str, Poison] = {
    "unknown format": put("format", value=2),
    "no flags": put("flags", value=None),
    "flags that are a list": put("flags", value=[]),
    "a flag that is nothing": put(*ON, value=None),
    "a share that is null": put(*ON, "share", value=None),
    "a share beyond all": put(*ON, "share", value=1_000_001),
    "a negative share": put(*ON, "share", value=-1),
    "a share that is no number": put(*ON, "share", value=float("nan")),
    "a share in words": put(*ON, "share", value="all"),
    "no weights": put(*ON, "weights", value=[]),
    "weights that are not whole": put(*ON, "weights", value=[["on", 999_999]]),
    "a weight of an unknown variant": put(*ON, "weights", value=[["purple", 1_000_000]]),
    "weights of one variant twice": put(*ON, "weights", value=[["on", 500_000], ["on", 500_000]]),
    "no variants": put(*ON, "variants", value={}),
    "a rest that is no variant": put(*ON, "rest", value="purple"),
    "no salt": drop(*ON, "salt"),
    "an empty salt": put(*ON, "salt", value=""),
    "killed, perhaps": put(*ON, "killed", value="perhaps"),
    "an unknown operator": put(*ON, "conditions", value=[A_CONDITION | {"operator": "smells"}]),
    "a condition on nothing": put(*ON, "conditions", value=[A_CONDITION | {"attribute": ""}]),
    "too many conditions": put(*ON, "conditions", value=[A_CONDITION] * 21),
    "a prerequisite that is not there": put(
        *ON, "prerequisites", value=[{"flag": "nobody", "variant": "on"}]
    ),
    "a flag that needs itself": put(*ON, "prerequisites", value=[{"flag": FLAG, "variant": "on"}]),
    "a value nested too deep": put(*ON, "variants", "on", value=nested(40)),
    "a value nested far too deep": put(*ON, "variants", "on", value=nested(900)),
    "a number that no language carries": put(*ON, "variants", "on", value=2**53),
    "a key that is none": put("flags", "No Key!", value={}),
    "no histogram": put("histogram_edges", value=None),
    "histogram edges that fall": put("histogram_edges", value=[2, 1]),
}


def poisoned(poison: Poison) -> dict[str, Any]:
    snapshot = json.loads(json.dumps(snapshot_with({FLAG: 25.0, "other": 5.0}).to_wire()))
    poison(snapshot)
    return dict(snapshot)


@pytest.mark.parametrize("name", POISONS)
def test_a_reader_takes_none_of_it(name: str):
    with pytest.raises(InvalidSnapshot):
        Snapshot.parse(poisoned(POISONS[name]))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), JSON)
def test_whatever_a_reader_is_given_it_takes_the_whole_or_says_where_it_is_wrong(
    data: st.DataObject, junk: Any
):
    snapshot = snapshot_with({FLAG: 25.0, "other": 5.0}).to_wire()
    place: Any = snapshot
    while True:
        step = data.draw(st.sampled_from(sorted(place)))
        inner = place[step]
        if not isinstance(inner, dict) or not inner or data.draw(st.booleans()):
            place[step] = junk
            break
        place = inner
    try:
        taken = Snapshot.parse(snapshot)
    except InvalidSnapshot:
        return
    compile_flags(taken.flags, {})


# --- the server -----------------------------------------------------------------------------------

FIELDS = ("share", "weights", "killed", "conditions", "prerequisites")


@pytest.mark.needs("redis-server")
@pytest.mark.slow
def test_the_server_writes_none_of_it_and_takes_none_of_it_from_its_store(site: Site):
    with at_share(site, 25) as asker, site.redis.client() as client:
        revision = site.web.ask("GET", STATE).json["revision"]
        version = asker.client.status().version
        healthy = poisoned(lambda snapshot: None)["flags"][FLAG]
        for name, poison in POISONS.items():
            flags = poisoned(poison)["flags"]
            flag = flags.get(FLAG) if isinstance(flags, dict) else None
            for field in FIELDS:
                value = (flag or {}).get(field)
                if value is None or value == healthy[field]:
                    continue
                answer = site.web.ask("PATCH", STATE, WHY | {field: value}, revision=revision)
                assert answer.status in {400, 422}, (name, answer)
        assert site.web.ask("GET", STATE).json["revision"] == revision

        # around the server: a document that was changed in the store itself
        collection = "{sortition}:documents:states/production"
        good = client.hget(collection, FLAG)
        assert isinstance(good, bytes)
        head, _, text = good.partition(b"|")
        state = json.loads(text)
        bad = state | {"weights": [["purple", 1_000_000]], "share": 1_000_000}
        client.hset(collection, FLAG, head + b"|" + json.dumps(bad).encode())
        client.hincrby("{sortition}:versions", "production", 1)
        until(lambda: "of production cannot be used" in site.web.problems(), "the alarm")

        assert asker.share == 25
        assert asker.client.status().version == version
        with site.asker() as newcomer:
            assert newcomer.share == 25
        # Other environments go on, and so does this one once it is mended.
        staging = f"/api/v1/flags/{FLAG}/environments/staging"
        site.web.ask("PATCH", staging, {"share": 10}, revision=0)
        client.hset(collection, FLAG, good)
        client.hincrby("{sortition}:versions", "production", 1)
        until(lambda: "cannot be used" not in site.web.problems(), "the end of the alarm")
        assert site.web.share(50).status == 200
        asker.until(50)


@pytest.mark.needs("redis-server")
def test_bodies_that_would_kill_a_parser_are_refused(site: Site):
    with at_share(site, 25) as asker:
        site.web.create("whole")
        deep = site.web.ask(
            "POST", "/api/v1/flags", {"key": "deep", "variants": {"on": nested(500), "off": 0}}
        )
        large = site.web.ask("POST", "/api/v1/flags", {"key": "large", "owner": "x" * 70_000})
        twice = site.web.ask("POST", "/api/v1/flags", {"key": "whole"})

        assert (deep.status, large.status, twice.status) == (400, 413, 409)
        assert asker.share == 25
