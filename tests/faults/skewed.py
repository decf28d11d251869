"""The `flagserver` command on a machine whose clock is wrong: `skewed.py SECONDS web`."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta

from flagserver import main, system


def run() -> None:
    seconds = float(sys.argv.pop(1))
    true = time.time
    time.time = lambda: true() + seconds

    def now(self: object) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=seconds)

    system.SystemClock.now = now  # type: ignore[method-assign]
    main.main()


if __name__ == "__main__":
    run()
