"""What a rollout moves: things with a weight, and what a driver reads of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .documents import Body
from .engines import Lane
from .signals import Setting, freeze, thaw

FLAG = "flag"
"""The kind of target that no driver sets: its state lies in our own store."""


class Mode(StrEnum):
    """Who sets a target's weight."""

    DRIVE = "drive"
    """We do."""
    FOLLOW = "follow"
    """An engine owns it, and we mirror it."""
    GATE = "gate"
    """An engine asks us before it moves."""


OWN_MODES = {"codedeploy": Mode.FOLLOW}
"""Kind -> how it is meant unless somebody says otherwise; what is not here is driven."""


@dataclass(frozen=True, slots=True)
class Target:
    """One thing with a weight. kind: `flag`, or the name of a `ports.TargetDriver`.

    name: unique within its kind; of an `alb`, the ARN of the rule, or of the listener whose default
    rule is meant.  settings: what its driver needs besides, sorted by name (build with `of`); of an
    `alb`: `canary` and `stable`, the ARNs of the two target groups.

    What is followed was settled before the rollout began (`ports.Follower.settle`): among its
    settings are `deployment`, the engine's id of what is followed, and `steps`, how the engine will
    shift the traffic, as a schedule is written.
    """

    kind: str
    name: str
    mode: Mode = Mode.DRIVE
    settings: tuple[tuple[str, Setting], ...] = ()

    @classmethod
    def of(cls, kind: str, name: str, mode: Mode = Mode.DRIVE, **settings: Setting) -> Target:
        """Return a target with these settings."""
        return cls(kind, name, mode, freeze(settings))

    @property
    def id(self) -> str:
        """The target in one word, as the record and a rollout's shares name it: `alb/<arn>`."""
        return f"{self.kind}/{self.name}"

    @property
    def claim(self) -> str:
        """The name under which one rollout at a time claims it."""
        return f"target:{self.id}"

    @property
    def is_flag(self) -> bool:
        """Tell whether it is a flag, set by a commit and not by a driver."""
        return self.kind == FLAG

    @property
    def is_followed(self) -> bool:
        """Tell whether an engine owns its weight, and we mirror it."""
        return self.mode is Mode.FOLLOW

    def get(self, name: str) -> Setting | None:
        """Return one setting, or None."""
        return dict(self.settings).get(name)

    @classmethod
    def from_body(cls, body: Body) -> Target:
        """Return the target that `to_body` wrote down."""
        return cls(body["kind"], body["name"], Mode(body["mode"]), freeze(body["settings"]))

    def to_body(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "kind": self.kind,
            "name": self.name,
            "mode": str(self.mode),
            "settings": thaw(self.settings),
        }


@dataclass(frozen=True, slots=True)
class Reading:
    """A target as its driver found it just now.

    share: of the canary, in parts per million; None when the weights cannot be said as one share
    (the rule does not forward, or not to our two groups).
    owner: the deployment or service that owns the weights now, in words; None: nobody else.
    healthy: whether the canary has at least one healthy target; None where it is unknown.
    foreign: what somebody else changed so that we cannot go on, a sentence; None: nothing.
    lane: of what is followed, what its engine says.
    raw: what the driver needs to write back exactly what it does not change. Not compared.
    """

    share: int | None
    owner: str | None = None
    healthy: bool | None = None
    foreign: str | None = None
    lane: Lane | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
