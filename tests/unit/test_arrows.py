"""The house keeps its arrows: who may import whom, and that no room is left out of the rules."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SDK = ROOT / "sdk" / "src" / "sortition"
PURE = ("core", "judgement", "neutrality", "record")


def contracts() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    return parser


def rooms(package: Path) -> list[str]:
    """The modules and packages right inside a package."""
    files = (entry.stem for entry in package.glob("*.py") if not entry.stem.startswith("_"))
    folders = (entry.parent.name for entry in package.glob("*/__init__.py"))
    return sorted({*files, *folders})


def test_the_contracts_hold():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_importing_flagserver_imports_nothing_more():
    tree = ast.parse((ROOT / "flagserver" / "__init__.py").read_text())
    assert ast.get_docstring(tree)
    assert len(tree.body) == 1, "a re-export here makes `import admin` circular"


@pytest.mark.parametrize("room", rooms(ROOT / "flagserver"))
def test_every_room_of_the_server_has_its_floor(room):
    floors = contracts()["importlinter:contract:floors"]["layers"]
    drivers = contracts()["importlinter:contract:drivers"]["layers"]
    assert f"(flagserver.{room})" in floors + drivers, "say in .importlinter where it lives"


@pytest.mark.parametrize("room", rooms(SDK))
def test_every_room_of_the_sdk_has_its_floor(room):
    words = contracts()["importlinter:contract:sdk"]["layers"].replace("(", " ").replace(")", " ")
    assert room in words.split(), "say in .importlinter where it lives"


@pytest.mark.parametrize("room", [room for room in rooms(SDK) if room in PURE])
def test_pure_rooms_are_held_to_it(room):
    held = contracts()["importlinter:contract:pure"]["source_modules"].split()
    assert f"sortition.{room}" in held, "name it in .importlinter and in pyproject.toml (TID251)"


@pytest.mark.parametrize(
    "room", ["sortition.core.evaluate", "sortition.judgement.trial", "sortition.record.entry"]
)
def test_a_pure_room_brings_nothing_along_that_talks_to_a_server(room):
    # `import sortition.core` runs `sortition/__init__.py` first, which no import contract sees.
    script = f"import sys, {room}; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert room in loaded
    assert not {"sortition.sources.worker", "h11", "socket", "ssl", "subprocess"} & set(loaded)
