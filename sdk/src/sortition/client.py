"""What a host application holds. A guest: it never raises into, blocks or logs a request's id."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import mmh3

from . import resource as resources
from .core.evaluate import Evaluation, fresh, id_problem
from .core.model import Change, Json, Snapshot, SnapshotVersion
from .core.reasons import ErrorCode, Reason
from .core.records import dataclass
from .errors import ConfigurationError
from .outcomes import MAX_METRICS, Outcomes, is_metric
from .snapshots import HeldFlags, Served, Tallies

TYPE_CHECKING = False  # see core.records
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Protocol

    from typing_extensions import Self

    from .sources.worker import Worker

    class Flag(Protocol):
        """One boolean flag, bound: `flag(request_id)` answers as `client.is_enabled` does."""

        def __call__(self, request_id: str, default: bool = False) -> bool:
            """Tell whether the flag serves true to this request; the default if it cannot."""
            ...

    class Answer(Protocol):
        """Answers a flag for a request id; counted."""

        def __call__(self, key: str, request_id: object, *, boolean: bool = False) -> Evaluation:
            """Return the shared answer; boolean: an error unless its value is one."""
            ...
else:
    Flag = Answer = Callable

STALE_SECONDS = 60.0
"""A client that has not heard its server for this long says `stale`. It goes on all the same."""

KEEP_PAUSE = 100.0
"""After a copy on disk the next one waits this many times as long as that one took: a busy hour of
changes to many flags costs at most a hundredth of it."""

KEEP_AGAIN_SECONDS = 60.0
"""So long after a copy that failed the next is tried."""

EVENTS = ("ready", "stale", "error")

MAX_NAME = 200
"""Characters of the service's name and version that are reported."""

_digest = mmh3.mmh3_32_uintdigest
"""Of octets: given text that UTF-8 cannot carry, `mmh3.hash` would end the host's process."""

_octets = str.encode
"""Of text alone: where a method is called in the hot way, CPython 3.11 ends the process of a host
that gives the class `str` for an id."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a client is doing.

    state: `starting`, `ready`, `stale` (the server is silent; the flags keep their values) or
    `closed`.  version: of the snapshot, as text.  age: seconds since the server was last heard.
    errors: kind -> how often.  last_error: the latest kind that was no host's question.
    dropped: rows of outcomes that were lost to bounds.
    has_control_group: false without `service.version`: then no canary can be told from stable.
    """

    state: str
    version: str | None
    age: float | None
    errors: Mapping[str, int]
    last_error: str | None
    dropped: int
    has_control_group: bool

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "state": self.state,
            "version": self.version,
            "age": self.age,
            "errors": dict(self.errors),
            "last_error": self.last_error,
            "dropped": self.dropped,
            "has_control_group": self.has_control_group,
        }


Listener = Callable[[Status], object]
"""Is given the status; what it returns or raises is of no consequence."""


class Client:
    """Flags of one environment, followed in the background.

    url, key: the server and an `sdk` token; by default SORTITION_URL and SORTITION_KEY. Without a
    URL the client lives on the snapshot file, or answers defaults.
    snapshot: a file that keeps the last snapshot and is read at the start (SORTITION_SNAPSHOT).
    bootstrap: a file that is only read, when there is no snapshot yet.
    resource: where this code runs; by default what OTEL_* says, and for the rest what ECS knows of
    the task once the background thread has asked.
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
        kept = os.environ.get("SORTITION_SNAPSHOT") if snapshot is None else snapshot
        _check(self._url, self._key, poll_seconds)
        self._kept = _path("snapshot (SORTITION_SNAPSHOT)", kept)
        first = _path("bootstrap", bootstrap)
        self._resource = _resource(resource)
        self._ecs = os.environ.get(resources.ECS_URI) if resource is None else None
        self._streaming = streaming
        self._poll_seconds = poll_seconds
        self._errors = Tallies()
        self._last_error: str | None = None
        self._held = HeldFlags(self._resource)
        self._switches: Mapping[str, Served] = {}
        self._bindings: weakref.WeakValueDictionary[str, _Binding] = weakref.WeakValueDictionary()
        self._binding = threading.RLock()
        self._outcomes = Outcomes(reported=self._url is not None)
        self._ready = threading.Event()
        self._heard_at: float | None = None
        self._heard_store = False
        self._listeners: list[tuple[str, Listener]] = []
        self._listening = threading.RLock()
        self._not_kept = False
        self._keep_at = 0.0
        self._closed = False
        self._worker: Worker | None = None
        self._read_files(self._kept, first)
        self._told = self._state(None)
        _clients.add(self)
        self._start()

    # Asking

    def is_enabled(self, key: str, request_id: str, default: bool = False) -> bool:
        """Tell whether a boolean flag serves true to this request; the default if it cannot."""
        try:
            flag = self._switches[key]
            if request_id:
                point = _digest(_octets(request_id), flag.seed)
                if flag.sees:
                    flag.see(point)
                if point < flag.threshold:
                    flag.exposed += 1
                    return flag.when_exposed
                flag.rest += 1
                return flag.when_rest
        except Exception:  # noqa: BLE001, S110 (the slow way finds out what is wrong)
            pass
        evaluation = self._answer(key, request_id, boolean=True)
        return default if evaluation.error is not None else bool(evaluation.value)

    def variant(self, key: str, request_id: str) -> str | None:
        """Return the name of the variant that this request gets, or None if there is none."""
        return self._answer(key, request_id).variant

    def value(self, key: str, request_id: str, default: Json = None) -> Json:
        """Return the JSON value that this request gets, or the default; yours to change."""
        evaluation = self._answer(key, request_id)
        return default if evaluation.error is not None else fresh(evaluation).value

    def evaluate(self, key: str, request_id: str) -> Evaluation:
        """Return value, variant, reason, revision and error."""
        return fresh(self._answer(key, request_id))

    def flag(self, key: str) -> Flag:
        """Return a handle for the hottest paths: `flag(request_id)` is `is_enabled`.

        It follows new snapshots. Make it once and keep it.
        """
        try:
            with self._binding:
                binding = self._bindings.get(key)
                if binding is None:
                    binding = self._bindings[key] = _Binding(self._switches.get(key))
        except Exception:  # noqa: BLE001 (what is no key finds no flag, and is counted when asked)
            binding = _Binding(None)
        return _bound(self, key, binding)

    def request(self, request_id: str, *, preview: Mapping[str, str] | None = None) -> Request:
        """Open a request: its decisions are frozen, and how it goes is credited to them.

        A context manager; an exception that leaves it is a failure of the request.
        preview: flag -> variant that it is shown before anyone else (see `previews`); such a
        request counts nowhere.
        """
        if preview:
            return Request(request_id, partial(self._answer, preview=preview), _nowhere, _nowhere)
        request = Request(request_id, self._answer, self._credit, self._answered)
        self._outcomes.open(request)
        return request

    # Looking after it

    @property
    def environment(self) -> str:
        """The environment whose flags are held; empty before there are any."""
        return self._held.now.environment

    @property
    def revoked_previews(self) -> tuple[str, ...]:
        """Ids of preview links that count no more, though their time is not over."""
        return self._held.now.revoked_previews

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait until there are flags; tell whether there are."""
        return self._ready.wait(timeout)

    def on(self, event: str, listener: Listener) -> None:
        """Call a function with the status whenever this client gets `ready` or `stale`, or has met
        an `error` in following its server; at once if it is ready or stale already.

        Otherwise it is called in the background thread, which follows nothing meanwhile.
        Raises ConfigurationError.
        """
        if event not in EVENTS:
            raise ConfigurationError(f"event must be one of {', '.join(EVENTS)}")
        if not callable(listener):
            raise ConfigurationError("listener must be callable")
        with self._listening:
            self._listeners.append((event, listener))
            told = self._told
        if told == event:
            self._call(listener)

    def status(self) -> Status:
        """Return how this client is doing."""
        version, age = self._held.now.version, self._age()
        return Status(
            state=self._state(age),
            version=None if version is None else str(version),
            age=None if age is None else round(age, 3),
            errors=self._errors.as_dict(),
            last_error=self._last_error,
            dropped=self._outcomes.dropped,
            has_control_group="service.version" in self._resource,
        )

    def close(self, timeout: float = 2.0) -> bool:
        """Report what is left and end; tell whether that was done in time. Flags keep answering."""
        self._closed = True
        _clients.discard(self)
        worker, self._worker = self._worker, None
        return True if worker is None else worker.stop(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # How

    def _answer(
        self,
        key: str,
        request_id: object,
        *,
        boolean: bool = False,
        preview: Mapping[str, str] | None = None,
    ) -> Evaluation:
        """Return the shared answer and count it; or an error, and count that."""
        try:
            held = self._held.now
            problem = id_problem(request_id)
            served = held.all.get(key)
            if problem is None and served is not None:
                if preview is not None:
                    answer = self._shown(served, str(request_id), preview)
                else:
                    answer = served.compiled.choose(request_id)  # type: ignore[arg-type]  # id_problem
                if not boolean or isinstance(answer.value, bool):
                    if preview is not None:
                        return answer
                    served.count(answer.variant)
                    if served.sees:
                        served.see(_digest(_octets(request_id), served.seed))  # type: ignore[arg-type]  # as above
                    return answer
                problem = ErrorCode.TYPE_MISMATCH
            elif problem is None:
                known = held.version is not None
                problem = ErrorCode.FLAG_NOT_FOUND if known else ErrorCode.PROVIDER_NOT_READY
        except Exception:  # noqa: BLE001 (a guest never raises into a request; it is counted)
            problem = ErrorCode.GENERAL
        self._errors.add(problem.value.lower())
        return Evaluation(None, None, Reason.ERROR, None, problem)

    def _shown(self, served: Served, request_id: str, preview: Mapping[str, str]) -> Evaluation:
        from .previews import previewed  # noqa: PLC0415 (most hosts have none; import stays light)

        flag = served.compiled.flag
        found = previewed(flag, preview.get(flag.key), self._resource)
        return served.compiled.choose(request_id) if found is None else found

    def _credit(self, ended: Ended) -> None:
        """Credit an ended request to what it was served."""
        edges = self._held.now.histogram_edges
        self._outcomes.request(ended.asked, ended.seconds, ended.failed, ended.metrics, edges)

    def _answered(self, request: Request) -> None:
        self._outcomes.answered(request)

    def _state(self, age: float | None) -> str:
        if self._closed:
            return "closed"
        if self._held.now.version is None:
            return "starting"
        followed = self._url is not None
        return "stale" if followed and (age is None or age >= STALE_SECONDS) else "ready"

    def _age(self) -> float | None:
        return None if self._heard_at is None else time.monotonic() - self._heard_at

    def _read_files(self, kept: str | None, bootstrap: str | None) -> None:
        if kept is None and bootstrap is None:
            return
        from .sources import file  # noqa: PLC0415 (most hosts have no file; import stays light)

        for path in (kept, bootstrap):
            if path is None or self._held.now.version is not None:
                continue
            try:
                self._put(file.read(path))
            except FileNotFoundError:
                # The kept one is not there at the very first start.
                if path is bootstrap:
                    self._fail("bootstrap_missing")
            except (OSError, ValueError, RecursionError):
                self._fail("snapshot_unreadable")

    def _start(self) -> None:
        if self._url is None or self._key is None:
            return
        from .sources.worker import Worker  # noqa: PLC0415 (tests and tools need no network)

        if self._ecs:
            # Now, and not in the thread: a fork in the middle of an import locks it for good.
            from .sources import ecs  # noqa: F401, PLC0415
        instance = {"instance": os.urandom(8).hex(), "started": int(time.time())}
        worker = Worker(
            self._url,
            self._key,
            streaming=self._streaming,
            poll_seconds=self._poll_seconds,
            reporter=lambda: {**self._service(), **instance},
            outcomes=self._outcomes,
            prepare=self._complete_resource,
            wanted=self._wanted,
            take=self._take,
            change=self._change,
            held=lambda: self._held.now,
            failed=self._fail,
            heard=self._heard,
            tend=self._tend,
            points=self._held.points,
            assignments=self._held.assignments,
        )
        try:
            worker.thread.start()
        except RuntimeError:
            # No more threads, or the interpreter is ending: the flags stay as they are.
            self._fail("thread_not_started")
        else:
            self._worker = worker

    def _service(self) -> dict[str, str | None]:
        version = self._resource.get("service.version")
        name = self._resource.get("service.name") or resources.UNKNOWN_SERVICE
        return {
            "service.name": name[:MAX_NAME],
            "service.version": version[:MAX_NAME] if version else None,
        }

    # In the background thread

    def _complete_resource(self) -> None:
        """Add what ECS knows of this task to what is known, once. Never raises."""
        if not self._ecs:
            return
        from .sources import ecs  # noqa: PLC0415 (see _start)

        try:
            found = ecs.attributes(self._ecs)
        except Exception:  # noqa: BLE001 (whatever is there may answer anything)
            self._fail("ecs_metadata")
            return
        self._ecs = None
        self._resource = resources.completed(self._resource, found)
        self._publish(self._held.settle(self._resource))

    def _wanted(self, version: SnapshotVersion) -> bool:
        """Tell whether a snapshot follows what is held; count it if it may not.

        One that is known is not read again: after an outage all that is said is that. What came
        from a file gives way to any store: who was started anew believes its server.
        """
        held = self._held.now.version
        if version == held:
            self._heard_store = True
            return False
        if held is not None and not version.follows(held):
            same_store = held.store == version.store
            if same_store or self._heard_store:
                self._fail("older_snapshot" if same_store else "other_store")
                return False
        return True

    def _take(self, snapshot: Snapshot) -> None:
        self._put(snapshot)
        self._heard_store = self._not_kept = True

    def _change(self, change: Change) -> None:
        """Make a change to what is held. Raises Gap or InvalidSnapshot, and then has not."""
        self._publish(self._held.change(change))
        self._not_kept = True

    def _put(self, snapshot: Snapshot) -> None:
        self._publish(self._held.put(snapshot))
        self._ready.set()

    def _publish(self, keys: Iterable[str]) -> None:
        """Let the short ways see what is held of these flags."""
        with self._binding:
            self._switches = self._held.now.switches
            for key in keys:
                binding = self._bindings.get(key)
                if binding is not None:
                    binding.served = self._switches.get(key)

    def _heard(self) -> None:
        self._heard_at = time.monotonic()

    def _tend(self, last: bool) -> float:
        """Do what is due: tell a new state, keep a new snapshot. Return when to come again.

        Never raises. last: keep it though it is not due.
        """
        self._tell_state()
        again = float("inf")
        if self._heard_at is not None and self._told == "ready":
            again = self._heard_at + STALE_SECONDS
        if self._not_kept and self._kept is not None:
            if last or time.monotonic() >= self._keep_at:
                self._keep(self._kept)
            else:
                again = min(again, self._keep_at)
        return again

    def _keep(self, path: str) -> None:
        from .sources import file  # noqa: PLC0415 (see _read_files)

        began = time.monotonic()
        snapshot = self._held.now.snapshot()
        try:
            if snapshot is not None:
                file.write(path, snapshot)
        except Exception:  # noqa: BLE001 (a path that is none, a disk that is full: all the same)
            self._keep_at = time.monotonic() + KEEP_AGAIN_SECONDS
            self._fail("snapshot_not_kept")
        else:
            self._not_kept = False
            self._keep_at = time.monotonic() + KEEP_PAUSE * (time.monotonic() - began)

    # Telling

    def _fail(self, kind: str) -> None:
        """Count what went wrong beside the host's questions, and tell it."""
        self._errors.add(kind)
        self._last_error = kind
        self._tell("error")

    def _tell_state(self) -> None:
        with self._listening:
            state, before = self._state(self._age()), self._told
            self._told = state
            if state != before:
                listeners = [each for event, each in self._listeners if event == state]
            else:
                listeners = []
        for each in listeners:
            self._call(each)

    def _tell(self, event: str) -> None:
        for known, each in tuple(self._listeners):
            if known == event:
                self._call(each)

    def _call(self, listener: Listener) -> None:
        try:
            listener(self.status())
        except (Exception, SystemExit):  # noqa: BLE001 (the host's; our thread goes on)
            self._errors.add("listener")

    def _after_fork(self) -> None:
        """In a forked child: the thread and its locks stayed behind; begin anew with the flags."""
        if self._closed:
            return
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.abandon()
        self._binding = threading.RLock()
        self._listening = threading.RLock()
        self._ready = threading.Event()
        if self._held.now.version is not None:
            self._ready.set()
        self._outcomes = Outcomes(reported=self._url is not None)
        # What was counted so far is the parent's to report.
        self._held.points()
        self._held.assignments()
        self._errors = Tallies()
        self._publish(tuple(self._bindings))
        self._start()


class _Binding:
    """Where the handles of one flag find it; None while it has no short way."""

    __slots__ = ("__weakref__", "served")

    def __init__(self, served: Served | None) -> None:
        self.served = served


def _nowhere(_: object) -> None:
    """Take what counts nowhere."""


def _bound(client: Client, key: str, binding: _Binding) -> Flag:
    """Return the handle: a closure, for CPython calls one faster than an object."""
    slow = client.is_enabled

    def flag(request_id: str, default: bool = False) -> bool:
        try:
            served: Any = binding.served  # None has no seed, and goes the slow way
            if request_id:
                point = _digest(_octets(request_id), served.seed)
                if served.sees:
                    served.see(point)
                if point < served.threshold:
                    served.exposed += 1
                    return served.when_exposed  # type: ignore[no-any-return]  # a switch's are bool
                served.rest += 1
                return served.when_rest  # type: ignore[no-any-return]  # the same
        except Exception:  # noqa: BLE001, S110 (the slow way finds out what is wrong)
            pass
        return slow(key, request_id, default)

    return flag


@dataclass(frozen=True, slots=True)
class Ended:
    """How a request went. asked: (flag, variant); metrics: name -> whether it failed."""

    asked: list[tuple[str, str]]
    seconds: float
    failed: bool
    metrics: Mapping[str, bool]


class Request:
    """One request of the host: what it was decided stays, and its end is credited to that.

    Made by `Client.request`. Used by one thread at a time.
    """

    def __init__(
        self,
        request_id: str,
        answer: Answer,
        credit: Callable[[Ended], None],
        answered: Callable[[Request], None],
    ) -> None:
        self._id = request_id
        self._answer = answer
        self._credit = credit
        self._answered = answered
        self._decided: dict[str, Evaluation] = {}
        self._metrics: dict[str, bool] = {}
        self._failed = False
        self._ended = False
        self.began = time.perf_counter()
        """When it was opened, by that clock."""

    def is_enabled(self, key: str, default: bool = False) -> bool:
        """See `Client.is_enabled`."""
        evaluation = self._decide(key, boolean=True)
        return evaluation.value if isinstance(evaluation.value, bool) else default

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
        """Count this request in a custom metric, for instance `critical_path`, as one that failed
        there if it ever did.

        However often it is said, the request counts once: one that tries again and again is no
        crowd. Names look like keys of flags, and a request has at most 20; others are left out.
        """
        try:
            if is_metric(name) and (name in self._metrics or len(self._metrics) < MAX_METRICS):
                self._metrics[name] = self._metrics.get(name, False) or not ok
        except Exception:  # noqa: BLE001, S110 (what is neither a name nor a truth is left out)
            pass

    def fail(self) -> None:
        """Say that this request failed."""
        self._failed = True

    def answered(self) -> None:
        """Say that the answer has begun: however long it takes from here, this request does not
        hang. The middleware calls this."""
        self._answered(self)

    def asked(self) -> list[tuple[str, str]]:
        """Return (flag, variant) of what it was served so far. Any thread may ask."""
        decided = tuple(self._decided.items())
        return [(key, each.variant) for key, each in decided if each.variant is not None]

    def end(self) -> None:
        """Credit the request, once. Leaving the context and the middleware call this."""
        if self._ended:
            return
        self._ended = True
        seconds = time.perf_counter() - self.began
        self._answered(self)
        self._credit(Ended(self.asked(), seconds, self._failed, self._metrics))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.fail()
        self.end()

    def _decide(self, key: str, *, boolean: bool = False) -> Evaluation:
        try:
            decided = self._decided.get(key)
        except Exception:  # noqa: BLE001 (what is no key is no flag; the answer counts that)
            return self._answer(key, self._id)
        if decided is None:
            decided = self._answer(key, self._id, boolean=boolean)
        elif boolean and decided.error is None and not isinstance(decided.value, bool):
            return self._answer(key, self._id, boolean=True)
        # Whoever asks a flag for a boolean that it has not may still ask for what it has.
        if decided.error is not ErrorCode.TYPE_MISMATCH:
            self._decided[key] = decided
        return decided


def _check(url: str | None, key: str | None, poll_seconds: float) -> None:
    if url is not None:
        _check_url(url)
    if url is not None and not key:
        raise ConfigurationError("key (SORTITION_KEY) is missing: an srt_sdk_… token")
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ConfigurationError("key (SORTITION_KEY) must be one line of ASCII")
    if type(poll_seconds) not in (int, float) or not 1.0 <= poll_seconds <= 3600.0:
        raise ConfigurationError("poll_seconds must be from 1 to 3600")


def _check_url(url: str) -> None:
    from urllib.parse import urlsplit  # noqa: PLC0415 (import stays light)

    problem = "url (SORTITION_URL) must be of the form https://host[:port][/path]"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        good = good and not parts.query and not parts.fragment and parts.username is None
    except (ValueError, TypeError, AttributeError):
        good = False
    if not good or not (url.isascii() and url.isprintable() and " " not in url):
        raise ConfigurationError(problem)


def _path(name: str, given: object) -> str | None:
    if given is None or given == "":
        return None
    try:
        return os.fspath(given)  # type: ignore[call-overload, no-any-return]  # tried here
    except TypeError:
        raise ConfigurationError(f"{name} must be a path") from None


def _resource(given: Mapping[str, str] | None) -> dict[str, str]:
    try:
        found = dict(resources.from_environment() if given is None else given)
    except (TypeError, ValueError):
        raise ConfigurationError("resource must map names to text") from None
    if not all(isinstance(part, str) for pair in found.items() for part in pair):
        raise ConfigurationError("resource must map names to text")
    return found


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for client in tuple(_clients):
        client._after_fork()  # noqa: SLF001 (its own; no one else may call it)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
