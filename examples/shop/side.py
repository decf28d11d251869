"""One side of the shop: the version that its file names, served until the file names another.

    python -m examples.shop.side green --data .data/demo/shop --port 8404

It becomes gunicorn; `app.Orders` follows the file from then on.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from .sides import SIDES, read_side


def main() -> None:
    """Take the side's version for ours and serve."""
    parser = argparse.ArgumentParser(prog="examples.shop.side", description="One side of the shop")
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    asked = parser.parse_args()
    version = read_side(asked.data, asked.side)["version"]
    os.environ.update(
        SHOP_SIDE=asked.side,
        SHOP_DATA=str(asked.data),
        OTEL_RESOURCE_ATTRIBUTES=f"service.version={version}",
    )
    command = [
        *(sys.executable, "-m", "gunicorn", "examples.shop.app:app"),
        *("--bind", f"127.0.0.1:{asked.port}"),
        *("--worker-class", "gthread", "--threads", "16", "--no-control-socket"),
        *("--log-level", "warning", "--graceful-timeout", "1"),
    ]
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
