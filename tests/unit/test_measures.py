"""Measures of several processes become one page: each counted once, whoever is asked."""

from __future__ import annotations

import os
import stat
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flagserver import measures
from flagserver.measures import BY_NAME, CATALOGUE, Board, Samples

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


class Machine:
    """A host whose processes live and end as a test says."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = 1_000.0
        self.living: set[str] = set()

    def process(self, **samples: Any) -> Board:
        told: Samples = {name: {(): value} for name, value in samples.items()}
        board = Board(self.directory, now=lambda: self.now, alive=lambda _: False)
        board.add(lambda: told)
        return board


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "metrics")


def read(board: Board) -> dict[str, float]:
    text = board.page().body.decode()
    return {
        sample.name + "".join(f"|{value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_whoever_is_asked_tells_of_all(machine: Machine):
    boards = [
        machine.process(sse_opened=1.0, sse_clients=1.0, redis_up=1.0, audit_entries=7.0),
        machine.process(sse_opened=10.0, sse_clients=5.0, redis_up=0.0, audit_entries=9.0),
    ]
    for board in boards:
        board.publish()

    for board in boards:
        told = read(board)
        assert told["sortition_sse_opened_total"] == 11
        assert told["sortition_sse_clients"] == 6
        assert told["sortition_redis_up"] == 0
        assert told["sortition_audit_entries_total"] == 9


def test_what_grows_outlives_its_process_and_nothing_else_does(machine: Machine):
    ended = machine.process(sse_opened=5.0, sse_clients=5.0, redis_up=0.0)
    ended.publish()
    living = machine.process(sse_opened=1.0, sse_clients=1.0, redis_up=1.0)

    machine.now += measures.LIVE_SECONDS
    living.publish()
    told = read(living)

    assert told["sortition_sse_opened_total"] == 6
    assert (told["sortition_sse_clients"], told["sortition_redis_up"]) == (1, 1)


def test_what_the_ended_counted_is_gathered_once(machine: Machine):
    for _ in range(20):
        machine.process(sse_opened=1.0, sse_clients=1.0).publish()
    living = machine.process(sse_opened=1.0)

    for _ in range(3):
        living.gather_the_ended()

    assert [path.name for path in machine.directory.iterdir()] == [measures.ENDED]
    assert read(living)["sortition_sse_opened_total"] == 21


def test_of_a_process_that_lives_nothing_is_gathered(machine: Machine):
    boards = [Board(machine.directory) for _ in range(3)]
    for board in boards:
        board.add(lambda: {"sse_opened": {(): 1.0}})
        board.publish()

    boards[0].gather_the_ended()

    assert len([*machine.directory.iterdir()]) == 3


def test_whoever_starts_them_all_begins_anew(machine: Machine):
    machine.process(sse_opened=5.0).publish()
    board = machine.process(sse_opened=1.0)

    board.begin_anew()

    assert read(board)["sortition_sse_opened_total"] == 1


def test_histograms_add_up_bucket_by_bucket(machine: Machine):
    edges = len(measures.TICK_SECONDS)
    one = machine.process(controller_tick_duration_seconds=[1.0] * (edges + 1) + [0.5])
    two = machine.process(controller_tick_duration_seconds=[0.0] * edges + [2.0, 20.0])
    two.publish()

    told = read(one)

    name = "sortition_controller_tick_duration_seconds"
    assert told[f"{name}_bucket|0.01"] == 1
    assert told[f"{name}_bucket|5.0"] == edges
    assert told[f"{name}_bucket|+Inf"] == told[f"{name}_count"] == edges + 3
    assert told[f"{name}_sum"] == 20.5


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format": 9}', b'{"format": 1, "at": 1}'])
def test_a_damaged_file_is_not_there(machine: Machine, damage: bytes):
    board = machine.process(sse_opened=1.0)
    board.publish()
    (machine.directory / "damaged.json").write_bytes(damage)

    assert read(board)["sortition_sse_opened_total"] == 1


def test_what_a_later_version_counts_is_left_out(machine: Machine):
    later = machine.process(sse_opened=1.0, something_new=1.0)
    later.publish()

    assert "sortition_something_new" not in str(machine.process().page().body)


def test_a_full_disk_stops_nothing_and_is_told_once(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    board = machine.process(sse_opened=1.0)

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(measures, "_write", full)
    board.publish()
    board.publish()

    assert len(caplog.records) == 1
    assert read(board)["sortition_sse_opened_total"] == 1


def test_files_are_for_their_user_only(machine: Machine):
    machine.process(sse_opened=1.0).publish()

    assert stat.S_IMODE(machine.directory.stat().st_mode) == 0o700
    [path] = machine.directory.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_label_names_a_person_a_request_or_a_token():
    labels = {label for metric in CATALOGUE for label in metric.labels}

    assert labels == {
        *("version", "component", "handler", "code", "environment", "kind", "result"),
        *("service", "state", "outcome", "trigger", "guardrail", "track", "verdict", "source"),
        *("operation", "channel", "hook", "answer", "command", "flag", "variant", "action"),
    }


def test_what_names_flags_is_bounded():
    assert {metric.name for metric in CATALOGUE if metric.most} == {
        metric.name for metric in CATALOGUE if "flag" in metric.labels
    }


def evaluations_of(flags: int, number: float) -> Samples:
    names = [f"flag-{i:05}" for i in range(flags)]
    places = product(["production"], names, ["off", "on"])
    return {"flag_evaluations": dict.fromkeys(places, number)}


def test_what_finds_no_room_is_one_number_and_nothing_is_lost(machine: Machine):
    processes = [machine.process(), machine.process()]
    for board, flags in zip(processes, (3_000, 1_500), strict=True):
        board.add(partial(evaluations_of, flags, 2.0))
        board.publish()

    told = {k: v for k, v in read(processes[0]).items() if "flag_evaluations" in k}

    assert len(told) == measures.FLAG_SETS
    assert sum(told.values()) == 2 * (3_000 + 1_500) * 2
    first = "sortition_flag_evaluations_total|production|flag-00000"
    assert told[f"{first}|on"] == told[f"{first}|off"] == 4
    assert told["sortition_flag_evaluations_total|||"] == sum(told.values()) - 1_999 * 4


def test_of_too_many_flags_the_first_are_told_of_in_every_environment(machine: Machine):
    board = machine.process()
    names = [f"flag-{i:05}" for i in range(measures.FLAG_SETS)]
    shares: Samples = {
        "flag_target_ratio": dict.fromkeys(product(["production", "staging"], names), 0.5)
    }
    board.add_asked(lambda: shares)

    told = read(board)

    assert len(told) == measures.FLAG_SETS - 1
    assert "sortition_flag_target_ratio|staging|flag-00900" in told
    assert "sortition_flag_target_ratio|production|flag-01500" not in told


def test_names_are_as_prometheus_wants_them():
    assert len(BY_NAME) == len(CATALOGUE)
    for metric in CATALOGUE:
        assert not metric.name.endswith("_total")
        assert metric.help.endswith((".", "0."))
        assert bool(metric.edges) == (metric.kind == "histogram")


def test_every_metric_is_on_the_page_for_people():
    text = PAGE.read_text()

    for metric in CATALOGUE:
        name = f"sortition_{metric.name}{'_total' if metric.kind == 'counter' else ''}"
        labels = f"{{{','.join(metric.labels)}}}" if metric.labels else ""
        assert f"`{name}{labels}`" in text, name
