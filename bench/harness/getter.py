"""Ordinary requests at a steady pace: `getter.py PORT KEY PATH RATE`.

From start to the line `report` on its standard input; then says how long each took (ms). A request
that had to wait for the one before it is counted from when it was due. It stands alone.
"""

from __future__ import annotations

import http.client
import json
import select
import sys
import time


def main() -> None:
    """Ask until told to report."""
    port, key, path, rate = int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Authorization": f"Bearer {key}"}
    taken: list[float] = []
    failed = 0
    due = time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        failed += answer.status != 200
        taken.append((time.monotonic() - due) * 1000)
        due += 1 / rate
    print(json.dumps({"taken": taken, "failed": failed}), flush=True)


if __name__ == "__main__":
    main()
