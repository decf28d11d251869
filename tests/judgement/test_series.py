"""A recorded rollout as lines of JSON: replayed without its verdicts, refused where it is none."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from sortition.judgement import series
from sortition.judgement.design import HTTP_ERRORS
from sortition.judgement.series import BadSeries
from sortition.judgement.trial import Trial

from tests.judgement.builders import a_design
from tests.judgement.test_trial import SUBJECTS, recorded, some_looks, told
from tests.slices import a_slice

Body = dict[str, Any]


def some_lines(seed: int) -> list[str]:
    return recorded(Trial(a_design(steps=4), SUBJECTS), some_looks(Random(seed)))[1]


def some_bodies() -> list[Body]:
    return [json.loads(line) for line in some_lines(7)]


def lines_of(bodies: list[Body]) -> list[str]:
    return [json.dumps(body) for body in bodies]


@pytest.mark.parametrize("seed", a_slice(range(1000), 10))
@pytest.mark.timeout(60)
def test_a_series_without_its_verdicts_is_decided_as_it_was_look_by_look(seed: int) -> None:
    decisions, lines = recorded(Trial(a_design(steps=4), SUBJECTS), some_looks(Random(seed)))
    stripped = [
        lines[0],
        *(json.dumps({**json.loads(line), "decision": None}) for line in lines[1:]),
    ]

    again = list(series.replay(series.read(stripped)))

    assert [told(one.decision) for one in again] == [told(one) for one in decisions]
    assert not any(one.recorded.decision for one in again)


def test_what_was_decided_then_is_set_beside_what_follows() -> None:
    lines = some_lines(7)

    again = list(series.replay(series.read(lines)))

    assert [one.recorded.decision for one in again] == [one.decision for one in again]
    assert not any(one.differs or one.reworded for one in again)


def test_another_verdict_is_told_by_what_differs_and_moves_nothing() -> None:
    bodies = some_bodies()
    bodies[2]["decision"] |= {"does": "roll_back", "rule": "responder", "evidence": 1e9}
    bodies[3]["decision"]["sentence"] = "All is well."

    again = list(series.replay(series.read(lines_of(bodies))))

    assert [one.differs for one in again[:3]] == [(), ("does", "rule", "evidence"), ()]
    assert [one.reworded for one in again[:3]] == [False, False, True]
    true = list(series.replay(series.read(some_lines(7))))
    assert [one.decision for one in again] == [one.decision for one in true]


def test_a_count_that_was_changed_is_noticed_from_there_on() -> None:
    bodies = some_bodies()
    changed = next(i for i, body in enumerate(bodies) if i > 2 and body["ticks"].get("alb/shop"))
    strata = bodies[changed]["ticks"]["alb/shop"][0]["counts"][HTTP_ERRORS]
    strata[0] = [500, 500, 500, 0]

    differs = [bool(one.differs) for one in series.replay(series.read(lines_of(bodies)))]

    assert not any(differs[: changed - 1])
    assert all(differs[changed - 1 :])


def test_evidence_that_differs_in_its_last_digits_is_the_same() -> None:
    bodies = some_bodies()
    for body in bodies[1:]:
        body["decision"]["evidence"] *= 1 + 1e-12

    assert not any(one.differs for one in series.replay(series.read(lines_of(bodies))))


# --- what is refused ------------------------------------------------------------------------------


def put(place: str, value: Any) -> Callable[[Body], None]:
    """Return what puts a value at `outside.hold`; ... takes it away."""
    *path, last = (int(step) if step.isdigit() else step for step in place.split("/"))

    def change(body: Any) -> None:
        for step in path:
            body = body[step]
        if value is ...:
            del body[last]
        else:
            body[last] = value

    return change


TICK = "ticks/alb|shop/0"


@pytest.mark.parametrize(
    ("line", "place", "value", "field"),
    [
        (1, "format", 2, "format"),
        (1, "format", ..., "format"),
        (1, "design", None, "design"),
        (1, "design/alpha", 2, "design"),
        (1, "design/rates/0/limit", "1 %", "design.rates.0.limit"),
        (1, "design/rates/0/noise/dispersion", None, "design.rates.0.noise.dispersion"),
        (1, "design/rates/1/weight", 1, "design.rates.1.weight"),
        (1, "design/latency/limit", ..., "design.latency.limit"),
        (1, "design/edges", [2, 1], "design"),
        (1, "targets/0/weight", 0.9, "targets"),
        (1, "targets/0/target", 5, "targets.0.target"),
        (2, "ticks", [], "ticks"),
        (2, "ticks/other", [], "ticks.other"),
        (3, "outside", ..., "outside"),
        (3, "outside/hold", "5m", "outside.hold"),
        (3, "outside/hold", float("nan"), "outside.hold"),
        (3, "outside/step", 0.5, "outside.step"),
        (3, "outside/overtime", "never", "outside.overtime"),
        (3, "outside/limits", [{}], "outside.limits.0.sentence"),
        (3, "outside/mood", 1, "outside.mood"),
        (3, "decision/does", "dance", "decision.does"),
        (3, "decision/targets", ["a", 1], "decision.targets.1"),
        (2, f"{TICK}/at", None, "ticks.alb/shop.0.at"),
        (2, f"{TICK}/share", 2, "ticks.alb/shop.0.share"),
        (2, f"{TICK}/counts", [], "ticks.alb/shop.0.counts"),
        (2, f"{TICK}/counts/x", [[1, 2]], "ticks.alb/shop.0.counts.x.0"),
        (2, f"{TICK}/counts/x", [[1, -2, 0, 0]], "ticks.alb/shop.0.counts.x"),
        (2, f"{TICK}/latency", [[]], "ticks.alb/shop.0.latency.0"),
        (2, f"{TICK}/latency", [[[[1, 2, 3]], []]], "ticks.alb/shop.0.latency.0"),
        (2, f"{TICK}/assigned", [1], "ticks.alb/shop.0.assigned"),
    ],
)
def test_what_is_wrong_has_its_line_and_its_field(
    line: int, place: str, value: Any, field: str
) -> None:
    bodies = copy.deepcopy(some_bodies())
    for body in bodies[1:]:
        body["ticks"] = {name.replace("/", "|"): ticks for name, ticks in body["ticks"].items()}
    put(place, value)(bodies[line - 1])
    for body in bodies[1:]:
        if isinstance(body["ticks"], dict):
            body["ticks"] = {name.replace("|", "/"): each for name, each in body["ticks"].items()}

    with pytest.raises(BadSeries) as refused:
        series.read(lines_of(bodies))

    assert (refused.value.line, refused.value.field) == (line, field), refused.value


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ([], 1),
        (["", "{"], 2),
        (["[" * 100_000], 1),
        (["null"], 1),
        (['{"series": []}'], 1),
        ([*some_lines(7)[:2], "", "yes"], 4),
    ],
)
def test_what_is_no_series_at_all_is_refused(lines: list[str], line: int) -> None:
    with pytest.raises(BadSeries, match=f"line {line}"):
        series.read(lines)


def test_a_tick_from_before_the_last_one_is_refused_by_its_line() -> None:
    lines = some_lines(7)

    with pytest.raises(BadSeries, match=r"line 4: ticks: at: .* is not after"):
        list(series.replay(series.read([*lines[:3], lines[1]])))


def test_whatever_is_changed_anywhere_it_is_replayed_or_refused_and_nothing_else() -> None:
    chance = Random(11)
    bodies = some_bodies()[:4]
    junk: list[Any] = [None, True, -1, 0, 0.5, 1e400, "x", [], {}, [[]], {"at": 1}]
    for _ in range(400):
        changed = copy.deepcopy(bodies)
        body: Any = changed[chance.randrange(len(changed))]
        while True:
            keys = list(body) if isinstance(body, dict) else list(range(len(body)))
            key = chance.choice(keys)
            if not (isinstance(body[key], (dict, list)) and body[key] and chance.random() < 0.8):
                break
            body = body[key]
        body[key] = chance.choice(junk)
        with suppress(BadSeries):
            list(series.replay(series.read(lines_of(changed))))
