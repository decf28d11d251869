"""What every test stands on: a clean environment, and tools that are there or are named."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import filelock
import hypothesis
import pytest
from playwright.sync_api import Browser

from hatch_build import npm_ci
from tests import needs
from tests.slices import everything

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"

LONG = [ROOT / "tests" / name for name in ("e2e", "faults", "house", "integration")]
"""Folders whose tests start processes and wait for them."""

# These say how tests are run. Other settings of whoever runs them must not change what they see.
OURS = {"SORTITION_ALL", "SORTITION_REQUIRE_ALL"}


def pytest_configure() -> None:
    for name in list(os.environ):
        if name.startswith(("SORTITION_", "OTEL_", "AWS_")) and name not in OURS:
            del os.environ[name]
    # A busy machine is slow, not wrong: no deadlines. What is found once is found by everyone.
    hypothesis.settings.register_profile("slice", deadline=None, derandomize=True)
    hypothesis.settings.register_profile("all", deadline=None, max_examples=2000, print_blob=True)
    hypothesis.settings.load_profile("all" if everything() else "slice")


# --- tools --------------------------------------------------------------------------------------


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # What waits for processes goes first: at the end it would leave all other workers idle.
    items.sort(key=lambda item: not any(folder in item.path.parents for folder in LONG))
    for item in items:
        named = [tool for marker in item.iter_markers("needs") for tool in marker.args]
        absent = needs.missing(dict.fromkeys(named))
        if absent:
            item.add_marker(pytest.mark.skip(reason=needs.reason(absent)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped:
        _refuse_skip(report)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if needs.all_required():
        report.outcome = "failed"
        report.longrepr = f"{_reason(report)}\n(SORTITION_REQUIRE_ALL=1: a skip is a failure)"


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    where_and_why = report.longrepr
    return str(where_and_why[2] if isinstance(where_and_why, tuple) else where_and_why)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = needs.summary(map(_reason, terminalreporter.stats.get("skipped", [])))
    if lines:
        terminalreporter.section("missing tools")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def node() -> str:
    """Return the path of Node.js; ask for it under `@pytest.mark.needs("node")`."""
    found = needs.find("node")
    if found is None:
        pytest.skip(needs.reason(["node"]))
    return found


@pytest.fixture(scope="session")
def npm_project(node: str) -> Callable[[Path], Path]:
    """Return a function that installs the package.json of a folder, and says where.

    What it returns is a folder with `node_modules` and a copy of the rest, made once for each
    content of the lock file and shared by all workers and runs.
    """

    def install(folder: Path) -> Path:
        manifests = [folder / "package.json", folder / "package-lock.json"]
        content = hashlib.sha256(b"\0".join(file.read_bytes() for file in manifests)).hexdigest()
        place = CACHE / "npm" / f"{folder.name}-{content[:16]}"
        place.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{place}.lock"):
            if not place.exists():
                # Elsewhere first: a run that is cut short leaves nothing that looks finished.
                building = place.with_suffix(".building")
                shutil.rmtree(building, ignore_errors=True)
                building.mkdir()
                for file in manifests:
                    shutil.copy(file, building)
                npm_ci(building)
                building.rename(place)
            for file in folder.iterdir():
                if file.is_file() and file not in manifests:
                    shutil.copy(file, place)
        return place

    return install


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Return the worker's one Chromium: Playwright runs once in a thread."""
    from tests.admin.browser import chromium

    with chromium() as running:
        yield running
