#!/usr/bin/env python3
"""Take the pictures of the README from the real pages: `.venv/bin/python docs/images/take.py`."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from flagserver.domain.outcomes import Row  # noqa: E402
from tests.admin.browser import chromium, opened  # noqa: E402
from tests.admin.house import House  # noqa: E402

# What happened: how many minutes ago, where, and to which share.
RAMP = [(40, "development", 100), (31, "staging", 50), (22, "staging", 100)]
CANARY = [(17, 5, "start"), (7, 25, "errors and p95 flat for 10 minutes")]
RATE = 40


def furnished() -> House:
    """A house with one flag that has been ramped for a while."""
    house = House()
    house.clock.late = 55 * 60
    house.flag("new-search", description="New search ranking", owner="search")
    for minutes, environment, share in RAMP:
        house.clock.late = minutes * 60
        house.share("new-search", share, environment)
    for minutes, share, why in CANARY:
        house.clock.late = minutes * 60
        house.share("new-search", share, reason=why)
    house.clock.late = 0
    return house


def report(house: House) -> None:
    """Let a shop report the last five minutes."""
    chance, now = random.Random(7), int(time.time())  # noqa: S311 (synthetic traffic)
    for seq, at in enumerate(range(now - 300, now + 1, 5), start=1):
        drawn = RATE * 5
        on = sum(chance.random() < 0.25 for _ in range(drawn))
        rows = [_row(at, "", drawn, chance), _row(at, "on", on, chance)]
        rows.append(_row(at, "off", drawn - on, chance))
        about = {
            "service.name": "shop",
            "service.version": "1.4.0",
            "instance": "5b0b",
            "seen": at,
        }
        house.store.add("production", "5b0b:1", seq, rows, about)


def _row(at: int, variant: str, count: int, chance: random.Random) -> Row:
    subject = "flag/new-search" if variant else "service/shop"
    bucket = 58 if variant == "on" else 51
    latency: dict[int, int] = {}
    for _ in range(count):
        place = min(120, max(0, round(chance.gauss(bucket, 9))))
        latency[place] = latency.get(place, 0) + 1
    return Row(subject, variant, at, count, count, int(chance.random() < 0.2), latency)


def main() -> None:
    """Take them."""
    house = furnished()
    report(house)
    with (
        chromium() as browser,
        house.served() as address,
        opened(browser, house, address) as desk,
    ):
        tab = desk.tab(width=1180, scale=2)
        page = tab.live("/flags/new-search")
        page.wait_for_timeout(500)
        page.screenshot(
            path=Path(__file__).with_name("flag.png"),
            clip={"x": 0, "y": 0, "width": 1180, "height": 700},
        )


if __name__ == "__main__":
    main()
