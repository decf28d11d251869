#!/usr/bin/env python3
"""Take the documents' pictures from the real pages: `.venv/bin/python docs/images/take.py`."""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Browser  # noqa: E402

from flagserver.domain.outcomes import Row  # noqa: E402
from tests.admin.browser import chromium, opened  # noqa: E402
from tests.admin.house import House  # noqa: E402
from tests.admin.rolling import RollingHouse, furnish_rollouts  # noqa: E402

HERE = Path(__file__).parent

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


def take_flag(browser: Browser) -> None:
    """Take the page of a flag."""
    house = furnished()
    report(house)
    with house.served() as address, opened(browser, house, address) as desk:
        page = desk.tab(width=1180, scale=2).live("/flags/new-search")
        page.wait_for_timeout(500)
        clip = {"x": 0, "y": 0, "width": 1180, "height": 700}
        page.screenshot(path=HERE / "flag.png", clip=clip)


def take_rollouts(browser: Browser, disk: Path) -> None:
    """Take the pages around rollouts, in both themes and on a phone."""
    house = RollingHouse(disk=disk)
    ids = furnish_rollouts(house)
    pages = [
        ("overview", "/", "light", 1180, 900),
        ("rollouts", "/rollouts", "light", 1180, 800),
        ("rollout", f"/rollouts/{ids['running']}", "light", 1180, 1330),
        ("rolled-back", f"/rollouts/{ids['back']}", "dark", 1180, 1420),
        ("phone", f"/rollouts/{ids['running']}", "dark", 390, 844),
    ]
    with house.served() as address, opened(browser, house, address) as desk:
        for name, path, theme, width, height in pages:
            page = desk.tab(theme=theme, width=width).live(path)
            page.wait_for_timeout(500)
            clip = {"x": 0, "y": 0, "width": width, "height": height}
            page.screenshot(path=HERE / f"{name}.png", clip=clip, full_page=True)


def main() -> None:
    """Take them."""
    with tempfile.TemporaryDirectory() as disk, chromium() as browser:
        take_flag(browser)
        take_rollouts(browser, Path(disk))


if __name__ == "__main__":
    main()
