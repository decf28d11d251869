"""`sortition flags`: what people and pipelines do with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sortition.cli import exits

from tests.cli.conftest import House

REASON = ("--reason", "a test")


@pytest.fixture
def flagged(house: House) -> House:
    """A server with one boolean flag."""
    assert house.run("flags", "create", "new-search", "--owner", "search").exit_code == 0
    return house


def test_a_flag_is_created_listed_and_shown(flagged: House) -> None:
    listed = flagged.run("flags", "list")
    shown = flagged.run("flags", "get", "new-search")

    assert "new-search" in listed.output
    assert "off" in listed.output
    assert "variants: on = true, off = false; rest: off" in shown.output


def test_a_variant_flag_takes_json_values(house: House) -> None:
    made = house.json(
        *(
            "flags",
            "create",
            "page-size",
            "--variant",
            "small=20",
            "--variant",
            'large={"rows": 50}',
        ),
        *("--rest", "small"),
    )

    assert made["variants"] == {"small": 20, "large": {"rows": 50}}


def test_a_value_that_is_not_json_is_refused_with_an_example(house: House) -> None:
    done = house.run("flags", "create", "x", "--variant", "a=b c")

    assert done.exit_code == 2
    assert "--variant a: the value must be JSON" in done.stderr


def test_setting_a_share_says_from_what_to_what(flagged: House) -> None:
    done = flagged.run("flags", "set", "new-search", "--env", "staging", "--share", "25")

    assert (done.exit_code, flagged.share("staging")) == (0, 25.0)
    assert "off → 25 %, revision 1" in done.output


def test_a_share_of_a_ten_thousandth_percent_arrives(flagged: House) -> None:
    flagged.run("flags", "set", "new-search", "--env", "staging", "--share", "0.0001")

    assert flagged.share("staging") == 0.0001


def test_a_dry_run_prints_the_difference_and_changes_nothing(flagged: House) -> None:
    done = flagged.run(
        "flags", "set", "new-search", "--env", "production", "--share", "50", "--dry-run"
    )

    assert done.exit_code == 0
    assert "-  share: 0" in done.output
    assert "+  share: 50" in done.output
    assert flagged.share("production") == 0


@pytest.mark.parametrize(
    ("options", "option"),
    [((), "--reason"), (REASON, "--confirm"), ((*REASON, "--confirm", "staging"), "--confirm")],
)
def test_enlarging_in_a_critical_environment_needs_reason_and_confirmation(
    flagged: House, options: tuple[str, ...], option: str
) -> None:
    done = flagged.run(
        "flags", "set", "new-search", "--env", "production", "--share", "5", *options
    )

    assert done.exit_code == 8
    assert f"{option}: production is critical" in done.stderr
    assert flagged.share("production") == 0


def test_shrinking_there_needs_neither(flagged: House) -> None:
    grown = flagged.run(
        *("flags", "set", "new-search", "--env", "production", "--share", "50"),
        *(*REASON, "--confirm", "production"),
    )
    shrunk = flagged.run("flags", "set", "new-search", "--env", "production", "--share", "5")

    assert (grown.exit_code, shrunk.exit_code) == (0, 0)
    assert flagged.share("production") == 5.0


def test_a_stale_revision_is_a_conflict(flagged: House) -> None:
    flagged.run("flags", "set", "new-search", "--env", "staging", "--share", "10")

    done = flagged.run(
        "flags", "set", "new-search", "--env", "staging", "--share", "20", "--if-revision", "0"
    )

    assert done.exit_code == 7
    assert "at revision 1 now" in done.stderr
    assert flagged.share("staging") == 10.0


def test_kill_and_unkill(flagged: House) -> None:
    flagged.run("flags", "set", "new-search", "--env", "staging", "--share", "40")

    killed = flagged.run("flags", "kill", "new-search", "--env", "staging")
    listed = flagged.run("flags", "list")
    again = flagged.run("flags", "unkill", "new-search", "--env", "staging")

    assert (killed.exit_code, again.exit_code) == (0, 0)
    assert "killed (40 %)" in listed.output
    assert "serves 40 % again" in again.output


def test_weights_conditions_and_prerequisites(house: House) -> None:
    house.run("flags", "create", "parent")
    house.run("flags", "create", "ranker", "--variant", "a=1", "--variant", "b=2", "--rest", "a")

    state = house.json(
        *("flags", "set", "ranker", "--env", "staging", "--share", "50"),
        *("--weight", "a=30", "--weight", "b=70"),
        *("--condition", "service.version in 2.0,2.1", "--require", "parent=on"),
    )

    assert state["weights"] == [{"variant": "a", "weight": 30.0}, {"variant": "b", "weight": 70.0}]
    assert state["conditions"] == [
        {"attribute": "service.version", "operator": "in", "values": ["2.0", "2.1"]}
    ]
    assert state["prerequisites"] == [{"flag": "parent", "variant": "on"}]

    cleared = house.json(
        "flags", "set", "ranker", "--env", "staging", "--condition", "none", "--require", "none"
    )

    assert (cleared["conditions"], cleared["prerequisites"]) == ([], [])


def test_a_wrong_weight_names_its_option(flagged: House) -> None:
    done = flagged.run("flags", "set", "new-search", "--env", "staging", "--weight", "on=50")

    assert done.exit_code == 1
    assert done.stderr.startswith("✖ --weight: ")


def test_history_tells_who_what_and_why(flagged: House) -> None:
    flagged.run("flags", "set", "new-search", "--env", "staging", "--share", "40", *REASON)

    done = flagged.run("flags", "history", "new-search")

    assert "0 % → 40 %" in done.output
    assert "a test" in done.output
    assert "token:" in done.output


def test_archive_and_unarchive(flagged: House) -> None:
    assert flagged.run("flags", "archive", "new-search").exit_code == 0
    assert "No flags." in flagged.run("flags", "list").output
    assert "(archived)" in flagged.run("flags", "list", "--archived").output
    assert flagged.run("flags", "unarchive", "new-search").exit_code == 0


def test_eval_agrees_online_and_offline(flagged: House, tmp_path: Path) -> None:
    flagged.run("flags", "set", "new-search", "--env", "staging", "--share", "40")
    flagged.services.snapshots.step(0.01)
    file = tmp_path / "snapshot.json"
    file.write_bytes(flagged.services.snapshots.view("staging").body)

    for request_id in map(str, range(20)):
        online = flagged.json("flags", "eval", "new-search", "--env", "staging", "--id", request_id)
        offline = flagged.json(
            "flags", "eval", "new-search", "--snapshot", str(file), "--id", request_id
        )

        assert offline == online
        assert online["value"] == (online["point"] < online["threshold"])


def test_an_unknown_flag_is_an_error_in_both_forms(house: House) -> None:
    words = house.run("flags", "get", "nothing")
    as_json = house.run("flags", "get", "nothing", "--json")

    assert (words.exit_code, as_json.exit_code) == (1, 1)
    assert "There is no flag 'nothing'" in words.stderr
    assert json.loads(as_json.stdout)["error"]["code"] == "not_found"


class TestApply:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "flags.yaml"

    def test_a_second_run_changes_nothing(self, flagged: House, file: Path) -> None:
        file.write_text("flags: {new-search: {staging: 30, development: {share: 100}}}")

        first = flagged.json("flags", "apply", "-f", str(file))
        second = flagged.json("flags", "apply", "-f", str(file))

        assert len(first["steps"]) == 2
        assert second["steps"] == []
        assert flagged.share("staging") == 30.0

    def test_shrinking_comes_first_and_a_refusal_tells_what_was_done(
        self, flagged: House, file: Path
    ) -> None:
        flagged.run("flags", "set", "new-search", "--env", "staging", "--share", "90")
        file.write_text("flags: {new-search: {production: 30, staging: 10}}")

        done = flagged.run("flags", "apply", "-f", str(file))

        assert done.exit_code == 8
        assert "new-search in production" in done.stderr
        assert "1 of 2 were changed before" in done.stderr
        assert (flagged.share("staging"), flagged.share("production")) == (10.0, 0.0)

    def test_a_dry_run_shows_the_difference(self, flagged: House, file: Path) -> None:
        file.write_text("flags: {new-search: {staging: 30}}")

        done = flagged.run("flags", "apply", "-f", str(file), "--dry-run")

        assert done.exit_code == 0
        assert "+  share: 30.0" in done.stderr
        assert flagged.share("staging") == 0

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            (
                "flags: {new-search: {staging: {shares: 30}}}",
                "flags.yaml:1:32: flags.new-search.staging.shares: is not known here",
            ),
            ("flags: {new-search: {staging: 30, staging: 60}}", "staging: it is there twice"),
            ("flags: {new-search: {staging: true}}", "must be a number or a mapping, not true"),
            ("flags: {new-search: {nowhere: 30}}", "no environment 'nowhere'"),
            ("other: 1", "flags is missing"),
            ("flags: {new-search: [", "flags.yaml"),
        ],
    )
    def test_a_wrong_file_is_refused_before_anything_is_done(
        self, flagged: House, file: Path, text: str, problem: str
    ) -> None:
        file.write_text(text)

        done = flagged.run("flags", "apply", "-f", str(file))

        assert done.exit_code == 2
        assert problem in done.stderr

    def test_a_flag_in_a_rollout_is_refused_before_anything_is_done(
        self, flagged: House, file: Path
    ) -> None:
        flagged.run("flags", "create", "other")
        started = flagged.json(
            *("rollouts", "start", "--env", "staging", "--service", "api"),
            *("--flag", "new-search", "--guards", "none"),
        )
        file.write_text("flags: {other: {staging: 10}, new-search: {staging: 50}}")

        done = flagged.run("flags", "apply", "-f", str(file))

        assert done.exit_code == exits.CONFLICT
        assert started["id"] in done.stderr
        assert (flagged.share("staging"), flagged.share("staging", "other")) == (0.0, 0.0)

    def test_a_token_of_one_environment_applies_its_part(self, flagged: House, file: Path) -> None:
        admin = flagged.api.token
        made = flagged.run("token", "create", "--scope", "deploy", "--env", "staging")
        flagged.api.token = made.stdout.strip()
        file.write_text("flags: {new-search: {staging: 10, production: 10}}")

        whole = flagged.run("flags", "apply", "-f", str(file))
        part = flagged.run("flags", "apply", "-f", str(file), "--env", "staging")

        assert (whole.exit_code, part.exit_code) == (exits.USAGE, exits.DONE)
        flagged.api.token = admin
        assert (flagged.share("staging"), flagged.share("production")) == (10.0, 0.0)
