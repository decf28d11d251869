"""What becomes of a schedule where an engine is followed, and what is nearest to it there.

CodeDeploy has three shapes (botocore's model of codedeploy 2014-10-06, TrafficRoutingConfig): all
at once; a canary, exactly two increments; linear, equal increments at equal times. Percentages are
whole and so are minutes.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sortition.core.bucketing import WHOLE

from .plan import Relation, engine_schedule, followed
from .schedule import Schedule, duration_text
from .targets import Target

PERCENT = WHOLE // 100
MINUTE = 60
MOST_MINUTES = 2880
"""From the first increment to the last (documented for Lambda, and taken to be so for ECS)."""


def schedule_of(
    asked: Schedule, given: bool, relation: Relation, targets: Sequence[Target]
) -> Schedule:
    """Return the schedule that a rollout keeps. Where an engine is followed that is the engine's,
    with the bake of the one that was asked for; flags that come after it run the one asked for.

    given: somebody said it, it is not just the environment's own.
    """
    engines, target = engine_schedule(targets), followed(targets)
    if engines is None or target is None or _flags_come_after(relation, targets):
        return asked
    name = target.get("config")
    named = str(name) if name else engines.name
    return replace(engines, name=named, bake=asked.bake if given else 0)


def explain(
    asked: Schedule, given: bool, relation: Relation, targets: Sequence[Target]
) -> tuple[str, ...]:
    """Return what will happen instead of a schedule where an engine is followed, and what would
    come nearest to it, in sentences; nothing where none is."""
    engines, target = engine_schedule(targets), followed(targets)
    if engines is None or target is None:
        return ()
    flags = [each.name for each in targets if each.is_flag]
    what = f"{target.get('deployment')} of {target.name}"
    notes = [
        f"{what} shifts the traffic by {target.get('config')}: {engines.text()}.",
        "Sortition follows it and cannot make it wait. A guard or a person can have it go back.",
    ]
    if given and asked.keep and not _flags_come_after(relation, targets):
        notes.append("It shifts all of the traffic: its bake keeps none on the older version.")
    if flags:
        notes.append(_what_flags_do(relation, flags, asked))
    if _flags_come_after(relation, targets) or not given:
        return tuple(notes)
    if _shape(asked) != _shape(engines):
        notes += _nearest(asked, target)
    return tuple(notes)


def _flags_come_after(relation: Relation, targets: Sequence[Target]) -> bool:
    return relation is Relation.AFTER and any(target.is_flag for target in targets)


def _what_flags_do(relation: Relation, flags: Sequence[str], asked: Schedule) -> str:
    names = ", ".join(flags)
    match relation:
        case Relation.LOCK_STEP:
            return (
                f"{names}: the same share as the traffic, one look after each shift; held back "
                "while a guard holds or has too little data."
            )
        case Relation.ON_CANARY:
            return f"{names}: on where the new version runs, from its first traffic on."
        case Relation.AFTER:
            return f"{names}: {asked.text()}, when the deployment is complete."


# --- what CodeDeploy can express ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Routing:
    """One of CodeDeploy's shapes. percent: of an increment; minutes: between two."""

    kind: str
    percent: int = 100
    minutes: int = 0

    @property
    def words(self) -> str:
        """Say it: `a canary of 5 % for 30m`."""
        if self.kind == "AllAtOnce":
            return "all at once"
        wait = duration_text(self.minutes * MINUTE)
        if self.kind == "Canary":
            return f"a canary of {self.percent} % for {wait}"
        return f"{self.percent} % more every {wait}"

    def command(self) -> str:
        """Return the command that makes such a configuration."""
        name = self.kind.lower()
        numbers = {f"{name}Percentage": self.percent, f"{name}Interval": self.minutes}
        routing: dict[str, Any] = {
            "type": f"TimeBased{self.kind}",
            f"timeBased{self.kind}": numbers,
        }
        every = "Every" if self.kind == "Linear" else ""
        called = f"{self.kind}{self.percent}Percent{every}{self.minutes}Minutes"
        return shlex.join(
            [
                *("aws", "deploy", "create-deployment-config"),
                *("--deployment-config-name", called, "--compute-platform", "ECS"),
                *("--traffic-routing-config", json.dumps(routing, separators=(",", ":"))),
            ]
        )


def routing_of(schedule: Schedule) -> Routing | None:
    """Return the shape that does exactly what a schedule says, None: there is none."""
    shares = [step.share for step in schedule.steps]
    holds = [step.hold for step in schedule.steps[:-1]]
    if shares[-1] != WHOLE or any(step.approval or step.minimum_sample for step in schedule.steps):
        return None
    if len(shares) == 1:
        return Routing("AllAtOnce")
    whole = not (shares[0] % PERCENT or any(hold % MINUTE for hold in holds))
    if not whole or len(set(holds)) > 1 or sum(holds) > MOST_MINUTES * MINUTE:
        return None
    percent, minutes = shares[0] // PERCENT, holds[0] // MINUTE
    if len(shares) == 2:
        return Routing("Canary", percent, minutes)
    linear = [share * PERCENT for share in range(percent, 100, percent)] + [WHOLE]
    return Routing("Linear", percent, minutes) if shares == linear else None


def nearest_canary(schedule: Schedule) -> Routing:
    """Return the canary that comes nearest: the first share, for as long as the schedule takes
    until everybody has it."""
    percent = max(1, min(99, schedule.steps[0].share // PERCENT))
    seconds = sum(step.hold for step in schedule.steps[:-1])
    return Routing("Canary", percent, max(1, min(MOST_MINUTES, -(-seconds // MINUTE))))


def _nearest(asked: Schedule, target: Target) -> list[str]:
    exact = routing_of(asked)
    if exact is not None and exact.kind != "AllAtOnce":
        can = f"{asked.text()} is not what it does, but CodeDeploy can: {exact.words}."
        return [f"{can} Make that configuration and deploy by it: {exact.command()}"]
    if exact is not None:
        return [f"{asked.text()} is not what it does; CodeDeployDefault.ECSAllAtOnce is."]
    canary = nearest_canary(asked)
    cannot = f"{asked.text()} is not what {target.name} will do, and no configuration of CodeDeploy"
    shapes = "a canary has exactly two increments, a linear one equal increments at equal times."
    code = f"The nearest: the code by {canary.words}, and the feature by {asked.text()} on its flag"
    how = "relation `after`, or a rollout of the flag alone."
    return [f"{cannot} can be: {shapes}", f"{code}: {how} {canary.command()}"]


def _shape(schedule: Schedule) -> tuple[tuple[int, int], ...]:
    """Return what traffic does by a schedule: its shares and holds, not its bake."""
    return tuple((step.share, step.hold) for step in schedule.steps)
