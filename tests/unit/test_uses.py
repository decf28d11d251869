"""When tokens were last used: noted without asking anybody, written seldom, told by the hour."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from flagserver.domain.errors import StoreUnavailable
from flagserver.services.uses import KeepingUses, Uses

EIGHT = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


class Kept:
    """A store of uses, which counts how often it is written to."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self.writes = 0
        self.away = False

    def keep_uses(self, uses: Mapping[str, str]) -> None:
        if self.away:
            raise StoreUnavailable("The store is not answering.")
        self.writes += 1
        self.found |= {id: max(at, self.found.get(id, "")) for id, at in uses.items()}

    def uses(self) -> Mapping[str, str]:
        return dict(self.found)


def test_ten_thousand_uses_of_an_hour_are_one_write() -> None:
    store = Kept()
    uses = Uses(store)

    for minute in range(50):
        for second in range(200):
            uses.note(f"{second % 4}", EIGHT + timedelta(minutes=minute, milliseconds=second))
        uses.keep()

    assert store.writes == 1
    assert set(uses.last().values()) == {"2026-11-23T08:00:00.000Z"}
    uses.note("0", EIGHT + timedelta(hours=1))
    uses.keep()
    assert (store.writes, uses.last()["0"]) == (2, "2026-11-23T09:00:00.000Z")


def test_noting_asks_nobody_and_what_was_noted_waits_for_the_store() -> None:
    store = Kept()
    uses, store.away = Uses(store), True

    uses.note("a", EIGHT + timedelta(minutes=59, seconds=59))
    with pytest.raises(StoreUnavailable):
        uses.keep()
    store.away = False
    uses.keep()

    assert uses.last() == {"a": "2026-11-23T08:00:00.000Z"}


def test_what_is_left_is_written_at_the_end() -> None:
    store = Kept()
    uses = Uses(store)
    keeping = KeepingUses(uses)

    uses.note("a", EIGHT)
    keeping.stop()

    assert store.found == {"a": "2026-11-23T08:00:00.000Z"}
