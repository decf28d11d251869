"""`hold`, `resume`, `advance`, `approve`, `rollback`, `note`: do one thing to a rollout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from .. import exits, options
from .. import rollout_words as words
from ..api import Api, Failure
from ..options import Write
from ..output import say
from .group import ID, LIVE_ID, ROLLOUTS, rollouts


def _verb(name: str, words_: str, *, enlarging: bool) -> None:
    """Add a command that does one thing to a rollout."""

    @rollouts.command(name, help=words_)
    @LIVE_ID
    @options.environment(help="Only if the rollout is there.")
    @options.write(enlarging=enlarging)
    @click.pass_context
    def command(context: click.Context, /, id: str, environment: str | None, **given: Any) -> None:
        done = do(context, name, id, environment, options.gather(given))
        if done is not None:
            reason = words.reason(done)
            line = f"✔ {id}: {words.state(done)}, {words.step(done)}"
            say(context, done, f"{line}. {reason}" if reason else f"{line}.")


_verb("hold", "Stop the timer and every move up, until somebody resumes.", enlarging=False)
_verb(
    "resume",
    "Go on after somebody held it, or changed a target or flag of it.",
    enlarging=True,
)
_verb("advance", "Skip the rest of this step's wait.", enlarging=True)
_verb("approve", "Approve of going on from this step.", enlarging=True)
_verb(
    "rollback",
    "Take everything back to 0 %; waits for nobody and asks for nothing.",
    enlarging=False,
)


@rollouts.command("note")
@ID
@options.environment(help="Only if the rollout is there.")
@options.write(enlarging=False)
@click.pass_context
def note(context: click.Context, /, id: str, environment: str | None, **given: Any) -> None:
    """Add words to its record, as --reason: why it was taken back, what was found since."""
    done = do(context, "note", id, environment, options.gather(given))
    if done is not None:
        say(context, done, f"✔ {id}: it is in the record.")


PLACES = {"note": "notes"}
"""What stands in an address, where that is not the verb itself."""

ENLARGING = frozenset({"start", "resume", "advance", "approve"})
"""What lets exposure grow: only at the revision that was seen."""


def do(
    context: click.Context, verb: str, id: str, environment: str | None, write: Write
) -> dict[str, Any] | None:
    """Do one thing to a rollout; return it as it is then, None after a dry run.

    Holding and taking back ask nothing first, unless they are told to look at something.
    """
    api = options.api(context)
    path, revision, confirm = f"{ROLLOUTS}/{id}", write.if_revision, write.confirm
    grows = verb in ENLARGING
    if grows or write.dry_run or environment is not None:
        seen = api.get(path)
        check_place(seen, environment)
        if grows and revision is None:
            revision = seen["revision"]
        if write.dry_run:
            _dry_run(context, api, verb, seen, why(write.reason, None), revision)
            return None
        if grows:
            what = f"{verb} {id}: {words.title(seen)}, {words.state(seen)}, {words.step(seen)}"
            confirm = confirmed(api, confirm, seen["environment"], what)
    done, _ = api.send(
        *("POST", f"{path}/{PLACES.get(verb, verb)}", why(write.reason, confirm)),
        revision=revision,
        idempotency_key=write.idempotency_key,
    )
    return dict(done)


def check_place(seen: Mapping[str, Any], environment: str | None) -> None:
    """Raise Failure unless a rollout is where it is said to be."""
    if environment is not None and seen["environment"] != environment:
        message = f"{seen['id']} is in {seen['environment']}, not in {environment}."
        raise Failure(message, exits.USAGE, code="usage")


def _dry_run(
    context: click.Context,
    api: Api,
    verb: str,
    seen: Mapping[str, Any],
    body: Mapping[str, Any],
    revision: int | None,
) -> None:
    path = f"{ROLLOUTS}/{seen['id']}/{PLACES.get(verb, verb)}"
    after, _ = api.send("POST", path, body, query={"dry_run": 1}, revision=revision)
    now, then = (f"{words.state(it)}, {words.step(it)}" for it in (seen, after))
    text = f"would {verb} {seen['id']}: {words.title(seen)}, revision {seen['revision']}"
    content = {"dry_run": True, "verb": verb, "before": seen, "after": after}
    say(context, content, f"{text}\n{now} → {then}")


def confirmed(api: Api, given: str | None, environment: str, what: str) -> str | None:
    """Return the confirmation, asked for on a terminal where it is needed."""
    if given is not None:
        return given
    if not options.is_interactive():
        return None
    critical = api.get(f"/api/v1/environments/{environment}")["critical"]
    return options.confirmed(None, environment, needed=critical, what=what)


def why(reason: str | None, confirm: str | None) -> dict[str, Any]:
    """Return what the body of a write says besides what it is about."""
    body = {"reason": reason, "confirm_environment": confirm}
    return {name: text for name, text in body.items() if text is not None}
