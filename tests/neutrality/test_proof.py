"""A fair lot passes, unfair ones are found, and each check has something that it finds."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate

import pytest
from sortition.core import bucketing
from sortition.neutrality import checks, proof
from sortition.neutrality.checks import CHECKS, Finding
from sortition.neutrality.ids import SHAPES
from sortition.neutrality.lots import OURS
from sortition.neutrality.numbers import Plain, Vector
from sortition.neutrality.proof import BLIND, FAIR, UNFAIR, Proof, prove

SALTS = {"search": "5bd7d9a0cc0411ef", "checkout-v2": "checkout-v2", "checkout-v3": "checkout-v3"}
N = 100_000
"""From which on a hash into a hundred places is found."""


@pytest.fixture(scope="module")
def proven() -> Proof:
    told: list[str] = []
    made = prove(SALTS, Vector(), ids=N, seed="a seed", tell=told.append)
    assert len(told) > len(SHAPES)
    return made


def test_our_lot_is_fair(proven):
    assert proven.kind == FAIR
    assert [verdict.check for verdict in proven.verdicts] == list(CHECKS)
    for verdict in proven.verdicts:
        assert verdict.passed, verdict
        assert verdict.tests >= len(SALTS) * len(SHAPES)


def test_unfair_lots_are_found_on_every_shape(proven):
    assert {control.name for control in proven.controls} == {"modulo", "unsalted", "reused"}
    for control in proven.controls:
        assert control.caught
        assert all(len(shapes) == len(SHAPES) for shapes in control.found.values())


def test_all_pairs_are_compared_on_every_shape(proven):
    (pairs,) = (verdict for verdict in proven.verdicts if verdict.check == "pairs")

    assert pairs.tests == 3 * len(SHAPES)
    assert pairs.limit == pytest.approx(1e-5 / 2 / 15)


def test_a_flag_alone_is_compared_with_another_salt():
    made = prove({"a": "a"}, Vector(), ids=1_000, seed="s", tell=lambda _: None)

    pairs = [finding.subject for finding in made.findings if finding.check == "pairs"]
    assert pairs == ["a × another salt"] * len(SHAPES)


def test_a_proof_is_repeated_to_the_digit_and_without_numpy(monkeypatch):
    monkeypatch.setattr(proof, "SAMPLED", 50)
    small = {"search": SALTS["search"]}
    one, other = (
        prove(small, numbers, ids=3_000, seed="s", tell=lambda _: None)
        for numbers in (Plain(), Vector())
    )

    for a, b in zip(one.findings, other.findings, strict=True):
        assert (a.check, a.shape, a.subject) == (b.check, b.shape, b.subject)
        assert a.figure == pytest.approx(b.figure, rel=1e-9)
    assert one.histograms == other.histograms


def test_an_unfair_flag_is_told_with_its_name(proven):
    bad = Finding("pairs", "number", "search × checkout-v2", 9e5, 1.0, 0.0)
    verdicts = tuple(
        replace(verdict, worst=bad) if verdict.check == "pairs" else verdict
        for verdict in proven.verdicts
    )

    assert replace(proven, verdicts=verdicts).kind == UNFAIR


def test_a_proof_that_misses_a_control_is_blind(proven):
    missed = replace(proven.controls[0], found={"uniform": ["number"]})

    assert replace(proven, controls=(missed, *proven.controls[1:])).kind == BLIND


def test_too_few_ids_cannot_find_the_controls_and_say_so():
    made = prove({"a": "a"}, Vector(), ids=500, seed="s", tell=lambda _: None)

    assert made.kind == BLIND


# --- each check finds something -------------------------------------------------------------------


def worst(said: Iterator[checks.Said]) -> float:
    return min(min(tails) for _, _, tails in said)


def test_points_that_are_too_even_are_found():
    """As crc32's are on numbers in a row: p = 1.0 is no praise."""
    numbers = Vector()
    even = numbers.points((i * (2**32 // N) for i in range(N)), N)

    assert checks.even(numbers.histogram(even))[1][0] < 1e-9
    assert checks.distance(numbers, even)[1][0] < 1e-9


def test_points_that_remember_those_before_are_found():
    numbers, chance = Vector(), random.Random(1)
    steps = accumulate(range(N), lambda at, _: (at + chance.randrange(2**31)) % 2**32, initial=0)

    remembering = numbers.points(steps, N)

    assert checks.serial(numbers, remembering)[1][1] < 1e-9


def test_a_draw_that_is_anew_at_each_share_is_found():
    def choose(share: int):
        return lambda id: "a" if bucketing.point(id, share) < bucketing.threshold(share) else None

    exceptions, tails = checks.rising(choose, [str(i) for i in range(500)])

    assert exceptions > 0
    assert tails[1] == 0.0


def test_a_variant_that_changes_with_the_share_is_found():
    def choose(share: int):
        edge = bucketing.threshold(share)

        def variant(id: str) -> str | None:
            point = bucketing.point(id, 7)
            return None if point >= edge else ("a" if point < edge // 2 else "b")

        return variant

    assert checks.rising(choose, [str(i) for i in range(500)])[0] > 0


def test_ends_that_are_not_exact_are_found():
    """As where `<=` is compared: a point of 0 is exposed at 0 %."""

    def choose(share: int):
        edge = bucketing.threshold(share)
        return lambda id: "a" if int(id) <= edge else None

    assert checks.rising(choose, ["0", "1"])[0] == 1

    class Inclusive(Vector):
        def below(self, points, threshold):
            return super().below(points, threshold + 1)

    assert checks.ends(Inclusive(), Vector().points([0, 5, 2**32 - 1], 3))[0] == 1


def test_a_salt_that_is_only_added_is_found_by_its_bits():
    """Flags whose salts differ in one bit would draw nearly the same."""
    added = replace(
        OURS,
        first=lambda ids, salt: (
            (point + len(salt) + ord(salt[-1])) % 2**32 for point in bucketing.points(ids, 0)
        ),
    )
    ids = [b"%d" % i for i in range(100, 600)]
    found = {said: tails[1] for said, _, tails in checks.avalanche(Vector(), added, ids, "salt")}

    assert found["salt"] < 1e-9 < found["id"]


# --- ids ------------------------------------------------------------------------------------------

FORMS = {
    "uuid4": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "trace": r"[0-9a-f]{32}",
    "number": r"[1-9][0-9]*",
    "amazon": r"1-[0-9a-f]{8}-[0-9a-f]{24}",
    "token": r"[A-Za-z0-9_-]{8}",
}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_ids_have_the_form_they_are_called_after(shape):
    ids = shape.make(20_000, proof.SEED)

    assert len(set(ids)) == 20_000
    assert all(re.fullmatch(FORMS[shape.name], id.decode()) for id in ids)
    assert ids == shape.make(20_000, proof.SEED)
    if shape.name != "number":
        assert ids != shape.make(20_000, "another seed")
