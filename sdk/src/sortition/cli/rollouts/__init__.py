"""`sortition rollouts`: plan one, start it, follow it, and take it back."""

from . import changing, following, looking, starting, syncing  # each adds its commands
from .group import rollouts

__all__ = ["changing", "following", "looking", "rollouts", "starting", "syncing"]
