"""Flags, for Prometheus: which shares are set, what was served, and who changes them.

Shares are read from the mirror, and what was served from the store, both only when somebody asks.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product

from sortition.core.bucketing import WHOLE
from sortition.core.model import Flag

from flagserver.domain.errors import Refusal
from flagserver.measures import (
    EXPOSED_SETS,
    FLAG_SETS,
    SET_BY_ROLLOUT,
    Board,
    Labels,
    Samples,
    Value,
)
from flagserver.services import Services
from flagserver.services.outcomes import Outcomes
from flagserver.services.snapshots import Snapshots

WINDOW_MINUTES = 5
"""Over how many of the last minutes an exposure is told."""

LEAST_EVALUATIONS = 1_000
"""Of fewer no exposure is told: by chance alone it lies up to 3 points off (95 %, at 50 %)."""

PEOPLE = ("person", "token")
"""Whoever changes flags: signed in, or with a token."""

OF_FLAGS = ("flag:create", "flag:edit", "flag:archive", "flag:unarchive")
OF_STATES = ("flag:share:change", "flag:kill", "flag:unkill")
"""What is done to a flag everywhere, and what in one environment."""

Place = tuple[str, str]
"""(environment, flag)"""


def show(board: Board, services: Services) -> None:
    """Have a board tell of flags, in a process that serves."""
    board.add(partial(evaluations, services.outcomes))
    board.add(partial(no_changes, services.snapshots))
    board.add_asked(partial(targets, services.snapshots))
    board.add_asked(Exposures(services.snapshots, services.outcomes).samples)


def evaluations(outcomes: Outcomes) -> Samples:
    """Return what was reported to this process."""
    counts = outcomes.evaluations().items()
    return {"flag_evaluations": {labels: float(number) for labels, number in counts}}


def no_changes(snapshots: Snapshots) -> Samples:
    """Return every change that may come, as not made yet: an increase from nothing is unseen."""
    everywhere = product([""], OF_FLAGS, PEOPLE)
    somewhere = product(snapshots.views(), OF_STATES, PEOPLE)
    moved = ((environment, *SET_BY_ROLLOUT) for environment in snapshots.views())
    return {"flag_changes": dict.fromkeys((*everywhere, *somewhere, *moved), 0.0)}


def targets(snapshots: Snapshots) -> Samples:
    """Return the share of every flag in every environment, as it is served."""
    flags = _flags(snapshots)
    told = _of_interest(flags)[:FLAG_SETS]
    return {"flag_target_ratio": {place: _share(flags[place]) / WHOLE for place in told}}


class Exposures:
    """Tells which part of the evaluations of late got another variant than the rest.

    The store is read once a minute at most, however many ask, and of EXPOSED_SETS flags.
    """

    def __init__(self, snapshots: Snapshots, outcomes: Outcomes) -> None:
        self._snapshots = snapshots
        self._outcomes = outcomes
        self._reading = threading.Lock()
        self._until = 0
        self._known: Mapping[Labels, Value] = {}

    def samples(self) -> Samples:
        """Return what Prometheus is told; nothing while the store is away."""
        until = self._outcomes.settled()
        with self._reading:
            if until != self._until:
                try:
                    self._known = self._read(until)
                except Refusal:
                    return {}
                self._until = until
            return {"flag_exposure_ratio": self._known}

    def _read(self, until: int) -> Mapping[Labels, Value]:
        wanted = _of_interest(_flags(self._snapshots))[:EXPOSED_SETS]
        found = self._outcomes.exposures(wanted, WINDOW_MINUTES, until)
        return {
            place: exposure.share / 100
            for place, exposure in found.items()
            if exposure.share is not None and exposure.assignments >= LEAST_EVALUATIONS
        }


def _flags(snapshots: Snapshots) -> dict[Place, Flag]:
    return {
        (environment, key): flag
        for environment, view in snapshots.views().items()
        for key, flag in view.snapshot.flags.items()
    }


def _share(flag: Flag) -> int:
    return 0 if flag.killed else flag.share


def _of_interest(flags: Mapping[Place, Flag]) -> Sequence[Place]:
    """Return where flags are, those first that some are exposed to and some are not."""
    return sorted(flags, key=lambda place: (_share(flags[place]) in {0, WHOLE}, place[1], place))
