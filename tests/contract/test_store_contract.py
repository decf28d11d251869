"""What a store of documents promises, told on every kind of store that there is.

The other doors are in test_outcomes_contract.py and test_small_doors_contract.py; what happens
when servers fail is in test_store_trouble.py.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sortition.record.entry import find_break

from flagserver.domain import documents
from flagserver.domain.documents import Change, Fact, Write
from flagserver.domain.errors import (
    AlreadyExists,
    ClaimTaken,
    Conflict,
    IdempotencyMismatch,
    Moved,
    Refusal,
    StaleRevision,
    StoreUnavailable,
)
from flagserver.storage.redis import documents as driver
from flagserver.storage.redis import keys
from flagserver.storage.redis.store import RedisStore
from tests.contract.changes import STORE, commit, everything, once, set_share, write
from tests.contract.conftest import Backend
from tests.contract.troubles import Meddling, after, answer_lost, question_lost

# --- which store this is --------------------------------------------------------------------------


def test_an_empty_store_takes_the_first_identity_it_is_given(backend: Backend):
    ours, theirs = backend.open(), backend.open()

    assert ours.identity() is None

    first = ours.initialise(STORE)

    assert (first.store, first.epoch) == (STORE, 1)
    assert theirs.initialise("0ther0ther") == first
    assert theirs.identity() == first


def test_many_processes_that_set_up_one_store_agree(backend: Backend):
    stores = [backend.open() for _ in range(8)]

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda n: stores[n].initialise(f"store-{n}"), range(8)))

    assert len(found) == 1


def test_an_empty_store_takes_no_change_and_has_no_environments(backend: Backend):
    store = backend.open()

    with pytest.raises(Conflict, match="empty"):
        commit(store, set_share(5, revision=0))
    with pytest.raises(Conflict, match="empty"):
        store.read_environment("production")


def test_a_store_that_was_flushed_takes_no_change_from_those_who_knew_it(
    backend: Backend, store: RedisStore
):
    commit(store, set_share(5, revision=0))
    backend.empty()

    with pytest.raises(Conflict, match="empty"):
        commit(store, set_share(25, revision=1))

    backend.open().initialise("another")

    with pytest.raises(Conflict, match="another one"):
        commit(store, set_share(25, revision=0))
    assert store.record() == []


def test_a_new_epoch_refuses_what_was_decided_before_it(backend: Backend, store: RedisStore):
    commit(store, set_share(5, revision=0))
    backend.raw().hset(keys.META, "epoch", 2)

    with pytest.raises(Conflict, match="epoch 2"):
        commit(store, set_share(25, revision=1))
    commit(store, set_share(50, revision=1))

    assert find_break(store.record()) is None
    assert [entry["epoch"] for entry in _history(store)] == [2, 1]
    assert [event.id for event in store.events("0-0", 0)] == ["1-1", "2-2"]


# --- one change, all of it ------------------------------------------------------------------------


def test_a_change_writes_document_version_entry_and_event(store: RedisStore):
    before = store.feed_end()

    done = commit(store, set_share(25, revision=0))

    assert (done.seq, dict(done.versions), done.repeated) == (1, {"production": 1}, False)
    document = store.read("states/production", "new-search")
    assert document == documents.Document("states/production", "new-search", 1, {"share": 25})
    assert store.versions() == {"production": 1}
    [event] = store.events(before, 0)
    assert (event.seq, event.flags) == (1, ("new-search",))
    assert event.versions == {"production": (0, 1)}
    assert event.documents == (("states/production", "new-search"),)
    [entry] = _history(store)
    assert entry["ts"] == "2026-11-23T08:15:30.123Z"
    assert (entry["before"], entry["after"]) == (None, {"share": 25})
    assert find_break(store.record()) is None


def test_a_change_may_write_nothing_but_its_entry(store: RedisStore):
    fact = Fact("person:1", "admin", "session:begin", "person:1")

    done = commit(store, Change(writes=(), fact=fact))

    assert (done.seq, done.versions) == (1, {})
    assert store.events("0-0", 0)[0].documents == ()
    assert [entry["action"] for entry in _history(store)] == ["session:begin"]


def test_a_change_writes_several_documents_or_none(store: RedisStore):
    commit(store, set_share(5, revision=0))
    many = replace(
        set_share(25, revision=1),
        writes=(
            Write(documents.FLAGS, "new-search", 0, {"kind": "temporary"}),
            Write("states/production", "new-search", 1, {"share": 25}),
            Write("states/staging", "new-search", 0, {"share": 100}),
        ),
        environments=("production", "staging"),
    )
    one_is_stale = replace(many, writes=(*many.writes, Write("tokens", "ab12", 3, {})))

    with pytest.raises(StaleRevision):
        commit(store, one_is_stale)
    assert store.read_all(documents.FLAGS) == {}

    assert commit(store, many).versions == {"production": 2, "staging": 1}
    assert store.read_all(documents.FLAGS)["new-search"].body == {"kind": "temporary"}


def test_some_documents_of_a_collection_are_read_by_their_keys(store: RedisStore):
    names = [f"flag-{i}" for i in range(5)]
    writes = tuple(Write(documents.FLAGS, name, 0, {"number": name}) for name in names)
    commit(store, replace(set_share(5, revision=0), writes=writes, environments=()))

    assert sorted(store.keys(documents.FLAGS)) == names
    found = store.read_some(documents.FLAGS, ["flag-3", "no-such", "flag-1"])
    assert {key: (it.revision, it.body["number"]) for key, it in found.items()} == {
        "flag-1": (1, "flag-1"),
        "flag-3": (1, "flag-3"),
    }
    assert found["flag-1"] == store.read(documents.FLAGS, "flag-1")
    assert store.read_some(documents.FLAGS, []) == {}
    assert (store.keys("no-such"), store.read_some("no-such", names)) == ([], {})


def test_a_document_that_moves_goes_on_counting(store: RedisStore):
    commit(store, write("here", "it", 0, {"at": 1}))
    commit(store, write("here", "it", 1, {"at": 2}))
    moves = (Write("here", "it", 2, None), Write("there", "it", 0, {"at": 3}, revision=3))

    commit(store, replace(write("here", "it", 2, {}), writes=moves))

    assert store.read("here", "it") is None
    moved = store.read("there", "it")
    assert moved is not None
    assert (moved.revision, moved.body) == (3, {"at": 3})
    with pytest.raises(StaleRevision):
        commit(store, write("there", "it", 1, {}))
    commit(store, write("there", "it", 3, {}))


@pytest.mark.parametrize("revision", [0, 1, 2])
def test_a_revision_that_does_not_rise_is_a_mistake(store: RedisStore, revision: int):
    change = write("here", "it", 2, {})

    with pytest.raises(ValueError, match="rises"):
        commit(store, replace(change, writes=(Write("here", "it", 2, {}, revision=revision),)))


def test_a_change_that_writes_a_document_twice_is_a_mistake(store: RedisStore):
    change = set_share(5, revision=0)

    with pytest.raises(ValueError, match="once"):
        commit(store, replace(change, writes=change.writes * 2))


BODIES = [
    {"empty": {}, "none": [], "null": None},
    {"numbers": [0, -1, 2**53 - 1, 0.1, 1e-7, 12345678901234.5]},
    {"text": 'quotes " \\ / \b \u0000 \u2028 é 漢 😀 |}{'},
    {"deep": [[[[[[{"a": [True, False]}]]]]]]},
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: next(iter(body)))
def test_bodies_come_back_exactly_as_they_were(store: RedisStore, body: dict[str, Any]):
    commit(store, write("flags", "exact", 0, body))

    found = store.read("flags", "exact")
    assert found is not None
    assert found.body == body
    assert [entry["after"] for entry in _history(store)] == [body]
    assert find_break(store.record()) is None


def test_a_body_that_json_cannot_carry_changes_nothing(store: RedisStore):
    before = everything(store)

    for value in (float("nan"), {1, 2}, "\ud800", 2**60):
        with pytest.raises((ValueError, TypeError)):
            commit(store, write("flags", "wrong", 0, {"value": value}))

    assert everything(store) == before


@pytest.mark.parametrize("name", ["a:b", "{a}b", "a/b", "%7B", "ä 漢", "*", "a}{b", "from/x", ""])
def test_names_of_any_form_stay_apart(store: RedisStore, name: str):
    commit(store, set_share(5, revision=0, flag=name, environment=name))
    commit(store, set_share(7, revision=0, flag=name, environment="other"))

    assert store.versions() == {name: 1, "other": 1}
    content = store.read_environment(name)
    assert {key: state.body for key, state in content.states.items()} == {name: {"share": 5}}
    assert store.events("0-0", 0)[0].versions == {name: (0, 1)}


# --- refusals -------------------------------------------------------------------------------------


def test_a_stale_revision_is_refused_and_told_the_present_one(store: RedisStore):
    for revision in range(3):
        commit(store, set_share(revision, revision=revision))

    for stale in (1, 2, 4):
        with pytest.raises(StaleRevision, match="states/production/new-search") as refusal:
            commit(store, set_share(99, revision=stale))
        assert refusal.value.revision == 3
    with pytest.raises(StaleRevision) as refusal:
        commit(store, set_share(99, revision=1, flag="never-made"))
    assert refusal.value.revision == 0


def test_a_thing_that_exists_is_not_made_again(store: RedisStore):
    commit(store, set_share(5, revision=0))

    with pytest.raises(AlreadyExists, match="states/production/new-search"):
        commit(store, set_share(25, revision=0))


def test_a_claim_belongs_to_its_first_owner(store: RedisStore):
    commit(store, write("flags", "first", 0, {}))
    mine = replace(write("flags", "first", 1, {}), claims={"seed:17": "first"})
    commit(store, mine)

    with pytest.raises(ClaimTaken, match="seed:17 belongs to first"):
        commit(store, replace(write("flags", "second", 0, {}), claims={"seed:17": "second"}))

    commit(store, replace(mine, writes=(Write("flags", "first", 2, {}),)))
    assert store.read("flags", "second") is None


def test_a_decision_holds_only_for_the_version_it_was_made_on(store: RedisStore):
    looked = store.read_environment("production").version
    commit(store, set_share(5, revision=0, flag="other"))

    with pytest.raises(Moved, match="version 1"):
        commit(store, set_share(5, revision=0, at_versions={"production": looked}))

    held = {"production": 1, "never-written": 0}
    commit(store, set_share(5, revision=0, at_versions=held))


REFUSED = [
    set_share(99, revision=0),
    set_share(99, revision=7),
    set_share(99, revision=1, claims={"seed:1": "another"}),
    set_share(99, revision=1, at_versions={"production": 5}),
    set_share(99, revision=1, idempotency=once("used", "for another request")),
    replace(
        set_share(99, revision=1, claims={"seed:2": "new"}, idempotency=once("new")),
        writes=(Write("flags", "new", 0, {}), Write("states/production", "new-search", 9, {})),
    ),
]


@pytest.mark.parametrize("change", REFUSED, ids=range(len(REFUSED)))
def test_a_refusal_writes_nothing(store: RedisStore, change: Change):
    commit(store, set_share(5, revision=0, claims={"seed:1": "o"}, idempotency=once("used")))
    before = everything(store)

    with pytest.raises(Refusal):
        commit(store, change)

    assert everything(store) == before
    if change is REFUSED[-1]:
        # Neither its claim nor its idempotency key was taken.
        kept = set_share(6, revision=1, claims={"seed:2": "x"}, idempotency=once("new", "another"))
        assert not commit(store, kept).repeated


@pytest.mark.parametrize(("stream", "id"), [(keys.RECORD, "7-0"), (keys.FEED, "1795423288000-0")])
def test_a_stream_that_somebody_else_wrote_to_takes_no_half_change(
    backend: Backend, store: RedisStore, stream: str, id: str
):
    commit(store, set_share(5, revision=0))
    foreign = dict.fromkeys(("entry", "leaf", "chain", "seq"), "00")
    backend.raw().xadd(stream, {**foreign, "documents": "[]", "flags": "[]"}, id=id)
    before = everything(store)

    with pytest.raises(Conflict, match=f"ends with {id}"):
        commit(store, set_share(25, revision=1))

    assert everything(store) == before


# --- asking twice ---------------------------------------------------------------------------------


def test_a_retry_with_the_same_idempotency_key_gets_the_first_answer(
    backend: Backend, store: RedisStore
):
    change = set_share(5, revision=0, idempotency=once("k1"))
    first = commit(store, change)
    commit(store, set_share(25, revision=1))
    before = everything(store)

    again = commit(backend.open(), change)

    assert again == replace(first, repeated=True)
    assert everything(store) == before


def test_an_idempotency_key_is_for_one_request_only(store: RedisStore):
    commit(store, set_share(5, revision=0, idempotency=once("k1")))

    with pytest.raises(IdempotencyMismatch):
        commit(store, set_share(25, revision=1, idempotency=once("k1", "PATCH 100 %")))


def test_whether_a_request_was_carried_out_can_be_asked(store: RedisStore):
    assert not store.repeats(once("k1"))
    commit(store, set_share(5, revision=0, idempotency=once("k1")))

    assert store.repeats(once("k1"))
    assert not store.repeats(once("k2"))
    with pytest.raises(IdempotencyMismatch):
        store.repeats(once("k1", "PATCH 100 %"))


def test_an_idempotency_key_is_forgotten_after_a_day(backend: Backend, store: RedisStore):
    idempotency = once("k1")
    commit(store, set_share(5, revision=0, idempotency=idempotency))
    key = keys.once(hashlib.sha256(idempotency.key.encode()).hexdigest())

    assert 24 * 60 * 60 - 60 < backend.raw().ttl(key) <= 24 * 60 * 60

    backend.raw().delete(key)
    assert not commit(store, set_share(9, revision=1, idempotency=idempotency)).repeated


def test_a_change_whose_answer_was_lost_is_made_once(backend: Backend, store: RedisStore):
    commit(store, set_share(5, revision=0))
    unlucky = backend.through(lambda client: Meddling(client, "EVALSHA", answer_lost))

    done = commit(unlucky, set_share(25, revision=1))

    assert (done.seq, done.versions, done.repeated) == (2, {"production": 2}, False)
    assert len(store.record()) == 2
    commit(unlucky, set_share(50, revision=2))
    assert find_break(store.record()) is None


def test_a_change_that_never_arrived_is_sent_again(backend: Backend, store: RedisStore):
    unlucky = backend.through(lambda client: Meddling(client, "EVALSHA", question_lost))

    assert commit(unlucky, set_share(5, revision=0)).seq == 1
    assert len(store.record()) == 1


def test_a_change_whose_answer_was_lost_twice_is_said_to_be_unknown(
    backend: Backend, store: RedisStore
):
    commit(store, set_share(5, revision=0))
    unlucky = backend.through(lambda c: Meddling(c, "EVALSHA", answer_lost, answer_lost))

    with pytest.raises(StoreUnavailable, match="is not known"):
        commit(unlucky, set_share(25, revision=1, idempotency=once("k1")))

    # It was made, and its idempotency key tells.
    assert len(store.record()) == 2
    assert commit(unlucky, set_share(25, revision=1, idempotency=once("k1"))).repeated
    assert len(store.record()) == 2


def test_a_lost_change_finds_that_another_took_its_place(backend: Backend, store: RedisStore):
    commit(store, set_share(5, revision=0))
    other = after(lambda: commit(store, set_share(1, revision=0, flag="other")), question_lost)
    unlucky = backend.through(lambda client: Meddling(client, "EVALSHA", other))

    assert commit(unlucky, set_share(25, revision=1)).seq == 3
    assert find_break(store.record()) is None


def test_a_lost_change_that_was_made_is_found_behind_later_ones(
    backend: Backend, store: RedisStore
):
    commit(store, set_share(5, revision=0))

    def later(send: Callable[[], Any]) -> Any:
        send()
        commit(store, set_share(50, revision=2))
        return question_lost(send)

    unlucky = backend.through(lambda client: Meddling(client, "EVALSHA", later))

    done = commit(unlucky, set_share(25, revision=1))

    assert (done.seq, done.versions) == (2, {"production": 2})
    assert len(store.record()) == 3


# --- many at once ---------------------------------------------------------------------------------


def test_a_process_that_is_overtaken_hashes_again(backend: Backend, store: RedisStore):
    other = backend.open()
    for number in range(10):
        commit(store, set_share(number, revision=number, flag="ours"))
        commit(other, set_share(number, revision=number, flag="theirs"))

    assert find_break(store.record()) is None
    assert len(store.record()) == 20


def test_a_process_that_is_always_overtaken_gives_up_and_changes_nothing(
    backend: Backend, store: RedisStore
):
    commit(store, set_share(0, revision=0, flag="busy"))
    revisions = iter(range(1, 100))

    def overtake() -> None:
        revision = next(revisions)
        commit(store, set_share(revision, revision=revision, flag="busy"))

    meddlers = [after(overtake)] * driver.ATTEMPTS
    slow = backend.through(lambda client: Meddling(client, "EVALSHA", *meddlers))
    pauses: list[int] = []
    slow._pause = pauses.append

    with pytest.raises(StoreUnavailable, match="Nothing was changed"):
        commit(slow, set_share(5, revision=0))

    assert pauses == list(range(1, driver.ATTEMPTS - 1))
    assert store.read("states/production", "new-search") is None
    assert commit(slow, set_share(5, revision=0)).versions


def test_fifty_threads_change_one_flag_and_every_success_counts_once(
    backend: Backend, store: RedisStore
):
    processes = [backend.open() for _ in range(5)]
    commit(store, set_share(0, revision=0))
    refused: list[type[Refusal]] = []

    def change(number: int) -> int:
        process, successes = processes[number % 5], 0
        for _ in range(3):
            held = process.read("states/production", "new-search")
            assert held is not None
            try:
                commit(process, set_share(number, revision=held.revision, before=held.body))
                successes += 1
            except (StaleRevision, StoreUnavailable) as error:
                refused.append(type(error))
        return successes

    with ThreadPoolExecutor(50) as pool:
        successes = sum(pool.map(change, range(50)))

    held = store.read("states/production", "new-search")
    assert held is not None
    assert held.revision == 1 + successes == store.versions()["production"]
    links = store.record(limit=1000)
    assert len(links) == 1 + successes
    assert find_break(links) is None
    assert successes
    assert StaleRevision in refused


def test_threads_that_change_different_flags_all_succeed(backend: Backend, store: RedisStore):
    processes = [backend.open() for _ in range(3)]

    def change(number: int) -> None:
        for revision in range(3):
            commit(processes[number % 3], set_share(1, revision=revision, flag=f"flag-{number}"))

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(change, range(12)))

    assert store.versions() == {"production": 36}
    assert find_break(store.record()) is None


def test_no_process_is_starved_by_others_that_never_rest(backend: Backend, store: RedisStore):
    """Each has a process's own view of the record: what it knows is old after every pause."""
    processes = [backend.open() for _ in range(4)]

    def change(number: int) -> None:
        for revision in range(30):
            commit(processes[number], set_share(1, revision=revision, flag=f"flag-{number}"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(change, range(4)))

    assert store.versions() == {"production": 120}


def test_an_environment_is_read_as_of_one_version(backend: Backend, store: RedisStore):
    def both(revision: int) -> Change:
        pair = [set_share(revision, revision=revision, flag=flag) for flag in ("left", "right")]
        return replace(pair[0], writes=tuple(change.writes[0] for change in pair))

    commit(store, both(0))
    done = threading.Event()

    def change() -> None:
        for revision in range(1, 60):
            commit(store, both(revision))
        done.set()

    writer = threading.Thread(target=change)
    reader, seen = backend.open(), []
    writer.start()
    while not done.is_set():
        content = reader.read_environment("production")
        left, right = content.states["left"], content.states["right"]
        seen.append((left.revision, right.revision, content.version))
    writer.join()

    assert seen
    assert all(left == right == version for left, right, version in seen)


def test_only_the_named_flags_of_an_environment_are_read(store: RedisStore):
    for flag in ("a", "b", "c"):
        commit(store, write(documents.FLAGS, flag, 0, {"key": flag}))
        commit(store, set_share(5, revision=0, flag=flag))

    content = store.read_environment("production", ["a", "missing"])

    assert (list(content.flags), list(content.states)) == (["a"], ["a"])
    assert (content.store, content.epoch, content.version) == (STORE, 1, 3)
    assert (content.environment, set(store.read_environment("production").flags)) == (
        "production",
        {"a", "b", "c"},
    )
    assert store.read_environment("production", []).states == {}
    assert store.read_environment("never-written").version == 0


# --- the feed -------------------------------------------------------------------------------------


def test_no_event_is_skipped_while_others_write(backend: Backend, store: RedisStore):
    follower, writers = backend.open(), [backend.open() for _ in range(3)]
    heard: list[documents.Event] = []
    position = follower.feed_end()

    def change(number: int) -> None:
        for revision in range(15):
            commit(writers[number], set_share(revision, revision=revision, flag=f"f{number}"))

    with ThreadPoolExecutor(3) as pool:
        working = [pool.submit(change, number) for number in range(3)]
        deadline = time.monotonic() + 20
        while len(heard) < 45 and time.monotonic() < deadline:
            heard += follower.events(position, 0.2)
            position = heard[-1].id if heard else position
        for each in working:
            each.result()

    assert [event.seq for event in heard] == list(range(1, 46))
    versions = [event.versions["production"] for event in heard]
    assert versions == [(number, number + 1) for number in range(45)]


def test_an_event_wakes_whoever_waits(backend: Backend, store: RedisStore):
    follower = backend.open()
    follower.ping()
    change = threading.Timer(0.15, lambda: commit(store, set_share(5, revision=0)))
    change.start()
    began = time.monotonic()

    events = follower.events("0-0", 5.0)

    change.join()
    assert len(events) == 1
    assert time.monotonic() - began < 3


def test_waiting_for_an_event_ends(store: RedisStore):
    commit(store, set_share(5, revision=0))
    began = time.monotonic()

    assert store.events(store.feed_end(), 0.7) == []
    assert 0.65 < time.monotonic() - began < 2
    assert store.events(store.feed_end(), 0) == []


def test_a_position_that_nobody_gave_is_a_mistake(store: RedisStore):
    with pytest.raises(ValueError, match="position"):
        store.events("$", 0)


def test_a_feed_that_was_cut_shows_a_gap(store: RedisStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(driver, "FEED_LENGTH", 50)
    for revision in range(220):
        commit(store, set_share(revision, revision=revision))

    first = store.events("1-1", 0)[0]

    assert first.seq > 2
    assert first.versions["production"][0] != 1
    assert len(store.record()) == 220


def test_an_environment_tells_which_previews_of_it_are_revoked(store: RedisStore):
    assert store.read_environment("production").revoked == {}

    commit(store, write(documents.REVOKED_PREVIEWS, "production", 0, {"5eed": 1795423288}))

    assert store.read_environment("production").revoked == {"5eed": 1795423288}
    assert store.read_environment("production", ["new-search"]).revoked == {"5eed": 1795423288}
    assert store.read_environment("staging").revoked == {}


# --- the record -----------------------------------------------------------------------------------


def test_the_record_is_read_in_pieces_of_any_size(store: RedisStore):
    for revision in range(230):
        commit(store, set_share(revision, revision=revision))

    assert [link.seq for link in store.record()] == list(range(1, 231))
    assert [link.seq for link in store.record(after=100, limit=101)] == list(range(101, 202))
    assert [link.seq for link in store.record(after=228)] == [229, 230]
    assert store.record(after=230) == store.record(limit=0) == []
    links = store.record()
    assert find_break(links[100:], links[99].chain, 100) is None


def test_history_is_newest_first_and_of_one_target_and_environment(store: RedisStore):
    commit(store, set_share(1, revision=0, flag="a"))
    commit(store, set_share(2, revision=0, flag="a", environment="staging"))
    commit(store, set_share(3, revision=0, flag="b"))
    commit(store, write("flag", "a", 0, {"owner": "search"}))

    def found(**filters: Any) -> list[int]:
        wanted = {"target": None, "environment": None, "before": None, "limit": 100, **filters}
        return [entry["seq"] for entry in store.history(**wanted)]

    assert found() == [4, 3, 2, 1]
    assert found(target="flag/a") == [4, 2, 1]
    assert found(target="flag/a", environment="production") == [4, 1]
    assert found(environment="staging") == [4, 2]
    assert found(before=3, limit=1) == [2]
    assert found(before=1) == found(target="flag/none") == found(limit=0) == []


def test_state_can_be_replayed_from_the_record(store: RedisStore):
    held: dict[str, int] = {}
    for number in range(30):
        flag = f"flag-{number * 7 % 4}"
        before = store.read("states/production", flag)
        revision = held.get(flag, 0)
        body = before.body if before else None
        commit(store, set_share(number, revision=revision, flag=flag, before=body))
        held[flag] = revision + 1

    replayed: dict[str, Any] = {}
    for entry in reversed(_history(store)):
        flag = entry["target"].removeprefix("flag/")
        assert replayed.get(flag) == entry["before"]
        replayed[flag] = entry["after"]

    states = store.read_all("states/production")
    assert replayed == {flag: state.body for flag, state in states.items()}


def _history(store: RedisStore) -> list[Any]:
    return store.history(target=None, environment=None, before=None, limit=1000)
