"""`lint`: a repository's files against their JSON Schemas, and what schemas cannot say. Offline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from . import exits, schemas
from .api import Failure
from .output import JsonCommand, clean, say
from .placed import Place, Placed, Problem, read
from .steps import read as steps_of

SUFFIXES = frozenset({".yaml", ".yml", ".json"})


def kind_of(content: Any) -> str:
    """Return what a file's content is meant to be."""
    if isinstance(content, Mapping):
        for kind in ("flags", "checks"):
            if kind in content:
                return kind
    return "rollout"


def lint(path: Path, kind: str | None = None) -> tuple[Placed, list[Problem]]:
    """Return a file, and everything that is wrong with it, in order.

    kind: of `schemas.KINDS`; as the content says, unless it is given.
    """
    placed = read(path, schemas.TEXTS["rollout"])
    if placed.content is None:
        if placed.problems:
            return placed, placed.problems
        return placed, [placed.problem((), "the file is empty")]
    kind = kind or kind_of(placed.content)
    found = [*placed.problems, *schemas.problems(placed, kind)]
    if not found:
        found = list(_MEANINGS[kind](placed))
    return placed, sorted(found)


def checked(path: Path, kind: str) -> Placed:
    """Return a file that a command is about to use. Raises Failure, which names every problem."""
    placed, found = lint(path, kind)
    if found:
        text = "\n  ".join(problem.words() for problem in found)
        told = [_as_json(problem) for problem in found]
        raise Failure(text, exits.USAGE, code="bad_file", problems=told)
    return placed


# --- what schemas cannot say ----------------------------------------------------------------------


def _rollout(placed: Placed) -> Iterator[Problem]:
    schedule = placed.content.get("schedule")
    if isinstance(schedule, str) and "%" in schedule:
        try:
            steps_of(schedule)
        except ValueError as error:
            yield placed.problem(("schedule",), str(error))
    steps = schedule.get("steps", []) if isinstance(schedule, dict) else []
    shares = [step["share"] for step in steps]
    for i in range(1, len(shares)):
        if shares[i] <= shares[i - 1]:
            said = f"must be more than the step before ({shares[i - 1]:g} %)"
            yield placed.problem(("schedule", "steps", i, "share"), said)
    yield from _ends(placed, schedule)
    required = placed.content.get("requires")
    here = placed.content.get("environment")
    if required is not None and required["environment"] == here:
        said = f"a rollout in {here} cannot require that it is complete there"
        yield placed.problem(("requires", "environment"), said)
    names = [(each["kind"], each["name"]) for each in placed.content.get("targets", [])]
    for i, name in enumerate(names):
        if name in names[:i]:
            yield placed.problem(("targets", i), f"{name[0]} {name[1]} is there twice")


def _ends(placed: Placed, schedule: Any) -> Iterator[Problem]:
    """Yield what is wrong with how a schedule ends: a control that is kept, a split."""
    steps = isinstance(schedule, dict)
    if steps and schedule.get("keep") and schedule.get("bake", "0s") in {"0s", ""}:
        said = "is kept while the last share bakes: say how long (bake)"
        yield placed.problem(("schedule", "keep"), said)
    if "until" not in placed.content:
        return
    whole = schedule.get("end", 100) == 100 if steps else _ends_whole(schedule)
    if whole:
        said = "a split keeps both versions: let the schedule end below 100 %, as in 50%:end"
        yield placed.problem(("until",), said)


def _ends_whole(schedule: Any) -> bool:
    """Tell whether a text surely ends at 100 %: of a name only the server knows."""
    if not isinstance(schedule, str) or "%" not in schedule:
        return False
    return "end" not in [mark.strip() for mark in schedule.split(",")[-1].split(":")]


def _flags(placed: Placed) -> Iterator[Problem]:
    for key, states in placed.content["flags"].items():
        for name, told in states.items():
            yield from _state(placed, ("flags", key, name), told)


def _state(placed: Placed, path: Place, told: Any) -> Iterator[Problem]:
    shares: dict[Place, float] = {}
    weights: Mapping[str, float] = {}
    if isinstance(told, dict):
        weights = told.get("weights", {})
        shares |= {("weights", variant): part for variant, part in weights.items()}
        shares |= {("share",): told["share"]} if "share" in told else {}
    else:
        shares[()] = told
    for inside, share in shares.items():
        if abs(share * 10_000 - round(share * 10_000)) > 1e-6:
            yield placed.problem((*path, *inside), "must be in steps of 0.0001 (percent)")
    if weights and abs(sum(weights.values()) - 100) > 1e-6:
        said = f"must be 100 in all, not {sum(weights.values()):g}"
        yield placed.problem((*path, "weights"), said)


def _checks(placed: Placed) -> Iterator[Problem]:
    names: set[str] = set()
    for i, check in enumerate(placed.content["checks"]):
        if check["name"] in names:
            said = f"there are two checks named {check['name']!r}"
            yield placed.problem(("checks", i, "name"), said)
        names.add(check["name"])


_MEANINGS = {"rollout": _rollout, "flags": _flags, "checks": _checks}


# --- the command ----------------------------------------------------------------------------------


@click.command("lint", cls=JsonCommand)
@click.argument("paths", nargs=-1, metavar="PATH...", type=click.Path(exists=True, path_type=Path))
@click.option("--kind", type=click.Choice(schemas.KINDS), help="What they are.  [what they hold]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "github"]),
    default="text",
    show_default=True,
    help="github: as annotations of a workflow.",
)
@click.option("--schema", type=click.Choice(schemas.KINDS), help="Print this schema, for editors.")
@click.pass_context
def lint_command(
    context: click.Context,
    paths: tuple[Path, ...],
    kind: str | None,
    form: str,
    schema: str | None,
) -> None:
    """Check files of rollouts, of flags' shares and of `verify`'s checks, without a server.

    PATH is a file, or a directory: every YAML and JSON file in it. Ends with 9 when anything is
    wrong. What only the server knows, `rollouts plan --check` and `flags apply --dry-run` say.
    """
    if schema is not None:
        click.echo(schemas.text(schema), nl=False)
        return
    files = [file for path in paths for file in _files(path)]
    if not files:
        raise click.UsageError("Name files, or directories that hold some.")
    found = [problem for file in files for problem in lint(file, kind)[1]]
    content = {
        "kind": "lint",
        "files": [str(file) for file in files],
        "problems": [_as_json(problem) for problem in found],
    }
    lines = [_annotation(each) if form == "github" else clean(each.words()) for each in found]
    well = f"✔ {len(files)} files are well." if len(files) != 1 else f"✔ {files[0]} is well."
    say(context, content, "\n".join(lines) or well)
    if found:
        context.exit(exits.CHECK_FAILED)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())


def _as_json(problem: Problem) -> dict[str, Any]:
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "field": problem.field,
        "message": problem.message,
    }


def _annotation(problem: Problem) -> str:
    """Return a problem as a command of a GitHub workflow, which shows it beside the line."""
    place = f"file={_escaped(problem.file)},line={problem.line},col={problem.column}"
    said = f"{problem.field}: {problem.message}" if problem.field else problem.message
    return f"::error {place}::{_escaped(said, text=True)}"


def _escaped(value: str, *, text: bool = False) -> str:
    signs = {"%": "%25", "\r": "%0D", "\n": "%0A"}
    if not text:
        signs |= {":": "%3A", ",": "%2C"}
    return "".join(signs.get(sign, sign) for sign in value)
