"""`sortition neutrality`: prove that lots are fair, offline; and report what they do live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from sortition import __version__
from sortition.core.conditions import NON_UNIFORM_ATTRIBUTES
from sortition.neutrality import proof as proofs
from sortition.neutrality.checks import CHECKS
from sortition.neutrality.numbers import Plain, the_fastest
from sortition.neutrality.proof import BLIND, FAIR, UNFAIR, Control, Proof, Verdict
from sortition.sources import file

from . import completion, exits, options
from .api import Failure
from .neutrality_page import page
from .output import Noun, clean, console, say

WORDS = {
    FAIR: "fair: every check passed, and every unfair lot was found",
    UNFAIR: "unfair: a check failed",
    BLIND: "control_passed: an unfair lot was not found, so this proves nothing; more ids help",
}
"""Kind of a proof's end -> words."""

FEWEST_IDS = 1_000
MOST_IDS = 10_000_000


@dataclass(frozen=True)
class Subject:
    """Whose lots are looked at. departures: flag -> what it looks at that is no lot."""

    words: str
    salts: Mapping[str, str]
    departures: Mapping[str, list[str]]


@click.group(cls=Noun)
def neutrality() -> None:
    """The lot: proofs that it is fair, and what it does live."""


# --- prove ----------------------------------------------------------------------------------------


@neutrality.command("prove")
@options.environment(help="The flags of this environment, asked of the server.")
@click.option(
    "--flag",
    "only",
    multiple=True,
    help="Of these, only this one; may be given several times.",
    shell_complete=completion.flags,
)
@click.option("--salt", "given", multiple=True, help="Offline: a flag's salt; several times.")
@click.option(
    "--snapshot",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Offline: the flags of a snapshot's file.",
)
@click.option("--ids", type=click.IntRange(FEWEST_IDS, MOST_IDS), help="Of each shape.  [1000000]")
@click.option("--quick", is_flag=True, help="A tenth of the ids.")
@click.option("--seed", default=proofs.SEED, show_default=True, help="What ids are made from.")
@click.option("--plain", is_flag=True, help="Compute without NumPy, though it is there.")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a page for people who were not there.",
)
@click.pass_context
def prove_command(
    context: click.Context,
    environment: str | None,
    only: tuple[str, ...],
    given: tuple[str, ...],
    snapshot: Path | None,
    ids: int | None,
    *,
    quick: bool,
    seed: str,
    plain: bool,
    html: Path | None,
) -> None:
    """Prove that lots are fair: 0 when they are, 9 when a check failed.

    Ten checks on a million ids of each of five shapes: whether points are uniform, flags
    independent of each other and of a load balancer, exposure monotone, 0 % and 100 % exact. Then
    three lots that are known to be unfair, which must be found: where one is not, this ends with 9
    too, for it proves nothing. Whoever repeats it, offline, has the same figures. With NumPy
    (the extra `neutrality`) it is several times as fast.
    """
    subject = _subject(context, environment, only, given, snapshot)
    if not subject.salts:
        raise Failure("There is no flag here to prove anything of.", code="not_found")
    count = ids or (proofs.QUICK_IDS if quick else proofs.IDS)
    progress = _Progress(context)
    made = proofs.prove(
        subject.salts,
        Plain() if plain else the_fastest(),
        ids=count,
        seed=seed,
        tell=progress.tell,
    )
    progress.end()
    content = {
        "version": __version__,
        "subject": subject.words,
        "departures": dict(subject.departures),
        **made.to_json(),
    }
    if html is not None:
        _write(html, page(content))
    say(context, content, _text(made, subject))
    if made.kind != FAIR:
        context.exit(exits.CHECK_FAILED)


def _subject(
    context: click.Context,
    environment: str | None,
    only: tuple[str, ...],
    given: tuple[str, ...],
    snapshot: Path | None,
) -> Subject:
    """Return whose lots are meant. Raises Failure, UsageError."""
    if sum((environment is not None, bool(given), snapshot is not None)) != 1:
        raise click.UsageError("Give one of --env, --salt, --snapshot.")
    if given:
        if only:
            raise click.UsageError("--flag belongs to --env or --snapshot.")
        return Subject("given salts", {f"salt {salt}": salt for salt in given}, {})
    if snapshot is not None:
        subject = _of_file(snapshot)
    else:
        subject = _of_environment(context, str(environment))
    missing = [key for key in only if key not in subject.salts]
    if missing:
        raise Failure(f"There is no flag {missing[0]!r} in {subject.words}.", code="not_found")
    wanted = {key: salt for key, salt in subject.salts.items() if not only or key in only}
    departures = {key: of for key, of in subject.departures.items() if key in wanted}
    return Subject(subject.words, wanted, departures)


def _of_file(path: Path) -> Subject:
    try:
        found = file.read(path)
    except (OSError, ValueError, RecursionError) as error:
        raise Failure(f"--snapshot: {error}") from None
    salts = {key: flag.salt for key, flag in found.flags.items()}
    conditions = {
        key: [condition.attribute for condition in flag.conditions]
        for key, flag in found.flags.items()
    }
    return Subject(f"the flags of {found.environment}", salts, _departures(conditions))


def _of_environment(context: click.Context, environment: str) -> Subject:
    found = options.api(context).get("/api/v1/flags")["flags"]
    own = [flag for flag in found if environment in flag["environments"]]
    if found and not own:
        raise Failure(f"There is no environment {environment!r}.", code="not_found")
    conditions = {
        flag["key"]: [c["attribute"] for c in flag["environments"][environment]["conditions"]]
        for flag in own
    }
    salts = {flag["key"]: flag["salt"] for flag in own}
    return Subject(f"the flags of {environment}", salts, _departures(conditions))


def _departures(attributes: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return flag -> what its conditions look at that is a departure from uniform."""
    found = {key: sorted(NON_UNIFORM_ATTRIBUTES & set(names)) for key, names in attributes.items()}
    return {key: names for key, names in found.items() if names}


class _Progress:
    """One line on a terminal, written over and over; nothing elsewhere."""

    def __init__(self, context: click.Context) -> None:
        self._console = console(err=True)
        self._on = self._console.is_terminal and not _as_json(context)

    def tell(self, words: str) -> None:
        """Say what is being done."""
        if self._on:
            self._console.file.write(f"\r\x1b[K{clean(words)} …")
            self._console.file.flush()

    def end(self) -> None:
        """Take the line away."""
        if self._on:
            self._console.file.write("\r\x1b[K")
            self._console.file.flush()


def _as_json(context: click.Context) -> bool:
    return bool(context.find_root().params.get("as_json"))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", code="cannot_write") from None


def _text(made: Proof, subject: Subject) -> str:
    flags = f"{len(made.salts)} {'flag' if len(made.salts) == 1 else 'flags'}"
    lines = [
        f"{subject.words}: {flags}; {made.ids:,} ids of each of five shapes,",
        f"from the seed {made.seed!r}, with {made.computed_with}",
        "",
        *(line for verdict in made.verdicts for line in _verdict_lines(verdict)),
        "",
        "Unfair lots, which must be found:",
        "",
        *(line for control in made.controls for line in _control_lines(control)),
        "",
        *_worst_lines(made),
        *_departure_lines(subject.departures),
        f"{'✔' if made.kind == FAIR else '✖'} {WORDS[made.kind]}.",
    ]
    return "\n".join(map(clean, lines))


def _verdict_lines(verdict: Verdict) -> list[str]:
    worst = verdict.worst
    if worst is None:
        return [f"– {verdict.check:<9} nothing to compare", f"    {CHECKS[verdict.check]}"]
    mark = "✔" if verdict.passed else "✖"
    tests = f"{verdict.tests:,} tests"
    told = f"{mark} {verdict.check:<9} {tests:>13}   smallest tail {worst.tail:<8.2g}"
    return [f"{told} limit {verdict.limit:.1e}", f"    {CHECKS[verdict.check]}"]


def _control_lines(control: Control) -> list[str]:
    found = ", ".join(f"{check} {len(shapes)}/5" for check, shapes in control.found.items())
    mark = "✔" if control.caught else "✖"
    return [f"{mark} {control.name:<9} found by {found}", f"    {control.words}"]


def _worst_lines(made: Proof) -> list[str]:
    failed = [v.worst for v in made.verdicts if v.worst is not None and not v.passed]
    return [
        f"✖ {worst.check}: {worst.subject} on {worst.shape}: {worst.figure:g} "
        f"(tail {worst.tail:.2g})"
        for worst in failed
    ]


def _departure_lines(departures: Mapping[str, list[str]]) -> list[str]:
    return [
        f"⚠ {key}: {' and '.join(names)} picks traffic by place, not by lot."
        for key, names in departures.items()
    ]


# --- report ---------------------------------------------------------------------------------------

MARKS: Mapping[str, str] = {"within": "✔", "outside": "✖", "too_few": "–", "unknown": "–"}


@neutrality.command("report")
@click.argument("key", shell_complete=completion.flags)
@options.environment(help="Only this one.")
@click.pass_context
def report_command(context: click.Context, key: str, environment: str | None) -> None:
    """Report what a flag's lot does live: how points spread, how often each variant is served.

    From counts, without ids. Below 1,000 there is too little to say.
    """
    found = options.api(context).get(f"/api/v1/neutrality/{key}", environment=environment)
    say(context, found, "\n\n".join(_report(each) for each in found["environments"]))


def _report(of: Mapping[str, Any]) -> str:
    points, ratio = of["points"], of["ratio"]
    told = [f"{of['environment']}"]
    told += [f"  {MARKS[points['kind']]} points: {points['words']}, {points['points']:,} counted"]
    if points["kind"] != "too_few":
        told[-1] += f", chi-square {points['chi_square']:.1f}, tail {points['tail']:.2g}"
    told += [f"  {MARKS[ratio['kind']]} variants: {ratio['words']}"]
    told[-1] += f": {ratio['why']}" if ratio["why"] else f", since {ratio['since']}"
    told += [f"      {_variant(row, ratio['kind'])}" for row in ratio["variants"]]
    told += [f"  ⚠ {words}" for words in of["departures"]]
    return "\n".join(map(clean, told))


def _variant(row: Mapping[str, Any], kind: str) -> str:
    counted = f"{row['name']}: {row['count']:,}"
    if kind == "unknown":
        return counted
    return f"{counted}, expected {row['expected']:,.0f} ({row['low']:,} to {row['high']:,})"
