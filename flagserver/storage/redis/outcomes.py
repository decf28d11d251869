"""What services reported: counts by subject, kept for two hours, by tick and summed up by minute.

Each subject takes a batch in by one script in its own slot and remembers that it did, so a batch
that failed half-way can be sent again: whoever has it already says so.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from sortition.core.ticks import TICK_SECONDS

from flagserver.domain.outcomes import Drawn, Part, Report, Row, Totals, tick_of

from . import keys
from .scripts import script
from .server import Call, Server

log = logging.getLogger(__name__)

KEEP_SECONDS = 2 * 60 * 60
"""How long counts are kept."""

POINTS_SECONDS = 26 * 60 * 60
"""How long samples of points are kept, by the hour: a whole day can be asked for at any time."""

HOUR = 60 * 60

PERIOD_SECONDS = 60 * 60
"""Batches are remembered for one to two periods; nobody sends one again after that."""

MINUTE_FIELDS = 50_000
"""Most counts of one subject in one minute: sixty ticks of a dozen variants, every bucket used."""

SEARCHED_SECONDS = 20
"""Less than that of a minute is searched for, and not picked out of the whole of it."""

SEARCHED_FIELDS = 4 * MINUTE_FIELDS
"""How much of a hash one search goes through: all of it, where names and numbers are counted."""

SOURCES = 5_000
"""Most sources of an environment; those silent for longest are forgotten first."""

LONGEST_SUM_SECONDS = 10**9
"""A row's sum of latencies is cut here, so that no sum of sums leaves 64 bits."""

MICROSECONDS = 10**6


AGE = "g"
"""What ages begin with. They are of moments, so they are not summed up."""

_Count = tuple[int, str, str]
"""(at, part, what): what a number is of. A part is `<variant>`, of a flag's rows
`<variant>:<service>:<version>`, of a service's `<version>:<half>`; each quoted."""


class RedisOutcomes:
    """`ports.Outcomes`."""

    _server: Server
    _now: Callable[[], float] = staticmethod(time.time)

    def add(
        self,
        environment: str,
        source: str,
        seq: int,
        rows: Iterable[Row],
        about: Mapping[str, Any],
        drawn: Iterable[Drawn] = (),
    ) -> bool:
        """Add the rows of one batch. False when (source, seq) was here before."""
        added = self.count(environment, source, seq, rows, drawn)
        heard = self._server.run(self._heard(environment, Report(source, seq, "", about)))
        return added or bool(heard)

    def note(self, environment: str, reports: Sequence[Report]) -> list[bool]:
        """Note batches; tell of each whether it is new."""
        calls = [self._heard(environment, report) for report in reports]
        return [bool(new) for new in self._server.run_all(calls)]

    def count(
        self,
        environment: str,
        source: str,
        seq: int,
        rows: Iterable[Row],
        drawn: Iterable[Drawn] = (),
    ) -> bool:
        """Add rows to the counts. False when all of them were here before."""
        counts, points = _by_subject(rows), _points_by_subject(drawn)
        calls = [
            self._take_in(environment, subject, (source, seq), counts[subject], points[subject])
            for subject in dict.fromkeys((*counts, *points))
        ]
        results = self._server.run_all(calls)
        if 2 in results:
            log.warning("%d subjects of a batch are full for a minute", results.count(2))
        return any(results)

    def totals(
        self, environment: str, subject: str, *, since: int, until: int
    ) -> Mapping[str, Totals]:
        """Return variant -> totals, ticks in (since, until]."""
        sums: dict[str, _Sums] = defaultdict(_Sums)
        for _, part, what, number in self._counts(environment, subject, since, until):
            sums[part.variant].add(what, number)
        return {variant: each.totals() for variant, each in sums.items()}

    def series(
        self, environment: str, subject: str, *, since: int, until: int
    ) -> Mapping[int, Mapping[str, Totals]]:
        """Return the same per tick."""
        sums: dict[int, dict[str, _Sums]] = defaultdict(lambda: defaultdict(_Sums))
        for at, part, what, number in self._counts(environment, subject, since, until):
            sums[at][part.variant].add(what, number)
        return {
            at: {variant: each.totals() for variant, each in sorted(sums[at].items())}
            for at in sorted(sums)
        }

    def ticks(
        self,
        wanted: Collection[tuple[str, str]],
        *,
        since: int,
        until: int,
        halves: bool = False,
    ) -> Mapping[tuple[str, str], Mapping[int, Mapping[Part, Totals]]]:
        """Return totals per aligned tick and part, of many subjects at once."""
        # The first tick that ends after `since` began at the grid's line before it.
        since, until = (
            at // TICK_SECONDS * TICK_SECONDS for at in (max(since, until - KEEP_SECONDS), until)
        )
        minutes = range((since + 1) // 60, until // 60 + 1)
        asked = [(*subject, minute) for subject in dict.fromkeys(wanted) for minute in minutes]
        answers = self._of_minutes([(keys.ticks(*each), each[-1]) for each in asked], since, until)
        sums: dict[tuple[str, str], dict[int, dict[Part, _Sums]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(_Sums))
        )
        for (environment, subject, _), found in zip(asked, answers, strict=True):
            for at, part, what, number in _read(found, since, until):
                whole = part if halves or not part.half else Part(part.variant)
                sums[environment, subject][tick_of(at)][whole].add(what, number)
        return {
            subject: {
                tick: {part: each.totals() for part, each in sorted(parts.items())}
                for tick, parts in sorted(of_subject.items())
            }
            for subject, of_subject in sums.items()
        }

    def minutes(
        self, wanted: Mapping[tuple[str, str], Collection[int]]
    ) -> Mapping[tuple[str, str], Mapping[int, Mapping[str, Totals]]]:
        """Return totals per minute, of many subjects at once."""
        asked = [(*subject, end) for subject, ends in wanted.items() for end in ends]
        answers = self._server.read_all([("HGETALL", keys.sums(*each)) for each in asked])
        found: dict[tuple[str, str], dict[int, dict[str, Totals]]] = defaultdict(dict)
        for (environment, subject, end), counts in zip(asked, answers, strict=True):
            if counts:
                found[environment, subject][end] = _by_variant(counts)
        return found

    def assignments(
        self, wanted: Mapping[tuple[str, str], Collection[str]], ends: Collection[int]
    ) -> Mapping[tuple[str, str], Mapping[str, int]]:
        """Return how often variants were served in some minutes, of many flags at once."""
        asked = [(subject, tuple(wanted[subject]), end) for subject in wanted for end in ends]
        answers = self._server.read_all(
            [
                ("HMGET", keys.sums(*subject, end), *(f"{_quoted(name)}:a" for name in names))
                for subject, names, end in asked
            ]
        )
        found: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for (subject, names, _), numbers in zip(asked, answers, strict=True):
            for name, number in zip(names, numbers, strict=True):
                if number is not None:
                    found[subject][name] += int(number)
        return found

    def points(
        self, environment: str, subject: str, *, since: int, until: int
    ) -> Mapping[int, int]:
        """Return bin -> sampled points, of the hours that (since, until] touches."""
        since = max(since, until - POINTS_SECONDS)
        hours = range((since + 1) // HOUR, until // HOUR + 1)
        commands = [("HGETALL", keys.points(environment, subject, each)) for each in hours]
        bins = Counter[int]()
        for found in self._server.read_all(commands):
            bins.update({int(place): int(number) for place, number in found.items()})
        return dict(sorted(bins.items()))

    def sources(self, environment: str) -> list[Mapping[str, Any]]:
        """Return who reported within KEEP_SECONDS, the last to report first."""
        oldest = int(self._now()) - KEEP_SECONDS
        seen = self._server.read("ZREVRANGEBYSCORE", keys.sources_seen(environment), "+inf", oldest)
        if not seen:
            return []
        found = self._server.read("HMGET", keys.sources(environment), *seen)
        return [json.loads(value.partition(b" ")[2]) for value in found if value is not None]

    def _of_minutes(
        self, wanted: Sequence[tuple[str, int]], since: int, until: int
    ) -> list[Mapping[bytes, bytes]]:
        """Return what hashes of ticks have at least of (since, until]. wanted: (key, minute)."""
        asked = [
            _search(key, max(since + 1, minute * 60), min(until, minute * 60 + 59))
            for key, minute in wanted
        ]
        found: list[Mapping[bytes, bytes]] = []
        for (name, key, *_), answer in zip(asked, self._server.read_all(asked), strict=True):
            if name == "HGETALL":
                found.append(answer)
            else:
                rest, counts = answer
                found.append(self._server.read("HGETALL", key) if rest else counts)
        return found

    def _take_in(
        self,
        environment: str,
        subject: str,
        batch: tuple[str, int],
        counts: Counter[_Count],
        points: Mapping[int, Counter[int]],
    ) -> Call:
        ticks: dict[int, Counter[str]] = defaultdict(Counter)
        sums: dict[int, Counter[str]] = defaultdict(Counter)
        for (at, part, what), number in counts.items():
            ticks[at // 60][f"{at}:{part}:{what}"] = number
            if what[0] != AGE:
                sums[_minutes_end(at)][f"{part.partition(':')[0]}:{what}"] += number
        period = int(self._now()) // PERIOD_SECONDS
        names = [keys.taken(environment, subject, each) for each in (period, period - 1)]
        arguments: list[str | int] = [*batch, KEEP_SECONDS, MINUTE_FIELDS]
        hashes: list[tuple[str, int, Mapping[Any, int]]] = [
            *((keys.ticks(environment, subject, at), KEEP_SECONDS, ticks[at]) for at in ticks),
            *((keys.sums(environment, subject, at), KEEP_SECONDS, sums[at]) for at in sums),
            *((keys.points(environment, subject, at), POINTS_SECONDS, points[at]) for at in points),
        ]
        for name, seconds, fields in hashes:
            names.append(name)
            arguments += (len(names), seconds, len(fields))
            arguments += (each for pair in fields.items() for each in pair)
        return Call(script("take_in"), names, arguments)

    def _heard(self, environment: str, report: Report) -> Call:
        now = int(self._now())
        names = [keys.sources(environment), keys.sources_seen(environment)]
        told = json.dumps(dict(report.about), ensure_ascii=False)
        limits = (now, now - KEEP_SECONDS, SOURCES, KEEP_SECONDS)
        return Call(
            script("heard"), names, [report.source, report.seq, told, *limits, report.owner]
        )

    def _counts(
        self, environment: str, subject: str, since: int, until: int
    ) -> Iterator[tuple[int, Part, str, int]]:
        """Yield (at, part, what, number) of ticks in (since, until]."""
        since = max(since, until - KEEP_SECONDS - 60)
        minutes = range((since + 1) // 60, until // 60 + 1)
        commands = [("HGETALL", keys.ticks(environment, subject, each)) for each in minutes]
        for found in self._server.read_all(commands):
            yield from _read(found, since, until)


def _search(key: str, first: int, last: int) -> tuple[Any, ...]:
    """Return the command that reads of a hash of ticks what ended from `first` to `last`, and maybe
    what ended at seconds with the same digits in their places.

    A hash of a minute is hundreds of fields, twelve times what one tick needs. Searched at the
    server it costs that 0.1 ms more, and who asks 2 ms less.
    """
    if last - first >= SEARCHED_SECONDS:
        return "HGETALL", key
    places = zip(*map(str, range(first, last + 1)), strict=True)
    pattern = "".join(f"[{''.join(sorted(set(digits)))}]" for digits in places)
    return "HSCAN", key, 0, "MATCH", f"{pattern}:*", "COUNT", SEARCHED_FIELDS


def _minutes_end(at: int) -> int:
    """Return when the minute ended, (end - 60, end], that a tick is summed up with."""
    return -(-at // 60) * 60


def _read(
    found: Mapping[bytes, bytes], since: int, until: int
) -> Iterator[tuple[int, Part, str, int]]:
    """Yield (at, part, what, number) of one hash of ticks, those in (since, until]."""
    for name, number in found.items():
        at, *told, what = name.decode().split(":")
        if since < int(at) <= until:
            yield int(at), _part([unquote(each) for each in told]), what, int(number)


def _part(told: Sequence[str]) -> Part:
    return Part(told[0], half=told[1]) if len(told) == len(("version", "half")) else Part(*told)


def _by_subject(rows: Iterable[Row]) -> dict[str, Counter[_Count]]:
    """Return subject -> (at, part, what) -> number, rows of the same tick and part added up."""
    subjects: dict[str, Counter[_Count]] = defaultdict(Counter)
    for row in rows:
        part = _quoted(row.variant)
        if row.service:
            part = f"{part}:{_quoted(row.service)}:{_quoted(row.version)}"
        elif row.half:
            part = f"{part}:{row.half}"
        for what, number in _numbers(row):
            subjects[row.subject][row.at, part, what] += number
    return subjects


def _points_by_subject(drawn: Iterable[Drawn]) -> dict[str, dict[int, Counter[int]]]:
    """Return subject -> hour -> bin -> points."""
    subjects: dict[str, dict[int, Counter[int]]] = defaultdict(lambda: defaultdict(Counter))
    for each in drawn:
        subjects[each.subject][each.at // HOUR].update(each.bins)
    return subjects


def _quoted(variant: str) -> str:
    return quote(variant, safe="")


def _numbers(row: Row) -> Iterator[tuple[str, int]]:
    """Yield what is kept of a row: `a`ssignments, `r`equests (always, so that a tick without any
    shows), `f`ailures, `y` (late requests), `s`um in microseconds, `l<bucket>`, `g<bucket>`
    (ages), `t<metric>` and `x<metric>` (failed)."""
    yield "r", row.requests
    microseconds = round(min(row.latency_sum, LONGEST_SUM_SECONDS) * MICROSECONDS)
    plain = (("a", row.assignments), ("f", row.failures), ("y", row.late), ("s", microseconds))
    for what, number in plain:
        if number:
            yield what, number
    for bucket, number in row.latency.items():
        yield f"l{bucket}", number
    for bucket, number in row.ages.items():
        yield f"{AGE}{bucket}", number
    for metric, (total, failed) in row.metrics.items():
        name = quote(metric, safe="")
        yield f"t{name}", total
        yield f"x{name}", failed


def _by_variant(counts: Mapping[bytes, bytes]) -> dict[str, Totals]:
    """Return variant -> totals of the sums of one minute."""
    sums: dict[str, _Sums] = defaultdict(_Sums)
    for name, number in counts.items():
        variant, what = name.decode().split(":")
        sums[variant].add(what, int(number))
    return {unquote(variant): each.totals() for variant, each in sorted(sums.items())}


@dataclass(slots=True)
class _Sums:
    """Counts of one variant while they are added up."""

    plain: Counter[str] = field(default_factory=Counter)
    latency: Counter[int] = field(default_factory=Counter)
    ages: Counter[int] = field(default_factory=Counter)
    metrics: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))

    def add(self, what: str, number: int) -> None:
        kind, name = what[0], what[1:]
        if kind == "l":
            self.latency[int(name)] += number
        elif kind == AGE:
            self.ages[int(name)] += number
        elif kind in {"t", "x"}:
            self.metrics[unquote(name)][kind == "x"] += number
        else:
            self.plain[kind] += number

    def totals(self) -> Totals:
        return Totals(
            assignments=self.plain["a"],
            requests=self.plain["r"],
            failures=self.plain["f"],
            latency=_counted(self.latency),
            latency_sum=self.plain["s"] / MICROSECONDS,
            metrics={name: (total, failed) for name, (total, failed) in self.metrics.items()},
            late=self.plain["y"],
            ages=_counted(self.ages),
        )


def _counted(histogram: Counter[int]) -> dict[int, int]:
    """Return a histogram in order, without buckets that were told with nothing in them."""
    return {bucket: number for bucket, number in sorted(histogram.items()) if number}
