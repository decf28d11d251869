"""Clients that begin together do not go on reporting together, though their ticks end together."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import sortition
import sortition.testing
from sortition.core.ticks import REPORTED_WITHIN
from sortition.sources import worker
from sortition.testing import FakeServer

from tests.sdk.conftest import until
from tests.sdk.test_herd import a_worker

Start = Callable[..., sortition.Client]


def test_clients_that_begin_together_report_at_moments_of_their_own(
    server: FakeServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a long pace, what counts is when each will report next, after its first report."""
    server.snapshot = sortition.testing.snapshot_with({"search": 0})
    monkeypatch.setattr(worker, "FIRST_FLUSH_SECONDS", 1.0)
    workers = [start()._worker for _ in range(20)]
    first = [each._flush_at for each in workers]  # type: ignore[union-attr]  # they are running

    until(lambda: all(w._flush_at > at for w, at in zip(workers, first, strict=True)))  # type: ignore[union-attr]  # as above

    pace = server.snapshot.flush_seconds
    to_wall = time.time() - time.monotonic()
    lags = sorted((each._flush_at + to_wall) % pace for each in workers)  # type: ignore[union-attr]  # as above
    assert lags[0] > 0
    assert lags[-1] <= pace * REPORTED_WITHIN + 0.05, "later, and the tick is settled without it"
    assert lags[-1] - lags[0] > pace / 4


@pytest.mark.parametrize("seconds", [0.1, 1.0, 5.0, 7.0, 60.0])
def test_a_report_is_never_more_than_an_interval_away(seconds: float) -> None:
    waits = [a_worker()._until_flush(seconds) for _ in range(200)]

    assert all(0 < wait <= seconds for wait in waits)
