"""The connection below a request, where the server hands it over: so that nobody waits for ever.

WSGI has no word for it. gunicorn and Werkzeug put the socket into the environment; without one
(in tests, behind other servers) nothing happens here.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

NAMES = ("gunicorn.socket", "werkzeug.socket")


def below(environ: Mapping[str, Any]) -> socket.socket | None:
    """Return the connection of a request, or None."""
    for name in NAMES:
        found = environ.get(name)
        if isinstance(found, socket.socket):
            return found
    return None


@contextmanager
def patience(environ: Mapping[str, Any], seconds: float) -> Iterator[None]:
    """Let each read and write within take at most so long; then it raises TimeoutError."""
    connection = below(environ)
    before = None if connection is None else connection.gettimeout()
    if connection is not None:
        connection.settimeout(seconds)
    try:
        yield
    finally:
        if connection is not None:
            connection.settimeout(before)
