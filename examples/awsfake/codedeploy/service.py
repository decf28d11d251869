"""CodeDeploy of all accounts and regions; its operations take the place of moto's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from moto.codedeploy.responses import CodeDeployResponse
from moto.core.responses import ActionResult

from .operations import OPERATIONS, Operation
from .state import Account, World


class CodeDeploy:
    """All of it. worlds: (account, region) -> what of the double it touches there."""

    def __init__(self, world: Callable[[str], World]) -> None:
        """world: account -> what of the double CodeDeploy touches."""
        self._world = world
        self._lock = threading.Lock()
        self._everything: dict[tuple[str, str], Account] = {}
        for operation in OPERATIONS:
            setattr(CodeDeployResponse, operation.__name__, self._answering(operation))

    def of(self, account: str, region: str) -> Account:
        """Return what an account has in a region."""
        with self._lock:
            found = self._everything.get((account, region))
            if found is None:
                found = Account(self._world(account), region)
                self._everything[account, region] = found
            return found

    def due(self) -> float | None:
        """Return when something happens next by itself, None: nothing will."""
        dues = [account.due() for account in list(self._everything.values())]
        return min((due for due in dues if due is not None), default=None)

    def look(self) -> None:
        """Let everything happen that has come due."""
        for account in list(self._everything.values()):
            account.look()

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            self._everything.clear()

    # --- told ---

    def say(
        self,
        account: str,
        region: str,
        deployment: str,
        status: str,
        task_sets: Sequence[Any] = (),
        events: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Let a deployment look like this from now on, and do nothing more by itself. events:
        statuses of its lifecycle, by name; Pending where none is told."""
        it = self.of(account, region).deployments[deployment]
        it.told, it.due = {"status": status, "task_sets": list(task_sets)}, None
        for event in it.events:
            event.status = events.get(event.name, "Pending")

    def take(
        self, account: str, region: str, application: str, group: str, times: Mapping[str, float]
    ) -> None:
        """Let the next deployments of a group take so long: install, back (seconds), bake
        (minutes)."""
        unknown = set(times) - {"install", "back", "bake"}
        if unknown:
            raise ValueError(f"{', '.join(sorted(unknown))} is not known; install, back, bake are.")
        self.of(account, region).timing[application, group] = dict(times)

    def hooks(self, account: str) -> list[dict[str, Any]]:
        """Return every hook that was called, in the order of the calls."""
        calls = [
            call
            for (of, _), each in list(self._everything.items())
            if of == account
            for call in each.invocations
        ]
        return [call.to_json() for call in sorted(calls, key=lambda call: call.at)]

    def _answering(self, operation: Operation) -> Callable[[Any], ActionResult]:
        def answer(response: Any) -> ActionResult:
            account = self.of(response.current_account, response.region)
            given = response._get_params()  # noqa: SLF001 (as moto's own do)
            with account.lock:
                told = {key: each for key, each in given.items() if each is not None}
                return ActionResult(operation(account, told))

        return answer
