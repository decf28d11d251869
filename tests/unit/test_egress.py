"""The one way out: what may be called, where it may lead, and that no call lasts or grows."""

from __future__ import annotations

import gzip
import logging
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from flagserver import egress
from flagserver.egress import GuardedEgress, Place, objection, read_places
from flagserver.ports import NoAnswer, NotAllowed
from tests.capturing import Capturing, Trouble
from tests.network import METADATA, NOTATIONS, PUBLIC, Network


@pytest.fixture
def server() -> Iterator[Capturing]:
    with Capturing() as running:
        yield running


def to(server: Capturing) -> GuardedEgress:
    """Return an egress that may call this server, as a name of ours."""
    place = Place("hooks.test", server.port, inside=True)
    return GuardedEgress([place], resolve=lambda *_: ["127.0.0.1"])


def url_of(server: Capturing, path: str = "/hook") -> str:
    return f"http://hooks.test:{server.port}{path}"


# --- the list -------------------------------------------------------------------------------------


def test_a_host_that_is_not_on_the_list_is_not_even_looked_up():
    network = Network(hooks_test=[PUBLIC])
    out = network.egress(Place("hooks.test"))

    with pytest.raises(NotAllowed, match=r"other\.test is not on the list"):
        out.send("POST", "https://other.test/x")

    assert network.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.test:8443/",
        "https://hooks.test.evil.test/",
        "https://evil.test/hooks.test",
        "https://xhooks.test/",
        "https://hooks.test@evil.test/",
        "https://evil.test#@hooks.test/",
        "https://hooks.test.:443/",
    ],
)
def test_a_place_on_the_list_is_that_host_and_that_port(url: str):
    with pytest.raises(NotAllowed):
        Network().egress(Place("hooks.test")).check(url)


def test_outside_is_reached_by_https_alone():
    out = Network().egress(Place("hooks.test"), Place("hooks.test", 80), Place("in.test", 80, True))

    out.check("https://hooks.test/x")
    out.check("http://in.test/x")
    with pytest.raises(NotAllowed, match="https only"):
        out.check("http://hooks.test/x")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.test/x",
        "//hooks.test/x",
        "ftp://hooks.test/",
        "file:///etc/passwd",
        "gopher://hooks.test/",
        "https:/hooks.test/",
        "https:///hooks.test/",
        "https://",
        "https://user@hooks.test/",
        "https://user:secret@hooks.test/",
        "https://:@hooks.test/",
        "https://hooks.test\\@evil.test/",
        "https://hooks.test\\.evil.test/",
        "https://hooks.test /",
        " https://hooks.test/",
        "https://hooks.test/\r\nX-Evil: 1",
        "https://hooks.test/\tx",
        "https://hooks.test/x#y",
        "https://hooks.test:0/",
        "https://hooks.test:99999/",
        "https://hooks.test:/",
        "https://hooks.test:+443/",
        "https://hooks%2etest/",
        "https://ｈooks.test/",
        "https://hooks。test/",
        "https://hooks.test/ü",
        "https://ⓗooks.test/",
        "https://-hooks.test/",
        "https://hooks..test/",
        "https://[::1%25eth0]/",
        "https://[fe80::1%eth0]/",
        "https://[v1.x]/",
        "https://hooks.test/" + "x" * 5000,
    ],
)
def test_an_address_of_an_odd_form_is_refused_and_not_repeated(url: str):
    with pytest.raises(NotAllowed) as refused:
        Network().egress(Place("hooks.test")).check(url)

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("host", NOTATIONS)
def test_no_notation_leads_inside(host: str):
    """Not even when the operator put it on the list of hosts outside, in that spelling."""
    network = Network()

    try:
        places = read_places(host)
    except ValueError:
        # No host of ours is spelt so, and the list does not take it.
        places = (Place("hooks.test"),)
    with pytest.raises(NotAllowed):
        network.egress(*places).send("POST", f"https://{host}/latest/meta-data/")

    assert network.asked == network.connected == []


@pytest.mark.parametrize("host", [each for each in NOTATIONS if not each.startswith("[")])
def test_nor_does_it_as_what_a_name_leads_to(host: str):
    """As `127.0.0.1.nip.io` does, and any name whose owner wills it."""
    network = Network(hooks_test=[host])

    with pytest.raises(NotAllowed, match=r"hooks\.test leads to"):
        network.egress(Place("hooks.test")).send("POST", "https://hooks.test/")

    assert network.connected == []


@pytest.mark.parametrize("address", [each[1:-1] for each in NOTATIONS if each.startswith("[")])
def test_nor_as_an_ipv6_address_that_a_name_leads_to(address: str):
    network = Network(hooks_test=[address, PUBLIC])

    with pytest.raises(NotAllowed):
        network.egress(Place("hooks.test")).send("POST", "https://hooks.test/")

    assert network.connected == []


def test_one_address_inside_spoils_a_name():
    network = Network(hooks_test=[PUBLIC, "10.0.0.8"])

    with pytest.raises(NotAllowed, match=r"10\.0\.0\.8: inside, and not listed"):
        network.egress(Place("hooks.test")).send("POST", "https://hooks.test/")


@pytest.mark.parametrize(
    "address", [PUBLIC, "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_called(address: str):
    network = Network(hooks_test=[address])

    with pytest.raises(NoAnswer, match="nobody there"):
        network.egress(Place("hooks.test")).send("POST", "https://hooks.test/")

    assert network.connected == [f"{address}:443"]


@pytest.mark.parametrize(
    "address",
    ["10.1.2.3", "172.31.0.1", "192.168.0.7", "100.64.3.2", "127.0.0.1", "::1", "fd12::1"],
)
def test_inside_is_reached_where_the_list_says_so(address: str):
    assert objection(address, inside=True) is None
    assert objection(address, inside=False) is not None


@pytest.mark.parametrize(
    "address",
    [
        *(METADATA, "169.254.170.2", "169.254.170.23", "100.100.100.200", "168.63.129.16"),
        *("fd00:ec2::254", "fd20:ce::254", "fe80::1%eth0", "::ffff:169.254.169.254"),
        *("64:ff9b::169.254.169.254", "224.0.0.1", "255.255.255.255", "::", "ff02::1"),
        "0.0.0.0",  # noqa: S104 (one of the ways to say this machine)
    ],
)
def test_a_clouds_metadata_is_reached_by_nobody(address: str):
    assert objection(address, inside=True) is not None


def test_a_name_is_looked_up_once_and_the_connection_pinned_to_what_was_judged():
    """Rebinding: the name leads to a public address when it is judged, and inside afterwards."""

    class Rebinding(Network):
        def resolve(self, host: str, port: int, seconds: float) -> Sequence[str]:
            self.asked.append(host)
            return [PUBLIC] if len(self.asked) == 1 else ["127.0.0.1"]

    network = Rebinding()
    out = network.egress(Place("hooks.test"))

    with pytest.raises(NoAnswer):
        out.send("POST", "https://hooks.test/")
    with pytest.raises(NotAllowed):
        out.send("POST", "https://hooks.test/")

    assert network.asked == ["hooks.test"] * 2
    assert network.connected == [f"{PUBLIC}:443"]


def test_the_next_address_is_tried_when_one_does_not_answer(server: Capturing):
    place = Place("hooks.test", server.port, inside=True)
    out = GuardedEgress([place], resolve=lambda *_: ["127.0.0.9", "127.0.0.1"])

    assert out.send("POST", url_of(server)).status == 200


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("", []),
        ("hooks.slack.com", [Place("hooks.slack.com")]),
        ("A.test, b.test:8443  c.test", [Place("a.test"), Place("b.test", 8443), Place("c.test")]),
        ("[FD12::0:1]:9090", [Place("fd12::1", 9090)]),
        ("10.0.0.1:9090", [Place("10.0.0.1", 9090)]),
        ("my_prometheus:9090", [Place("my_prometheus", 9090)]),
    ],
)
def test_the_list_is_hosts_and_ports(text: str, places: list[Place]):
    assert list(read_places(text)) == places


@pytest.mark.parametrize(
    "text",
    [
        *("https://hooks.test", "hooks.test/x", "*.test", "*", "a@b", "hooks.test:0", "x:65536"),
        *("127.1", "0x7f.1", "2130706433", "hooks.test.", "::1", "[::1%1]", "-", "ü.test", "0"),
    ],
)
def test_the_list_takes_nothing_else(text: str):
    with pytest.raises(ValueError, match=r"not|port|Only|Expected|permitted|At least"):
        read_places(text)


# --- the call -------------------------------------------------------------------------------------


def test_a_call_arrives_as_it_was_sent(server: Capturing):
    answer = to(server).send(
        "POST", url_of(server, "/a/b?c=d%20e"), headers={"X-One": "1"}, body=b'{"x": 1}'
    )

    assert (answer.status, answer.body) == (200, b"ok")
    [request] = server.requests
    assert (request.method, request.path, request.body) == ("POST", "/a/b?c=d%20e", b'{"x": 1}')
    assert request.headers["host"] == f"hooks.test:{server.port}"
    assert request.headers["x-one"] == "1"
    assert "cookie" not in request.headers


def test_a_path_is_not_needed(server: Capturing):
    to(server).send("GET", url_of(server, ""))
    to(server).send("GET", url_of(server, "?a=b"))

    assert [request.path for request in server.requests] == ["/", "/?a=b"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_is_not_followed(server: Capturing, status: int):
    with Capturing() as other:
        server.troubles.append(Trouble(status, headers={"Location": other.url}))

        answer = to(server).send("POST", url_of(server), headers={"Authorization": "secret"})

        assert answer.status == status
        assert other.requests == []


def test_no_proxy_of_the_environment_is_used(server: Capturing, monkeypatch: pytest.MonkeyPatch):
    with Capturing() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)

        to(server).send("POST", url_of(server))

        assert proxy.requests == []


def test_a_cookie_is_not_kept(server: Capturing):
    out = to(server)
    server.troubles.append(Trouble(200, headers={"Set-Cookie": "a=b"}))

    out.send("POST", url_of(server))
    out.send("POST", url_of(server))

    assert "cookie" not in server.requests[1].headers


def test_whoever_hangs_is_given_up(server: Capturing):
    server.troubles.append(Trouble(hang=True))

    begun = time.monotonic()
    with pytest.raises(NoAnswer, match=r"no answer within 0\.3 s"):
        to(server).send("POST", url_of(server), seconds=0.3)

    assert 0.25 < time.monotonic() - begun < 3


def test_whoever_speaks_slowly_is_given_up_as_well(server: Capturing):
    """Each octet comes in time, and all of them never do."""
    server.troubles.append(Trouble(drip=0.02))

    begun = time.monotonic()
    with pytest.raises(NoAnswer, match="no answer within"):
        to(server).send("POST", url_of(server), seconds=0.4)

    assert time.monotonic() - begun < 3


def test_an_answer_that_is_cut_is_no_answer(server: Capturing):
    server.troubles.append(Trouble(cut=10))

    with pytest.raises(NoAnswer, match="ended within the answer"):
        to(server).send("POST", url_of(server))


@pytest.mark.parametrize("raw", [b"", b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200\x00\r\n\r\n"])
def test_what_is_not_http_is_no_answer(server: Capturing, raw: bytes):
    server.troubles.append(Trouble(raw=raw))

    with pytest.raises(NoAnswer):
        to(server).send("POST", url_of(server))


def test_an_answer_is_not_taken_beyond_its_limit(server: Capturing):
    server.troubles.append(Trouble(body=b"x" * 1000))
    assert len(to(server).send("GET", url_of(server), limit=1000).body) == 1000

    server.troubles.append(Trouble(body=b"x" * 1001))
    with pytest.raises(NoAnswer, match="larger than 1000"):
        to(server).send("GET", url_of(server), limit=1000)


def test_headers_without_end_are_no_answer(server: Capturing):
    server.troubles.append(Trouble(headers={f"X-{number}": "x" * 1000 for number in range(200)}))

    with pytest.raises(NoAnswer):
        to(server).send("GET", url_of(server))


def test_a_compressed_answer_is_not_unpacked(server: Capturing):
    bomb = gzip.compress(b"\0" * 1_000_000)
    server.troubles.append(Trouble(body=bomb, headers={"Content-Encoding": "gzip"}))

    with pytest.raises(NoAnswer, match="compressed"):
        to(server).send("GET", url_of(server))


def test_nobody_listens(server: Capturing):
    place = Place("hooks.test", 1, inside=True)
    out = GuardedEgress([place], resolve=lambda *_: ["127.0.0.1"])

    with pytest.raises(NoAnswer, match=r"hooks\.test:1: .*refused"):
        out.send("POST", "http://hooks.test:1/")


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b", "gehe\u00efm", "\u2603"])
def test_a_header_cannot_bring_another(
    server: Capturing, value: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)

    with pytest.raises(NotAllowed, match="a header") as refused:
        to(server).send("POST", url_of(server), headers={"Authorization": f"secret {value}"})

    assert server.requests == []
    assert "secret" not in str(refused.value) + repr(refused.value.__cause__) + caplog.text


def test_nobody_learns_the_path_of_an_address(server: Capturing, caplog: pytest.LogCaptureFixture):
    """A Slack webhook's address is its secret."""
    caplog.set_level(logging.DEBUG)
    server.troubles += [Trouble(hang=True), Trouble(cut=5), Trouble(raw=b"?"), Trouble(500)]
    told = []

    for _ in range(4):
        try:
            told.append(repr(to(server).send("POST", url_of(server, "/T0/secret"), seconds=0.2)))
        except NoAnswer as error:
            told.append(f"{error} {error.__cause__} {error.__suppress_context__}")

    assert "secret" not in " ".join(told) + caplog.text


@pytest.mark.parametrize(
    "name", ["Host", "host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "a b"]
)
def test_what_frames_a_call_is_not_for_the_caller_to_say(server: Capturing, name: str):
    with pytest.raises(NotAllowed, match="a header"):
        to(server).send("POST", url_of(server), headers={name: "x"})

    assert server.requests == []


def test_a_server_is_who_its_certificate_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tls, authority = identity("hooks.test", tmp_path)
    with Capturing(tls) as server:
        places = [Place(name, server.port, inside=True) for name in ("hooks.test", "other.test")]

        def ask(name: str) -> int:
            out = GuardedEgress(places, resolve=lambda *_: ["127.0.0.1"])
            return out.send("POST", f"https://{name}:{server.port}/").status

        with pytest.raises(NoAnswer, match="certificate verify failed"):
            ask("hooks.test")
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        assert ask("hooks.test") == 200
        with pytest.raises(NoAnswer, match="certificate verify failed"):
            ask("other.test")

        assert [request.headers["host"] for request in server.requests] == [
            f"hooks.test:{server.port}"
        ]


def identity(name: str, directory: Path) -> tuple[ssl.SSLContext, Path]:
    """Return what a server of this name shows, and the file with who vouches for it: itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = directory / "certificate.pem", directory / "key.pem"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    return context, certificate


# --- looking names up -----------------------------------------------------------------------------


def test_names_of_this_machine_are_found():
    assert {"127.0.0.1", "::1"} & set(egress.look_up("localhost", 443, 5.0))


def test_a_name_that_nobody_has_is_no_answer():
    out = GuardedEgress([Place("no-such-host.invalid")])

    with pytest.raises(NoAnswer, match="name is not found"):
        out.send("GET", "https://no-such-host.invalid/")


def test_a_resolver_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch):
    released = threading.Event()

    def hanging(*_: object, **__: object) -> list[object]:
        released.wait(30)
        return []

    monkeypatch.setattr("socket.getaddrinfo", hanging)
    out = GuardedEgress([Place("hooks.test")])

    try:
        for _ in range(egress.HANGING_LOOKUPS + 2):
            with pytest.raises(NoAnswer, match="not found in time"):
                out.send("GET", "https://hooks.test/", seconds=0.05)
        hanging_threads = [t for t in threading.enumerate() if t.name == "egress-lookup"]
        assert len(hanging_threads) <= egress.HANGING_LOOKUPS
    finally:
        released.set()
        for thread in threading.enumerate():
            if thread.name == "egress-lookup":
                thread.join(5)
