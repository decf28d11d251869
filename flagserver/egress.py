"""The one guarded client for every outward call but AWS's: webhooks, Slack, PagerDuty, Prometheus.

    Place           a host and port that the operator lets us call; outside, or inside our network
    GuardedEgress   `ports.Egress`: one call, over one connection, to a place on the list

Four checks, each of which would do against most tricks, and which do not rely on each other:

1. An address is read by one strict pattern, here, and put together anew for the library from its
   parts, so no two readers can disagree about its host. No user, no escapes, no odd spelling.
2. Its host and port must be on the list, letter by letter.
3. The host is looked up once, and every address found is judged; one that is not allowed refuses
   the call. A name that leads inside (rebinding, `127.0.0.1.nip.io`) is caught here.
4. The connection is opened to an address that was judged, not to the name: nobody looks up again.

No redirect is followed, no proxy or cookie of the environment is used, nothing is decompressed, and
no connection is kept: what we say to one host never reaches another.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from queue import Empty, SimpleQueue
from typing import Any, NoReturn, Self

import certifi
import httpcore

from flagserver.ports import Answer, NoAnswer, NotAllowed

CALL_SECONDS = 5.0
ANSWER_LIMIT = 1 << 20
BODY_LIMIT = 1 << 18
"""Octets that a call may send."""

URL_LIMIT = 4096
HTTPS_PORT = 443

HANGING_LOOKUPS = 8
"""So many look-ups may hang at once; the system's resolver cannot be told to give up."""

URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<target>(?:/[a-z0-9._~!$&'()*+,;=:@%/-]*)?(?:\?[a-z0-9._~!$&'()*+,;=:@%/?-]*)?)",
    re.ASCII | re.IGNORECASE,
)
LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
HEADER = re.compile(
    r"(?!(?:host|connection|content-length|transfer-encoding|upgrade):)"
    r"[a-z0-9-]+:[ -~]*",
    re.ASCII | re.IGNORECASE,
)
"""A header that a caller may bring; what frames the call is ours to say."""


IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int, float], Sequence[str]]
"""(host, port, seconds) -> addresses as text. Raises OSError, TimeoutError among them."""
Connect = Callable[[str, int, float], httpcore.NetworkStream]
"""(address, port, seconds) -> a connection. Raises httpcore's ConnectError, ConnectTimeout."""


# --- where to -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """A host and port that may be called. inside: it may lie in our own network, and may be spoken
    to without TLS; any other is reached by https alone, at a public address."""

    host: str
    port: int = HTTPS_PORT
    inside: bool = False

    @classmethod
    def read(cls, text: str, *, inside: bool = False) -> Self:
        """Return the place of `host` or `host:port`. Raises ValueError, saying what is wrong."""
        match = URL.fullmatch(f"https://{text}")
        if match is None or match["target"]:
            raise ValueError(f"{text!r} is not host or host:port")
        return cls(_host(match["host"]), _port(match["port"], HTTPS_PORT), inside)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == HTTPS_PORT else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class _Address:
    """A URL in its parts. target: path and query."""

    scheme: str
    place: Place
    target: str

    @classmethod
    def read(cls, url: str) -> Self:
        """Return the parts. Raises ValueError, without repeating the address."""
        match = URL.fullmatch(url) if len(url) <= URL_LIMIT else None
        if match is None:
            raise ValueError("is not http(s)://host[:port]/path in plain letters, and nothing else")
        scheme = match["scheme"].lower()
        port = _port(match["port"], HTTPS_PORT if scheme == "https" else 80)
        target = match["target"]
        return cls(scheme, Place(_host(match["host"]), port), "/" * (target[:1] != "/") + target)


def _host(text: str) -> str:
    """Return a host name or IP address in its one spelling. Raises ValueError."""
    host = text.lower()
    if host.startswith("["):
        return str(ipaddress.IPv6Address(host[1:-1]))
    labels = host.split(".")
    if NUMBER.fullmatch(labels[-1]):
        # `127.1`, `0x7f.0.0.1`, `017700000001`, `2130706433`: an address to the system's resolver.
        return str(ipaddress.IPv4Address(host))
    if not all(LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"{host!r} is not a host name")
    return host


def _port(text: str | None, default: int) -> int:
    port = int(text) if text else default
    if port > 65535:
        raise ValueError(f"{port} is not a port")
    return port


def read_places(text: str, *, inside: bool = False) -> tuple[Place, ...]:
    """Return the places of a list with commas or spaces between. Raises ValueError."""
    return tuple(Place.read(word, inside=inside) for word in text.replace(",", " ").split())


# --- where nothing may go -------------------------------------------------------------------------

_network = ipaddress.ip_network

NEVER: Mapping[ipaddress.IPv4Network | ipaddress.IPv6Network, str] = {
    _network("0.0.0.0/8"): "this host",
    _network("169.254.0.0/16"): "link-local, where clouds keep credentials",
    _network("100.100.100.200/32"): "a cloud's metadata",
    _network("168.63.129.16/32"): "a cloud's metadata",
    _network("192.0.0.192/32"): "a cloud's metadata",
    _network("224.0.0.0/4"): "multicast",
    _network("240.0.0.0/4"): "reserved",
    _network("::/96"): "IPv4 in disguise",
    _network("::ffff:0:0:0/96"): "IPv4 in disguise",
    _network("64:ff9b:1::/48"): "IPv4 in disguise",
    _network("2001::/32"): "IPv4 in disguise (Teredo)",
    _network("2002::/16"): "IPv4 in disguise (6to4)",
    _network("fd00:ec2::/32"): "a cloud's metadata",
    _network("fd20:ce::/32"): "a cloud's metadata",
    _network("fe80::/10"): "link-local",
    _network("fec0::/10"): "site-local",
    _network("ff00::/8"): "multicast",
}
"""Refused even to a place that may lie inside."""

INSIDE = tuple(
    _network(each)
    for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
"""Allowed only to a place that may lie inside, as loopback is."""

NAT64 = _network("64:ff9b::/96")


def objection(address: str, *, inside: bool) -> str | None:
    """Return why this IP address may not be connected to, or None. inside: as in `Place`."""
    try:
        judged = _unwrapped(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return "not an address"
    if judged.is_loopback:
        return None if inside else "this host, and not listed as inside"
    for network, what in NEVER.items():
        if judged in network:
            return what
    if any(judged in network for network in INSIDE):
        return None if inside else "inside, and not listed as such"
    # What is left of the registries' special ranges: documentation, benchmarks, not assigned.
    return None if judged.is_global else "not a public address"


def _unwrapped(address: IPAddress) -> IPAddress:
    """Return the IPv4 address that an IPv6 one stands for on the wire, where it does."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        # With DNS64, every public IPv4 address of an IPv6-only network is written so.
        if address in NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


# --- the call -------------------------------------------------------------------------------------


class GuardedEgress:
    """`ports.Egress` to these places and no others."""

    def __init__(
        self,
        places: Iterable[Place],
        *,
        resolve: Resolve | None = None,
        connect: Connect | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places = {(place.host, place.port): place for place in places}
        self._resolve = resolve or look_up
        self._connect = connect or dial
        self._monotonic = monotonic

    def check(self, url: str) -> None:
        """Raise NotAllowed unless this address may be called, as far as its text tells."""
        self._allowed(url)

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        seconds: float = CALL_SECONDS,
        limit: int = ANSWER_LIMIT,
    ) -> Answer:
        """Make one call and return its answer. Raises NotAllowed, NoAnswer."""
        address = self._allowed(url)
        headers = headers or {}
        if len(body) > BODY_LIMIT:
            raise NotAllowed(f"more than {BODY_LIMIT} octets for {address.place}")
        if not all(HEADER.fullmatch(f"{name}:{value}") for name, value in headers.items()):
            # Which one is not said: it can be a secret. The library would say and log it.
            raise NotAllowed(f"a header for {address.place} is not for a caller to bring")
        deadline = _Deadline(self._monotonic, seconds)
        found = self._judged(address.place, deadline)
        backend = _Pinned(found, deadline, self._connect)
        try:
            return _call(backend, self._trust, method, address, headers, body, limit, deadline)
        except httpcore.TimeoutException:
            _fail(address.place, f"no answer within {seconds:g} s")
        except httpcore.ProtocolError:
            _fail(address.place, "the connection ended within the answer, or it is not HTTP")
        except httpcore.NetworkError as error:
            _fail(address.place, str(error) or "no connection")

    def _allowed(self, url: str) -> _Address:
        try:
            address = _Address.read(url)
        except ValueError as error:
            raise NotAllowed(f"the address {error}") from None
        place = self._places.get((address.place.host, address.place.port))
        if place is None:
            raise NotAllowed(f"{address.place} is not on the list of hosts that may be called")
        if address.scheme != "https" and not place.inside:
            raise NotAllowed(f"{address.place} is outside: https only")
        return _Address(address.scheme, place, address.target)

    def _judged(self, place: Place, deadline: _Deadline) -> list[str]:
        """Return the addresses of a place, each one allowed. Raises NotAllowed, NoAnswer."""
        try:
            found = [str(ipaddress.ip_address(place.host))]
        except ValueError:
            found = self._looked_up(place, deadline)
        for each in found:
            why = objection(each, inside=place.inside)
            if why is not None:
                raise NotAllowed(f"{place} leads to {each}: {why}")
        return found

    def _looked_up(self, place: Place, deadline: _Deadline) -> list[str]:
        try:
            found = list(dict.fromkeys(self._resolve(place.host, place.port, deadline.left())))
        except TimeoutError:
            _fail(place, "its name was not found in time")
        except OSError as error:
            _fail(place, f"its name is not found ({error.strerror or type(error).__name__})")
        if not found:
            _fail(place, "its name leads nowhere")
        return found

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        """Whom we believe to be who they say; SSL_CERT_FILE names other authorities."""
        return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())


def _call(
    backend: _Pinned,
    trust: ssl.SSLContext,
    method: str,
    address: _Address,
    headers: Mapping[str, str],
    body: bytes,
    limit: int,
    deadline: _Deadline,
) -> Answer:
    """Make the call over one connection, which is closed afterwards. Raises httpcore's errors."""
    place = address.place
    url = httpcore.URL(
        scheme=address.scheme.encode(),
        host=place.host.encode(),
        port=place.port,
        target=address.target.encode(),
    )
    sent = {
        "Host": str(place) if address.scheme == "https" else _authority(place),
        "Accept-Encoding": "identity",
        "Connection": "close",
        "Content-Length": str(len(body)),
        "User-Agent": "sortition-server",
        **headers,
    }
    octets = [(name.encode(), value.encode()) for name, value in sent.items()]
    request = httpcore.Request(method, url, headers=octets, content=body)
    connection = httpcore.HTTPConnection(url.origin, ssl_context=trust, network_backend=backend)
    with closing(connection), closing(connection.handle_request(request)) as response:
        told = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in response.headers
        }
        if told.get("content-encoding", "identity").lower() != "identity":
            _fail(place, "the answer is compressed, which was not asked for")
        taken = bytearray()
        for chunk in response.iter_stream():
            taken += chunk
            if len(taken) > limit:
                _fail(place, f"the answer is larger than {limit} octets")
            if deadline.left() <= 0:
                raise httpcore.ReadTimeout
        return Answer(response.status, told, bytes(taken))


def _authority(place: Place) -> str:
    """Return host and port as `http` has them in `Host`."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    return host if place.port == 80 else f"{host}:{place.port}"


def _fail(place: Place, why: str) -> NoReturn:
    raise NoAnswer(f"{place}: {why}") from None


# --- the connection -------------------------------------------------------------------------------


class _Deadline:
    """When a call is over, whatever happens."""

    def __init__(self, monotonic: Callable[[], float], seconds: float) -> None:
        self._monotonic = monotonic
        self._at = monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, 0 at least."""
        return max(0.0, self._at - self._monotonic())

    def left_or(self, error: type[httpcore.TimeoutException]) -> float:
        """Return the seconds that are left, or raise."""
        left = self.left()
        if left <= 0:
            raise error
        return left


class _Pinned(httpcore.NetworkBackend):
    """Opens connections to addresses that were judged, in turn, whatever name it is given."""

    def __init__(self, addresses: Sequence[str], deadline: _Deadline, connect: Connect) -> None:
        self._addresses = addresses
        self._deadline = deadline
        self._connect = connect

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Return a connection to the first that answers. One that is silent has its part of the
        time only, so that the others have theirs."""
        waiting = len(self._addresses)
        for address in self._addresses:
            seconds = self._deadline.left_or(httpcore.ConnectTimeout) / waiting
            waiting -= 1
            try:
                return _Timed(self._connect(address, port, seconds), self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if not waiting:
                    raise
        raise httpcore.ConnectError("no address")


class _Timed(httpcore.NetworkStream):
    """A connection that is over at the deadline, however slowly the other side speaks."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left_or(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.left_or(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = self._deadline.left_or(httpcore.ConnectTimeout)
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def dial(address: str, port: int, seconds: float) -> httpcore.NetworkStream:
    """Return a connection to an IP address."""
    return httpcore.SyncBackend().connect_tcp(address, port, timeout=seconds, socket_options=[])


_lookups = threading.BoundedSemaphore(HANGING_LOOKUPS)


def look_up(host: str, port: int, seconds: float) -> Sequence[str]:
    """Return the addresses of a name, as the system finds them. Raises OSError, TimeoutError.

    The system's resolver knows no time-out of ours, so it is left behind in a thread when it hangs.
    """
    begun = time.monotonic()
    if not _lookups.acquire(timeout=seconds):
        raise TimeoutError
    found: SimpleQueue[list[str] | OSError] = SimpleQueue()

    def ask() -> None:
        try:
            told = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.put([str(each[4][0]) for each in told])
        except OSError as error:
            found.put(error)
        finally:
            _lookups.release()

    threading.Thread(target=ask, name="egress-lookup", daemon=True).start()
    try:
        answer = found.get(timeout=max(0.0, seconds - (time.monotonic() - begun)))
    except Empty:
        raise TimeoutError from None
    if isinstance(answer, OSError):
        raise answer
    return answer
