"""Which attributes say where code runs, and so may come with a remote evaluation.

A closed list, of OpenTelemetry's resource conventions: a prefix such as `service.` or `process.`
would let `service.customer` and `process.owner` in. What people own, or where they are, is not
here (`host.ip`, `host.mac`, `process.owner`, `process.command_line`, all of `device.`, `browser.`).
"""

from __future__ import annotations

_NAMES = {
    "service": "name namespace version instance.id",
    "deployment": "environment.name environment id name",
    "cloud": "provider platform region availability_zone account.id resource_id",
    "host": "id name type arch image.id image.name image.version",
    "os": "type name version build_id description",
    "process": "executable.name runtime.name runtime.version runtime.description",
    "container": "id name image.id image.name runtime runtime.name runtime.version",
    "k8s": "cluster.name cluster.uid namespace.name node.name node.uid pod.name pod.uid "
    "container.name deployment.name deployment.uid replicaset.name replicaset.uid "
    "statefulset.name statefulset.uid daemonset.name daemonset.uid job.name job.uid "
    "cronjob.name cronjob.uid",
    "faas": "name version instance",
    "webengine": "name version description",
    "telemetry": "sdk.name sdk.language sdk.version distro.name distro.version",
    "aws": "ecs.cluster.arn ecs.container.arn ecs.launchtype ecs.task.arn ecs.task.family "
    "ecs.task.id ecs.task.revision eks.cluster.arn",
    "gcp": "cloud_run.job.execution cloud_run.job.task_index gce.instance.name",
}

ATTRIBUTES = frozenset(
    f"{space}.{name}" for space, names in _NAMES.items() for name in names.split()
)
"""The attributes."""
