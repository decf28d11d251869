"""Conditions look at the resource (where the code runs) and at nothing else.

So they are settled once, when a snapshot arrives, and cost a request nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from .records import dataclass

Resource = Mapping[str, str]
"""OpenTelemetry resource attributes, for instance {"service.version": "1.4.0"}."""

_VERSION = re.compile(r"v?(\d{1,9}(?:\.\d{1,9}){0,7})(?:[-+._].*)?", re.DOTALL)

NON_UNIFORM_ATTRIBUTES = frozenset({"cloud.region", "service.instance.id"})
"""Conditions on these pick traffic by place: a departure from uniform, to be named as one."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One question about the resource; all conditions of a flag must hold."""

    attribute: str
    operator: str
    values: tuple[str, ...]

    def holds(self, resource: Resource) -> bool:
        """Tell whether the resource meets this condition. A missing attribute never does,
        except for `not_in`, which it cannot contradict."""
        actual = resource.get(self.attribute)
        if actual is None:
            return self.operator == "not_in"
        return OPERATORS[self.operator](actual, self.values)


def version_key(text: str) -> tuple[int, ...] | None:
    """Return the numbers of a dotted version ("v1.4.0-rc1" -> (1, 4)), or None if it has none.

    Trailing zeros do not count, so 1.4 equals 1.4.0; what follows the numbers is not compared.
    """
    match = _VERSION.fullmatch(text)
    if match is None:
        return None
    numbers = [int(part) for part in match.group(1).split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _at_least(actual: str, values: tuple[str, ...]) -> bool:
    have, want = version_key(actual), version_key(values[0])
    return have is not None and want is not None and have >= want


def _below(actual: str, values: tuple[str, ...]) -> bool:
    have, want = version_key(actual), version_key(values[0])
    return have is not None and want is not None and have < want


OPERATORS: dict[str, Callable[[str, tuple[str, ...]], bool]] = {
    "in": lambda actual, values: actual in values,
    "not_in": lambda actual, values: actual not in values,
    "prefix": lambda actual, values: actual.startswith(values),
    "version_at_least": _at_least,
    "version_below": _below,
}
"""Operator name -> (attribute's value, condition's values) -> does it hold."""

VERSION_OPERATORS = frozenset({"version_at_least", "version_below"})
"""These compare with exactly one value, which must be a version."""
