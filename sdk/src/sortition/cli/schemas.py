"""The published JSON Schemas of our files, and what a file has against its own, in plain words."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeAlias

from .placed import Place, Placed, Problem

if TYPE_CHECKING:
    import jsonschema_rs

KINDS = ("rollout", "flags", "checks")
"""Each has its file `<kind>.schema.json` beside this one."""

TEXTS = {"rollout": ("environment", "service", "version")}
"""Kind -> fields that are text however they are written."""

Error: TypeAlias = "jsonschema_rs.ValidationError"


def text(kind: str) -> str:
    """Return a schema as it is published."""
    return files("sortition.cli").joinpath(f"{kind}.schema.json").read_text("utf-8")


@cache
def _schema(kind: str) -> Mapping[str, Any]:
    return dict(json.loads(text(kind)))


def problems(placed: Placed, kind: str) -> Iterator[Problem]:
    """Yield what a file has against the schema of its kind."""
    import jsonschema_rs  # noqa: PLC0415 (slow to import, and few commands need it)

    schema = _schema(kind)
    validator = jsonschema_rs.validator_for(dict(schema))
    for error in validator.iter_errors(placed.content):
        for plain in _plain(error):
            for path, message in _words(plain, schema):
                yield placed.problem(path, message)


def _plain(error: Error) -> Iterable[Error]:
    """Return the errors that tell why: of the alternatives, those of the one that was meant."""
    branches: list[list[Error]] = getattr(error.kind, "context", [])
    if not branches:
        return [error]
    at = list(error.instance_path)

    def meant(branch: Sequence[Error]) -> tuple[bool, float]:
        # One of another type was not meant; of the rest, the one that goes deepest.
        wrong_type = any(e.kind.name == "type" and list(e.instance_path) == at for e in branch)
        depth = max((len(e.instance_path) for e in branch), default=math.inf)
        return not wrong_type, depth

    best = max(branches, key=meant)
    if not meant(best)[0]:
        return [error]
    return [plain for each in best for plain in _plain(each)]


def _words(error: Error, schema: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    path = tuple(error.instance_path)
    kind = error.kind
    match kind.name:
        case "additionalProperties":
            known = sorted(_parent(error, schema).get("properties", {}))
            for name in getattr(kind, "unexpected", []):
                yield (*path, name), f"is not known here; known are: {', '.join(known)}"
        case "required":
            name = getattr(kind, "property", "")
            yield path, f"{name.strip(chr(34))} is missing"
        case "anyOf":
            yield path, f"must be {_alternatives(error)}"
        case "type":
            yield path, f"must be {_types(error)}, not {_type_of(error.instance)}"
        case "enum":
            options = getattr(kind, "options", [])
            yield path, f"must be one of {', '.join(map(str, options))}, not {error.instance!r}"
        case "pattern":
            yield path, f"{_example(error, schema)}, not {_short(error.instance)}"
        case "propertyNames":
            name = kind.error.instance  # type: ignore[attr-defined]
            yield (*path, name), f"a name {_example(error, schema)}, not {_short(name)}"
        case "not":
            both = _parent(error, schema)["not"]["required"]
            yield path, f"must not have {' and '.join(both)} together"
        case _:
            yield path, error.message


def _parent(error: Error, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of the schema whose keyword is broken."""
    part: Any = schema
    for step in list(error.schema_path)[:-1]:
        part = part[step]
    return part if isinstance(part, dict) else {}


def _example(error: Error, schema: Mapping[str, Any]) -> str:
    part = _parent(error, schema)
    told = part.get("examples") or part.get("propertyNames", {}).get("examples")
    return f"must be written as {' or '.join(map(str, told))}" if told else "is written wrongly"


TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "nothing",
}


def _types(error: Error) -> str:
    told = getattr(error.kind, "types", [])
    return " or ".join(TYPES.get(each, each) for each in told) or "of another type"


def _alternatives(error: Error) -> str:
    found = []
    for branch in getattr(error.kind, "context", []):
        for each in branch:
            if each.kind.name == "type":
                found.append(_types(each))
            elif each.kind.name == "enum":
                found.append(" or ".join(map(str, getattr(each.kind, "options", []))))
    said = [each for each in dict.fromkeys(found) if each != TYPES["null"]]
    return f"{' or '.join(said)}, not {_short(error.instance)}"


def _type_of(value: Any) -> str:
    match value:
        case bool():
            return TYPES["boolean"]
        case None:
            return TYPES["null"]
        case dict():
            return TYPES["object"]
        case list():
            return TYPES["array"]
        case str():
            return f"text ({_short(value)})"
        case _:
            return f"a number ({value})"


def _short(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"
