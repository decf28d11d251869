"""`sortition neutrality`: a proof ends with 0 or 9, offline or for an environment's flags."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sortition.cli import exits
from sortition.cli.main import cli
from sortition.cli.neutrality_page import page
from sortition.neutrality import live, lots, proof
from sortition.neutrality.checks import CHECKS
from sortition.sources import file

from flagserver.services.neutrality import Report
from tests.builders import a_flag, a_snapshot, flags_of, only_where

from .conftest import House

FEW = ("--ids", "1000")
"""For stories that are not about the end: so few ids cannot find all unfair lots."""


def offline(*arguments: str) -> Result:
    runner = CliRunner(env={"SORTITION_URL": None, "SORTITION_TOKEN": None})
    return runner.invoke(cli, ["neutrality", "prove", *arguments])


@pytest.fixture(scope="module")
def told() -> dict:
    done = offline("--salt", "5bd7d9a0cc0411ef", "--salt", "<b>", "--quick", "--json")
    assert done.exit_code == exits.DONE, done.output
    return dict(json.loads(done.stdout))


def test_a_fair_lot_ends_with_0_and_tells_all_of_it(told):
    assert told["kind"] == "fair"
    assert told["ids"] == 100_000
    assert len(told["checks"]) == 10
    assert len(told["shapes"]) == 5
    assert all(check["passed"] for check in told["checks"])
    assert all(control["caught"] for control in told["controls"])
    assert {finding["check"] for finding in told["findings"]} == set(CHECKS)


def test_a_lot_that_is_unfair_ends_with_9(monkeypatch):
    """The server's lot, if somebody left the salt out of it."""
    monkeypatch.setattr(proof, "OURS", replace(lots.OURS, first=lots.CONTROLS[1].first))

    done = offline("--salt", "a", "--salt", "b", *FEW, "--json")

    content = json.loads(done.stdout)
    assert done.exit_code == exits.CHECK_FAILED
    assert content["kind"] == "unfair"
    failed = [check for check in content["checks"] if not check["passed"]]
    assert "pairs" in [check["check"] for check in failed]


def test_a_control_that_passes_ends_with_9(monkeypatch):
    """An unfair lot that is a fair one cannot be found: the proof says that it proves nothing."""
    fair = replace(lots.CONTROLS[0], first=lots.OURS.first)
    monkeypatch.setattr(proof, "CONTROLS", (fair, *lots.CONTROLS[1:]))

    done = offline("--salt", "a", *FEW)

    assert done.exit_code == exits.CHECK_FAILED
    assert "control_passed" in done.stdout
    assert re.search(r"✖\s+modulo", done.stdout)


def test_a_proof_for_people_names_every_check_and_control():
    done = offline("--salt", "a", "--salt", "b", *FEW)

    for word in (*CHECKS, "modulo", "unsalted", "reused"):
        assert word in done.stdout
    assert "\r" not in done.stderr


def test_the_flags_of_an_environment(house: House):
    house.run("flags", "create", "new-search", "--description", "d")
    house.run("flags", "create", "page-size", "--description", "d")
    region = ("--condition", "cloud.region in eu-west-1")
    done = house.run("flags", "set", "page-size", "--env", "staging", *region)
    assert done.exit_code == exits.DONE, done.output

    prove = ("neutrality", "prove", "--env", "staging", *FEW, "--json")
    content = json.loads(house.run(*prove).stdout)
    one = json.loads(house.run(*prove, "--flag", "new-search").stdout)

    assert [flag["flag"] for flag in content["flags"]] == ["new-search", "page-size"]
    salt = house.json("flags", "get", "new-search")["salt"]
    assert content["flags"][0]["salt"] == salt
    assert content["departures"] == {"page-size": ["cloud.region"]}
    assert [flag["flag"] for flag in one["flags"]] == ["new-search"]
    assert one["departures"] == {}


def test_the_flags_of_a_snapshot(tmp_path: Path):
    flags = a_flag("a"), a_flag("b", conditions=only_where("service.instance.id", "i-1"))
    file.write(tmp_path / "snapshot", a_snapshot(*flags))

    done = offline("--snapshot", str(tmp_path / "snapshot"), *FEW, "--json")

    content = json.loads(done.stdout)
    assert [flag["flag"] for flag in content["flags"]] == ["a", "b"]
    assert content["departures"] == {"b": ["service.instance.id"]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--env, --salt, --snapshot"),
        (("--salt", "a", "--env", "staging"), "--env, --salt, --snapshot"),
        (("--salt", "a", "--flag", "b"), "--flag belongs to"),
        (("--salt", "a", "--ids", "10"), "--ids"),
    ],
)
def test_wrong_usage_is_told(arguments, words):
    done = offline(*arguments)

    assert done.exit_code == exits.USAGE
    assert words in done.stderr


def test_an_unknown_environment_or_flag_is_told(house: House):
    house.run("flags", "create", "new-search", "--description", "d")

    for words in (("--env", "nowhere"), ("--env", "staging", "--flag", "none")):
        done = house.run("neutrality", "prove", *words)
        assert done.exit_code == exits.ERROR
        assert f"no {'environment' if 'nowhere' in words else 'flag'}" in done.output


# --- report ---------------------------------------------------------------------------------------


def test_a_report_tells_each_environment(house: House):
    house.run("flags", "create", "new-search", "--description", "d")
    house.run("flags", "set", "new-search", "--env", "staging", "--share", "25")

    done = house.run("neutrality", "report", "new-search")
    content = house.json("neutrality", "report", "new-search", "--env", "staging")

    assert done.exit_code == exits.DONE, done.output
    assert "staging" in done.stdout
    assert "too few to say, 0 counted" in done.stdout
    assert [lot["environment"] for lot in content["environments"]] == ["staging"]
    assert content["environments"][0]["points"]["kind"] == "too_few"


def test_a_report_tells_counts_and_margins_and_departures(house: House, monkeypatch):
    house.run("flags", "create", "new-search", "--description", "d")
    live_flags = flags_of(a_flag("new-search", conditions=only_where("cloud.region", "eu")))
    report = Report(
        *("production", 1_795_000_000, 1_794_913_600, 1_794_999_000),
        points=live.spread([100] * 255 + [900]),
        ratio=live.ratio({"on": 400, "off": 600}, {"off": 0.6, "on": 0.4}),
        departures=tuple(live.departures(live_flags, "new-search")),
    )
    monkeypatch.setattr(house.services.neutrality, "reports", lambda key, only: [report])

    told = house.run("neutrality", "report", "new-search").stdout

    assert "✖ points: outside of what chance does, 26,400 counted" in told
    assert "✔ variants: as expected" in told
    assert re.search(r"on: 400, expected 400 \(3\d\d to 4\d\d\)", told)
    assert "⚠ This flag looks at cloud.region" in told


# --- the page -------------------------------------------------------------------------------------


def test_the_page_stands_alone(told):
    html = page(told)

    assert "The lot is fair" in html
    assert "What cannot decide" in html
    assert "5bd7d9a0cc0411ef" in html
    # Nothing is fetched, nothing runs, and a salt is no markup.
    assert not re.search(r"<script|<link|<img|\bsrc=|\bhref=|url\(|@import", html)
    assert "<b>" not in html
    assert html.count("<svg") == 2


def test_the_page_of_a_failed_proof_says_so(told):
    failed = json.loads(json.dumps(told))
    failed["kind"] = "unfair"
    failed["checks"][0]["passed"] = False
    failed["departures"] = {"page-size": ["cloud.region"]}

    html = page(failed)

    assert "The lot is not fair" in html
    assert "failed" in html
    assert "looks at cloud.region" in html


def test_the_page_is_written(tmp_path: Path):
    done = offline("--salt", "a", *FEW, "--html", str(tmp_path / "page.html"))
    nowhere = offline("--salt", "a", *FEW, "--html", str(tmp_path / "no" / "page.html"))

    assert done.exit_code == exits.CHECK_FAILED  # too few ids to find the controls
    assert "This proves nothing" in (tmp_path / "page.html").read_text()
    assert nowhere.exit_code == exits.ERROR
    assert "No such file" in nowhere.output
