"""What CodeDeploy touches of the rest of the double: time, weights, alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import elbv2
from .clock import Clock
from .cloudwatch import CloudWatch, Emit
from .evaluator import ALARM

CODEDEPLOY_EVENT = "CodeDeploy Deployment State-change Notification"


class World:
    """`codedeploy.state.World` of one account."""

    def __init__(self, clock: Clock, cloudwatch: CloudWatch, emit: Emit, account: str) -> None:
        self._clock = clock
        self._cloudwatch = cloudwatch
        self._emit = emit
        self._account = account

    def now(self) -> float:
        """Return unix seconds."""
        return self._clock.now()

    def shift(self, region: str, listener: str, weights: Mapping[str, int]) -> None:  # noqa: ARG002 (an ARN names its region)
        """Move the real weights."""
        elbv2.shift(listener, weights, self._account)

    def serving(self, region: str, listener: str, names: Sequence[str]) -> str:  # noqa: ARG002
        """Return which of these groups has the traffic."""
        return elbv2.serving(listener, names, self._account)

    def firing(self, region: str, names: Sequence[str]) -> list[str]:
        """Return those of these alarms that are in ALARM."""
        watched = self._cloudwatch.of(self._account, region)
        with watched.lock:
            alarms = watched.alarms
            return [n for n in names if n in alarms and alarms[n]["StateValue"] == ALARM]

    def tell(self, region: str, application: str, group: str, deployment: str, state: str) -> None:
        """Let EventBridge know that a deployment has come into a state."""
        where = f"arn:aws:codedeploy:{region}:{self._account}"
        detail = {
            "region": region,
            "application": application,
            "deploymentGroup": group,
            "deploymentId": deployment,
            "instanceGroupId": "",
            "state": state,
        }
        resources = [
            f"{where}:application:{application}",
            f"{where}:deploymentgroup:{application}/{group}",
        ]
        self._emit(self._account, region, "aws.codedeploy", CODEDEPLOY_EVENT, detail, resources)
