"""What a web process knows, on its own disk: flags, tokens as digests, and which store it was.

In `known/` of the data directory, which only its user can open; every file has mode 0600:

    store.json                the store's id and epoch, and the last entry of its record seen
    tokens.json               every token without its description; its secret as a SHA-256
    environments.json         what is said of each environment: critical, four eyes, its schedule
    flags-<environment>.json  the environment's snapshot, as SDKs get it

A file's first line is `sha256:<hex> <store>.<epoch>.<number>`: the checksum of all that follows it,
and its mark, which tells the newer of two. A file is replaced whole, synced, or not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sortition.core.model import Snapshot, SnapshotVersion

from flagserver.domain.documents import Body
from flagserver.domain.environments import Environment
from flagserver.domain.stores import StoreState
from flagserver.domain.tokens import Token
from flagserver.ports import Kept

from .files import read_checked, write_checked

FORMAT = 1

STATE = "store.json"
TOKENS = "tokens.json"
ENVIRONMENTS = "environments.json"
FLAGS, SUFFIX = "flags-", ".json"


class DiskCopies:
    """`ports.Copies` in a directory. Processes take turns by a lock, and the newer mark stays."""

    def __init__(self, directory: Path) -> None:
        """Nothing is made or read yet."""
        self._directory = directory

    def read(self) -> Kept:
        """Return what is there and whole. Raises nothing."""
        problems: list[str] = []
        state = tokens = environments = None
        snapshots = {}
        for path in self._files():
            try:
                content = _read(path)
                if path.name == STATE:
                    state = StoreState(**content["state"])
                elif path.name == TOKENS:
                    tokens = tuple(Token.from_body(body) for body in content["tokens"])
                elif path.name == ENVIRONMENTS:
                    environments = tuple(map(Environment.from_body, content["environments"]))
                else:
                    snapshot = Snapshot.parse(content["snapshot"])
                    snapshots[snapshot.environment] = snapshot
            except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
                problems.append(f"{path.name} on this server's disk cannot be used: {_why(error)}.")
        return Kept(state, snapshots, tokens, environments, tuple(problems))

    def keep_state(self, state: StoreState) -> None:
        """Keep which store is known, and up to which entry. Raises OSError."""
        self._keep(STATE, state.mark, {"state": asdict(state)})

    def keep_snapshot(self, snapshot: Snapshot) -> None:
        """Keep an environment's snapshot. Raises OSError."""
        name = f"{FLAGS}{snapshot.environment}{SUFFIX}"
        self._keep(name, snapshot.version, {"snapshot": snapshot.to_wire()})

    def keep_tokens(self, tokens: Sequence[Token], state: StoreState) -> None:
        """Keep the tokens, as digests. Raises OSError."""
        bodies = [replace(token, description="").to_body() for token in tokens]
        self._keep(TOKENS, state.mark, {"tokens": bodies})

    def keep_environments(self, bodies: Sequence[Body], state: StoreState) -> None:
        """Keep what is said of environments. Raises OSError."""
        self._keep(ENVIRONMENTS, state.mark, {"environments": list(bodies)})

    def _files(self) -> Iterator[Path]:
        with suppress(OSError):
            for path in sorted(self._directory.iterdir()):
                ours = path.name.startswith(FLAGS) and path.name.endswith(SUFFIX)
                if ours or path.name in {STATE, TOKENS, ENVIRONMENTS}:
                    yield path

    def _keep(self, name: str, mark: SnapshotVersion, content: Mapping[str, Any]) -> None:
        body = json.dumps({"format": FORMAT, **content}, separators=(",", ":")).encode()
        with self._turn():
            path = self._directory / name
            held = _mark(path)
            if held is not None and held.store == mark.store and not mark.follows(held):
                return
            write_checked(path, body, str(mark))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _read(path: Path) -> dict[str, Any]:
    """Return what a file holds. Raises OSError or ValueError."""
    content = json.loads(read_checked(path)[1])
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError("it has a form that this version does not know")
    return content


def _mark(path: Path) -> SnapshotVersion | None:
    """Return the mark of a file that is whole, None where there is none."""
    try:
        store, epoch, number = read_checked(path)[0].rsplit(".", 2)
        return SnapshotVersion(store, int(epoch), int(number))
    except (OSError, ValueError):
        return None


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or "it cannot be read"
    return str(error) if type(error) is ValueError else "its content is not what it must be"
