"""The SDK's page tells all that a host may use, and nothing that is not there."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

import pytest
import sortition
from sortition import client, resource, testing
from sortition.sources import worker

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "sdk.md").read_text()
WORDS = set(re.findall(r"\w+", PAGE))


def public(kind: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")}


@pytest.mark.parametrize(
    "names",
    [
        set(sortition.__all__) - {"__version__"},
        public(sortition.Client),
        public(client.Request),
        set(client.EVENTS),
        {field.name for field in dataclasses.fields(sortition.Status)},
        {field.name for field in dataclasses.fields(sortition.Evaluation)},
        set(inspect.signature(sortition.Client).parameters),
        {"SORTITION_URL", "SORTITION_KEY", "SORTITION_SNAPSHOT", resource.ECS_URI},
        {"FakeServer", "Trouble", testing.client_with.__name__},
    ],
    ids=min,
)
def test_every_name_is_told(names: set[str]):
    assert names <= WORDS


def test_every_kind_of_failure_is_told():
    source = Path(client.__file__).read_text()
    kinds = {*re.findall(r'_fail\("(\w+)"\)', source), "older_snapshot", "other_store", "listener"}

    assert {*kinds, *(word for _, word in worker._KINDS)} <= WORDS


@pytest.mark.parametrize(
    "line",
    [
        f"{worker.CALL_SECONDS:g} s each",
        f"left after {worker.SILENCE_SECONDS:g} s",
        f"… {worker.LONGEST_BACKOFF:g} s",
        f"(`Retry-After`, up to {worker.LONGEST_RETRY_AFTER:g} s)",
        f"the same, up to {worker.REFUSED_BACKOFF:g} s",
        f"not heard for {client.STALE_SECONDS:g} s",
        f"{worker.SNAPSHOT_LIMIT // 2**20} MiB at most",
    ],
)
def test_every_figure_is_the_code_s(line: str):
    assert line in PAGE
