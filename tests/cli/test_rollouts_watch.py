"""`sortition rollouts watch`: what a pipeline's log says, and how it ends."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from rich.console import Console
from sortition.cli import exits, rollout_words, screens, summary, watching

from flagserver.domain import guards, verbs
from flagserver.domain.decisions import Obstacle
from flagserver.domain.guards import Kind
from flagserver.domain.rollout import Why
from flagserver.domain.targets import Target
from flagserver.domain.times import from_unix
from tests.cli.stage import HARM, Stage, a_verdict
from tests.unit.rollouts import a_rollout, at_step

FLAG_ONLY: dict[str, Any] = {"targets": (Target.of("flag", "new-search"),), "version": None}


# --- how it ends ----------------------------------------------------------------------------------


def test_a_rollout_that_gets_to_everybody_ends_with_0() -> None:
    done = Stage("5%:5m,25%:10m,100%").watch()

    lines = done.stdout.splitlines()
    assert done.exit_code == exits.DONE
    numbers = "http errors 0.31 % of 1 %  p95 latency 310 ms of 1000 ms"
    assert [line for line in lines if "reached" in line or "COMPLETE" in line] == [
        f"08:00:06Z r-1 step 1/3 at 5 %  reached  held 5m  {numbers}",
        f"08:05:06Z r-1 step 2/3 at 25 %  reached  held 10m  {numbers}",
        f"08:15:06Z r-1 step 3/3 at 100 %  reached  the last step  {numbers}",
        "08:15:10Z r-1 COMPLETE  at 100 %",
    ]


def test_one_that_was_rolled_back_ends_with_3_and_its_reason() -> None:
    stage = Stage()
    stage.at(500, stage.harm)

    done = stage.watch()

    assert done.exit_code == exits.ROLLED_BACK
    assert done.stdout.splitlines()[-1] == (
        f"08:08:21Z r-1 ROLLED BACK  from step 2/3 at 25 %: {HARM} "
        "Detected 08:08:20Z, at 0 % at once."
    )


def test_the_way_back_is_followed_until_it_is_confirmed() -> None:
    stage = Stage()
    stage.at(100, stage.harm)
    stage.at(100, lambda: setattr(stage.world, "cloud_away", True))
    stage.at(130, lambda: setattr(stage.world, "cloud_away", False))

    done = stage.watch()

    back = [line for line in done.stdout.splitlines() if "ROLL" in line]
    assert [line.split("  ")[0] for line in back] == [
        "08:01:40Z r-1 ROLLING BACK",
        "08:02:10Z r-1 ROLLED BACK",
    ]
    assert "at 0 % 30s later" in back[1]
    assert done.exit_code == exits.ROLLED_BACK


@pytest.mark.parametrize("happens", [Stage.blind, Stage.pause])
def test_a_hold_ends_it_with_4_if_that_was_asked_for(happens: Callable[[Stage], None]) -> None:
    stage = Stage()
    stage.at(200, lambda: happens(stage))

    done = stage.watch("--fail-on-hold")

    assert done.exit_code == exits.HOLDING
    assert re.search(r"HOLDING  .*no data|PAUSED  .*somebody stopped it", done.stdout)


def test_a_hold_is_waited_through_otherwise() -> None:
    stage = Stage()
    stage.at(200, stage.blind)
    stage.at(400, stage.well_again)

    events = [event["event"] for event in stage.events()]

    happened = [kind for kind in events if kind not in {"progress", "watching", "limit"}]
    assert happened == ["step", "holding", "resumed", "step", "step", "completed"]


def test_when_the_time_is_up_it_ends_with_5_and_the_rollout_goes_on() -> None:
    done = Stage().watch("--timeout", "2m")

    assert done.exit_code == exits.TIMED_OUT
    assert done.stdout.splitlines()[-1] == (
        "08:02:00Z r-1 TIMED OUT  after 2m: ▶ Running, step 1/3 at 5 %; the rollout goes on"
    )


def test_by_default_it_watches_the_schedule_and_a_quarter_of_an_hour() -> None:
    stage = Stage("5%:5m,25%:10m,100%")
    stage.at(10, stage.pause)

    done = stage.watch()

    assert "watched for 30m at most" in done.stdout.splitlines()[1]
    assert (done.exit_code, stage.seconds) == (exits.TIMED_OUT, 30 * 60)


def test_one_that_waits_for_its_time_is_watched_until_then_as_well() -> None:
    stage = Stage("5%:5m,100%")
    stage.world.rollout = a_rollout(
        schedule=stage.world.rollout.schedule, start_at=stage.world.now + 3600
    )

    done = stage.watch()

    assert "waits to start at 2027-01-15T09:00:00" in done.stdout
    assert "watched for 1h20m at most" in done.stdout
    assert "started" in done.stdout
    assert done.exit_code == exits.DONE


def test_a_rollback_that_cannot_be_confirmed_is_3_when_the_time_is_up() -> None:
    stage = Stage()
    stage.at(100, lambda: setattr(stage.world, "cloud_away", True))
    stage.at(100, stage.roll_back)
    trouble = "alb/arn:rule still shows 5 %."
    stage.at(
        170,
        lambda: stage.commit(verbs.rollback_failed(stage.world.rollout, trouble, stage.world.now)),
    )

    done = stage.watch("--timeout", "5m")

    assert done.exit_code == exits.ROLLED_BACK
    assert f"ROLLBACK FAILED, tried again  It is slow. Not confirmed yet: {trouble}" in done.stdout
    assert "TIMED OUT  after 5m: the rollback is not confirmed yet." in done.stdout


def test_one_that_a_newer_one_replaced_is_no_success() -> None:
    stage = Stage()

    def replaced() -> None:
        old = stage.world.rollout
        stage.world.rollout = verbs.supersede(old, "r-2", old.targets, stage.world.now)

    stage.at(60, replaced)

    done = stage.watch()

    assert done.exit_code == exits.CONFLICT
    assert "REPLACED  by the newer rollout r-2" in done.stdout.splitlines()[-1]


def test_an_ended_rollout_is_told_at_once() -> None:
    stage = Stage()
    stage.roll_back()
    stage.tick()

    done = stage.watch()

    assert done.exit_code == exits.ROLLED_BACK
    assert stage.seconds == 0
    assert "ROLLED BACK  before" not in done.stdout


def test_a_state_that_this_command_does_not_know_is_no_success() -> None:
    stage = Stage()
    told = {**stage.shown(), "state": "dissolved", "state_words": "Dissolved", "terminal": True}
    stage.answer = lambda: httpx.Response(200, json=told)

    assert stage.watch().exit_code == exits.ERROR


def test_ctrl_c_ends_the_watching_and_not_the_rollout() -> None:
    stage = Stage()

    def press() -> None:
        raise KeyboardInterrupt

    stage.at(30, press)

    done = stage.watch()

    assert done.exit_code == 130
    assert "detached; the rollout goes on" in done.stdout
    assert {request.method for request in stage.asked} == {"GET"}


# --- while the server is away ---------------------------------------------------------------------


def test_a_server_that_is_away_is_told_of_once_and_outlived() -> None:
    stage = Stage()
    stage.at(100, stage.go_away)
    stage.at(250, stage.come_back)

    done = stage.watch()

    assert done.exit_code == exits.DONE
    assert done.stdout.count("UNREACHABLE") == 1
    assert done.stdout.count("the server answers again") == 1


def test_what_happened_meanwhile_is_told_when_it_is_back() -> None:
    stage = Stage()
    stage.at(100, stage.go_away)
    stage.at(120, stage.harm)
    stage.at(250, stage.come_back)

    done = stage.watch()

    assert done.exit_code == exits.ROLLED_BACK
    assert done.stdout.splitlines()[-2:][0].endswith("the server answers again")


def test_one_that_never_answers_ends_with_6() -> None:
    stage = Stage()
    stage.go_away()

    done = stage.watch("--timeout", "3m")

    assert (done.exit_code, stage.seconds) == (exits.UNREACHABLE, 180)
    assert "without any answer" in done.stdout


def test_one_that_is_away_at_the_end_was_last_seen_running() -> None:
    stage = Stage()
    stage.at(60, stage.go_away)

    done = stage.watch("--timeout", "3m")

    assert done.exit_code == exits.TIMED_OUT
    assert "last seen ▶ Running" in done.stdout


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(502, text="<html>Bad Gateway</html>"),
        httpx.Response(503, json={"code": "store_unavailable", "detail": "No.", "status": 503}),
        httpx.Response(500, json={"code": "internal_error", "detail": "No.", "status": 500}),
        httpx.Response(429, json={"code": "too_busy", "detail": "No.", "status": 429}),
    ],
    ids=lambda answer: str(answer.status_code),
)
def test_what_may_pass_is_waited_for(answer: httpx.Response) -> None:
    stage = Stage("5%:5m,100%")
    stage.answer = lambda: answer
    stage.at(30, stage.come_back)

    assert stage.watch().exit_code == exits.DONE


@pytest.mark.parametrize(
    ("status", "problem", "code"),
    [
        (404, "not_found", exits.ERROR),
        (401, "unauthenticated", exits.NOT_PERMITTED),
        (403, "forbidden", exits.NOT_PERMITTED),
    ],
)
def test_what_does_not_pass_ends_it_at_once(status: int, problem: str, code: int) -> None:
    stage = Stage()
    body = {"code": problem, "detail": "No.", "status": status}
    stage.answer = lambda: httpx.Response(status, json=body)

    done = stage.watch()

    assert (done.exit_code, stage.seconds) == (code, 0)
    assert done.stderr.startswith("✖ No.")


def test_something_else_at_the_address_is_no_server_that_is_away() -> None:
    stage = Stage()
    stage.answer = lambda: httpx.Response(200, text="<html>")

    assert (stage.watch().exit_code, stage.seconds) == (exits.ERROR, 0)


# --- what is said ---------------------------------------------------------------------------------


def test_a_line_a_minute_says_that_it_goes_on() -> None:
    stage = Stage("5%:30m,100%")

    lines = [line for line in stage.watch("--timeout", "10m").stdout.splitlines() if "left" in line]

    assert len(lines) == 9
    assert lines[0].startswith("08:01:06Z r-1 step 1/2 at 5 %  29m left  http errors 0.31 % of 1 %")


def test_json_is_an_object_a_line_and_the_last_has_the_exit_code() -> None:
    stage = Stage()
    stage.at(500, stage.harm)

    events = stage.events()

    last = events[-1]
    assert (last["event"], last["exit_code"], last["state"]) == ("rolled_back", 3, "rolled_back")
    assert (last["at"], last["rollout"]) == ("2027-01-15T08:08:21Z", "r-1")
    assert (last["step"], last["steps"], last["share"]) == (2, 3, 25.0)
    assert last["reason"] == HARM
    assert last["targets"] == {"alb/arn:rule": 0.0, "flag/new-search": 0.0}
    assert last["guards"][0]["guard"] == "http errors"
    assert all("exit_code" not in event for event in events[:-1])
    assert len({tuple(sorted(set(event) - {"exit_code"})) for event in events}) == 1


def test_json_of_a_server_that_never_answered_has_the_same_fields() -> None:
    stage = Stage()
    stage.go_away()

    events = stage.events("--timeout", "60")

    assert [event["event"] for event in events] == ["unreachable", "timed_out"]
    assert events[-1]["exit_code"] == 6
    assert events[-1]["state"] is None


def test_an_approval_is_asked_for_with_its_command_and_told() -> None:
    stage = Stage("5%:5m:approve,100%")

    def approve() -> None:
        stage.commit(verbs.approve(stage.world.rollout, "token:lead", stage.world.now))

    stage.at(400, approve)

    done = stage.watch()

    assert "reached  held 5m  needs an approval" in done.stdout
    assert "HOLDING  step 1/2 at 5 %: Step 1 waits to be approved." in done.stdout
    assert "(sortition rollouts approve r-1)" in done.stdout
    assert "step 1 was approved by token:lead" in done.stdout
    assert done.exit_code == exits.DONE


def test_a_hold_for_another_reason_is_told_anew() -> None:
    stage = Stage()
    killed = Obstacle(Why.FLAG, "new-search was killed.")
    stage.at(200, stage.blind)
    stage.at(301, lambda: stage.world.look(stage.action, killed))

    said = [line for line in stage.watch("--timeout", "6m").stdout.splitlines() if "HOLD" in line]

    assert "no data" in said[0]
    assert any("new-search was killed." in line for line in said)


def test_a_rollout_that_no_controller_looks_at_is_unknown_and_never_well() -> None:
    stage = Stage()
    stage.at(100, lambda: setattr(stage, "looked_at", False))
    stage.at(300, lambda: setattr(stage, "looked_at", True))

    done = stage.watch()

    assert "UNKNOWN  no controller has looked at it since 08:01:" in done.stdout
    assert "looked at again" in done.stdout
    assert done.exit_code == exits.DONE


def test_a_reason_from_elsewhere_forges_no_line_and_steers_no_terminal() -> None:
    stage = Stage()
    stage.at(100, lambda: stage.harm("bad\n08:00:00Z r-1 COMPLETE\x1b[2J\u202e"))

    done = stage.watch()

    last = done.stdout.splitlines()[-1]
    assert "ROLLED BACK  from step 1/3 at 5 %: bad 08:00:00Z r-1 COMPLETE [2J " in last
    assert "\x1b" not in done.stdout


def test_failing_guards_are_said_first() -> None:
    stage = Stage()
    errors, latency, sessions, *_ = guards.standard()
    stage.verdicts = [
        a_verdict(errors),
        a_verdict(latency, 1.2, Kind.FAIL),
        a_verdict(sessions, kind=Kind.NO_DATA),
    ]

    line = next(line for line in stage.watch().stdout.splitlines() if "reached" in line)

    assert "p95 latency 1200 ms of 1000 ms  http errors 0.31 % of 1 %" in line


# --- the summary ----------------------------------------------------------------------------------


def test_a_summary_is_appended_for_the_pipelines_page(tmp_path: Path) -> None:
    page = tmp_path / "summary.md"
    page.write_text("# Deploy\n")
    stage = Stage()
    stage.at(500, stage.harm)

    done = stage.watch("--summary", str(page))

    text = page.read_text()
    assert done.exit_code == exits.ROLLED_BACK
    assert text.startswith("# Deploy\n### api 2 in production: ✖ Rolled back\n")
    assert "| 2 | 25 % | 10m | taken back from here |" in text
    assert "| http errors | 0.31 % | 0.279 % | ≤ 1 % | ✔ pass |" in text
    assert "| alb arn:rule | 0 % |" in text


def test_a_summary_shows_names_as_they_are() -> None:
    told = {**Stage().shown(), "version": "<img src=x> | `rm` [a](b)\n# big"}

    text = summary.markdown(told, "over")

    assert r"\<img src=x\> \| \`rm\` \[a\](b) \# big" in text.splitlines()[0]


def test_a_summary_that_cannot_be_written_is_said_before_the_watching(tmp_path: Path) -> None:
    stage = Stage()

    done = stage.watch("--summary", str(tmp_path / "nowhere" / "summary.md"))

    assert (done.exit_code, stage.asked) == (exits.USAGE, [])
    assert "--summary: " in done.stderr


@pytest.mark.parametrize("text", ["soon", "", "-5", "5x"])
def test_a_time_that_is_none_is_refused_with_examples(text: str) -> None:
    done = Stage().watch(f"--timeout={text}")

    assert done.exit_code == exits.USAGE
    assert "write 90s, 45m or 1h30m" in done.stderr


# --- on a terminal --------------------------------------------------------------------------------


def a_terminal(**more: Any) -> Console:
    given = {"width": 100, "force_terminal": True, "color_system": None, "legacy_windows": False}
    return Console(file=io.StringIO(), **{**given, **more})


def drawn(stage: Stage, age: float = 0.0, **more: Any) -> str:
    where = a_terminal(**more)
    where.print(screens.picture(stage.shown(), where, age))
    return str(where.file.getvalue())  # type: ignore[attr-defined]


def test_the_picture_has_steps_targets_and_guards() -> None:
    stage = Stage()
    stage.sleep(5 * 60 + 5 + 4 * 60)

    text = drawn(stage, no_color=True)

    lines = [line.rstrip() for line in text.splitlines()]
    assert lines[0] == "api 2 in production  rollout r-1  ▶ Running  step 2/3 at 25 %"
    assert lines[2:5] == [
        "  5 %  5m        ########################  ✔ done",
        " 25 %  10m       ##########..............  ▶ now   6m left",
        "100 %  complete                            • next",
    ]
    rows = [" ".join(line.split()) for line in lines]
    assert "alb arn:rule 25 % 25 % 25 %" in rows
    assert "new-search 25 % 25 % –" in rows
    assert "http errors 0.31 % 0.279 % ≤ 1 % ✔ pass" in rows
    assert "user session errors – – ≤ 0.5 % – not looked at yet" in rows


def test_the_bar_goes_on_between_two_answers() -> None:
    stage = Stage()
    stage.sleep(5 * 60 + 5)

    assert "10m left" in drawn(stage, no_color=True)
    assert "8m left" in drawn(stage, age=120.0, no_color=True)


def test_bars_are_drawn_fine_where_there_is_colour() -> None:
    stage = Stage()
    stage.sleep(5 * 60 + 5 + 5 * 60)

    assert "━━━━━━━━━━━━────────────" in drawn(stage, color_system="truecolor")


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stage = Stage()
    stage.sleep(60)

    assert "━" not in drawn(stage)


def test_a_rollout_that_went_back_shows_where_and_why() -> None:
    stage = Stage()
    stage.at(400, stage.harm)
    stage.sleep(420)

    text = drawn(stage, no_color=True)

    assert "✖ Rolled back" in text
    assert HARM in text
    assert re.search(r"25 %  10m +\.+  ✖ taken back", text)


def test_a_long_schedule_shows_the_steps_around_the_current_one() -> None:
    text = ",".join(f"{share}%:1m" for share in range(1, 100)) + ",100%"
    stage = Stage(text)
    stage.sleep(50 * 65)

    lines = drawn(stage, no_color=True).splitlines()

    assert len(lines) < 40
    assert any("before" in line for line in lines)
    assert any("more" in line for line in lines)
    assert any("▶ now" in line for line in lines)


def test_what_was_seen_before_it_went_back_is_not_shown_as_what_is() -> None:
    stage = Stage()
    stage.sleep(100)
    stage.pause()
    before = stage.look()
    assert "alb arn:rule 5 % 5 % 5 %" in " ".join(drawn(stage, no_color=True).split())

    stage.roll_back()
    stage.sleep(5)
    told = {**stage.shown(), "last_look": before}
    where = a_terminal(no_color=True)
    where.print(screens.picture(told, where))

    assert told["state"] == "rolled_back"
    shown = " ".join(where.file.getvalue().split())  # type: ignore[attr-defined]
    assert "alb arn:rule 0 % 0 % – " in shown


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ("guard", "Detected"),
        ("person", "Rolled back by somebody"),
        ("engine", "Rolled back by its engine"),
        ("something newer", "Detected"),
    ],
)
def test_who_went_back(by: str, words: str) -> None:
    stage = Stage()
    stage.at(100, stage.harm)
    stage.sleep(110)
    told = stage.shown()
    told["rollback"]["by"] = by

    assert rollout_words.rollback_times(told).startswith(f"{words} 08:01:40Z, at 0 % ")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "at once"), (0.4, "at once"), (4.2, "4s later")], ids=str
)
def test_how_long_the_way_back_took(seconds: float, words: str) -> None:
    stage = Stage()
    stage.at(100, stage.roll_back)
    stage.sleep(110)
    told = stage.shown()
    confirmed = rollout_words.unix(told["rollback"]["detected"]) + seconds
    told["rollback"]["confirmed"] = from_unix(confirmed)

    assert rollout_words.rollback_times(told).endswith(f"at 0 % {words}.")


def test_shares_that_differ_are_spelt_out() -> None:
    stage = Stage("5%:5m,100%", relation="after")

    text = drawn(stage, no_color=True, width=160)

    assert "alb arn:rule 5 %, new-search 0 %" in text
    assert "alb arn:rule 100 %, new-search 5 %" in text


def test_a_flag_alone_needs_no_version() -> None:
    assert "api in production" in drawn(Stage(**FLAG_ONLY), no_color=True)


def test_on_a_terminal_the_table_stays_with_how_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    where = a_terminal(no_color=True)
    monkeypatch.setattr(screens, "console", lambda: where)
    stage = Stage("5%:5m,100%")
    stage.at(100, stage.go_away)
    stage.at(130, stage.come_back)

    done = stage.watch()

    text = where.file.getvalue()  # type: ignore[attr-defined]
    frames = text.split("api 2 in production")
    assert done.exit_code == exits.DONE
    assert "Ctrl-C detaches (the rollout goes on)" in text
    assert "watched for 20m at most (--timeout)" in " ".join(text.split())
    assert "✖ http://flags.test is not reachable; asked again" in text
    assert frames[-1].rstrip().removesuffix("\x1b[?25h").rstrip().endswith("COMPLETE  at 100 %")


def test_between_two_looks_nothing_happens_twice() -> None:
    stage = Stage()
    stage.world.rollout = at_step(1)
    told = json.loads(json.dumps(stage.shown()))

    assert watching.happened(told, told) == []


# --- as a process ---------------------------------------------------------------------------------


@pytest.fixture
def served() -> Iterator[str]:
    """Serve a rollout that stands where it is; give the address."""
    told = json.dumps(Stage().shown()).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def a_process(url: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sortition.cli", "rollouts", "watch", "r-1", *words],
        env={"PATH": os.environ["PATH"], "SORTITION_URL": url, "SORTITION_TOKEN": "x"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_lines_are_there_at_once_and_ctrl_c_leaves_with_130(served: str) -> None:
    with a_process(served) as process:
        # In a pipe, and long before the process ends.
        first = process.stdout.readline() if process.stdout is not None else ""
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=20)

    assert re.match(r"\d\d:\d\d:\d\dZ r-1 before the first step", first)
    assert "detached; the rollout goes on" in rest
    assert (process.returncode, errors) == (130, "")


def test_a_reader_who_has_had_enough_gets_no_traceback(served: str) -> None:
    with a_process(served, "--timeout", "3") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        process.wait(timeout=20)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
