"""An alarm of CloudWatch, set on purpose and put back: with the credentials of whoever runs the
command, found as boto3 finds them. The server only ever reads alarms.

It needs the extra `aws`, and what deploy/iam/drill.json allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import exits
from .api import Failure

CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 5.0, 10.0, 3


class Alarm:
    """One that exists."""

    def __init__(self, name: str) -> None:
        """Find it. Raises Failure where it is not there, or AWS cannot be asked."""
        self.name = name
        self._client = _client()
        self._find()

    def fire(self, reason: str) -> None:
        """Let it be in ALARM, until CloudWatch looks at its metric again; one that fires by itself
        keeps its reason. Raises Failure."""
        if self._find()["StateValue"] != "ALARM":
            self._set("ALARM", reason)

    def put_back(self, reason: str, of: str) -> None:
        """Let it be OK again, if it is still in ALARM for the reason that we gave (of): a composite
        alarm stays so until one of its children changes, and a metric alarm that ignores missing
        data until there is some. What CloudWatch itself has found since stays. Raises Failure."""
        found = self._find()
        if (found["StateValue"], found.get("StateReason")) == ("ALARM", of):
            self._set("OK", reason)

    def _find(self) -> Mapping[str, Any]:
        told = _asked(
            *(self._client, "cloudwatch", "describe_alarms"),
            AlarmNames=[self.name],
            AlarmTypes=["MetricAlarm", "CompositeAlarm"],
        )
        alarms: list[Mapping[str, Any]] = [*told["MetricAlarms"], *told["CompositeAlarms"]]
        if not alarms:
            region = self._client.meta.region_name
            message = f"--alarm: there is no alarm {self.name} in {region}."
            raise Failure(message, exits.USAGE, code="not_found")
        return alarms[0]

    def _set(self, state: str, reason: str) -> None:
        _asked(
            *(self._client, "cloudwatch", "set_alarm_state"),
            AlarmName=self.name,
            StateValue=state,
            StateReason=reason,
        )


def _client() -> Any:
    try:
        import boto3  # noqa: PLC0415 (an extra)
        from botocore.config import Config  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    except ImportError:
        message = (
            "--alarm needs boto3 to fire it: install sortition[aws], or take --print and fire it by"
            " hand."
        )
        raise Failure(message, exits.USAGE, code="missing_extra") from None
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    )
    try:
        return boto3.client("cloudwatch", config=config)
    except BotoCoreError as error:
        raise _failed(error, exits.USAGE) from None


def _asked(client: Any, service: str, operation: str, **told: Any) -> Mapping[str, Any]:
    """Call an operation. Raises Failure. service: for whoever reads which calls there are."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 (an extra)

    try:
        answer: Mapping[str, Any] = getattr(client, operation)(**told)
    except ClientError as error:
        status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
        refused = error.response["Error"]["Code"] in {"AccessDenied", "AccessDeniedException"}
        code = exits.UNREACHABLE if status >= 500 else exits.ERROR
        raise _failed(error, exits.NOT_PERMITTED if refused else code) from None
    except BotoCoreError as error:
        raise _failed(error, exits.UNREACHABLE) from None
    return answer


def _failed(error: Exception, code: int) -> Failure:
    return Failure(f"--alarm: {error} (with --print it is fired by hand)", code, code="aws_failed")
