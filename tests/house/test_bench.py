"""Each benchmark runs by itself, prints a table, and says so when a bar is missed."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import PAGE, RUNS, misses, page
from bench.split import interval

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(file.name for file in (ROOT / "bench").glob("*.py") if file.name[0] != "_")
LONG = {
    *("delta.py", "herd.py", "judgement.py", "neutrality.py", "propagation.py"),
    *("record.py", "serving.py", "split.py", "streams.py"),
}
"""Even with a tiny budget these take five seconds and more."""


# Servers, fleets of clients, fresh interpreters: a busy machine needs its time for them.
pytestmark = pytest.mark.timeout(150)

Bench = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return a function that runs a benchmark with a tiny budget."""

    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "bench" / name), "--quick", *arguments]
        # Even if it has to be killed, what it kept goes with the test's own files.
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=140)

    return run


def a_result(**row: Any) -> dict[str, Any]:
    """A run of one row."""
    told = {"id": "r", "what": "a row", "figure": 5.0, "unit": "ms", "note": "", "bar": None}
    found = {"title": "A title", "asked": {}, "method": "How.", "facts": {"CPU": "fast"}}
    return {**found, "rows": [{**told, **row}]}


def test_make_bench_runs_every_file() -> None:
    assert sorted({name for name, *_ in RUNS}) == FILES


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in FILES],
)
def test_each_runs_with_a_tiny_budget_and_prints_a_table(bench: Bench, name: str) -> None:
    done = bench(name)

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    head = next(line for line in lines if line.startswith("| what"))
    assert [cell.strip() for cell in head.strip("|").split("|")] == ["what", "figure", "bar", "met"]
    assert any("<= " in line or ">= " in line for line in lines)
    assert any(line.startswith("CPU ") and "CPython" in line for line in lines)
    # Neither where it ran nor on which machine.
    assert str(ROOT) not in done.stdout


def test_a_missed_bar_is_told_and_with_check_an_error(bench: Bench) -> None:
    missed = bench("import.py", "--check", "--bar", "import_ms=0.001", "--bar", "import_mb=1000")
    told = bench("import.py", "--json", "--bar", "import_ms=0.001")

    assert missed.returncode == 1
    assert "missed: import_ms" in missed.stderr
    assert "missed: import_mb" not in missed.stderr
    (line,) = (line for line in missed.stdout.splitlines() if "CPU time (the interpreter" in line)
    assert "**missed**" in line
    # Without --check it is told all the same, and ends well.
    assert told.returncode == 0
    rows = {row["id"]: row for row in json.loads(told.stdout)["rows"]}
    assert rows["import_ms"]["met"] is False
    assert rows["import_ms"]["bar"] == {"sign": "<=", "number": 0.001}


def test_a_bar_that_nobody_knows_stops_it_and_lists_the_known_ones(bench: Bench) -> None:
    done = bench("import.py", "--bar", "speed=1")

    assert done.returncode == 1
    assert "speed" in done.stderr
    assert "import_mb" in done.stderr


def test_the_page_writes_what_was_missed_as_missed() -> None:
    met = a_result(bar={"sign": "<=", "number": 10.0})
    missed = a_result(bar={"sign": "<=", "number": 1.0})
    absent = a_result(figure=None, bar={"sign": ">=", "number": 1.0}, note="not installed")
    at = datetime(2026, 1, 2, tzinfo=UTC)

    assert misses([met]) == []
    assert "Every bar was met." in page([met], at)
    text = page([met, missed, absent], at)
    assert "2026-01-02. Missed in this run:" in text
    assert "- A title: a row: 5 ms, bar <= 1 ms" in text
    assert "not measured" in text
    assert text.count("**missed**") == 2


@pytest.mark.parametrize(("many", "share"), [(60, 0.05), (200, 0.25), (200, 0.5), (31, 0.5)])
def test_the_interval_of_a_split_is_the_narrowest_that_the_binomial_distribution_allows(
    many: int, share: float
) -> None:
    chance = [
        math.comb(many, count) * share**count * (1 - share) ** (many - count)
        for count in range(many + 1)
    ]
    low, high = interval(many, share, 0.01)

    assert sum(chance[:low]) <= 0.005 < sum(chance[: low + 1])
    assert sum(chance[high + 1 :]) <= 0.005 < sum(chance[high:])


def test_the_page_is_there_and_holds_every_benchmark() -> None:
    text = PAGE.read_text()

    assert text.startswith("# Benchmarks")
    assert text.count("\n## ") == len(RUNS)
    assert str(ROOT) not in text
