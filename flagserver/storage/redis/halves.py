"""A/A history: how two halves of a service scattered, window by window, a hash for each day."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from . import keys
from .scripts import script
from .server import Call, Server

log = logging.getLogger(__name__)

DAY = 24 * 60 * 60

KEEP_SECONDS = 8 * DAY
"""How long a day is kept after its newest window: a week is whole at any time."""

SERVICES = 200
"""Services of an environment that may have history, besides those that were rolled out: a service
is called what whoever reports says."""

DAY_WINDOWS = 288
"""Most windows of a day, twice what there are: nobody fills the store with them."""


class RedisHalves:
    """`ports.Halves`."""

    _server: Server

    def keep_halves(
        self,
        environment: str,
        service: str,
        windows: Mapping[int, Mapping[str, Any]],
        *,
        always: bool = False,
    ) -> bool:
        """Keep what windows said, by their end. False where too many services have some."""
        if not windows:
            return True
        told: list[str | int] = [service, max(windows), KEEP_SECONDS, SERVICES, int(always)]
        if not self._server.run(Call(script("known"), [keys.known(environment)], told)):
            return False
        calls = [
            Call(
                script("halves"),
                [keys.halves(environment, service, end // DAY)],
                [end, _json(said), KEEP_SECONDS, DAY_WINDOWS, int("why" not in said)],
            )
            for end, said in windows.items()
        ]
        self._server.run_all(calls)
        return True

    def known(self, environment: str) -> list[str]:
        """Return the services of an environment that have history."""
        found = self._server.read("ZRANGE", keys.known(environment), 0, -1)
        return [name.decode() for name in found]

    def time(self) -> float:
        """Return what time it is by the store's clock (unix)."""
        seconds, microseconds = self._server.read("TIME", key=keys.META)
        return int(seconds) + int(microseconds) / 10**6

    def halves(
        self, wanted: Collection[tuple[str, str]], *, since: int, until: int
    ) -> Mapping[tuple[str, str], Mapping[int, Mapping[str, Any]]]:
        """Return end -> what was said, of the windows that ended in (since, until]."""
        since = max(since, until - KEEP_SECONDS)
        days = range((since + 1) // DAY, until // DAY + 1)
        asked = [(each, day) for each in dict.fromkeys(wanted) for day in days]
        answers = self._server.read_all([("HGETALL", keys.halves(*it, day)) for it, day in asked])
        found: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = defaultdict(dict)
        for (it, _), windows in zip(asked, answers, strict=True):
            for end, said in sorted((int(end), said) for end, said in windows.items()):
                if since < end <= until:
                    found[it][end] = _read(said)
        return dict(found)


def _json(said: Mapping[str, Any]) -> str:
    return json.dumps(dict(said), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _read(said: bytes) -> Mapping[str, Any]:
    """Return what a window said, nothing where it cannot be read."""
    try:
        body = json.loads(said)
    except ValueError:
        log.error("a window of A/A history cannot be read")  # noqa: TRY400 (it would say its bytes)
        return {}
    return body if isinstance(body, dict) else {}
