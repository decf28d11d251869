"""`sync`: what a rollout moved is where the rollout left it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from .. import exits, options
from .. import rollout_words as words
from ..api import Api
from ..output import percent, say, table
from .changing import check_place, why
from .following import seconds_of
from .group import ID, ROLLOUTS, rollouts

POLL_SECONDS = 1.5
GOING_BACK = frozenset({"rolling_back", "rollback_failed"})


@rollouts.command("sync")
@ID
@click.option(
    "--timeout",
    "seconds",
    metavar="DURATION",
    callback=seconds_of,
    default="2m",
    show_default=True,
    help="How long a rollback that is under way is waited for.",
)
@options.environment(help="Only if the rollout is there.")
@options.write()
@click.pass_context
def sync_rollout(
    context: click.Context, /, id: str, seconds: float, environment: str | None, **given: Any
) -> None:
    """Bring engine and flags to where a rollout left them; say what was done. Safe to repeat.

    Nothing is enlarged, and what somebody else moved since is left and told. Ends with 0 when all
    is in line, or the rollout is still on its way; 3 when a rollback is not confirmed; 9 when
    something is not in line, also in a dry run.
    """
    write = options.gather(given)
    api = options.api(context)
    it = _settled(api, id, seconds)
    check_place(it, environment)
    synced, _ = api.send(
        *("POST", f"{ROLLOUTS}/{id}/sync", why(write.reason, None)),
        query={"dry_run": 1} if write.dry_run else None,
        revision=write.if_revision,
        idempotency_key=write.idempotency_key,
    )
    state = words.state(it)
    if not synced["over"]:
        _print_on_its_way(context, it, synced)
        context.exit(exits.ROLLED_BACK if it["state"] in GOING_BACK else exits.DONE)
    rows = [
        [
            "✔" if each["in_line"] else "✖",
            each["target"],
            percent(each["wanted"]),
            "–" if each["found"] is None else percent(each["found"]),
            each["reason"],
        ]
        for each in synced["targets"]
    ]
    say(context, synced, table("", f"{state}:", "Left at>", "Now>", "", rows=rows))
    context.exit(exits.DONE if synced["in_line"] else exits.CHECK_FAILED)


def _settled(api: Api, id: str, seconds: float) -> Mapping[str, Any]:
    """Return the rollout, after a rollback that is under way has ended or taken too long."""
    until = api.monotonic() + seconds
    while True:
        it: Mapping[str, Any] = api.get(f"{ROLLOUTS}/{id}")
        if it["state"] not in GOING_BACK or api.monotonic() >= until:
            return it
        api.sleep(POLL_SECONDS)


def _print_on_its_way(
    context: click.Context, it: Mapping[str, Any], synced: Mapping[str, Any]
) -> None:
    if it["state"] == "superseded":
        text = f"{it['id']}: {words.state(it)}; {it['superseded_by']} moves its targets now."
    else:
        reason = words.reason(it)
        text = f"{it['id']}: {words.state(it)}, {words.step(it)}. {reason}".rstrip()
        text += " It has not ended: there is nothing to bring in line yet."
    say(context, synced, text)
