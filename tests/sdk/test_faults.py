"""Whatever happens between a client and its server, every question is answered from what is known.

Through real sockets, and a proxy between the two that delays, cuts, resets and swallows.
"""

from __future__ import annotations

import gzip
import json
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Self

import pytest
import sortition
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sortition.sources import file, transport, worker
from sortition.testing import FakeServer, Trouble, snapshot_with

from tests.proxy import Proxy, nowhere
from tests.slices import a_slice

from .conftest import until

Start = Callable[..., sortition.Client]


class Asking:
    """A host that asks all the while. wrong: how often an answer was not one of those allowed."""

    def __init__(self, client: sortition.Client, key: str = "search") -> None:
        self.asked = self.wrong = 0
        self._client = client
        self._key = key
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            for i in range(100):
                evaluation = self._client.evaluate(self._key, f"request-{i}")
                self.asked += 1
                self.wrong += evaluation.error is not None
            self._stop.wait(0.001)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self.asked
        assert self.wrong == 0


@pytest.fixture
def proxy(server: FakeServer) -> Iterator[Proxy]:
    with Proxy(server.url) as between:
        yield between


def on(client: sortition.Client) -> bool:
    return client.is_enabled("search", "a")


# --- 8: the server is down ----------------------------------------------------------------------


def unreachable(proxy: Proxy, how: str) -> None:
    {"refused": proxy.refuse, "swallowed": proxy.hole, "reset": lambda: None}[how]()
    if how == "reset":
        proxy.down.cut_after = 1


@pytest.mark.parametrize("how", ["refused", "swallowed", "reset"])
def test_cold_without_a_server_the_bootstrap_answers_and_then_the_server(
    server: FakeServer, proxy: Proxy, start: Start, tmp_path: Path, how: str
):
    unreachable(proxy, how)
    file.write(tmp_path / "bootstrap", snapshot_with({"search": 100}))
    server.be("the-real-one", 1, {"search": 0})
    began = time.monotonic()
    client = start(url=proxy.url, bootstrap=tmp_path / "bootstrap")
    assert client.wait_ready(0)
    assert time.monotonic() - began < 0.3

    with Asking(client):
        assert on(client)
        until(lambda: client.status().errors)
        assert client.status().state == "stale"
        proxy.heal()
        proxy.down.cut_after = None
        until(lambda: not on(client))


@pytest.mark.parametrize("how", ["refused", "swallowed", "reset"])
def test_cold_without_anything_defaults_answer_and_waiting_ends_in_time(
    proxy: Proxy, start: Start, how: str
):
    unreachable(proxy, how)
    client = start(url=proxy.url)

    began = time.monotonic()
    assert client.wait_ready(0.2) is False
    assert time.monotonic() - began < 1
    assert client.is_enabled("search", "a", default=True) is True
    proxy.heal()
    assert client.wait_ready(10)


@pytest.mark.parametrize("how", ["refused", "swallowed", "reset"])
def test_a_server_that_goes_away_leaves_the_flags_as_they_were(
    server: FakeServer,
    proxy: Proxy,
    start: Start,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(worker, "SILENCE_SECONDS", 0.4)
    monkeypatch.setattr(sortition.client, "STALE_SECONDS", 0.5)
    server.be("testing", 1, {"search": 100})
    client = start(url=proxy.url)
    assert client.wait_ready(5)

    with Asking(client):
        unreachable(proxy, how)
        proxy.reset() if how == "reset" else None
        until(lambda: client.status().state == "stale" and client.status().errors)
        assert on(client)
        server.put({"search": 0})
        proxy.heal()
        until(lambda: not on(client))
        assert client.status().state == "ready"


def test_an_address_where_packets_are_lost_keeps_nobody_waiting(start: Start):
    with nowhere() as port:
        began = time.monotonic()
        client = start(url=f"http://127.0.0.1:{port}")
        assert time.monotonic() - began < 0.3
        until(lambda: client.status().errors.get("timed_out"))
        began = time.monotonic()
        client.close(0.2)
        assert time.monotonic() - began < 0.5


# --- 9: the stream, cut anywhere ----------------------------------------------------------------


def test_octet_by_octet_the_stream_says_the_same(server: FakeServer, proxy: Proxy, start: Start):
    proxy.down.piece = 1
    server.be("testing", 1, {"search": {"variants": {"on": "gr\u00fcn \U0001f3b2", "off": ""}}})
    client = start(url=proxy.url)
    until(lambda: client.value("search", "a") == "gr\u00fcn \U0001f3b2")

    server.put({"search": {"variants": {"on": "wei\u00df\r\n\u2028", "off": ""}}})
    until(lambda: client.value("search", "a") == "wei\u00df\r\n\u2028")
    assert set(server.asked) <= {"stream", "outcomes"}
    assert server.asked.count("stream") == 1


@pytest.mark.parametrize("after", a_slice(range(0, 900, 7), at_most=10))
def test_cut_after_any_octet_nothing_half_is_taken(
    server: FakeServer, proxy: Proxy, start: Start, after: int
):
    server.be("testing", 1, {"search": 100, "later": 0})
    proxy.down.cut_after = after
    client = start(url=proxy.url)
    until(lambda: len(proxy.accepted) >= 3 or client.wait_ready(0))
    # Either all of the snapshot came before the cut, or nothing of it is there.
    assert len(client._held.now.all) in (0, 2)
    proxy.heal()
    # One that lost octets in this very moment would stay mute until it is taken for dead.
    proxy.reset()

    assert client.wait_ready(5)
    with Asking(client):
        server.put({"search": 100, "later": 100})
        until(lambda: client.is_enabled("later", "a"))


SNAPSHOT = json.dumps(snapshot_with({"search": 100}, version=9).to_wire()).encode()


@pytest.mark.parametrize(
    "octets",
    [
        b"event: snapshot\rdata: " + SNAPSHOT + b"\r\r",
        b"event: snapshot\r\ndata: " + SNAPSHOT + b"\r\n\r\n",
        b": hello\n\nevent:snapshot\nid: 7\nretry: 10\ndata:" + SNAPSHOT + b"\n\n",
        b"event: snapshot\ndata: " + SNAPSHOT.replace(b", ", b",\ndata: ") + b"\n\n",
        b"event: news\ndata: \xff\n\nevent: snapshot\ndata: " + SNAPSHOT + b"\n\n",
    ],
)
def test_events_in_any_form_that_the_standard_allows(
    server: FakeServer, start: Start, octets: bytes
):
    client = start()
    assert client.wait_ready(5)

    server.send(octets)

    until(lambda: on(client))
    assert client.status().errors == {}


@pytest.mark.parametrize("times", [1, 2])
def test_changes_that_come_twice_or_in_the_wrong_order_lead_to_the_newest(
    server: FakeServer, start: Start, times: int
):
    client = start()
    assert client.wait_ready(5)
    flag = snapshot_with({"search": 100}).to_wire()["flags"]["search"]
    late = {"store": "testing", "epoch": 1, "from": 2, "to": 3, "flags": {}, "removed": []}
    soon = {**late, "from": 1, "to": 2, "flags": {"search": {**flag, "share": 0}}}
    with server._lock:
        server.snapshot = snapshot_with({"search": 100, "later": 100}, version=3)

    for change in (late, soon) * times:
        server.tell("change", change)

    until(lambda: client.is_enabled("later", "a"))
    assert on(client)
    assert client.status().version == "testing.1.3"


# --- 10: answers that are none ------------------------------------------------------------------


def bomb() -> bytes:
    """A small body that unpacks to more than is allowed."""
    return gzip.compress(b" " * (worker.SNAPSHOT_LIMIT + 1), 1)


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (Trouble(401), "status_401"),
        (Trouble(403, body=b"<html>Forbidden</html>"), "status_403"),
        (Trouble(404), "status_404"),
        (Trouble(429, retry_after=1), "status_429"),
        (Trouble(500), "status_500"),
        (Trouble(502, body=b"<html>Bad gateway</html>"), "status_502"),
        (Trouble(302, headers={"Location": "http://127.0.0.1:9/"}), "status_302"),
        (Trouble(204), "status_204"),
        (Trouble(200, body=b"<html>Sign in</html>"), "garbled"),
        (Trouble(200, body=b"{}", headers={"Content-Encoding": "gzip"}), "garbled"),
        (Trouble(200, body=gzip.compress(b"{}")[:-4], headers={"Content-Encoding": "gzip"}),
         "garbled"),
        (Trouble(200, body=bomb(), headers={"Content-Encoding": "gzip"}), "too_large"),
        (Trouble(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + b" " * 100),
         "unreachable"),
        (Trouble(raw=b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000), "garbled"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)  # fmt: skip
def test_an_answer_that_is_none_is_counted_and_never_the_end(
    server: FakeServer,
    start: Start,
    tmp_path: Path,
    trouble: Trouble,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(worker, "SNAPSHOT_LIMIT", 4 * 1024 * 1024)
    file.write(tmp_path / "known", snapshot_with({"search": 100}))
    server.troubles["snapshot"] = trouble
    client = start(streaming=False, bootstrap=tmp_path / "known")
    with Asking(client):
        until(lambda: client.status().errors.get(kind, 0) >= 2, seconds=20)
        assert set(client.status().errors) == {kind}
        assert on(client)
        server.troubles.clear()
        server.put({"search": 0})
        until(lambda: not on(client))


def test_a_redirect_is_not_followed_for_the_token_is_for_one_server(
    server: FakeServer, start: Start
):
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.settimeout(0.3)
        place = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/"
        moved = Trouble(307, headers={"Location": place})
        server.troubles = dict.fromkeys(("stream", "snapshot"), moved)
        client = start()
        until(lambda: client.status().errors.get("status_307", 0) >= 2)
        with pytest.raises(TimeoutError):
            elsewhere.accept()


NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def dated(seconds: float) -> str:
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 7 "}, 7),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "9" * 400}, worker.LONGEST_RETRY_AFTER),
        ({"retry-after": dated(90), "date": dated(0)}, 90),
        ({"retry-after": dated(-90), "date": dated(0)}, 0),
        ({"retry-after": dated(9000), "date": dated(0)}, worker.LONGEST_RETRY_AFTER),
        ({"retry-after": dated(90)}, None),
        ({"retry-after": "Tue, 99 Nov 2026 12:00:00 GMT", "date": dated(0)}, None),
        ({"retry-after": "2026-11-24T12:00:00Z", "date": dated(0)}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "\u0663"}, None),
        ({}, None),
    ],
)
def test_how_long_a_server_asks_for(headers: dict[str, str], seconds: float | None):
    assert worker._retry_after(headers) == seconds


def paused(at_work: worker.Worker, error: Exception, failures: int) -> list[float]:
    return [at_work._pause(error, failures) for _ in range(2000)]


def test_back_off_is_spread_over_all_of_its_bound(start: Start, monkeypatch: pytest.MonkeyPatch):
    for name, longest in (("LONGEST_BACKOFF", 30.0), ("REFUSED_BACKOFF", 300.0)):
        monkeypatch.setattr(worker, name, longest)
    monkeypatch.setattr(worker, "FIRST_BACKOFF", 0.5)
    random.seed(1)
    client = start()
    at_work = client._worker
    assert at_work is not None
    away, refused = transport.Unreachable(), worker.Refused(401, None)

    for error, bounds in (
        (away, {1: 0.5, 2: 1, 4: 4, 7: 30, 5000: 30}),
        (worker.Refused(503, None), {1: 0.5, 5000: 30}),
        (worker.Refused(429, None), {1: 0.5, 5000: 30}),
        (refused, {1: 0.5, 7: 32, 20: 300, 5000: 300}),
    ):
        for failures, bound in bounds.items():
            seconds = paused(at_work, error, failures)
            assert max(seconds) <= bound
            # Full jitter: even over the whole of it, so that a herd has no crest.
            tenths = [sum(int(10 * s / bound) == i for s in seconds) for i in range(10)]
            assert min(tenths) > 120, tenths
    asked = paused(at_work, worker.Refused(503, 20.0), 1)
    assert min(asked) >= 20
    assert 23 < max(asked) <= 24


# --- 11: poison ---------------------------------------------------------------------------------

GOOD = snapshot_with({"search": 0, "later": 100}, version=2).to_wire()


def poisoned(**changes: Any) -> dict[str, Any]:
    """A snapshot that is newer, and whose one flag is spoilt."""
    return {**GOOD, "flags": {**GOOD["flags"], "search": {**GOOD["flags"]["search"], **changes}}}


def deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


ON_ITSELF = [{"flag": "search", "variant": "on"}]


@pytest.mark.parametrize(
    "wire",
    [
        [],
        {},
        None,
        {**GOOD, "format": 2},
        {**GOOD, "flags": None},
        {**GOOD, "flags": {"search": None}},
        {**GOOD, "flags": {"": GOOD["flags"]["search"]}},
        {**GOOD, "histogram_edges": [2, 1]},
        {**GOOD, "flush_seconds": float("nan")},
        {**GOOD, "version": "2"},
        poisoned(share=None),
        poisoned(share=1_000_001),
        poisoned(share=True),
        poisoned(weights=[["on", 999_999]]),
        poisoned(weights=[["none", 1_000_000]]),
        poisoned(rest="none"),
        poisoned(variants={}),
        poisoned(variants={"on": True, "off": float("inf")}),
        poisoned(variants={"on": deep(30), "off": False}),
        poisoned(variants={"on": 2**70, "off": False}),
        poisoned(conditions=[{"attribute": "a", "operator": "like", "values": ["b"]}]),
        poisoned(conditions=[{"attribute": "a", "operator": "in", "values": []}]),
        poisoned(prerequisites=ON_ITSELF),
        poisoned(prerequisites=[{"flag": "nobody", "variant": "on"}]),
        poisoned(salt=""),
        poisoned(killed=None),
    ],
)
def test_poison_is_refused_whole_and_said(server: FakeServer, start: Start, wire: Any):
    server.be("testing", 1, {"search": 100})
    client = start()
    assert client.wait_ready(5)
    with Asking(client):
        server.tell("snapshot", wire)
        until(lambda: client.status().errors)

        assert set(client.status().errors) <= {"invalid_snapshot", "garbled"}
        assert on(client)
        assert client.status().version == "testing.1.1"
        # And the stream is followed again.
        until(lambda: server.followers == 1)
        server.put({"search": 100, "even-later": 100})
        until(lambda: client.is_enabled("even-later", "a"))


# --- 23: streams that are refused, or do not last -----------------------------------------------


def test_where_streams_are_full_the_snapshot_is_asked_for_and_costs_nothing_unchanged(
    server: FakeServer, start: Start
):
    server.troubles["stream"] = Trouble(503, retry_after=1)
    client = start(poll_seconds=1.0)
    assert client.wait_ready(5)
    client._worker._poll_seconds = 0.05  # type: ignore[union-attr]  # it is running
    until(lambda: server.asked.count("snapshot") >= 5)
    # A second has not passed: the stream was left in peace, as it was asked for.
    assert server.asked.count("stream") <= 2

    server.put({"search": 100})
    assert until(lambda: on(client)) < 1
    assert client.status().state == "ready"
    server.troubles.clear()
    until(lambda: server.followers == 1)


def test_where_streams_do_not_last_the_pauses_grow_and_the_flags_are_asked_for(
    server: FakeServer, start: Start, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(worker, "LONGEST_BACKOFF", 600.0)
    monkeypatch.setattr(worker, "FIRST_BACKOFF", 2.0)
    client = start(poll_seconds=1.0)
    assert client.wait_ready(5)
    at_work = client._worker
    assert at_work is not None
    at_work._poll_seconds = 0.05
    monkeypatch.setattr(random, "random", lambda: 0.5)
    for failures in (1, 2, 3):
        until(lambda: server.followers == 1)
        server.cut()
        until(lambda n=failures: at_work._stream_failures == n)  # type: ignore[misc]  # bound here
        if failures == 1:
            at_work._stream_from = time.monotonic()
        elif failures == 2:
            # Two seconds until the next try: meanwhile the snapshot is asked for.
            server.put({"search": 100})
            until(lambda: on(client))
            assert server.followers == 0
            at_work._stream_from = time.monotonic()


def test_a_stream_that_was_good_for_long_fails_for_the_first_time_again(
    server: FakeServer, start: Start, monkeypatch: pytest.MonkeyPatch
):
    client = start()
    at_work = client._worker
    assert at_work is not None
    for _ in range(3):
        until(lambda: server.followers == 1)
        failures = at_work._stream_failures
        server.cut()
        until(lambda n=failures: at_work._stream_failures == n + 1)  # type: ignore[misc]  # bound here
    until(lambda: server.followers == 1)
    monkeypatch.setattr(worker, "HEALTHY_SECONDS", 0.0)

    server.cut()

    until(lambda: at_work._stream_failures == 1)


# --- the end, in time ---------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["stream", "snapshot", "outcomes"])
def test_close_is_in_time_whatever_the_server_does_not_do(
    server: FakeServer, start: Start, door: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(worker, "CALL_SECONDS", 30.0)
    server.troubles[door] = Trouble(silent=True)
    client = start(streaming=door != "snapshot")
    client.request("a").end()
    until(lambda: door in server.asked)

    began = time.monotonic()
    client.close(0.3)
    assert time.monotonic() - began < 0.8


def test_close_is_in_time_while_octets_drip(
    server: FakeServer, proxy: Proxy, start: Start, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(worker, "CALL_SECONDS", 30.0)
    proxy.down.rate = 20
    proxy.down.piece = 1
    client = start(url=proxy.url)
    until(lambda: proxy.down.passed > 5)

    began = time.monotonic()
    assert client.close(1.0)
    assert time.monotonic() - began < 1.5


# --- TLS ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for the loopback, with its key, that nobody signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.fixture
def guarded(certificate: Path) -> Iterator[FakeServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with FakeServer({"search": 0}, tls=context) as serving:
        yield serving


def test_over_tls_all_is_the_same(
    guarded: FakeServer, start: Start, certificate: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(worker, "CALL_SECONDS", 5.0)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    client = start(url=guarded.url.replace("127.0.0.1", "localhost"))
    assert client.wait_ready(10)
    client.request("a").end()
    until(lambda: guarded.batches)

    guarded.put({"search": 100})

    assert until(lambda: on(client)) < 1
    guarded.cut()
    until(lambda: guarded.asked.count("stream") == 2)
    assert set(client.status().errors) <= {"unreachable"}
    assert client.close(5)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_certificate_that_nobody_signed_is_not_believed(
    guarded: FakeServer, start: Start, host: str
):
    client = start(url=guarded.url.replace("127.0.0.1", host))

    until(lambda: client.status().errors.get("unreachable", 0) >= 2)
    assert guarded.asked == []
    assert not client.wait_ready(0)
