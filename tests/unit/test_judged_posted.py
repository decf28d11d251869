"""What others post of both arms is judged by the same evidence as what SDKs report, told as
stories: carts that were lost, counted by the shop's own analytics, minute by minute."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sortition.judgement.calibration import RateNoise
from sortition.judgement.counts import Counts, Tick
from sortition.judgement.design import weighted
from sortition.judgement.evidence import Judge
from sortition.judgement.traffic import poisson
from sortition.judgement.trial import Trial

from flagserver.domain import comparisons, guards
from flagserver.domain.calibration import UNCALIBRATED
from flagserver.domain.guards import Guard
from flagserver.domain.metrics import Posted
from flagserver.domain.outcomes import Part, Totals, histogram_edges
from flagserver.domain.signals import Measure, Signal
from flagserver.domain.states import State
from flagserver.domain.times import moment
from flagserver.signals.metrics import MetricsSource
from tests.builders import ADMIN
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
    """A shop that posted for two hours before."""
    made = Shop(directory=tmp_path)
    now = int(moment(made.clock.now())) // 60 * 60
    past = [_posted(STABLE, now - 60 * n, 40, 2000) for n in range(110)]
    made.store.post("production", past)
    made.serve(120)
    return made


def test_of_what_was_hardly_posted_before_nothing_is_proven(tmp_path: Path) -> None:
    """Nobody knows whether its counts come in rows: its limit is asked, and no evidence."""
    young = Shop(directory=tmp_path)
    young.serve(120)
    id = young.roll_out()
    young.run(90)

    judgement = young.rollouts.judgement(young.rollouts.get(id, ADMIN))
    assert judgement is not None
    assert "lost carts: judged by its limit, for too little was posted" in judgement["calibration"]
    design = Trial.from_head(dict(next(iter(young.services.grounds.series(id, ADMIN))))).design
    assert "lost carts" not in {rate.name for rate in design.rates}


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


CARTS = Signal.of("metrics", Measure.RATE, metric="carts.lost")
GUARDS = (*guards.standard(), Guard("lost carts", CARTS, 0.05))
BEGAN = int(T0)

# --- how noisy it is ------------------------------------------------------------------------------


def in_rows(chance: Random, carts: int, each: int) -> int:
    """Return how many of some carts were lost: one in fifty, so many by each cause."""
    return min(carts, each * poisson(chance, carts / 50 / each))


def a_past(chance: Random, each: int) -> list[Posted]:
    ends = range(BEGAN - 119 * 60, BEGAN + 1, 60)
    return [_posted("version/1", at, in_rows(chance, 4000, each), 4000) for at in ends]


def rolled_back(chance: Random, each: int, *, known: bool) -> bool:
    """Tell whether a healthy version of a shop whose carts are lost in rows goes back by what was
    posted in half an hour. known: whether its past is looked at."""
    rollout = replace(at_step(0), guards=GUARDS)
    calibration = comparisons.with_posted(UNCALIBRATED, rollout, a_past(chance, each))
    (name,) = comparisons.posted(GUARDS).values()
    if not known:
        calibration = replace(calibration, rates={name: RateNoise()})
    comparison = comparisons.comparisons(rollout)[0]
    design = comparisons.design(rollout, comparison, histogram_edges(), calibration)
    judge = Judge(replace(design, latency=None, rates=weighted(design.rates)))
    for number in range(1, 31):
        counts = Counts(1000, in_rows(chance, 1000, each), 3000, in_rows(chance, 3000, each))
        judge.take(Tick(60.0 * number, 60.0, 0, 0.25, {"lost carts": [counts]}))
        if judge.assess().evidence >= design.bound:
            return True
    return False


def test_healthy_versions_whose_carts_are_lost_in_rows_of_twenty_stay() -> None:
    """Taken to be independent of each other, most of them went back."""
    before, now = (
        sum(rolled_back(Random(n), 20, known=known) for n in range(40)) for known in (False, True)
    )

    assert before > 20
    assert now == 0


@pytest.mark.parametrize(("each", "least", "most"), [(1, 1.0, 1.6), (20, 13.0, 30.0)])
def test_a_past_of_two_hours_says_how_it_scatters(each: int, least: float, most: float) -> None:
    rollout, (name,) = replace(at_step(0), guards=GUARDS), comparisons.posted(GUARDS).values()
    known = comparisons.with_posted(UNCALIBRATED, rollout, a_past(Random(each), each))

    assert least <= known.rates[name].dispersion <= most
    assert known.sentence.startswith("lost carts scatters ")
    assert not known.calibrated


@pytest.mark.parametrize("points", [[], a_past(Random(1), 1)[-30:], a_past(Random(1), 20)[:4]])
def test_less_than_that_says_nothing(points: list[Posted]) -> None:
    rollout = replace(at_step(0), guards=GUARDS)
    known = comparisons.with_posted(UNCALIBRATED, rollout, points)

    assert known.rates == {}


# --- which points are compared --------------------------------------------------------------------

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
