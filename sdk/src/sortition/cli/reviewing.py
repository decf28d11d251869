"""`sortition review`: how rollouts went, and saying of one that it was false or missed."""

from __future__ import annotations

from typing import Any

import click

from . import completion, exits, options
from .api import Failure
from .output import JsonCommand, Noun, duration, note, say, table

REVIEW = "/api/v1/review"
MARKS = ("right", "false", "missed", "none")


@click.group(cls=Noun)
def review() -> None:
    """How rollouts went, and what people say of them."""


@review.command("show", cls=JsonCommand)
@options.environment(help="Only of this environment.")
@click.option("--days", type=click.IntRange(1, 90), default=30, show_default=True)
@click.option("--fail-on-concern", is_flag=True, help="Exit with 9 when something raises a review.")
@click.pass_context
def show_review(
    context: click.Context, environment: str | None, days: int, fail_on_concern: bool
) -> None:
    """Show success, detection, restore, false and missed ones of the last days."""
    query = {"environment": environment, "days": days}
    found, _ = options.api(context).send("GET", REVIEW, query=query)
    rows = [
        ["success", _part(found["success"]), "at least 98 %", _ended(found)],
        ["detected after", *_spread(found["detection"], "5m")],
        ["restored after", *_spread(found["restore"], "10m")],
        ["false rollbacks", _part(found["false_part"]), "at most 10 %", _false(found)],
        ["missed", str(len(found["missed"])), "0", ", ".join(found["missed"])],
        ["over 45 minutes", str(len(found["long"])), "0", ", ".join(found["long"])],
    ]
    say(context, found, table("", "Figure>", "Meant>", "Of", rows=rows))
    for concern in found["concerns"]:
        note(context, f"⚠ {concern['words']}: {', '.join(concern['rollouts'])}")
    if found["concerns"] and fail_on_concern:
        words = f"{len(found['concerns'])} concerns raise a review."
        raise Failure(words, exits.CHECK_FAILED, kind="review")


@review.command("mark", cls=JsonCommand)
@click.argument("id", shell_complete=completion.rollouts)
@click.argument("mark", type=click.Choice(MARKS))
@options.write()
@click.pass_context
def mark_rollout(context: click.Context, /, id: str, mark: str, **given: Any) -> None:
    """Say of a rollout that it ended as it should (right), was taken back for nothing (false), or
    went wrong and nothing took it back (missed); none takes back what was said."""
    write = options.gather(given)
    body = {"mark": None if mark == "none" else mark}
    if write.reason is not None:
        body["reason"] = write.reason
    if write.dry_run:
        say(context, {"dry_run": True, "mark": {"rollout": id, **body}}, f"would mark {id} {mark}")
        return
    found, _ = options.api(context).send(
        "PUT", f"{REVIEW}/{id}", body, idempotency_key=write.idempotency_key
    )
    say(context, found, f"✔ {id}: {mark}.")


def _part(part: float | None) -> str:
    return "–" if part is None else f"{100 * part:.1f} %"


def _ended(found: dict[str, Any]) -> str:
    return f"{found['completed']} complete, {found['rolled_back']} rolled back"


def _false(found: dict[str, Any]) -> str:
    unmarked = f", {found['unmarked']} not looked at" if found["unmarked"] else ""
    return f"{len(found['false'])} of {found['automatic']} automatic{unmarked}"


def _spread(spread: dict[str, Any], limit: str) -> list[str]:
    if not spread["count"]:
        return ["–", f"within {limit}", "none"]
    longest = (
        f"longest {duration(spread['longest'])}, {spread['within']} of {spread['count']} in time"
    )
    return [duration(spread["median"]), f"within {limit}", longest]
