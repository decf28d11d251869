"""Parameters of the query string: declared with their route, read exactly or refused.

A misspelt `?dryrun=1` must not carry out what was meant to be tried, so names that a route does
not declare are refused too, except on routes that clients of other makers use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from werkzeug.datastructures import MultiDict

from .errors import Problem


class Parameter(Protocol):
    """One parameter. words: what it is for."""

    @property
    def words(self) -> str:
        """What it is for."""

    def value(self, text: str | None) -> Any:
        """Return what a text means (None: not given). Raises ValueError in words."""

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""


@dataclass(frozen=True)
class Words:
    """Text; "" when it is not given."""

    words: str
    longest: int = 200

    def value(self, text: str | None) -> str:
        """Return the text."""
        if text is not None and len(text) > self.longest:
            raise ValueError(f"must be at most {self.longest} characters")
        return text or ""

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "maxLength": self.longest}


@dataclass(frozen=True)
class Choice:
    """One of some words; None when it is not given."""

    words: str
    options: tuple[str, ...]

    def value(self, text: str | None) -> str | None:
        """Return the word."""
        if text is not None and text not in self.options:
            raise ValueError(f"must be one of {', '.join(self.options)}")
        return text

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "enum": list(self.options)}


@dataclass(frozen=True)
class Switch:
    """On (1, true) or off (0, false, not given)."""

    words: str

    def value(self, text: str | None) -> bool:
        """Return whether it is on."""
        if text not in (None, "0", "1", "false", "true"):
            raise ValueError("must be 1 or 0")
        return text in ("1", "true")

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "enum": ["0", "1", "false", "true"]}


@dataclass(frozen=True)
class Number:
    """A whole number within bounds, or the default."""

    words: str
    low: int
    high: int
    default: int | None = None

    def value(self, text: str | None) -> int | None:
        """Return the number."""
        if text is None:
            return self.default
        if not re.fullmatch(r"[0-9]{1,15}", text) or not self.low <= int(text) <= self.high:
            raise ValueError(f"must be a whole number from {self.low} to {self.high}")
        return int(text)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        bounds = {"type": "integer", "minimum": self.low, "maximum": self.high}
        return bounds if self.default is None else bounds | {"default": self.default}


def read(
    declared: Mapping[str, Parameter], given: MultiDict[str, str], *, others: bool
) -> dict[str, Any]:
    """Return the value of every declared parameter. others: let unknown names pass.

    Raises Problem invalid_field or unknown_field.
    """
    for name in given:
        if name not in declared and not others:
            known = ", ".join(declared) or "none"
            detail = f"There is no such parameter here; known: {known}."
            raise Problem(422, "unknown_field", detail, parameter=f"?{name[:100]}")
        if name in declared and len(given.getlist(name)) > 1:
            raise _invalid(name, "must be given once")
    return {name: _value(name, parameter, given) for name, parameter in declared.items()}


def _value(name: str, parameter: Parameter, given: MultiDict[str, str]) -> Any:
    try:
        return parameter.value(given.get(name))
    except ValueError as error:
        raise _invalid(name, str(error)) from None


def _invalid(name: str, words: str) -> Problem:
    return Problem(422, "invalid_field", f"{name} {words}.", parameter=f"?{name}")
