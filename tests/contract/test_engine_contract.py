"""What the engine asks of a store: documents that go, claims given back, notices, looks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flagserver.domain.documents import Change, Fact, Write
from flagserver.domain.errors import AlreadyExists, ClaimTaken, StaleRevision
from flagserver.domain.notices import Notice, Severity
from flagserver.storage.redis import keys, looks
from flagserver.storage.redis.store import RedisStore
from tests.contract.changes import commit, once, set_share, write
from tests.contract.conftest import Backend
from tests.contract.troubles import Meddling, answer_lost

LIVE, ENDED = "rollouts", "rollouts/ended"
RULE = "target:alb/arn:rule"


def a_notice(id: str = "1", **more: object) -> Notice:
    notice = Notice(
        id=id,
        kind="rollout:step:confirm",
        severity=Severity.INFO,
        at="2026-11-23T08:15:30.123Z",
        environment="production",
        service="api",
        subject="rollout/r-1",
        title="api 2 in production is at 25 %.",
        facts={"Reached": "25 % (step 2 of 4)", "Why": "“good”"},
        by_hand=("aws elbv2 modify-rule …",),
    )
    return replace(notice, **more)  # type: ignore[arg-type]


def a_change(*writes: Write, **more: object) -> Change:
    fact = Fact("controller", "controller", "rollout:complete", "rollout/r-1", "production")
    return Change(writes=writes, fact=fact, **more)  # type: ignore[arg-type]


# --- documents that go ----------------------------------------------------------------------------


def test_a_document_is_taken_away_and_another_written_in_one_change(store: RedisStore):
    commit(store, write(LIVE, "r-1", 0, {"state": "running"}))

    gone, kept = Write(LIVE, "r-1", 1, None), Write(ENDED, "r-1", 0, {"state": "completed"})
    commit(store, a_change(gone, kept))

    assert store.read(LIVE, "r-1") is None
    assert store.read_all(LIVE) == {}
    ended = store.read(ENDED, "r-1")
    assert ended is not None
    assert (ended.revision, ended.body) == (1, {"state": "completed"})
    assert store.events("0-0", 0)[-1].documents == ((LIVE, "r-1"), (ENDED, "r-1"))


def test_only_what_is_there_at_that_revision_is_taken_away(store: RedisStore):
    commit(store, write(LIVE, "r-1", 0, {}))
    commit(store, write(LIVE, "r-1", 1, {}))

    for stale in (1, 3):
        with pytest.raises(StaleRevision) as refused:
            commit(store, a_change(Write(LIVE, "r-1", stale, None)))
        assert refused.value.revision == 2
    with pytest.raises(StaleRevision):
        commit(store, a_change(Write(LIVE, "r-2", 1, None)))
    with pytest.raises(ValueError, match="must be there"):
        commit(store, a_change(Write(LIVE, "r-1", 0, None)))
    assert store.read(LIVE, "r-1") is not None


def test_what_went_can_be_made_again_and_begins_anew(store: RedisStore):
    commit(store, write(LIVE, "r-1", 0, {"n": 1}))
    commit(store, a_change(Write(LIVE, "r-1", 1, None)))
    commit(store, write(LIVE, "r-1", 0, {"n": 2}))

    again = store.read(LIVE, "r-1")
    assert again is not None
    assert (again.revision, again.body) == (1, {"n": 2})
    with pytest.raises(AlreadyExists):
        commit(store, write(LIVE, "r-1", 0, {}))


# --- claims given back ----------------------------------------------------------------------------


def claiming(owner: str, **more: object) -> Change:
    return a_change(claims={RULE: owner}, **more)


def test_a_claim_is_given_back_with_the_change_that_ends_it(store: RedisStore):
    commit(store, claiming("rollout/r-1"))
    with pytest.raises(ClaimTaken, match="belongs to rollout/r-1"):
        commit(store, claiming("rollout/r-2"))

    commit(store, a_change(releases={RULE: "rollout/r-1"}))

    commit(store, claiming("rollout/r-2"))


def test_nobody_gives_back_what_somebody_else_has(store: RedisStore):
    commit(store, claiming("rollout/r-1"))
    commit(store, a_change(releases={RULE: "rollout/r-2", "target:flag/never": "rollout/r-2"}))

    with pytest.raises(ClaimTaken, match="belongs to rollout/r-1"):
        commit(store, claiming("rollout/r-2"))


def test_a_claim_goes_from_hand_to_hand_in_one_change(store: RedisStore):
    commit(store, claiming("rollout/r-1"))
    commit(store, claiming("rollout/r-2", releases={RULE: "rollout/r-1"}))

    with pytest.raises(ClaimTaken, match="belongs to rollout/r-2"):
        commit(store, claiming("rollout/r-1", releases={RULE: "rollout/r-1"}))


def test_a_refused_change_gives_nothing_back_and_tells_nobody(store: RedisStore):
    commit(store, claiming("rollout/r-1"))

    with pytest.raises(StaleRevision):
        commit(
            store,
            a_change(
                Write(LIVE, "r-1", 7, None),
                releases={RULE: "rollout/r-1"},
                notices=(a_notice(),),
            ),
        )

    assert store.undelivered("slack") == []
    with pytest.raises(ClaimTaken):
        commit(store, claiming("rollout/r-2"))


# --- notices --------------------------------------------------------------------------------------


def test_notices_are_written_with_the_change_in_order(store: RedisStore):
    first, second = a_notice("1"), a_notice("2", severity=Severity.PAGE, incident="r-1")
    commit(store, a_change(notices=(first, second)))
    commit(store, a_change(notices=(a_notice("3"),)))

    assert [n for _, n in store.undelivered("slack")] == [first, second, a_notice("3")]
    assert [n.id for _, n in store.undelivered("slack", limit=2)] == ["1", "2"]


def test_every_notifier_has_a_place_of_its_own(store: RedisStore):
    commit(store, a_change(notices=(a_notice("1"), a_notice("2"))))
    (first, _), (second, _) = store.undelivered("slack")

    store.delivered("slack", first)
    assert [n.id for _, n in store.undelivered("slack")] == ["2"]
    assert [n.id for _, n in store.undelivered("pagerduty")] == ["1", "2"]

    store.delivered("slack", second)
    assert store.undelivered("slack") == []
    commit(store, a_change(notices=(a_notice("3"),)))
    assert [n.id for _, n in store.undelivered("slack")] == ["3"]


def test_a_place_never_goes_back(store: RedisStore):
    commit(store, a_change(notices=tuple(a_notice(str(i)) for i in range(12))))
    positions = [position for position, _ in store.undelivered("slack")]

    store.delivered("slack", positions[10])
    for earlier in positions[:11]:
        store.delivered("slack", earlier)

    assert [n.id for _, n in store.undelivered("slack")] == ["11"]


def test_a_change_that_is_asked_for_twice_tells_once(store: RedisStore):
    change = a_change(notices=(a_notice(),), idempotency=once("k1"))
    commit(store, change)
    assert commit(store, change).repeated
    assert len(store.undelivered("slack")) == 1


def test_a_change_whose_answer_is_lost_tells_once(backend: Backend, store: RedisStore):
    store.identity()
    losing = backend.through(lambda client: Meddling(client, "EVALSHA", answer_lost))
    losing.identity()
    commit(losing, a_change(notices=(a_notice(),), releases={RULE: "rollout/r-1"}))
    assert len(store.undelivered("slack")) == 1
    assert len(store.record()) == 1


def test_the_outbox_is_bounded(
    backend: Backend, store: RedisStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("flagserver.storage.redis.documents.OUTBOX_LENGTH", 200)
    for i in range(30):
        commit(store, a_change(notices=tuple(a_notice(f"{i}/{j}") for j in range(20))))
    assert backend.raw().xlen(keys.OUTBOX) <= 400
    assert store.undelivered("slack", limit=1000)[-1][1].id == "29/19"


def test_who_was_told_of_what_is_known_afterwards(store: RedisStore):
    assert store.told("rollout/r-1") == ([], {})
    other = a_notice("2", subject="rollout/r-2")
    commit(store, a_change(notices=(a_notice("1"), other, a_notice("3"))))
    positions = [position for position, _ in store.undelivered("slack")]
    store.delivered("slack", positions[1])

    found, places = store.told("rollout/r-1")

    assert found == [(positions[0], a_notice("1")), (positions[2], a_notice("3"))]
    assert places == {"slack": positions[1]}
    assert [notice.id for _, notice in store.told("rollout/r-1", limit=1)[0]] == ["3"]


# --- looks ----------------------------------------------------------------------------------------


def test_looks_are_kept_in_order_for_each_rollout(store: RedisStore):
    for i in range(3):
        store.append("r-1", {"at": i, "action": "stay", "why": "“well”"})
    store.append("r-2", {"at": 9})

    assert [look["at"] for look in store.looks("r-1")] == [0, 1, 2]
    assert [look["at"] for look in store.looks("r-1", limit=2)] == [1, 2]
    assert store.looks("r-1")[0]["why"] == "“well”"
    assert store.looks("r-2") == [{"at": 9}]
    assert store.looks("r-3") == []
    assert store.last(["r-2", "r-3", "r-1"]) == {
        "r-1": {"at": 2, "action": "stay", "why": "“well”"},
        "r-2": {"at": 9},
    }
    assert store.last([]) == {}


def test_a_look_whose_answer_is_lost_is_one_look(backend: Backend, store: RedisStore):
    losing = backend.through(lambda client: Meddling(client, "EVALSHA", answer_lost))
    losing.append("r-1", {"at": 1})
    assert store.looks("r-1") == [{"at": 1}]


def test_looks_are_bounded_and_end(
    backend: Backend, store: RedisStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(looks, "LENGTH", 50)
    for i in range(500):
        store.append("r-1", {"at": i, "verdicts": ["http errors 0.31 %"] * 20})

    assert 50 <= len(store.looks("r-1", limit=1000)) <= 250
    assert store.looks("r-1", limit=1)[0]["at"] == 499
    assert 0 < backend.raw().ttl(keys.looks("r-1")) <= looks.KEEP_SECONDS


def test_a_look_holds_no_number_that_is_none(store: RedisStore):
    with pytest.raises(ValueError, match="JSON"):
        store.append("r-1", {"value": float("nan")})


def test_when_rollouts_were_looked_at_last(backend: Backend):
    now = 1_800_000_000.0
    store = backend.open(now=lambda: now)
    store.saw({})
    store.saw({"r-1": now - 10.125, "r-2": now - 20, "r-old": now - looks.KEEP_SECONDS - 1})
    store.saw({"r-1": now - 5.125, "r-2": now - 30})

    assert store.seen(["r-1", "r-2", "r-3", "r-old"]) == {"r-1": now - 5.125, "r-2": now - 20}
    assert store.seen([]) == {}


def test_a_change_without_any_of_it_touches_none_of_it(backend: Backend, store: RedisStore):
    commit(store, set_share(5, revision=0))
    client = backend.raw()
    assert not client.exists(keys.OUTBOX)
    assert not client.exists(keys.CLAIMS)


# --- evidence -------------------------------------------------------------------------------------

HEAD = {"format": 1, "design": {"alpha": 0.01}, "targets": []}


def entry(number: int, **more: Any) -> dict[str, Any]:
    return {"look": {"ticks": {"flag/ä": [{"at": 5.0 * number}]}, "decision": None}, **more}


def test_evidence_is_kept_in_order_for_each_rollout(store: RedisStore) -> None:
    assert store.evidence(["r-1"]) == {}
    for known, each in enumerate([HEAD, entry(1), entry(2, places={"flag/ä": [["api", "2"]]})]):
        assert store.keep_evidence("r-1", known, each)
    assert store.keep_evidence("r-2", 0, HEAD)

    found = store.evidence(["r-1", "r-2", "r-3"])

    assert found["r-1"] == [HEAD, entry(1), entry(2, places={"flag/ä": [["api", "2"]]})]
    assert (found["r-2"], "r-3" in found) == ([HEAD], False)


def test_of_two_who_judge_only_one_keeps_a_look(store: RedisStore) -> None:
    """A controller that lost its lease and does not know it yet."""
    store.keep_evidence("r-1", 0, HEAD)
    assert store.keep_evidence("r-1", 1, entry(1))
    assert not store.keep_evidence("r-1", 1, entry(7))
    assert not store.keep_evidence("r-1", 0, HEAD)
    assert not store.keep_evidence("r-1", 9, entry(9))
    assert store.evidence(["r-1"])["r-1"] == [HEAD, entry(1)]


def test_the_same_evidence_twice_is_kept_once(store: RedisStore) -> None:
    """The answer to the first was lost."""
    store.keep_evidence("r-1", 0, HEAD)
    assert store.keep_evidence("r-1", 1, entry(1))
    assert store.keep_evidence("r-1", 1, entry(1))
    assert store.evidence(["r-1"])["r-1"] == [HEAD, entry(1)]


def test_how_the_newest_look_left_a_rollout_is_kept_with_it(store: RedisStore) -> None:
    store.keep_evidence("r-1", 0, HEAD)
    assert store.standings(["r-1"]) == {}
    store.keep_evidence("r-1", 1, entry(1), {"sentence": "“well”"})
    store.keep_evidence("r-1", 1, entry(7), {"sentence": "another's"})
    assert store.standings(["r-1", "r-2"]) == {"r-1": {"sentence": "“well”"}}
    store.keep_evidence("r-1", 2, entry(2), {"sentence": "newer"})
    assert store.standings(["r-1"])["r-1"]["sentence"] == "newer"


def test_evidence_that_is_torn_is_empty_and_spoils_no_other(
    store: RedisStore, backend: Backend
) -> None:
    store.keep_evidence("r-1", 0, HEAD)
    store.keep_evidence("r-2", 0, HEAD)
    backend.raw().lset(keys.evidence("r-1"), 0, "torn")
    assert store.evidence(["r-1", "r-2"]) == {"r-1": [{}], "r-2": [HEAD]}


def test_evidence_ends_after_90_days(store: RedisStore, backend: Backend) -> None:
    store.keep_evidence("r-1", 0, HEAD, {"sentence": "well"})
    assert backend.raw().ttl(keys.standing("r-1")) > 0
    kept = backend.raw().ttl(keys.evidence("r-1"))
    assert 90 * 24 * 3600 - 60 < kept <= 90 * 24 * 3600
