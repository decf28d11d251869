"""Flags and their state in an environment: what a change makes of them, and what it may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from sortition.core import model as core
from sortition.core.bucketing import WHOLE
from sortition.core.conditions import NON_UNIFORM_ATTRIBUTES, Condition

from .commands import Enlarging, FlagEdit, NewFlag, StateEdit, percent_to_ppm
from .documents import Body
from .environments import Environment
from .errors import ConfirmationRequired, Invalid, Locked, ReasonRequired


@dataclass(frozen=True, slots=True)
class Flag:
    """A named switch. created, changed: RFC 3339. Archived flags are in no snapshot."""

    key: str
    description: str
    owner: str
    kind: str
    variants: Mapping[str, core.Json]
    rest: str
    salt: str
    archived: bool
    created: str
    changed: str

    @classmethod
    def from_body(cls, body: Body) -> Flag:
        """Return the flag that a document holds."""
        return cls(**body)

    def to_body(self) -> dict[str, Any]:
        """Return the document's body."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class State:
    """A flag in an environment. share and weights in parts per million; changed: RFC 3339.

    rollout: id of the one that moves it now and alone may enlarge it; None: nobody does.
    """

    flag: str
    environment: str
    share: int
    weights: tuple[tuple[str, int], ...]
    conditions: tuple[Condition, ...] = ()
    prerequisites: tuple[core.Prerequisite, ...] = ()
    killed: bool = False
    changed: str | None = None
    rollout: str | None = None

    @classmethod
    def from_body(cls, body: Body) -> State:
        """Return the state that a document holds."""
        return cls(
            flag=body["flag"],
            environment=body["environment"],
            share=body["share"],
            weights=tuple((variant, weight) for variant, weight in body["weights"]),
            conditions=tuple(
                Condition(c["attribute"], c["operator"], tuple(c["values"]))
                for c in body["conditions"]
            ),
            prerequisites=tuple(core.Prerequisite(**p) for p in body["prerequisites"]),
            killed=body["killed"],
            changed=body["changed"],
            # States from before there were rollouts do not say.
            rollout=body.get("rollout"),
        )

    def to_body(self) -> dict[str, Any]:
        """Return the document's body."""
        return {
            **asdict(self),
            "weights": [list(pair) for pair in self.weights],
            "conditions": [
                {"attribute": c.attribute, "operator": c.operator, "values": list(c.values)}
                for c in self.conditions
            ],
            "prerequisites": [asdict(p) for p in self.prerequisites],
        }

    def serves_only_rest(self) -> bool:
        """Tell whether nobody is exposed."""
        return self.killed or self.share == 0


def create(command: NewFlag, *, salt: str, at: str) -> Flag:
    """Return the new flag. at: RFC 3339."""
    return Flag(
        key=command.key,
        description=command.description,
        owner=command.owner,
        kind=command.kind,
        variants=dict(command.variants),
        rest=command.rest,
        salt=salt,
        archived=False,
        created=at,
        changed=at,
    )


def known_as(flag: core.Flag, *, at: str) -> Flag:
    """Return a flag of which nothing but what a snapshot carries is left. at: RFC 3339."""
    return Flag(
        key=flag.key,
        description="",
        owner="",
        kind="temporary",
        variants=flag.variants,
        rest=flag.rest,
        salt=flag.salt,
        archived=False,
        created=at,
        changed=at,
    )


def default_state(flag: Flag, environment: str) -> State:
    """Return the state of a flag that nobody has touched in an environment: nobody is exposed.

    The first variant besides the rest gets the whole share once there is one.
    """
    others = [variant for variant in flag.variants if variant != flag.rest]
    exposed = others[0] if others else flag.rest
    return State(flag.key, environment, share=0, weights=((exposed, WHOLE),))


def edit(flag: Flag, command: FlagEdit, *, at: str) -> Flag:
    """Return the flag with the given fields changed."""
    given = command.model_dump(exclude_none=True, exclude={"reason"})
    return replace(flag, **given, changed=at)


def change(flag: Flag, state: State, command: StateEdit, *, at: str) -> State:
    """Return the state with the given fields changed. Raises Invalid, naming the field."""
    after = replace(state, changed=at)
    if command.share is not None:
        after = replace(after, share=percent_to_ppm(command.share))
    if command.weights is not None:
        for i, weight in enumerate(command.weights):
            if weight.variant not in flag.variants:
                raise Invalid(
                    f"{flag.key} has no variant {weight.variant!r}; it has "
                    + ", ".join(flag.variants),
                    field=f"/weights/{i}/variant",
                )
        weights = tuple((w.variant, percent_to_ppm(w.weight)) for w in command.weights)
        after = replace(after, weights=weights)
    if command.conditions is not None:
        after = replace(after, conditions=tuple(c.condition() for c in command.conditions))
    if command.prerequisites is not None:
        wanted = tuple(core.Prerequisite(p.flag, p.variant) for p in command.prerequisites)
        after = replace(after, prerequisites=wanted)
    return after


def same(before: State, after: State) -> bool:
    """Tell whether a change changes nothing that is served."""
    return replace(before, changed=None) == replace(after, changed=None)


def enlarges(before: State, after: State) -> bool:
    """Tell whether any request may get an exposed variant that did not get it before.

    Whatever is not plainly the same or less counts as enlarging.
    """
    if after.serves_only_rest() or same(before, after):
        return False
    return before.killed or not _no_more(before, after)


def _no_more(before: State, after: State) -> bool:
    """Tell whether, field by field and kills aside, a state plainly exposes the same or less."""
    return (
        after.share <= before.share
        and after.weights == before.weights
        and set(before.conditions) <= set(after.conditions)
        and set(before.prerequisites) <= set(after.prerequisites)
    )


def check_lock(before: State, after: State) -> None:
    """Raise Locked unless a change may be made to a flag that is in a running rollout: shrinking
    and kill may, always.

    Unlike `enlarges`, this looks at what is written down and not at what is served: a flag at 0 %
    or killed serves nobody now, but its rollout would serve whatever was changed meanwhile.
    """
    if before.rollout is None:
        return
    unkills = before.killed and not after.killed
    if unkills or not _no_more(before, after):
        raise Locked(
            f"{before.flag} in {before.environment} is in rollout {before.rollout}, which alone "
            "may enlarge it or serve it otherwise. Shrink it, kill it, roll that back, or wait for "
            "its end."
        )


def check_may_enlarge(environment: Environment, command: Enlarging) -> None:
    """Raise unless enlarging in this environment says why and repeats the environment's name."""
    if not environment.critical:
        return
    if command.reason is None:
        raise ReasonRequired(
            f"{environment.key} is critical: enlarging exposure there needs a reason.",
            field="/reason",
        )
    if command.confirm_environment != environment.key:
        raise ConfirmationRequired(
            f"{environment.key} is critical: repeat its name to enlarge exposure there.",
            field="/confirm_environment",
        )


def check_uniform(environment: Environment, before: State, after: State) -> None:
    """Raise Invalid for a condition that departs from uniform, where an environment wants none.

    What was there when the environment began to want that stays until it is changed.
    """
    if not environment.uniform or before.conditions == after.conditions:
        return
    for index, condition in enumerate(after.conditions):
        if condition.attribute in NON_UNIFORM_ATTRIBUTES and condition not in before.conditions:
            raise Invalid(
                f"{environment.key} serves every region and instance alike: no condition may look "
                f"at {condition.attribute}.",
                field=f"/conditions/{index}",
            )


def compiled_form(flag: Flag, state: State, revision: int) -> core.Flag:
    """Return what a snapshot carries of a flag in an environment: nothing about people."""
    return core.Flag(
        key=flag.key,
        revision=revision,
        salt=flag.salt,
        variants=flag.variants,
        rest=flag.rest,
        weights=state.weights,
        share=state.share,
        conditions=state.conditions,
        prerequisites=state.prerequisites,
        killed=state.killed,
    )


def check_prerequisites(
    changed: str, state: State, flags: Mapping[str, Flag], all_flags: Mapping[str, core.Flag]
) -> None:
    """Raise Invalid unless the prerequisites of a flag exist, suit and lead back to nobody.

    all_flags: every live flag of the environment as snapshots would carry it after the change.
    """
    for i, prerequisite in enumerate(state.prerequisites):
        parent = flags.get(prerequisite.flag)
        if parent is None or parent.archived:
            raise Invalid(
                f"There is no flag {prerequisite.flag!r}.", field=f"/prerequisites/{i}/flag"
            )
        if prerequisite.variant == parent.rest:
            raise Invalid(
                f"{parent.rest!r} is what {parent.key} serves to the rest: killing {parent.key} "
                f"would enlarge the exposure of {changed}.",
                field=f"/prerequisites/{i}/variant",
            )
    try:
        core.check_prerequisites(all_flags)
    except core.InvalidSnapshot as error:
        raise Invalid(f"{error.problem} ({error.path}).", field="/prerequisites") from None
