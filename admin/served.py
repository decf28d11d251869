"""What a flag serves in an environment, as forms carry it and as tables compare it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError

from flagserver.domain.commands import StateEdit, percent_to_ppm, ppm_to_percent
from flagserver.domain.flags import State

from . import present

Fields = Mapping[str, Any]
"""The fields of a `StateEdit` that are about what is served, as JSON has them."""

LABELS = {
    "share": "Share",
    "weights": "Variants",
    "conditions": "Only where",
    "prerequisites": "Only with",
}
JUSTIFYING = {"reason", "confirm_environment"}
MAX_TEXT = 20_000


def of_state(state: State) -> dict[str, Any]:
    """Return what a state serves; shares and weights in percent."""
    return {
        "share": ppm_to_percent(state.share),
        "weights": [
            {"variant": variant, "weight": ppm_to_percent(weight)}
            for variant, weight in state.weights
        ],
        "conditions": [
            {"attribute": c.attribute, "operator": c.operator, "values": list(c.values)}
            for c in state.conditions
        ],
        "prerequisites": [asdict(each) for each in state.prerequisites],
    }


def of_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a state served that the record tells of."""
    return of_state(State.from_body(body))


def of_command(command: StateEdit) -> dict[str, Any]:
    """Return what a command changes."""
    return command.model_dump(exclude_none=True, exclude=JUSTIFYING)


def changed(seen: Fields, wanted: Fields) -> dict[str, Any]:
    """Return the fields that somebody changed: reapplied elsewhere, they leave the others alone."""
    return {
        name: value
        for name, value in wanted.items()
        if _comparable(name, seen.get(name)) != _comparable(name, value)
    }


def _comparable(name: str, value: Any) -> Any:
    """Return a field so that what serves alike is equal: the order of weights is nobody's wish."""
    if name != "weights" or value is None:
        return value
    return {each["variant"]: each["weight"] for each in value if each["weight"]}


def written(fields: Fields) -> str:
    """Return fields as a form carries them."""
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)


def read(text: str) -> dict[str, Any]:
    """Return the fields that a form carries. Raises ValueError for what we did not write."""
    if len(text) > MAX_TEXT:
        raise ValueError("too long")
    try:
        command = StateEdit.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(str(error)) from None
    return of_command(command)


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of several states, in words. differs: whether they are not all alike."""

    label: str
    told: Sequence[Sequence[str]]

    @property
    def differs(self) -> bool:
        """Whether they are not all alike."""
        return any(lines != self.told[0] for lines in self.told)


def differences(*states: Fields) -> list[Difference]:
    """Return the fields in which states differ, and the share always, each in the states' order."""
    all_of_them = [
        Difference(label, [_words(name, state.get(name)) for state in states])
        for name, label in LABELS.items()
    ]
    return [each for each in all_of_them if each.differs or each.label == LABELS["share"]]


def _words(name: str, value: Any) -> list[str]:
    """Return a field in words, a line for each part of it."""
    if value is None:
        return [present.NOTHING]
    if name == "share":
        return [_percent(value)]
    tell = {"weights": _weight, "conditions": condition_words, "prerequisites": _prerequisite}[name]
    return [tell(each) for each in value] or ["no condition" if name != "weights" else "none"]


def _weight(weight: Mapping[str, Any]) -> str:
    return f"{weight['variant']} {_percent(weight['weight'])}"


def condition_words(condition: Mapping[str, Any]) -> str:
    """Return a condition in words: `service.version in 1.4.0, 1.5.0`."""
    operator = condition["operator"].replace("_", " ")
    return f"{condition['attribute']} {operator} {', '.join(condition['values'])}"


def _prerequisite(prerequisite: Mapping[str, Any]) -> str:
    return f"{prerequisite['flag']} serves {prerequisite['variant']}"


def _percent(percent: float) -> str:
    return present.percent(percent_to_ppm(percent))
