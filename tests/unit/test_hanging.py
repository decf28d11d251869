"""A canary that hangs answers nothing: what is told of it is how long its requests have waited."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from flagserver.domain.outcomes import Row, histogram_edges, service_subject
from flagserver.domain.states import State
from tests.judged import Judged
from tests.unit.test_judged import BEFORE, exposed, traffic_alone

EDGES = histogram_edges()


@dataclass
class Hanging(Judged):
    """hangs: the new version takes requests and answers none of them."""

    hangs: bool = False
    begun: list[tuple[int, int]] = field(default_factory=list)

    def _rows(self, at: int) -> list[Row]:
        return [self._hung(row) for row in super()._rows(at)]

    def _hung(self, row: Row) -> Row:
        if not self.hangs or (row.subject, row.variant) != (service_subject("api"), "2"):
            return row
        self.begun.append((row.at, row.requests))
        ages = Counter[int]()
        for began, requests in self.begun:
            ages[bisect_left(EDGES, row.at - began + 2.5)] += requests
        return replace(row, requests=0, failures=0, latency={}, metrics={}, ages=dict(ages))


def test_a_canary_that_hangs_goes_back(tmp_path: Path) -> None:
    engine = Hanging(directory=tmp_path)
    engine.serve(BEFORE)
    id = engine.start_judged(**traffic_alone())
    exposed(engine, id)
    engine.hangs = True
    began = engine.clock.seconds

    found = engine.until(engine.ended(id), 120)

    cause = engine.rollout(id).rollback
    assert cause is not None
    assert (engine.rollout(id).state, engine.weight) == (State.ROLLED_BACK, 0)
    assert cause.row == "harm proven"
    assert "latency" in cause.reason
    # One tick to be older than a tick, and a few to be sure.
    assert found - began <= 45
