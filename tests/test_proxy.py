"""The proxy itself: each fault is what it says, and without one nothing is changed."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from tests.proxy import Proxy, nowhere
from tests.servers import wait_until


@contextmanager
def an_echo() -> Iterator[Any]:
    """A server that says everything back; `heard` collects what reached it."""

    class Echo:
        heard = b""
        port = 0

    echo = Echo()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while data := connection.recv(65_536):
                echo.heard += data
                connection.sendall(data)

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        echo.port = listener.getsockname()[1]
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield echo
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def a_caller(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as caller:
        yield caller


def receive(caller: socket.socket, octets: int) -> bytes:
    heard = b""
    while len(heard) < octets:
        data = caller.recv(65_536)
        if not data:
            break
        heard += data
    return heard


def exchange(caller: socket.socket, said: bytes) -> bytes:
    caller.sendall(said)
    return receive(caller, len(said))


@pytest.fixture
def echo() -> Iterator[Any]:
    with an_echo() as serving:
        yield serving


@pytest.fixture
def proxy(echo: Any) -> Iterator[Proxy]:
    with Proxy(echo.port) as made:
        yield made


def test_without_a_fault_everything_passes_as_it_is(proxy: Proxy):
    said = bytes(range(256)) * 2000

    with a_caller(proxy) as caller:
        threading.Thread(target=caller.sendall, args=(said,), daemon=True).start()

        assert receive(caller, len(said)) == said
    assert proxy.up.passed == proxy.down.passed == len(said)
    wait_until(lambda: proxy.connections == 0, "the connection to end")


def test_a_piece_can_take_its_time(proxy: Proxy):
    proxy.down.delay = 0.3

    with a_caller(proxy) as caller:
        began = time.monotonic()
        assert exchange(caller, b"slow") == b"slow"
        assert time.monotonic() - began >= 0.3


def test_octets_can_come_at_a_rate(proxy: Proxy):
    proxy.up.rate = 10_000

    with a_caller(proxy) as caller:
        began = time.monotonic()
        assert exchange(caller, bytes(5000)) == bytes(5000)
        assert 0.5 <= time.monotonic() - began < 2


def test_octets_can_come_one_by_one(proxy: Proxy):
    proxy.down.piece = 1

    with a_caller(proxy) as caller:
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert exchange(caller, b"dripping") == b"dripping"


def test_a_connection_can_end_by_reset(proxy: Proxy):
    with a_caller(proxy) as caller:
        assert exchange(caller, b"well") == b"well"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            caller.recv(1)


def test_a_connection_can_end_in_order(proxy: Proxy):
    with a_caller(proxy) as caller:
        assert exchange(caller, b"well") == b"well"
        proxy.cut()
        assert caller.recv(1) == b""


@pytest.mark.parametrize("by_reset", [True, False])
def test_a_connection_can_end_after_so_many_octets(proxy: Proxy, by_reset: bool):
    proxy.down.cut_after, proxy.down.by_reset = 5, by_reset

    for _ in range(2):
        with a_caller(proxy) as caller:
            caller.sendall(b"123456789")
            heard = b""
            with suppress(ConnectionResetError):
                while data := caller.recv(100):
                    heard += data
            # A reset may overtake what came before it.
            assert heard == b"12345" or (by_reset and heard == b"")


def test_a_black_hole_swallows_and_stays_mute_for_those_it_swallowed(proxy: Proxy, echo: Any):
    with a_caller(proxy) as caller:
        assert exchange(caller, b"before") == b"before"
        proxy.hole()
        caller.settimeout(0.2)
        with pytest.raises(TimeoutError):
            exchange(caller, b"lost")
        with a_caller(proxy) as newcomer:
            newcomer.settimeout(0.2)
            with pytest.raises(TimeoutError):
                exchange(newcomer, b"lost too")
        proxy.heal()
        with pytest.raises(TimeoutError):
            exchange(caller, b"still lost")
    with a_caller(proxy) as caller:
        assert exchange(caller, b"after") == b"after"
    assert echo.heard == b"beforeafter"


def test_what_is_held_back_arrives_later(proxy: Proxy):
    proxy.hold()

    with a_caller(proxy) as caller:
        caller.settimeout(0.2)
        with pytest.raises(TimeoutError):
            exchange(caller, b"patience")
        proxy.heal()
        caller.settimeout(5)
        assert receive(caller, 8) == b"patience"


def test_connecting_can_be_refused_and_taken_again_at_the_same_port(proxy: Proxy):
    with a_caller(proxy) as caller:
        assert exchange(caller, b"well") == b"well"
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            caller.recv(1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=5)

    proxy.listen()

    with a_caller(proxy) as caller:
        assert exchange(caller, b"again") == b"again"


def test_connecting_can_lead_nowhere():
    with nowhere() as port, pytest.raises(TimeoutError):
        socket.create_connection(("127.0.0.1", port), timeout=0.3)


def test_one_piece_can_be_dropped_and_the_next_is_not(proxy: Proxy):
    with a_caller(proxy) as caller:
        dropped = proxy.down.drop(b"second")
        assert exchange(caller, b"first") == b"first"
        caller.sendall(b"second")
        dropped.wait()
        assert exchange(caller, b"third and second") == b"third and second"


def test_one_piece_can_be_replaced(proxy: Proxy):
    with a_caller(proxy) as caller:
        proxy.up.replace(b"black", b"white")
        assert exchange(caller, b"black swan") == b"white swan"
        assert exchange(caller, b"black swan") == b"black swan"


def test_an_answer_can_be_lost_after_its_question_took_effect(proxy: Proxy, echo: Any):
    with a_caller(proxy) as caller:
        lost = proxy.lose_answer(b"SET")
        assert exchange(caller, b"GET a") == b"GET a"
        caller.sendall(b"SET a")
        lost.wait()
        assert echo.heard.endswith(b"SET a")
        caller.settimeout(0.2)
        with pytest.raises(TimeoutError):
            caller.recv(1)
    with a_caller(proxy) as caller:
        assert exchange(caller, b"SET b") == b"SET b"


def test_an_answer_can_be_lost_with_its_connection(proxy: Proxy):
    with a_caller(proxy) as caller:
        proxy.lose_answer(b"SET", reset=True)
        with pytest.raises(ConnectionResetError):
            exchange(caller, b"SET a")


def test_another_server_can_stand_in_its_place(proxy: Proxy):
    with an_echo() as other:
        proxy.upstream = other.port
        with a_caller(proxy) as caller:
            assert exchange(caller, b"who?") == b"who?"
        assert other.heard == b"who?"


def test_a_server_that_is_gone_ends_connections_at_once(proxy: Proxy):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy.upstream = listener.getsockname()[1]
    with suppress(ConnectionResetError), a_caller(proxy) as caller:
        assert caller.recv(1) == b""


def test_hundreds_of_connections_are_told_when_they_came(proxy: Proxy):
    callers = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(300)]
    wait_until(lambda: proxy.connections == 300, "all connections")

    proxy.cut()

    for caller in callers:
        with caller:
            caller.settimeout(5)
            assert caller.recv(1) == b""
    assert len(proxy.accepted) == 300
    assert proxy.accepted == sorted(proxy.accepted)
