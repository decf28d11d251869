"""The image and the installation on it say what exists: commands, files, and a store that keeps."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} (.+)$", DOCKERFILE, flags=re.MULTILINE)


def commands_of(service: str) -> list[str]:
    return shlex.split(COMPOSE["services"][service]["command"])


def ignored() -> set[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines, "what is not named does not go into the image"
    return {line.removeprefix("!") for line in lines if line.startswith("!")}


def test_what_is_copied_exists_and_is_let_in():
    sources = [
        source
        for line in instructions("COPY")
        if not line.startswith("--from")
        for source in line.split()[:-1]
    ]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source.split("/")[0] in ignored(), f"{source} is kept out by .dockerignore"


def test_the_image_runs_as_nobody_in_particular():
    assert instructions("USER") == ["sortition"]


def test_the_commands_of_the_image_are_installed():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    (command,) = instructions("CMD")
    assert json.loads(command)[0] in scripts
    for service in ("web", "controller"):
        assert commands_of(service)[0] in scripts


@pytest.mark.parametrize("command", ["run", "web", "controller"])
def test_the_server_knows_the_commands_of_the_image(command):
    from flagserver.main import main

    assert command in main.commands


def test_health_is_asked_where_the_server_answers():
    (check,) = re.findall(r"^HEALTHCHECK .*?CMD (\[.+\])$", DOCKERFILE, flags=re.MULTILINE)
    program, flag, script = json.loads(check)
    assert (program, flag) == ("python", "-c")
    compile(script, "HEALTHCHECK", "exec")
    assert "/healthz" in script


def test_settings_of_the_image_are_known():
    from flagserver.settings import SETTINGS

    named = set(re.findall(r"\bSORTITION_[A-Z_]+(?==)", DOCKERFILE))
    for service in COMPOSE["services"].values():
        named |= set(service.get("environment", {}))
    assert named
    assert named <= set(SETTINGS)


def test_the_store_syncs_every_write_and_evicts_nothing():
    words = commands_of("store")
    told = dict(zip(words[1::2], words[2::2], strict=True))
    assert told["--appendonly"] == "yes"
    assert told["--appendfsync"] == "always"
    assert told["--maxmemory-policy"] == "noeviction"
    assert COMPOSE["services"]["store"]["volumes"] == ["store:/data"]
