"""`watch`: follow a rollout to its end; and the options of whatever ends in following one."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from .. import exits, options, screens, summary
from ..api import Failure
from ..heartbeat import LOST_AFTER, Heartbeat, Stopped, stoppable
from ..output import note
from ..watching import Watch
from .group import LIVE_ID, F, rollouts


def seconds_of(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> float | None:
    """Return the seconds that `45m`, `1h30m` or plain seconds mean."""
    if text is None:
        return None
    match = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text)
    if not match or not any(match.groups()):
        raise click.BadParameter(f"{text!r} is no duration: write 90s, 45m or 1h30m.")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


FOLLOWING = ("seconds", "fail_on_hold", "summary_file", "hold_if_lost", "lost_after")
"""What `watching` adds, by name."""


def watching(command: F) -> F:
    """Add the options of following a rollout."""
    found = [
        click.option(
            "--timeout",
            "seconds",
            metavar="DURATION",
            callback=seconds_of,
            help="Follow it no longer than this.  [its schedule, what CodeDeploy waits, and 15m]",
        ),
        click.option("--fail-on-hold", is_flag=True, help="End with 4 when it holds or is paused."),
        click.option(
            "--summary",
            "summary_file",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Append what it came to, in Markdown.",
        ),
        click.option(
            "--hold-if-lost",
            is_flag=True,
            help="Hold it when this watch is stopped, or not heard of for --lost-after.",
        ),
        click.option(
            "--lost-after",
            metavar="DURATION",
            callback=seconds_of,
            default="2m",
            show_default=True,
            help="How long nothing may be heard.",
        ),
    ]
    for option in reversed(found):
        command = option(command)
    return command


@rollouts.command("watch")
@LIVE_ID
@watching
@click.pass_context
def watch_rollout(context: click.Context, /, id: str, **given: Any) -> None:
    """Follow a rollout to its end: a live table on a terminal, a line per event elsewhere.

    Ends with 0 when it is complete, 3 when it was rolled back, 7 when a newer one replaced it, 5
    when the time is up (the rollout goes on), 6 when the server never answered. Ctrl-C only ends
    the watching.

    With --hold-if-lost a rollout never runs on unseen: whatever ends the watching before the
    rollout has ended puts it on hold, until somebody resumes it.
    """
    check_summary(given["summary_file"])
    follow(context, id, **given)


def follow(
    context: click.Context,
    id: str,
    *,
    seconds: float | None,
    fail_on_hold: bool,
    summary_file: Path | None,
    hold_if_lost: bool = False,
    lost_after: float = LOST_AFTER,
) -> None:
    """Follow a rollout and end the command as it ended."""
    api = options.api(context)
    as_json = bool(context.find_root().params.get("as_json"))
    heartbeat = Heartbeat(api, id, lost_after) if hold_if_lost else None
    with screens.screen(api, id, as_json=as_json) as screen:
        watch = Watch(
            *(api, id, screen),
            seconds=seconds,
            fail_on_hold=fail_on_hold,
            heartbeat=heartbeat,
        )
        with stoppable() if hold_if_lost else nullcontext():
            try:
                last = watch.run()
            except KeyboardInterrupt:
                last = watch.leave()
            except Stopped as stopped:
                last = watch.stop(stopped.name, 128 + stopped.number)
    if summary_file is not None and last.rollout is not None:
        _append(context, summary_file, summary.markdown(last.rollout, last.words))
    context.exit(exits.DONE if last.exit_code is None else last.exit_code)


def check_summary(path: Path | None) -> None:
    """Fail now rather than after half an hour, if the summary cannot be written."""
    if path is None:
        return
    try:
        path.open("a").close()
    except OSError as error:
        raise Failure(f"--summary: {error}", exits.USAGE, code="bad_file") from None


def _append(context: click.Context, path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        # How the rollout ended matters more.
        note(context, f"--summary: {error}")
