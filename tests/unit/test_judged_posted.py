"""What others post of both arms is judged by the same evidence as what SDKs report, told as
stories: carts that were lost, counted by the shop's own analytics, minute by minute."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from flagserver.domain import comparisons, guards
from flagserver.domain.guards import Guard
from flagserver.domain.metrics import Posted
from flagserver.domain.outcomes import Part, Totals
from flagserver.domain.signals import Measure, Signal
from flagserver.domain.states import State
from flagserver.domain.times import moment
from flagserver.signals.metrics import MetricsSource
from tests.engines import RULE
from tests.judged import STANDARD, Judged
from tests.unit.rollouts import T0, at_step

LOST = {
    "name": "lost carts",
    "signal": {"source": "metrics", "measure": "rate", "settings": {"metric": "carts.lost"}},
    "limit": 0.05,
}
CANARY, STABLE = "cohort/canary", "cohort/stable"


@dataclass
class Shop(Judged):
    """A shop whose analytics post, by arm, how many of its carts were lost in the minute before."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sources: dict[str, Any] = self.outside.sources  # type: ignore[assignment]
        sources["metrics"] = MetricsSource(self.store, lambda *_: "off")
        self.lost: dict[str, tuple[int, int]] = {CANARY: (10, 500), STABLE: (30, 1500)}

    def _report(self) -> None:
        super()._report()
        at = int(moment(self.clock.now()))
        if at % 60 == 0:
            posted = [_posted(arm, at, *counts) for arm, counts in self.lost.items()]
            self.store.post("production", posted)

    def roll_out(self) -> str:
        targets = [{**RULE.to_body(), "mode": "drive"}]
        guards = [*STANDARD, LOST]
        return self.start(targets=targets, guards=guards, schedule="25%:10m,100%")


def _posted(arm: str, at: int, lost: int, carts: int) -> Posted:
    return Posted("carts.lost", "service/api", arm, "analytics", at, float(lost), float(carts))


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(directory=tmp_path)
    made.serve(120)
    return made


def test_a_canary_that_loses_carts_goes_back_by_evidence(shop: Shop) -> None:
    id = shop.roll_out()
    shop.run(90)
    assert shop.rollout(id).state is State.RUNNING

    shop.lost[CANARY] = (60, 500)
    shop.until(shop.ended(id), 200)

    cause = shop.rollout(id).rollback
    assert cause is not None
    assert (cause.row, cause.culprits) == ("harm proven", (RULE.id,))
    assert "lost carts" in cause.reason


@pytest.mark.slow
def test_carts_that_both_lose_are_nobodys_fault(shop: Shop) -> None:
    id = shop.roll_out()
    shop.run(90)

    shop.lost = {CANARY: (60, 500), STABLE: (180, 1500)}
    shop.run(400)

    assert (shop.rollout(id).state.shown.terminal, shop.weight) == (False, 25)
    (standing,) = [
        guard
        for guard in shop.store.standings([id])[id]["guards"]
        if guard["guard"] == "lost carts"
    ]
    assert standing["whole"][:2] >= [2500, 300]
    assert standing["harm"] < standing["holds"]


@pytest.mark.slow
def test_where_arms_cannot_be_told_apart_its_limit_is_all_there_is(shop: Shop) -> None:
    shop.lost = {"": (40, 2000)}
    id = shop.roll_out()
    shop.run(90)

    shop.lost = {"": (240, 2000)}
    shop.until(shop.ended(id), 300)

    cause = shop.rollout(id).rollback
    assert cause is not None
    assert cause.row != "harm proven"
    assert "lost carts" in cause.reason


# --- which points are compared --------------------------------------------------------------------

CARTS = Signal.of("metrics", Measure.RATE, metric="carts.lost")
GUARDS = (*guards.standard(), Guard("lost carts", CARTS, 0.05))
BEGAN = int(T0)
MINUTE = BEGAN + 120
JUDGED = {"after": MINUTE, "until": MINUTE + 5}
"""The tick that has the minute before it."""


def parts(*points: Posted, **change: Any) -> dict[Part, Totals]:
    told = {"guards": GUARDS, "step_confirmed_at": float(BEGAN), **change}
    rollout = replace(at_step(0), **told)
    return dict(comparisons.posted_parts(rollout, points, **JUDGED))


def test_both_arms_of_one_period_are_put_into_the_tick_after_it() -> None:
    both = [_posted(CANARY, MINUTE - 3, 3, 40), _posted("version/1", MINUTE, 5, 200)]
    more = _posted(STABLE, MINUTE - 59, 1, 50)
    of_others = [replace(both[0], subject="service/other"), replace(both[0], metric="other")]

    found = parts(*both, more, *of_others)

    assert list(found.values()) == [
        Totals(metrics={"metrics/carts.lost/60": (40, 3)}),
        Totals(metrics={"metrics/carts.lost/60": (250, 6)}),
    ]


@pytest.mark.parametrize(
    "points",
    [
        [_posted(CANARY, MINUTE, 3, 40)],
        [_posted(CANARY, MINUTE, 3, 40), _posted(STABLE, MINUTE - 60, 5, 200)],
        [_posted("", MINUTE, 3, 40), _posted(STABLE, MINUTE, 5, 200)],
        [_posted(CANARY, MINUTE + 60, 3, 40), _posted(STABLE, MINUTE + 60, 5, 200)],
        [_posted(CANARY, MINUTE - 60, 3, 40), _posted(STABLE, MINUTE - 60, 5, 200)],
        [replace(_posted(CANARY, MINUTE, 3, 40), numerator=2.5), _posted(STABLE, MINUTE, 5, 200)],
        [_posted(CANARY, MINUTE, 41, 40), _posted(STABLE, MINUTE, 5, 200)],
        [_posted(CANARY, MINUTE, -1, 40), _posted(STABLE, MINUTE, 5, 200)],
        [_posted(CANARY, MINUTE, 0, 0), _posted(STABLE, MINUTE, 5, 200)],
    ],
    ids=[
        "one arm",
        "arms of two minutes",
        "told apart by nobody",
        "a minute to come",
        "a minute that was judged",
        "no counts",
        "more than all",
        "fewer than none",
        "none",
    ],
)
def test_what_cannot_be_compared_is_left_to_the_limit(points: list[Posted]) -> None:
    assert parts(*points) == {}


def test_a_period_in_which_the_share_was_set_is_not_compared() -> None:
    both = [_posted(CANARY, MINUTE, 3, 40), _posted(STABLE, MINUTE, 5, 200)]

    assert parts(*both)
    assert parts(*both, step_confirmed_at=MINUTE - 59.0) == {}
    assert parts(*both, step_confirmed_at=None) == {}
