"""A missing tool skips its tests and is named; where everything is required, no skip passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import needs
from tests.needs import Tool
from tests.slices import a_slice

CONFTEST = Path(__file__).parents[1] / "conftest.py"

STORY = """
    import pytest

    @pytest.mark.needs("time-machine")
    def test_yesterday(): pass

    def test_for_another_reason():
        pytest.skip("because")

    @pytest.mark.xfail(strict=True)
    def test_known_to_fail():
        assert False

    def test_today(): pass
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    def find():
        return None

    monkeypatch.setitem(needs.TOOLS, "time-machine", Tool(find, "build one"))
    monkeypatch.delenv("SORTITION_REQUIRE_ALL", raising=False)
    needs.find.cache_clear()
    pytester.makeini("[pytest]\nmarkers = needs\n")
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makepyfile(STORY)
    return lambda: pytester.runpytest_inprocess("-p", "no:randomly", "-p", "no:xdist")


def test_a_missing_tool_is_named_with_the_tests_it_kept_from_running(run):
    result = run()
    result.assert_outcomes(passed=1, skipped=2, xfailed=1)
    result.stdout.fnmatch_lines(["time-machine is missing: 1 tests skipped (build one)"])


def test_where_everything_is_required_a_skip_is_a_failure(run, monkeypatch):
    monkeypatch.setenv("SORTITION_REQUIRE_ALL", "1")
    result = run()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*needs time-machine*", "*a skip is a failure*"])
    assert result.parseoutcomes() == {"passed": 1, "xfailed": 1, "failed": 1, "errors": 1}


def test_an_unknown_tool_is_refused():
    with pytest.raises(ValueError, match="known are redis-server"):
        needs.missing(["crystal-ball"])


def test_a_slice_is_the_same_each_time_and_in_order(monkeypatch):
    monkeypatch.delenv("SORTITION_ALL", raising=False)
    drawn = a_slice(range(1000), 20)
    assert drawn == a_slice(range(1000), 20) == sorted(drawn)
    assert drawn != a_slice(range(1000), 20, seed=2)
    assert a_slice(range(10), 20) == list(range(10))
    monkeypatch.setenv("SORTITION_ALL", "1")
    assert a_slice(range(1000), 20) == list(range(1000))
