"""Evaluation: every answer has its reason, and equals what the rules say word for word."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sortition.core import bucketing
from sortition.core.evaluate import CompiledFlag, compile_flags, explain
from sortition.core.model import Flag, InvalidSnapshot, Prerequisite
from sortition.core.reasons import ErrorCode, Reason

from tests.builders import a_flag, flags_of, needs, only_where

IDS = [f"request-{number}" for number in range(400)]


def compiled(*flags: Flag, resource: Mapping[str, str] | None = None) -> CompiledFlag:
    """Return the last flag, compiled with the others."""
    return compile_flags(flags_of(*flags), resource or {})[flags[-1].key]


def served(flag: CompiledFlag) -> set[str | None]:
    return {flag.choose(request_id).variant for request_id in IDS}


def by_the_rules(flag: Flag, flags: Mapping[str, Flag], where: Mapping[str, str], id: str) -> str:
    """The variant that the contract gives, straight from its text."""
    if flag.killed or not all(condition.holds(where) for condition in flag.conditions):
        return flag.rest
    for wanted in flag.prerequisites:
        if by_the_rules(flags[wanted.flag], flags, where, id) != wanted.variant:
            return flag.rest
    if not bucketing.point(id, bucketing.seed(flag.salt)) < flag.share * 2**32 // 10**6:
        return flag.rest
    lot = bucketing.point(id, bucketing.variant_seed(flag.salt))
    total = 0
    for variant, weight in flag.weights:
        total += weight
        if total * 2**32 // 10**6 > lot:
            return variant
    raise AssertionError("weights are whole")


@pytest.mark.parametrize(
    ("flag", "variants", "reason"),
    [
        (a_flag(share=0), {"off"}, Reason.STATIC),
        (a_flag(share=100), {"on"}, Reason.STATIC),
        (a_flag(share=50), {"on", "off"}, Reason.SPLIT),
        (a_flag(share=50, killed=True), {"off"}, Reason.DISABLED),
        (a_flag(share=50, conditions=only_where("service.version", "2")), {"off"}, Reason.STATIC),
    ],
)
def test_every_answer_has_its_reason(flag: Flag, variants: set[str], reason: Reason) -> None:
    ready = compiled(flag)

    assert served(ready) == variants
    assert ready.evaluate(IDS[0]).reason == reason


def test_a_condition_that_holds_lets_the_lot_decide() -> None:
    flag = a_flag(share=50, conditions=only_where("service.version", "2"))

    assert served(compiled(flag, resource={"service.version": "2"})) == {"on", "off"}


@pytest.mark.parametrize(
    ("request_id", "error"),
    [
        ("", ErrorCode.TARGETING_KEY_MISSING),
        (None, ErrorCode.TARGETING_KEY_MISSING),
        (b"bytes", ErrorCode.TARGETING_KEY_MISSING),
        (7, ErrorCode.TARGETING_KEY_MISSING),
        ("\ud800", ErrorCode.INVALID_CONTEXT),
    ],
)
def test_what_is_no_request_id_is_an_error_and_never_a_lot(
    request_id: object, error: ErrorCode
) -> None:
    answer = compiled(a_flag(share=100)).evaluate(request_id)

    assert (answer.value, answer.variant, answer.reason, answer.error) == (
        None,
        None,
        Reason.ERROR,
        error,
    )


def test_text_that_utf8_cannot_carry_does_not_end_the_process() -> None:
    code = "from sortition.core.bucketing import point; point('\\ud800', 1)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)

    assert done.returncode == 1
    assert "UnicodeEncodeError" in done.stderr


class TestPrerequisites:
    def test_one_that_is_settled_against_it_settles_the_flag(self) -> None:
        child = compiled(
            a_flag("parent", share=0), a_flag("child", 100, prerequisites=needs("parent"))
        )

        assert (served(child), child.settled_variant()) == ({"off"}, "off")

    def test_one_that_is_settled_for_it_costs_nothing(self) -> None:
        child = compiled(a_flag("parent", 100), a_flag("child", 50, prerequisites=needs("parent")))

        assert child.simple
        assert served(child) == {"on", "off"}

    def test_partial_ones_multiply(self) -> None:
        child = compiled(a_flag("parent", 50), a_flag("child", 50, prerequisites=needs("parent")))
        ids = [str(number) for number in range(20_000)]

        exposed = sum(child.choose(id).variant == "on" for id in ids)

        assert 0.24 < exposed / len(ids) < 0.26

    @pytest.mark.parametrize("length", [1, 2, 10_000])
    def test_a_circle_is_refused_whatever_its_length(self, length: int) -> None:
        ring = [
            a_flag(f"f{i}", 50, prerequisites=needs(f"f{(i + 1) % length}")) for i in range(length)
        ]

        with pytest.raises(InvalidSnapshot, match=r"leads back|deep"):
            compile_flags(flags_of(*ring), {})

    def test_a_long_chain_is_refused_without_exhausting_the_stack(self) -> None:
        chain = [a_flag("f0", 50)]
        chain += [a_flag(f"f{i}", 50, prerequisites=needs(f"f{i - 1}")) for i in range(1, 10_000)]

        with pytest.raises(InvalidSnapshot, match="10 deep"):
            compile_flags(flags_of(*reversed(chain)), {})

    @pytest.mark.parametrize("wanted", [needs("nobody"), needs("parent", "purple")])
    def test_one_that_is_not_there_is_refused(self, wanted: tuple[Prerequisite, ...]) -> None:
        flags = flags_of(a_flag("parent", 50), a_flag("child", 50, prerequisites=wanted))

        with pytest.raises(InvalidSnapshot, match="flags/child/prerequisites"):
            compile_flags(flags, {})


shares = st.sampled_from([0, 1, 100_000, 500_000, 999_999, 1_000_000])
weights = st.sampled_from(
    [
        (("on", 1_000_000),),
        (("on", 300_000), ("off", 700_000)),
        (("on", 0), ("blue", 1_000_000)),
        (("blue", 333_333), ("on", 333_333), ("off", 333_334)),
    ]
)


@st.composite
def families(draw: st.DrawFn) -> dict[str, Flag]:
    """A few flags; each may need those before it."""
    flags: dict[str, Flag] = {}
    for number in range(draw(st.integers(1, 4))):
        wanted = tuple(
            Prerequisite(parent, draw(st.sampled_from(["on", "off", "blue"])))
            for parent in flags
            if draw(st.booleans())
        )
        flag = a_flag(
            f"f{number}",
            variants={"on": True, "off": False, "blue": "blue"},
            weights=draw(weights),
            conditions=only_where("service.version", "2") if draw(st.booleans()) else (),
            prerequisites=wanted,
            killed=draw(st.integers(0, 4)) == 0,
        )
        flags[flag.key] = replace(flag, share=draw(shares))
    return flags


@given(families(), st.sampled_from(["1", "2"]), st.text(min_size=1, max_size=40))
def test_compiled_flags_answer_as_the_rules_say(
    flags: dict[str, Flag], version: str, request_id: str
) -> None:
    where = {"service.version": version}
    ready = compile_flags(flags, where)

    for key, flag in flags.items():
        expected = by_the_rules(flag, flags, where, request_id)

        assert ready[key].choose(request_id).variant == expected
        assert ready[key].evaluate(request_id).value == flag.variants[expected]
        if (settled := ready[key].settled_variant()) is not None:
            assert settled == expected


@given(families(), st.integers(0, 2**64))
def test_an_explanation_agrees_with_the_answer(flags: dict[str, Flag], number: int) -> None:
    for flag in compile_flags(flags, {}).values():
        found = explain(flag, str(number))

        assert found.evaluation == flag.evaluate(str(number))
        assert found.point is not None
        assert found.threshold is not None
        exposed = found.because.endswith("exposed.")
        if exposed:
            assert found.point < found.threshold
        if found.because.endswith("the rest."):
            assert found.point >= found.threshold
            assert found.evaluation.variant == flag.flag.rest


@given(st.text(min_size=1, max_size=20), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_larger_share_only_adds(request_id: str, one: int, other: int) -> None:
    small, large = sorted((one, other))
    before = compiled(replace(a_flag(), share=small)).choose(request_id)
    after = compiled(replace(a_flag(), share=large)).choose(request_id)

    assert not (before.variant == "on" and after.variant == "off")
