"""The `sortition` command: for people and pipelines, over HTTP, and offline where it says so."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command, or say how to install what it needs."""
    try:
        from .main import cli  # noqa: PLC0415 (needs the extra, and says so when it is missing)
    except ModuleNotFoundError as error:
        missing = f"The sortition command needs {error.name}: install sortition[cli]"
        sys.exit(missing)
    cli(prog_name="sortition")
