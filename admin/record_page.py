"""Which entries of the record a page shows, and what an entry changed, field by field."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Protocol

from flagserver.domain.events import KINDS

from . import present

PAGE_SIZE = 50
AT_ONCE = 200
MOST_LOOKED_AT = 5000
"""Entries that one page looks through for those that are wanted."""

MAX_WORDS = 200
MOST_PARTS = 200

PART = "*"
"""At the end of what something is called: everything with this in its name."""

SUBJECTS = sorted({kind.partition(":")[0] for kind in KINDS})

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Signed:
    """Up to which entry the record is signed, and under which name."""

    log: str
    size: int


class Log(Protocol):
    """Returns entries, newest first."""

    def __call__(
        self, *, target: str | None, environment: str | None, before: int | None, limit: int
    ) -> Sequence[Entry]:
        """See `services.audit.Audit.log`."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an address asks for; "" is whatever. since, until: days, both included."""

    who: str = ""
    subject: str = ""
    thing: str = ""
    environment: str = ""
    since: str = ""
    until: str = ""
    before: int | None = None

    def wider(self) -> dict[str, Any]:
        """Return the parameters of everything that has the same in its name."""
        return replace(self, thing=self.thing.rpartition("/")[2] + PART).address()

    @property
    def narrowed(self) -> bool:
        """Whether it shows less than all."""
        return self != Asked(before=self.before)

    def address(self, before: int | None = None) -> dict[str, Any]:
        """Return the parameters of the same list, from another entry on."""
        asked = replace(self, before=before)
        given = {
            "who": asked.who,
            "what": asked.subject,
            "thing": asked.thing,
            "env": asked.environment,
            "from": asked.since,
            "to": asked.until,
            "before": asked.before,
        }
        return {name: value for name, value in given.items() if value}


@dataclass(frozen=True, slots=True)
class Found:
    """Some entries. older: from where the next page goes on, None at the end. looked: so many were
    looked through."""

    entries: Sequence[Entry]
    older: int | None
    looked: int


@dataclass(frozen=True, slots=True)
class Part:
    """One field of what was changed, as text; None where there was none."""

    name: str
    before: str | None
    after: str | None

    @property
    def differs(self) -> bool:
        """Whether it was changed."""
        return self.before != self.after


def read(arguments: Mapping[str, str]) -> Asked:
    """Return what an address asks for; what it cannot mean counts as not said."""
    before = arguments.get("before", "")
    return Asked(
        who=arguments.get("who", "").strip()[:MAX_WORDS],
        subject=arguments.get("what", "") if arguments.get("what") in SUBJECTS else "",
        thing=arguments.get("thing", "").strip()[:MAX_WORDS],
        environment=arguments.get("env", "")[:MAX_WORDS],
        since=_day(arguments.get("from", "")),
        until=_day(arguments.get("to", "")),
        before=int(before) if before.isascii() and before.isdigit() and len(before) < 16 else None,
    )


def find(log: Log, asked: Asked, target: str | None, name: Callable[[str], str | None]) -> Found:
    """Return a page of the entries that are asked for.

    target: the one thing that is meant, None where there is more than one.  name: what an actor is
    called, for whoever looks.
    """
    found: list[Entry] = []
    before, looked = asked.before, 0
    environment = asked.environment or None
    # Where all that is read is shown, no more is read than that.
    at_once = AT_ONCE if asked.narrowed else PAGE_SIZE
    while looked < MOST_LOOKED_AT:
        some = log(target=target, environment=environment, before=before, limit=at_once)
        for entry in some:
            before, looked = entry["seq"], looked + 1
            if asked.since and entry["ts"][:10] < asked.since:
                return Found(found, None, looked)
            if _is_wanted(entry, asked, name):
                found.append(entry)
            if len(found) == PAGE_SIZE:
                return Found(found, before, looked)
        if len(some) < at_once:
            return Found(found, None, looked)
    return Found(found, before, looked)


def _is_wanted(entry: Entry, asked: Asked, name: Callable[[str], str | None]) -> bool:
    if asked.until and entry["ts"][:10] > asked.until:
        return False
    if asked.environment and entry["environment"] != asked.environment:
        return False
    return (
        _is_by(asked.who.casefold(), entry["actor"], name)
        and asked.thing.removesuffix(PART).casefold() in entry["target"].casefold()
        and (asked.subject == "" or entry["action"].partition(":")[0] == asked.subject)
    )


def _is_by(who: str, actor: str, name: Callable[[str], str | None]) -> bool:
    return who in actor.casefold() or who in (name(actor) or "").casefold()


def parts(before: Any, after: Any) -> list[Part]:
    """Return what an entry is about field by field, what was changed first."""
    was, is_now = dict(_flat("", before)), dict(_flat("", after))
    names = list(dict.fromkeys([*was, *is_now]))[:MOST_PARTS]
    found = [Part(name, was.get(name), is_now.get(name)) for name in names]
    return sorted(found, key=lambda part: (not part.differs, part.name == "changed"))


def newest(checkpoints: Sequence[str]) -> Signed | None:
    """Return up to where the record is signed, as the newest checkpoint says: its first lines are
    `<log>/<epoch>` and the size."""
    if not checkpoints:
        return None
    origin, size, *_ = checkpoints[-1].split("\n")
    return Signed(origin, int(size))


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    """Return the fields of a JSON value by their paths; lists of plain things stay together."""
    if isinstance(value, dict) and value:
        inner = [_flat(f"{name}.{key}" if name else str(key), each) for key, each in value.items()]
        return [pair for pairs in inner for pair in pairs]
    if value is None and not name:
        return []
    return [(name or "value", _text(name, value))]


def _text(name: str, value: Any) -> str:
    last = name.rpartition(".")[2]
    if last == "share" and isinstance(value, int):
        return present.percent(value)
    if last == "weights" and _are_weights(value):
        return ", ".join(f"{variant} {present.percent(weight)}" for variant, weight in value)
    if isinstance(value, str):
        return value
    if value is None or value in ([], {}):
        return "none"
    return json.dumps(value, ensure_ascii=False)


def _are_weights(value: Any) -> bool:
    """Tell whether they are a flag's: pairs of a variant and parts per million."""
    pairs = value if isinstance(value, list) and value else [None]
    return all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], int) for pair in pairs
    )


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        return ""
