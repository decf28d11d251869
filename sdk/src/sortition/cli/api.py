"""The server, as the command sees it: bounded, retried where that is safe, plain when it fails."""

from __future__ import annotations

import json
import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import click
import httpx

from sortition import __version__

from . import exits

ATTEMPTS = 3
ANSWER_LIMIT = 64 * 1024 * 1024
RETRIED = frozenset({429, 502, 503, 504})
NO_ADDRESS = (httpx.UnsupportedProtocol, httpx.InvalidURL)
"""Waiting does not help here."""


class Failure(click.ClickException):
    """What ends the command: what happened, what to do; for people, and as JSON."""

    def __init__(self, message: str, exit_code: int = exits.ERROR, **more: Any) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance
        self.more = more
        # Kept from here: when it is shown, the command's context is gone.
        self._context = click.get_current_context(silent=True)

    @property
    def passes(self) -> bool:
        """Whether it may pass by itself: nobody answers, or something in between does."""
        if self.more.get("code") == "bad_address":
            return False
        return self.exit_code == exits.UNREACHABLE or self.more.get("status", 0) >= 500

    def show(self, file: Any = None) -> None:  # noqa: ARG002 (click's own signature)
        """Print it: JSON to stdout where that was asked for, else a line to stderr."""
        context = self._context
        if context is not None and context.find_root().params.get("as_json"):
            click.echo(json.dumps(self.as_json()))
        else:
            click.echo(f"✖ {self.message}", err=True)

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {"error": {"detail": self.message, "exit_code": self.exit_code, **self.more}}


@dataclass
class Api:
    """One server and one token; and the time, for commands that wait.

    timeout: seconds for one answer.  attempts: how often a call is tried.  monotonic: seconds that
    never run backwards.  now: unix seconds.
    """

    url: str
    token: str
    timeout: float = 10.0
    transport: httpx.BaseTransport | None = None
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    attempts: int = ATTEMPTS
    monotonic: Callable[[], float] = field(default=time.monotonic, repr=False)
    now: Callable[[], float] = field(default=time.time, repr=False)

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON of a resource. Raises Failure."""
        return self.send("GET", path, query=query)[0]

    def send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, Any] | None = None,
        revision: int | None = None,
        idempotency_key: str | None = None,
    ) -> tuple[Any, httpx.Headers]:
        """Return (JSON, headers) of one call. Raises Failure.

        Reads are tried `attempts` times. So are writes: each carries an idempotency key, so that a
        retry of one that had been done is answered and not done again.
        """
        headers = {
            "Authorization": f"Bearer {self.token}",
            "User-Agent": f"sortition-cli/{__version__}",
        }
        if revision is not None:
            headers["If-Match"] = f'"{revision}"'
        if method != "GET":
            headers["Idempotency-Key"] = idempotency_key or secrets.token_hex(16)
        given = {name: value for name, value in (query or {}).items() if value is not None}
        with httpx.Client(timeout=self.timeout, transport=self.transport) as client:
            for attempt in range(1, self.attempts + 1):
                last = attempt == self.attempts
                try:
                    request = client.build_request(
                        method, self.url + path, params=given, json=body, headers=headers
                    )
                    answer = client.send(request)
                except (httpx.TransportError, httpx.InvalidURL) as error:
                    if last or isinstance(error, NO_ADDRESS):
                        raise self._unreachable(error) from None
                else:
                    if answer.status_code not in RETRIED or last:
                        return _understood(answer)
                self.sleep(random.random() * 0.3 * 2**attempt)  # noqa: S311 (jitter)
        raise AssertionError("unreachable")

    def _unreachable(self, error: Exception) -> Failure:
        what = (
            "did not answer in time"
            if isinstance(error, httpx.TimeoutException)
            else "is not reachable"
        )
        return Failure(
            f"{self.url} {what}. Is the address right (SORTITION_URL, --url)? "
            "`sortition doctor` looks closer.",
            exits.UNREACHABLE,
            code="bad_address" if isinstance(error, NO_ADDRESS) else "unreachable",
        )


def _understood(answer: httpx.Response) -> tuple[Any, httpx.Headers]:
    try:
        content = answer.json() if answer.content else None
    except ValueError:
        content = None
    if answer.is_success and content is not None:
        return content, answer.headers
    if not isinstance(content, dict) or "code" not in content:
        raise Failure(
            f"This does not look like a Sortition server (status {answer.status_code}). "
            "Check SORTITION_URL.",
            exits.ERROR,
            code="not_sortition",
            status=answer.status_code,
        )
    raise Failure(_words(content), exits.of_problem(content["code"]), **content)


HINTS = {
    "unauthenticated": "Set SORTITION_TOKEN or --token-file to a valid token.",
    "stale_revision": "Look again (`get`), then repeat the change.",
    "store_unavailable": "Flags keep their values. Try again when `sortition doctor` is content.",
}


def _words(problem: Mapping[str, Any]) -> str:
    field_name = problem.get("field")
    option = exits.option_of(field_name) if isinstance(field_name, str) else None
    named = f"{option}: " if option else ""
    hint = HINTS.get(problem["code"])
    return f"{named}{problem.get('detail', problem['code'])}" + (f" {hint}" if hint else "")
