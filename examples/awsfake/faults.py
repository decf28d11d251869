"""How the double misbehaves: a list of faults, each for so many calls of one operation.

kinds, by what the caller meets and what becomes of the call:

    throttle   refused: too many requests                        not done
    deny       refused: a permission is missing                  not done
    fail       an error of status 503                            not done
    hang       no answer for `seconds`, then the line is cut     not done
    slow       an answer after `seconds`                         done at the end of them
    applied    no answer for `seconds`, then the line is cut     done at once
    late       no answer for `seconds`, then the line is cut     done at the end of them
    cut        the line is cut                                   done
    lost       an answer as if it were done                      not done (writes of rules)
    stale      an answer of how it was before the last write     (DescribeRules, DescribeListeners)
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KINDS = ("throttle", "deny", "fail", "hang", "slow", "applied", "late", "cut", "lost", "stale")
LONGEST = 30.0
"""Seconds that a call is held up at most."""


@dataclass
class Fault:
    """One fault. operation: `ModifyRule`, or `*` for every one.  times: how many calls meet it,
    after `after` that do not."""

    operation: str
    kind: str
    times: int = 1
    after: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Fault:
        """Return what was asked for. Raises ValueError, TypeError."""
        fault = cls(**told)
        if fault.kind not in KINDS:
            raise ValueError(f"{fault.kind!r} is none of {', '.join(KINDS)}.")
        if not 0 <= fault.seconds <= LONGEST:
            raise ValueError(f"seconds are from 0 to {LONGEST:g}.")
        return fault


class Faults:
    """The faults that are still to be met, the first asked for first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Let it be met."""
        with self._lock:
            self._waiting.append(fault)

    def clear(self) -> None:
        """Behave again."""
        with self._lock:
            self._waiting.clear()

    def meet(self, operation: str) -> Fault | None:
        """Return the fault that this call meets."""
        with self._lock:
            for fault in self._waiting:
                if fault.operation in {operation, "*"}:
                    if fault.after > 0:
                        fault.after -= 1
                        continue
                    fault.times -= 1
                    if fault.times <= 0:
                        self._waiting.remove(fault)
                    return fault
        return None
