"""Why an evaluation answered as it did: the reasons and error codes of OpenFeature 0.8."""

from __future__ import annotations

from enum import Enum


class _Word(str, Enum):
    """An enum whose members are the strings that cross the wire (StrEnum needs Python 3.11)."""

    def __str__(self) -> str:
        return str(self.value)


class Reason(_Word):
    """Why this value."""

    STATIC = "STATIC"
    """The same for every request: share 0 or 100 %, or settled by the resource."""
    SPLIT = "SPLIT"
    """Drawn by lot from the request id."""
    DISABLED = "DISABLED"
    """The flag is killed."""
    STALE = "STALE"
    DEFAULT = "DEFAULT"
    CACHED = "CACHED"
    TARGETING_MATCH = "TARGETING_MATCH"
    """Never given: Sortition targets nobody. Here because OpenFeature has it."""
    UNKNOWN = "UNKNOWN"
    ERROR = "ERROR"
    """No evaluation was possible; see the error code."""


class ErrorCode(_Word):
    """Why there was no evaluation."""

    PROVIDER_NOT_READY = "PROVIDER_NOT_READY"
    FLAG_NOT_FOUND = "FLAG_NOT_FOUND"
    PARSE_ERROR = "PARSE_ERROR"
    TYPE_MISMATCH = "TYPE_MISMATCH"
    TARGETING_KEY_MISSING = "TARGETING_KEY_MISSING"
    """The request id is empty or not a string."""
    INVALID_CONTEXT = "INVALID_CONTEXT"
    """The request id is not text that UTF-8 can carry."""
    PROVIDER_FATAL = "PROVIDER_FATAL"
    GENERAL = "GENERAL"
