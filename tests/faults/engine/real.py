"""Real `flagserver controller` processes over a real Redis and AWS's double, each behind a proxy.

Every call of theirs that leaves something behind is seen on its way, and each may be the last: the
process that sent it is killed before it arrives, or when its answer comes.

    with a_stage(aws, directory, "shop-1", schedule="5%:1s,100%") as stage:
        stage.tap.kill_at = Point(effect, BEFORE)
        first = stage.controller("one")
        stage.tap.killed.wait()
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from examples.awsfake.scene import Scene
from flagserver import bootstrap
from flagserver.bootstrap import Outside
from flagserver.domain.commands import NewFlag
from flagserver.domain.plan import NO_STEP
from flagserver.domain.rollout import Rollout
from flagserver.domain.rollout_commands import NewRollout
from flagserver.domain.states import State
from flagserver.domain.targets import Target
from flagserver.processes import Child, Process
from flagserver.services import Services
from flagserver.settings import Settings
from flagserver.signals.cloudwatch import CloudWatch
from flagserver.storage.redis.scripts import script
from flagserver.storage.redis.store import RedisStore
from flagserver.system import SystemClock, SystemEntropy
from flagserver.targets.alb import AlbDriver
from tests.awsfake.double import Double
from tests.builders import ADMIN, SURE
from tests.proxy import Proxy, Watch
from tests.servers import STOP_SECONDS, Server, redis_server, wait_until

FLAG = "new-search"
TICK_SECONDS = 1.0
LIFE_SECONDS = 60.0
"""How long a rollout of these tests takes at most on a busy machine."""

BEFORE, AFTER = MOMENTS = ("before it arrives", "when its answer comes")

WRITING = ("commit", "acquire", "release", "look")
READING = ("read_environment",)
BESIDE = ("delivered", "index", "halves", "known")
SCRIPTS = {script(name).sha.encode(): name for name in (*WRITING, *READING, *BESIDE)}
OF_OTHERS = ("acquire notices", "release notices", *BESIDE)
"""What threads do beside that tell people, prune, and keep A/A history: they move no rollout, and
keep to no order."""

INTERRUPTIONS = frozenset({"commit gap:record", "commit wait:begin", "commit wait:end"})
"""What a busy machine may add to the record, and what is not counted."""

AWS_READS = re.compile(rb"(Action=|X-Amz-Target: \S+\.)(Describe|Get|List|BatchGet)\w+")
AWS_WRITES = re.compile(rb"Action=(Modify\w+)")
ACTION = re.compile(rb'"action":"rollout:([a-z:]+)"')


@dataclass(frozen=True)
class Effect:
    """A call that leaves something behind.

    changes: how many changes of the rollout were sent before it, INTERRUPTIONS left out.
    nth: of its kind since then.
    """

    what: str
    changes: int
    nth: int

    def __str__(self) -> str:
        again = "" if self.nth == 1 else f" ({self.nth})"
        return f"{self.what}{again} after {self.changes} changes"


@dataclass(frozen=True)
class Point:
    """An effect, and whether it is the last thing or was the last."""

    effect: Effect
    moment: str

    def __str__(self) -> str:
        return f"{self.effect}, {self.moment}"


@dataclass
class Tap:
    """Sees all that controllers send, in order.

    first: looks before each effect whether all is as it must be; only one of them is on its way at
    a time, so nothing is missed.  kill_at: where the process `pid` is to be killed.  hold_at: what
    is to be held on its way, the process that sent it being stopped.  then: what happens in the
    world once so many changes of the rollout were made.
    """

    first: Callable[[], None]
    then: dict[int, Callable[[], None]] = field(default_factory=dict)
    pid: int = 0
    kill_at: Point | None = None
    hold_at: Effect | None = None
    held: Watch = field(default_factory=lambda: Watch("a call to be held"))
    killed: Watch = field(default_factory=lambda: Watch("the controller to be killed"))
    effects: list[Effect] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    changes: int = 0
    _since: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def on(self, proxy: Proxy, name_of: Callable[[bytes], str | None]) -> None:
        """See what goes through a proxy. name_of: the effect that a piece is, or None."""
        proxy.up.change(lambda data: self._see(proxy, name_of, data), "everything to be seen")

    def _see(
        self, proxy: Proxy, name_of: Callable[[bytes], str | None], data: bytes
    ) -> bytes | None:
        with self._lock:
            try:
                what = name_of(data)
                if what is None or what.startswith(OF_OTHERS):
                    return None
                self.first()
                self.then.pop(self.changes, lambda: None)()
            except AssertionError as error:
                self.wrong.append(str(error) or repr(error))
                return None
            return self._meet(proxy, self._note(what), data)

    def _note(self, what: str) -> Effect:
        self._since[what] += 1
        effect = Effect(what, self.changes, self._since[what])
        self.effects.append(effect)
        if what.startswith("commit ") and what not in INTERRUPTIONS:
            self.changes += 1
            self._since.clear()
        return effect

    def _meet(self, proxy: Proxy, effect: Effect, data: bytes) -> bytes | None:
        if effect == self.hold_at:
            self.hold_at, proxy.up.held = None, True
            os.kill(self.pid, signal.SIGSTOP)
            self.held.tell()
        if self.kill_at is None or not _reached(effect, self.kill_at.effect):
            return None
        point, self.kill_at = self.kill_at, None
        if point.moment == AFTER:
            proxy.lose_answer(data, then=self._kill)
            return None
        # What follows of it, in another piece, goes the same way.
        proxy.up.hole = True
        self._kill()
        return b""

    def _kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.killed.tell()


def _reached(effect: Effect, wanted: Effect) -> bool:
    """Tell whether an effect is the wanted one; or the change that came sooner than that, as a
    controller on a busy machine looks less often in between."""
    sooner = effect.what.startswith("commit ") and effect.changes == wanted.changes
    return effect == wanted or (sooner and wanted.nth > 1)


def store_effect(writes: Collection[str], data: bytes) -> str | None:
    """Return what a piece to Redis changes, or None. writes: commands that write, by Redis's own
    word. Raises AssertionError for a script that is not known to be one or the other."""
    words = _words(data)
    command = words[0].decode() if words else ""
    if command != "EVALSHA":
        return command if command.lower() in writes else None
    name = SCRIPTS.get(words[1])
    assert name is not None, "say of a script whether it leaves something behind"
    assert data.count(b"EVALSHA") == 1, "two effects in one piece"
    if name in READING:
        return None
    if name in {"acquire", "release"}:
        kind = words[3].decode().removeprefix("{sortition}:lease:").partition("/")[0]
        return f"{name} {kind}"
    if name == "commit":
        action = ACTION.search(data)
        assert action is not None, "a change that is not of a rollout"
        return f"commit {action[1].decode()}"
    return name


def cloud_effect(data: bytes) -> str | None:
    """Return what a piece to AWS changes, or None. What names the operation, in a form or a head,
    may come in a piece of its own."""
    found = AWS_WRITES.search(data)
    if found:
        return found[1].decode()
    unnamed = b"Action=" not in data and b"X-Amz-Target" not in data
    assert unnamed or AWS_READS.search(data), f"say of {data!r} whether it leaves something behind"
    return None


def _words(data: bytes) -> list[bytes]:
    """Return the words of a piece's first command, as far as they are in it; none for a piece
    that goes on with an earlier command."""
    if not data.startswith(b"*"):
        return []
    words, at = [], data.find(b"\r\n") + 2
    while data[at : at + 1] == b"$":
        end = data.index(b"\r\n", at)
        length = int(data[at + 1 : end])
        words.append(data[end + 2 : end + 2 + length])
        at = end + 2 + length + 2
        if data[at : at + 1] == b"*":
            break
    return words


@dataclass
class Stage:
    """A rollout of a flag and an ALB rule, and controllers that move it."""

    directory: Path
    aws: Double
    scene: Scene
    redis: Server
    store_proxy: Proxy
    cloud_proxy: Proxy
    services: Services
    id: str = ""
    processes: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tap = Tap(self.check)
        self.watch()

    def watch(self) -> None:
        """See what goes through the proxies, as `tap` does."""
        with self.redis.client() as client:
            commands = client.command()
        writes = {name for name, told in commands.items() if "write" in told["flags"]}
        self.tap.on(self.store_proxy, partial(store_effect, writes))
        self.tap.on(self.cloud_proxy, cloud_effect)

    @property
    def target(self) -> Target:
        scene = self.scene
        return Target.of("alb", scene.rule, canary=scene.green, stable=scene.blue)

    def start(self, **told: Any) -> None:
        """Start a rollout."""
        self.services.flags.create(NewFlag(key=FLAG), ADMIN)
        body = {
            "environment": "production",
            "service": "shop",
            "version": "2",
            "targets": [{"kind": "flag", "name": FLAG}, {**self.target.to_body(), "mode": "drive"}],
            "guards": "none",
            **SURE,
            **told,
        }
        new = NewRollout.model_validate(body)
        self.id = self.services.rollouts.start(new, ADMIN).rollout.id

    def controller(self, machine: str, *, unseen: bool = False) -> Process:
        """Start a controller as an operator does. machine: whose disk it has.  unseen: nothing of
        what it sends is looked at."""
        store, cloud = (self.redis, self.aws) if unseen else (self.store_proxy, self.cloud_proxy)
        environment = {
            **self.aws.environment(),
            "AWS_ENDPOINT_URL": cloud.url,
            "SORTITION_REDIS_URL": store.url,
            "SORTITION_DATA_DIR": str(self.directory / machine),
            "SORTITION_TICK_SECONDS": str(TICK_SECONDS),
        }
        command = (sys.executable, "-m", "flagserver.main", "controller")
        process = Process(Child(f"controller {machine}", command, environment), lambda _: None)
        self.processes.append(process)
        if not unseen:
            self.tap.pid = process.pid
        return process

    def end(self) -> None:
        """End every controller at once, whether it is stopped or not."""
        for process in self.processes:
            process.kill()
            assert process.wait(STOP_SECONDS)

    def let_go(self) -> None:
        """Let the leases of whoever was killed run out, and everything through."""
        self.store_proxy.heal()
        self.cloud_proxy.heal()
        self.watch()
        self.let_leases_end()

    def let_leases_end(self) -> None:
        """Let every lease run out now."""
        with self.redis.client() as client:
            for key in client.scan_iter("{sortition}:lease:*"):
                client.delete(key)

    def until(self, what: str, holds: Callable[[], bool], seconds: float = LIFE_SECONDS) -> None:
        """Wait until something is so; in vain if the controllers end or something is wrong."""

        def so() -> bool:
            assert self.tap.wrong == [], self.tap.wrong
            return holds()

        try:
            wait_until(so, what, seconds)
        except AssertionError as error:
            said = [line for process in self.processes for line in process.lines]
            raise AssertionError("\n".join([str(error), *self.actions(), *said])) from None

    # How it stands

    @property
    def rollout(self) -> Rollout:
        """As it is kept, whether anybody looks or not."""
        return self.services.rollouts.get(self.id, ADMIN).rollout

    @property
    def weight(self) -> float:
        """The percent of traffic that really goes to the canary."""
        weights = self.aws.weights(self.scene.rule)
        return 100 * weights.get(self.scene.green, 0) / sum(weights.values())

    @property
    def share(self) -> float:
        """The flag's share, in percent."""
        state = self.services.flags.state(FLAG, "production").state
        return 0.0 if state.killed else state.share / 10_000

    @property
    def over(self) -> bool:
        return self.rollout.state.shown.terminal

    def actions(self) -> list[str]:
        """Return what the record says happened to the rollout, in order."""
        entries = self.services.rollouts.history(self.id, ADMIN, limit=500)
        return [entry["action"].removeprefix("rollout:") for entry in reversed(entries)]

    def claims(self) -> list[str]:
        """Return what the rollout has to itself."""
        with self.redis.client() as client:
            found: dict[bytes, bytes] = client.hgetall("{sortition}:claims")
        return [name.decode() for name, owner in found.items() if owner.startswith(b"rollout/")]

    def check(self) -> None:
        """Nobody is exposed above the recorded step's share, nor the flag before the traffic, nor
        the flag at all once it goes back."""
        rollout, weight, share = self.rollout, self.weight, self.share
        shares = {} if rollout.step == NO_STEP else rollout.plan[rollout.step].shares
        at = f"{weight} % and {share} % at step {rollout.step}, {rollout.state}"
        assert weight * 10_000 <= shares.get(self.target.id, 0), at
        assert share * 10_000 <= shares.get(f"flag/{FLAG}", 0), at
        assert share <= weight or rollout.rollback is not None, at
        assert share == 0 or rollout.rollback is None, at
        assert weight == 0 or rollout.state is not State.ROLLED_BACK, at


@contextmanager
def a_stage(aws: Double, directory: Path, name: str, **told: Any) -> Iterator[Stage]:
    """Run all but a controller, and start a rollout. name: of its scene at AWS, its own."""
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(directory / "redis"))
        store = stack.enter_context(RedisStore(redis.url))
        with redis.client() as client:
            for each in set(SCRIPTS.values()):
                client.script_load(script(each).text)
        clock, entropy = SystemClock(), SystemEntropy()
        outside = Outside({"alb": AlbDriver(aws.aws())}, {"cloudwatch": CloudWatch(aws.aws())})
        services = bootstrap.build_services(Settings(), store, clock, entropy, outside=outside)
        bootstrap.prepare(Settings(), store, services, entropy)
        store_proxy, cloud_proxy = (stack.enter_context(Proxy(url)) for url in (redis.url, aws.url))
        stage = Stage(directory, aws, aws.scene(name), redis, store_proxy, cloud_proxy, services)
        stack.callback(stage.end)
        stage.start(**told)
        yield stage
