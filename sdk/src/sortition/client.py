"""What a host application holds. A guest: it never raises into, blocks or logs a request's id."""

from __future__ import annotations

import os
import secrets
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmh3

from . import resource as resources
from .core.evaluate import Evaluation, fresh, id_problem
from .core.model import InvalidSnapshot, Json, Snapshot, SnapshotVersion
from .core.reasons import ErrorCode, Reason
from .errors import ConfigurationError
from .outcomes import Outcomes
from .snapshots import HeldFlags, Served
from .sources import file

if TYPE_CHECKING:
    from .sources.worker import Worker

STALE_SECONDS = 60.0
"""A client that has not heard its server for this long says `stale`. It goes on all the same."""

_digest = mmh3.mmh3_32_uintdigest
"""Of octets: given text that UTF-8 cannot carry, `mmh3.hash` would end the host's process."""


@dataclass(frozen=True)
class Status:
    """How a client is doing.

    state: `starting`, `ready`, `stale` (the server is silent; the flags keep their values) or
    `closed`.  version: of the snapshot, as text.  age: seconds since the server was last heard.
    errors: kind -> how often.  dropped: rows of outcomes that were lost to bounds.
    has_control_group: false without `service.version`: then no canary can be told from stable.
    """

    state: str
    version: str | None
    age: float | None
    errors: Mapping[str, int]
    dropped: int
    has_control_group: bool

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


class Client:
    """Flags of one environment, followed in the background.

    url, key: the server and an `sdk` token; by default SORTITION_URL and SORTITION_KEY. Without a
    URL the client lives on the snapshot file, or answers defaults.
    snapshot: a file that keeps the last snapshot and is read at the start (SORTITION_SNAPSHOT).
    bootstrap: a file that is only read, when there is no snapshot yet.
    resource: where this code runs; by default what OTEL_* says.
    streaming: follow by stream; otherwise ask every `poll_seconds`.

    Raises ConfigurationError, and nothing else ever raises.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        snapshot: str | os.PathLike[str] | None = None,
        bootstrap: str | os.PathLike[str] | None = None,
        resource: Mapping[str, str] | None = None,
        streaming: bool = True,
        poll_seconds: float = 30.0,
    ) -> None:
        self._url = (os.environ.get("SORTITION_URL") if url is None else url) or None
        self._key = (os.environ.get("SORTITION_KEY") if key is None else key) or None
        _check(self._url, self._key, poll_seconds)
        kept = os.environ.get("SORTITION_SNAPSHOT") if snapshot is None else snapshot
        self._kept = Path(kept) if kept else None
        self._resource = dict(resources.from_environment() if resource is None else resource)
        self._streaming = streaming
        self._poll_seconds = poll_seconds
        self._errors: Counter[str] = Counter()
        self._held = HeldFlags(self._resource)
        self._switches: Mapping[str, Served] = self._held.switches
        self._handles: weakref.WeakSet[Flag] = weakref.WeakSet()
        self._outcomes = Outcomes()
        self._ready = threading.Event()
        self._heard_at: float | None = None
        self._closed = False
        self._worker: Worker | None = None
        self._read_files(None if bootstrap is None else Path(bootstrap))
        self._start()
        _clients.add(self)

    # Asking

    def is_enabled(self, key: str, request_id: str, default: bool = False) -> bool:
        """Tell whether a boolean flag serves true to this request; the default if it cannot."""
        try:
            flag = self._switches[key]
            if request_id:
                if _digest(request_id.encode(), flag.seed) < flag.threshold:
                    flag.exposed += 1
                    return flag.when_exposed  # type: ignore[no-any-return]
                flag.rest += 1
                return flag.when_rest  # type: ignore[no-any-return]
        except Exception:  # noqa: S110 (the slow way finds out what is wrong, and counts it)
            pass
        evaluation = self._evaluate(key, request_id)
        return self._boolean(evaluation, default)

    def variant(self, key: str, request_id: str) -> str | None:
        """Return the name of the variant that this request gets, or None if there is none."""
        return self._evaluate(key, request_id).variant

    def value(self, key: str, request_id: str, default: Json = None) -> Json:
        """Return the JSON value that this request gets, or the default; yours to change."""
        evaluation = self._evaluate(key, request_id)
        return default if evaluation.error is not None else fresh(evaluation).value

    def evaluate(self, key: str, request_id: str) -> Evaluation:
        """Return value, variant, reason, revision and error."""
        return fresh(self._evaluate(key, request_id))

    def flag(self, key: str) -> Flag:
        """Return a handle for the hottest paths: `flag(request_id)` is `is_enabled`."""
        handle = Flag(self, key)
        self._handles.add(handle)
        return handle

    @contextmanager
    def request(self, request_id: str) -> Iterator[Request]:
        """Open a request: its decisions are frozen, and how it goes is credited to them."""
        request = Request(self, request_id)
        try:
            yield request
        except BaseException:
            request.fail()
            raise
        finally:
            request.end()

    # Looking after it

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait until there are flags; tell whether there are."""
        return self._ready.wait(timeout)

    def status(self) -> Status:
        """Return how this client is doing."""
        version = self._held.version
        age = None if self._heard_at is None else time.monotonic() - self._heard_at
        return Status(
            state=self._state(age),
            version=None if version is None else str(version),
            age=None if age is None else round(age, 3),
            errors=dict(self._errors),
            dropped=self._outcomes.dropped,
            has_control_group="service.version" in self._resource,
        )

    def close(self, timeout: float = 2.0) -> bool:
        """Report what is left and end; tell whether that was done in time. Flags keep answering."""
        self._closed = True
        _clients.discard(self)
        worker, self._worker = self._worker, None
        return True if worker is None else worker.stop(timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # How

    def _evaluate(self, key: str, request_id: object) -> Evaluation:
        """Return the shared answer; counted, also when there is none."""
        try:
            problem = id_problem(request_id)
            served = self._held.all.get(key)
            if problem is None and served is not None:
                return served.answer(str(request_id))
            if problem is None:
                ready = self._held.snapshot is not None
                problem = ErrorCode.FLAG_NOT_FOUND if ready else ErrorCode.PROVIDER_NOT_READY
        except Exception:
            problem = ErrorCode.GENERAL
        self._errors[problem.value.lower()] += 1
        return Evaluation(None, None, Reason.ERROR, None, problem)

    def _boolean(self, evaluation: Evaluation, default: bool) -> bool:
        if evaluation.error is None and not isinstance(evaluation.value, bool):
            self._errors["type_mismatch"] += 1
            return default
        return default if evaluation.error is not None else bool(evaluation.value)

    def _state(self, age: float | None) -> str:
        if self._closed:
            return "closed"
        if self._held.snapshot is None:
            return "starting"
        followed = self._url is not None
        return "stale" if followed and (age is None or age > STALE_SECONDS) else "ready"

    def _read_files(self, bootstrap: Path | None) -> None:
        for path in (self._kept, bootstrap):
            if path is None or self._held.snapshot is not None:
                continue
            try:
                self._put(file.read(path))
            except FileNotFoundError:
                if path is bootstrap:
                    self._errors["bootstrap_missing"] += 1
            except (OSError, ValueError, RecursionError):
                self._errors["snapshot_unreadable"] += 1

    def _start(self) -> None:
        if self._url is None or self._key is None:
            return
        from .sources.worker import Worker

        self._worker = Worker(
            self._url,
            self._key,
            streaming=self._streaming,
            poll_seconds=self._poll_seconds,
            reporter={
                "service.name": self._resource.get("service.name") or resources.UNKNOWN_SERVICE,
                "service.version": self._resource.get("service.version"),
                "instance": secrets.token_hex(8),
                "started": int(time.time()),
            },
            outcomes=self._outcomes,
            take=self._take,
            held=lambda: self._held.snapshot,
            failed=self._failed,
            heard=self._heard,
            assignments=self._held.assignments,
        )
        self._worker.thread.start()

    def _take(self, snapshot: Snapshot) -> bool:
        """Take a snapshot if it follows what is held. What came from a file gives way to any store."""
        held: SnapshotVersion | None = self._held.version if self._heard_store else None
        if snapshot.version == held:
            return True
        if not snapshot.version.follows(held):
            same_store = held is not None and held.store == snapshot.version.store
            self._failed("older_snapshot" if same_store else "other_store")
            return False
        self._put(snapshot)
        self._heard_store = True
        self._keep(snapshot)
        return True

    _heard_store = False
    """Whether what is held came from the server: a file's store is only believed until then."""

    def _put(self, snapshot: Snapshot) -> None:
        self._held.put(snapshot)
        self._switches = self._held.switches
        for handle in tuple(self._handles):
            handle._follow()
        self._ready.set()

    def _keep(self, snapshot: Snapshot) -> None:
        if self._kept is None:
            return
        try:
            file.write(self._kept, snapshot)
        except OSError:
            self._failed("snapshot_not_kept")

    def _failed(self, kind: str) -> None:
        self._errors[kind] += 1

    def _heard(self) -> None:
        self._heard_at = time.monotonic()

    def _after_fork(self) -> None:
        """In a forked child: the thread and its locks stayed behind; begin anew with the flags."""
        if self._closed:
            return
        if self._worker is not None:
            self._worker.abandon()
        was_ready = self._ready.is_set()
        self._ready = threading.Event()
        if was_ready:
            self._ready.set()
        self._outcomes = Outcomes()
        self._held.assignments()  # what was counted so far is the parent's to report
        self._errors = Counter()
        self._start()


class Flag:
    """One boolean flag, bound: `flag(request_id)` answers as `client.is_enabled` does."""

    __slots__ = ("__weakref__", "_client", "_served", "key")

    def __init__(self, client: Client, key: str) -> None:
        self._client = client
        self.key = key
        self._served: Served | None = None
        self._follow()

    def __call__(self, request_id: str, default: bool = False) -> bool:
        """Tell whether the flag serves true to this request; the default if it cannot."""
        flag = self._served
        try:
            if flag is not None and request_id:
                if _digest(request_id.encode(), flag.seed) < flag.threshold:
                    flag.exposed += 1
                    return flag.when_exposed  # type: ignore[no-any-return]
                flag.rest += 1
                return flag.when_rest  # type: ignore[no-any-return]
        except Exception:  # noqa: S110 (the slow way finds out what is wrong, and counts it)
            pass
        return self._client.is_enabled(self.key, request_id, default)

    def _follow(self) -> None:
        self._served = self._client._switches.get(self.key)


class Request:
    """One request of the host: what it was decided stays, and its end is credited to that.

    Used by one thread at a time.
    """

    def __init__(self, client: Client, request_id: str) -> None:
        self._client = client
        self._id = request_id
        self._decided: dict[str, Evaluation] = {}
        self._metrics: dict[str, tuple[int, int]] = {}
        self._failed = False
        self._ended = False
        self._began = time.perf_counter()

    def is_enabled(self, key: str, default: bool = False) -> bool:
        """See `Client.is_enabled`."""
        return self._client._boolean(self._decide(key), default)

    def variant(self, key: str) -> str | None:
        """See `Client.variant`."""
        return self._decide(key).variant

    def value(self, key: str, default: Json = None) -> Json:
        """See `Client.value`."""
        evaluation = self._decide(key)
        return default if evaluation.error is not None else fresh(evaluation).value

    def evaluate(self, key: str) -> Evaluation:
        """See `Client.evaluate`."""
        return fresh(self._decide(key))

    def count(self, name: str, *, ok: bool = True) -> None:
        """Count one event of a custom metric, for instance `critical_path`."""
        total, failed = self._metrics.get(name, (0, 0))
        if total or len(self._metrics) < 20:
            self._metrics[name] = (total + 1, failed + (not ok))

    def fail(self) -> None:
        """Say that this request failed."""
        self._failed = True

    def end(self) -> None:
        """Credit the request, once. The context manager and the middleware call this."""
        if self._ended:
            return
        self._ended = True
        snapshot = self._client._held.snapshot
        self._client._outcomes.request(
            [(key, e.variant) for key, e in self._decided.items() if e.variant is not None],
            time.perf_counter() - self._began,
            self._failed,
            self._metrics,
            snapshot.histogram_edges if snapshot is not None else (),
        )

    def _decide(self, key: str) -> Evaluation:
        decided = self._decided.get(key)
        if decided is None:
            decided = self._decided[key] = self._client._evaluate(key, self._id)
        return decided


def _check(url: str | None, key: str | None, poll_seconds: float) -> None:
    if url is not None and not url.startswith(("http://", "https://")):
        raise ConfigurationError("url (SORTITION_URL) must begin with http:// or https://")
    if url is not None and not key:
        raise ConfigurationError("key (SORTITION_KEY) is missing: an srt_sdk_… token")
    if not 1.0 <= poll_seconds <= 3600.0:
        raise ConfigurationError("poll_seconds must be from 1 to 3600")


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for client in tuple(_clients):
        client._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
