"""The list of flags in memory: never behind the store, and cheap while nothing changes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from flagserver.domain.commands import NewEnvironment, Reasoned
from flagserver.services.catalogue import Catalogue
from tests.builders import ADMIN, FakeEntropy, House


class Counting:
    """A store that counts what it is asked."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.asked = Counter[str]()

    def __getattr__(self, name: str) -> Any:
        self.asked[name] += 1
        return getattr(self._store, name)


@pytest.fixture
def house() -> House:
    house = House()
    for key in ("b", "a"):
        house.create(key)
    return house


def test_nothing_is_read_again_while_nothing_changes(house: House) -> None:
    store = Counting(house.store)
    catalogue = Catalogue(store)
    first = catalogue.views()
    store.asked.clear()

    assert [view.flag.key for view in first] == ["a", "b"]
    assert catalogue.views() == first
    assert store.asked == {"state": 1}


def test_what_another_process_changed_is_there_at_once(house: House) -> None:
    catalogue = Catalogue(store := Counting(house.store))
    catalogue.views()
    house.create("c", description="new")
    house.change("a", share=25.0)
    house.kill("b")
    store.asked.clear()

    views = {view.flag.key: view for view in catalogue.views()}

    assert list(views) == ["a", "b", "c"]
    assert views["a"].states["staging"].state.share == 250_000
    assert views["a"].states["staging"].revision == 1
    assert views["b"].states["staging"].state.killed
    assert store.asked["read_all"] == 0
    assert views == {key: house.flags.get(key) for key in views}


def test_archived_flags_stay_in_it_and_are_not_listed(house: House) -> None:
    house.flags.archive("a", Reasoned(), 1, ADMIN)

    assert [view.flag.key for view in house.flags.all()] == ["b"]
    assert [view.flag.key for view in house.flags.all(archived=True)] == ["a", "b"]


def test_a_new_environment_has_every_flag(house: House) -> None:
    catalogue = Catalogue(house.store)
    catalogue.views()

    house.services.environments.create(NewEnvironment(key="preview"), ADMIN)

    assert all("preview" in view.states for view in catalogue.views())


def test_a_feed_that_was_cut_is_not_believed(house: House) -> None:
    catalogue = Catalogue(store := Counting(house.store))
    catalogue.views()
    house.change("a", share=25.0)
    house.change("b", share=10.0)
    events = house.store.events

    def cut(after: str, wait_seconds: float) -> Any:
        return events(after, wait_seconds)[1:]

    store.events = cut  # type: ignore[attr-defined]  # in place of the store's
    shares = [view.states["staging"].state.share for view in catalogue.views()]

    assert shares == [250_000, 100_000]
    assert store.asked["read_all"] > 0


def test_another_store_is_read_anew(house: House) -> None:
    catalogue = Catalogue(house.store)
    catalogue.views()
    entropy = FakeEntropy()
    entropy.next = ["another store"]
    other = House(entropy=entropy)
    other.create("only")

    catalogue._store = other.store

    assert [view.flag.key for view in catalogue.views()] == ["only"]
