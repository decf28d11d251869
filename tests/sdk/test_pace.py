"""Clients that begin together do not go on reporting together."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sortition
import sortition.testing
from sortition.sources import worker
from sortition.testing import FakeServer

from tests.sdk.conftest import until

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

    waits = sorted(w._flush_at - at for w, at in zip(workers, first, strict=True))  # type: ignore[union-attr]  # as above
    pace = server.snapshot.flush_seconds
    assert waits[0] < pace / 3
    assert pace * 2 / 3 < waits[-1] < pace + 1
