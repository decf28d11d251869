"""Whether a load balancer's split is the share that was set, and what splitting costs it."""

from __future__ import annotations

import math
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.harness.balanced import BLUE, GREEN, Balanced, balanced
from bench.harness.report import Options, Row, at_most, run, say

PERCENTS = (5, 25, 50)
WHOLE = 0
"""All of the traffic has one target."""

OUTSIDE = 0.001
"""How often a fair split falls outside of its interval by chance: once in 1,000 for each share."""


def measure(options: Options) -> Iterator[Row]:
    """Send as many requests at each share as at none, in turns."""
    rounds, requests = options.of(quick=2, whole=15), options.of(quick=100, whole=1000)
    served: defaultdict[int, Counter[str]] = defaultdict(Counter)
    spent: defaultdict[int, list[float]] = defaultdict(list)
    with balanced() as balancer:
        balancer.share(WHOLE)
        balancer.take(100)
        say(f"{rounds} rounds of {requests} requests each at 0, 5, 25 and 50 %")
        for number in range(rounds):
            for percent in _turned((WHOLE, *PERCENTS), number):
                _take(balancer, percent, requests, served, spent)
    many, outside = rounds * requests, 0
    for percent in PERCENTS:
        canary = served[percent][GREEN]
        low, high = interval(many, percent / 100, OUTSIDE)
        outside += not low <= canary <= high
        inside = f"of {many:,} requests; the interval is {low:,} to {high:,}, {canary:,} came"
        what = f"requests of the canary at {percent} %"
        yield Row(f"share_{percent}", what, 100 * canary / many, "%", note=inside)
    what = "shares outside of their binomial interval"
    yield Row("outside", what, outside, "", at_most(0), f"exact, {100 * (1 - OUTSIDE):g} %")
    astray = served[WHOLE].total() - served[WHOLE][BLUE]
    yield Row("astray", "requests of the canary at 0 %", astray, "", at_most(0), f"of {many:,}")
    yield Row("whole_us", "a request, one target, CPU of the balancer", _each(spent[WHOLE]), "us")
    for percent in PERCENTS:
        ratio = statistics.median(a / b for a, b in zip(spent[percent], spent[WHOLE], strict=True))
        what = f"a request, split at {percent} %, over one target"
        yield Row(f"ratio_{percent}", what, ratio, "x", at_most(1.1))


def _take(
    balancer: Balanced,
    percent: int,
    requests: int,
    served: dict[int, Counter[str]],
    spent: dict[int, list[float]],
) -> None:
    balancer.share(percent)
    taken = balancer.take(requests)
    served[percent] += taken.served
    spent[percent].append(taken.cpu / requests * 1e6)


def _turned(percents: tuple[int, ...], number: int) -> tuple[int, ...]:
    """Return them beginning with another each round, so that none always comes after the same."""
    at = number % len(percents)
    return percents[at:] + percents[:at]


def _each(microseconds: list[float]) -> float:
    return statistics.median(microseconds)


def interval(many: int, share: float, outside: float) -> tuple[int, int]:
    """Return the least and the greatest count that a fair split of so many requests leaves: below
    and above lies at most half of `outside` each. Exact: the binomial distribution summed up."""
    tail = outside / 2
    return _least(many, share, tail), many - _least(many, 1 - share, tail)


def _least(many: int, share: float, tail: float) -> int:
    """Return the smallest count k with P(X <= k) > tail."""
    below = 0.0
    for count in range(many + 1):
        below += math.exp(
            math.lgamma(many + 1)
            - math.lgamma(count + 1)
            - math.lgamma(many - count + 1)
            + count * math.log(share)
            + (many - count) * math.log1p(-share)
        )
        if below > tail:
            return count
    return many


if __name__ == "__main__":
    run(
        measure,
        title="What a load balancer makes of a share",
        method="The balancer that stands in for AWS's, in a process of its own, reads the weights "
        "of a rule of AWS's double, which the ALB driver sets through boto3; two targets that "
        "answer at once, 16 requests under way, a connection each; shares in turns; CPU time of "
        "the balancer's process as the system counts it; medians.",
        distributions=["boto3", "moto"],
    )
