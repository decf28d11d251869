"""`sortition rollouts`: plan one, start it, follow it, take it back, and judge it again."""

# Each adds its commands.
from . import changing, following, looking, replaying, simulating, starting, syncing
from .group import rollouts

__all__ = [
    "changing",
    "following",
    "looking",
    "replaying",
    "rollouts",
    "simulating",
    "starting",
    "syncing",
]
