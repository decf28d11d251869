"""From which network a request comes, as far as it can be believed. It is counted, never kept."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

MOST_HOPS = 20


def networks(text: str) -> tuple[Network, ...]:
    """Return networks as people list them, with commas. Raises ValueError."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def client_of(peer: str | None, forwarded: str, trusted: Sequence[Network]) -> str:
    """Return what a client is counted by: its address, of IPv6 the /64 that one subscriber has.

    peer: who opened the connection.  forwarded: `X-Forwarded-For`, to which each hop adds whom it
    heard, so it is read from its end and for as long as the one who wrote it is trusted; what
    stands before that anybody can have written.
    """
    found = _address(peer or "")
    hops = [_address(part) for part in forwarded.split(",")[-MOST_HOPS:]] if forwarded else []
    while found is not None and hops and any(found in network for network in trusted):
        before = hops.pop()
        if before is None:
            break
        found = before
    if isinstance(found, IPv6Address):
        return str(ip_network((found, 64), strict=False))
    return "unknown" if found is None else str(found)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address, with or without a port as some hops write it; None for anything else."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found
