"""`sortition rollouts`: plan one, start it, follow it, take it back, and judge it again."""

from . import changing, following, looking, replaying, starting, syncing  # each adds its commands
from .group import rollouts

__all__ = ["changing", "following", "looking", "replaying", "rollouts", "starting", "syncing"]
