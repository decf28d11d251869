"""Passwords, kept by argon2id (RFC 9106, its second recommended choice: 64 MiB, three passes)."""

from __future__ import annotations

import threading

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MEMORY_KIB = 65536


class Argon2Passwords:
    """`ports.Passwords`. One at a time in a process: each takes 64 MiB, and whoever floods the
    sign-in must not get more."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        """hasher: a cheaper one, in tests."""
        self._hasher = hasher or PasswordHasher(time_cost=3, memory_cost=MEMORY_KIB, parallelism=4)
        self._one_at_a_time = threading.Lock()
        self._nobodys: str | None = None

    def keep(self, password: str) -> str:
        """Return what is kept of a password."""
        with self._one_at_a_time:
            return self._hasher.hash(password)

    def is_right(self, password: str, kept: str | None) -> bool:
        """Tell whether it is that password; for None, as long as it takes."""
        with self._one_at_a_time:
            if self._nobodys is None:
                self._nobodys = self._hasher.hash("nobody has this one")
            try:
                self._hasher.verify(self._nobodys if kept is None else kept, password)
            except (VerificationError, InvalidHashError):
                return False
            return kept is not None

    def is_outdated(self, kept: str) -> bool:
        """Tell whether it was kept by other numbers than those of today."""
        return self._hasher.check_needs_rehash(kept)
