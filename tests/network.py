"""A network that a test makes up, and every way to write an address that nothing may call."""

from __future__ import annotations

from collections.abc import Sequence

import httpcore

from flagserver.egress import GuardedEgress, Place

PUBLIC = "93.184.215.14"
METADATA = "169.254.169.254"


class Network:
    """A network that a test makes up: what names lead to, and who was connected to."""

    def __init__(self, **names: Sequence[str]) -> None:
        self.names = {name.replace("_", "."): list(found) for name, found in names.items()}
        self.asked: list[str] = []
        self.connected: list[str] = []

    def resolve(self, host: str, port: int, seconds: float) -> Sequence[str]:
        self.asked.append(host)
        return self.names[host]

    def connect(self, address: str, port: int, seconds: float) -> httpcore.NetworkStream:
        self.connected.append(f"{address}:{port}")
        raise httpcore.ConnectError("nobody there")

    def egress(self, *places: Place) -> GuardedEgress:
        return GuardedEgress(places, resolve=self.resolve, connect=self.connect)


# Each of these is 127.0.0.1, 169.254.169.254, 10.0.0.1 or the like to some program.
NOTATIONS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.0.0.1.",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "0177.0.0.01",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "0x7F.0x0.0x0.0x1",
    "127.0.0.0x1",
    "00000127.0.0.1",
    "0",
    "0.0.0.0",  # noqa: S104 (one of the ways to say this machine)
    "127.127.127.127",
    "2852039166",
    "0xa9fea9fe",
    "0xA9.0xFE.0xA9.0xFE",
    "0251.0376.0251.0376",
    "169.254.43518",
    METADATA,
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "10.0.0.1",
    "012.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "3232235777",
    "100.64.0.1",
    "198.18.0.1",
    "192.0.2.1",
    "224.0.0.1",
    "255.255.255.255",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "[::127.0.0.1]",
    "[::7f00:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:7f00:0001]",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:a9fe:a9fe::1]",
    "[fe80::1]",
    "[fec0::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fd00:ec2::23]",
    "[fd20:ce::254]",
    "[ff02::1]",
    "[2001:db8::1]",
    "[fd00:0ec2:0:0:0:0:0:0254]",
    "[::ffff:10.0.0.1]",
    "[::ffff:7f00:0001]",
    "169.254.169.254.",
    "0x7f000001.",
    "0300.0250.0001.0001",
    "4294967295",
    "\uff11\uff12\uff17.0.0.1",
    "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460",
    "127\u30020\u30020\u30021",
    "127\uff0e0\uff0e0\uff0e1",
    "\u0661\u0662\u0667.0.0.1",
]
