"""`simulate`: what a policy would do, in simulated traffic or over a rollout that was recorded."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from math import isinf
from pathlib import Path
from time import monotonic
from typing import Any

import click

from sortition.judgement import series, simulation
from sortition.judgement.counts import Tick
from sortition.judgement.design import Design
from sortition.judgement.intervals import rate_interval
from sortition.judgement.planning import Step
from sortition.judgement.policy import Does
from sortition.judgement.series import BadSeries, Series
from sortition.judgement.simulation import Ended, Past, Redrawn, Summary
from sortition.judgement.traffic import World

from .. import exits, series_file, steps
from ..api import Failure
from ..output import clean, console, duration, note, percent, say, table
from .following import seconds_of
from .group import rollouts

CHUNK = 5
PROGRESS_SECONDS = 5.0
WHOLE = 100.0

OF_A_WORLD = ("rate", "baseline", "harm", "slower", "onset", "noise", "tick")
"""Options that say what happens; a recorded rollout says it itself."""


def _parts(context: click.Context, parameter: click.Parameter, given: float | None) -> float | None:
    return None if given is None else given / WHOLE


PERCENT = click.FloatRange(0, 100)


@rollouts.command("simulate")
@click.option(
    "--rate",
    type=click.FloatRange(0, 100_000, min_open=True),
    default=100.0,
    show_default=True,
    help="Requests per second, of both versions.",
)
@click.option(
    "--baseline",
    type=PERCENT,
    default=0.1,
    show_default=True,
    callback=_parts,
    help="How many of them fail, %.",
)
@click.option("--harm", type=PERCENT, callback=_parts, help="How many of the canary's fail, %.")
@click.option(
    "--slower",
    type=click.FloatRange(1, 100),
    default=1.0,
    show_default=True,
    help="So many times as slow the canary is.",
)
@click.option(
    "--onset", default="0s", show_default=True, callback=seconds_of, help="When that begins."
)
@click.option(
    "--noise",
    type=click.Choice(["none", "drift", "bursts", "clusters"]),
    default="none",
    show_default=True,
    help="How requests hang together; other than none, the policy is calibrated first.",
)
@click.option(
    "--tick", default="5s", show_default=True, callback=seconds_of, help="How often SDKs report."
)
@click.option("--schedule", metavar="STEPS", help="As in 5%:5m,25%:10m,100%.  [standard]")
@click.option(
    "--alpha",
    type=click.FloatRange(0.01, 50),
    callback=_parts,
    help="How often a healthy rollout may go back, %.  [1, or as it was recorded]",
)
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="A recorded rollout (`rollouts evidence ID --series`) instead of a simulated one.",
)
@click.option("--target", help="Which of its comparisons.  [the one with the largest weight]")
@click.option("--runs", type=click.IntRange(1, 100_000), default=100, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="The same gives the same.")
@click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes.")
@click.pass_context
def simulate_rollout(context: click.Context, /, source: Path | None, **given: Any) -> None:
    """Say what the policy would do, without a server: whom it blames, and how soon.

    In simulated traffic, beside the same without the harm. Or over a recorded rollout: with another
    alpha as it was counted, look by look; with another schedule its counts are drawn anew, at the
    rates that each version had.
    """
    if source is None:
        _simulated(context, given)
        return
    _refuse(context, OF_A_WORLD, "A recorded rollout says that itself")
    read = _with_alpha(series_file.read(source), given["alpha"])
    if given["schedule"] is None:
        _refuse(context, ("runs", "seed", "target"), "As it was counted it is judged once")
        _judged_again(context, source, read)
    else:
        _redrawn(context, read, given)


def _refuse(context: click.Context, names: Iterable[str], why: str) -> None:
    told = click.core.ParameterSource.COMMANDLINE
    for name in names:
        if context.get_parameter_source(name) is told:
            raise click.UsageError(f"--{name}: {why}.")


# --- many runs ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """Runs of one world, or of one recording: `past`, drawn anew. seeds: one for each run."""

    world: World | None
    ticks: Sequence[Tick]
    past: Sequence[Past]
    steps: Sequence[Step]
    design: Design
    seeds: Sequence[str]


def _ended(task: Task) -> list[Ended]:
    return [_run(task, random.Random(seed)) for seed in task.seeds]  # noqa: S311 - no secret


def _run(task: Task, chance: random.Random) -> Ended:
    if task.world is not None:
        return simulation.simulated(task.world, task.steps, task.design, chance)
    return simulation.run(Redrawn(task.ticks, task.past, chance), task.steps, task.design)


def _all(
    context: click.Context, tasks: Mapping[str, Task], given: Mapping[str, Any]
) -> dict[str, list[Ended]]:
    """Run every task so often; return how the runs ended, by the task's name."""
    runs, seed = given["runs"], given["seed"]
    parts = [
        (name, replace(task, seeds=[f"{seed}/{name}/{i}" for i in range(first, last)]))
        for name, task in tasks.items()
        for first in range(0, runs, CHUNK)
        for last in [min(first + CHUNK, runs)]
    ]
    found: dict[str, list[Ended]] = {name: [] for name in tasks}
    tell = _progress(context, runs * len(tasks))
    with _mapping(given["jobs"]) as mapping:
        results = mapping(_ended, [task for _, task in parts])
        for (name, _), ended in zip(parts, results, strict=True):
            found[name].extend(ended)
            tell(len(ended))
    return found


Mapped = Callable[[Callable[[Task], "list[Ended]"], Sequence[Task]], "Iterator[list[Ended]]"]


@contextmanager
def _mapping(jobs: int) -> Iterator[Mapped]:
    if jobs == 1:
        yield map
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield pool.map


def _progress(context: click.Context, whole: int) -> Callable[[int], None]:
    """Return what is told of so many more runs; it says so now and then."""
    begun = said = monotonic()
    done = 0

    def tell(more: int) -> None:
        nonlocal said, done
        done += more
        now = monotonic()
        if now - said >= PROGRESS_SECONDS and done < whole:
            said = now
            left = (now - begun) / done * (whole - done)
            note(context, f"{done:,} of {whole:,} runs; about {duration(left)} more")

    return tell


# --- a simulated world ----------------------------------------------------------------------------


def _simulated(context: click.Context, given: Mapping[str, Any]) -> None:
    world = World(
        *(given["rate"], given["baseline"], given["harm"], given["slower"], given["onset"]),
        noise=given["noise"],
        tick=_tick(given["tick"]),
        grain=1,
    )
    plan = _steps(given["schedule"] or steps.NAMED["standard"])
    design = simulation.design_of(world, plan, **_alpha(given))
    if world.noise != "none":
        note(context, "calibrating on a day of A/A history")
        seeded: Any = random.Random
        design = simulation.calibrated(design, world, plan, seeded)
    twin = replace(world, harm=None, slower=1.0)
    told = Task(world, (), (), plan, design, ())
    tasks = {} if world == twin else {"harmed": told}
    tasks["healthy"] = replace(told, world=twin)
    found = _all(context, tasks, given)
    sums = {name: simulation.summary(ended, _onset(name, world)) for name, ended in found.items()}
    _tell(context, _world_words(world), {"world": asdict(world)}, plan, design, sums, given)


def _onset(name: str, world: World) -> float:
    return world.onset if name == "harmed" else 0.0


def _tick(seconds: float) -> float:
    if not 1 <= seconds <= 60:
        raise click.UsageError("--tick: from 1s to 60s.")
    return seconds


def _alpha(given: Mapping[str, Any]) -> dict[str, float]:
    return {} if given["alpha"] is None else {"alpha": given["alpha"]}


def _steps(text: str) -> tuple[Step, ...]:
    """Return the steps that have a control: what holds at 100 % can be compared with nothing."""
    try:
        written = steps.read(steps.NAMED.get(text, text))
    except ValueError as error:
        raise click.UsageError(f"--schedule: {error}.") from None
    found = tuple(
        Step((each.share - each.kept) / WHOLE, float(each.hold))
        for each in written
        if each.share - each.kept < WHOLE
    )
    for number, step in enumerate(found, 1):
        if not step.hold:
            raise click.UsageError(f"--schedule: step {number} needs a time, as in 5%:5m.")
    if not found:
        raise click.UsageError("--schedule: at 100 % there is no control to compare with.")
    return found


def _world_words(world: World) -> str:
    said = [f"{world.rps:g} requests/s", f"{percent(100 * world.baseline)} fail"]
    if world.harm is not None:
        said.append(f"of the canary {percent(100 * world.harm)}")
    if world.slower != 1:
        said.append(f"the canary {world.slower:g} times as slow")
    if world.onset:
        said.append(f"from {duration(world.onset)} on")
    if world.noise != "none":
        said.append(f"noise: {world.noise}, calibrated")
    return ", ".join(said)


# --- a recorded rollout ---------------------------------------------------------------------------


def _with_alpha(read: Series, alpha: float | None) -> Series:
    if alpha is None:
        return read
    subjects = tuple(
        one if one.design is None else replace(one, design=replace(one.design, alpha=alpha))
        for one in read.subjects
    )
    return replace(read, design=replace(read.design, alpha=alpha), subjects=subjects)


def _judged_again(context: click.Context, source: Path, read: Series) -> None:
    """Judge a recording as it was counted, up to where this policy takes it back."""
    failed, first = 0, None
    try:
        for one in series.replay(read):
            ticks = [tick for each in one.recorded.look.ticks.values() for tick in each]
            failed += sum(_failed(tick, read.design) for tick in ticks)
            if one.decision.does is Does.ROLL_BACK:
                first = one
                break
    except BadSeries as error:
        raise Failure(f"{source}: {error}.", exits.USAGE, code="bad_file") from None
    then = next((one for one in read.looks if _went_back(one.decision)), None)
    begun = next((one.at for one in read.looks if one.at is not None), None)
    content = {
        "kind": "simulation",
        "from": str(source),
        "alpha": read.design.alpha,
        "looks": len(read.looks),
        "rolled_back": first is not None,
        "seconds": None if first is None else _after(first.recorded.at, begun),
        "failed": failed,
        "decision": None if first is None else asdict(first.decision),
        "recorded_seconds": None if then is None else _after(then.at, begun),
    }
    say(context, content, "\n".join(_again_words(content)))


def _went_back(decision: Any) -> bool:
    return decision is not None and decision.does is Does.ROLL_BACK


def _failed(tick: Tick, design: Design) -> int:
    return sum(one.canary_failed for one in tick.counts.get(design.rates[0].name, ()))


def _after(at: float | None, begun: float | None) -> float | None:
    return None if at is None or begun is None else at - begun


def _again_words(told: Mapping[str, Any]) -> Iterator[str]:
    yield f"As it was counted, {told['looks']:,} looks, alpha {percent(100 * told['alpha'])}."
    if told["rolled_back"]:
        yield f"It goes back {_time(told['seconds'])} after the first tick."
        yield clean(told["decision"]["sentence"])
    else:
        yield "It does not go back within the recording."
    yield f"Failed requests of the canary until then: {told['failed']:,}."
    then = told["recorded_seconds"]
    was = "did not go back" if then is None else f"went back after {_time(then)}"
    yield f"As it was decided then, it {was}."


def _redrawn(context: click.Context, read: Series, given: Mapping[str, Any]) -> None:
    plan = _steps(given["schedule"])
    subject = _subject(read, given["target"])
    ticks = read.ticks(subject.target)
    past = simulation.pasts(ticks)
    if not past:
        raise Failure(f"{subject.target}: nothing was counted.", exits.USAGE, code="bad_file")
    design = simulation.redesigned(subject.design or read.design, ticks, plan)
    told = Task(None, ticks, past, plan, design, ())
    tasks = {"recorded": told, "harmless": replace(told, past=simulation.harmless(past))}
    sums = {name: simulation.summary(each) for name, each in _all(context, tasks, given).items()}
    words = f"{subject.target} as it was recorded, its counts drawn anew"
    _tell(context, words, {"target": subject.target}, plan, design, sums, given)


def _subject(read: Series, target: str | None) -> Any:
    for one in sorted(read.subjects, key=lambda one: -one.weight):
        if target is None or one.target == target:
            return one
    known = ", ".join(one.target for one in read.subjects) or "none"
    raise click.UsageError(f"--target: no comparison of {target!r}; there are: {known}.")


# --- telling --------------------------------------------------------------------------------------

COLUMNS = {
    "harmed": "With the harm",
    "healthy": "Healthy",
    "recorded": "As recorded",
    "harmless": "Had it fared as control",
}

SIMULATED = (
    "In simulated traffic: requests are independent but for the noise that was asked for, arrivals "
    "Poisson. What is seen beside counts (hosts, alarms) plays no part."
)
REDRAWN = (
    "Nobody knows what would have been counted at other shares: each tick is drawn anew, at the "
    "rates that each version had in the minute around it, as if requests were independent. What "
    "was seen beside counts (hosts, alarms) plays no part. A run that reaches the end of the "
    "recording is not decided."
)


def _tell(
    context: click.Context,
    words: str,
    about: Mapping[str, Any],
    plan: Sequence[Step],
    design: Design,
    sums: Mapping[str, Summary],
    given: Mapping[str, Any],
) -> None:
    content = {
        "kind": "simulation",
        **about,
        "schedule": [{"share": step.share * WHOLE, "hold": step.hold} for step in plan],
        "alpha": design.alpha,
        "runs": given["runs"],
        "seed": given["seed"],
        **{name: _summary_json(found) for name, found in sums.items()},
    }
    say(context, content)
    if context.find_root().params.get("as_json"):
        return
    shares = ", ".join(f"{percent(s.share * WHOLE)} for {duration(s.hold)}" for s in plan)
    click.echo(
        f"{words}; {shares}; alpha {percent(100 * design.alpha)}; {given['runs']:,} runs, seed "
        f"{given['seed']}\n"
    )
    rows = [
        [what, *(cell(found) for found in sums.values())]
        for what, cell in ROWS
        if any(cell(found) not in {"", "0"} for found in sums.values())
    ]
    console().print(table("", *(f"{COLUMNS[name]}>" for name in sums), rows=rows))
    click.echo(f"\n{SIMULATED if 'healthy' in sums else REDRAWN}")


def _summary_json(found: Summary) -> dict[str, Any]:
    rules = [
        {"rule": rule, "guard": guard, "runs": runs} for (rule, guard), runs in found.rules.items()
    ]
    whole = {**asdict(found), "rules": rules}
    return {
        name: None if isinstance(value, float) and isinf(value) else value
        for name, value in whole.items()
    }


def _back(found: Summary) -> str:
    low, high = rate_interval(found.rolled_back, found.runs)
    part = percent(round(WHOLE * found.rolled_back / found.runs, 2))
    return f"{part}, surely {100 * low:.1f} to {100 * high:.1f} %"


def _time(seconds: float | None) -> str:
    return "never" if seconds is None or isinf(seconds) else duration(seconds)


def _by(found: Summary) -> str:
    return "\n".join(
        f"{rule}, {guard}: {runs:,}" if guard else f"{rule}: {runs:,}"
        for (rule, guard), runs in sorted(found.rules.items(), key=lambda each: -each[1])
    )


def _number(name: str) -> Callable[[Summary], str]:
    return lambda found: f"{getattr(found, name):,}"


ROWS: tuple[tuple[str, Callable[[Summary], str]], ...] = (
    ("rolled back", _back),
    ("  before the harm began", _number("early")),
    ("  after, median", lambda found: _time(found.median)),
    ("  after, p95", lambda found: _time(found.p95)),
    ("  by", _by),
    ("failed requests of the canary, mean", lambda found: f"{found.failed:.1f}"),
    ("completed", _number("completed")),
    ("ended by asking a person", _number("asked")),
    ("somebody was woken", _number("woken")),
    ("not decided", _number("undecided")),
)
