"""`sortition review` against the real application."""

from __future__ import annotations

from sortition.cli import exits

from tests.cli.conftest import House


def rolled_back(house: House) -> str:
    house.json("flags", "create", "new-search")
    started = house.json(
        *("rollouts", "start", "--env", "staging", "--service", "shop", "--flag", "new-search"),
        *("--schedule", "5%:5m,100%", "--guards", "none"),
    )
    house.json("rollouts", "rollback", started["id"], "--reason", "by hand")
    return str(started["id"])


def test_it_shows_figures_and_says_what_raises_a_review(house: House) -> None:
    id = rolled_back(house)

    shown = house.run("review", "show")
    failed = house.run("review", "show", "--fail-on-concern", "--json")

    assert shown.exit_code == 0, shown.output
    assert "0 complete, 1 rolled back" in shown.stdout
    assert f"⚠ 0 of 1 reached their last share: less than 98 %: {id}" in shown.stderr
    assert failed.exit_code == exits.CHECK_FAILED


def test_a_rollout_is_marked_and_the_mark_taken_back(house: House) -> None:
    id = rolled_back(house)

    marked = house.json("review", "mark", id, "missed", "--reason", "users told us")
    assert marked["mark"] == "missed"
    assert house.json("review", "show")["missed"] == [id]
    assert house.json("review", "mark", id, "none")["mark"] is None
    refused = house.run("review", "mark", id, "false")
    assert refused.exit_code == exits.CONFLICT
    assert "not taken back by itself" in refused.stderr


def test_a_dry_run_marks_nothing(house: House) -> None:
    id = rolled_back(house)

    assert house.json("review", "mark", id, "missed", "--dry-run")["dry_run"] is True
    assert house.json("review", "show")["missed"] == []
