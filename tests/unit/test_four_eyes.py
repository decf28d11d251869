"""Two people to enlarge: what one asks for waits for another, and only that is carried out."""

from __future__ import annotations

import json
import threading
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sortition.record.replay import replay

from flagserver.domain import approvals, documents, flags
from flagserver.domain.approvals import Approve, Base, Proposal, State, Wish
from flagserver.domain.commands import (
    Enlarging,
    EnvironmentEdit,
    NewToken,
    Reasoned,
    Rotation,
    StateEdit,
)
from flagserver.domain.documents import EVERYWHERE, Change, Fact, Idempotency, Principal, Write
from flagserver.domain.errors import (
    ApprovalLapsed,
    ApprovalRequired,
    ConfirmationRequired,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    ReasonRequired,
    Refusal,
    StaleRevision,
)
from flagserver.domain.flags import State as Served
from flagserver.domain.people import (
    ANYBODY,
    GroupRole,
    NewPerson,
    Outsider,
    Person,
    Source,
    may_be_one,
)
from flagserver.domain.states import State as Stands
from flagserver.notify.posting import page_of
from flagserver.services.proposals import ProposalView
from flagserver.services.pruning import read_things
from tests.builders import ADMIN, SURE, T0, House
from tests.engines import FLAG, Engine, a_rollout

HERE = "production"


def a_person(name: str, role: str = "releaser", **roles: str) -> Principal:
    return Principal(f"person:{name}", role, "person", roles={EVERYWHERE: role, **roles})


ANA, BEN = a_person("ana"), a_person("ben")
PIPELINE = Principal("token:pipeline", "deploy", "deploy", HERE, owner=ANA.id)
ONCE = Idempotency("token:pipeline:run-17", "what was asked")


def wants_two(house: House, environment: str = HERE, wanted: bool = True) -> None:
    view = house.services.environments.get(environment)
    edit = EnvironmentEdit(four_eyes=wanted)
    house.services.environments.edit(environment, edit, view.revision, ADMIN)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    found = Engine(directory=tmp_path)
    wants_two(found)
    return found


def edit_of(**told: Any) -> StateEdit:
    return StateEdit.model_validate({**SURE, **told})


def wait_for(act: Callable[[], object]) -> str:
    """Return the id of what waits once somebody has asked for it."""
    with pytest.raises(ApprovalRequired) as refused:
        act()
    return refused.value.approval


def ask(house: House, by: Principal = ANA, once: Idempotency | None = None, **told: Any) -> str:
    """Ask for what a flag serves; it waits."""
    revision = house.flags.state(FLAG, HERE).revision
    command = edit_of(**(told or {"share": 25}))
    return wait_for(lambda: house.flags.change(FLAG, HERE, command, revision, by, once))


def approve(house: House, id: str, by: Principal = BEN, **told: Any) -> ProposalView:
    seen = house.services.approvals.get(id, by).proposal.fingerprint
    command = Approve.model_validate({"hash": seen, **SURE, "reason": "looks right", **told})
    return house.services.approvals.approve(id, command, by)


def share(house: House) -> float:
    return float(house.flags.state(FLAG, HERE).state.share / 10_000)


def newest(house: House) -> Any:
    return house.services.record.recent(limit=1)[0]


# --- what waits, and what never does --------------------------------------------------------------


def test_what_one_person_asks_for_waits_and_another_carries_it_out(engine: Engine) -> None:
    waiting = ask(engine, ANA, share=25)
    assert share(engine) == 0

    done = approve(engine, waiting, BEN)

    assert share(engine) == 25
    assert (done.state, done.proposal.by, done.proposal.outcome) == (
        State.APPROVED,
        BEN.id,
        f"flag/{FLAG}",
    )


def test_the_record_says_in_one_entry_who_asked_who_approved_and_of_which_hash(
    engine: Engine,
) -> None:
    waiting = ask(engine, ANA, share=25)
    seen = engine.services.approvals.get(waiting, BEN).proposal.fingerprint

    approve(engine, waiting, BEN)

    entry = newest(engine)
    assert (entry["action"], entry["target"]) == ("flag:share:change", f"flag/{FLAG}")
    assert (entry["actor"], entry["role"], entry["reason"]) == (ANA.id, "releaser", "a test")
    assert entry["after"]["share"] == 250_000
    assert entry["after"]["approval"] == {
        "id": waiting,
        "hash": seen,
        "by": BEN.id,
        "role": "releaser",
        "reason": "looks right",
    }


def test_what_the_record_tells_is_what_is_served(engine: Engine) -> None:
    approve(engine, ask(engine, share=25))
    engine.flags.change(FLAG, HERE, StateEdit(share=0), 1, ANA)
    approve(engine, start(engine))
    engine.run(30)

    of, things = read_things(engine.store)
    assert replay([it.text for it in engine.store.record(limit=10**6)[:of]], things).findings == ()


@pytest.mark.parametrize(
    "told",
    [
        {"share": 60},
        {"weights": [{"variant": "off", "weight": 100}]},
        {"conditions": []},
    ],
    ids=["share", "weights", "conditions"],
)
def test_whatever_enlarges_waits(engine: Engine, told: dict[str, Any]) -> None:
    wants_two(engine, wanted=False)
    narrow = {"attribute": "service.name", "operator": "in", "values": ["shop"]}
    engine.change(FLAG, HERE, share=50, conditions=[narrow], **SURE)
    wants_two(engine)
    before = engine.flags.state(FLAG, HERE)

    waiting = ask(engine, ANA, **told)

    assert engine.flags.state(FLAG, HERE) == before
    approve(engine, waiting)
    assert engine.flags.state(FLAG, HERE).revision == before.revision + 1


def test_shrinking_and_killing_wait_for_nobody_and_serving_again_does(engine: Engine) -> None:
    approve(engine, ask(engine, share=50))
    responder = a_person("rae", "responder")

    engine.flags.change(
        FLAG, HERE, StateEdit(share=10), engine.flags.state(FLAG, HERE).revision, ANA
    )
    assert share(engine) == 10
    engine.flags.kill(FLAG, HERE, Reasoned(), responder)
    assert engine.flags.state(FLAG, HERE).state.killed

    revision = engine.flags.state(FLAG, HERE).revision
    waiting = wait_for(
        lambda: engine.flags.unkill(FLAG, HERE, Enlarging.model_validate(SURE), revision, ANA)
    )
    assert engine.flags.state(FLAG, HERE).state.killed
    approve(engine, waiting)
    assert not engine.flags.state(FLAG, HERE).state.killed


def test_elsewhere_one_person_is_enough(engine: Engine) -> None:
    assert engine.change(FLAG, "staging", share=25).state.share == 250_000


def test_admins_wait_like_everybody(engine: Engine) -> None:
    ask(engine, a_person("root", "admin"))
    ask(engine, ADMIN)

    assert share(engine) == 0


# --- who may approve ------------------------------------------------------------------------------


def test_whoever_asked_does_not_approve(engine: Engine) -> None:
    waiting = ask(engine, ANA)

    with pytest.raises(Forbidden, match="somebody else approves"):
        approve(engine, waiting, ANA)

    assert share(engine) == 0


def test_whoever_owns_the_token_that_asked_does_not_approve(engine: Engine) -> None:
    waiting = ask(engine, PIPELINE)

    with pytest.raises(Forbidden, match="a token of yours"):
        approve(engine, waiting, ANA)

    approve(engine, waiting, BEN)
    assert share(engine) == 25


@pytest.mark.parametrize(
    "somebody",
    [
        Principal("token:another", "admin", "admin"),
        Principal("person:5f5f", "admin", "admin"),
    ],
    ids=["token", "link"],
)
def test_only_a_person_under_their_own_name_approves(engine: Engine, somebody: Principal) -> None:
    waiting = ask(engine, ANA)

    with pytest.raises(Forbidden, match="own name"):
        approve(engine, waiting, somebody)


@pytest.mark.parametrize("role", ["viewer", "responder", "editor", "auditor"])
def test_whoever_may_not_do_it_does_not_approve(engine: Engine, role: str) -> None:
    waiting = ask(engine, ANA)

    with pytest.raises(Forbidden):
        approve(engine, waiting, a_person("cy", "releaser", production=role))

    assert share(engine) == 0


def test_whoever_approves_says_why_and_repeats_the_name_where_it_is_critical(
    engine: Engine,
) -> None:
    waiting = ask(engine, ANA)

    with pytest.raises(ReasonRequired):
        approve(engine, waiting, reason=None)
    with pytest.raises(ConfirmationRequired):
        approve(engine, waiting, confirm_environment=None)

    assert share(engine) == 0


SUBJECT = "https://login.example 0a1b"
ANYBODY_RELEASES = [GroupRole(ANYBODY, "releaser")]


def signs_in(house: House, source: Source, subject: str = SUBJECT, login: str = "ana@x.eu") -> Any:
    """Return somebody who signed in by a provider, or by a password of their own."""
    people, sessions = house.services.people, house.services.sessions
    if source is Source.LOCAL:
        invited = people.invite(NewPerson(name="Ana", login=login, role="releaser"), ADMIN)
        session = people.accept(invited.secret, "correct horse battery")
    else:
        told = Outsider(source, subject, "Ana", login)
        session = people.sign_in_outside(told, ANYBODY_RELEASES)
    return sessions.principal(session)


@pytest.mark.parametrize(
    ("asks", "approves"),
    [
        ((Source.LOCAL, "", "ana@x.eu"), (Source.OIDC, SUBJECT, "Ana@X.eu")),
        ((Source.OIDC, SUBJECT, "ana@x.eu"), (Source.ALB, SUBJECT, "0a1b")),
        ((Source.ALB, SUBJECT, "ANA@x.eu"), (Source.LOCAL, "", "ana@x.eu")),
        ((Source.OIDC, SUBJECT, "ana@x.eu"), (Source.ALB, "another 77", "ana@x.eu")),
    ],
    ids=["same login", "same subject", "any case", "another provider"],
)
def test_one_human_with_two_ways_to_sign_in_is_one_person(
    engine: Engine, asks: tuple[Source, str, str], approves: tuple[Source, str, str]
) -> None:
    first, second = signs_in(engine, *asks), signs_in(engine, *approves)
    assert first.id != second.id
    token = engine.services.tokens.create(NewToken(scope="admin"), replace(ADMIN, owner=first.id))

    for somebody, told in ((first, 25), (token.token.principal(), 30)):
        waiting = ask(engine, somebody, share=told)
        with pytest.raises(Forbidden, match="another sign-in of yours"):
            approve(engine, waiting, second)

    assert share(engine) == 0


def test_two_people_of_one_provider_are_two(engine: Engine) -> None:
    first = signs_in(engine, Source.OIDC)
    second = signs_in(engine, Source.OIDC, "https://login.example 77", "ben@x.eu")

    approve(engine, ask(engine, first), second)

    assert share(engine) == 25


def test_what_somebody_asked_for_who_was_forgotten_is_asked_for_again(engine: Engine) -> None:
    first = signs_in(engine, Source.LOCAL)
    second = signs_in(engine, Source.OIDC, login="ben@x.eu")
    waiting = ask(engine, first)
    engine.services.people.forget(first.id.removeprefix("person:"), Reasoned(), ADMIN)

    with pytest.raises(Forbidden, match="was forgotten"):
        approve(engine, waiting, second)

    assert share(engine) == 0


def test_a_token_has_its_maker_for_owner_and_so_has_one_that_it_makes(engine: Engine) -> None:
    tokens, root = engine.services.tokens, a_person("root", "admin")

    first = tokens.create(NewToken(scope="admin"), root).token
    second = tokens.create(NewToken(scope="deploy", environment=HERE), first.principal()).token
    nobodys = tokens.create(NewToken(scope="admin"), ADMIN).token

    assert (first.owner, second.owner, nobodys.owner) == (root.id, root.id, None)
    assert second.principal().owner == root.id


def test_a_token_that_is_rotated_belongs_to_who_was_shown_the_new_text(engine: Engine) -> None:
    tokens, root = engine.services.tokens, a_person("root", "admin")
    first = tokens.create(NewToken(scope="admin"), root).token

    by_another = tokens.rotate(first.id, Rotation(), a_person("cy", "admin")).token
    by_nobody = tokens.rotate(by_another.id, Rotation(), ADMIN).token

    assert (by_another.owner, by_nobody.owner) == ("person:cy", "person:cy")


# --- lapse ----------------------------------------------------------------------------------------


def test_an_approval_lapses_when_the_flag_has_changed(engine: Engine) -> None:
    approve(engine, ask(engine, share=50))
    waiting = ask(engine, ANA, share=80)
    engine.flags.kill(FLAG, HERE, Reasoned(), BEN)

    assert engine.services.approvals.get(waiting, BEN).state is State.LAPSED
    with pytest.raises(ApprovalLapsed):
        approve(engine, waiting)

    assert (share(engine), engine.flags.state(FLAG, HERE).state.killed) == (50, True)
    assert newest(engine)["action"] == "approval:lapse"
    with pytest.raises(Conflict, match="has lapsed"):
        approve(engine, waiting)


def test_it_expires_after_a_day(engine: Engine) -> None:
    waiting = ask(engine, ANA)
    engine.clock.seconds += approvals.LASTS.total_seconds() - 0.001
    assert engine.services.approvals.get(waiting, BEN).state is State.OPEN
    engine.clock.seconds += 0.001

    with pytest.raises(Conflict, match="has expired"):
        approve(engine, waiting)
    assert share(engine) == 0

    again = ask(engine, ANA)
    assert again == waiting
    approve(engine, again)
    assert share(engine) == 25


def test_it_is_approved_of_as_it_was_looked_at(engine: Engine) -> None:
    waiting = ask(engine, ANA)

    with pytest.raises(ApprovalLapsed, match="not what you looked at"):
        approve(engine, waiting, hash="0" * 64)

    assert share(engine) == 0


def test_whoever_asked_may_withdraw_it_and_so_may_who_may_shrink(engine: Engine) -> None:
    first, second = ask(engine, ANA, share=25), ask(engine, PIPELINE, share=30)

    engine.services.approvals.withdraw(first, Reasoned(reason="not today"), ANA)
    assert newest(engine)["action"] == "approval:withdraw"
    with pytest.raises(Forbidden):
        engine.services.approvals.withdraw(second, Reasoned(), a_person("vi", "viewer"))
    engine.services.approvals.withdraw(second, Reasoned(), a_person("rae", "responder"))

    for waiting in (first, second):
        with pytest.raises(Conflict, match="was withdrawn"):
            approve(engine, waiting)
    assert share(engine) == 0


def test_what_was_approved_is_carried_out_once(engine: Engine) -> None:
    waiting = ask(engine, ANA)
    approve(engine, waiting)

    with pytest.raises(Conflict, match="approved and carried out"):
        approve(engine, waiting, a_person("cy"))
    assert engine.flags.state(FLAG, HERE).revision == 1


def test_it_is_refused_as_long_as_it_cannot_be_done_and_waits_on(engine: Engine) -> None:
    waiting = ask(engine, ANA)
    flag = engine.flags.get(FLAG)
    engine.flags.archive(FLAG, Reasoned(), flag.revision, ADMIN)

    with pytest.raises(Conflict, match="archived"):
        approve(engine, waiting)

    assert engine.services.approvals.get(waiting, BEN).state is State.OPEN


def test_what_is_asked_for_at_an_old_revision_does_not_wait(engine: Engine) -> None:
    approve(engine, ask(engine, share=50))

    with pytest.raises(StaleRevision):
        engine.flags.change(FLAG, HERE, edit_of(share=60), 0, ANA)


# --- the same again -------------------------------------------------------------------------------


def test_the_same_twice_waits_once(engine: Engine) -> None:
    first = ask(engine, PIPELINE, ONCE)
    second = ask(engine, PIPELINE, ONCE)

    assert first == second
    assert len(engine.services.approvals.all(BEN)) == 1
    asked = [e for e in engine.services.record.recent(limit=9) if e["action"] == "approval:ask"]
    assert len(asked) == 1


def test_a_request_sent_again_after_the_approval_finds_it_done(engine: Engine) -> None:
    waiting = ask(engine, PIPELINE, ONCE)
    approve(engine, waiting)

    again = engine.flags.change(FLAG, HERE, edit_of(share=25), 0, PIPELINE, ONCE)

    assert (again.state.share, again.revision) == (250_000, 1)


def test_a_request_sent_again_after_a_kill_still_finds_it_done(engine: Engine) -> None:
    waiting = ask(engine, PIPELINE, ONCE)
    approve(engine, waiting)
    engine.flags.kill(FLAG, HERE, Reasoned(), BEN)
    engine.flags.change(FLAG, HERE, StateEdit(share=0), 2, BEN)

    again = engine.flags.change(FLAG, HERE, edit_of(share=25), 0, PIPELINE, ONCE)

    assert (again.state.share, again.revision) == (0, 3)


def test_so_many_wait_and_no_more(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approvals, "MOST_OPEN", 2)
    ask(engine, ANA, share=1)
    ask(engine, ANA, share=2)

    with pytest.raises(Conflict, match="wait for approval in production"):
        engine.flags.change(FLAG, HERE, edit_of(share=3), 0, ANA)
    assert ask(engine, ANA, share=2)


def test_what_has_lapsed_keeps_nobody_from_asking(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approvals, "MOST_OPEN", 2)
    first = ask(engine, ANA, share=1)
    ask(engine, ANA, share=2)

    approve(engine, first)

    for told in (3, 4):
        assert ask(engine, ANA, share=told)
    with pytest.raises(Conflict, match="2 things wait"):
        ask(engine, ANA, share=5)


def test_one_alone_does_not_keep_others_from_asking(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approvals, "MOST_OPEN_OF_ONE", 2)
    first = ask(engine, ANA, share=1)
    ask(engine, ANA, share=2)

    with pytest.raises(Conflict, match="2 things that you asked for wait"):
        engine.flags.change(FLAG, HERE, edit_of(share=3), 0, ANA)

    assert ask(engine, BEN, share=3)
    engine.services.approvals.withdraw(first, Reasoned(), ANA)
    assert ask(engine, ANA, share=4)


def test_of_what_is_over_only_so_many_are_kept(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approvals, "MOST_ENDED", 2)
    some, over = engine.services.approvals, []
    waits = ask(engine, BEN, share=50)
    for told in (1, 2, 3, 4):
        engine.clock.seconds += 1
        over.append(ask(engine, ANA, share=told))
        some.withdraw(over[-1], Reasoned(), ANA)

    engine.clock.seconds += 1
    newest_of_all = ask(engine, ANA, share=5)

    kept = [view.proposal.id for view in some.all(BEN)]
    assert kept == [newest_of_all, *over[:1:-1], waits]
    with pytest.raises(NotFound, match="the last 2 are kept, for 30 days"):
        some.get(over[0], BEN)


def test_a_look_at_what_waits_reads_each_thing_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for told in (1, 2, 3):
        ask(engine, ANA, share=told)
    read, asked = engine.store.read, []

    def noting(*of: str) -> Any:
        asked.append(of)
        return read(*of)

    monkeypatch.setattr(engine.store, "read", noting)

    assert len(engine.services.approvals.all(BEN)) == 3
    assert asked == [(f"states/{HERE}", FLAG)]


def test_what_ended_long_ago_is_forgotten(engine: Engine) -> None:
    old = ask(engine, ANA, share=1)
    engine.clock.seconds += (approvals.LASTS + approvals.KEPT + timedelta(hours=1)).total_seconds()
    ask(engine, ANA, share=2)

    assert old not in {view.proposal.id for view in engine.services.approvals.all(BEN)}


def test_people_are_told_that_one_of_them_is_wanted(engine: Engine) -> None:
    waiting = ask(engine, ANA, share=25)

    told = [notice for _, notice in engine.store.undelivered("log", limit=9)]
    assert [(n.kind, n.subject) for n in told] == [("approval:ask", f"approval/{waiting}")]
    assert told[0].title == f"Approval wanted: take {FLAG} from 0 % to 25 % in production"


def test_the_notice_leads_to_the_page_where_it_is_approved(engine: Engine) -> None:
    waiting = ask(engine, ANA)

    (_, notice), *_ = engine.store.undelivered("log", limit=9)
    assert page_of(notice, "https://flags.test") == f"https://flags.test/approvals/{waiting}"


def test_people_are_told_where_two_are_wanted_no_more(engine: Engine) -> None:
    wants_two(engine, wanted=False)

    assert newest(engine)["action"] == "environment:loosen"
    told = [notice for _, notice in engine.store.undelivered("log", limit=9)]
    assert [n.kind for n in told] == ["environment:loosen"]


# --- rollouts -------------------------------------------------------------------------------------


def start(
    engine: Engine, by: Principal = PIPELINE, once: Idempotency | None = ONCE, **told: Any
) -> str:
    return wait_for(lambda: engine.rollouts.start(a_rollout(**told), by, once))


def test_a_start_waits_and_is_carried_out_in_the_name_of_who_asked(engine: Engine) -> None:
    waiting = start(engine)
    assert engine.rollouts.under_way() == []

    done = approve(engine, waiting, BEN)

    (view,) = engine.rollouts.under_way()
    assert done.proposal.outcome == view.rollout.name
    assert view.rollout.by == PIPELINE.id
    entry = engine.entries(view.rollout.id)[0]
    assert (entry["actor"], entry["after"]["approval"]["by"]) == (PIPELINE.id, BEN.id)


def test_a_start_sent_again_by_its_key_is_the_rollout_that_was_approved(engine: Engine) -> None:
    waiting = start(engine)
    assert start(engine) == waiting
    done = approve(engine, waiting)

    again = engine.rollouts.start(a_rollout(), PIPELINE, ONCE)

    assert again.rollout.name == done.proposal.outcome
    assert len(engine.rollouts.under_way()) == 1


def test_the_steps_of_a_rollout_that_was_approved_wait_for_nobody(engine: Engine) -> None:
    approve(engine, start(engine, schedule="50%:1m,100%:1m"))
    (view,) = engine.rollouts.under_way()

    engine.run(300)

    assert engine.rollout(view.rollout.id).state is Stands.COMPLETED
    assert share(engine) == 100


def test_holding_and_taking_back_wait_for_nobody_and_going_on_does(engine: Engine) -> None:
    approve(engine, start(engine))
    (view,) = engine.rollouts.under_way()
    id, responder = view.rollout.id, a_person("rae", "responder")
    engine.run(30)

    engine.rollouts.hold(id, Reasoned(), responder)
    held = engine.rollouts.get(id, ANA)
    assert held.rollout.state is Stands.PAUSED
    why = Enlarging.model_validate(SURE)
    waiting = wait_for(lambda: engine.rollouts.resume(id, why, held.revision, ANA))
    assert engine.rollout(id).state is Stands.PAUSED
    with pytest.raises(Forbidden):
        approve(engine, waiting, ANA)
    approve(engine, waiting, BEN)
    assert engine.rollout(id).state is Stands.RUNNING

    engine.rollouts.roll_back(id, Reasoned(), responder)
    assert engine.rollout(id).state is Stands.ROLLING_BACK


def test_skipping_a_wait_waits_and_lapses_when_the_rollout_went_on_by_itself(
    engine: Engine,
) -> None:
    approve(engine, start(engine))
    (view,) = engine.rollouts.under_way()
    id = view.rollout.id
    engine.run(30)
    seen, why = engine.rollouts.get(id, ANA), Enlarging.model_validate(SURE)
    waiting = wait_for(lambda: engine.rollouts.advance(id, why, seen.revision, ANA))

    engine.run(900)

    with pytest.raises(ApprovalLapsed):
        approve(engine, waiting)


def test_a_start_lapses_when_its_flag_has_changed(engine: Engine) -> None:
    waiting = start(engine)
    engine.flags.kill(FLAG, HERE, Reasoned(), BEN)

    with pytest.raises(ApprovalLapsed):
        approve(engine, waiting)
    assert engine.rollouts.under_way() == []


def test_a_start_lapses_when_its_schedule_says_something_else(engine: Engine) -> None:
    environments = engine.services.environments

    def goes_by(schedule: str) -> None:
        revision = environments.get(HERE).revision
        environments.edit(HERE, EnvironmentEdit(default_schedule=schedule), revision, ADMIN)

    goes_by("5%:5m,100%")
    waiting = start(engine)
    goes_by("50%:5m,100%")

    with pytest.raises(ApprovalLapsed):
        approve(engine, waiting)
    assert engine.rollouts.under_way() == []
    assert engine.services.approvals.get(waiting, BEN).proposal.kept is State.LAPSED


def test_what_is_killed_just_while_its_rollout_is_approved_stays_killed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    approve(engine, start(engine, schedule="50%:1h,100%"))
    (view,) = engine.rollouts.under_way()
    engine.run(30)
    engine.rollouts.hold(view.rollout.id, Reasoned(), BEN)
    held, why = engine.rollouts.get(view.rollout.id, ANA), Enlarging.model_validate(SURE)
    waiting = wait_for(lambda: engine.rollouts.resume(view.rollout.id, why, held.revision, ANA))
    meanwhile(engine, monkeypatch, lambda: engine.flags.kill(FLAG, HERE, Reasoned(), BEN))

    approve(engine, waiting)
    engine.run(30)

    assert engine.flags.state(FLAG, HERE).state.killed
    assert engine.rollout(view.rollout.id).state is Stands.HOLDING


def test_what_changes_just_while_it_is_approved_makes_it_lapse(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = ask(engine, share=25)
    meanwhile(engine, monkeypatch, lambda: engine.flags.kill(FLAG, HERE, Reasoned(), BEN))

    with pytest.raises(ApprovalLapsed):
        approve(engine, waiting)

    assert share(engine) == 0


def test_what_is_withdrawn_just_while_it_is_approved_is_not_done(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, some = ask(engine, share=25), engine.services.approvals
    meanwhile(engine, monkeypatch, lambda: some.withdraw(waiting, Reasoned(), ANA))

    with pytest.raises(Conflict, match="was withdrawn"):
        approve(engine, waiting)

    assert share(engine) == 0


def meanwhile(engine: Engine, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let something happen once, just before the next commit."""
    commit, store = engine.store.commit, engine.store

    def late(*args: Any, **more: Any) -> Any:
        monkeypatch.setattr(store, "commit", commit)
        act()
        return commit(*args, **more)

    monkeypatch.setattr(store, "commit", late)


def test_two_who_approve_at_once_carry_it_out_once(engine: Engine) -> None:
    waiting = start(engine, once=None)
    both = threading.Barrier(2)
    came: list[str] = []

    def approves(name: str) -> None:
        services = engine.another_process()
        seen = services.approvals.get(waiting, BEN).proposal.fingerprint
        command = Approve.model_validate({"hash": seen, **SURE})
        both.wait(10)
        try:
            came.append(str(services.approvals.approve(waiting, command, a_person(name)).state))
        except Conflict as refused:
            came.append(refused.code)

    some = [threading.Thread(target=approves, args=(name,)) for name in ("ben", "cy")]
    for each in some:
        each.start()
    for each in some:
        each.join(30)

    assert sorted(came) == ["approved", "conflict"]
    assert len(engine.rollouts.under_way()) == 1


# --- the hash -------------------------------------------------------------------------------------


# A busy machine is slow, not wrong.
BUSY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

JSON = st.recursive(
    st.none() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
BODIES = st.dictionaries(st.text(max_size=6), JSON, max_size=4)
NAMES = st.sampled_from(["production", "staging", "flag/a", "flag/b", "service/a"])
BASES = st.lists(st.builds(Base, NAMES, NAMES, st.integers(0, 2**31)), max_size=3).map(tuple)
WISHES = st.builds(
    Wish, NAMES, NAMES, st.sampled_from(sorted(approvals.VERBS)), BASES, BODIES, BODIES
)


@BUSY
@given(WISHES, WISHES)
def test_a_hash_is_of_one_thing_only(one: Wish, other: Wish) -> None:
    assert (one.fingerprint == other.fingerprint) == (one == other)


@BUSY
@given(
    WISHES, WISHES, st.sampled_from(["environment", "thing", "action", "base", "command", "result"])
)
def test_consent_to_one_thing_is_none_to_another(one: Wish, other: Wish, part: str) -> None:
    changed = replace(one, **{part: getattr(other, part)})
    proposal = approvals.propose(one, ANA, T0)
    consent = approvals.Consent(proposal, 1, BEN.id, "releaser", None, "t")

    consent.check(replace(one))
    if changed != one:
        with pytest.raises(ApprovalLapsed):
            consent.check(changed)


@BUSY
@given(WISHES)
def test_what_is_kept_is_what_was_asked(asked: Wish) -> None:
    proposal = approvals.propose(asked, PIPELINE, T0, ONCE)

    kept = Proposal.from_body(json.loads(json.dumps(proposal.to_body())))

    assert kept == proposal
    assert kept.asked.fingerprint == proposal.fingerprint


@given(
    st.floats(0, 3 * approvals.LASTS.total_seconds()),
    st.sampled_from([State.OPEN, State.APPROVED, State.WITHDRAWN, State.LAPSED]),
    st.sampled_from([ANA, BEN, PIPELINE]),
)
def test_only_what_is_open_and_in_time_is_approved_of_and_only_by_another(
    after: float, kept: State, by: Principal
) -> None:
    wish = Wish(HERE, "flag/a", "flag:unkill", (), {}, {})
    proposal = replace(approvals.propose(wish, PIPELINE, T0), kept=kept)
    now = T0 + timedelta(seconds=after)
    in_time = now < T0 + approvals.LASTS

    try:
        approvals.check_may_approve(proposal, by, now, proposal.fingerprint)
        passed = True
    except (Forbidden, Conflict):
        passed = False

    assert passed == (by is BEN and kept is State.OPEN and in_time)


LOGINS = st.sampled_from(["ana@x.eu", "ANA@X.EU", "zo\u00eb", "zoe\u0308", "ben@x.eu"])
SUBJECTS = st.none() | st.sampled_from([f"{SUBJECT}", "https://login.example 77"])
HUMANS = st.builds(
    Person,
    *(st.sampled_from(["1", "2", "3"]), st.just("Somebody"), LOGINS | st.just("")),
    *(st.just({EVERYWHERE: "releaser"}), st.sampled_from(Source), st.just("t"), st.just("t")),
    subject=SUBJECTS,
)


@given(HUMANS, HUMANS)
def test_who_may_be_the_same_human_never_approves(one: Person, other: Person) -> None:
    written = [unicodedata.normalize("NFKC", each.login).casefold() for each in (one, other)]
    same = (
        one.id == other.id
        or "" in written
        or written[0] == written[1]
        or one.subject == other.subject is not None
    )

    assert may_be_one(one, other) is may_be_one(other, one) is same
    if same:
        with pytest.raises(Forbidden):
            approvals.check_is_another([one], other)
    else:
        approvals.check_is_another([one], other)


def test_what_json_cannot_carry_exactly_is_refused() -> None:
    with pytest.raises(Invalid, match="exactly"):
        _ = Wish(HERE, "flag/a", "flag:unkill", (), {"n": 2**60}, {}).fingerprint


# --- whatever people do ---------------------------------------------------------------------------

PEOPLE = [
    *(a_person("ana"), a_person("ben"), a_person("cy", "admin"), a_person("rae", "responder")),
    # Ana once more, as her identity provider knows her.
    a_person("ana-oidc"),
]
HUMANS_OF: dict[str | None, str | None] = {
    **{each.id: each.id for each in PEOPLE},
    "person:ana-oidc": ANA.id,
}


def makes_known(house: House, somebody: Principal, login: str) -> None:
    """Keep a person who signs in as this principal."""
    id = somebody.id.removeprefix("person:")
    person = Person(id, id, login, somebody.roles or {}, Source.LOCAL, "t", "t")
    change = Change((Write(documents.PEOPLE, id, 0, person.to_body()),), Fact("t", "t", "t", "t"))
    house.store.commit(change, at=T0, salt="00")


ACTORS = [*PEOPLE, PIPELINE, ADMIN]
ACTS = st.one_of(
    st.tuples(st.just("share"), st.sampled_from(ACTORS), st.sampled_from([0, 10, 50, 100])),
    st.tuples(st.just("approve"), st.sampled_from(PEOPLE), st.just(0)),
    st.tuples(st.just("approve"), st.sampled_from([*PEOPLE[:3], PEOPLE[-1]]), st.just(0)),
    st.tuples(st.just("kill"), st.sampled_from(ACTORS), st.none()),
    st.tuples(st.just("unkill"), st.sampled_from(ACTORS), st.none()),
    st.tuples(st.just("approve"), st.sampled_from(ACTORS), st.integers(0, 3)),
    st.tuples(st.just("withdraw"), st.sampled_from(ACTORS), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.just(ADMIN), st.sampled_from([60, 60, 60, 90_000])),
)


def act(house: House, what: str, by: Principal, more: Any) -> None:
    """Let somebody do something; it may be refused."""
    some, view = house.services.approvals, house.flags.state("flag", HERE)
    chosen = []
    if what in {"approve", "withdraw"}:
        chosen = some.all(ADMIN, state=State.OPEN if more < 2 else None)[more : more + 1]
    with suppress(Refusal):
        if what == "share":
            house.flags.change("flag", HERE, edit_of(share=more), view.revision, by)
        elif what == "kill":
            house.flags.kill("flag", HERE, Reasoned(), by)
        elif what == "unkill":
            why = Enlarging.model_validate(SURE)
            house.flags.unkill("flag", HERE, why, view.revision, by)
        elif what == "wait":
            house.clock.seconds += more
        for proposal in (view.proposal for view in chosen):
            if what != "withdraw":
                seen = {"hash": proposal.fingerprint}
                some.approve(proposal.id, Approve.model_validate({**SURE, **seen}), by)
            else:
                some.withdraw(proposal.id, Reasoned(), by)


@settings(BUSY, max_examples=25)
@given(st.lists(ACTS, min_size=12, max_size=25))
def test_nothing_is_ever_enlarged_by_one_person(acts: list[tuple[str, Principal, Any]]) -> None:
    house = House()
    house.create()
    wants_two(house)
    for somebody in PEOPLE:
        makes_known(house, somebody, HUMANS_OF[somebody.id] or "")

    for each in acts:
        act(house, *each)

    owners = {principal.id: principal.owner for principal in ACTORS}
    people = {principal.id for principal in PEOPLE}
    approved = []
    for entry in house.flags.history("flag", environment=HERE, limit=100):
        if not entry["before"]:
            continue
        before, after = (Served.from_body(entry[name]) for name in ("before", "after"))
        approval = entry["after"].get("approval")
        assert (approval is not None) is flags.enlarges(before, after), entry
        if approval is not None:
            author = entry["actor"]
            assert approval["by"] in people
            behind = {HUMANS_OF.get(each) for each in (author, owners[author])}
            assert HUMANS_OF[approval["by"]] not in behind
            approved.append(approval["id"])
    proposals = [view.proposal for view in house.services.approvals.all(ADMIN)]
    assert {p.id for p in proposals if p.kept is State.APPROVED} <= set(approved)
