"""Neutrality, live: what is served held against what a fair lot serves, from counts without ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sortition.core.model import Flag
from sortition.neutrality import live
from sortition.neutrality.live import Ratio, Spread, Untold

from flagserver.domain.outcomes import flag_subject
from flagserver.domain.times import unix
from flagserver.ports import Outcomes as Store

from .catalogue import FlagView
from .flags import Flags
from .outcomes import Outcomes
from .snapshots import Snapshots

MINUTES = 110
"""How far back variants are counted: their counts are kept for two hours."""

HOURS = 24
"""How far back points are counted. They do not depend on the share, so a whole day's are one."""

SETTLE_SECONDS = 30
"""How long after a change some processes may still serve what was before."""


@dataclass(frozen=True)
class Report:
    """What a flag's lot did in one environment, until then (unix seconds).

    points_since: the hour that is counted from.  ratio_since: since when nothing was changed that
    decides how often variants are served.  departures: what picks traffic by place, in words.
    """

    environment: str
    until: int
    points_since: int
    ratio_since: int
    points: Spread
    ratio: Ratio
    departures: tuple[str, ...]


class Neutrality:
    """Use cases of those who look at what lots do."""

    def __init__(
        self, flags: Flags, snapshots: Snapshots, outcomes: Outcomes, store: Store
    ) -> None:
        self._flags = flags
        self._snapshots = snapshots
        self._outcomes = outcomes
        self._store = store

    def reports(self, key: str, only: str | None = None) -> list[Report]:
        """Return what a flag's lot does in each environment, or in one. Raises NotFound.

        Of a flag that is archived there is nothing to report.
        """
        view = self._flags.get(key)
        if only is not None:
            self._flags.state(key, only)
        # An environment that was made a moment ago may not be mirrored yet.
        known = {name: each.snapshot.flags for name, each in self._snapshots.views().items()}
        wanted = [name for name in view.states if only in {None, name}]
        return [
            self._report(name, key, known[name]) for name in wanted if key in known.get(name, ())
        ]

    def _report(self, environment: str, key: str, flags: Mapping[str, Flag]) -> Report:
        until = self._outcomes.settled()
        points_since = (until - HOURS * 3600) // 3600 * 3600
        unchanged = self._unchanged_since(environment, live.line(flags, key))
        ratio_since = min(until, max(until - 60 * MINUTES, unchanged))
        bins, _ = self._outcomes.points(environment, key, points_since, until)
        counts = self._assigned(environment, flags[key], ratio_since, until)
        return Report(
            *(environment, until, points_since, ratio_since),
            points=live.spread(bins),
            ratio=_ratio(flags, key, counts),
            departures=tuple(live.departures(flags, key)),
        )

    def _unchanged_since(self, environment: str, keys: list[str]) -> int:
        """Return the first whole minute (unix) from which on these flags were as they are now."""
        changes = [_changed(self._flags.get(key), environment) for key in keys]
        settled = max(changes) + SETTLE_SECONDS
        return int(-(-settled // 60) * 60)

    def _assigned(self, environment: str, flag: Flag, since: int, until: int) -> Mapping[str, int]:
        ends = range(since + 60, until + 1, 60)
        subject = environment, flag_subject(flag.key)
        found = self._store.assignments({subject: flag.variants}, ends) if ends else {}
        return found.get(subject, {})


def _changed(view: FlagView, environment: str) -> float:
    state = view.states.get(environment)
    changed = None if state is None else state.state.changed
    return unix(changed or view.flag.created)


def _ratio(flags: Mapping[str, Flag], key: str, counts: Mapping[str, int]) -> Ratio:
    try:
        return live.ratio(counts, live.chances(flags, key))
    except Untold as why:
        return live.untold(counts, str(why))
