"""What the record says flags are, beside what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sortition.record import replay as replaying
from sortition.record.replay import BETWEEN, GONE, NEW, OTHER, Replayed, replay

from flagserver.domain.commands import Enlarging, FlagEdit, NewFlag, Reasoned, StateEdit
from flagserver.domain.documents import Write, states
from flagserver.services.pruning import read_things
from flagserver.storage.redis import keys
from tests.builders import ADMIN, SURE
from tests.engines import FLAG, Engine


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(directory=tmp_path)


def replayed(engine: Engine) -> Replayed:
    """What an auditor finds now."""
    of, things = read_things(engine.store)
    links = engine.store.record(limit=10**6)[:of]
    return replay([it.text for it in links], things)


def around(engine: Engine, key: str, collection: str, **changes: Any) -> None:
    """Change a document in the store itself."""
    place = keys.documents(collection)
    revision, _, body = engine.store._server.read("HGET", place, key).partition(b"|")
    changed = json.dumps({**json.loads(body), **changes}).encode()
    engine.store._server.write("HSET", place, key, revision + b"|" + changed)


def set_share(engine: Engine, share: float, environment: str = "production") -> None:
    flags = engine.services.flags
    revision = flags.state(FLAG, environment).revision
    edit = StateEdit.model_validate({"share": share, **SURE})
    flags.change(FLAG, environment, edit, revision, ADMIN)


def test_every_way_to_change_a_flag_is_told_whole(engine: Engine):
    flags = engine.services.flags
    flags.create(NewFlag(key="another"), ADMIN)
    flags.edit("another", FlagEdit(owner="team"), flags.get("another").revision, ADMIN)
    set_share(engine, 25)
    flags.kill(FLAG, "production", Reasoned(), ADMIN)
    state = flags.state(FLAG, "production")
    flags.unkill(FLAG, "production", Enlarging(**SURE), state.revision, ADMIN)
    flags.archive(FLAG, Reasoned(), flags.get(FLAG).revision, ADMIN)
    # It comes back killed where it was exposed.
    flags.unarchive(FLAG, Reasoned(), flags.get(FLAG).revision, ADMIN)
    assert flags.state(FLAG, "production").state.killed

    found = replayed(engine)

    assert (found.findings, found.things) == ((), 3)


@pytest.mark.parametrize("end", ["completes", "goes back"])
def test_what_rollouts_make_of_flags_follows_from_their_entries(engine: Engine, end: str):
    id = engine.start()
    engine.run(600)
    assert replayed(engine).findings == ()
    if end == "goes back":
        engine.rollouts.roll_back(id, Reasoned(), ADMIN)
    engine.run(3 * 3600)
    assert engine.share == (0 if end == "goes back" else 100)

    found = replayed(engine)

    assert (found.findings, found.things) == ((), 2)


def test_a_flag_that_was_changed_around_the_server_is_found(engine: Engine):
    set_share(engine, 5)
    around(engine, FLAG, states("production"), share=990_000)

    (finding,) = replayed(engine).findings

    assert (finding.kind, finding.thing) == (OTHER, f"production/flag/{FLAG}")
    assert finding.words == f"entry {finding.seq} left it with another share"


def test_a_salt_that_was_drawn_anew_around_the_server_is_found(engine: Engine):
    around(engine, FLAG, "flags", salt="ffffffffffffffff")

    (finding,) = replayed(engine).findings

    assert (finding.kind, finding.thing) == (OTHER, f"flag/{FLAG}")
    assert "another salt" in finding.words


def test_one_that_was_changed_back_is_found_by_the_entry_that_met_it(engine: Engine):
    set_share(engine, 5)
    around(engine, FLAG, states("production"), share=990_000)
    set_share(engine, 5)

    (finding,) = replayed(engine).findings

    assert (finding.kind, finding.thing) == (BETWEEN, f"production/flag/{FLAG}")
    assert "found it other than" in finding.words


def test_one_that_was_exposed_before_any_entry_is_found(engine: Engine):
    body = engine.services.flags.state(FLAG, "staging").state.to_body()
    write = Write(states("staging"), FLAG, 0, {**body, "share": 990_000})
    value = b"1|" + json.dumps(write.body).encode()
    engine.store._server.write("HSET", keys.documents(write.collection), FLAG, value)
    (finding,) = replayed(engine).findings
    assert (finding.kind, finding.thing) == (NEW, f"staging/flag/{FLAG}")

    set_share(engine, 5, "staging")

    (finding,) = replayed(engine).findings
    assert finding.kind == BETWEEN
    assert "no entry had done that" in finding.words


def test_one_that_is_gone_is_found(engine: Engine):
    set_share(engine, 5)
    engine.store._server.write("HDEL", keys.documents(states("production")), FLAG)

    (finding,) = replayed(engine).findings

    assert (finding.kind, finding.thing) == (GONE, f"production/flag/{FLAG}")


def test_flags_that_a_server_filled_an_empty_store_with_cannot_be_told():
    """Their entry counts them and does not tell them."""
    accept = entry(1, "store:accept", "store/x", after={"filled": {"production": 2}, "killed": {}})
    changed = entry(2, "flag:share:change", "flag/b", "production", after={"share": 2})
    live = {"production/flag/a": {"share": 1}, "production/flag/b": {"share": 2}}

    found = replay([accept, changed], live)

    assert (found.findings, found.unknown, found.things) == ((), ("production/flag/a",), 1)


def test_what_an_operator_killed_is_known_to_be_killed():
    changed = entry(1, "flag:share:change", "flag/a", "production", after={"killed": False})
    told = {"filled": {}, "killed": {"production": ["a", "older"]}}
    accept = entry(2, "store:accept", "store/x", after=told)
    live = {"production/flag/a": {"killed": True}, "production/flag/older": {"killed": True}}

    found = replay([changed, accept], live)

    assert (found.findings, found.unknown) == ((), ("production/flag/older",))
    live["production/flag/a"] = {"killed": False}
    assert [it.kind for it in replay([changed, accept], live).findings] == [OTHER]


def entry(seq: int, action: str, target: str, environment: str | None = None, **told: Any) -> str:
    body = {"seq": seq, "action": action, "target": target, "environment": environment}
    return json.dumps({**body, "before": None, "after": None, **told})


def test_a_number_is_the_same_however_it_is_written():
    one, other = {"share": 5.0, "changed": "then"}, {"share": 5, "changed": "now"}

    assert replaying.digest(one) == replaying.digest(other)
