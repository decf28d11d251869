"""Every exception to a rule of safety says on its line why it is one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("admin", "bench", "deploy", "examples", "flagserver", "scripts", "sdk", "tests")
NOQA = "noqa"
EXCEPTION = re.compile(r"# noqa:(?P<rules>[ ,A-Z0-9]+)(?P<reason>.*)")
SAFETY = re.compile(r"\bS\d{3}\b")
REASON = re.compile(r"(\(|- )\S.{3,}")


def unreasoned(text: str) -> list[str]:
    """Return the lines that are excepted from a rule of safety and do not say why."""
    found = []
    for line in text.splitlines():
        told = EXCEPTION.search(line)
        if told and SAFETY.search(told["rules"]) and not REASON.match(told["reason"]):
            found.append(line.strip())
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_an_exception_says_why(room: str) -> None:
    files = [*(ROOT / room).rglob("*.py"), *(ROOT / "scripts").glob("[a-z]*")]
    told = {
        str(file.relative_to(ROOT)): unreasoned(file.read_text())
        for file in files
        if file.is_file() and "node_modules" not in file.parts
    }
    assert {file: lines for file, lines in told.items() if lines} == {}


def test_one_without_a_reason_is_found() -> None:
    bare = f"seed = random.random()  # {NOQA}: S311"
    assert unreasoned(bare) == [bare]
    assert unreasoned(f"{bare} (no secret)") == []
    assert unreasoned(bare.replace("S311", "BLE001, S110")) != []


def test_the_rules_of_safety_are_on_everywhere() -> None:
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "S" in rules["select"]
    assert all("S" not in without for without in rules["per-file-ignores"].values())
