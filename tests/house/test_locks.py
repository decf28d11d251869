"""Lock files pin and hash everything and name no address."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON_LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
NPM_LOCKS = [
    ROOT / "admin/frontend/package-lock.json",
    ROOT / "tests/e2e/ofrep_js/package-lock.json",
]


@pytest.mark.parametrize("lock", PYTHON_LOCKS, ids=lambda lock: lock.name)
def test_every_python_package_is_pinned_and_hashed(lock):
    text = lock.read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert lines
    for line in lines:
        assert re.match(r"[\w.-]+==\S+ .*--hash=sha256:", line), line


@pytest.mark.parametrize("lock", NPM_LOCKS, ids=lambda lock: lock.parent.name)
def test_every_front_end_package_is_pinned_and_hashed(lock):
    packages = json.loads(lock.read_text())["packages"]
    for name, package in packages.items():
        if name:
            assert package["version"], name
            assert package["integrity"].startswith("sha512-"), name


@pytest.mark.parametrize(
    "lock", [*PYTHON_LOCKS, *NPM_LOCKS], ids=lambda lock: f"{lock.parent.name}/{lock.name}"
)
def test_no_address_is_named(lock):
    assert "://" not in lock.read_text()
    assert "resolved" not in lock.read_text()
