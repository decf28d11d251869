"""What people install is whole: both wheels, by way of an sdist, in a fresh place."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from hatch_build import documents

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def run(*command: str | Path, **changes: str) -> str:
    environment = {**os.environ, **changes}
    done = subprocess.run(
        [str(part) for part in command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, into: Path, **changes: str) -> Path:
    """Build an sdist of `source`, and a wheel from that sdist."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", into, source, **changes)
    (wheel,) = into.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def sdk_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT / "sdk", tmp_path_factory.mktemp("sdk"))


@pytest.fixture(scope="module")
def server_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("server"))


def tracked(*folders: str) -> set[str]:
    """The files in the folders, less those that git is told to ignore."""
    listing = ["ls-files", "--cached", "--others", "--exclude-standard"]
    names = run("git", "-C", ROOT, *listing, *folders).splitlines()
    return {name for name in names if (ROOT / name).exists()}


def contents(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def test_the_light_wheel_holds_its_package_and_nothing_else(sdk_wheel: Path):
    expected = {name.removeprefix("sdk/src/") for name in tracked("sdk/src")}
    assert contents(sdk_wheel) == expected
    assert "sortition/py.typed" in expected


def test_the_servers_wheel_holds_code_pages_scripts_and_front_end_files(server_wheel: Path):
    expected = {
        name for name in tracked("flagserver", "admin") if not name.startswith("admin/frontend/")
    }
    vendored = {name for name in contents(server_wheel) if name.startswith("admin/static/vendor/")}
    expected |= set(documents(ROOT).values())
    assert contents(server_wheel) - vendored == expected
    assert {"admin/static/vendor/manifest.json", "admin/static/vendor/LICENSES.txt"} <= vendored


def test_both_work_where_nothing_else_is(sdk_wheel: Path, server_wheel: Path, tmp_path: Path):
    place = tmp_path / "venv"
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", sdk_wheel, server_wheel)
    # Dependencies are those of this environment; its own two distributions, being editable, are
    # not seen through a path file.
    ours, theirs = (
        Path(run(which, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        for which in (sys.executable, python)
    )
    (theirs / "dependencies.pth").write_text(f"{ours}\n")
    for module in ("sortition", "flagserver", "admin"):
        where = run(python, "-I", "-c", f"import {module}; print({module}.__file__)")
        assert where.startswith(str(theirs))
    assert "Usage" in run(place / "bin" / "flagserver", "--help")
    assert "Usage" in run(place / "bin" / "sortition", "--help")


def test_a_build_without_front_end_files_is_possible(tmp_path: Path):
    source = tmp_path / "source"
    for name in [*tracked("flagserver", "admin"), "pyproject.toml", "hatch_build.py", "README.md"]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    (source / "LICENSE").write_bytes((ROOT / "LICENSE").read_bytes())
    wheel = build(source, tmp_path / "out", SORTITION_SKIP_ASSETS="1")
    assert not [name for name in contents(wheel) if "vendor" in name]
