"""Keeps an ordered few children running: for `flagserver run`, `web --workers` and `demo`."""

from __future__ import annotations

import math
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from types import FrameType
from typing import Protocol, TextIO

from .processes import (
    REAP_SECONDS,
    STARTING_TICK,
    BoundedLog,
    Child,
    Process,
    StartFailed,
    how_it_ended,
)

TICK = 0.1
"""Seconds between two looks at the children: the lowest delay of a restart, never a busy loop."""


class Running(Protocol):
    """What the supervisor asks of a started child: `Process`, or a fake."""

    @property
    def pid(self) -> int:
        """Its process id."""

    @property
    def lines(self) -> list[str]:
        """Its last lines, oldest first."""

    @property
    def status(self) -> int | None:
        """How it ended: an exit status, or minus a signal's number."""

    def ended(self) -> bool:
        """Whether it ended and is reaped."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it, and what it started."""


@dataclass(slots=True)
class _Place:
    """A child's place among the kept ones. due, deadline, ready_at: by the monotonic clock."""

    child: Child
    write: Callable[[str], None]
    process: Running | None = None
    failures: int = 0
    due: float = 0.0
    deadline: float = 0.0
    ready_at: float | None = None


class Supervisor:
    """Keeps children running, from the main thread: `run` returns when a signal asks for the end.

    They start in their order, each when those before that are `waited_for` are ready, and end in
    the reverse, or all at once (`together`, where none needs another). One that fails at the first
    start ends all. Later on, one that ends is started again by its `Restarts`, whatever its exit
    status; the others go on meanwhile.

    spawn, clock (monotonic seconds), sleep, chance ([0, 1)): replaced in tests.
    out: where children's lines and what happens to them are written.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        together: bool = False,
        spawn: Callable[[Child, Callable[[str], None]], Running] = Process,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
        out: TextIO | None = None,
    ) -> None:
        self._out = out or sys.stderr
        self._writing = threading.Lock()
        self._width = max((len(child.name) for child in children), default=0)
        self._places = [_Place(child, self._writer(child)) for child in children]
        self._together = together
        self._spawn = spawn
        self._clock = clock
        self._sleep = sleep
        self._chance = chance
        self._asked = False
        self._interrupts = 0

    def run(self, on_ready: Callable[[], None] | None = None) -> None:
        """Start all, call `on_ready`, keep them until SIGTERM, SIGINT or SIGHUP, end all.

        A second SIGINT ends them at once. Raises StartFailed, or whatever `on_ready` raises, after
        all are ended.
        """
        with self._signals():
            try:
                self.start()
                if on_ready is not None and not self._asked:
                    on_ready()
                while not self._asked:
                    self._sleep(TICK)
                    self.tick()
            finally:
                self.stop()

    def start(self) -> None:
        """Start all in order. Returns early when a signal asked for the end. Raises StartFailed."""
        begun: list[_Place] = []
        for place in self._places:
            if self._asked:
                return
            try:
                self._begin(place)
            except OSError as error:
                raise StartFailed(place.child.name, str(error)) from error
            if place.child.waited_for:
                self._await(place, begun)
            begun.append(place)
        for place in begun:
            if place.failures == 0:
                self._await(place, begun)

    def _await(self, place: _Place, others: Sequence[_Place]) -> None:
        """Wait until a child is ready for the first time, and look after the others meanwhile."""
        while not self._asked and not self._is_ready(place):
            self._sleep(STARTING_TICK)
            for other in others:
                if other.ready_at is None and other.failures == 0:
                    self._is_ready(other)
                else:
                    self._look(other)

    def tick(self) -> None:
        """Look at every child once: see who ended, start who is due."""
        for place in self._places:
            self._look(place)

    def stop(self) -> None:
        """End all in the reverse of their order, each within its `stop_seconds`."""
        for place in self._places if self._together else ():
            if place.process is not None:
                place.process.terminate()
        for place in reversed(self._places):
            if place.process is not None:
                self._end(place.process, place.child.stop_seconds)
                place.process = None

    def pid(self, name: str) -> int | None:
        """Return the process id of a child, None while it is not running."""
        process = next(place.process for place in self._places if place.child.name == name)
        return None if process is None else process.pid

    def _begin(self, place: _Place) -> Running:
        place.ready_at = None
        place.deadline = self._clock() + place.child.start_seconds
        place.process = self._spawn(place.child, place.write)
        return place.process

    def _is_ready(self, place: _Place) -> bool:
        """Tell whether a child is ready for the first time. Raises StartFailed."""
        child, process = place.child, place.process
        if place.ready_at is not None or process is None:
            return place.ready_at is not None
        if process.ended():
            raise StartFailed(child.name, how_it_ended(process.status), self._unseen(place))
        if is_ready(child):
            place.ready_at = self._clock()
        elif self._clock() >= place.deadline:
            raise StartFailed(child.name, _late(child.start_seconds), self._unseen(place))
        return place.ready_at is not None

    def _unseen(self, place: _Place) -> list[str]:
        """Return the last lines of a child, unless they were shown as they came."""
        return place.process.lines if place.process and place.child.log else []

    def _look(self, place: _Place) -> None:
        now = self._clock()
        process = place.process
        if process is None:
            if now >= place.due:
                self._begin_again(place)
        elif process.ended():
            self._lost(place, how_it_ended(process.status))
        elif place.ready_at is None:
            if is_ready(place.child):
                place.ready_at = self._clock()
                self._say(f"{place.child.name} is ready again")
            elif now >= place.deadline:
                self._say(f"{place.child.name}: {_late(place.child.start_seconds)}; killing it")
                process.kill()
                place.deadline = math.inf
        elif now - place.ready_at >= place.child.restarts.healthy:
            place.failures = 0

    def _begin_again(self, place: _Place) -> None:
        try:
            self._begin(place)
        except OSError as error:
            self._lost(place, str(error))

    def _lost(self, place: _Place, reason: str) -> None:
        place.failures += 1
        delay = place.child.restarts.delay(place.failures, self._chance())
        place.process = None
        place.due = self._clock() + delay
        self._say(f"{place.child.name}: {reason}; starting it again in {delay:.1f} s")

    def _end(self, process: Running, seconds: float) -> None:
        process.terminate()
        deadline = self._clock() + seconds
        while not process.ended():
            if self._interrupts > 1 or self._clock() >= deadline:
                self._kill(process)
                return
            self._sleep(STARTING_TICK)

    def _kill(self, process: Running) -> None:
        process.kill()
        deadline = self._clock() + REAP_SECONDS
        while not process.ended() and self._clock() < deadline:
            self._sleep(STARTING_TICK)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        numbers = [signal.SIGTERM, signal.SIGINT]
        # Under nohup the end of the terminal is not to be the end of the server.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self._hear) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        self._asked = True
        self._interrupts += number == signal.SIGINT

    def _writer(self, child: Child) -> Callable[[str], None]:
        if child.log is not None:
            return BoundedLog(child.log).write
        return lambda line: self._print(child.name, line)

    def _say(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._print("", text)

    def _print(self, name: str, text: str) -> None:
        with self._writing:
            self._out.write(f"{name:<{self._width}} | {text}\n")
            self._out.flush()


def is_ready(child: Child) -> bool:
    """Whether it says that it is; one that cannot be asked is not."""
    try:
        return child.ready()
    except (OSError, HTTPException):
        return False


def _late(seconds: float) -> str:
    return f"it was not ready after {seconds:g} s"
