"""`watch --hold-if-lost`: whatever becomes of the watcher, the rollout does not run on unseen, and
is not taken back for that."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from sortition.cli import exits

from flagserver.domain.rollout import Why
from flagserver.domain.states import State
from tests.cli.test_rollouts import FLAG_ALONE, SURE, Desk
from tests.engines import Engine

HOLD = "--hold-if-lost"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(Engine(directory=tmp_path))


def state(desk: Desk, id: str) -> State:
    return desk.engine.rollout(id).state


def why(desk: Desk, id: str) -> Why | None:
    waiting = desk.engine.rollout(id).waiting
    return None if waiting is None else waiting.why


def stop(by: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), by)


def lose_answers(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on nobody answers the command; the controller goes on."""

    def away(_: Any, request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("away", request=request)

    monkeypatch.setattr(httpx.WSGITransport, "handle_request", away)


# --- he lives -------------------------------------------------------------------------------------


def test_while_somebody_watches_it_goes_its_way(desk: Desk) -> None:
    id = desk.started("5%:5m,25%:5m,100%")

    done = desk.rollouts("watch", id, HOLD)

    assert done.exit_code == exits.DONE
    assert state(desk, id) is State.COMPLETED
    assert desk.engine.actions(id).count("watch:begin") == 1


def test_harm_is_3_as_ever(desk: Desk) -> None:
    id = desk.started()
    desk.at(60, lambda: desk.rollouts("rollback", id))

    done = desk.rollouts("watch", id, HOLD)

    assert done.exit_code == exits.ROLLED_BACK


def test_a_server_that_is_away_for_a_minute_changes_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = desk.started()
    desk.at(30, lambda: lose_answers(desk, monkeypatch))
    desk.at(90, monkeypatch.undo)

    done = desk.rollouts("watch", id, HOLD)

    assert done.exit_code == exits.DONE
    assert "wait:begin" not in desk.engine.actions(id)


def test_one_that_is_away_for_longer_holds_it_until_he_is_heard_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = desk.started()
    held = []
    desk.at(30, lambda: lose_answers(desk, monkeypatch))
    desk.at(200, lambda: held.append(why(desk, id)))
    desk.at(205, monkeypatch.undo)

    done = desk.rollouts("watch", id, HOLD)

    assert held == [Why.WATCHER]
    assert done.exit_code == exits.DONE
    assert "HOLDING" in done.stdout
    assert "Whoever was to watch it was not heard of" in done.stdout


# --- he is stopped --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "SIGINT")]
)
def test_a_cancelled_job_puts_it_on_hold(desk: Desk, number: int, name: str) -> None:
    id = desk.started()
    desk.at(60, lambda: stop(number))

    done = desk.rollouts("watch", id, HOLD)

    assert done.exit_code == 128 + number
    assert state(desk, id) is State.PAUSED
    last = done.stdout.splitlines()[-1]
    assert f"STOPPED  by {name}; it is on hold until somebody resumes it" in last
    entry = desk.engine.entries(id)[-1]
    assert (entry["action"], entry["reason"]) == (
        "rollout:hold",
        f"Whoever watched it was stopped ({name}).",
    )


def test_the_summary_says_so(desk: Desk, tmp_path: Path) -> None:
    id = desk.started()
    desk.at(60, stop)

    desk.rollouts("watch", id, HOLD, "--summary", str(tmp_path / "summary.md"))

    text = (tmp_path / "summary.md").read_text()
    assert text.startswith("### api in production: ‖ Paused\n")
    assert "STOPPED  by SIGTERM; it is on hold until somebody resumes it" in text


def test_a_second_signal_does_not_keep_it_from_being_held(desk: Desk) -> None:
    id = desk.started()

    def twice() -> None:
        handler = signal.getsignal(signal.SIGINT)
        try:
            stop(signal.SIGINT)
        finally:
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
            assert handler is not signal.SIG_IGN
            stop(signal.SIGTERM)

    desk.at(60, twice)

    done = desk.rollouts("watch", id, HOLD)

    assert done.exit_code == 128 + signal.SIGINT
    assert state(desk, id) is State.PAUSED


def test_signals_are_as_they_were_afterwards(desk: Desk) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    id = desk.started()
    desk.at(60, stop)

    desk.rollouts("watch", id, HOLD)

    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_one_whose_first_look_is_still_to_come_is_held_as_soon_as_it_can_be(desk: Desk) -> None:
    id = desk.start(*FLAG_ALONE, "--schedule", "5%:5m,100%")
    desk.at(1, stop)

    done = desk.rollouts("watch", id, HOLD)

    assert "it is on hold" in done.stdout
    assert state(desk, id) is State.PAUSED
    assert desk.engine.share == 0


def test_stopped_while_the_server_is_away_the_server_holds_it_by_itself(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = desk.started()
    desk.at(60, lambda: lose_answers(desk, monkeypatch))
    desk.at(65, stop)
    before = desk.engine.clock.seconds

    done = desk.rollouts("watch", id, HOLD)

    took = desk.engine.clock.seconds - before
    assert done.exit_code == 128 + signal.SIGTERM
    assert "it could not be put on hold" in done.stdout
    assert "The server holds it by itself when it has heard nothing for 2m." in done.stdout
    assert took < 65 + 7.5

    desk.sleep(130)

    assert (state(desk, id), why(desk, id)) == (State.HOLDING, Why.WATCHER)


def test_one_that_is_going_back_is_left_to_go_back(desk: Desk) -> None:
    id = desk.started()

    def taken_back() -> None:
        desk.rollouts("rollback", id, "--reason", "slow")
        stop()

    desk.at(60, taken_back)

    done = desk.rollouts("watch", id, HOLD)

    assert "it was not put on hold" in done.stdout
    desk.sleep(10)
    assert state(desk, id) is State.ROLLED_BACK


# --- he has no more time, or had enough -----------------------------------------------------------


def test_when_the_time_is_up_it_is_held_and_5(desk: Desk) -> None:
    id = desk.started("5%:1h,100%")

    done = desk.rollouts("watch", id, HOLD, "--timeout", "2m")

    assert done.exit_code == exits.TIMED_OUT
    assert "the rollout goes on" not in done.stdout
    assert "it is on hold" in done.stdout.splitlines()[-1]
    assert state(desk, id) is State.PAUSED


def test_fail_on_hold_leaves_it_held_by_hand(desk: Desk) -> None:
    id = desk.started("5%:5m:approve,100%")

    done = desk.rollouts("watch", id, HOLD, "--fail-on-hold")

    assert done.exit_code == exits.HOLDING
    assert state(desk, id) is State.PAUSED


def test_without_the_option_ctrl_c_only_ends_the_watching(desk: Desk) -> None:
    id = desk.started()
    desk.at(60, lambda: stop(signal.SIGINT))

    done = desk.rollouts("watch", id)

    assert done.exit_code == 130
    assert state(desk, id) is State.RUNNING


# --- from the start -------------------------------------------------------------------------------


def test_one_that_is_started_so_holds_when_nobody_comes_to_watch(desk: Desk) -> None:
    id = desk.start(*FLAG_ALONE, "--schedule", "5%:30m,100%", HOLD, "--lost-after", "30s")

    desk.sleep(60)

    assert why(desk, id) is Why.WATCHER
    assert desk.engine.share == 5


def test_a_job_that_runs_again_finds_the_same_rollout_and_goes_on_with_it(desk: Desk) -> None:
    words = (*FLAG_ALONE, "--schedule", "5%:5m,100%", HOLD, "--idempotency-key", "run-7")
    id = desk.start(*words)
    desk.sleep(300)
    assert why(desk, id) is Why.WATCHER

    done = desk.rollouts("start", *words, "--watch", *SURE, "--json")

    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["rollout"] for event in events} == {id}
    assert done.exit_code == exits.DONE


def test_a_token_that_may_only_read_is_told_at_once(desk: Desk) -> None:
    id = desk.started()
    staging = desk.run("token", "create", "--scope", "deploy", "--env", "staging").stdout.strip()
    desk.api.token = staging

    done = desk.rollouts("watch", id, HOLD)

    assert done.exit_code == exits.NOT_PERMITTED


@pytest.mark.parametrize("text", ["soon", "1s", "3h"])
def test_a_time_out_of_range_is_refused(desk: Desk, text: str) -> None:
    id = desk.started()

    done = desk.rollouts("watch", id, HOLD, "--lost-after", text)

    assert done.exit_code in {exits.ERROR, exits.USAGE}
    assert "✖" in done.stderr or "Error" in done.stderr
