"""A real server for a pipeline: `flagserver run`, its controller quick, its port kept."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flagserver.processes import Child, Process
from tests.servers import STOP_SECONDS, free_ports, wait_until

TOKEN = "srt_admin_00000000000a_49b88687ddcac104068629f201dcfbddb2f7269ca42ceacf197f46cada3060f8"
SURE = {"reason": "a test", "confirm_environment": "production"}
TICK_SECONDS = 0.25


@dataclass
class Server:
    """One that can be away for a while."""

    directory: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: Process | None = None
    more: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        self.directory.mkdir(parents=True, exist_ok=True)
        token = self.directory / "token"
        token.write_text(TOKEN)
        environment = {
            "SORTITION_PORT": str(self.port),
            "SORTITION_DATA_DIR": str(self.directory / "data"),
            "SORTITION_ADMIN_TOKEN_FILE": str(token),
            "SORTITION_TICK_SECONDS": str(TICK_SECONDS),
            **self.more,
        }
        child = Child("server", (sys.executable, "-m", "flagserver.main", "run"), environment)
        self.process = Process(child, lambda _: None)
        wait_until(self._is_ready, "the server to be ready")

    def stop(self) -> None:
        """End it in order; what it knows stays."""
        if self.process is not None:
            self.process.stop(STOP_SECONDS)
            self.process = None

    def ask(self, method: str, path: str, body: Any = None, revision: int | None = None) -> Any:
        """Ask the API; any status but a good one is an error."""
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        if revision is not None:
            headers["If-Match"] = f'"{revision}"'
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def rollout(self, id: str) -> Any:
        """Return a rollout as it stands."""
        return self.ask("GET", f"/api/v1/rollouts/{id}")

    def rollouts(self) -> list[Any]:
        """Return all of them."""
        return list(self.ask("GET", "/api/v1/rollouts")["rollouts"])

    def share(self, flag: str) -> float:
        """Return a flag's share in production."""
        return float(self.ask("GET", f"/api/v1/flags/{flag}/environments/production")["share"])

    def token(self, scope: str, environment: str) -> str:
        """Return a new token."""
        body = {"scope": scope, "environment": environment}
        return str(self.ask("POST", "/api/v1/tokens", body)["token"])

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert not self.process.ended(), "\n".join(self.process.lines)
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
