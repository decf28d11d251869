"""The one guard that every request's body passes: bounded, exact JSON, and the fields it may have.

Whatever is wrong becomes a `Problem` of 4xx that names the field; nothing reaches a parser that
could be made to run out of stack, memory or patience.
"""

from __future__ import annotations

import json
import math
import re
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

MEDIA_TYPES = frozenset({"application/json"})

_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
_PREFIXED = re.compile(r"([a-z_]+): (.*)", re.DOTALL)


def read_object(request: Request, limit: int = LIMIT) -> dict[str, Any]:
    """Return the JSON object that a request carries. An absent body is an empty object.

    Raises Problem: body_too_large, unsupported_media_type, malformed_body.
    """
    raw = _read(request, limit)
    if not raw:
        return {}
    if request.mimetype not in MEDIA_TYPES:
        raise Problem(415, "unsupported_media_type", "Send JSON, as application/json.")
    value = parse(raw)
    if not isinstance(value, dict):
        raise _malformed("The body must be a JSON object.")
    return value


def parse(raw: bytes) -> Any:
    """Return the value of exact JSON text. Raises Problem malformed_body."""
    _check_depth(raw)
    try:
        text = raw.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=_distinct,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError:
        raise _malformed("The body is not text in UTF-8.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _malformed(f"The body is not JSON: {error.msg} at {where}.") from None
    except ValueError as error:
        raise _malformed(f"The body cannot be used: {error}.") from None
    return value


def validated(model: type[Model], value: dict[str, Any]) -> Model:
    """Return the model of an object. Raises Problem invalid_field or unknown_field."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = [_fault(each) for each in error.errors(include_url=False, include_input=False)]
        code, field, detail = found[0]
        faults = [{"field": at, "detail": words} for _, at, words in found[:20]]
        raise Problem(422, code, detail, field=field, errors=faults) from None


def _read(request: Request, limit: int) -> bytes:
    request.max_content_length = limit
    try:
        return request.get_data(cache=False)
    except RequestEntityTooLarge:
        size = f"{limit // 1024} KB"
        raise Problem(413, "body_too_large", f"The body is larger than {size}.") from None
    except (ClientDisconnected, OSError):
        raise _malformed("The body ended before its end.") from None


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


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{json.dumps(name[:100])} appears twice")
        found[name] = value
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _fault(error: Any) -> tuple[str, str, str]:
    """Return (code, JSON pointer, words) of one of pydantic's errors."""
    pointer = "".join(f"/{_escaped(part)}" for part in error["loc"] if part != "[key]")
    words = str(error["msg"]).removeprefix("Value error, ")
    named = _PREFIXED.fullmatch(words)
    if error["type"] == "value_error" and named is not None:
        pointer, words = f"{pointer}/{named.group(1)}", named.group(2)
    if error["type"] == "extra_forbidden":
        return "unknown_field", pointer, f"There is no field {pointer}."
    return "invalid_field", pointer, f"{pointer or 'The body'}: {words}"


def _escaped(part: object) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")[:200]


def _malformed(detail: str) -> Problem:
    return Problem(400, "malformed_body", detail)
