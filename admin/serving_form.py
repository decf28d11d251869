"""The form for all that a flag serves in an environment: read from what was typed, and shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sortition.core.conditions import NON_UNIFORM_ATTRIBUTES
from sortition.core.model import MAX_CONDITIONS, MAX_PREREQUISITES

from flagserver.domain.flags import Flag

from .forms import Typed, Unusable, build_edit, number

SPARE_ROWS = 2
"""Empty rows to write into, beyond those in use."""

ATTRIBUTES = (
    *("service.name", "service.version", "deployment.environment.name"),
    *sorted(NON_UNIFORM_ATTRIBUTES),
)
"""What is suggested; any resource attribute can be asked about."""

Rows = Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Sheet:
    """The form's fields, as they are shown: texts as somebody typed them, or as they are kept."""

    share: str
    weights: Mapping[str, str]
    conditions: Rows
    prerequisites: Rows


def sheet_of(flag: Flag, fields: Mapping[str, Any]) -> Sheet:
    """Return the form as it is before anybody types. fields: see `served`."""
    weights = {each["variant"]: _text(each["weight"]) for each in fields["weights"]}
    return Sheet(
        share=_text(fields["share"]),
        weights={name: weights.get(name, "0") for name in offered(flag, weights)},
        conditions=_spare(
            [
                {
                    "attribute": each["attribute"],
                    "operator": each["operator"],
                    "values": "\n".join(each["values"]),
                }
                for each in fields["conditions"]
            ],
            {"attribute": "", "operator": "in", "values": ""},
            MAX_CONDITIONS,
        ),
        prerequisites=_spare(
            [dict(each) for each in fields["prerequisites"]],
            {"flag": "", "variant": "on"},
            MAX_PREREQUISITES,
        ),
    )


def sheet_typed(flag: Flag, typed: Typed) -> Sheet:
    """Return the form as it was typed."""
    given = [name.removeprefix("weight:") for name in typed.values if name.startswith("weight:")]
    return Sheet(
        share=typed.text("share"),
        weights={name: typed.text(f"weight:{name}") for name in offered(flag, given)},
        conditions=_rows(typed, ("attribute", "operator", "values"), MAX_CONDITIONS),
        prerequisites=_rows(typed, ("flag", "variant"), MAX_PREREQUISITES),
    )


def offered(flag: Flag, used: Iterable[str]) -> list[str]:
    """Return the variants that a share may be divided among."""
    return [name for name in flag.variants if name != flag.rest or name in set(used)]


def read_serving(flag: Flag, typed: Typed) -> dict[str, Any]:
    """Return all that the form asks for, as `served` has it. Raises Unusable."""
    sheet = sheet_typed(flag, typed)
    fields: dict[str, Any] = {"share": number(typed, "share", sheet.share, "Share")}
    if len(sheet.weights) > 1:
        fields["weights"] = [
            {"variant": name, "weight": weight}
            for name, text in sheet.weights.items()
            if (weight := number(typed, "weights", text or "0", f"The weight of “{name}”"))
        ]
        if not fields["weights"]:
            typed.errors["weights"] = "Weights must add up to 100 %."
            raise Unusable
    fields["conditions"] = [
        {
            "attribute": row["attribute"].strip(),
            "operator": row["operator"],
            "values": [line.strip() for line in row["values"].splitlines() if line.strip()],
        }
        for row in sheet.conditions
        if row["attribute"].strip() or row["values"].strip()
    ]
    fields["prerequisites"] = [
        {"flag": row["flag"].strip(), "variant": row["variant"].strip()}
        for row in sheet.prerequisites
        if row["flag"].strip()
    ]
    build_edit(typed, fields)
    return fields


def _rows(typed: Typed, names: Sequence[str], most: int) -> list[dict[str, str]]:
    there = [i for i in range(most) if f"{names[0]}:{i}" in typed.values]
    return [{name: typed.text(f"{name}:{i}") for name in names} for i in there]


def _spare(rows: list[dict[str, str]], empty: Mapping[str, str], most: int) -> Rows:
    return [*rows, *([dict(empty)] * min(SPARE_ROWS, most - len(rows)))]


def _text(percent: float) -> str:
    return f"{percent:.4f}".rstrip("0").rstrip(".")
