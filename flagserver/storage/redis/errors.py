"""What Redis says when it will not, told to people: what happened, and what to do about it.

Never the server's own text (it may quote arguments) and never the URL (it may hold a password);
both are in the chained exception for whoever debugs.
"""

from __future__ import annotations

import re

from redis import exceptions as said

from flagserver.domain.errors import StoreUnavailable

NOTHING = "Nothing was changed."
UNKNOWN = "Whether the change was made is not known: look before trying again."

CLUSTER_SCHEME = "The store is a Cluster: its URL must begin with redis-cluster://."

WORDS = {
    "OOM": "The store's memory is full (maxmemory): give it more.",
    "READONLY": "The store is a read-only replica; a failover may be under way.",
    "LOADING": "The store is still reading its data back.",
    "NOREPLICAS": "The store has too few replicas in reach to take a change.",
    "MASTERDOWN": "The store's replica has lost its master.",
    "MISCONF": "The store cannot write to its disk; the disk may be full.",
    "BUSY": "The store is busy with somebody's long script.",
    "CLUSTERDOWN": "The Cluster does not serve all of its slots.",
    "TRYAGAIN": "The Cluster is moving our slot.",
    "MOVED": CLUSTER_SCHEME,
    "ASK": CLUSTER_SCHEME,
    "CROSSSLOT": CLUSTER_SCHEME,
    "NOAUTH": "The store wants a password.",
    "WRONGPASS": "The store refuses our user name or password.",
    "NOPERM": "The store's user may not do what we need: see its ACL.",
    "WRONGTYPE": "A key of ours holds something else: somebody else writes to this store.",
}
"""The first word of an error -> what it means here. Each is said before anything is written."""

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

REFUSED_US = (said.AuthenticationError, said.AuthorizationError)

CONNECTING = (
    (("refused",), "Nothing listens at the store's address."),
    (("no such file", "error 2 "), "The store's socket is not there."),
    (("permission denied", "error 13 "), "We may not open the store's socket."),
    (("name or service", "resolution", "nodename"), "The store's host name is not known."),
    (("no master found",), "No Sentinel names a master of the store; a failover may be under way."),
    (("certificate", "ssl"), "TLS to the store failed: look at its certificate."),
)
"""What redis-py's text holds (lower case) when it could not even connect -> what it means."""


def is_lost(error: Exception) -> bool:
    """Whether the connection ended or the answer did not come: what was sent may have been done."""
    if isinstance(error, (said.BusyLoadingError, said.MaxConnectionsError, *REFUSED_US)):
        return False
    return isinstance(error, said.ConnectionError | said.TimeoutError)


def may_have_been_done(error: Exception) -> bool:
    """Whether what was asked may have been done in spite of the error."""
    if isinstance(error, said.TimeoutError):
        return "connecting" not in str(error).lower()
    if is_lost(error):
        return _connecting(error) is None and not _pool_is_empty(error)
    if isinstance(error, said.RedisClusterException):
        # What it gives up with hides the error of the node that it gave up on.
        return True
    return _first_word(error) not in WORDS


def unavailable(error: Exception, where: str, seconds: float, outcome: str) -> StoreUnavailable:
    """Return what to raise for an error of redis-py.

    where: the store's address without credentials.  seconds: how long an answer was waited for.
    outcome: NOTHING, UNKNOWN, or "" for what only reads.
    """
    return StoreUnavailable(
        f"{_told(error, seconds)} {outcome} (store: {where})".replace("  ", " ")
    )


def _told(error: Exception, seconds: float) -> str:
    if isinstance(error, said.MaxConnectionsError) or _pool_is_empty(error):
        return "All of our connections to the store are in use."
    if isinstance(error, said.TimeoutError):
        return f"The store did not answer within {seconds:g} s."
    if isinstance(error, REFUSED_US):
        return WORDS["NOAUTH" if "required" in str(error).lower() else "WRONGPASS"]
    word = _first_word(error)
    if word in WORDS:
        return WORDS[word]
    if isinstance(error, said.ConnectionError):
        return _connecting(error) or "The connection to the store was lost."
    if isinstance(error, said.RedisClusterException):
        return "No node of the Cluster answers."
    return f"The store answered with an error that we do not know ({word or 'no code'})."


def _first_word(error: Exception) -> str:
    for kind, word in CLASSES:
        if isinstance(error, kind):
            return word
    # Fakes and Redis 6 put words of their own before the error of a call in a script.
    found = re.search(r"(?:^|[\s:-])([A-Z]{3,})\b", str(error))
    return found[1] if found else ""


def _pool_is_empty(error: Exception) -> bool:
    return isinstance(error, said.ConnectionError) and "No connection available" in str(error)


def _connecting(error: Exception) -> str | None:
    """Return why there was no connection, or None: there was one, and it was lost."""
    text = str(error).lower()
    return next((told for parts, told in CONNECTING if any(p in text for p in parts)), None)
