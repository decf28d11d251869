"""A real `flagserver controller` that is killed by SIGKILL, at every point between two of its
effects on the outside in turn: before a call of it arrives, and when its answer comes.

Another one goes on, on the same machine or not. What lies between two writes to the machine's own
disk is the matter of `test_row_13_killed_anywhere`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from flagserver.domain.states import State
from tests.awsfake.double import Double, double, environment_of
from tests.servers import STOP_SECONDS
from tests.slices import a_slice, everything

from .real import INTERRUPTIONS, MOMENTS, Effect, Point, Stage, a_stage

pytestmark = [pytest.mark.needs("redis-server"), pytest.mark.timeout(1800)]

AT_ONCE = 6
"""So many stages at once: most of the time each of them waits for its controller's next look."""

SOME = 2
"""So many points of each way in `make test`."""


@pytest.fixture(scope="module")
def aws() -> Iterator[Double]:
    with double() as found, environment_of(found):
        found.reset()
        yield found


@dataclass(frozen=True)
class Way:
    """A rollout from its start to its end.

    happened: what its record says in the end, and how it ends.  fails_after: an alarm of its fires
    once so many changes were made, and nobody is killed before.
    """

    name: str
    schedule: str
    happened: tuple[str, ...]
    state: State
    percent: float
    fails_after: int | None = None

    @contextmanager
    def begun(self, aws: Double, directory: Path, name: str) -> Iterator[Stage]:
        """Give it as it is before there are controllers. name: its own."""
        make_alarm(aws, name)
        told = {"schedule": self.schedule, "alarms": [name]}
        with a_stage(aws, directory / name, name, **told) as stage:
            if self.fails_after is not None:
                stage.tap.then[self.fails_after] = lambda: say(aws, name, "ALARM")
            yield stage

    def check_end(self, stage: Stage) -> None:
        """It has ended as it must, every step begun and confirmed exactly once and in order, and
        nothing is left of what it had to itself."""
        happened = [a for a in stage.actions() if f"commit {a}" not in INTERRUPTIONS]
        assert happened == ["create", *self.happened]
        assert stage.rollout.state is self.state
        assert (stage.weight, stage.share) == (self.percent, self.percent)
        assert stage.claims() == []
        assert stage.tap.wrong == []


def up(*shares: int) -> Way:
    """Return the way up to 100 %, as quickly as it goes."""
    steps = ",".join(f"{share}%:1s" for share in shares)
    happened = ("start", *("step:begin", "step:confirm") * (len(shares) + 1), "complete")
    return Way("up", f"{steps},100%", happened, State.COMPLETED, 100)


BACK = Way(
    "back",
    "5%:1h,100%",
    ("start", "step:begin", "step:confirm", "rollback:begin", "rollback:confirm"),
    State.ROLLED_BACK,
    0,
    fails_after=3,
)


def make_alarm(aws: Double, name: str) -> None:
    """Make an alarm that is well, and says what it is told to say."""
    aws.client("cloudwatch").put_metric_alarm(
        AlarmName=name,
        Namespace="Shop",
        MetricName="failed",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    say(aws, name, "OK")


def say(aws: Double, name: str, state: str) -> None:
    """Let an alarm be in a state."""
    cloudwatch = aws.client("cloudwatch")
    cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="a test")


@dataclass(frozen=True)
class Matrix:
    """Runs ways, each on a stage of its own."""

    aws: Double
    directory: Path

    def points(self, way: Way) -> list[Point]:
        """Run a way undisturbed; return every point that there is."""
        with way.begun(self.aws, self.directory, f"{way.name}-whole") as stage:
            stage.controller("one")
            stage.until("the rollout to end", lambda: stage.over)
            stage.until("its last look to end", lambda: is_last(stage.tap.effects[-1], way))
            way.check_end(stage)
            begins = way.fails_after or 0
            effects = [effect for effect in stage.tap.effects if effect.changes >= begins]
        return [Point(effect, moment) for effect in effects for moment in MOMENTS]

    def killed_at(self, number: int, way: Way, point: Point) -> bool:
        """Run a way with a controller that is killed there; tell whether one was."""
        try:
            with way.begun(self.aws, self.directory, f"{way.name}-{number}") as stage:
                stage.tap.kill_at = point
                first = stage.controller("one")
                stage.until("the controller to be killed", lambda: stage.tap.killed.happened)
                assert first.wait(STOP_SECONDS)
                stage.check()
                stage.let_go()
                stage.controller("one" if number % 2 else "two")
                stage.until("the rollout to end", lambda: stage.over)
                way.check_end(stage)
                return first.status == -signal.SIGKILL
        except BaseException as error:
            error.add_note(f"on the way {way.name}, killed at {point}")
            raise


def is_last(effect: Effect, way: Way) -> bool:
    return effect.what == "acquire controller" and effect.changes == len(way.happened)


@pytest.mark.slow
def test_killed_anywhere(aws: Double, tmp_path: Path) -> None:
    matrix = Matrix(aws, tmp_path)
    ways = (up(5, 25, 50) if everything() else up(5), BACK)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        recorded = list(pool.map(matrix.points, ways))
        cases = [
            (way, point)
            for way, points in zip(ways, recorded, strict=True)
            for point in a_slice(points, SOME)
        ]
        ran = list(pool.map(matrix.killed_at, range(len(cases)), *zip(*cases, strict=True)))

    assert min(map(len, recorded)) > 2 * SOME
    whole = sum(map(len, recorded)) if everything() else len(ways) * SOME
    assert ran == [True] * whole
