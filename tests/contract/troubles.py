"""Clients that lose things on the way, to be put between a store and its server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

Meddle = Callable[[Callable[[], Any]], Any]
"""Given a function that sends a command and returns the answer, returns an answer or raises."""


class Meddling:
    """A client that hands each command of a name to the next meddler, and the others straight on.

    A Cluster's client is recognised by its methods, so they are all there.
    """

    def __init__(self, client: Any, command: str, *meddlers: Meddle) -> None:
        self._client = client
        self._command = command
        self._meddlers = list(meddlers)

    def execute_command(self, *command: Any, **options: Any) -> Any:
        def send() -> Any:
            return self._client.execute_command(*command, **options)

        if command[0] == self._command and self._meddlers:
            return self._meddlers.pop(0)(send)
        return send()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def answer_lost(send: Callable[[], Any]) -> Any:
    """Carry it out; the answer never arrives."""
    send()
    raise redis.TimeoutError("Timeout reading from socket")


def question_lost(send: Callable[[], Any]) -> Any:
    """Lose the connection before anything arrives."""
    raise redis.ConnectionError("Connection closed by server.")


def after(first: Callable[[], Any], then: Meddle = lambda send: send()) -> Meddle:
    """Let something happen before the command is handled as `then` says."""

    def meddle(send: Callable[[], Any]) -> Any:
        first()
        return then(send)

    return meddle
