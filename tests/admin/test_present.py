"""Numbers and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from admin import judged, present
from admin.story import line
from flagserver.domain.times import rfc3339


@pytest.mark.parametrize(
    ("ppm", "text"),
    [(0, "0"), (1, "0.0001"), (250_000, "25"), (249_999, "24.9999"), (1_000_000, "100")],
)
def test_a_share_is_written_exactly(ppm: int, text: str) -> None:
    assert present.plain_percent(ppm) == text


@pytest.mark.parametrize(
    ("percents", "text"),
    [
        (None, "–"),
        (0, "0 %"),
        (0.0004, "< 0.01 %"),
        (0.333, "0.33 %"),
        (24.87, "24.9 %"),
        (99.96, "> 99.9 %"),
        (100, "100 %"),
    ],
)
def test_what_was_measured_is_written_to_the_digits_that_tell(
    percents: float | None, text: str
) -> None:
    assert present.measured(percents).replace(present.THIN, " ") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0.0082, "8.2 ms"),
        (0.4123, "412 ms"),
        (1.05, "1.05 s"),
        (float("inf"), "> 1 min"),
    ],
)
def test_a_latency_has_its_unit(seconds: float | None, text: str) -> None:
    assert present.seconds(seconds).replace(present.THIN, " ") == text


@pytest.mark.parametrize(
    ("passed", "text"),
    [
        (0, "just now"),
        (40, "40 s ago"),
        (240, "4 min ago"),
        (7200, "2 h ago"),
        (86_400, "1 day ago"),
    ],
)
def test_an_instant_is_some_time_ago(passed: int, text: str) -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    then = rfc3339(now - timedelta(seconds=passed))

    assert present.ago(then, now).replace(present.THIN, " ") == text


def test_a_state_that_nobody_knows_never_looks_like_one_that_works() -> None:
    assert present.STATUSES["unknown"].role == "neutral"
    icons = [status.icon for status in present.STATUSES.values()]
    assert len(set(icons)) == len(icons)


def test_chance_shrinks_with_the_sample() -> None:
    assert present.chance(250_000, 10_000) == pytest.approx(0.849, abs=0.001)
    assert present.chance(250_000, 0) is None
    assert present.chance(1_000_000, 100) is None


def test_an_entry_that_is_not_known_is_told_as_it_is() -> None:
    entry = {
        "seq": 7,
        "ts": "2026-11-23T08:15:30.123Z",
        "actor": "controller",
        "role": "controller",
        "action": "rollout:moon:reach",
        "target": "rollout/r-1",
        "environment": "production",
        "before": None,
        "after": 3,
        "reason": None,
    }

    told = line(entry)

    assert told.what == "rollout moon reach"
    assert told.flag is None


def test_a_sentence_names_targets_as_people_say_them() -> None:
    rule = "arn:aws:elasticloadbalancing:eu-west-1:1:listener-rule/app/shop/de7b/3acd/6e130c52"

    said = present.readable(
        f"ROLL BACK alb/{rule}, p95 latency: alb/{rule} is slow. It was {rule}."
    )

    # What follows stands beside it as the state.
    assert said == "p95 latency: alb shop …130c52 is slow. It was shop …130c52."
    assert present.readable("errors: not_enough_data; 1 of 2") == "errors: not enough data; 1 of 2"
    assert present.readable("errors 3 % > 1 %") == "errors 3 % > 1 %"


@pytest.mark.parametrize(("harm", "words"), [(466.0, "pass"), (467.0, "worse than stable")])
def test_a_guard_that_the_comparison_condemns_does_not_say_pass(harm: float, words: str) -> None:
    compared = {"evidence": harm, "rolls_back_at": 467.0}

    assert judged._word("pass", compared).words == words
    assert judged._word("fail", compared).words == "fail"
    assert judged._word(None, None).words == "not looked at yet"
