"""What rollouts are judged by, look by look: a list for each rollout, the head of its series first;
and how the newest look left it.

Entries are compressed JSON, each by itself, with what all of them say in the dictionary.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from . import keys
from .scripts import script
from .server import Call, Server

log = logging.getLogger(__name__)

KEEP_SECONDS = 90 * 24 * 60 * 60
"""How long they are kept after the last."""

_LEVEL = 6

_USUAL = (
    b'{"look":{"ticks":{"alb/arn:aws:elasticloadbalancing:":[{"at":1800000000.0,"seconds":5.0,'
    b'"step":0,"share":0.05,"counts":{"http errors":[[25,0,475,1]],"user session errors":[[0,0,0,0'
    b']],"critical path failures":[[0,0,0,0]],"database connection errors":[[0,0,0,0]]},"latency":'
    b"[[[[100,1],[110,2],[120,3],[130,2],[140,1]],[[100,10],[101,11],[102,12],[103,13],[104,14]]]]"
    b',"assigned":null}]},"outside":{"step":0,"watched":5.0,"passed":5.0,"hold":300.0,"tick":5.0,"'
    b'data_age":5.0,"overtime":"person","hosts":null,"engine":null,"responder":null,"limits":[],"o'
    b'ver":false,"waived":false,"missing":[],"lost":null,"undecided":[]},"decision":{"does":"stay"'
    b',"rule":"well","sentence":"No harm seen; 295 s of the hold are left.","targets":[],"guard":n'
    b'ull,"evidence":0.9}},"places":{}}'
)
"""What an entry usually says, for the compression to refer to. Never changed: what was written with
it is read with it."""


class RedisEvidence:
    """`ports.Evidence`."""

    _server: Server

    def keep_evidence(
        self,
        rollout: str,
        known: int,
        entry: Mapping[str, Any],
        standing: Mapping[str, Any] | None = None,
    ) -> bool:
        """Add an entry after the `known` ones. False when there are others."""
        stands = "" if standing is None else _json(standing)
        arguments: list[str | bytes | int] = [known, _packed(entry), KEEP_SECONDS, stands]
        names = [keys.evidence(rollout), keys.standing(rollout)]
        return bool(self._server.run(Call(script("evidence"), names, arguments)))

    def standings(self, rollouts: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        """Return how the newest look left each of these, of those that have one."""
        found = self._server.read_all([("GET", keys.standing(id)) for id in rollouts])
        return {id: json.loads(it) for id, it in zip(rollouts, found, strict=True) if it}

    def evidence(self, rollouts: Sequence[str]) -> Mapping[str, list[Mapping[str, Any]]]:
        """Return the entries of each of these that has any, the head first."""
        commands = [("LRANGE", keys.evidence(id), 0, -1) for id in rollouts]
        found = self._server.read_all(commands)
        return {
            id: [_unpacked(entry) for entry in entries]
            for id, entries in zip(rollouts, found, strict=True)
            if entries
        }


def _json(body: Mapping[str, Any]) -> str:
    return json.dumps(dict(body), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _packed(entry: Mapping[str, Any]) -> bytes:
    packing = zlib.compressobj(_LEVEL, zdict=_USUAL)
    return packing.compress(_json(entry).encode()) + packing.flush()


def _unpacked(entry: bytes) -> Mapping[str, Any]:
    """Return an entry, empty where it cannot be read: one that is torn spoils no other rollout."""
    unpacking = zlib.decompressobj(zdict=_USUAL)
    try:
        body: Mapping[str, Any] = json.loads(unpacking.decompress(entry) + unpacking.flush())
    except (zlib.error, ValueError):
        log.error("an entry of evidence cannot be read")  # noqa: TRY400 (it would say its bytes)
        return {}
    return body
