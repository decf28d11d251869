"""When a CloudWatch alarm fires: M of N data points, and what missing ones mean. Pure.

The rules are those of the CloudWatch user guide ("Configuring how CloudWatch alarms treat missing
data"); tests/awsfake/test_evaluator.py has its tables. What they leave open is marked below.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

OK, ALARM, INSUFFICIENT_DATA = "OK", "ALARM", "INSUFFICIENT_DATA"

MORE = 2
"""So many more data points than its evaluation periods an alarm looks back when some are missing.
The guide's tables have five for three; it promises no number."""

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}


def evaluate(
    points: Sequence[bool | None], periods: int, to_alarm: int, treat: str, state: str
) -> str:
    """Return the state after a look.

    points: oldest first, `periods` + MORE of them: breaching, not breaching, or None: missing.
    treat: `missing`, `ignore`, `breaching` or `notBreaching`.  state: before.
    """
    newest = list(points[-periods:])
    real = [point for point in points if point is not None]
    if None not in newest:
        return ALARM if newest.count(True) >= to_alarm else OK
    if len(real) >= periods:
        return ALARM if real[-periods:].count(True) >= to_alarm else OK
    absent = periods - len(real)
    breaching = real.count(True)
    if treat == "breaching":
        return ALARM if breaching + absent >= to_alarm else OK
    if treat == "notBreaching" or breaching >= to_alarm:
        return ALARM if breaching >= to_alarm else OK
    if not real:
        return state if treat == "ignore" else INSUFFICIENT_DATA
    if False in real:
        return OK
    if treat == "missing" and _old_enough(newest, to_alarm):
        return ALARM
    # All that there is breaches, but too little and too new: the guide does not say; it stays.
    return state


def _old_enough(newest: Sequence[bool | None], to_alarm: int) -> bool:
    """Tell whether the oldest breaching point is at least `to_alarm` periods old (those after it
    are breaching or missing here): the guide lets the alarm fire then."""
    return True in newest and len(newest) - list(newest).index(True) >= to_alarm


# --- composite alarms -----------------------------------------------------------------------------


class BadRule(ValueError):
    """An alarm rule that cannot be understood."""


def composite(rule: str, state_of: Callable[[str], str | None]) -> bool:
    """Return what a composite alarm's rule says. state_of: None for an alarm that does not exist.

    Raises BadRule.
    """
    words = _words(rule)
    value = _any_of(words, state_of)
    if words:
        raise BadRule(f"the rule goes on with {words[0]!r}")
    return value


def children(rule: str) -> list[str]:
    """Return the names of the alarms that a rule speaks of. Raises BadRule."""
    names: list[str] = []

    def note(name: str) -> str:
        names.append(name)
        return OK

    composite(rule, note)
    return list(dict.fromkeys(names))


def _words(rule: str) -> list[str]:
    words: list[str] = []
    at = 0
    while at < len(rule):
        letter = rule[at]
        if letter.isspace():
            at += 1
        elif letter in "()":
            words.append(letter)
            at += 1
        elif letter == '"':
            end = rule.find('"', at + 1)
            if end < 0:
                raise BadRule("a name does not end")
            words.append(rule[at : end + 1])
            at = end + 1
        else:
            end = at
            while end < len(rule) and not rule[end].isspace() and rule[end] not in '()"':
                end += 1
            words.append(rule[at:end])
            at = end
    return words


def _any_of(words: list[str], state_of: Callable[[str], str | None]) -> bool:
    value = _all_of(words, state_of)
    while words and words[0] == "OR":
        words.pop(0)
        value = _all_of(words, state_of) or value
    return value


def _all_of(words: list[str], state_of: Callable[[str], str | None]) -> bool:
    value = _one(words, state_of)
    while words and words[0] == "AND":
        words.pop(0)
        value = _one(words, state_of) and value
    return value


def _one(words: list[str], state_of: Callable[[str], str | None]) -> bool:
    word = words.pop(0) if words else ""
    if word == "NOT":
        return not _one(words, state_of)
    if word == "(":
        value = _any_of(words, state_of)
        _close(words)
        return value
    if word in {"TRUE", "FALSE"}:
        return word == "TRUE"
    if word in {OK, ALARM, INSUFFICIENT_DATA} and words and words.pop(0) == "(":
        name = words.pop(0).strip('"') if words else ""
        _close(words)
        state = state_of(name)
        if state is None:
            raise BadRule(f"there is no alarm {name!r}")
        return state == word
    raise BadRule(f"{word!r} is not understood")


def _close(words: list[str]) -> None:
    if not words or words.pop(0) != ")":
        raise BadRule("a parenthesis is not closed")
