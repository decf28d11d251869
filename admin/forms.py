"""What people type, read into the domain's commands; what cannot be used is named by its field."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError

from flagserver.domain.commands import Command, Enlarging, FlagEdit, NewFlag, Reasoned, StateEdit
from flagserver.domain.errors import Refusal

AnyCommand = TypeVar("AnyCommand", bound=Command)

_NUMBER = re.compile(r"\d{1,3}(?:[.,]\d{1,4})?|[.,]\d{1,4}", re.ASCII)
_WHOLE_NUMBER = re.compile(r"\d{1,15}", re.ASCII)


@dataclass
class Typed:
    """A form as it was typed, and what is wrong with it: field -> words ("" for the whole)."""

    values: Mapping[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def text(self, name: str, default: str = "") -> str:
        """Return what was typed into a field."""
        return self.values.get(name, default)

    def refuse(self, refusal: Refusal) -> None:
        """Put a refusal beside the field that it is about."""
        pointer = (refusal.field or "").split("/")
        self.errors[pointer[1] if len(pointer) > 1 else ""] = refusal.detail


class Unusable(Exception):
    """The form's errors say what is wrong."""


def read_share(typed: Typed) -> StateEdit:
    """Return the change of a share that a form asks for. Raises Unusable."""
    share = number(typed, "share", typed.text("preset", typed.text("share")), "Share")
    return build(StateEdit, typed, share=share, **_enlarging(typed))


def build_edit(typed: Typed, fields: Mapping[str, Any]) -> StateEdit:
    """Return a change of these fields, and why. Raises Unusable."""
    return build(StateEdit, typed, **fields, **_enlarging(typed))


def number(typed: Typed, field: str, text: str, label: str) -> float:
    """Return a percentage as people write it. Raises Unusable."""
    text = text.strip().removesuffix("%").strip()
    if not _NUMBER.fullmatch(text):
        typed.errors[field] = f"{label} must be a number from 0 to 100, with at most four decimals."
        raise Unusable
    return float(text.replace(",", "."))


def read_enlarging(typed: Typed) -> Enlarging:
    """Return what a form says to justify an enlargement. Raises Unusable."""
    return build(Enlarging, typed, **_enlarging(typed))


def read_reason(typed: Typed) -> Reasoned:
    """Return why, if it says so. Raises Unusable."""
    return build(Reasoned, typed, reason=reason(typed))


def read_revision(typed: Typed) -> int:
    """Return the revision that the form was made from. Raises Unusable."""
    text = typed.text("revision")
    if not _WHOLE_NUMBER.fullmatch(text):
        typed.errors[""] = "The form does not say which revision it is about. Open the page again."
        raise Unusable
    return int(text)


def read_flag(typed: Typed) -> NewFlag:
    """Return the flag that a form asks for. Raises Unusable."""
    given: dict[str, Any] = {
        name: typed.text(name).strip() for name in ("key", "description", "owner")
    }
    given["kind"] = typed.text("kind", "temporary")
    given["reason"] = reason(typed)
    if typed.text("variants").strip():
        given["variants"] = _variants(typed)
        given["rest"] = typed.text("rest").strip() or _last(given["variants"])
    return build(NewFlag, typed, **given)


def read_flag_edit(typed: Typed) -> FlagEdit:
    """Return what a form changes about a flag itself. Raises Unusable."""
    given = {name: typed.text(name).strip() for name in ("description", "owner", "kind")}
    return build(FlagEdit, typed, **given, reason=reason(typed))


def _variants(typed: Typed) -> Any:
    try:
        value = json.loads(
            typed.text("variants"), object_pairs_hook=_without_twins, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as problem:
        typed.errors["variants"] = f"Variants must be one JSON object: {problem}."
        raise Unusable from None
    if not isinstance(value, dict):
        typed.errors["variants"] = 'Variants must be one JSON object, as in {"a": 1, "b": 2}.'
        raise Unusable
    return value


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twins = {name for name in names if names.count(name) > 1}
    if twins:
        raise ValueError(f"{min(twins)!r} appears twice")
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _last(variants: Mapping[str, Any]) -> str:
    return list(variants)[-1] if variants else ""


def _enlarging(typed: Typed) -> dict[str, Any]:
    return {
        "reason": reason(typed),
        "confirm_environment": typed.text("confirm_environment").strip() or None,
    }


def reason(typed: Typed) -> str | None:
    """Return why, where a form says so."""
    return typed.text("reason").strip() or None


def build(command: type[AnyCommand], typed: Typed, **given: Any) -> AnyCommand:
    """Return a command of what was typed. Raises Unusable, with what is wrong beside each field."""
    try:
        return command(**given)
    except ValidationError as problems:
        for problem in problems.errors():
            name, words = _named(problem)
            typed.errors.setdefault(name, words)
        raise Unusable from None


def _named(problem: Mapping[str, Any]) -> tuple[str, str]:
    """Return the field and the words of a validation error; `field: words` names its own."""
    words = str(problem["msg"]).removeprefix("Value error, ")
    place = problem["loc"]
    if not place and ": " in words:
        name, words = words.split(": ", 1)
        return name, _sentence(name, words)
    if not place:
        return "", words
    if len(place) > 1 and isinstance(place[1], int):
        part = f", {place[2]}" if len(place) > 2 else ""
        return str(place[0]), _sentence(f"Row {place[1] + 1}{part}", words)
    inner = ".".join(str(part) for part in place[1:] if part != "[key]")
    return str(place[0]), _sentence(f"“{inner}”" if inner else str(place[0]), words)


def _sentence(name: str, words: str) -> str:
    label = name if name.startswith(("“", "Row ")) else name.replace("_", " ").capitalize()
    separator = " " if words.startswith("must") else ": "
    return f"{label}{separator}{words.rstrip('.')}."
