"""From which network a request comes, and what is not believed of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagserver.domain.addresses import client_of, networks

PROXIES = networks("10.0.0.0/8, 2001:db8:1::/48")


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        # Nobody but our own proxies is believed.
        ("203.0.113.9", "198.51.100.7", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        # What stands before the last hop that is not ours anybody can have written.
        ("10.0.0.1", "192.0.2.1, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "192.0.2.1, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7:4711", "198.51.100.7"),
        ("10.0.0.1", "[2001:db8:9::1]:4711", "2001:db8:9::/64"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7, nonsense", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.2", "10.0.0.2"),
        # One subscriber has a whole /64.
        ("2001:db8:9::1", "", "2001:db8:9::/64"),
        ("2001:db8:9::ffff", "", "2001:db8:9::/64"),
        ("2001:db8:1::1", "198.51.100.7", "198.51.100.7"),
        ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("::ffff:203.0.113.9", "", "203.0.113.9"),
        (None, "198.51.100.7", "unknown"),
    ],
)
def test_it(peer: str | None, forwarded: str, found: str) -> None:
    assert client_of(peer, forwarded, PROXIES) == found


def test_without_proxies_nothing_that_is_written_counts() -> None:
    assert client_of("10.0.0.1", "198.51.100.7", ()) == "10.0.0.1"


@given(st.text(max_size=200))
def test_whatever_is_written_it_is_an_answer(forwarded: str) -> None:
    assert client_of("10.0.0.1", forwarded, PROXIES)


def test_whoever_is_not_ours_cannot_look_like_another() -> None:
    for forged in ("198.51.100.7", "10.0.0.1", "198.51.100.7, 10.0.0.1", ",,,"):
        assert client_of("10.0.0.1", f"{forged}, 203.0.113.9", PROXIES) == "203.0.113.9"


@pytest.mark.parametrize("text", ["10.0.0.1/8", "everybody", "10.0.0.0/33"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"network|host bits|mask"):
        networks(text)
