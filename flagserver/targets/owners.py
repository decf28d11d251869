"""Who else sets the weights of a listener: a deployment of CodeDeploy or of ECS that is under way.

CodeDeploy is asked for what is running in the region, which is seldom much, and once for all who
want to know within a few seconds, except before a write. ECS cannot be asked by listener rule, so
its services are looked through, and which of them name a rule is remembered for a minute; whether
such a service is deploying is asked anew each time.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flagserver.aws import Aws, AwsError, AwsUnknown

CODEDEPLOY_RUNNING = ["Created", "Queued", "InProgress", "Baking", "Ready"]
ECS_RUNNING = [
    "PENDING",
    "IN_PROGRESS",
    "STOP_REQUESTED",
    "ROLLBACK_REQUESTED",
    "ROLLBACK_IN_PROGRESS",
]
KEEP_SECONDS = 60.0
"""How long it is remembered which ECS services name which rules."""

RECENT_SECONDS = 4.0
"""How long it is remembered what runs at CodeDeploy, for those who only look: less than a tick."""

DEPLOYMENTS_AT_ONCE = 25
SERVICES_AT_ONCE = 10

Services = Mapping[str, tuple[tuple[str, str], ...]]
"""Production listener rule -> (cluster, service)s that name it."""

Running = Mapping[str, str]
"""Listener -> the CodeDeploy deployment that shifts its traffic, in words."""


@dataclass(frozen=True, slots=True)
class Known:
    """What was found in a region."""

    running: Running
    services: Services


class Owners:
    """Answers who owns a rule. Safe to use from any thread."""

    def __init__(self, aws: Aws, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._aws = aws
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._asking: dict[str, threading.Lock] = {}
        self._recent: dict[str, tuple[float, Known | AwsError]] = {}
        self._services: dict[str, tuple[float, Services]] = {}

    def of(
        self,
        region: str,
        listener: str,
        rule: str | None,
        *,
        recent: bool = False,
        seconds: float = math.inf,
    ) -> str | None:
        """Return who owns a rule (None: the listener's default rule) in words, or None.

        recent: an answer of a few seconds ago will do.  seconds: how long looking through ECS may
        take.  Raises AwsError: then it is not known.
        """
        known = self._of_late(region) if recent else self._ask(region, seconds)
        return known.running.get(listener) or self._ecs(region, known.services, listener, rule)

    def _of_late(self, region: str) -> Known:
        """Return what was known a few seconds ago. One thread at a time asks; the others have its
        answer, or its failure."""
        with self._lock:
            asking = self._asking.setdefault(region, threading.Lock())
        with asking:
            at, found = self._recent.get(region, (-math.inf, None))
            if found is None or self._monotonic() - at >= RECENT_SECONDS:
                try:
                    found = self._ask(region, math.inf)
                except AwsError as error:
                    found = error
                self._recent[region] = (self._monotonic(), found)
        if isinstance(found, AwsError):
            raise found
        return found

    def _ask(self, region: str, seconds: float) -> Known:
        return Known(self._list_running(region), self._naming(region, seconds))

    def _list_running(self, region: str) -> Running:
        running = self._aws.pages(
            "codedeploy",
            "list_deployments",
            region,
            items="deployments",
            includeOnlyStatuses=CODEDEPLOY_RUNNING,
        )
        found: dict[str, str] = {}
        for some in in_parts(running, DEPLOYMENTS_AT_ONCE):
            told = self._aws.read("codedeploy", "batch_get_deployments", region, deploymentIds=some)
            for deployment in told["deploymentsInfo"]:
                # It may be over since it was listed.
                if deployment["status"] in CODEDEPLOY_RUNNING:
                    found |= dict.fromkeys(_listeners(deployment), _said(deployment))
        return found

    def _ecs(self, region: str, naming: Services, listener: str, rule: str | None) -> str | None:
        for named, services in naming.items():
            # Which rule is the default one, a listener does not tell: any of its rules counts then.
            if named != rule and (rule is not None or not _is_of(named, listener)):
                continue
            for cluster, service in services:
                found = self._aws.read(
                    "ecs",
                    "list_service_deployments",
                    region,
                    cluster=cluster,
                    service=service,
                    status=ECS_RUNNING,
                )["serviceDeployments"]
                if found:
                    return (
                        f"ECS deployment {found[0]['serviceDeploymentArn']} of {service} "
                        f"({found[0]['status']})"
                    )
        return None

    def _naming(self, region: str, seconds: float) -> Services:
        now = self._monotonic()
        at, known = self._services.get(region, (0.0, None))
        if known is not None and now - at < KEEP_SECONDS:
            return known
        found = self._look_through(region, now + seconds)
        self._services[region] = (now, found)
        return found

    def _look_through(self, region: str, until: float) -> Services:
        found: dict[str, list[tuple[str, str]]] = {}
        for cluster in self._aws.pages("ecs", "list_clusters", region, items="clusterArns"):
            arns = self._aws.pages(
                "ecs", "list_services", region, items="serviceArns", cluster=cluster, maxResults=100
            )
            for some in in_parts(arns, SERVICES_AT_ONCE):
                if self._monotonic() >= until:
                    raise AwsUnknown("ecs: there was no time to look through all services.")
                told = self._aws.read(
                    "ecs", "describe_services", region, cluster=cluster, services=some
                )
                for service in told["services"]:
                    for rule in _rules(service):
                        found.setdefault(rule, []).append((cluster, service["serviceArn"]))
        return {rule: tuple(services) for rule, services in found.items()}


def in_parts(items: Sequence[Any], at_most: int) -> Iterable[Sequence[Any]]:
    """Yield the items, so many at a time."""
    for start in range(0, len(items), at_most):
        yield items[start : start + at_most]


def _listeners(deployment: Mapping[str, Any]) -> list[str]:
    pairs = deployment.get("loadBalancerInfo", {}).get("targetGroupPairInfoList") or []
    return [
        listener
        for pair in pairs
        for listener in (pair.get("prodTrafficRoute") or {}).get("listenerArns") or []
    ]


def _said(deployment: Mapping[str, Any]) -> str:
    group = f"{deployment['applicationName']}/{deployment['deploymentGroupName']}"
    return f"CodeDeploy deployment {deployment['deploymentId']} of {group} ({deployment['status']})"


def _rules(service: Mapping[str, Any]) -> list[str]:
    balancers = service.get("loadBalancers") or []
    configs = [balancer.get("advancedConfiguration") or {} for balancer in balancers]
    return [
        config["productionListenerRule"]
        for config in configs
        if config.get("productionListenerRule")
    ]


def _is_of(rule: str, listener: str) -> bool:
    return rule.startswith(listener.replace(":listener/", ":listener-rule/", 1) + "/")
