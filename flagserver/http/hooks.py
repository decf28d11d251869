"""`/api/v1/hooks`: deployment engines ask before they go on."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import JsonValue
from typing_extensions import TypedDict

from flagserver.domain.access import CHANGE
from flagserver.domain.hook_commands import CodeDeployHook

from .routing import Call, Routes

routes = Routes()


class HookJson(TypedDict):
    """says: `allow` and `deny` are for whoever asked to report; with `wait` the server reports when
    it knows.  hook: which one of the deployment's waits.  rollout: the one that follows it.
    verdicts: the numbers behind it, of what can be known when this hook asks."""

    says: Literal["allow", "deny", "wait"]
    reason: str
    hook: str
    deployment: str
    rollout: str | None
    verdicts: list[dict[str, JsonValue]]


@routes.add(
    *("POST", "/api/v1/hooks/codedeploy", CHANGE, {200: ("What it is told.", HookJson)}),
    model=CodeDeployHook,
)
def ask_codedeploy(call: Call) -> Any:
    """Ask whether a CodeDeploy deployment may go on; the same question again is safe."""
    kept = call.services.hooks.ask(call.body, call.principal)
    return {
        "says": str(kept.answer.says),
        "reason": kept.answer.reason,
        "hook": kept.hook.hook,
        "deployment": kept.hook.deployment,
        "rollout": kept.hook.rollout,
        "verdicts": [verdict.to_body() for verdict in kept.answer.verdicts],
    }
