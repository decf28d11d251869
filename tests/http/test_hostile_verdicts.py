"""Outcomes of whoever means ill, sent all along while a rollout is judged: what is kept of it, and
so every verdict, is what it is without them."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sortition.core.ticks import TICK_SECONDS

from flagserver.domain.states import State
from flagserver.domain.times import moment
from tests.builders import ADMIN
from tests.engines import FLAG, RULE
from tests.judged import HEALTHY, Judged

from .api import Answer, Api, api_of
from .routes import BATCH

OUTCOMES = "/api/v1/sdk/outcomes"

INSTANCES = count(1)

Batch = dict[str, Any]


@dataclass
class Site(Judged):
    """A judged service of which one process of either version reports over HTTP, beside the
    simulated rest. ill: whether somebody sends hostile batches after each honest one.
    judged: whether ticks are judged by now that ended 20 s ago."""

    ill: bool = False
    judged: bool = False
    answers: list[tuple[str, Answer]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.api: Api = api_of(self)
        self._sent: list[Batch] = []
        self._honest = self.api.sdk()
        self._revoked = self.api.sdk()
        id = str(self._revoked.token).split("_")[2]
        assert self.api.admin.delete(f"/api/v1/tokens/{id}").status == 200
        self.api.follow()

    def became(self) -> Counter[str]:
        """Return what should have become of the hostile batches and their rows."""
        found = Counter[str]()
        for name, answer in self.answers:
            status, counts = EXPECTED[name]
            assert answer.status == status, (name, answer.text)
            found.update(counts)
        return found

    def _report(self) -> None:
        super()._report()
        now = int(moment(self.clock.now()))
        if now % TICK_SECONDS or (self._sent and self._sent[-1]["ticks"][0]["at"] == now):
            return
        for version in ("1", "2"):
            batch = _honest(now, version, seq=len(self._sent) + 1)
            self._sent.append(batch)
            assert self._honest.post(OUTCOMES, batch).json == {"accepted": True}
        if self.ill:
            self._attack(now)

    def _attack(self, now: int) -> None:
        attacks = [*hostile(now, self._sent), *(too_late(now) if self.judged else ())]
        for name, batch in attacks:
            caller = self._revoked if name == "of a revoked token" else self._honest
            self.answers.append((name, caller.post(OUTCOMES, batch)))


def _honest(at: int, version: str, seq: int) -> Batch:
    counts = {"requests": 20, "failures": 0, "latency": [[100, 20]]}
    asked = {"requests": 20, "failures": 0, "assignments": 20, "flag": FLAG, "variant": "off"}
    tick = {"at": at, "seconds": 5, "service": counts, "flags": [asked]}
    told = {"service.name": "api", "service.version": version, "instance": "0f" * 8}
    return {**BATCH, **told, "seq": seq, "ticks": [tick]}


def _of_its_own(at: int, **service: Any) -> Batch:
    """What would take the canary back, had it been so."""
    batch = _honest(at, "2", seq=1)
    batch["instance"] = f"{next(INSTANCES):016x}"
    batch["ticks"][0]["flags"] = []
    batch["ticks"][0]["service"] = {"requests": 2000, "failures": 2000, **service}
    return batch


def hostile(now: int, sent: list[Batch]) -> Iterator[tuple[str, Batch]]:
    """Yield each kind of batch that must change nothing, by its name."""
    for name, number in (
        ("negative", -5),
        ("huge", 2**70),
        ("more than a process can count", 5_000_001),
        ("not a number", math.nan),
        ("without end", math.inf),
    ):
        yield name, _of_its_own(now, requests=number)
        yield name, _of_its_own(now, failures=number)
    yield "from the future", _of_its_own(now + 3600)
    yield "long ago", _of_its_own(now - 7200)
    yield "of a revoked token", _of_its_own(now)
    unknown = _of_its_own(now, requests=0, failures=0)
    counts = {"requests": 2000, "failures": 2000, "assignments": 2000}
    unknown["ticks"][0]["flags"] = [
        {**counts, "flag": "nobody", "variant": "on"},
        {**counts, "flag": FLAG, "variant": "nobody"},
    ]
    yield "for unknown flags", unknown
    for again in sent[-2:]:
        yield "duplicated", again
        lie = copy.deepcopy(again)
        lie["ticks"][0]["service"] = {"requests": 2000, "failures": 2000}
        yield "duplicated with other counts", lie
    for old in sent[:2]:
        yield "replayed", old


def too_late(now: int) -> Iterator[tuple[str, Batch]]:
    """Yield one of ticks that have been judged, as if it had never been sent."""
    yield "replayed under another name", _of_its_own(now - 20)


def rolled_out(site: Site, harm: Callable[[Site], None]) -> str:
    """Roll out and let the harm come on the way; return the rollout that has ended."""
    site.serve(20)
    targets = [{**RULE.to_body(), "mode": "drive"}]
    id = site.start_judged(targets=targets, schedule="25%:1m,100%")
    site.run(25)
    harm(site)
    site.judged = True
    site.until(site.ended(id), 300)
    return id


REFUSED = {"refused": 1}
EXPECTED: Mapping[str, tuple[int, Mapping[str, int]]] = {
    "negative": (422, REFUSED),
    "huge": (400, REFUSED),
    "more than a process can count": (422, REFUSED),
    "not a number": (400, REFUSED),
    "without end": (400, REFUSED),
    "from the future": (202, {"accepted": 1, "early": 1}),
    "long ago": (202, {"accepted": 1, "old": 1}),
    "of a revoked token": (401, {}),
    "for unknown flags": (202, {"accepted": 1, "unknown": 2, "taken": 1}),
    "duplicated": (202, {"repeated": 1}),
    "duplicated with other counts": (202, {"repeated": 1}),
    "replayed": (202, {"repeated": 1}),
    "replayed under another name": (202, {"accepted": 1, "late": 1}),
}
"""How each is answered, and what it is counted as."""


def kept(site: Site, id: str) -> list[Mapping[str, Any]]:
    """Return the head and each look: what it went by, and what it decided."""
    return site.services.grounds.series(id, ADMIN)


def counted(site: Site) -> Counter[str]:
    """Return what the server says became of batches and of their rows."""
    outcomes = site.services.outcomes
    return Counter({**outcomes.batches, **outcomes.rows})


def nothing(site: Site) -> None:
    pass


def the_version_fails(site: Site) -> None:
    site.world = replace(HEALTHY, harm=0.3)


@pytest.mark.parametrize(
    ("harm", "ends"),
    [
        pytest.param(nothing, State.COMPLETED, id="well", marks=pytest.mark.slow),
        pytest.param(the_version_fails, State.ROLLED_BACK, id="failing"),
    ],
)
def test_hostile_outcomes_change_no_verdict_and_are_counted(
    tmp_path: Path, harm: Callable[[Site], None], ends: State
) -> None:
    calm, besieged = Site(directory=tmp_path / "a"), Site(directory=tmp_path / "b", ill=True)

    one, other = rolled_out(calm, harm), rolled_out(besieged, harm)

    assert calm.rollout(one).state is besieged.rollout(other).state is ends
    assert kept(besieged, other) == kept(calm, one)
    assert len(kept(calm, one)) > 5
    assert counted(besieged) == counted(calm) + besieged.became()
