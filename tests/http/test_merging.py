"""Batches wait in memory for a second: what is lost, what counts once, and what is bounded."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from typing import Any

import fakeredis
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flagserver.domain.errors import StoreUnavailable
from flagserver.domain.outcomes import Part
from flagserver.services import merging
from flagserver.services.merging import Merging

from .api import Api, Caller, a_store, an_api
from .routes import BATCH

OUTCOMES = "/api/v1/sdk/outcomes"


class Web:
    """A web process that merges; its commits are the test's to make."""

    def __init__(self, server: fakeredis.FakeServer, name: str) -> None:
        self.api: Api = an_api(a_store(server))
        self.name = name
        self.merging: Merging = self.api.services.outcomes.merging(name)

    def breaks(self, call: str, *, done: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the next call of the store fail. done: what it should do was done all the same."""
        real = getattr(self.api.store, call)

        def broken(*arguments: Any, **more: Any) -> Any:
            monkeypatch.undo()
            if done:
                real(*arguments, **more)
            raise StoreUnavailable("The store is away.")

        monkeypatch.setattr(type(self.api.store), call, lambda _, *a, **m: broken(*a, **m))


class House:
    """Two web processes over one store, and an SDK that may ask either."""

    def __init__(self) -> None:
        server = fakeredis.FakeServer()
        first = Web(server, "a1")
        first.api.flag("search", share=50)
        self.webs = [first, Web(server, "b2")]
        token = first.api.sdk()
        self.webs[1].api.follow()
        self.sdks = [Caller(web.api, token.token) for web in self.webs]
        self.at = int(first.api.clock.now().timestamp())

    def batch(self, seq: int, instance: str = "0f" * 8) -> dict[str, Any]:
        counts = {"requests": 10, "failures": 1, "latency": [[10, 10]], "metrics": {"cart": [4, 1]}}
        flags = [counts | {"flag": "search", "variant": "on", "assignments": 40}]
        tick = {"at": self.at, "seconds": 5, "service": counts, "flags": flags}
        tick |= {"points": {"search": [[3, 2]]}}
        told = {"service.name": "shop", "service.version": "1.5.0", "instance": instance}
        return {**BATCH, **told, "seq": seq, "ticks": [tick]}

    def send(self, seq: int, web: int = 0, **more: Any) -> int:
        return self.sdks[web].post(OUTCOMES, self.batch(seq, **more)).status

    def commit(self) -> None:
        for web in self.webs:
            web.merging.look()

    @property
    def requests(self) -> int:
        outcomes = self.webs[0].api.services.outcomes
        found = outcomes.service_ticks("production", "shop", since=self.at - 5, until=self.at)
        return found[self.at]["1.5.0"].requests if found else 0

    def counted(self, result: str) -> int:
        return sum(web.api.services.outcomes.batches[result] for web in self.webs)


@pytest.fixture
def house() -> House:
    return House()


def test_batches_wait_and_are_written_together(house: House) -> None:
    store: Any = house.webs[0].api.store
    real, written = store.count, []

    def noted(*arguments: Any) -> bool:
        written.append(arguments)
        return bool(real(*arguments))

    store.count = noted
    for number in range(20):
        assert house.send(1, instance=f"{number:08x}") == 202
    assert (house.requests, written) == (0, [])

    house.commit()

    assert house.requests == 200
    assert len(written) == 1
    outcomes = house.webs[0].api.services.outcomes
    found = outcomes.flag_ticks("production", "search", since=house.at - 5, until=house.at)
    ((part, totals),) = found[house.at].items()
    assert part == Part("on", "shop", "1.5.0")
    assert (totals.assignments, totals.latency, totals.metrics) == (
        *(800, {10: 200}),
        {"cart": (80, 20)},
    )
    assert outcomes.points("production", "search", house.at - 5, house.at)[1] == 40
    assert len(outcomes.sources("production")) == 20
    assert house.counted("accepted") == 20
    assert outcomes.evaluations() == {("production", "search", "on"): 800}


def test_what_comes_twice_counts_once_to_whichever_process(house: House) -> None:
    assert house.sdks[0].post(OUTCOMES, house.batch(1)).json == {"accepted": True}
    assert house.sdks[0].post(OUTCOMES, house.batch(1)).json == {"accepted": False}
    house.send(1, web=1)
    house.commit()
    house.send(1, web=0)
    house.send(1, web=1)
    house.commit()

    assert house.requests == 10
    assert (house.counted("accepted"), house.counted("repeated")) == (1, 4)


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("call", ["note", "count"])
def test_after_a_failure_the_commit_goes_on_where_it_was(
    house: House, monkeypatch: pytest.MonkeyPatch, call: str, done: bool
) -> None:
    house.send(1)
    house.webs[0].breaks(call, done=done, monkeypatch=monkeypatch)
    with pytest.raises(StoreUnavailable):
        house.webs[0].merging.look()

    assert house.send(2) == 503, "its sender keeps what would wait"
    house.commit()

    assert house.requests == 10
    assert house.send(2) == 202
    house.commit()
    assert house.requests == 20
    assert house.counted("failed") == 1


def test_a_process_that_is_lost_loses_what_waited_and_nothing_else(house: House) -> None:
    house.send(1)
    house.commit()
    house.send(2)
    house.webs[0].merging = Merging.__new__(Merging)  # killed; nobody commits

    house.webs[1].merging.look()
    house.send(3, web=1)
    house.webs[1].merging.look()

    assert house.requests == 20


def test_the_end_writes_what_waits(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house.webs[0].merging, "_every", 60.0)
    house.webs[0].merging.start()
    house.send(1)
    house.webs[0].merging.stop()

    assert house.requests == 10


def test_what_waits_is_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "MOST_ROWS", 10)
    for number in range(7):
        house.send(1, instance=f"{number:08x}")

    assert house.requests == 50, "five batches of two rows are written by who brought the fifth"
    assert len(house.webs[0].merging._waiting) == 2


def test_an_environment_that_is_gone_holds_up_no_other(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = house.webs[0].api.services.outcomes
    house.send(1)
    waiting = dict(house.webs[0].merging._waiting)
    (((_, source, seq), each),) = waiting.items()
    house.webs[0].merging._waiting = {("gone", source, seq): each, **waiting}

    house.commit()

    assert house.requests == 10
    assert outcomes.batches["accepted"] == 2


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "send", "commit", "lose note", "lose count"]),
        st.integers(0, 1),
        st.integers(0, 2),
    ),
    max_size=15,
)


RUNS = count()


@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_whatever_fails_no_batch_counts_twice(
    house: House, steps: list[tuple[str, int, int]]
) -> None:
    """And none is lost, unless its note's answer was while its sender went elsewhere."""
    run, before = next(RUNS), house.requests
    seqs = [0, 0, 0]
    sent = set()
    for act, web, source in steps:
        if act == "commit":
            house.webs[web].merging.look()
        elif act == "send":
            instance = f"{run:06x}{source:02x}"
            house.send(seqs[source], web=web, instance=instance)
            # Its answer may be lost, and the same goes to the other process.
            house.send(seqs[source], web=1 - web, instance=instance)
            sent.add((source, seqs[source]))
            seqs[source] += 1
        else:
            lost(house.webs[web], act.removeprefix("lose "))
    for _ in range(len(sent) + 1):
        house.commit()

    counted = house.requests - before
    assert counted <= 10 * len(sent)
    assert counted % 10 == 0
    if "lose note" not in [act for act, *_ in steps]:
        assert counted == 10 * len(sent)


def test_several_batches_of_one_source_are_noted_one_after_the_other(house: House) -> None:
    for seq in (1, 2, 3):
        house.send(seq)
    lost(house.webs[0], "note")
    lost(house.webs[0], "note")
    house.commit()

    assert house.requests == 30


def lost(web: Web, call: str) -> None:
    """A commit whose call is done and whose answer is lost; the next goes on from there."""
    with pytest.MonkeyPatch.context() as patch:
        web.breaks(call, done=True, monkeypatch=patch)
        with suppress(StoreUnavailable):
            web.merging.look()
    web.merging.look()
