"""`replay`: a recorded rollout judged again, offline, beside what was decided then."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from sortition.judgement import series, words
from sortition.judgement.policy import Decision
from sortition.judgement.series import BadSeries, Replayed

from .. import exits, series_file
from ..api import Failure
from ..output import clean, say
from .group import rollouts


@rollouts.command("replay")
@click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
)
@click.option("--changes", is_flag=True, help="Only looks at which something else follows.")
@click.pass_context
def replay_rollout(context: click.Context, file: Path, changes: bool) -> None:
    """Judge a recorded rollout again, without a server, and compare.

    FILE is what `rollouts evidence ID --series` printed (- for what comes in), or an evidence
    export that holds it. What
    was decided then is not read before it is compared. Ends with 9 where anything differs.
    """
    read = series_file.read(file)
    try:
        looks = list(series.replay(read))
    except BadSeries as error:
        place = {"line": error.line, "field": error.field, "detail": error.message}
        raise Failure(f"{file}: {error}.", exits.USAGE, code="bad_file", **place) from None
    differ = [one for one in looks if one.differs]
    noise = read.design.calibration
    head = [f"noise: {clean(noise)}"] if noise else []
    lines = [*head, *_lines(looks, changes=changes), _sum(looks)]
    say(context, _content(looks), "\n".join(lines))
    if differ:
        context.exit(exits.CHECK_FAILED)


def _content(looks: Sequence[Replayed]) -> dict[str, Any]:
    compared = [one for one in looks if one.recorded.decision is not None]
    return {
        "kind": "replay",
        "equal": not any(one.differs for one in looks),
        "looks": len(looks),
        "compared": len(compared),
        "differences": sum(bool(one.differs) for one in looks),
        "reworded": sum(one.reworded for one in looks),
        "decisions": [_look(number, one) for number, one in enumerate(looks, 1)],
    }


def _look(number: int, one: Replayed) -> dict[str, Any]:
    then = one.recorded.decision
    return {
        "look": number,
        "line": one.recorded.line,
        "at": one.recorded.at,
        "step": one.recorded.look.outside.step + 1,
        "decision": asdict(one.decision),
        "recorded": None if then is None else asdict(then),
        "differs": list(one.differs),
    }


def _lines(looks: Sequence[Replayed], *, changes: bool) -> list[str]:
    lines: list[str] = []
    before: Decision | None = None
    for number, one in enumerate(looks, 1):
        now = one.decision
        new = before is None or (now.does, now.rule) != (before.does, before.rule)
        if new or one.differs or not changes:
            lines.append(_line(number, one))
        if new:
            lines.append(f"      {clean(now.sentence)}")
        if one.differs:
            lines.append(f"      ✖ {_told_apart(one)}")
        before = now
    return lines


def _line(number: int, one: Replayed) -> str:
    now, recorded = one.decision, one.recorded
    mark = "✖" if one.differs else "·" if recorded.decision is None else "✔"
    at = "–" if recorded.at is None else _instant(recorded.at)
    step, evidence = recorded.look.outside.step + 1, words.odds(now.evidence)
    return f"{mark} {number:>4}  {at}  step {step}  {now.does:<9}  {now.rule}  {evidence}"


def _told_apart(one: Replayed) -> str:
    then = one.recorded.decision
    parts = [
        f"{name} {_short(getattr(then, name))}, now {_short(getattr(one.decision, name))}"
        for name in one.differs
    ]
    return f"line {one.recorded.line}: then {'; '.join(parts)}"


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(clean, value)) or "nothing"
    return clean(f"{value:.9g}" if isinstance(value, float) else str(value))


def _instant(at: float) -> str:
    try:
        told = dt.datetime.fromtimestamp(at, dt.timezone.utc)
    except (OverflowError, OSError, ValueError):
        return f"{at:g}"
    return told.strftime("%Y-%m-%dT%H:%M:%SZ")


def _sum(looks: Sequence[Replayed]) -> str:
    compared = sum(one.recorded.decision is not None for one in looks)
    differ = sum(bool(one.differs) for one in looks)
    reworded = sum(one.reworded for one in looks)
    if not looks:
        return "No look was recorded: there is nothing to decide."
    if differ:
        return f"✖ {differ:,} of {compared:,} recorded decisions are not what follows."
    if not compared:
        return f"· {len(looks):,} looks; what was decided then is not in the file."
    more = f" ({reworded:,} said in other words)" if reworded else ""
    return f"✔ {compared:,} of {len(looks):,} looks were decided as it follows{more}."
