"""A real `flagserver controller` that is stopped by SIGSTOP while a write of its own is on the way
to the load balancer, and woken when another one has taken over and what it had sent has arrived.

No load balancer has a conditional write. So it starts nothing new, and what it had sent is found
and set right within one tick.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flagserver.domain.commands import Reasoned
from flagserver.domain.rollout import LATE_SECONDS
from flagserver.domain.states import State
from tests.awsfake.double import Double, double, environment_of
from tests.builders import ADMIN

from .real import TICK_SECONDS, Effect, Stage, a_stage

pytestmark = [pytest.mark.needs("redis-server"), pytest.mark.timeout(300)]

SCHEDULE = "5%:1s,25%:1s,50%:1h,100%"
SECOND_SHARE = Effect("ModifyRule", changes=4, nth=1)
"""Of 25 %: after the changes start, begin, confirm, begin."""

WRITE_SECONDS = 1.0
"""How long the look and the write of a tick take at most here."""

STOPPED_SECONDS = 30.0


@pytest.fixture(scope="module")
def aws() -> Iterator[Double]:
    with double() as found, environment_of(found):
        found.reset()
        yield found


class Stopped:
    """A stage whose first controller is stopped while it sets 25 %; another is there."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.at = time.monotonic()
        stage.tap.hold_at = SECOND_SHARE
        self.first = stage.controller("one")
        stage.until("its write to be on the way", lambda: stage.tap.held.happened)
        # What others do meanwhile is theirs.
        stage.tap.first = lambda: None
        assert (stage.weight, stage.share) == (5, 5)

    def sent_arrives(self) -> None:
        self.stage.cloud_proxy.up.held = False
        self.stage.until("what was sent to arrive", lambda: self.stage.weight == 25)

    def set_right(self, percent: float) -> float:
        """Return how long it takes until the weight is right again."""
        began = time.monotonic()
        self.stage.until("the weight to be right", lambda: self.stage.weight == percent)
        return time.monotonic() - began

    def wakes(self) -> None:
        """It goes on, and looks a few times: it starts nothing new."""
        stage, before = self.stage, self.stage.actions()
        sent = len(stage.tap.effects)
        os.kill(self.first.pid, signal.SIGCONT)
        looks = lambda: [e.what for e in stage.tap.effects[sent:]].count("acquire controller")  # noqa: E731
        stage.until("it to look again", lambda: looks() >= 3)
        assert not self.first.ended()
        new = [effect.what for effect in stage.tap.effects[sent:]]
        assert [what for what in new if what.startswith("Modify")] == []
        assert stage.actions() == before


@pytest.mark.slow
def test_another_one_goes_on_and_sets_right_what_had_been_sent(aws: Double, tmp_path: Path) -> None:
    with a_stage(aws, tmp_path, "stopped", schedule=SCHEDULE) as stage:
        stopped = Stopped(stage)
        stage.let_leases_end()
        goes_on_and_sets_right(stopped)


@pytest.mark.slow
def test_for_half_a_minute_in_which_its_leases_end_by_themselves(
    aws: Double, tmp_path: Path
) -> None:
    with a_stage(aws, tmp_path, "longer", schedule=SCHEDULE) as stage:
        stopped = Stopped(stage)
        goes_on_and_sets_right(stopped, STOPPED_SECONDS)


def goes_on_and_sets_right(stopped: Stopped, seconds: float = 0.0) -> None:
    """seconds: after so many since it was stopped what it had sent arrives, and it is woken."""
    stage = stopped.stage
    stage.controller("two", unseen=True)
    stage.until("the other to go on", lambda: (stage.weight, stage.share) == (50, 50))
    confirmed = stage.actions()
    time.sleep(max(0.0, stopped.at + seconds - time.monotonic()))

    stopped.sent_arrives()

    assert stopped.set_right(50) <= TICK_SECONDS + WRITE_SECONDS
    stage.until("that to be written down", lambda: stage.actions() != confirmed)
    assert stage.actions() == [*confirmed, "late:correct"]
    stopped.wakes()
    assert (stage.weight, stage.share) == (50, 50)
    assert stage.actions().count("step:begin") == stage.actions().count("step:confirm") == 3


@pytest.mark.slow
@pytest.mark.parametrize("first", ["it is woken", "what it had sent arrives"])
def test_what_was_taken_back_meanwhile_stays_so(aws: Double, tmp_path: Path, first: str) -> None:
    name = "back-" + first.split(maxsplit=1)[0]
    with a_stage(aws, tmp_path, name, schedule=SCHEDULE) as stage:
        stopped = Stopped(stage)
        stage.let_leases_end()
        stage.services.rollouts.roll_back(stage.id, Reasoned(reason="it is slow"), ADMIN)
        stage.controller("two", unseen=True)
        stage.until("it to be taken back", lambda: (stage.weight, stage.share) == (0, 0))
        assert stage.rollout.state is State.ROLLING_BACK

        if first == "it is woken":
            stopped.wakes()
        stopped.sent_arrives()

        assert stopped.set_right(0) <= TICK_SECONDS + WRITE_SECONDS
        if first != "it is woken":
            stopped.wakes()
        stage.until("nothing late to be possible", lambda: stage.over, LATE_SECONDS + 10)
        assert (stage.rollout.state, stage.weight, stage.share) == (State.ROLLED_BACK, 0, 0)
        assert stage.actions()[-2:] == ["rollback:begin", "rollback:confirm"]
