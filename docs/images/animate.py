#!/usr/bin/env python3
"""Film a rollout of the demo that takes itself back: `.venv/bin/python docs/images/animate.py`.

Nothing of it is staged: the demo's own first rollout, and `flagserver demo break` in its midst.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Page  # noqa: E402

from tests.admin.browser import chromium  # noqa: E402

FLAGSERVER = str(Path(sys.executable).parent / "flagserver")
PORT, SHOP_PORT = "8470", "8471"
FILM = Path(__file__).with_name("rollback.png")
SIZE = {"width": 900, "height": 430}
MOST_OCTETS = 1_000_000

FRAME_SECONDS = 3.0
SHOWN_SECONDS = 1.0
"""Shown three times as fast as it is."""

LAST_SECONDS = 5.0
PATIENCE_SECONDS = 120.0

SIGNATURE = b"\x89PNG\r\n\x1a\n"


@contextmanager
def demo(folder: str) -> Iterator[subprocess.Popen[str]]:
    """Run a demo of its own in a folder."""
    environment = {
        **os.environ,
        "SORTITION_DATA_DIR": folder,
        "SORTITION_PORT": PORT,
        "PYTHONUNBUFFERED": "1",
    }
    words = [FLAGSERVER, "demo", "--no-open", "--shop-port", SHOP_PORT]
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def said(process: subprocess.Popen[str], pattern: str) -> str:
    """Return what a line of the demo says, once it says so."""
    for line in process.stdout or ():
        found = re.search(pattern, line)
        if found:
            return found[1]
    raise SystemExit("The demo ended before it said what was waited for.")


def film(page: Page, folder: str) -> list[tuple[bytes, float]]:
    """Watch the rollout until it is taken back; return frames, and for how long each is shown."""
    frames: list[tuple[bytes, float]] = []
    broken, end = False, time.monotonic() + PATIENCE_SECONDS
    sentence = page.locator("#rollout .sentence")
    while time.monotonic() < end:
        began = time.monotonic()
        frames.append((page.screenshot(), SHOWN_SECONDS))
        if not broken and "step 2" in page.locator("#rollout .figure").inner_text():
            environment = {**os.environ, "SORTITION_DATA_DIR": folder, "SORTITION_PORT": PORT}
            words = [FLAGSERVER, "demo", "break"]
            subprocess.Popen(words, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL)
            broken = True
        if "Rolled back at" in sentence.inner_text():
            page.wait_for_timeout(1_500)
            return [*frames, (page.screenshot(), LAST_SECONDS)]
        page.wait_for_timeout(max(0.0, 1000 * (FRAME_SECONDS - time.monotonic() + began)))
    raise SystemExit(f"The rollout was not taken back: {sentence.inner_text()}")


def fitting(frames: Sequence[tuple[bytes, float]]) -> bytes:
    """Return frames as a film that is small enough: every third of them is left out, and what comes
    before it is shown for longer, until it is."""
    film = animated(frames)
    while len(film) > MOST_OCTETS:
        kept: list[tuple[bytes, float]] = []
        for i, (png, seconds) in enumerate(frames):
            if i % 3 == 1 and i + 1 < len(frames):
                kept[-1] = (kept[-1][0], kept[-1][1] + seconds)
            else:
                kept.append((png, seconds))
        frames, film = kept, animated(kept)
    return film


def animated(frames: Sequence[tuple[bytes, float]]) -> bytes:
    """Return frames, PNG files of one size and kind, as one animated PNG that is shown for ever."""
    first = list(_chunks(frames[0][0]))
    header = next(body for kind, body in first if kind == b"IHDR")
    width, height = struct.unpack(">II", header[:8])
    made = [SIGNATURE, _chunk(b"IHDR", header), _chunk(b"acTL", struct.pack(">II", len(frames), 0))]
    number = 0
    for i, (png, seconds) in enumerate(frames):
        delay = round(1000 * seconds)
        shown = struct.pack(">IIIIIHHBB", number, width, height, 0, 0, delay, 1000, 0, 0)
        made.append(_chunk(b"fcTL", shown))
        number += 1
        data = b"".join(body for kind, body in _chunks(png) if kind == b"IDAT")
        data = zlib.compress(zlib.decompress(data), 9)
        if i == 0:
            made.append(_chunk(b"IDAT", data))
        else:
            made.append(_chunk(b"fdAT", struct.pack(">I", number) + data))
            number += 1
    return b"".join([*made, _chunk(b"IEND", b"")])


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += length + 12


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def main() -> None:
    """Film it."""
    with tempfile.TemporaryDirectory() as folder, demo(folder) as process, chromium() as browser:
        link = said(process, r"Sign in \(once\):\s+(\S+)")
        page = browser.new_page(viewport=SIZE)
        page.goto(link)
        page.get_by_role("button", name="Sign in").click()
        id = said(process, r"rollouts watch (r-\w+)")
        page.goto(f"http://127.0.0.1:{PORT}/rollouts/{id}")
        page.wait_for_selector("html[data-live=live]")
        frames = film(page, folder)
    FILM.write_bytes(fitting(frames))
    sys.stdout.write(f"{FILM.name}: {FILM.stat().st_size:,} octets\n")


if __name__ == "__main__":
    main()
