"""`sortition rollouts sync`: what a rollout moved is where the rollout left it; safe to repeat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sortition.cli import exits

from flagserver.domain.commands import Reasoned
from flagserver.domain.documents import Principal
from flagserver.domain.errors import Forbidden
from flagserver.domain.states import State
from tests.builders import ADMIN
from tests.builders import SURE as WHY
from tests.cli.test_rollouts import SURE, Desk, a_file
from tests.engines import FLAG, RULE, Engine


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(Engine(directory=tmp_path))


def ended(desk: Desk, directory: Path, *, back: bool, **told: Any) -> str:
    """Run a rollout of the rule and the flag to its end; return its id."""
    told = {"schedule": "5%:1m,100%", "guards": "none", **told}
    id = str(desk.json("start", "-f", a_file(directory, **told), *SURE)["id"])
    desk.sleep(20)
    if back:
        desk.rollouts("rollback", id, "--reason", "slow")
    desk.sleep(90)
    wanted = State.ROLLED_BACK if back else State.COMPLETED
    assert desk.engine.rollout(id).state is wanted
    return id


def move(desk: Desk, percent: int, **more: Any) -> None:
    """Let somebody else move the traffic."""
    weight = desk.engine.driver.weights[RULE.name]
    weight.share, weight.alone = percent * 10_000, False
    for name, value in more.items():
        setattr(weight, name, value)


def synced(desk: Desk, id: str, code: int = exits.DONE) -> dict[str, Any]:
    done = desk.rollouts("sync", id, "--json")
    assert done.exit_code == code, done.output
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("back", [True, False], ids=["rolled back", "complete"])
def test_nothing_is_to_be_done_where_the_rollout_did_it_all(
    desk: Desk, tmp_path: Path, back: bool
) -> None:
    id = ended(desk, tmp_path, back=back)
    calls = len(desk.engine.driver.calls)

    first, second = synced(desk, id), synced(desk, id)

    assert first == second
    assert (first["over"], first["in_line"]) == (True, True)
    assert {each["wanted"] for each in first["targets"]} == {0 if back else 100}
    assert {call[0] for call in desk.engine.driver.calls[calls:]} == {"read"}
    assert "sync" not in desk.engine.actions(id)


def test_traffic_that_came_back_after_a_rollback_is_taken_out_again_and_recorded(
    desk: Desk, tmp_path: Path
) -> None:
    id = ended(desk, tmp_path, back=True)
    move(desk, 5)

    done = desk.rollouts("sync", id)

    assert done.exit_code == exits.DONE
    assert desk.engine.weight == 0
    assert "It was at 5 % again. The canary was taken out again." in done.stdout
    assert desk.engine.actions(id)[-1] == "sync"
    assert synced(desk, id)["in_line"]
    assert desk.engine.actions(id).count("sync") == 1


def test_a_dry_run_says_what_it_would_find_and_touches_nothing(desk: Desk, tmp_path: Path) -> None:
    id = ended(desk, tmp_path, back=True)
    move(desk, 5)

    done = desk.rollouts("sync", id, "--dry-run")

    assert done.exit_code == exits.CHECK_FAILED
    assert "It was at 5 % again." in done.stdout
    assert (desk.engine.weight, "sync" in desk.engine.actions(id)) == (5, False)


def test_it_is_done_where_and_at_the_revision_that_was_said_and_says_why(
    desk: Desk, tmp_path: Path
) -> None:
    id = ended(desk, tmp_path, back=True)
    move(desk, 5)

    revision = desk.engine.rollouts.get(id, ADMIN).revision
    there = desk.rollouts("sync", id, "--env", "staging")
    stale = desk.rollouts("sync", id, "--if-revision", str(revision - 1))
    assert (there.exit_code, stale.exit_code) == (exits.USAGE, exits.CONFLICT)
    assert desk.engine.weight == 5

    given = ("--env", "production", "--if-revision", str(revision), "--reason")
    assert desk.rollouts("sync", id, *given, "deploy 7 was cancelled").exit_code == exits.DONE
    assert desk.engine.weight == 0
    assert desk.engine.entries(id)[-1]["reason"].startswith("deploy 7 was cancelled: alb/arn:rule")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"owner": "deployment d-1"}, "owned by deployment d-1"),
        ({"foreign": "It names a third group."}, "It names a third group."),
    ],
)
def test_what_somebody_else_owns_is_left_and_told(
    desk: Desk, tmp_path: Path, more: dict[str, str], words: str
) -> None:
    id = ended(desk, tmp_path, back=True)
    move(desk, 5, **more)

    done = desk.rollouts("sync", id)

    assert done.exit_code == exits.CHECK_FAILED
    assert words in done.stdout
    assert desk.engine.driver.weights[RULE.name].share == 50_000


def test_nothing_is_ever_enlarged(desk: Desk, tmp_path: Path) -> None:
    id = ended(desk, tmp_path, back=False)
    move(desk, 40)

    found = synced(desk, id, exits.CHECK_FAILED)

    assert desk.engine.weight == 40
    traffic = next(each for each in found["targets"] if each["target"] == RULE.id)
    assert (traffic["wanted"], traffic["found"], traffic["in_line"]) == (100, 40, False)


def test_an_hour_later_the_groups_may_have_changed_sides(desk: Desk, tmp_path: Path) -> None:
    id = ended(desk, tmp_path, back=True)
    desk.sleep(3600)
    move(desk, 100)

    done = desk.rollouts("sync", id)

    assert done.exit_code == exits.CHECK_FAILED
    assert "too long after the rollout" in done.stdout
    assert desk.engine.weight == 100


def test_what_a_newer_rollout_moves_is_left_to_it(desk: Desk, tmp_path: Path) -> None:
    id = ended(desk, tmp_path, back=True)
    newer = desk.json("start", "-f", a_file(tmp_path, version="3"), *SURE)["id"]
    desk.sleep(20)

    done = desk.rollouts("sync", id)

    assert done.exit_code == exits.CHECK_FAILED
    assert f"rollout/{newer} moves it since." in done.stdout
    assert desk.engine.weight == 5


def test_a_flag_that_somebody_changed_since_is_told(desk: Desk, tmp_path: Path) -> None:
    id = ended(desk, tmp_path, back=True)
    desk.engine.change(FLAG, "production", share=10.0, **WHY)

    done = desk.rollouts("sync", id)

    assert done.exit_code == exits.CHECK_FAILED
    assert "It is at 10 %: somebody changed it after the rollout." in done.stdout
    assert desk.engine.share == 10


def test_what_cannot_be_read_is_not_in_line(desk: Desk, tmp_path: Path) -> None:
    id = ended(desk, tmp_path, back=True)
    desk.engine.driver.down = True

    assert synced(desk, id, exits.CHECK_FAILED)["in_line"] is False


def test_a_write_that_does_not_show_is_not_in_line(desk: Desk, tmp_path: Path) -> None:
    id = ended(desk, tmp_path, back=True)
    move(desk, 5)
    desk.engine.driver.faults = ["lost"]

    assert synced(desk, id, exits.CHECK_FAILED)["in_line"] is False
    assert synced(desk, id)["in_line"] is True


def test_a_rollout_that_is_on_its_way_is_the_controllers(desk: Desk, tmp_path: Path) -> None:
    id = str(desk.json("start", "-f", a_file(tmp_path), *SURE)["id"])
    desk.sleep(20)

    done = desk.rollouts("sync", id)

    assert done.exit_code == exits.DONE
    assert "It has not ended: there is nothing to bring in line yet." in done.stdout


def test_a_rollback_that_is_under_way_is_waited_for(desk: Desk, tmp_path: Path) -> None:
    id = str(desk.json("start", "-f", a_file(tmp_path), *SURE)["id"])
    desk.sleep(20)
    desk.engine.driver.down = True
    desk.rollouts("rollback", id, "--reason", "slow")
    desk.at(desk.engine.clock.seconds + 30, lambda: setattr(desk.engine.driver, "down", False))

    found = synced(desk, id)

    assert (found["state"], found["in_line"]) == ("rolled_back", True)


def test_one_that_is_never_confirmed_is_3(desk: Desk, tmp_path: Path) -> None:
    id = str(desk.json("start", "-f", a_file(tmp_path), *SURE)["id"])
    desk.sleep(20)
    desk.engine.driver.down = True
    desk.rollouts("rollback", id, "--reason", "slow")

    done = desk.rollouts("sync", id, "--timeout", "30s")

    assert done.exit_code == exits.ROLLED_BACK


def test_a_token_of_another_environment_may_not(desk: Desk, tmp_path: Path) -> None:
    id = ended(desk, tmp_path, back=True)
    other = Principal("token:other", "deploy", "deploy", "staging")
    with pytest.raises(Forbidden):
        desk.engine.services.syncing.sync(id, Reasoned(), other)
