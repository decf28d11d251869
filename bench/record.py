"""What the record costs: writing it, signing it, and checking all of it."""

from __future__ import annotations

import random
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sortition.record.checkpoint import Checkpoint
from sortition.record.entry import GENESIS, Entry, link
from sortition.record.export import Kept, read, written
from sortition.record.note import SigningKey
from sortition.record.tree import Frontier
from sortition.record.verify import WHOLE, Anchor, verify

from bench.harness.percentiles import percentile
from bench.harness.report import Argument, Options, Row, at_least, at_most, run, say
from flagserver.domain.documents import Change, Fact
from flagserver.services.sealing import Sealer, Sealing
from flagserver.storage.anchors import DiskAnchors
from flagserver.storage.embedded import EmbeddedStore
from flagserver.storage.redis.store import RedisStore
from flagserver.system import SystemClock, SystemEntropy

KEY = SigningKey("bench.example/record", bytes(range(32)))
START_SECONDS = 20.0
SIGNED_EVERY = 500
"""Entries between two checkpoints of the record that is verified: a busy hour's."""


class TimedAnchors(DiskAnchors):
    """Anchors that remember when each size was there."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.sizes: list[int] = []
        self.times: list[float] = []

    def add(self, place: str, note: str) -> None:
        """Keep a note, and when it was kept."""
        super().add(place, note)
        self.sizes.append(int(place.rpartition("/")[2]))
        self.times.append(time.monotonic())

    def lag(self, seq: int, written_at: float) -> float:
        """Return the seconds until a checkpoint covered an entry."""
        return self.times[bisect_left(self.sizes, seq)] - written_at


def append(store: RedisStore, entropy: SystemEntropy) -> int:
    """Write one entry through the whole commit; return its number."""
    fact = Fact("token:bench", "admin", "flag:share:change", "flag/new-search", "production")
    salt = entropy.hex(16)
    return store.commit(Change(writes=(), fact=fact), at=datetime.now(UTC), salt=salt).seq


def of_writing(store: RedisStore, entropy: SystemEntropy, entries: int) -> Row:
    """Return how many entries one writer appends in a second."""
    say(f"appending {entries:,} entries")
    began = time.monotonic()
    for _ in range(entries):
        append(store, entropy)
    rate = entries / (time.monotonic() - began)
    what = "entries one writer appends, each synced to disk"
    return Row("appends", what, rate, "/s", at_least(1000))


def of_signing(store: RedisStore, entropy: SystemEntropy, folder: Path, seconds: float) -> Row:
    """Return how far behind the newest entry its checkpoint is."""
    say(f"signing for {seconds:g} s")
    anchors = TimedAnchors(folder)
    sealer = Sealer(store, KEY, anchors, SystemClock(), entropy)
    sealer.seal()
    sealing, chance = Sealing(sealer, store, "bench"), random.Random(1)
    sealing.start()
    end, appended = time.monotonic() + seconds, []
    while time.monotonic() < end:
        appended.append((append(store, entropy), time.monotonic()))
        time.sleep(chance.expovariate(20))
    time.sleep(2.0)
    sealing.stop()
    lags = [anchors.lag(seq, at) for seq, at in appended]
    what = "from an entry to a signed and anchored checkpoint that covers it, p99"
    return Row("lag", what, percentile(lags, 99), "s", at_most(1.0))


def of_checking(entries: int) -> Iterator[Row]:
    """Yield how long an export takes to be read and verified."""
    say(f"verifying {entries:,} entries")
    data, anchors = exported(entries)
    began = time.monotonic()
    verdict = verify(read(data), [KEY.verifier], anchors)
    seconds = time.monotonic() - began
    assert verdict.kind == WHOLE, verdict.words
    what = f"reading and verifying an export of {entries:,} entries"
    yield Row("verify", what, seconds, "s", at_most(5.0 * entries / 100_000))
    yield Row("size", "octets of an export, for each entry", len(data) / entries, "octets")


def exported(entries: int) -> tuple[bytes, list[Anchor]]:
    """Return an export, and its newest checkpoint as an anchor."""
    stored, notes = [], []
    chain, frontier = GENESIS, Frontier()
    for seq in range(1, entries + 1):
        one = link(an_entry(seq), chain)
        stored.append(Kept(seq, one.text, one.leaf, one.chain))
        chain, frontier = one.chain, frontier.grown([one.leaf])
        if seq % SIGNED_EVERY == 0:
            notes.append(Checkpoint(KEY.name, 1, seq, frontier.root()).signed(KEY))
    return b"".join(written(KEY.name, stored, notes)), [Anchor("newest", notes[-1].encode())]


def an_entry(seq: int) -> Entry:
    """Return an entry as a step of a rollout makes it."""
    return Entry(
        *(seq, 1, "2026-11-23T08:15:30.123Z", "controller", "controller"),
        *("rollout:step:advance", "rollout/r-e45672eca4", "production"),
        *({"step": 1, "share": 50_000}, {"step": 2, "share": 250_000}),
        *("3 of 3 guards pass, n = 12,204.", f"{seq:032x}"),
    )


@contextmanager
def an_embedded_store(folder: Path) -> Iterator[RedisStore]:
    """Run the embedded store, as `flagserver run` does."""
    embedded = EmbeddedStore(folder)
    embedded.start(START_SECONDS)
    try:
        with RedisStore(embedded.url) as store:
            store.initialise("bench")
            yield store
    finally:
        embedded.stop(START_SECONDS)


def measure(options: Options) -> Iterator[Row]:
    """Write, sign, check."""
    entropy = SystemEntropy()
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        an_embedded_store(Path(folder)) as store,
    ):
        yield of_writing(store, entropy, options.of(quick=200, whole=5000))
        seconds = options.of(quick=2, whole=20)
        yield of_signing(store, entropy, Path(folder) / "anchors", seconds)
    yield from of_checking(options.of(quick=1000, whole=options.given["entries"]))


if __name__ == "__main__":
    run(
        measure,
        title="What the record costs",
        method="One writer through the whole commit into the embedded store, which syncs every "
        "write; a sealer's thread beside a writer of about 20 entries a second, anchors on the "
        "same disk; an export in memory with a checkpoint every 500 entries.",
        arguments=[Argument("entries", 100_000, "how many are verified")],
    )
