"""One deployment on its way: a script that says what happens, and how long it waits in between."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .appspec import EVENTS
from .configs import Increment

ASSUMED = (
    "how long things take that are not configured: CREATED, INSTALL, STEP, STOP and BACK_SECONDS",
    "a hook that no function is named for is Skipped, and takes no time",
    "the wait of a deployment that is Ready comes before BeforeAllowTraffic",
    "while the original task set waits to be terminated the deployment is InProgress",
    "Baking is what a group says that was told to bake; nothing at AWS documents when it is",
    "a rollback has one event, AllowTraffic, and labels the task sets as the deployment had them",
    "the words of errors and of rollbackMessage",
)
"""What the double does as somebody thought, and not as a document says."""

CREATED_SECONDS = 1.0
INSTALL_SECONDS = 60.0
STEP_SECONDS = 1.0
STOP_SECONDS = 2.0
BACK_SECONDS = 10.0

HOOK_SECONDS = 3600.0
"""A hook that has not reported by then has failed."""

RUNNING = frozenset({"Created", "Queued", "InProgress", "Baking", "Ready"})

REPORTED = "hook"
READY_WAIT = "READY_WAIT"
TERMINATION_WAIT = "TERMINATION_WAIT"


@dataclass(frozen=True)
class Wait:
    """Let so much time pass, unless somebody says something first. until: what is waited for:
    REPORTED, READY_WAIT, TERMINATION_WAIT; "" for time alone."""

    seconds: float
    until: str = ""


Script = Generator[Wait, str | None, None]
"""Yields waits; is sent what ended one early: a status for a hook, `continue`; None: time."""


class Failed(Exception):
    """The deployment ends here. status: `Failed` or `Stopped`."""

    def __init__(self, code: str, message: str, status: str = "Failed") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


@dataclass
class Event:
    """A lifecycle event. Times in unix seconds; diagnostics as the API has them."""

    name: str
    status: str = "Pending"
    start: float | None = None
    end: float | None = None
    diagnostics: Mapping[str, str] | None = None


@dataclass
class Deployment:
    """A deployment as it stands. Times in unix seconds.

    blue, green: target groups of the original and the replacement task set, by name.
    weight: percent of the traffic that green has.  installed: whether green has a task set.
    terminated: whether blue's is gone.  waits: see `Wait.until`.  hook: of the hook that runs.
    told: what somebody said that it is to look like (status, task sets), whatever it does.
    announced: the states that events have told of.
    """

    id: str
    application: str
    group: str
    config: str
    revision: Mapping[str, Any]
    created: float
    creator: str = "user"
    description: str | None = None
    rollback_events: frozenset[str] = frozenset()
    auto_rollback: Mapping[str, Any] | None = None
    alarms: Mapping[str, Any] | None = None
    own_alarms: Mapping[str, Any] | None = None
    previous: Mapping[str, Any] | None = None
    routes: Mapping[str, Any] = field(default_factory=dict)
    service: str = ""
    blue: str = ""
    green: str = ""
    blue_set: str = ""
    green_set: str = ""
    hooks: Mapping[str, str] = field(default_factory=dict)
    status: str = "Created"
    started: float | None = None
    completed: float | None = None
    updated: float = 0.0
    error: tuple[str, str] | None = None
    events: list[Event] = field(default_factory=list)
    weight: int = 0
    installed: bool = False
    terminated: bool = False
    terminating: bool = False
    waits: str = ""
    hook: str | None = None
    hooks_done: set[str] = field(default_factory=set)
    stopping: bool = False
    triggered_by: str | None = None
    rolled_back_by: str | None = None
    rollback_message: str | None = None
    told: Mapping[str, Any] | None = None
    announced: set[str] = field(default_factory=set)
    script: Script | None = None
    due: float | None = None

    @property
    def is_running(self) -> bool:
        """Tell whether it is not over."""
        status = self.status if self.told is None else self.told["status"]
        return status in RUNNING


class Stage(Protocol):
    """What a script acts on."""

    at: float
    """Unix second of what happens now."""

    def shift(self, deployment: Deployment, weight: int) -> None:
        """Give green so many percent of the production traffic."""

    def test(self, deployment: Deployment) -> None:
        """Let the test listener, if there is one, lead to green."""

    def call(self, deployment: Deployment, event: str) -> None:
        """Call the hook of an event."""


@dataclass(frozen=True)
class Times:
    """How long this deployment takes for what AWS lets nobody configure, and what its group says.

    ready: minutes to wait to be continued, None: none.  terminate: minutes until blue goes, None:
    it is kept.  bake: minutes in Baking.
    """

    install: float = INSTALL_SECONDS
    ready: int | None = None
    terminate: int | None = None
    bake: int = 0
    back: float = BACK_SECONDS


def forward(it: Deployment, stage: Stage, increments: list[Increment], times: Times) -> Script:
    """Put a new revision into service."""
    yield Wait(CREATED_SECONDS)
    it.status, it.started = "InProgress", stage.at
    yield from _hook(it, stage, "BeforeInstall")
    yield from _own(it, stage, "Install", times.install)
    it.installed = True
    yield from _hook(it, stage, "AfterInstall")
    if it.routes.get("testTrafficRoute"):
        stage.test(it)
        yield from _own(it, stage, "AllowTestTraffic", STEP_SECONDS)
        yield from _hook(it, stage, "AfterAllowTestTraffic")
    else:
        _skip(it, "AllowTestTraffic", "AfterAllowTestTraffic")
    if times.ready is not None:
        yield from _ready(it, times.ready)
    yield from _hook(it, stage, "BeforeAllowTraffic")
    yield from _traffic(it, stage, increments)
    yield from _hook(it, stage, "AfterAllowTraffic")
    if times.bake:
        it.status = "Baking"
        yield Wait(times.bake * 60.0)
        it.status = "InProgress"
    if times.terminate is not None:
        it.terminating = True
        yield Wait(times.terminate * 60.0, TERMINATION_WAIT)
        it.terminated = True
    it.status = "Succeeded"


def back(it: Deployment, stage: Stage, times: Times) -> Script:
    """Send the traffic to the original task set again, and end the replacement."""
    yield Wait(CREATED_SECONDS)
    it.status, it.started = "InProgress", stage.at
    event = _begin(it, "AllowTraffic", stage.at)
    yield Wait(times.back / 2)
    stage.shift(it, 0)
    yield Wait(times.back / 2)
    event.status, event.end = "Succeeded", stage.at
    it.status = "Succeeded"


def lifecycle() -> list[Event]:
    """Return the events of a deployment that has not begun."""
    return [Event(name) for name in EVENTS]


def _begin(it: Deployment, name: str, at: float) -> Event:
    event = next(each for each in it.events if each.name == name)
    event.status, event.start = "InProgress", at
    return event


def _skip(it: Deployment, *names: str) -> None:
    for event in it.events:
        if event.name in names:
            event.status = "Skipped"


def _own(it: Deployment, stage: Stage, name: str, seconds: float) -> Script:
    event = _begin(it, name, stage.at)
    yield Wait(seconds)
    event.status, event.end = "Succeeded", stage.at


def _hook(it: Deployment, stage: Stage, name: str) -> Script:
    if name not in it.hooks:
        _skip(it, name)
        return
    event = _begin(it, name, stage.at)
    stage.call(it, name)
    said = yield Wait(HOOK_SECONDS, REPORTED)
    it.hook = None
    event.end = stage.at
    event.status = "Succeeded" if said == "Succeeded" else "Failed"
    if said != "Succeeded":
        why = "did not report within an hour" if said is None else "reported that it failed"
        message = f"The validation function {it.hooks[name]} of {name} {why}."
        event.diagnostics = {"errorCode": "UnknownError", "message": message}
        raise Failed("HOOK_EXECUTION_FAILURE", message)


def _ready(it: Deployment, minutes: int) -> Script:
    it.status = "Ready"
    said = yield Wait(minutes * 60.0, READY_WAIT)
    if said is None:
        message = f"Nobody rerouted the traffic within {minutes} minutes."
        raise Failed("TIMEOUT", message, status="Stopped")
    it.status = "InProgress"


def _traffic(it: Deployment, stage: Stage, increments: list[Increment]) -> Script:
    event = _begin(it, "AllowTraffic", stage.at)
    yield Wait(STEP_SECONDS)
    for percent, minutes in increments:
        stage.shift(it, percent)
        if minutes:
            yield Wait(minutes * 60.0)
    event.status, event.end = "Succeeded", stage.at
