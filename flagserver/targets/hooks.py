"""CodeDeploy's lifecycle hooks: which one of a deployment waits, and telling it how to go on.

A hook's function is called with the ids of deployment and question and nothing else, so which hook
it is has to be read: the lifecycle event that is in progress.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flagserver.aws import Aws, AwsError, AwsRefused
from flagserver.domain.errors import NotFound, TargetUnavailable
from flagserver.domain.hooks import LIFECYCLE, Asking

OVER = frozenset({"Succeeded", "Failed", "Stopped"})
ROLLBACK = "codeDeployRollback"
"""Who created a deployment by which CodeDeploy goes back by itself."""

OURS = "Sortition"
"""How the description of a deployment begins by which we go back; see `codedeploy`."""

NOT_STARTED = "DeploymentNotStartedException"
UNKNOWN = frozenset({"DeploymentDoesNotExistException", "InvalidDeploymentIdException"})
ANSWERED = frozenset({"LifecycleEventAlreadyCompletedException", "DeploymentDoesNotExistException"})
"""There is nobody any more who waits for an answer."""


class CodeDeployHooks:
    """`ports.Gates` for CodeDeploy."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def asking(self, deployment: str) -> Asking:
        """Return how a deployment stands. Raises NotFound, TargetUnavailable."""
        try:
            told = self._aws.read("codedeploy", "get_deployment", deploymentId=deployment)
            found = told["deploymentInfo"]
            over = found["status"] if found["status"] in OVER else None
            hook = None if over else self._waiting(deployment)
        except AwsRefused as error:
            if error.code in UNKNOWN:
                raise NotFound(f"There is no deployment {deployment!r}.") from None
            raise TargetUnavailable(str(error)) from None
        except AwsError as error:
            raise TargetUnavailable(str(error)) from None
        return Asking(
            deployment,
            found["applicationName"],
            found["deploymentGroupName"],
            hook,
            found["createTime"].timestamp(),
            tested=_is_tested(found),
            going_back=_going_back(found),
            over=over,
        )

    def answer(self, deployment: str, execution: str, *, passed: bool) -> bool:
        """Tell the deployment how to go on; see `ports.Gates`."""
        try:
            self._aws.write(
                "codedeploy",
                "put_lifecycle_event_hook_execution_status",
                deploymentId=deployment,
                lifecycleEventHookExecutionId=execution,
                status="Succeeded" if passed else "Failed",
            )
        except AwsRefused as error:
            if error.code in ANSWERED:
                return False
            raise TargetUnavailable(str(error)) from None
        except AwsError as error:
            raise TargetUnavailable(str(error)) from None
        return True

    def _waiting(self, deployment: str) -> str | None:
        """Return the hook that is in progress, the last of them if it says so of several."""
        try:
            targets = self._aws.read(
                "codedeploy", "list_deployment_targets", deploymentId=deployment
            )
        except AwsRefused as error:
            if error.code == NOT_STARTED:
                return None
            raise
        events: list[Mapping[str, Any]] = []
        for target in targets["targetIds"]:
            told = self._aws.read(
                "codedeploy", "get_deployment_target", deploymentId=deployment, targetId=target
            )
            events += told["deploymentTarget"].get("ecsTarget", {}).get("lifecycleEvents") or []
        running = {e["lifecycleEventName"] for e in events if e.get("status") == "InProgress"}
        return _last(running)


def _last(running: set[str]) -> str | None:
    return next((hook for hook in reversed(LIFECYCLE) if hook in running), None)


def _is_tested(deployment: Mapping[str, Any]) -> bool:
    pairs: Sequence[Mapping[str, Any]] = (deployment.get("loadBalancerInfo") or {}).get(
        "targetGroupPairInfoList"
    ) or []
    return any((pair.get("testTrafficRoute") or {}).get("listenerArns") for pair in pairs)


def _going_back(deployment: Mapping[str, Any]) -> str | None:
    id = deployment["deploymentId"]
    if deployment.get("creator") == ROLLBACK:
        return f"{id} is CodeDeploy's own rollback."
    if (deployment.get("description") or "").startswith(OURS):
        return f"{id} is a rollback of ours."
    return None
