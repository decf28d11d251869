"""`verify`: HTTP checks from a file, side by side; for a pipeline's step, or a person."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import httpx

from sortition import __version__

from . import checks as checking
from . import exits
from .api import Failure
from .checks import BODY_LIMIT, Answer, Check
from .linting import checked
from .output import JsonCommand, console, say, table
from .rollouts.following import seconds_of

LONGEST_WAIT = 30.0
"""Seconds before a retry at most, however often it failed before."""

OVER = "the time of the whole run was up"


@dataclass(frozen=True)
class Result:
    """What became of a check. wrong: of its last attempt; empty: it passed. seconds: of the last
    answer, None where none came."""

    check: Check
    attempts: int
    status: int | None
    seconds: float | None
    wrong: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether everything was as expected."""
        return not self.wrong


class Verifier:
    """Carries checks out. deadline: of `monotonic`, for all of them together."""

    def __init__(
        self,
        client: httpx.Client,
        deadline: float,
        *,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._deadline = deadline
        self._sleep = sleep
        self._monotonic = monotonic

    def run(self, wanted: Sequence[Check], parallel: int) -> list[Result]:
        """Return what became of each, in their order."""
        with ThreadPoolExecutor(max_workers=parallel, thread_name_prefix="verify") as pool:
            return list(pool.map(self.verify, wanted))

    def verify(self, check: Check) -> Result:
        """Try a check until it passes, or its retries or the time are used up."""
        result = Result(check, 0, None, None, (OVER,))
        for attempt in range(1, check.retries + 2):
            if self._left() <= 0:
                return result
            result = self._attempt(check, attempt)
            if result.passed or attempt == check.retries + 1:
                return result
            longest = min(LONGEST_WAIT, check.wait * 2.0 ** min(attempt - 1, 10))
            # Spread, so that checks that failed together do not come back together.
            pause = longest * (0.5 + 0.5 * random.random())  # noqa: S311 (jitter)
            self._sleep(min(pause, self._left()))
        return result

    def _left(self) -> float:
        return max(0.0, self._deadline - self._monotonic())

    def _attempt(self, check: Check, number: int) -> Result:
        try:
            answer = self._ask(check)
        except httpx.TimeoutException:
            said = f"no answer within {check.timeout:g} s"
            return Result(check, number, None, None, (said,))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            said = f"no answer: {type(error).__name__}: {error}"
            return Result(check, number, None, None, (said,))
        wrong = tuple(checking.wrong(check.expect, answer))
        return Result(check, number, answer.status, answer.seconds, wrong)

    def _ask(self, check: Check) -> Answer:
        began = self._monotonic()
        until = began + min(check.timeout, self._left())
        # A time-out of httpx's is for each read: an answer that trickles would outlive it.
        with self._client.stream(
            *(check.method, check.url),
            headers=dict(check.headers),
            content=check.content,
            timeout=max(0.001, until - began),
        ) as answer:
            body = self._read(answer.iter_bytes(), until)
        return Answer(answer.status_code, answer.headers, body, self._monotonic() - began)

    def _read(self, pieces: Iterator[bytes], until: float) -> bytes | None:
        body = b""
        for piece in pieces:
            body += piece
            if len(body) > BODY_LIMIT:
                return None
            if self._monotonic() > until:
                raise httpx.ReadTimeout("the answer trickles")
        return body


@click.command("verify", cls=JsonCommand)
@click.option(
    "-f",
    "--file",
    "path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML or JSON; `sortition lint --schema checks` prints its schema.",
)
@click.option("--base", metavar="URL", help="What addresses that begin with / are added to.")
@click.option(
    "--parallel", type=click.IntRange(1, 32), default=8, show_default=True, help="At a time."
)
@click.option(
    "--timeout",
    "whole",
    metavar="DURATION",
    callback=seconds_of,
    default="5m",
    show_default=True,
    help="For all of them together.",
)
@click.pass_context
def verify(
    context: click.Context, path: Path, base: str | None, parallel: int, whole: float
) -> None:
    """Check over HTTP that a deployed service answers as a file says.

    Every check is carried out, several at a time; one that fails is tried again as often as the
    file says. Needs no Sortition server. Ends with 9 when a check failed.
    """
    placed = checked(path, "checks")
    try:
        wanted = checking.checks(placed, base, os.environ)
    except ValueError as error:
        raise Failure(f"{path}: {error}.", exits.USAGE, code="bad_file") from None
    agent = {"User-Agent": f"sortition-verify/{__version__}"}
    with httpx.Client(headers=agent, follow_redirects=False) as client:
        results = Verifier(client, time.monotonic() + whole).run(wanted, parallel)
    _print(context, results)
    if not all(result.passed for result in results):
        context.exit(exits.CHECK_FAILED)


def _print(context: click.Context, results: Sequence[Result]) -> None:
    failed = sum(not result.passed for result in results)
    content = {
        "kind": "verify",
        "passed": len(results) - failed,
        "failed": failed,
        "checks": [_as_json(result) for result in results],
    }
    say(context, content, table("", "Check", "Status>", "Took>", "Tries>", "", rows=_rows(results)))
    if not context.find_root().params.get("as_json"):
        console().print(
            f"✖ {failed} of {len(results)} failed." if failed else f"✔ {len(results)} passed."
        )


def _rows(results: Sequence[Result]) -> list[list[str]]:
    return [
        [
            "✔" if result.passed else "✖",
            result.check.name,
            "–" if result.status is None else str(result.status),
            "–" if result.seconds is None else f"{result.seconds * 1000:.0f} ms",
            str(result.attempts),
            "; ".join(result.wrong),
        ]
        for result in results
    ]


def _as_json(result: Result) -> dict[str, Any]:
    return {
        "name": result.check.name,
        "method": result.check.method,
        "url": result.check.url,
        "passed": result.passed,
        "attempts": result.attempts,
        "status": result.status,
        "milliseconds": None if result.seconds is None else round(result.seconds * 1000, 1),
        "wrong": list(result.wrong),
    }
