"""The one guard that every request's body passes: bounded, exact JSON, and the fields it may have.

Whatever is wrong becomes a `Problem` of 4xx that names the field; nothing reaches a parser that
could be made to run out of stack, memory or patience.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import Request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from .errors import Problem

Model = TypeVar("Model", bound=BaseModel)

LIMIT = 64 * 1024
"""Octets of a body, unless a route says otherwise."""

DEPTH = 32
"""How deep arrays and objects may be nested."""

MAX_INTEGER = 2**53 - 1
"""Beyond it programs read different numbers (RFC 8785 refuses them for that reason)."""

MAX_FAULTS = 20

MEDIA_TYPE = "application/json"

# A string, to its end or the text's; or a bracket. Linear: no two branches begin alike.
_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)
# What only a number can look like that needs a second look: many digits, or an exponent.
_LARGE = re.compile(rb"[0-9]{16}|[0-9][eE]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_PREFIXED = re.compile(r"([a-z_]+): (.*)", re.DOTALL)


def refuse(request: Request) -> None:
    """Raise Problem malformed_body if there is a body, without reading it."""
    if request.content_length or request.headers.get("Transfer-Encoding"):
        raise _malformed("This takes no body.")


def read_object(request: Request, limit: int = LIMIT) -> dict[str, Any]:
    """Return the JSON object that a request carries. An absent body is an empty object.

    Raises Problem: body_too_large, unsupported_media_type, malformed_body, request_timeout.
    """
    raw = _read(request, limit)
    if not raw:
        return {}
    if request.mimetype != MEDIA_TYPE:
        raise Problem(415, "unsupported_media_type", "Send JSON, as application/json.")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem(415, "unsupported_media_type", "Send it as it is, without an encoding.")
    value = parse(raw)
    if not isinstance(value, dict):
        raise _malformed("The body must be a JSON object.", "")
    return value


def parse(raw: bytes) -> Any:
    """Return the value of exact JSON text. Raises Problem malformed_body."""
    _check_depth(raw)
    notes = _Notes()
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, **notes.hooks(_LARGE.search(raw) is not None))
    except UnicodeError:
        raise _malformed("The body is not text in UTF-8.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _malformed(f"The body is not JSON: {error.msg} at {where}.") from None
    if notes.taken or "\\u" in text:
        for pointer, words in _faults(value, ""):
            raise _malformed(f"{pointer or 'The body'}: {words}.", pointer)
    return value


def validated(model: type[Model], value: dict[str, Any]) -> Model:
    """Return the model of an object. Raises Problem invalid_field or unknown_field."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        found = _telling([_fault(each, value) for each in errors])
    except OverflowError:
        found = [("invalid_field", "", "A number or an instant is out of range.")]
    code, field, detail = found[0]
    faults = [{"field": at, "detail": words} for _, at, words in found[:MAX_FAULTS]]
    raise Problem(422, code, detail, field=field, errors=faults)


def _read(request: Request, limit: int) -> bytes:
    # One more than fits: of a body without a length, Werkzeug cuts off what is over the limit and
    # says nothing, so a longer one would pass for its beginning.
    request.max_content_length = limit + 1
    try:
        raw = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise _too_large(limit) from None
    except (ClientDisconnected, OSError):
        raise _malformed("The body ended before its end.") from None
    if len(raw) > limit:
        raise _too_large(limit)
    return raw


def _too_large(limit: int) -> Problem:
    return Problem(413, "body_too_large", f"The body is larger than {limit // 1024} KB.")


def _check_depth(raw: bytes) -> None:
    depth = 0
    for token in _TOKENS.finditer(raw):
        first = token.group()[:1]
        if first in b"[{":
            depth += 1
            if depth > DEPTH:
                raise _malformed(f"The body is nested more than {DEPTH} deep.")
        elif first in b"]}":
            depth -= 1


@dataclass(frozen=True)
class _Bad:
    """Stands in the parsed value for what cannot be used, until it is known where that is."""

    words: str


class _Notes:
    """Hooks for the parser that take note of what JSON forbids and parsers let pass."""

    def __init__(self) -> None:
        self.taken = False

    def hooks(self, numbers: bool) -> dict[str, Any]:
        """Return the parser's arguments. numbers: look at each one (it costs time)."""
        hooks: dict[str, Any] = {"object_pairs_hook": self.pairs, "parse_constant": self.constant}
        return hooks | {"parse_int": self.whole, "parse_float": self.real} if numbers else hooks

    def bad(self, words: str) -> _Bad:
        """Take note."""
        self.taken = True
        return _Bad(words)

    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Return an object whose names are distinct."""
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            for name, _ in pairs:
                if name in seen:
                    found[name] = self.bad("appears twice")
                seen.add(name)
        return found

    def constant(self, name: str) -> _Bad:
        """Refuse NaN and infinities."""
        return self.bad(f"{name} is not JSON")

    def whole(self, text: str) -> int | _Bad:
        """Return a whole number that every program reads alike."""
        if len(text) > len(str(MAX_INTEGER)) + 1 or abs(int(text)) > MAX_INTEGER:
            return self.bad(f"a whole number is beyond {MAX_INTEGER}")
        return int(text)

    def real(self, text: str) -> float | _Bad:
        """Return a finite number."""
        value = float(text)
        return value if math.isfinite(value) else self.bad("a number is too large")


def _faults(value: Any, pointer: str) -> Iterator[tuple[str, str]]:
    """Yield (JSON pointer, words) of what cannot be used."""
    if isinstance(value, _Bad):
        yield pointer, value.words
    elif isinstance(value, str):
        if _SURROGATE.search(value):
            yield pointer, "half of a surrogate pair is not text"
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _faults(item, f"{pointer}/{i}")
    elif isinstance(value, dict):
        for name, item in value.items():
            if _SURROGATE.search(name):
                yield pointer, "half of a surrogate pair is not text"
            yield from _faults(item, f"{pointer}/{_escaped(name)}")


def _telling(found: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Return the faults without those of a form that was not meant: where a thing may have several,
    it is the one whose inside was looked into."""
    inner = [pointer for _, pointer, _ in found]
    return [each for each in found if not any(at.startswith(f"{each[1]}/") for at in inner)]


def _fault(error: Any, value: Any) -> tuple[str, str, str]:
    """Return (code, JSON pointer, words) of one of pydantic's errors. value: what was validated."""
    missing = error["type"] == "missing"
    pointer = "".join(f"/{_escaped(part)}" for part in _steps(error["loc"], value, missing))
    words = str(error["msg"]).removeprefix("Value error, ")
    named = _PREFIXED.fullmatch(words)
    if error["type"] == "value_error" and named is not None:
        pointer, words = f"{pointer}/{named.group(1)}", named.group(2)
    if error["type"] == "extra_forbidden":
        return "unknown_field", pointer, f"There is no field {pointer}."
    return "invalid_field", pointer, f"{pointer or 'The body'}: {words}"


def _steps(loc: Sequence[int | str], value: Any, missing: bool) -> Iterator[int | str]:
    """Yield the parts of a place that are in the body; pydantic also names the forms that a thing
    may have, which no caller knows."""
    for i, part in enumerate(loc):
        inside = range(len(value)) if isinstance(value, list) else value
        if isinstance(inside, dict | range) and part in inside:
            value = value[part]
        elif not (missing and i == len(loc) - 1):
            continue
        yield part


def _escaped(part: object) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")[:200]


def _malformed(detail: str, field: str | None = None) -> Problem:
    return Problem(400, "malformed_body", detail, field=field)
