"""What one evaluation costs: against the bare hash, and against other vendors' SDKs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sortition.testing import FakeServer

from bench.harness import places
from bench.harness.loops import Case, Samples, interleaved
from bench.harness.report import Options, Row, at_least, at_most, run, say

SUBJECTS = Path(__file__).with_name("subjects")

OURS = {
    "is_enabled": "`client.is_enabled(key, id)` at 25 %, counted",
    "handle": "`flag(id)`, a bound handle",
    "settled": "`client.is_enabled` at 100 %",
    "prerequisite": "`client.is_enabled` of a flag that stands on another",
    "variant": "`client.variant` of three",
    "value": "`client.value` of three",
    "unknown": "`client.is_enabled` of a flag that nobody knows",
    "request": "`client.request`: opened, one flag asked, ended and credited",
}
PEERS = {
    "eppo": "Eppo",
    "statsig": "Statsig",
    "growthbook": "GrowthBook",
    "configcat": "ConfigCat",
    "launchdarkly": "LaunchDarkly",
    "unleash": "Unleash",
}


def flags() -> dict[str, float | Mapping[str, Any]]:
    """Return 200 flags: the ones that are asked, among others like them."""
    found: dict[str, float | Mapping[str, Any]] = {f"flag-{n}": 25.0 for n in range(197)}
    weights = {"red": 50, "green": 30, "blue": 20}
    found["everybody"] = 100.0
    found["three-ways"] = {
        "share": 75,
        "weights": weights,
        "rest": "grey",
        "variants": {name: name for name in (*weights, "grey")},
    }
    found["stands-on"] = {
        "share": 50,
        "prerequisites": [{"flag": "flag-100", "variant": "on"}],
    }
    return found


def measure(options: Options) -> Iterator[Row]:
    """Let all cases take turns, then hold them against each other."""
    rounds = options.of(quick=3, whole=120)
    bare = {"PATH": os.environ.get("PATH", ""), "HOME": os.environ.get("HOME", "/")}
    with FakeServer(flags(), flush_seconds=5.0) as server:
        follows = {**bare, "SORTITION_URL": server.url, "SORTITION_KEY": server.key}
        python = places.installed()
        cases = [Case(n, python, SUBJECTS / "ours.py", follows) for n in ("floor", *OURS)]
        cases += [Case(n, places.PEERS, SUBJECTS / "peers.py", bare) for n in PEERS]
        say(f"{len(cases)} cases, {rounds} rounds")
        found, failed = interleaved(cases, rounds)
    absent = [f"{name}: {why}" for name, why in failed.items() if name not in PEERS]
    if absent:
        sys.exit("\n".join(absent))
    floor, own = found["floor"], found["is_enabled"]
    yield Row("floor", "`mmh3.hash(id, seed, False)`", floor.median, "ns", note=floor.version)
    for name, what in OURS.items():
        yield Row(f"{name}_ns", what, found[name].median, "ns")
    ratio, what = own.over(floor), "`client.is_enabled` over the bare hash"
    yield Row("is_enabled", what, ratio.median, "x", at_most(4.0), ratio.spread)
    yield Row("handle", "`flag(id)` over the bare hash", found["handle"].over(floor).median, "x")
    yield from against_peers(own, found, failed)


def against_peers(
    own: Samples, found: Mapping[str, Samples], failed: Mapping[str, str]
) -> Iterator[Row]:
    """Yield one row for each vendor, and one for the fastest of them."""
    ratios = {name: found[name].over(own).median for name in PEERS if name in found}
    for name, title in PEERS.items():
        what, ratio = f"{title} over `client.is_enabled`", ratios.get(name)
        note = failed.get(name)
        if note is None:
            note = f"{found[name].version}, {found[name].median:,.0f} ns"
        yield Row(f"{name}_x", what, ratio, "x", note=note)
    what, bar = "the fastest of them over `client.is_enabled`", at_least(10.0)
    if failed:
        yield Row("fastest_peer", what, None, "x", bar, "not all could be measured")
    else:
        fastest = min(ratios, key=ratios.__getitem__)
        yield Row("fastest_peer", what, ratios[fastest], "x", bar, PEERS[fastest])


if __name__ == "__main__":
    run(
        measure,
        title="What one evaluation costs",
        method="A client of the installed wheel, as `wait_ready` returns it, follows a server on "
        "the loopback with 200 flags; 4,096 ids; each case a process of its own, in turns; CPU "
        "time of the asking thread, less an empty loop; medians.",
        distributions=["mmh3"],
    )
