"""The model of flags as they travel: a snapshot, and a change to one.

`parse` takes a decoded JSON object and gives the whole thing or raises `InvalidSnapshot`, which
names the place; nothing half-valid ever comes out. `to_wire` is its inverse.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType

from .bucketing import WHOLE, seed
from .conditions import OPERATORS, VERSION_OPERATORS, Condition, version_key
from .records import dataclass

TYPE_CHECKING = False  # see records
if TYPE_CHECKING:
    from typing import Any

    Json = Any
else:
    Json = object
"""A JSON value: None, bool, int, float, str, list of them, or dict from str to them."""

FORMAT = 1
"""Version of the wire form. A reader refuses others."""

KEY = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
"""What keys of flags, variants and environments look like (to be used with `fullmatch`)."""

MAX_VARIANTS = 50
MAX_CONDITIONS = 20
MAX_PREREQUISITES = 10
MAX_PREREQUISITE_DEPTH = 10
MAX_VALUE_DEPTH = 20
MAX_REVOKED_PREVIEWS = 1000
MAX_INTEGER = 2**53 - 1
"""The largest whole number that JSON carries exactly between languages (RFC 8259, section 6)."""


class InvalidSnapshot(ValueError):
    """The snapshot, change or flag cannot be used. `path` says where: `flags/new-search/share`."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem


class Gap(ValueError):
    """A change does not start at the version that is held: fetch the whole snapshot."""


@dataclass(frozen=True, slots=True)
class Prerequisite:
    """Another flag that must serve the given variant to the same request."""

    flag: str
    variant: str


@dataclass(frozen=True, slots=True)
class Flag:
    """All that decides about one flag in one environment.

    share: parts per million of requests that are exposed.
    weights: how an exposed request draws its variant: ordered (variant, ppm), together 10**6.
    rest: the variant everybody else gets.
    """

    key: str
    revision: int
    salt: str
    variants: Mapping[str, Json]
    rest: str
    weights: tuple[tuple[str, int], ...]
    share: int
    conditions: tuple[Condition, ...] = ()
    prerequisites: tuple[Prerequisite, ...] = ()
    killed: bool = False

    @property
    def is_boolean(self) -> bool:
        """Whether every value is true or false, so that `is_enabled` may be asked."""
        return all(isinstance(value, bool) for value in self.variants.values())

    @classmethod
    def parse(cls, key: str, wire: object, path: str = "") -> Flag:
        """Return the flag of a decoded JSON object. Raises InvalidSnapshot."""
        at = _Reader(wire, path or key)
        if not KEY.fullmatch(key):
            raise InvalidSnapshot(at.path, "not a key")
        variants = at.variants("variants")
        names = {variant: variant for variant in variants}
        rest = at.text("rest", 1, 100)
        flag = cls(
            key=key,
            revision=at.integer("revision", 0, 2**53),
            salt=at.text("salt", 1, 200),
            variants=variants,
            rest=names.get(rest, rest),
            weights=at.weights("weights"),
            share=at.integer("share", 0, WHOLE),
            conditions=tuple(at.each("conditions", _condition, MAX_CONDITIONS)),
            prerequisites=tuple(at.each("prerequisites", _prerequisite, MAX_PREREQUISITES)),
            killed=at.boolean("killed"),
        )
        check_variants(flag, at.path)
        return flag

    def to_wire(self) -> dict[str, Json]:
        """Return the JSON object that `parse` takes."""
        return {
            "revision": self.revision,
            "salt": self.salt,
            "variants": dict(self.variants),
            "rest": self.rest,
            "weights": [[variant, weight] for variant, weight in self.weights],
            "share": self.share,
            "conditions": [
                {"attribute": c.attribute, "operator": c.operator, "values": list(c.values)}
                for c in self.conditions
            ],
            "prerequisites": [{"flag": p.flag, "variant": p.variant} for p in self.prerequisites],
            "killed": self.killed,
        }


@dataclass(frozen=True, slots=True)
class SnapshotVersion:
    """Which state of an environment this is: `(store id, epoch, version)`, its ETag."""

    store: str
    epoch: int
    version: int

    @classmethod
    def parse(cls, wire: object) -> SnapshotVersion:
        """Return the version of a snapshot's decoded JSON. Raises InvalidSnapshot."""
        at = _Reader(wire, "")
        return cls(
            store=at.text("store", 1, 100),
            epoch=at.integer("epoch", 0, 2**53),
            version=at.integer("version", 0, 2**53),
        )

    def follows(self, held: SnapshotVersion | None) -> bool:
        """Tell whether this may replace what is held: the same store, and newer."""
        if held is None:
            return True
        return self.store == held.store and (self.epoch, self.version) > (held.epoch, held.version)

    def __str__(self) -> str:
        return f"{self.store}.{self.epoch}.{self.version}"

    @property
    def etag(self) -> str:
        """The strong entity tag, quotes included."""
        return f'"{self}"'


@dataclass(frozen=True, slots=True)
class Change:
    """Whole changed flags between two versions of one environment's snapshot.

    revoked_previews: all of them as they are now, None: as they were.
    """

    store: str
    epoch: int
    from_version: int
    to_version: int
    flags: Mapping[str, Flag] = MappingProxyType({})
    removed: tuple[str, ...] = ()
    revoked_previews: tuple[str, ...] | None = None

    def leads(self, held: SnapshotVersion) -> SnapshotVersion:
        """Return the version that this leads to from the one that is held. Raises Gap."""
        begins = SnapshotVersion(self.store, self.epoch, self.from_version)
        if begins != held or self.to_version <= held.version:
            raise Gap(f"held {held}, got a change from {self.epoch}.{self.from_version}")
        return SnapshotVersion(self.store, self.epoch, self.to_version)

    @classmethod
    def parse(cls, wire: object) -> Change:
        """Return the change of a decoded JSON object. Raises InvalidSnapshot."""
        at = _Reader(wire, "change")
        return cls(
            store=at.text("store", 1, 100),
            epoch=at.integer("epoch", 0, 2**53),
            from_version=at.integer("from", 0, 2**53),
            to_version=at.integer("to", 0, 2**53),
            flags=at.flags("flags"),
            removed=tuple(at.each("removed", _text, 100_000)),
            revoked_previews=at.revoked("revoked_previews"),
        )

    def to_wire(self) -> dict[str, Json]:
        """Return the JSON object that `parse` takes."""
        return {
            "store": self.store,
            "epoch": self.epoch,
            "from": self.from_version,
            "to": self.to_version,
            "flags": {key: flag.to_wire() for key, flag in self.flags.items()},
            "removed": list(self.removed),
            **_revoked(self.revoked_previews),
        }


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All flags of one environment at one version.

    flush_seconds: how often a client reports outcomes.
    histogram_edges: upper edges (seconds, rising) of the latency buckets; one more bucket
    follows the last edge.
    revoked_previews: ids of preview links that count no more, though their time is not over.
    """

    version: SnapshotVersion
    environment: str
    flush_seconds: float
    histogram_edges: tuple[float, ...]
    flags: Mapping[str, Flag]
    revoked_previews: tuple[str, ...] = ()

    @classmethod
    def parse(cls, wire: object) -> Snapshot:
        """Return the snapshot of a decoded JSON object. Raises InvalidSnapshot."""
        at = _Reader(wire, "")
        if at.integer("format", 0, 2**53) != FORMAT:
            raise InvalidSnapshot("format", f"only format {FORMAT} is known")
        flags = at.flags("flags")
        check_prerequisites(flags)
        return cls(
            version=SnapshotVersion.parse(wire),
            environment=at.text("environment", 1, 100),
            flush_seconds=at.number("flush_seconds", 0.05, 3600.0),
            histogram_edges=at.edges("histogram_edges"),
            flags=flags,
            revoked_previews=at.revoked("revoked_previews") or (),
        )

    def to_wire(self) -> dict[str, Json]:
        """Return the JSON object that `parse` takes."""
        return {
            "format": FORMAT,
            "store": self.version.store,
            "epoch": self.version.epoch,
            "version": self.version.version,
            "environment": self.environment,
            "flush_seconds": self.flush_seconds,
            "histogram_edges": list(self.histogram_edges),
            **_revoked(self.revoked_previews or None),
            "flags": {key: flag.to_wire() for key, flag in self.flags.items()},
        }

    def apply(self, change: Change) -> Snapshot:
        """Return the snapshot after a change.

        Raises Gap when the change does not start at this version of this store, and
        InvalidSnapshot when its result would not be valid.
        """
        version = change.leads(self.version)
        removed = set(change.removed)
        flags = {key: flag for key, flag in self.flags.items() if key not in removed}
        flags.update(change.flags)
        check_prerequisites(flags)
        revoked = change.revoked_previews
        return Snapshot(
            *(version, self.environment, self.flush_seconds, self.histogram_edges, flags),
            self.revoked_previews if revoked is None else revoked,
        )


def _revoked(previews: tuple[str, ...] | None) -> dict[str, Json]:
    """Return the member for them; none where there is nothing to say."""
    return {} if previews is None else {"revoked_previews": list(previews)}


def check_variants(flag: Flag, path: str = "") -> None:
    """Raise InvalidSnapshot unless rest and weights name variants and the weights are whole."""
    if flag.rest not in flag.variants:
        raise InvalidSnapshot(f"{path}/rest", f"no variant {flag.rest!r}")
    names = [variant for variant, _ in flag.weights]
    for name in names:
        if name not in flag.variants:
            raise InvalidSnapshot(f"{path}/weights", f"no variant {name!r}")
    if len(set(names)) != len(names):
        raise InvalidSnapshot(f"{path}/weights", "a variant appears twice")
    if sum(weight for _, weight in flag.weights) != WHOLE:
        raise InvalidSnapshot(f"{path}/weights", "weights must add up to 100 %")


def check_prerequisites(flags: Mapping[str, Flag]) -> None:
    """Raise InvalidSnapshot unless every prerequisite exists and none leads back to its flag."""
    evaluation_order(flags)


def evaluation_order(flags: Mapping[str, Flag]) -> list[str]:
    """Return the keys so that each comes after its prerequisites. Raises InvalidSnapshot.

    Iterative, for what arrives from outside must not be able to exhaust the stack.
    """
    depth: dict[str, int] = {}
    open_flags: set[str] = set()
    order: list[str] = []
    for start in flags:
        stack = [start]
        while stack:
            key = stack[-1]
            if key in depth:
                stack.pop()
                continue
            parents = [prerequisite.flag for prerequisite in flags[key].prerequisites]
            waiting = [parent for parent in parents if parent not in depth]
            if not waiting:
                depth[key] = _depth_of(flags[key], flags, depth)
                open_flags.discard(key)
                order.append(key)
                stack.pop()
                continue
            open_flags.add(key)
            _check_parents(flags[key], waiting, flags, open_flags)
            stack.extend(waiting)
    return order


def _check_parents(
    flag: Flag, waiting: Iterable[str], flags: Mapping[str, Flag], open_flags: set[str]
) -> None:
    for parent in waiting:
        if parent not in flags:
            raise InvalidSnapshot(f"flags/{flag.key}/prerequisites", f"no flag {parent!r}")
        if parent in open_flags:
            raise InvalidSnapshot(
                f"flags/{flag.key}/prerequisites", f"{parent!r} leads back to {flag.key!r}"
            )


def _depth_of(flag: Flag, flags: Mapping[str, Flag], depth: Mapping[str, int]) -> int:
    for prerequisite in flag.prerequisites:
        if prerequisite.variant not in flags[prerequisite.flag].variants:
            raise InvalidSnapshot(
                f"flags/{flag.key}/prerequisites",
                f"{prerequisite.flag!r} has no variant {prerequisite.variant!r}",
            )
    deepest = 1 + max((depth[p.flag] for p in flag.prerequisites), default=0)
    if deepest > MAX_PREREQUISITE_DEPTH:
        raise InvalidSnapshot(
            f"flags/{flag.key}/prerequisites", f"more than {MAX_PREREQUISITE_DEPTH} deep"
        )
    return deepest


class _Reader:
    """Reads members of one decoded JSON object and names the one that is at fault."""

    def __init__(self, wire: object, path: str) -> None:
        if not isinstance(wire, dict):
            raise InvalidSnapshot(path, "must be an object")
        self._wire = wire
        self.path = path

    def _at(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name

    def _get(self, name: str) -> object:
        if name not in self._wire:
            raise InvalidSnapshot(self._at(name), "is missing")
        return self._wire[name]

    def integer(self, name: str, low: int, high: int) -> int:
        value = self._get(name)
        if type(value) is not int or not low <= value <= high:
            raise InvalidSnapshot(self._at(name), f"must be a whole number from {low} to {high}")
        return value

    def number(self, name: str, low: float, high: float) -> float:
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InvalidSnapshot(self._at(name), "must be a number")
        if not low <= value <= high:
            raise InvalidSnapshot(self._at(name), f"must be from {low} to {high}")
        return float(value)

    def boolean(self, name: str) -> bool:
        value = self._get(name)
        if not isinstance(value, bool):
            raise InvalidSnapshot(self._at(name), "must be true or false")
        return value

    def text(self, name: str, shortest: int, longest: int) -> str:
        return _check_text(self._get(name), self._at(name), shortest, longest)

    def items(self, name: str, longest: int) -> list[Any]:
        value = self._get(name)
        if not isinstance(value, list) or len(value) > longest:
            raise InvalidSnapshot(self._at(name), f"must be a list of at most {longest}")
        return value

    def each(self, name: str, parse: Any, longest: int) -> list[Any]:
        found = self.items(name, longest)
        return [parse(item, f"{self._at(name)}/{i}") for i, item in enumerate(found)]

    def revoked(self, name: str) -> tuple[str, ...] | None:
        """Return ids of previews; None where nothing is said of them."""
        if name not in self._wire:
            return None
        return tuple(self.each(name, _text, MAX_REVOKED_PREVIEWS))

    def edges(self, name: str) -> tuple[float, ...]:
        values = self.items(name, 2_000)
        for value in values:
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or value <= 0:
                raise InvalidSnapshot(self._at(name), "must be numbers above 0")
        if any(a >= b for a, b in zip(values, values[1:])):  # noqa: B905, RUF007 (Python 3.10)
            raise InvalidSnapshot(self._at(name), "must rise")
        return tuple(float(value) for value in values)

    def variants(self, name: str) -> Mapping[str, Json]:
        value = self._get(name)
        if not isinstance(value, dict) or not 1 <= len(value) <= MAX_VARIANTS:
            raise InvalidSnapshot(self._at(name), f"must hold 1 to {MAX_VARIANTS} variants")
        for variant, content in value.items():
            if not isinstance(variant, str) or not KEY.fullmatch(variant):
                raise InvalidSnapshot(self._at(name), "a variant's name must be a key")
            check_value(content, f"{self._at(name)}/{variant}")
        booleans = all(isinstance(content, bool) for content in value.values())
        return _shared(tuple(value.items())) if booleans else dict(value)

    def weights(self, name: str) -> tuple[tuple[str, int], ...]:
        pairs = []
        for i, pair in enumerate(self.items(name, MAX_VARIANTS)):
            at = f"{self._at(name)}/{i}"
            if not isinstance(pair, list) or len(pair) != 2:
                raise InvalidSnapshot(at, "must be [variant, parts per million]")
            variant, weight = pair
            if not isinstance(variant, str):
                raise InvalidSnapshot(at, "a variant's name must be text")
            if type(weight) is not int or not 0 <= weight <= WHOLE:
                raise InvalidSnapshot(at, f"a weight must be a whole number from 0 to {WHOLE}")
            pairs.append((variant, weight))
        return _shared_weights(*pairs[0]) if len(pairs) == 1 else tuple(pairs)

    def flags(self, name: str) -> dict[str, Flag]:
        value = self._get(name)
        if not isinstance(value, dict):
            raise InvalidSnapshot(self._at(name), "must be an object")
        return {
            str(key): Flag.parse(str(key), wire, f"{self._at(name)}/{key}")
            for key, wire in value.items()
        }


@lru_cache(maxsize=256)
def _shared(items: tuple[tuple[str, bool], ...]) -> Mapping[str, Json]:
    """Return variants that are all boolean: nearly all flags have the same, and share them."""
    return dict(items)


@lru_cache(maxsize=256)
def _shared_weights(variant: str, weight: int) -> tuple[tuple[str, int], ...]:
    """Return the weights of a flag with one exposed variant, which many flags share."""
    return ((variant, weight),)


def check_value(value: Json, path: str, depth: int = 0) -> None:
    """Raise InvalidSnapshot unless this is a JSON value of bounded depth without NaN."""
    if depth > MAX_VALUE_DEPTH:
        raise InvalidSnapshot(path, f"more than {MAX_VALUE_DEPTH} deep")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidSnapshot(path, "must be a finite number")
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise InvalidSnapshot(path, "must be a whole number that every language holds exactly")
    if isinstance(value, str):
        check_unicode(value, path)
    if isinstance(value, list):
        for item in value:
            check_value(item, path, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidSnapshot(path, "names must be text")
            check_unicode(key, path)
            check_value(item, path, depth + 1)
    elif not (value is None or isinstance(value, (bool, int, float, str))):
        raise InvalidSnapshot(path, "is not a JSON value")


def check_unicode(text: str, path: str) -> None:
    """Raise InvalidSnapshot for text that UTF-8 cannot carry (a lone surrogate)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidSnapshot(path, "must be text that UTF-8 can carry") from None


def check_condition(condition: Condition, path: str) -> None:
    """Raise InvalidSnapshot unless the operator is known and the values suit it."""
    if condition.operator not in OPERATORS:
        known = ", ".join(OPERATORS)
        raise InvalidSnapshot(f"{path}/operator", f"must be one of {known}")
    if condition.operator in VERSION_OPERATORS and (
        len(condition.values) != 1 or version_key(condition.values[0]) is None
    ):
        raise InvalidSnapshot(f"{path}/values", "must be exactly one version such as 1.4.0")


def _condition(wire: object, path: str) -> Condition:
    at = _Reader(wire, path)
    condition = Condition(
        attribute=at.text("attribute", 1, 200),
        operator=at.text("operator", 1, 50),
        values=tuple(at.each("values", _text, 100)),
    )
    if not condition.values:
        raise InvalidSnapshot(f"{path}/values", "must not be empty")
    check_condition(condition, path)
    return condition


def _prerequisite(wire: object, path: str) -> Prerequisite:
    at = _Reader(wire, path)
    return Prerequisite(flag=at.text("flag", 1, 100), variant=at.text("variant", 1, 100))


def _text(value: object, path: str) -> str:
    return _check_text(value, path, 1, 500)


def _check_text(value: object, path: str, shortest: int, longest: int) -> str:
    if not isinstance(value, str) or not shortest <= len(value) <= longest:
        raise InvalidSnapshot(path, f"must be text of {shortest} to {longest} characters")
    check_unicode(value, path)
    return value


def seeds_clash(a: str, b: str) -> bool:
    """Tell whether two salts would draw the same lot."""
    return seed(a) == seed(b)
