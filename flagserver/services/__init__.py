"""Use cases: what `http`, `admin` and the controller may ask the server to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .approvals import Approvals
from .audit import Audit
from .drills import Drills
from .environments import Environments
from .flags import Flags
from .grounds import Grounds
from .health import Health
from .hooks import Hooks
from .introductions import Introductions
from .losses import Losses
from .metrics import Metrics
from .neutrality import Neutrality
from .notifying import Notifying
from .outcomes import Outcomes
from .people import People
from .previews import Previews
from .pushes import Pushes
from .rates import Rates
from .record import Record
from .reviewing import Reviewing
from .rollouts import Rollouts
from .schedules import Schedules
from .sessions import Sessions
from .snapshots import Snapshots
from .syncing import Syncing
from .tokens import Tokens
from .watching import Watching


@dataclass(frozen=True)
class Services:
    """Everything that may be asked, in one place."""

    flags: Flags
    environments: Environments
    tokens: Tokens
    rates: Rates
    snapshots: Snapshots
    outcomes: Outcomes
    neutrality: Neutrality
    metrics: Metrics
    rollouts: Rollouts
    approvals: Approvals
    grounds: Grounds
    hooks: Hooks
    pushes: Pushes
    previews: Previews
    schedules: Schedules
    watching: Watching
    syncing: Syncing
    drills: Drills
    reviewing: Reviewing
    sessions: Sessions
    people: People
    introductions: Introductions
    notifying: Notifying
    record: Record
    losses: Losses
    audit: Audit
    health: Callable[[], Health]
