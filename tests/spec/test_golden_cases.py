"""The frozen bucketing answers every golden case of `sdk/spec/`, as any other language must."""

from __future__ import annotations

import json
from itertools import accumulate
from pathlib import Path
from typing import Any

import mmh3
import pytest
from sortition.core import bucketing
from sortition.core.evaluate import compile_flags
from sortition.core.model import Flag

CASES: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "sdk" / "spec" / "bucketing.json").read_text()
)


def a_flag(**changes: Any) -> Flag:
    fields: dict[str, Any] = {
        "key": "golden",
        "revision": 1,
        "salt": "salt",
        "variants": {"on": True, "off": False},
        "rest": "off",
        "weights": (("on", 1_000_000),),
        "share": 0,
    }
    return Flag(**{**fields, **changes})


def test_the_file_has_cases_of_every_kind() -> None:
    sizes = {name: len(cases) for name, cases in CASES.items() if name != "about"}

    assert sizes == {"murmur3_x86_32": 5, "thresholds": 9, "exposure": 84, "variants": 84}


@pytest.mark.parametrize("case", CASES["murmur3_x86_32"])
def test_murmur3_agrees(case: dict[str, Any]) -> None:
    assert mmh3.hash(case["input"], case["seed"], False) == case["hash"]


@pytest.mark.parametrize("case", CASES["thresholds"])
def test_thresholds_agree(case: dict[str, Any]) -> None:
    assert bucketing.threshold(case["share_ppm"]) == case["threshold"]


@pytest.mark.parametrize("case", CASES["exposure"])
def test_points_and_exposure_agree(case: dict[str, Any]) -> None:
    seed = bucketing.seed(case["salt"])
    point = bucketing.point(case["request_id"], seed)
    exposed = {share: point < bucketing.threshold(int(share)) for share in case["exposed_at_ppm"]}

    assert (seed, point, exposed) == (case["seed"], case["point"], case["exposed_at_ppm"])


@pytest.mark.parametrize("case", CASES["exposure"])
def test_a_compiled_flag_exposes_the_same_requests(case: dict[str, Any]) -> None:
    def served(share: str) -> bool:
        flag = a_flag(salt=case["salt"], share=int(share))
        return bool(compile_flags({"golden": flag}, {})["golden"].choose(case["request_id"]).value)

    assert {share: served(share) for share in case["exposed_at_ppm"]} == case["exposed_at_ppm"]


@pytest.mark.parametrize("case", CASES["variants"])
def test_variants_agree(case: dict[str, Any]) -> None:
    seed = bucketing.variant_seed(case["salt"])
    point = bucketing.point(case["request_id"], seed)
    edges = bucketing.cumulative_thresholds(case["weights_ppm"].values())
    first_above = next(i for i, edge in enumerate(edges) if edge > point)

    assert (seed, point) == (case["variant_seed"], case["variant_point"])
    assert list(case["weights_ppm"])[first_above] == case["variant"]


@pytest.mark.parametrize("case", CASES["variants"])
def test_a_compiled_flag_draws_the_same_variant(case: dict[str, Any]) -> None:
    weights = tuple(case["weights_ppm"].items())
    flag = a_flag(
        salt=case["salt"],
        variants={name: name for name, _ in weights},
        rest=weights[0][0],
        weights=weights,
        share=1_000_000,
    )

    compiled = compile_flags({"golden": flag}, {})["golden"]

    assert compiled.choose(case["request_id"]).variant == case["variant"]


def test_weights_accumulate_before_they_are_projected() -> None:
    weights = [333_333, 333_333, 333_334]

    edges = bucketing.cumulative_thresholds(weights)

    assert list(edges) == [total * 2**32 // 10**6 for total in accumulate(weights)]
