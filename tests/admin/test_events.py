"""Doorbells: pages hear of what they show, and of nothing else."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from admin import doorbell as bells
from admin.doorbell import Doorbell, Line, topics_of
from flagserver.domain.documents import Event

from .house import House, Visitor


def rung(key: str) -> Event:
    return Event("1-0", 1, {"production": (1, 2)}, (key,), (("states/production", key),))


class Heard:
    """What a doorbell said."""

    def __init__(self) -> None:
        self.said: queue.Queue[tuple[str, bytes]] = queue.Queue()

    def __call__(self, topic: str, message: bytes) -> None:
        self.said.put((topic, message))

    def ring(self) -> str:
        """Return the topic of the next ring."""
        while True:
            topic, message = self.said.get(timeout=10)
            if b"event: changed" in message:
                return topic


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def doorbell(house: House, heard: Heard) -> Doorbell:
    return Doorbell(house.services, heard)


@contextmanager
def opened(doorbell: Doorbell, *wanted: str) -> Iterator[Line]:
    line = Line(wanted, "session")
    doorbell.open(line)
    try:
        yield line
    finally:
        doorbell.close(line)


def test_a_line_hears_of_its_topics_and_what_every_page_hears() -> None:
    assert Line(["flag/a"], "session").topics == {"ui", "ui/flag/a"}


def test_a_change_rings_for_what_changed(doorbell: Doorbell, heard: Heard) -> None:
    with opened(doorbell, "flag/a"):
        doorbell._hear(rung("a"))

        assert [heard.ring() for _ in range(3)] == ["ui/flag/a", "ui/flags", "ui/record"]


def test_rings_of_a_burst_are_one(doorbell: Doorbell, heard: Heard) -> None:
    with opened(doorbell, "flag/a"):
        for _ in range(1000):
            doorbell._hear(rung("a"))
        doorbell._hear(rung("last"))
        rings = iter(heard.ring, "ui/flag/last")

        assert len(list(rings)) < 100


def test_a_doorbell_that_nobody_listens_to_does_nothing(doorbell: Doorbell, heard: Heard) -> None:
    with opened(doorbell):
        heard.said.get(timeout=10)
        thread = doorbell._thread
    assert thread is not None
    thread.join(10)

    doorbell._hear(rung("a"))

    assert (doorbell._thread, doorbell._pending) == (None, set())
    with opened(doorbell):
        assert heard.said.get(timeout=10)


def test_a_change_of_very_many_flags_rings_the_list() -> None:
    many = tuple(f"f{n}" for n in range(1000))

    topics = topics_of(Event("1-0", 1, {}, many, ()))

    assert "flags" in topics
    assert len(topics) < 100


# Over HTTP


class Page:
    """An open page's stream."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.iter_lines()

    def message(self) -> tuple[str, str]:
        """Return event and data of the next message. Raises EOFError at the end."""
        fields: dict[str, str] = {}
        for line in self._lines:
            if line == "" and "data" in fields:
                return fields["event"], fields["data"]
            name, _, text = line.partition(": ")
            fields[name] = text
        raise EOFError

    def rest(self) -> list[tuple[str, str]]:
        """Return every message until the end."""
        found = []
        with suppress(EOFError):
            while True:
                found.append(self.message())
        return found

    def change(self) -> str:
        """Return what changed next."""
        while (message := self.message())[0] != "changed":
            pass
        return message[1]


@contextmanager
def page(address: str, visitor: Visitor, path: str = "/ui/events") -> Iterator[Page]:
    cookie = visitor.client.get_cookie("sortition_session")
    assert cookie is not None
    cookies = {"Cookie": f"sortition_session={cookie.value}"}
    with httpx.stream("GET", f"{address}{path}", headers=cookies, timeout=10) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert response.headers["X-Accel-Buffering"] == "no"
        yield Page(response)


def test_the_stream_beats_and_rings(house: House, visitor: Visitor) -> None:
    house.flag("a")
    with house.served() as address, page(address, visitor, "/ui/events?topic=flag/a") as stream:
        assert stream.message() == ("beat", "-")
        assert stream.message() == ("outcomes", "-")
        house.flag("b")
        house.share("b", 5.0)
        house.share("a", 5.0)

        assert stream.change() == "flag/a"


def test_the_stream_says_when_the_store_goes_away(house: House, visitor: Visitor) -> None:
    with house.served() as address, page(address, visitor) as stream:
        stream.message()
        house.store_away = True

        assert stream.change() == "health"


def test_a_page_that_goes_away_gives_its_line_back(house: House, visitor: Visitor) -> None:
    with house.served() as address:
        for _ in range(20):
            with page(address, visitor) as stream:
                stream.message()

    assert house.hub.counts.opened == 20
    assert house.hub.counts.open == 0


def test_when_every_line_is_taken_pages_poll(
    house: House, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Doorbell, "check_room", busy)

    answer = visitor.client.get("/ui/events")

    assert answer.status_code == 503
    assert answer.headers["Retry-After"]


def busy(_doorbell: Doorbell) -> None:
    raise bells.Busy


def test_the_stream_ends_with_the_session(
    house: House, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bells, "BEAT_SECONDS", 0.05)
    session = visitor.client.get_cookie("sortition_session")
    assert session is not None
    with house.served() as address, page(address, visitor) as stream:
        stream.message()
        house.services.sessions.sign_out(session.value)

        assert stream.rest() is not None


def test_the_stream_outlives_a_store_that_cannot_say_whose_session_it_is(
    house: House, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bells, "BEAT_SECONDS", 0.05)
    with house.served() as address, page(address, visitor) as stream:
        stream.message()
        house.store_away = True

        assert stream.change() == "health"
        assert [stream.message()[0] for _ in range(20)].count("beat") > 5


def test_a_stream_ends_by_itself(
    house: House, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("admin.views.events.LIFE_SECONDS", 0.0)
    with house.served() as address, page(address, visitor) as stream:
        assert stream.rest() == [("beat", "-"), ("outcomes", "-"), ("beat", "-"), ("outcomes", "-")]


def test_nobody_listens_without_a_session(house: House) -> None:
    with house.served() as address:
        assert httpx.get(f"{address}/ui/events").status_code == 401
