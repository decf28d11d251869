"""How a rollout stands, as pages show it: its step, what it gives now, what may be done to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flagserver.domain import verbs
from flagserver.domain.engines import Event, Lane, Phase
from flagserver.domain.environments import Environment
from flagserver.domain.errors import Conflict
from flagserver.domain.plan import NO_STEP
from flagserver.domain.rollout import Rollout, Why
from flagserver.domain.states import Shown, State
from flagserver.domain.targets import Target
from flagserver.domain.times import from_unix
from flagserver.domain.verbs import Turn
from flagserver.services.rollouts import Standing
from flagserver.services.turns import RolloutView

from . import present

Look = Mapping[str, Any]
"""What a controller saw at one look; see `_look_body` in `services.steering`."""

GOING_BACK = frozenset({State.ROLLING_BACK, State.ROLLBACK_FAILED})
ENLARGING = ("begin", "resume", "advance", "approve")

NEEDS_A_PERSON = frozenset(set(Why) - {Why.DATA})
"""Holding for these does not end by itself, or is worth a look."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step. at: `done`, `now` or `next`. part: of its hold that is over, 0 to 100.

    when: unix second at which it begins or began, None where that is not known.
    """

    number: int
    at: str
    share: str
    hold: int
    approval: bool
    minimum_sample: int | None
    part: float
    when: float | None
    kept: str
    """What stays on the old version in it, "" for nothing."""
    ended_here: bool = False
    """Whether the rollout went back, or was replaced, at this step."""

    @property
    def icon(self) -> str:
        """Its sign beside its share; the word is for readers."""
        if self.ended_here:
            return "✖"
        return {"done": "✔", "now": "◉"}.get(self.at, "○")


@dataclass(frozen=True, slots=True)
class Weight:
    """A target's share: aimed at, as set and read back, as seen at the last look, as services
    report it. None: not known."""

    target: Target
    aim: int
    confirmed: int | None
    observed: int | None
    reached: float | None = None
    drawn: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """A rollout at one moment. now: unix seconds; look: what a controller saw last."""

    view: RolloutView
    standing: Standing
    environment: Environment
    now: float
    look: Look | None = None
    unexplained: bool = False
    """Whether a person took it back, and nobody has said why."""

    @property
    def rollout(self) -> Rollout:
        """The rollout as it is kept."""
        return self.view.rollout

    @property
    def shown(self) -> Shown:
        """Its state in words, icon and colour."""
        return self.standing.state.shown

    @property
    def state(self) -> State:
        """Its state: `unknown` where nobody looks."""
        return self.standing.state

    @property
    def tone(self) -> str:
        """Which colours its environment has."""
        return present.tone(self.environment)

    @property
    def title(self) -> str:
        """What is rolled out: `api 2025.11.23-3`, `shop: new-search`."""
        return title(self.rollout)

    @property
    def share(self) -> int | None:
        """Parts per million that it gives now; None while that is not confirmed."""
        return share(self.rollout)

    @property
    def where(self) -> str:
        """The step: `step 2 of 4`."""
        count = len(self.rollout.plan)
        if self.rollout.step == NO_STEP:
            return f"{count} {'step' if count == 1 else 'steps'}"
        return f"step {self.rollout.step + 1} of {count}"

    @property
    def left(self) -> float | None:
        """Seconds of this step's hold that are left; None while no timer runs."""
        if self.standing.due is None or self.state is not State.RUNNING:
            return None
        return max(0.0, self.standing.due - self.now)

    @property
    def towards(self) -> str:
        """What comes after this step: `50 %`, `the end`."""
        following = self.rollout.step + 1
        plan = self.rollout.plan
        return present.percent(plan[following].shown) if following < len(plan) else "the end"

    @property
    def ends(self) -> float | None:
        """Unix second at which it will be over if nothing holds it; None where no timer runs."""
        if self.standing.due is None or self.state is not State.RUNNING:
            return None
        later = self.rollout.plan[self.rollout.step + 1 :]
        return max(self.now, self.standing.due) + sum(step.hold for step in later)

    @property
    def engine(self) -> str | None:
        """Whoever moves the traffic at this step in our stead, None: nobody."""
        if not self.rollout.mirrors:
            return None
        lane = self.rollout.lane
        return "Its engine" if lane is None else lane.engine

    @property
    def engine_share(self) -> int | None:
        """Parts per million that the engine that is followed gave at the last look, where that is
        another share than the rollout's; None where it is not, or nobody looked."""
        followed = self.rollout.followed
        if followed is None or self.look is None or not self.rollout.mirrors:
            return None
        seen: int | None = (self.look.get("observed") or {}).get(followed.id)
        return None if seen == self.rollout.confirmed.get(followed.id) else seen

    @property
    def phase(self) -> tuple[str, str, str] | None:
        """How far the engine that is followed is: icon, words, role; None where none is."""
        lane = self.rollout.lane
        return None if lane is None else PHASES[lane.phase]

    @property
    def lifecycle(self) -> list[tuple[str, str | None, list[Happening]]]:
        """What the engine that is followed does; see `happenings`."""
        lane = self.rollout.lane
        return [] if lane is None else happenings(lane, self.now)

    @property
    def kept(self) -> str:
        """What stays on the old version at this step, "" for nothing."""
        rollout = self.rollout
        kept = 0 if rollout.step == NO_STEP else rollout.plan[rollout.step].kept
        return present.percent(kept) if kept else ""

    @property
    def holds_split(self) -> bool:
        """Whether it is at the share that it holds until a date."""
        return self.rollout.is_split and self.rollout.step == len(self.rollout.plan) - 1

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.rollout.state.shown.terminal

    @property
    def goes_back(self) -> bool:
        """Whether it is on its way down."""
        return self.rollout.state in GOING_BACK

    @property
    def wants(self) -> str | None:
        """What a person is wanted for, a sentence; None: nothing."""
        return wants(self)

    @property
    def because(self) -> str | None:
        """Why it was taken back, None where nobody gave a reason then."""
        back = self.rollout.rollback
        return None if back is None or verbs.is_unexplained(self.rollout) else back.reason

    @property
    def stages(self) -> list[Stage]:
        """Every step."""
        return stages(self)

    def can(self, verb: str) -> bool:
        """Tell whether a verb would change anything now, by the domain's own answer."""
        return can(self.rollout, verb, self.now)


PHASES = {
    Phase.PREPARING: ("◷", "Nobody gets the new version yet", "neutral"),
    Phase.READY: ("⏸", "Waits for leave to begin", "warn"),
    Phase.SHIFTING: ("▶", "Shifts the traffic", "ok"),
    Phase.WATCHING: ("▶", "All traffic is over; the old version stands by", "ok"),
    Phase.DONE: ("✔", "Done", "ok"),
    Phase.GOING_BACK: ("↺", "Takes the traffic back", "danger"),
    Phase.GONE_BACK: ("✖", "Has taken the traffic back", "danger"),
    Phase.BROKEN: ("‼", "Broke off, and leaves the traffic where it is", "danger"),
}
"""How far an engine is: icon, words, role."""

_EVENTS = {
    "Succeeded": ("✔", "ok"),
    "Failed": ("✖", "danger"),
    "InProgress": ("◷", "accent"),
    "Skipped": ("–", "neutral"),
}


@dataclass(frozen=True, slots=True)
class Happening:
    """One event of an engine's lifecycle, as a line. took: `1:36`, `2:05 so far`, "" unknown."""

    icon: str
    role: str
    event: Event
    took: str


def happenings(lane: Lane, now: float) -> list[tuple[str, str | None, list[Happening]]]:
    """Return an engine's lifecycle by deployment: its id, its status (None of the first, whose
    status stands above), its events. The one by which it goes back comes last."""
    found: list[tuple[str, str | None, list[Happening]]] = [(lane.deployment, None, [])]
    if lane.back is not None:
        found.append((lane.back, lane.back_status, []))
    for event in lane.events:
        of_back = event.deployment == lane.back
        found[-1 if of_back else 0][2].append(_happening(event, now))
    return found


def _happening(event: Event, now: float) -> Happening:
    icon, role = _EVENTS.get(event.status, ("○", "neutral"))
    took = ""
    if event.began is not None and event.ended is not None:
        took = present.clock(event.ended - event.began)
    elif event.began is not None and event.status == "InProgress":
        took = f"{present.clock(now - event.began)} so far"
    return Happening(icon, role, event, took)


def title(rollout: Rollout) -> str:
    """Return what is rolled out."""
    if rollout.version is not None:
        return f"{rollout.service} {rollout.version}"
    keys = [target.name for target in rollout.flags]
    more = "" if len(keys) <= 2 else f" and {len(keys) - 2} more"
    return f"{rollout.service}: {', '.join(keys[:2])}{more}"


def share(rollout: Rollout) -> int | None:
    """Return what a rollout gives now (ppm), None while not all of it is confirmed."""
    if rollout.is_pending_intent:
        return None
    if rollout.goes_down or rollout.step == NO_STEP:
        return 0
    followed = rollout.followed
    if followed is not None and rollout.mirrors:
        return rollout.confirmed.get(followed.id)
    return rollout.plan[rollout.step].shown


def weights(progress: Progress) -> list[Weight]:
    """Return every target's share, what carries traffic first."""
    rollout = progress.rollout
    # What was seen last of one that has ended was seen before it ended.
    look = None if progress.is_over else progress.look
    seen = {} if look is None else look.get("observed") or {}
    return [
        Weight(
            target=target,
            aim=rollout.intended.get(target.id, 0),
            confirmed=rollout.confirmed.get(target.id),
            observed=seen.get(target.id),
        )
        for target in (*rollout.traffic, *rollout.flags)
    ]


def stages(progress: Progress) -> list[Stage]:
    """Return every step of a rollout, with the times that are known."""
    rollout, standing = progress.rollout, progress.standing
    done = rollout.state is State.COMPLETED
    found: list[Stage] = []
    when = None
    for i, step in enumerate(rollout.plan):
        at = "done" if i < rollout.step or done else "now" if i == rollout.step else "next"
        if i == rollout.step:
            when = rollout.step_began
        elif i > rollout.step and standing.due is not None and progress.left is not None:
            between = rollout.plan[rollout.step + 1 : i]
            when = max(progress.now, standing.due) + sum(each.hold for each in between)
        else:
            when = None
        part = 100.0 if at == "done" else 0.0
        if at == "now" and step.hold:
            part = min(100.0, 100 * standing.elapsed / step.hold)
        found.append(
            Stage(
                *(i + 1, at, present.percent(step.shown), step.hold, step.approval),
                *(step.minimum_sample, part, when, present.percent(step.kept) if step.kept else ""),
                ended_here=at == "now" and (progress.is_over or progress.goes_back),
            )
        )
    return found


def wants(progress: Progress) -> str | None:
    """Return what somebody should look at, None where everything goes by itself."""
    rollout = progress.rollout
    if rollout.state is State.ROLLBACK_FAILED:
        return "The rollback is not confirmed: traffic may still reach the canary."
    if progress.state is State.UNKNOWN:
        stays = f"{engine} goes on by itself." if (engine := progress.engine) else _STAYS
        return f"No controller looks at it. {stays}"
    if progress.unexplained:
        return "It was rolled back by hand, and nobody has said why yet."
    if rollout.state is State.PAUSED:
        return "Somebody held it. It waits to be resumed, or rolled back."
    if rollout.waiting is not None and rollout.waiting.why in NEEDS_A_PERSON:
        return rollout.waiting.reason
    return None


_STAYS = "Its weights stay where they are."


def can(rollout: Rollout, verb: str, now: float) -> bool:
    """Tell whether a verb would change anything about a rollout now."""
    try:
        return _TRIALS[verb](rollout, now).changed
    except Conflict:
        return False


_TRIALS: Mapping[str, Callable[[Rollout, float], Turn]] = {
    "begin": verbs.start,
    "hold": lambda it, now: verbs.hold(it, now, now),
    "resume": verbs.resume,
    "advance": verbs.advance,
    "approve": lambda it, now: verbs.approve(it, "somebody", now),
    "rollback": lambda it, now: verbs.roll_back(it, verbs.by_person(it, now, None)),
}


def of(
    views: Sequence[RolloutView],
    standings: Mapping[str, Standing],
    looks: Mapping[str, Look],
    environments: Iterable[Environment],
    now: datetime,
    unexplained: Collection[str] = (),
) -> list[Progress]:
    """Return how rollouts stand. Those of an environment that is not among these are left out."""
    known = {environment.key: environment for environment in environments}
    return [
        Progress(
            view,
            standings[view.rollout.id],
            known[view.rollout.environment],
            now.astimezone(UTC).timestamp(),
            looks.get(view.rollout.id),
            view.rollout.id in unexplained,
        )
        for view in views
        if view.rollout.environment in known
    ]


def instant(at: float | None) -> str | None:
    """Return a unix second as pages write instants."""
    return None if at is None else from_unix(at)
