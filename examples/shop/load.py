"""Synthetic visitors of the shop: a steady stream of requests from this machine to this machine.

python -m examples.shop.load http://127.0.0.1:8401 --rate 60 --seconds 3600
"""

from __future__ import annotations

import argparse
import http.client
import random
import threading
import time
import uuid
from urllib.parse import urlsplit

VISITORS = 4
"""So many visit side by side, so that a slow answer keeps the others from nothing."""

PATHS = (("GET", "/search"), ("GET", "/search"), ("GET", "/product"), ("POST", "/checkout"))


def visit(host: str, port: int, rate: float, seconds: float) -> None:
    """Send `rate` requests a second for that many seconds. A shop that is away is tried again."""
    connection = http.client.HTTPConnection(host, port, timeout=2)
    end = time.monotonic() + seconds
    due = time.monotonic()
    while due < end:
        method, path = random.choice(PATHS)
        try:
            connection.request(method, path, headers={"X-Request-Id": uuid.uuid4().hex})
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            connection.close()
            time.sleep(random.uniform(0.1, 0.5))
        due = max(due + random.expovariate(rate), time.monotonic() - 1)
        time.sleep(max(0.0, due - time.monotonic()))


def main() -> None:
    """Read the command line and visit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, default=60.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long")
    arguments = parser.parse_args()
    url = urlsplit(arguments.url)
    if url.hostname not in ("127.0.0.1", "localhost", "::1"):
        parser.error("the visitors stay on this machine")
    each = (url.hostname, url.port or 80, arguments.rate / VISITORS, arguments.seconds)
    visitors = [threading.Thread(target=visit, args=each) for _ in range(VISITORS)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()


if __name__ == "__main__":
    main()
