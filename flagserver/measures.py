"""What Prometheus is told: every metric, and a board on which a host's processes share them.

Each process writes what it counted to a file of its own in `metrics/` of the data directory, and
whichever of them is asked adds up what all have written. Numbers that grow outlive their process;
others count only while it lives. What is the same for all, whoever is asked reads anew. No label
names a person, a request or a token; metrics whose labels name flags tell of so many and no more.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import CollectorRegistry

log = logging.getLogger(__name__)

PUBLISH_SECONDS = 1.0
"""How often a process writes down what it counted."""

LIVE_SECONDS = 15.0
"""A process that has written nothing for so long lives no longer."""

FORMAT = 1
ENDED = "ended.json"
"""What processes that have ended counted."""

STORE_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
TICK_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
ROLLOUT_SECONDS = (60.0, 300.0, 900.0, 1800.0, 2100.0, 2700.0, 3600.0)
DETECTION_SECONDS = (30.0, 60.0, 120.0, 180.0, 300.0, 600.0)
ROLLBACK_SECONDS = (5.0, 15.0, 30.0, 60.0, 120.0, 600.0)

Labels = tuple[str, ...]
Value = float | Sequence[float]
"""A number; of a histogram: requests in each bucket, the last beyond all edges, then their sum."""

Samples = Mapping[str, Mapping[Labels, Value]]
"""Name of a metric -> values of its labels, in its order -> value."""


class Told(NamedTuple):
    """A metric. over: how values of several processes become one.

    most: how many sets of labels are told, of those that name flags; 0: there are few.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Labels = ()
    over: Literal["sum", "max", "min"] = "sum"
    edges: tuple[float, ...] = ()
    most: int = 0


FLAG_SETS = 2_000
"""How many flags and environments, or variants of them, a metric tells of."""

EXPOSED_SETS = 200
"""Of how many flags and environments the store is asked what they served."""

SET_BY_ROLLOUT = ("flag:share:change", "rollout")
"""Action and source of `flag_changes` where a rollout sets a share."""

FLAG: Labels = ("environment", "flag")
ROLLOUT: Labels = ("service", "environment")

CATALOGUE = (
    Told("build_info", "gauge", "1, for each version that runs.", ("version", "component"), "max"),
    Told("http_requests", "counter", "Requests that were answered.", ("handler", "code")),
    Told(
        *("http_request_duration_seconds", "histogram"),
        "Time to the answer; of a stream, to its head.",
        ("handler",),
        edges=REQUEST_SECONDS,
    ),
    Told("http_busy", "counter", "Requests that found no thread, or no room for their body."),
    Told("sse_clients", "gauge", "Streams that are open."),
    Told("sse_opened", "counter", "Streams that were opened."),
    Told("sse_refused", "counter", "Streams that found no place."),
    Told("sse_dropped", "counter", "Streams that were ended for reading too slowly."),
    Told("sse_expelled", "counter", "Streams whose token or session was no longer good."),
    Told("sse_messages", "counter", "Messages that were sent, each stream counted."),
    Told("snapshot_version", "gauge", "Version of the flags served.", ("environment",), "max"),
    Told("snapshot_epoch", "gauge", "Epoch of the flags served.", ("environment",), "max"),
    Told("redis_up", "gauge", "1 while the store answers every process.", over="min"),
    Told("redis_heard_seconds", "gauge", "Since the store was last heard, at worst.", over="max"),
    Told("redis_interruptions", "counter", "Answers of the store that were lost or late."),
    Told(
        *("redis_command_duration_seconds", "histogram"),
        "Time to the store's answer, or until none was waited for any more.",
        ("command",),
        edges=STORE_SECONDS,
    ),
    Told("store_alarm", "gauge", "1 while the store's word is not taken.", ("kind",), "max"),
    Told("store_faults", "gauge", "Things wrong with how the store is run.", over="max"),
    Told("disk_copies_failing", "gauge", "1 while what is known cannot be kept.", over="max"),
    Told("outcomes_batches", "counter", "Reports of SDKs.", ("result",)),
    Told("outcomes_rows", "counter", "Rows in the reports that were accepted.", ("result",)),
    Told(
        *("flag_evaluations", "counter", "Evaluations that SDKs reported."),
        (*FLAG, "variant"),
        most=FLAG_SETS,
    ),
    Told(
        *("flag_target_ratio", "gauge", "The share that is set, 0 while the flag is killed."),
        *(FLAG, "max"),
        most=FLAG_SETS,
    ),
    Told(
        *("flag_exposure_ratio", "gauge", "Evaluations of late that got no rest variant, of all."),
        *(FLAG, "max"),
        most=EXPOSED_SETS,
    ),
    Told(
        *("flag_changes", "counter", "Changes of flags, by people and by rollouts."),
        ("environment", "action", "source"),
    ),
    Told("audit_entries", "counter", "Entries of the record.", over="max"),
    Told("audit_chain_valid", "gauge", "0 when the record is broken.", over="min"),
    Told(
        *("audit_last_verification_timestamp_seconds", "gauge"),
        "When the record was last checked to its end.",
        over="max",
    ),
    Told("controller_leader", "gauge", "Controllers of this host that lead: 1 or 0."),
    Told("controller_ticks", "counter", "Ticks of controllers.", ("result",)),
    Told("controller_tick_duration_seconds", "histogram", "Of a tick.", edges=TICK_SECONDS),
    Told("controller_last_tick_timestamp_seconds", "gauge", "Its end.", over="max"),
    Told("controller_rollouts", "gauge", "Rollouts that controllers of this host hold."),
    # What stands in the store, told by whoever is asked.
    Told(
        *("rollout_state", "gauge", "1 for each state that a rollout of the service is in."),
        ("service", "environment", "state"),
        "max",
    ),
    Told("rollout_step", "gauge", "Of the newest, from 1; 0 before the first.", ROLLOUT, "max"),
    Told(
        *("rollout_step_deadline_timestamp_seconds", "gauge"),
        "When its step's wait will be over; not told while the timer stands.",
        ROLLOUT,
        "max",
    ),
    Told("rollout_target_ratio", "gauge", "The share that is intended.", ROLLOUT, "max"),
    Told("rollout_observed_ratio", "gauge", "The share that was read back last.", ROLLOUT, "max"),
    # What was counted by whoever committed it.
    Told(
        *("rollouts", "counter", "Rollouts that came to an end, or could not be taken back."),
        (*ROLLOUT, "outcome", "trigger"),
    ),
    Told(
        *("rollout_duration_seconds", "histogram", "From the start to the end."),
        ("service", "outcome"),
        edges=ROLLOUT_SECONDS,
    ),
    Told(
        *("rollbacks", "counter", "Rollouts that were taken back."),
        (*ROLLOUT, "trigger", "guardrail"),
    ),
    Told(
        *("rollback_detection_seconds", "histogram", "From the first bad point to the decision."),
        ("service",),
        edges=DETECTION_SECONDS,
    ),
    Told(
        *("rollback_duration_seconds", "histogram", "From the decision to 0 %, read back."),
        ("service",),
        edges=ROLLBACK_SECONDS,
    ),
    Told(
        *("guardrail_used_ratio", "gauge", "Observed by limit: 1 is at the limit."),
        (*ROLLOUT, "guardrail", "track"),
        "max",
    ),
    Told(
        *("guardrail_evaluations", "counter", "Verdicts."),
        ("service", "guardrail", "verdict"),
    ),
    Told(
        *("metrics_newest_point_timestamp_seconds", "gauge", "Of what guards watch, by source."),
        ("source",),
        "max",
    ),
    Told(
        *("cloud_calls", "counter", "Calls of AWS, tries counted as one."),
        ("service", "operation", "outcome"),
    ),
    Told("hook_answers", "counter", "Answers to hooks of engines.", ("hook", "answer")),
    Told("pushed_events", "counter", "Events that others told of.", ("result",)),
    Told("notifications", "counter", "Tries to tell somebody.", ("channel", "outcome")),
)
"""Every metric, without `sortition_` before it and, of a counter, `_total` after it."""

BY_NAME = {metric.name: metric for metric in CATALOGUE}


@dataclass(frozen=True, slots=True)
class Page:
    """A page for Prometheus."""

    content_type: str
    body: bytes


class Board:
    """This process's measures, and those of the others that write to the same directory.

    directory: None where nothing is shared.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        now: Callable[[], float] = time.time,
        alive: Callable[[int], bool] | None = None,
    ) -> None:
        """now: unix seconds.  alive: whether a process of this host lives; replaced in tests."""
        self._directory = directory
        self._now = now
        self._alive = alive or _alive
        self._sources: list[Callable[[], Samples]] = []
        self._asked: list[Callable[[], Samples]] = []
        host = socket.gethostname().replace("/", "-")
        self._name = f"{host}-{os.getpid()}-{secrets.token_hex(4)}.json"
        self._failed = False
        self._publishing = threading.Lock()

    def add(self, source: Callable[[], Samples]) -> None:
        """Ask a quick function for measures whenever they are wanted; from any thread."""
        self._sources.append(source)

    def add_asked(self, source: Callable[[], Samples]) -> None:
        """Ask a function only for a page, on the thread of whoever wants one: what all processes
        would tell alike, and what takes a while to tell."""
        self._asked.append(source)

    def publish(self) -> None:
        """Write down what was counted here; once more before the process ends. Raises nothing."""
        if self._directory is None:
            return
        try:
            with self._publishing:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                _write(self._directory / self._name, _content(self._own(), self._now()))
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.warning("measures cannot be shared: %s", error.strerror or error)
            self._failed = True

    def publish_until(self, stop: threading.Event) -> None:
        """Go on publishing until told to stop."""
        while not stop.wait(PUBLISH_SECONDS):
            self.publish()

    def page(self, accept: str = "") -> Page:
        """Return the measures of all processes, in the form that `accept` asks for."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(self.merged()))
        encoder, content_type = choose_encoder(accept)
        return Page(content_type, encoder(registry))

    def merged(self) -> dict[str, dict[Labels, Value]]:
        """Return the measures of all processes, added up as each metric says."""
        merged: dict[str, dict[Labels, Value]] = {}
        _add(merged, self._own(), living=True)
        for path in self._files():
            if path.name != self._name and (read := _read(path)) is not None:
                samples, at = read
                _add(merged, samples, living=self._now() - at < LIVE_SECONDS)
        for source in self._asked:
            try:
                _add(merged, source(), living=True)
            except Exception:
                # What else there is to tell is told all the same: now it is wanted most.
                log.exception("some measures cannot be had")
        _bound(merged)
        return merged

    def gather_the_ended(self) -> None:
        """Put what processes that have ended counted into one file. Raises nothing."""
        if self._directory is None:
            return
        merged: dict[str, dict[Labels, Value]] = {}
        gone = []
        for path in self._files():
            read = _read(path)
            if read is not None and (path.name == ENDED or self._has_ended(path.name)):
                _add(merged, read[0], living=False)
                gone.append(path)
        if len(gone) < 2:
            return
        with suppress(OSError):
            # Removed first: counting less after a crash is a reset, counting twice is a lie.
            for path in gone:
                path.unlink()
            _write(self._directory / ENDED, _content(merged, 0.0))

    def begin_anew(self) -> None:
        """Forget what was counted before. For whoever starts all of a host's processes."""
        for path in self._files():
            with suppress(OSError):
                path.unlink()

    def _files(self) -> list[Path]:
        if self._directory is None:
            return []
        return sorted(self._directory.glob("*.json"))

    def _own(self) -> dict[str, dict[Labels, Value]]:
        own: dict[str, dict[Labels, Value]] = {}
        for source in self._sources:
            _add(own, source(), living=True)
        _bound(own)
        return own

    def _has_ended(self, name: str) -> bool:
        host, _, rest = name.removesuffix(".json").rpartition("-")[0].rpartition("-")
        ours = host == socket.gethostname().replace("/", "-")
        return ours and rest.isdigit() and not self._alive(int(rest))


class _Collector:
    """What prometheus_client asks for its metrics."""

    def __init__(self, merged: Mapping[str, Mapping[Labels, Value]]) -> None:
        self._merged = merged

    def collect(self) -> Iterator[Metric]:
        for metric in CATALOGUE:
            values = self._merged.get(metric.name)
            if values:
                yield _family(metric, values)


def _family(metric: Told, values: Mapping[Labels, Value]) -> Metric:
    name, labels = f"sortition_{metric.name}", metric.labels
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(name, metric.help, labels=labels)
        for key, value in sorted(values.items()):
            *buckets, total = _list(value)
            histogram.add_metric(list(key), _cumulative(metric.edges, buckets), total)
        return histogram
    made = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family: CounterMetricFamily | GaugeMetricFamily = made(name, metric.help, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(list(key), float(value))  # type: ignore[arg-type]  # no histogram's
    return family


def _cumulative(edges: Sequence[float], buckets: Sequence[float]) -> list[tuple[str, float]]:
    total, cumulative = 0.0, []
    for edge, count in zip((*map(str, edges), "+Inf"), buckets, strict=True):
        total += count
        cumulative.append((edge, total))
    return cumulative


def _add(into: dict[str, dict[Labels, Value]], samples: Samples, *, living: bool) -> None:
    """Add samples to others; of a process that has ended, only those that grow."""
    for name, values in samples.items():
        metric = BY_NAME.get(name)
        if metric is None or (metric.kind == "gauge" and not living):
            continue
        held = into.setdefault(name, {})
        for labels, value in values.items():
            before = held.get(labels)
            held[labels] = value if before is None else _one(metric, before, value)


def _bound(told: dict[str, dict[Labels, Value]]) -> None:
    """Keep what names flags to as many sets of labels as its metric may tell, the first flags by
    key. What else was counted becomes one number, under empty labels."""
    for name, values in told.items():
        metric = BY_NAME[name]
        if not metric.most or len(values) <= metric.most:
            continue
        flag = metric.labels.index("flag")
        rest = ("",) * len(metric.labels)
        kept = sorted(values.keys() - {rest}, key=lambda labels: (labels[flag], labels))
        cut: dict[Labels, Value] = {labels: values[labels] for labels in kept[: metric.most - 1]}
        if metric.kind == "counter":
            beyond = (values[labels] for labels in values if labels not in cut)
            cut[rest] = sum(map(float, beyond))  # type: ignore[arg-type]  # no histogram's
        told[name] = cut


def _one(metric: Told, left: Value, right: Value) -> Value:
    if metric.kind == "histogram":
        return [a + b for a, b in zip(_list(left), _list(right), strict=True)]
    a, b = float(left), float(right)  # type: ignore[arg-type]  # no histogram's
    if metric.over == "sum":
        return a + b
    return max(a, b) if metric.over == "max" else min(a, b)


def _list(value: Value) -> list[float]:
    return list(value)  # type: ignore[arg-type]  # a histogram's


def _content(samples: Samples, at: float) -> bytes:
    told = {
        name: [[list(labels), value] for labels, value in values.items()]
        for name, values in samples.items()
    }
    return json.dumps({"format": FORMAT, "at": at, "samples": told}).encode()


def _read(path: Path) -> tuple[dict[str, dict[Labels, Value]], float] | None:
    """Return what a process wrote, and when; None for what cannot be used."""
    try:
        content: Any = json.loads(path.read_bytes())
        if content["format"] != FORMAT:
            return None
        samples = {
            name: {tuple(labels): value for labels, value in values}
            for name, values in content["samples"].items()
        }
        return samples, float(content["at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, octets: bytes) -> None:
    # Not synced: after a power cut everything is counted anew.
    new = path.with_suffix(".new")
    with open(new, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(octets)
    new.replace(path)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


# --- what every process tells ---------------------------------------------------------------------


def of_build(version: str, component: str) -> Samples:
    """Return what says that a version runs."""
    return {"build_info": {(version, component): 1.0}}
