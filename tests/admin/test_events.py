"""Doorbells: pages hear of what they show, and of nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from admin.doorbell import Busy, Doorbell, topics_of
from admin.views import events
from flagserver.domain.documents import Event

from .house import House, Visitor


def rung(key: str) -> Event:
    return Event("1-0", 1, {"production": (1, 2)}, (key,), (("states/production", key),))


@pytest.fixture
def doorbell(house: House) -> Doorbell:
    return Doorbell(house.services.snapshots, limit=2)


def test_a_line_hears_its_topics_only(doorbell: Doorbell) -> None:
    line = doorbell.open(["flag/a"])

    doorbell._hear(rung("b"))
    assert line.wait(0) == []

    doorbell._hear(rung("a"))
    assert line.wait(0) == ["flag/a"]
    assert line.wait(0) == []


def test_rings_that_nobody_heard_yet_are_one(doorbell: Doorbell) -> None:
    line = doorbell.open(["flag/a", "flags"])

    for _ in range(1000):
        doorbell._hear(rung("a"))

    assert line.wait(0) == ["flag/a", "flags"]


def test_a_ring_wakes_who_waits(doorbell: Doorbell) -> None:
    line = doorbell.open(["flags"])
    timer = threading.Timer(0.05, doorbell._hear, [rung("a")])
    timer.start()

    assert line.wait(10) == ["flags"]
    timer.join()


def test_lines_are_few_and_come_back(doorbell: Doorbell) -> None:
    first, _ = doorbell.open([]), doorbell.open([])
    with pytest.raises(Busy):
        doorbell.open([])

    doorbell.close(first)
    doorbell.close(first)

    assert doorbell.open([]) is not None


def test_a_change_of_very_many_flags_rings_the_list(house: House) -> None:
    many = tuple(f"f{n}" for n in range(1000))

    topics = topics_of(Event("1-0", 1, {}, many, ()))

    assert "flags" in topics
    assert len(topics) < 100


def messages(visitor: Visitor, path: str) -> tuple[Iterator[str], object]:
    answer = visitor.client.get(path, buffered=False)
    assert answer.status_code == 200
    assert answer.mimetype == "text/event-stream"
    return (chunk.decode() for chunk in answer.response), answer  # type: ignore[union-attr]


def test_the_stream_beats_and_rings(house: House, visitor: Visitor) -> None:
    house.flag("a")
    stream, answer = messages(visitor, "/ui/events?topic=flag/a")

    assert next(stream) == "event: beat\ndata: -\n\n"
    assert next(stream) == "event: outcomes\ndata: -\n\n"
    house.share("a", 5.0)
    house.services.snapshots.step(0)
    assert next(stream) == "event: changed\ndata: flag/a\n\n"
    answer.close()  # type: ignore[attr-defined]


def test_the_stream_says_when_the_store_goes_away(house: House, visitor: Visitor) -> None:
    stream, answer = messages(visitor, "/ui/events?topic=flags")
    next(stream)
    next(stream)

    house.store_away = True

    assert next(stream) == "event: changed\ndata: health\n\n"
    answer.close()  # type: ignore[attr-defined]


def test_a_page_that_goes_away_gives_its_line_back(house: House, visitor: Visitor) -> None:
    for _ in range(100):  # more than there are lines
        _, answer = messages(visitor, "/ui/events")
        answer.close()  # type: ignore[attr-defined]


def test_when_every_line_is_taken_pages_poll(
    house: House, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise Busy

    monkeypatch.setattr(Doorbell, "open", busy)

    answer = visitor.client.get("/ui/events")

    assert answer.status_code == 503
    assert answer.headers["Retry-After"]


def test_the_stream_ends_with_the_session(
    house: House, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "BEAT_SECONDS", 0.0)
    stream, answer = messages(visitor, "/ui/events")
    assert "beat" in next(stream)

    session = visitor.client.get_cookie("sortition_session")
    assert session is not None
    house.services.sessions.sign_out(session.value)

    assert len(list(stream)) <= 2
    answer.close()  # type: ignore[attr-defined]


def test_a_burst_of_changes_is_a_few_rings(house: House, visitor: Visitor) -> None:
    house.flag("a")
    stream, answer = messages(visitor, "/ui/events?topic=flag/a")
    next(stream), next(stream)

    for share in range(1, 20):
        house.share("a", share)
    house.services.snapshots.step(0)

    assert "changed" in next(stream)
    assert "changed" not in next(stream)
    answer.close()  # type: ignore[attr-defined]


def test_a_stream_ends_by_itself(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LIFE_SECONDS", 0.0)
    stream, answer = messages(visitor, "/ui/events")

    assert list(stream) == []
    answer.close()  # type: ignore[attr-defined]
