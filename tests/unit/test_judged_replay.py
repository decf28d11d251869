"""Whole rollouts through the controller, whatever happens to them: what it kept decides the same
again, look by look, with the verdicts taken out first."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from sortition.judgement import series
from sortition.judgement.traffic import Outage, World

from flagserver.domain.commands import Enlarging, Reasoned
from flagserver.domain.errors import Refusal
from tests.builders import ADMIN, SURE
from tests.engines import RULE
from tests.judged import Judged
from tests.slices import a_slice


def some_world(chance: Random) -> World:
    """Well, failing, slow, or in an outage of both versions."""
    calm = World(chance.choice([5.0, 40.0, 200.0]), chance.choice([0.001, 0.01]))
    return chance.choice(
        [
            calm,
            replace(calm, harm=chance.choice([0.05, 0.5])),
            replace(calm, slower=3.0),
            replace(calm, outage=Outage(0, 120, rate=0.3)),
        ]
    )


def something_happens(engine: Judged, id: str, chance: Random) -> None:
    """Let the world change, a version fall silent, a person hold or resume, a controller take
    over; or nothing."""
    match chance.randrange(8):
        case 0:
            engine.world = some_world(chance)
        case 1:
            engine.silent = chance.choice([set(), {"1"}, {"2"}])
        case 2:
            engine.controller.step_down()
            engine.controller = engine.new_controller(f"c{chance.random()}")
        case 3:
            # Refused where the rollout is in no state for it.
            with suppress(Refusal):
                engine.rollouts.hold(id, Reasoned(reason="a test"), ADMIN)
        case 5:
            revision = engine.rollouts.get(id, ADMIN).revision
            with suppress(Refusal):
                engine.rollouts.resume(id, Enlarging(**SURE), revision, ADMIN)
        case _:
            pass


@pytest.mark.parametrize("seed", a_slice(range(60), 3))
@pytest.mark.timeout(120)
def test_what_a_controller_kept_decides_the_same_again(seed: int, tmp_path: Path) -> None:
    chance = Random(seed)
    engine = Judged(directory=tmp_path, world=some_world(chance), seed=f"replay/{seed}")
    engine.serve(chance.choice([0, 60, 300]))
    targets = [{**RULE.to_body(), "mode": "drive"}, {"kind": "flag", "name": "new-search"}]
    id = engine.start_judged(
        targets=targets[: chance.choice([1, 2])],
        schedule=chance.choice(["5%:1m,50%:1m,100%", "25%:2m,100%:1m:keep=1%"]),
    )
    for _ in range(20):
        engine.run(15)
        something_happens(engine, id, chance)
        if engine.rollout(id).state.shown.terminal:
            break

    bodies = [dict(body) for body in engine.services.grounds.series(id, ADMIN)]
    then = [look.decision for look in series.of_bodies(enumerate(bodies, 1)).looks]
    stripped = [json.dumps({**body, "decision": None}) for body in bodies[1:]]
    again = list(series.replay(series.read([json.dumps(bodies[0]), *stripped])))

    assert again
    assert [one.decision for one in again] == then
