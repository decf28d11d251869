"""`sortition lint`: every problem with its file, line and field; offline."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from click.testing import CliRunner, Result
from sortition.cli import exits, rollout_body, schemas
from sortition.cli.api import Failure
from sortition.cli.main import cli

ROLLOUT = """\
environment: production
service: api
version: 2.10
schedule: 5%:5m,25%:10m:approve,50%:n=1000:15m,100%:30m
requires: {environment: staging}
targets:
  - {kind: flag, name: new-search}
guards:
  - name: errors
    signal: {source: outcomes, measure: rate}
    limit: 0.01
"""
FLAGS = """\
flags:
  new-search: {production: 25, staging: {share: 100}}
  ranker:
    production: {share: 0.0001, weights: {blue: 70, green: 30}}
"""
CHECKS = """\
base: https://test.shop.example/api
checks:
  - name: health
    url: /healthz
  - name: basket
    method: POST
    url: https://shop.example/basket
    headers: {Authorization: "Bearer ${SMOKE_TOKEN}"}
    json: {sku: 1}
    timeout: 2s
    retries: 0
    expect:
      status: [200, 201]
      headers: {Content-Type: application/json}
      contains: [items]
      lacks: Exception
      json: {/items/0/sku: 1}
      latency: 500ms
"""


GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "deploy-pipeline.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)


def lint(*words: str) -> Result:
    return CliRunner().invoke(cli, ["lint", *words])


def written(directory: Path, text: str, name: str = "file.yaml") -> Path:
    path = directory / name
    path.write_text(text)
    return path


def problems(directory: Path, text: str, *words: str) -> list[str]:
    """Return `line:column: field: message` of every problem."""
    path = written(directory, text)
    done = lint(str(path), *words)
    assert done.exit_code == exits.CHECK_FAILED, done.output
    return [line.removeprefix(f"{path}:") for line in done.stdout.splitlines()]


@pytest.mark.parametrize("kind", schemas.KINDS)
def test_what_is_published_are_schemas_and_the_command_prints_them(kind: str) -> None:
    printed = lint("--schema", kind)
    jsonschema_rs.meta.validate(json.loads(printed.stdout))
    assert printed.stdout == schemas.text(kind)


@pytest.mark.parametrize("text", [ROLLOUT, FLAGS, CHECKS], ids=schemas.KINDS)
def test_what_is_well_is_said_to_be(tmp_path: Path, text: str) -> None:
    done = lint(str(written(tmp_path, text)))
    assert (done.exit_code, done.stderr) == (exits.DONE, "")
    assert done.stdout.endswith("file.yaml is well.\n")


@pytest.mark.parametrize("text", EXAMPLES, ids=[text.partition("\n")[0] for text in EXAMPLES])
def test_the_guides_files_are_well(tmp_path: Path, text: str) -> None:
    done = lint(str(written(tmp_path, text)))
    assert done.exit_code == exits.DONE, done.stdout


def test_json_is_read_as_well(tmp_path: Path) -> None:
    text = json.dumps({"flags": {"new-search": {"production": 200}}}, indent=1)
    assert problems(tmp_path, text) == [
        "4:4: flags.new-search.production: 200 is greater than the maximum of 100"
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("service: api", "srevice: api"), "2:1: srevice: is not known here; known are: "),
        (("kind: flag, name", "kind: flag, nam"), "7:5: targets.0: name is missing"),
        (("limit: 0.01", "limit: 1%"), '11:5: guards.0.limit: must be a number, not text ("1%")'),
        (("measure: rate", "measure: rat"), "10:32: guards.0.signal.measure: must be one of rate,"),
        (("25%:10m", "2%:10m"), "4:1: schedule: 2 % must be more than 5 % and at most 100 %"),
        (("5%:5m,", "5:5m,"), "4:1: schedule: '5:5m' is no step: write 5%:5m,"),
        ((":approve", ":aprove"), "4:1: schedule: 'aprove' in '25%:10m:aprove' is neither a time"),
        (("n=1000", "n=0"), "4:1: schedule: 'n=0' in '50%:n=0:15m' is neither a time (5m),"),
        (
            ("environment: staging", "environment: production"),
            "5:12: requires.environment: a rollout in production cannot require that it is",
        ),
        (("service: api", "environment: staging"), "2:1: environment: it is there twice"),
        (("targets:\n", "targets:\n  - {kind: flag, name: new-search}\n"), "8:5: targets.1: flag"),
        (("guards:\n", "guards: some\nmore:\n"), "8:1: guards: must be one of standard, none"),
    ],
)
def test_a_rollouts_problem_has_its_place_and_its_field(
    tmp_path: Path, change: tuple[str, str], told: str
) -> None:
    assert ROLLOUT.count(change[0]) >= 1
    found = problems(tmp_path, ROLLOUT.replace(*change, 1))
    assert any(line.startswith(told) for line in found), found


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ("50%:15m,100%:10m:keep=few", "'keep=few' in '100%:10m:keep=few' is neither a time"),
        ("50%:15m,100%:overtime=soon", "'overtime=soon' in '100%:overtime=soon' is neither"),
        ("50%:15m,100%:keep=1%", "keep=1% needs a time in which the last step bakes"),
        ("99%:15m,100%:1m:keep=1%", "and leaves more than the step before"),
        ("50%:15m:keep=1%,100%", "keep=1% is for the last step"),
    ],
)
def test_what_a_last_step_may_say_is_known_offline(tmp_path: Path, steps: str, told: str) -> None:
    (found,) = problems(tmp_path, f"schedule: {steps}\n")
    assert told in found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("schedule: {steps: [{share: 100}], keep: 1}", "1:35: schedule.keep: is kept while"),
        ("schedule: 5%:5m,100%\nuntil: 2027-01-31T22:00:00Z", "2:1: until: a split keeps both"),
        ("schedule: {steps: [{share: 100}]}\nuntil: 2027-01-31T22:00:00Z", "2:1: until: a split"),
    ],
)
def test_how_a_schedule_ends_is_checked_offline(tmp_path: Path, text: str, told: str) -> None:
    (found,) = problems(tmp_path, f"{text}\n")
    assert found.startswith(told)


@pytest.mark.parametrize("schedule", ["50%:end", "careful", "{steps: [{share: 50}], end: 50}"])
def test_a_split_that_ends_below_the_whole_is_well(tmp_path: Path, schedule: str) -> None:
    text = f"schedule: {schedule}\nuntil: 2027-01-31T22:00:00Z\n"
    assert lint(str(written(tmp_path, text))).exit_code == exits.DONE


def test_a_last_step_may_say_all_of_it(tmp_path: Path) -> None:
    steps = "50%:15m,100%:10m:approve:n=9:keep=0.5%:overtime=proceed"
    assert lint(str(written(tmp_path, f"schedule: {steps}\n"))).exit_code == exits.DONE


def test_steps_of_their_own_must_rise(tmp_path: Path) -> None:
    text = "schedule:\n  steps:\n    - {share: 5}\n    - {share: 5}\n"
    assert problems(tmp_path, text) == [
        "4:8: schedule.steps.1.share: must be more than the step before (5 %)"
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("flags: {Search: {production: 1}}", "1:9: flags.Search: a name must be written as "),
        (
            "flags: {a: {production: -1}}",
            "1:13: flags.a.production: -1 is less than the minimum of 0",
        ),
        (
            "flags: {a: {production: 0.00001}}",
            "1:13: flags.a.production: must be in steps of 0.0001",
        ),
        (
            "flags: {a: {production: {weights: {x: 50}}}}",
            "1:26: flags.a.production.weights: must be 100 in all, not 50",
        ),
        ("flags: {a: {production: {}}}", "1:13: flags.a.production: {} has less than 1 property"),
        ("flags: [a]", "1:1: flags: must be a mapping, not a list"),
        ("flags: {a: 5}", "1:9: flags.a: must be a mapping, not a number (5)"),
    ],
)
def test_a_flags_problem(tmp_path: Path, text: str, told: str) -> None:
    found = problems(tmp_path, text)
    assert any(line.startswith(told) for line in found), found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("name: basket", "name: health"), "5:5: checks.1.name: there are two checks named"),
        (("url: /healthz", "url: healthz"), "4:5: checks.0.url: must be written as /healthz or"),
        (("timeout: 2s", "timeout: 2"), "10:5: checks.1.timeout: must be text, not a number (2)"),
        (("timeout: 2s", "timeout: soon"), "10:5: checks.1.timeout: must be written as 500ms or"),
        (("json: {sku: 1}", "json: {}\n    body: x"), "5:5: checks.1: must not have body and json"),
        (("[200, 201]", "2xx"), "13:7: checks.1.expect.status: must be a whole number or a list"),
        (("/items/0/sku", "items"), "17:14: checks.1.expect.json.items: a name must be written"),
        (("https://test", "test"), "1:1: base: must be written as https://test.shop.example"),
    ],
)
def test_a_checks_problem(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    assert CHECKS.count(change[0]) >= 1
    found = problems(tmp_path, CHECKS.replace(*change, 1))
    assert any(line.startswith(told) for line in found), found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "1:1: the file is empty"),
        ("a: [\n", "2:1: "),
        ("a: !!python/object:os.system {}", "1:4: could not determine a constructor"),
        ("a: &a {b: *a}", "1:1: maximum recursion depth"),
        ("a: .nan", "1:1: "),
        ("[1, 2]", "1:1: must be a mapping, not a list"),
        ("\t", "1:1: "),
    ],
)
def test_what_is_no_file_of_ours_at_all(tmp_path: Path, text: str, told: str) -> None:
    assert problems(tmp_path, text)[0].startswith(told)


def test_what_is_not_text_is_said(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "it is not UTF-8" in lint(str(path)).stdout


def test_aliases_of_aliases_end(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "it holds more than 10000 values" in problems(tmp_path, "\n".join(lines))[0]


def test_a_directory_is_searched_and_every_file_told(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    written(tmp_path, FLAGS, "flags.yaml")
    written(tmp_path / "deep", "flags: {a: 1}", "more.yml")
    written(tmp_path, "# no YAML", "README.md")

    done = lint(str(tmp_path), "--json")

    content: dict[str, Any] = json.loads(done.stdout)
    assert done.exit_code == exits.CHECK_FAILED
    assert content["kind"] == "lint"
    assert [Path(name).name for name in content["files"]] == ["more.yml", "flags.yaml"]
    (problem,) = content["problems"]
    assert (problem["line"], problem["column"], problem["field"]) == (1, 9, "flags.a")
    assert Path(problem["file"]).name == "more.yml"


def test_a_workflow_shows_it_beside_the_line(tmp_path: Path) -> None:
    path = written(tmp_path, "flags: {a: {b: 1%}}", "50%,a.yaml")

    done = lint(str(path), "--format", "github")

    assert done.stdout.startswith("::error file=")
    assert "50%25%2Ca.yaml,line=1,col=13::flags.a.b: must be a number or a mapping" in done.stdout
    assert done.stdout.count("\n") == 1


def test_a_files_text_forges_no_line(tmp_path: Path) -> None:
    text = json.dumps({"flags": {"a": {"b": "x\n::error::forged\x1b[2J"}}})
    for more in ((), ("--format", "github")):
        out = lint(str(written(tmp_path, text)), *more).stdout
        assert "\x1b" not in out
        assert not any(line.startswith("::error::") for line in out.splitlines())


def test_nothing_to_check_is_a_wrong_use(tmp_path: Path) -> None:
    assert lint().exit_code == exits.USAGE
    assert lint(str(tmp_path)).exit_code == exits.USAGE
    assert lint(str(tmp_path / "nowhere.yaml")).exit_code == exits.USAGE


def test_a_kind_may_be_said(tmp_path: Path) -> None:
    assert problems(tmp_path, FLAGS, "--kind", "checks")[0].endswith("checks is missing")


def test_what_the_server_refuses_of_a_rollout_is_told_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, ROLLOUT)
    refused = Failure("No.", detail="There is none.", field="/targets/0/name", code="invalid_field")
    told = rollout_body.in_the_file(path, refused, {})
    assert told.message == f"{path}: targets.0.name: There is none. (line 7)"
