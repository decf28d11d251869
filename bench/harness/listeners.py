"""Many event streams in one process and one thread: `listeners.py COUNT PORT KEY`.

Says how many are connected once each has had its snapshot; then, for the line `report`, when each
stream had each change, and ends. It stands alone.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time

AT_ONCE = 100
"""Streams that are being opened: more would only wait for each other."""
CONNECT_SECONDS = 120.0
CHANGE = re.compile(rb"event: change\nid: (\S+)\n")
END = b"\n\n"


class Stream:
    """One stream. ready: it has had its snapshot."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.socket.sendall(request)
        self.socket.setblocking(False)
        self.ready = False
        self._held = b""

    def read(self) -> list[bytes] | None:
        """Return the messages that are whole now, or None at the stream's end."""
        try:
            part = self.socket.recv(1 << 18)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not part:
            return None
        *whole, self._held = (self._held + part).split(END)
        return whole


class Listeners:
    """All of them."""

    def __init__(self, count: int, port: int, key: str) -> None:
        head = f"GET /api/v1/sdk/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        self._request = f"{head}Authorization: Bearer {key}\r\n\r\n".encode()
        self._count, self._port = count, port
        self._poll = select.epoll()
        self._streams: dict[int, Stream] = {}
        self._ready = self.closed = self.octets = 0
        self.times: dict[str, list[int]] = {}

    def connect(self) -> int:
        """Open all, a few at a time; return how many have had their snapshot in time."""
        deadline = time.monotonic() + CONNECT_SECONDS
        opened = 0
        while self._ready < self._count - self.closed and time.monotonic() < deadline:
            while opened < self._count and opened - self._ready - self.closed < AT_ONCE:
                stream = Stream(self._port, self._request)
                self._streams[stream.socket.fileno()] = stream
                self._poll.register(stream.socket.fileno(), select.EPOLLIN)
                opened += 1
            self.look(0.1)
        return self._ready

    def listen(self) -> None:
        """Take in events until there is a line on the standard input."""
        self._poll.register(sys.stdin.fileno(), select.EPOLLIN)
        while not self.look(1.0):
            pass

    def look(self, wait: float) -> bool:
        """Take in what came; tell whether the standard input has a line."""
        told = False
        for number, _ in self._poll.poll(wait):
            now = time.monotonic_ns()
            if number == sys.stdin.fileno():
                told = True
                continue
            stream = self._streams[number]
            messages = stream.read()
            if messages is None:
                self._drop(number)
                continue
            for message in messages:
                self._take(stream, message, now)
        return told

    def _take(self, stream: Stream, message: bytes, now: int) -> None:
        if not stream.ready:
            # The answer's head, and `retry`, come before the snapshot.
            stream.ready = b"event: snapshot" in message
            self._ready += stream.ready
            return
        found = CHANGE.search(message)
        if found is not None:
            self.times.setdefault(found[1].decode(), []).append(now)
            self.octets = len(message) - found.start() + len(END)

    def _drop(self, number: int) -> None:
        stream = self._streams.pop(number)
        self._poll.unregister(number)
        stream.socket.close()
        self._ready -= stream.ready
        self.closed += 1


def main() -> None:
    """Connect, listen, report."""
    count, port, key = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    listeners = Listeners(count, port, key)
    began = time.monotonic()
    tell({"connected": listeners.connect(), "seconds": time.monotonic() - began})
    listeners.listen()
    tell({"closed": listeners.closed, "octets": listeners.octets, "times": listeners.times})


def tell(what: object) -> None:
    """Say it on a line."""
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
