"""A rollout that waits for a second person, told by what they approve of and by nothing else: what
the hash is over. Names are its author's words; limits, targets and shares are what will be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flagserver.domain import plan
from flagserver.domain.guards import Guard
from flagserver.domain.plan import PlanStep, Preview, Relation
from flagserver.domain.schedule import Schedule
from flagserver.domain.targets import Target
from flagserver.domain.times import unix

from . import present
from .guard_form import told

Body = Mapping[str, Any]
Facts = list[tuple[str, str]]
"""Label and words."""

RELATIONS = {
    Relation.LOCK_STEP: "in lock step: flags and traffic both get the step's share",
    Relation.ON_CANARY: "on in the new version only",
    Relation.AFTER: "after the traffic: they begin when it is complete",
}

OVERTIMES = {
    "person": "waits for a person",
    "roll_back": "rolls back",
    "proceed": "goes on all the same",
}

NEXT = {
    "rollout:start": "at the controller's next look",
    "rollout:resume": "when its wait is over and all guards pass",
    "rollout:step:advance": "as soon as no guard fails: the rest of the wait is skipped",
    "rollout:step:approve": "when its wait is over and all guards pass",
}
"""What is asked for -> when the next share is given."""


@dataclass(frozen=True, slots=True)
class ProposedStart:
    """A start. steps: what each gives whom, and under what it goes on."""

    facts: Facts
    supersedes: str | None
    targets: tuple[Target, ...]
    guards: tuple[Guard, ...]
    steps: tuple[tuple[Preview, PlanStep], ...]
    until: float | None

    @property
    def warnings(self) -> list[str]:
        """What its guards cannot judge in time."""
        return [words for step, _ in self.steps for words in step.warnings]


def start(result: Body, command: Body) -> ProposedStart:
    """Return a start as it is approved of. result, command: of its `Wish`."""
    schedule = Schedule.from_body(result["schedule"])
    relation = Relation(result["relation"])
    targets = tuple(map(Target.from_body, result["targets"]))
    guards = tuple(map(Guard.from_body, result["guards"]))
    shown = plan.preview(schedule, relation, targets, guards)
    return ProposedStart(
        facts=_of_start(schedule, relation, targets, result, command),
        supersedes=result["supersedes"],
        targets=targets,
        guards=guards,
        steps=tuple(zip(shown, plan.expand(schedule, relation, targets), strict=True)),
        until=None if result["until"] is None else unix(result["until"]),
    )


def _of_start(
    schedule: Schedule,
    relation: Relation,
    targets: tuple[Target, ...],
    result: Body,
    command: Body,
) -> Facts:
    both = len({target.is_flag for target in targets}) > 1
    found = [
        ("Service", result["service"]),
        ("Version", result["version"]),
        ("Goes by", _named(schedule)),
        ("Flags beside traffic", RELATIONS[relation] if both else None),
        ("Not decided in time", OVERTIMES[str(schedule.overtime)]),
        ("Begins at", command.get("start_at")),
        ("A split until", result["until"]),
        ("First complete in", (command.get("requires") or {}).get("environment")),
        ("Holds if not watched for", command.get("hold_if_lost")),
    ]
    return [(label, str(words)) for label, words in found if words]


def _named(schedule: Schedule) -> str:
    text = schedule.text()
    return text if schedule.name == text else f"{schedule.name}: {text}"


def verb(thing: str, action: str, result: Body) -> Facts:
    """Return what becomes of a rollout. result: of a verb's `Wish`."""
    step, count = result["step"], result["steps"]
    here = f"step {step + 1} of {count}, at {present.percent(result['share'])}"
    following = "the end"
    if result["next"] is not None:
        following = f"{present.percent(result['next'])}, step {step + 2} of {count}"
    return [
        ("Rollout", thing.partition("/")[2]),
        ("It is at", here if step >= 0 else "no step yet: nobody has it"),
        ("Next", f"{following}, {NEXT[action]}"),
    ]


def settings(target: Target) -> list[str]:
    """Return what a target's driver is told besides its name, a line each."""
    return [f"{name} = {told(it)}" for name, it in target.settings]
