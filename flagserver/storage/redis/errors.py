"""What Redis says when it will not, told to people: what happened, and what to do about it.

Never the server's own text (it may quote arguments) and never the URL (it may hold a password);
both are in the chained exception for whoever debugs.
"""

from __future__ import annotations

import re

import redis
from redis import exceptions as said

from flagserver.domain.errors import StoreUnavailable

NOTHING = "Nothing was changed."
UNKNOWN = "Whether a change was made is not known: look before trying again."

WORDS = {
    "OOM": "The store's memory is full (maxmemory). Give it more. " + NOTHING,
    "READONLY": "The store is a read-only replica; a failover may be under way. " + NOTHING,
    "LOADING": "The store is still reading its data back. " + NOTHING,
    "NOREPLICAS": "The store has too few replicas in reach to take a change. " + NOTHING,
    "MASTERDOWN": "The store's replica has lost its master. " + NOTHING,
    "MISCONF": "The store cannot write to its disk; it may be full. " + NOTHING,
    "BUSY": "The store is busy with somebody's long script. " + NOTHING,
    "CLUSTERDOWN": "The Cluster does not serve all of its slots. " + NOTHING,
    "TRYAGAIN": "The Cluster is moving our slot. " + NOTHING,
    "MOVED": "The store is a Cluster: say redis-cluster:// in place of redis://. " + NOTHING,
    "ASK": "The store is a Cluster: say redis-cluster:// in place of redis://. " + NOTHING,
    "CROSSSLOT": "The store is a Cluster: say redis-cluster:// in place of redis://. " + NOTHING,
    "NOAUTH": "The store wants a password. " + NOTHING,
    "WRONGPASS": "The store refuses our user name or password. " + NOTHING,
    "NOPERM": "The store's user may not do what we need; see its ACL. " + NOTHING,
    "WRONGTYPE": "A key of ours holds something else: somebody else writes to this store.",
}
"""The first word of an error -> what it means here."""

CLASSES: tuple[tuple[type[Exception], str], ...] = (
    (said.OutOfMemoryError, "OOM"),
    (said.ReadOnlyError, "READONLY"),
    (said.BusyLoadingError, "LOADING"),
    (said.NoPermissionError, "NOPERM"),
    (said.MasterDownError, "MASTERDOWN"),
    (said.ClusterDownError, "CLUSTERDOWN"),
    (said.TryAgainError, "TRYAGAIN"),
    (said.MovedError, "MOVED"),
    (said.AskError, "ASK"),
    (said.ClusterCrossSlotError, "CROSSSLOT"),
)
"""redis-py takes the first word off the errors that it has a class for."""

LOST = (said.ConnectionError, said.TimeoutError)
"""The connection ended, or the answer did not come: what was sent may have been done."""


def is_lost(error: Exception) -> bool:
    """Whether it is unknown if the server did what was asked, or whether it was asked at all."""
    refused = (said.AuthenticationError, said.AuthorizationError, said.MaxConnectionsError)
    return isinstance(error, LOST) and not isinstance(error, (*refused, said.BusyLoadingError))


def unavailable(error: Exception, where: str, seconds: float) -> StoreUnavailable:
    """Return what to raise for an error of redis-py.

    where: the store's address without credentials.  seconds: how long we waited for an answer.
    """
    return StoreUnavailable(f"{_told(error, seconds)} (store: {where})")


def _told(error: Exception, seconds: float) -> str:
    if isinstance(error, said.MaxConnectionsError) or _pool_is_empty(error):
        return f"All of our connections to the store are in use. {NOTHING}"
    if isinstance(error, said.TimeoutError):
        return f"The store did not answer within {seconds:g} s. {UNKNOWN}"
    if isinstance(error, said.AuthenticationError | said.AuthorizationError):
        return WORDS["NOAUTH" if "required" in str(error).lower() else "WRONGPASS"]
    word = _first_word(error)
    if word in WORDS:
        return WORDS[word]
    if isinstance(error, said.ConnectionError):
        return _connection(error)
    if isinstance(error, said.RedisClusterException | said.ClusterError):
        return f"No node of the Cluster answers. {NOTHING}"
    return f"The store answered with an error ({word or type(error).__name__})."


def _first_word(error: Exception) -> str:
    for kind, word in CLASSES:
        if isinstance(error, kind):
            return word
    # Redis 6 and fakes put the error of a call in a script behind words of their own.
    found = re.search(r"(?:^|[\s:-])([A-Z]{3,})\b", str(error))
    return found[1] if found else ""


def _pool_is_empty(error: Exception) -> bool:
    return isinstance(error, redis.ConnectionError) and "No connection available" in str(error)


def _connection(error: Exception) -> str:
    text = str(error).lower()
    if "refused" in text:
        return f"Nothing listens at the store's address. {NOTHING}"
    if "no such file" in text or "error 2 " in text:
        return f"The store's socket is not there. {NOTHING}"
    if "name or service" in text or "resolution" in text or "nodename" in text:
        return f"The store's host name is not known. {NOTHING}"
    if "certificate" in text or "ssl" in text:
        return f"TLS to the store failed; look at its certificate. {NOTHING}"
    if "permission denied" in text or "error 13 " in text:
        return f"We may not open the store's socket. {NOTHING}"
    return f"The connection to the store was lost. {UNKNOWN}"
