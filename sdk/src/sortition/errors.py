"""What the SDK may raise, all of it from constructors: a guest never raises into a request.

SortitionError
└── ConfigurationError      a client cannot be made of these arguments or settings
"""

from __future__ import annotations


class SortitionError(Exception):
    """The root."""


class ConfigurationError(SortitionError, ValueError):
    """A client cannot be made of these arguments or settings; the message says which."""
