"""What `verify` asks of a service, and whether an answer is what was expected: no I/O here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .placed import Placed

BODY_LIMIT = 1024 * 1024
"""Octets of an answer that are read at most; a longer one fails."""

TIMEOUT, RETRIES, WAIT = "5s", 2, "1s"

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Missing(ValueError):
    """A header names a variable that the environment does not have."""


@dataclass(frozen=True)
class Expect:
    """What must come back. status: those that are well, empty for 200 to 299.  headers: name ->
    text that it holds.  values: JSON pointer -> value.  latency: seconds."""

    status: tuple[int, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    contains: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    latency: float | None = None


@dataclass(frozen=True)
class Check:
    """One request and what is expected of its answer. timeout, wait: seconds.

    wait: before the first retry; twice as long before each that follows.
    """

    name: str
    method: str
    url: str
    expect: Expect
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes | None = field(default=None, repr=False)
    timeout: float = 5.0
    retries: int = 2
    wait: float = 1.0


@dataclass(frozen=True)
class Answer:
    """What came back. seconds: until the whole of it was there.  body: None where it was longer
    than BODY_LIMIT."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None
    seconds: float


def seconds(text: str) -> float:
    """Return the seconds that `500ms`, `5s` or `1m` mean."""
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)", text).groups()  # type: ignore[union-attr]  # by the schema
    return int(number) * _UNITS[unit]


def checks(placed: Placed, base: str | None, environ: Mapping[str, str]) -> list[Check]:
    """Return the checks of a file that fits the schema.

    base: what relative addresses are added to, before what the file says.
    Raises ValueError for a relative address without it; Missing.
    """
    content = placed.content
    whole = {name: content[name] for name in ("timeout", "retries", "wait") if name in content}
    root = (base or content.get("base") or "").rstrip("/")
    return [_check({**whole, **told}, root, environ) for told in content["checks"]]


def _check(told: Mapping[str, Any], root: str, environ: Mapping[str, str]) -> Check:
    url = told["url"]
    if url.startswith("/"):
        if not root:
            raise ValueError(f"{told['name']}: {url} needs `base` in the file, or --base")
        url = root + url
    headers = {name: _filled(text, environ) for name, text in told.get("headers", {}).items()}
    content = told["body"].encode() if "body" in told else None
    if "json" in told:
        content = json.dumps(told["json"]).encode()
        headers = {"Content-Type": "application/json", **headers}
    return Check(
        name=told["name"],
        method=told.get("method", "GET"),
        url=url,
        expect=_expect(told.get("expect", {})),
        headers=headers,
        content=content,
        timeout=seconds(told.get("timeout", TIMEOUT)),
        retries=told.get("retries", RETRIES),
        wait=seconds(told.get("wait", WAIT)),
    )


def _expect(told: Mapping[str, Any]) -> Expect:
    return Expect(
        status=_several(told.get("status", ())),
        headers=told.get("headers", {}),
        contains=_several(told.get("contains", ())),
        lacks=_several(told.get("lacks", ())),
        values=told.get("json", {}),
        latency=seconds(told["latency"]) if "latency" in told else None,
    )


def _several(told: Any) -> tuple[Any, ...]:
    return tuple(told) if isinstance(told, (list, tuple)) else (told,)


def _filled(text: str, environ: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in environ:
            raise Missing(f"the environment has no {name}, which a header names")
        return environ[name]

    return _VARIABLE.sub(value, text)


# --- is it what was expected ----------------------------------------------------------------------


def wrong(expect: Expect, answer: Answer) -> list[str]:
    """Return what is wrong with an answer, in sentences without a full stop; empty: nothing."""
    found = []
    well = answer.status in expect.status if expect.status else 200 <= answer.status < 300
    if not well:
        wanted = ", ".join(map(str, expect.status)) or "200 to 299"
        found.append(f"status {answer.status}, expected {wanted}")
    if expect.latency is not None and answer.seconds > expect.latency:
        took, most = answer.seconds * 1000, expect.latency * 1000
        found.append(f"took {took:.0f} ms, at most {most:.0f} ms expected")
    found += _wrong_headers(expect, answer)
    if answer.body is None:
        return [*found, f"the answer is longer than {BODY_LIMIT} octets"]
    return [*found, *_wrong_text(expect, answer.body), *_wrong_values(expect, answer.body)]


def _wrong_headers(expect: Expect, answer: Answer) -> list[str]:
    has = {name.lower(): text for name, text in answer.headers.items()}
    found = []
    for name, text in expect.headers.items():
        got = has.get(name.lower())
        if got is None:
            found.append(f"no header {name}")
        elif text.lower() not in got.lower():
            found.append(f"header {name} is {got[:100]!r}, expected to hold {text!r}")
    return found


def _wrong_text(expect: Expect, body: bytes) -> list[str]:
    text = body.decode("utf-8", "replace")
    found = [f"the body does not hold {part!r}" for part in expect.contains if part not in text]
    return found + [f"the body holds {part!r}" for part in expect.lacks if part in text]


def _wrong_values(expect: Expect, body: bytes) -> list[str]:
    if not expect.values:
        return []
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ["the body is no JSON"]
    found = []
    for pointer, wanted in expect.values.items():
        try:
            got = at(document, pointer)
        except LookupError:
            found.append(f"there is nothing at {pointer}")
            continue
        if not _same(got, wanted):
            found.append(f"{pointer} is {_short(got)}, expected {_short(wanted)}")
    return found


def at(document: Any, pointer: str) -> Any:
    """Return what a JSON pointer (RFC 6901) points at. Raises LookupError."""
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(document, Mapping):
            document = document[name]
        elif isinstance(document, Sequence) and not isinstance(document, str):
            if not re.fullmatch(r"0|[1-9]\d{0,8}", name):
                raise LookupError(name)
            document = document[int(name)]
        else:
            raise LookupError(name)  # noqa: TRY004 (nothing is there, whatever is above)
    return document


def _same(got: Any, wanted: Any) -> bool:
    """Tell whether two values are the same JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(got, bool) or isinstance(wanted, bool):
        return got is wanted
    if isinstance(got, list) and isinstance(wanted, list):
        return len(got) == len(wanted) and all(map(_same, got, wanted))
    if isinstance(got, dict) and isinstance(wanted, dict):
        return got.keys() == wanted.keys() and all(_same(got[k], wanted[k]) for k in got)
    return bool(got == wanted)


def _short(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 80 else f"{shown[:77]}…"
