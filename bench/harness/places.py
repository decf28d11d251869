"""Where measured code runs: a place with the SDK's wheel, and one with other vendors' SDKs."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from .report import say

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "bench"
PEERS = CACHE / "peers" / "bin" / "python"
"""What `scripts/setup bench` makes; it need not be there."""


def installed() -> Path:
    """Return a Python that has this checkout's SDK as people get it: built, and installed.

    What it depends on is this environment's, which knows our own code as editable only and so
    hands none of it on. Made once for each state of `sdk/`.
    """
    place = CACHE / f"sdk-{_state_of_sdk()}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "ready").exists():
            say("building and installing the SDK's wheel")
            shutil.rmtree(place, ignore_errors=True)
            _make(place)
            (place / "ready").touch()
    return place / "bin" / "python"


def _make(place: Path) -> None:
    venv.create(place)
    python, wheels = place / "bin" / "python", place / "wheels"
    build = ["-m", "build", "--no-isolation", "--wheel", "--outdir", str(wheels)]
    _run(sys.executable, *build, str(ROOT / "sdk"))
    (wheel,) = wheels.glob("*.whl")
    pip = ["-m", "pip", "--disable-pip-version-check", "--python", str(python), "install"]
    _run(sys.executable, *pip, "--no-deps", "--no-index", str(wheel))
    (packages,) = (place / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    # What a host's start compiles once is not measured at every start.
    _run(str(python), "-m", "compileall", "-q", str(packages / "sortition"))


def _state_of_sdk() -> str:
    files = [ROOT / "sdk" / "pyproject.toml", *sorted((ROOT / "sdk" / "src").rglob("*.py"))]
    parts = [f"{sys.version} {ROOT}".encode()]
    for file in files:
        parts += [str(file.relative_to(ROOT)).encode(), file.read_bytes()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[:4])} … failed:\n{done.stdout}{done.stderr}")
