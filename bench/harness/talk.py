"""Programs of ours in processes of their own, spoken to line by line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

STOP_SECONDS = 10.0


class Talker:
    """A process that answers lines with JSON on lines. What it says to its errors is shown."""

    def __init__(
        self,
        stack: ExitStack,
        python: Path | str,
        program: Path,
        *arguments: object,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it; it ends with the stack."""
        self._process = subprocess.Popen(
            [str(python), "-I", str(program), *map(str, arguments)],
            env=None if environment is None else dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._name = program.stem
        stack.callback(self._end)

    def say(self, line: str) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        """Wait for its next answer. Ends this process when there is none."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self._name} ended with status {self._process.wait()}")
        return json.loads(line)

    def _end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
