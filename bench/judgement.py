"""Whom the judgement blames, and how soon: simulated rollouts, the whole policy with every
guard."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import Pool
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sortition.judgement.design import Design
from sortition.judgement.planning import Step, first_share
from sortition.judgement.policy import Does
from sortition.judgement.simulation import STANDARD, Ended, calibrated, design_of, took
from sortition.judgement.traffic import Outage, World

from bench.harness.percentiles import percentile
from bench.harness.report import Argument, Options, Row, at_most, run, say
from bench.harness.simulated import OTHERS, cpu_of_ticks, ours

PROCESSES = 2
CHUNK = 10
RATES = (10.0, 100.0, 1000.0)
BASELINES = (0.001, 0.005)
NOISES = ("drift", "bursts", "clusters")
OUTAGES = (
    Outage(200, 120, rate=0.2),
    Outage(600, 120, rate=0.05),
    Outage(1000, 800, rate=0.02),
    Outage(1000, 60, rate=1.0),
    Outage(400, 300, slower=3.0),
)
WARM_UP = 30.0

HEALTHY_RUNS, NOISY_RUNS, OUTAGE_RUNS, HARMED_RUNS = 250, 60, 40, 300


@dataclass(frozen=True)
class Cell:
    """Runs of one world."""

    world: World
    runs: int
    steps: tuple[Step, ...] = STANDARD
    calibrated: bool = False
    others: bool = True

    @property
    def name(self) -> str:
        """What its seeds begin with: equal cells see equal rollouts, whatever else is run."""
        return f"{self.world}/{self.steps}/{self.calibrated}"


@dataclass(frozen=True)
class Found:
    """What a cell's runs came to. others: policy -> when each of its runs went back, None if
    never."""

    cell: Cell
    ended: list[Ended]
    others: dict[str, list[float | None]]

    def rolled_back(self) -> list[Ended]:
        """Return those that went back."""
        return [one for one in self.ended if one.does is Does.ROLL_BACK]

    def false_percent(self) -> float:
        """Return how many went back, %, where none should."""
        return 100 * len(self.rolled_back()) / len(self.ended)

    def took(self, percent: float) -> float:
        """Return the percentile of the seconds from the harm's onset to the rollback; who never
        went back took forever."""
        return took(self.ended, self.cell.world.onset, percent)

    def of_others(self) -> str:
        """Return how many percent of the others' runs went back."""
        return ", ".join(
            f"{name} {100 * sum(at is not None for at in times) / len(times):.3g} %"
            for name, times in self.others.items()
        )

    def others_took(self) -> str:
        """Return the others' medians."""
        return ", ".join(f"{name} {_median(times)}" for name, times in self.others.items())


def _median(times: Sequence[float | None]) -> str:
    median = percentile([math.inf if at is None else at for at in times], 50)
    return "never" if math.isinf(median) else f"{median:.0f} s"


# --- running --------------------------------------------------------------------------------------

Task = tuple[Cell, Design, str, range]


def _design(cell: Cell) -> Design:
    design = design_of(cell.world, cell.steps)
    return calibrated(design, cell.world, cell.steps, Random) if cell.calibrated else design


def _one_chunk(task: Task) -> tuple[list[Ended], dict[str, list[float | None]]]:
    cell, design, name, seeds = task
    ended = [ours(cell.world, cell.steps, design, f"{name}/{seed}") for seed in seeds]
    # The others know standard tick and schedule only.
    world = replace(cell.world, tick=5.0)
    others = {
        other: [policy(world, f"{name}/{seed}") for seed in seeds]
        for other, policy in (OTHERS.items() if cell.others else ())
    }
    return ended, others


def all_of(cells: Sequence[Cell], seed: int) -> list[Found]:
    """Run cells in two processes. seed: with another one, other rollouts."""
    fresh = f"{seed}/" if seed else ""
    with Pool(PROCESSES) as pool:
        designs = pool.map(_design, cells, chunksize=1)
        tasks: list[Task] = [
            (cell, design, f"{fresh}{cell.name}", range(begin, min(begin + CHUNK, cell.runs)))
            for cell, design in zip(cells, designs, strict=True)
            for begin in range(0, cell.runs, CHUNK)
        ]
        done = pool.map(_one_chunk, tasks, chunksize=1)
    found = {cell: Found(cell, [], {}) for cell in cells}
    for (cell, *_), (ended, others) in zip(tasks, done, strict=True):
        found[cell].ended.extend(ended)
        for name, times in others.items():
            found[cell].others.setdefault(name, []).extend(times)
    return list(found.values())


# --- rows -----------------------------------------------------------------------------------------


def measure(options: Options) -> Iterator[Row]:
    """Run every world."""
    times, seed = options.given["times"], options.given["seed"]

    def runs(whole: int) -> int:
        return options.of(quick=2, whole=max(1, whole * times // 100))

    say("healthy rollouts")
    yield from healthy(runs(HEALTHY_RUNS), seed)
    say("healthy rollouts with noise, calibrated")
    yield from noisy(options.of(quick=1, whole=runs(NOISY_RUNS)), seed, quick=options.quick)
    say("shared outages")
    yield from outages(options.of(quick=1, whole=runs(OUTAGE_RUNS)), seed)
    say("harm")
    yield from harmed(runs(HARMED_RUNS), seed)
    say("one tick")
    yield from of_cpu()


def healthy(runs: int, seed: int) -> Iterator[Row]:
    """Yield how many healthy rollouts go back."""
    cells = [Cell(World(rps, baseline), runs) for rps in RATES for baseline in BASELINES]
    found = all_of(cells, seed)
    for one in found:
        world = one.cell.world
        what = f"healthy, {world.rps:g} requests/s, {world.baseline * 100:g} % fail: rolled back"
        note = f"{len(one.rolled_back())} of {runs:,}; {one.of_others()}"
        name = f"healthy_{world.rps:g}_{world.baseline * 1000:g}"
        yield Row(name, what, one.false_percent(), "%", at_most(1), note)
    ended = [each for one in found for each in one.ended]
    asked = sum(each.does is Does.PAGE for each in ended)
    what = "healthy, all of these: ended by asking a person (three times a hold)"
    yield Row("asked", what, 100 * asked / len(ended), "%", note=f"{asked} of {len(ended):,}")
    minutes = [each.seconds / 60 for each in ended if each.does is Does.ADVANCE]
    if minutes:
        what = "healthy, all of these: took, where it completed, p95"
        yield Row("took", what, percentile(minutes, 95), "min", note="30 min planned")


def noisy(runs: int, seed: int, *, quick: bool) -> Iterator[Row]:
    """Yield how many healthy rollouts go back where requests are not independent."""
    for noise in NOISES:
        cells = [
            Cell(World(rps, baseline, noise=noise), runs, calibrated=True)
            for rps in (RATES[:1] if quick else RATES)
            for baseline in BASELINES
        ]
        found = all_of(cells, seed)
        ended = sum(len(one.ended) for one in found)
        back = sum(len(one.rolled_back()) for one in found)
        worst = max(found, key=Found.false_percent)
        world = worst.cell.world
        note = (
            f"{back} of {ended:,} at all rates, worst {worst.false_percent():.2g} % at "
            f"{world.rps:g} requests/s and {world.baseline * 100:g} %; there {worst.of_others()}"
        )
        what = f"healthy with {noise}, calibrated on a day of A/A: rolled back"
        yield Row(f"noise_{noise}", what, 100 * back / ended, "%", at_most(2), note)


def outages(runs: int, seed: int) -> Iterator[Row]:
    """Yield how often the canary is blamed for what both arms have."""
    cells = [Cell(World(rps, 0.001, outage=outage), runs) for rps in RATES for outage in OUTAGES]
    found = all_of(cells, seed)
    ended = [each for one in found for each in one.ended]
    blamed = [each for each in ended if each.does is Does.ROLL_BACK]
    failing = [one for one in found if one.cell.world.outage != OUTAGES[-1]]
    note = (
        f"{len(blamed)} of {len(ended):,}, {len(OUTAGES)} outages at three rates; of those with "
        f"failures: {_of_others(failing)}"
    )
    what = "shared outage, the canary innocent: rolled back"
    yield Row("blamed", what, 100 * len(blamed) / len(ended), "%", at_most(0.5), note)
    paged = sum(one.paged for one in ended)
    yield Row("paged", "shared outage: somebody was woken", 100 * paged / len(ended), "%")


def _of_others(found: Sequence[Found]) -> str:
    """Return how many percent of the others' runs went back, of all cells together."""
    together = {name: [at for one in found for at in one.others[name]] for name in OTHERS}
    return Found(found[0].cell, [], together).of_others()


def harmed(runs: int, seed: int) -> Iterator[Row]:
    """Yield how soon harm is found."""
    share = first_share(10, 300)
    low = (Step(share, 900), Step(0.5, 900))
    failing = [
        ("2", Cell(World(100, 0.001, 0.02), runs), 70.0),
        ("20", Cell(World(100, 0.001, 0.2), runs), 10.0),
        ("100", Cell(World(100, 0.001, 1.0), runs), 10.0),
        ("1_at_1000", Cell(World(1000, 0.001, 0.01, tick=1.0), runs), 20.0),
        ("20_at_10", Cell(World(10, 0.001, 0.2), runs), 40.0),
        ("2_at_10", Cell(World(10, 0.001, 0.02), runs, steps=low), 260.0),
    ]
    doubled = World(100, 0.001, slower=2, grain=1)
    slow = [
        ("p95", Cell(replace(doubled, onset=WARM_UP), runs, others=False), 35.0),
        ("p95_cold", Cell(doubled, runs, others=False), None),
    ]
    cells = [cell for _, cell, _ in (*failing, *slow)]
    found = dict(zip(cells, all_of(cells, seed), strict=True))
    for name, cell, bar in failing:
        yield _median_row(name, found[cell], bar)
        if name == "2":
            yield from _more_of_2(found[cell])
    for name, cell, seconds in slow:
        one = found[cell]
        since = "from the end of the warm-up" if cell.world.onset else "from the first request"
        what = f"100 requests/s, p95 doubled {since}: rolled back after, median"
        note = f"p95 {one.took(95):.0f} s, {runs} runs; a warm-up of {WARM_UP:g} s"
        bound = None if seconds is None else at_most(seconds)
        yield Row(f"found_{name}", what, one.took(50), "s", bound, note)


def _median_row(name: str, one: Found, bar: float) -> Row:
    world, share = one.cell.world, one.cell.steps[0].share
    assert world.harm is not None
    what = (
        f"{world.rps:g} requests/s, {share * 100:g} %: failures {world.baseline * 100:g} % -> "
        f"{world.harm * 100:g} %, rolled back after, median"
    )
    ticks = f", ticks of {world.tick:g} s" if world.tick != 5 else ""
    note = f"p95 {one.took(95):.0f} s, {len(one.ended)} runs{ticks}; {one.others_took()}"
    return Row(f"found_{name}", what, one.took(50), "s", at_most(bar), note)


def _more_of_2(one: Found) -> Iterator[Row]:
    yield Row("found_2_p95", "the same, p95", one.took(95), "s", at_most(150))
    failed = statistics.mean(each.failed for each in one.ended)
    yield Row(
        "found_2_failed", "the same, failed requests of the canary, mean", failed, "", at_most(10)
    )


def of_cpu() -> Iterator[Row]:
    """Yield what a look costs."""
    took = [1000 * each for each in cpu_of_ticks(World(1000, 0.005, grain=1), "cpu")]
    what = "one look at all guards of one rollout, CPU, median"
    note = f"p99 {percentile(took, 99):.2f} ms, 1,000 requests/s"
    yield Row("cpu", what, statistics.median(took), "ms", at_most(2), note)


if __name__ == "__main__":
    run(
        measure,
        title="Whom the judgement blames, and how soon",
        method="Simulated rollouts on the standard schedule, fixed seeds, ticks of 5 s, no delay "
        "for anybody; the whole policy with every guard, through the classes that production uses. "
        "Harm lasts from the first request on. Drift: each arm's failures (sigma 0.5, 60 s) and "
        "latency (5 %, 120 s) wander on their own; bursts: each arm's failures are a gamma "
        "variable (CV 1) per tick; clusters: failures come in rows, five on average. CloudWatch "
        "(above 1 % on the canary's target group in 2 of 2 minutes), Flagger (five failed checks "
        "of a minute) and a pooled mSPRT see the failures of the same worlds.",
        arguments=[
            Argument("times", 100, "percent of the usual number of runs"),
            Argument("seed", 0, "another one draws other rollouts"),
        ],
    )
