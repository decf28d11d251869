"""Lists of rollouts: newest first, a page at a time, and what is forgotten in the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flagserver.domain import documents
from flagserver.domain.commands import Reasoned
from flagserver.domain.errors import StaleRevision
from flagserver.services import ended
from tests.builders import ADMIN
from tests.engines import FLAG, Engine, only_flag

from .api import Api, api_of

ROLLOUTS = "/api/v1/rollouts"
DAY = 24 * 3600


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(directory=tmp_path)


@pytest.fixture
def api(engine: Engine) -> Api:
    return api_of(engine)


def live(engine: Engine, **told: Any) -> str:
    """Start a rollout of a flag alone, a second after the one before; return its id."""
    engine.clock.seconds += 1
    return engine.start(**only_flag(**told))


def over(engine: Engine, **told: Any) -> str:
    """Start one and end it before anybody was exposed; return its id."""
    id = live(engine, **told)
    engine.rollouts.roll_back(id, Reasoned(), ADMIN)
    return id


def listed(api: Api, query: str = "") -> list[str]:
    """Return the ids of a page."""
    found = api.admin.get(f"{ROLLOUTS}?{query}").json
    return [it["id"] for it in found["rollouts"]]


def pages(api: Api, query: str) -> list[list[str]]:
    """Return the ids of each page until there is no more."""
    found, before = [], ""
    while True:
        page = api.admin.get(f"{ROLLOUTS}?{query}{before}").json
        found.append([it["id"] for it in page["rollouts"]])
        if page["next"] is None:
            return found
        before = f"&before={page['next']}"


class TestPages:
    def test_are_newest_first_whatever_became_of_them(self, api: Api, engine: Engine) -> None:
        older = [over(engine), over(engine)]
        lives = live(engine)
        engine.create("another")
        newer = over(engine, targets=[{"kind": "flag", "name": "another"}])

        assert listed(api) == [newer, lives, older[1], older[0]]

    @pytest.mark.parametrize("limit", [1, 2, 3, 6, 7])
    def test_hold_each_once_however_large_they_are(
        self, api: Api, engine: Engine, limit: int
    ) -> None:
        ids = [over(engine) for _ in range(5)] + [live(engine)]

        found = pages(api, f"limit={limit}")

        assert [id for page in found for id in page] == ids[::-1]
        assert all(len(page) == limit for page in found[:-1])

    def test_go_on_where_the_last_one_ended_whatever_happens_meanwhile(
        self, api: Api, engine: Engine
    ) -> None:
        first, second = over(engine), over(engine)
        third = live(engine)
        page = api.admin.get(f"{ROLLOUTS}?limit=1").json

        engine.rollouts.roll_back(third, Reasoned(), ADMIN)
        over(engine)

        assert [it["id"] for it in page["rollouts"]] == [third]
        assert listed(api, f"before={page['next']}") == [second, first]

    def test_those_of_one_moment_are_told_apart(self, api: Api, engine: Engine) -> None:
        ids = []
        for _ in range(4):
            engine.clock.seconds -= 1
            ids.append(over(engine))

        assert [id for page in pages(api, "limit=1") for id in page] == sorted(ids, reverse=True)

    def test_of_one_that_is_forgotten_there_is_no_next(self, api: Api) -> None:
        refused = api.admin.get(f"{ROLLOUTS}?before=r-none")

        assert (refused.status, refused.json["parameter"]) == (422, "?before")
        assert "any more" in refused.json["detail"]

    @pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "state=broken", "q=1"])
    def test_what_cannot_be_asked_is_named(self, api: Api, query: str) -> None:
        refused = api.admin.get(f"{ROLLOUTS}?{query}")

        assert (refused.status, refused.json["parameter"]) == (
            422,
            f"?{query.split('=', maxsplit=1)[0]}",
        )


class TestAskedFor:
    def test_by_state_as_it_is_shown(self, api: Api, engine: Engine) -> None:
        back, lives = over(engine), live(engine)
        engine.run(10)

        assert listed(api, "state=running") == [lives]
        assert listed(api, "state=rolled_back") == [back]
        assert listed(api, "state=completed") == []
        assert listed(api, "live=1") == [lives]
        assert listed(api, "live=1&state=rolled_back") == []

        # Nobody looks any more, so it is in no known state.
        engine.clock.seconds += 61
        assert (listed(api, "state=running"), listed(api, "state=unknown")) == ([], [lives])

    def test_by_flag(self, api: Api, engine: Engine) -> None:
        engine.create("another")
        mine = over(engine)
        other = live(engine, targets=[{"kind": "flag", "name": "another"}])

        assert listed(api, f"flag={FLAG}") == [mine]
        assert listed(api, "flag=another") == [other]
        assert listed(api, "flag=no-such") == []

    def test_by_environment_and_no_more_than_a_token_may_see(
        self, api: Api, engine: Engine
    ) -> None:
        here = over(engine)
        there = over(engine, environment="staging", confirm_environment="staging")

        assert listed(api, "environment=staging") == [there]
        assert listed(api, "environment=production") == [here]
        mine = api.deploy("staging").get(ROLLOUTS).json["rollouts"]
        assert [it["id"] for it in mine] == [there]
        assert api.deploy("staging").get(f"{ROLLOUTS}?environment=production").status == 403


class TestMemory:
    def test_an_ended_one_is_read_once_for_all_lists_and_then_by_pages(
        self, api: Api, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(5):
            over(engine)
        read: list[int] = []
        documented = type(engine.store).read_some

        def counted(store: Any, collection: str, names: Any) -> Any:
            if collection == documents.ENDED_ROLLOUTS:
                read.append(len(names))
            return documented(store, collection, names)

        monkeypatch.setattr(type(engine.store), "read_some", counted)
        monkeypatch.setattr(ended, "AT_ONCE", 2)
        fresh = engine.another_process().rollouts

        fresh.page(limit=2)
        assert read == [2, 2, 1, 2]
        over(engine)
        read.clear()
        assert len(fresh.page(limit=2).views) == 2
        assert read == [1, 2]

    def test_one_is_forgotten_90_days_after_its_end(self, api: Api, engine: Engine) -> None:
        old = [over(engine), over(engine)]
        engine.clock.seconds += 90 * DAY - 2
        kept = over(engine)
        assert listed(api) == [kept, *old[::-1]]

        engine.clock.seconds += 10
        newest = over(engine)

        assert listed(api) == [newest, kept]
        assert api.admin.get(f"{ROLLOUTS}/{old[0]}").code == "not_found"
        [entry] = engine.store.history(target="rollouts", environment=None, before=None, limit=9)
        assert (entry["action"], entry["before"]) == ("rollout:forget", {"rollouts": old})
        # What the record said of it stays.
        assert engine.store.history(
            target=f"rollout/{old[0]}", environment=None, before=None, limit=9
        )

    def test_there_are_never_more_than_so_many(
        self, api: Api, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ended, "MOST", 3)
        ids = [over(engine) for _ in range(5)]

        assert listed(api) == ids[:-4:-1]

    def test_two_who_forget_at_once_do_it_once(self, api: Api, engine: Engine) -> None:
        old = over(engine)
        engine.clock.seconds += 91 * DAY
        both = [engine.another_process().rollouts for _ in range(2)]
        ids = [live(engine, environment=name, confirm_environment=name) for name in ("staging",)]
        store = engine.store
        forgotten = ended.Ended(store).to_be_forgotten(engine.clock.now().timestamp())
        assert [header.id for header in forgotten] == [old]

        both[0].roll_back(ids[0], Reasoned(), ADMIN)
        with pytest.raises(StaleRevision):
            store.commit(ended.forget(forgotten), at=engine.clock.now(), salt="0" * 32)

        newer = live(engine)
        assert both[1].roll_back(newer, Reasoned(), ADMIN).rollout.state.shown.terminal
        assert listed(api) == [newer, ids[0]]
