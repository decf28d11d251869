"""The function behind every lifecycle hook of CodeDeploy: asks Sortition, and reports its answer.

CodeDeploy calls it with `{"DeploymentId": ..., "LifecycleEventHookExecutionId": ...}` and waits an
hour for PutLifecycleEventHookExecutionStatus; what the function returns or raises says nothing.
So it always reports, but when Sortition says `wait`: then Sortition has kept the question and
reports by itself. Without any answer in this function's time it reports Failed: what nobody watches
does not go on.

Needs Python 3.11 or later and what Lambda brings along. Environment:

    SORTITION_URL           https://flags.example
    SORTITION_TOKEN_SECRET  the secret of Secrets Manager that holds a deploy token of Sortition
"""

from __future__ import annotations

import json
import logging
import os
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

log = logging.getLogger(__name__)
log.setLevel(logging.INFO)

TRY_SECONDS = 15.0
"""How long one question may take: the server asks CodeDeploy and its signals meanwhile."""

FIRST_SECONDS, MOST_SECONDS = 0.5, 15.0
"""The pauses between questions are drawn from 0 to a bound that doubles, from and up to these."""

KEPT_SECONDS = 20.0
"""What is kept of the function's own time to report in."""

HOPELESS = frozenset({400, 401, 403, 404, 405, 415, 422})
"""Statuses that no further question changes. (409: the hook is not seen to wait yet.)"""

AWS = Config(
    connect_timeout=2.0, read_timeout=5.0, retries={"mode": "standard", "total_max_attempts": 3}
)

REPORTS = {"allow": "Succeeded", "deny": "Failed"}
"""The two statuses that CodeDeploy takes of a hook."""

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class NoAnswer(Exception):
    """Sortition did not answer, or with something else."""


class Hopeless(NoAnswer):
    """To ask again would change nothing."""


def handler(event: Mapping[str, str], context: Any) -> dict[str, str]:
    """Ask, and report. Returns what was reported, for the log.

    context: Lambda's, which tells how much time is left.
    """
    deployment, execution = event["DeploymentId"], event["LifecycleEventHookExecutionId"]
    says, reason = "deny", "The function failed."
    try:
        says, reason = _ask_until_answered(deployment, execution, context)
    except NoAnswer as error:
        reason = str(error)
    finally:
        # Whatever happened: an hour of silence is worse than a failed deployment.
        if says in REPORTS:
            _report(deployment, execution, REPORTS[says])
        log.info(json.dumps({"deployment": deployment, "says": says, "reason": reason}))
    return {"deployment": deployment, "says": says, "reason": reason}


def _ask_until_answered(deployment: str, execution: str, context: Any) -> tuple[str, str]:
    """Return (what Sortition says, why). Raises NoAnswer when there is no time left to ask."""
    bound = FIRST_SECONDS
    while True:
        try:
            return _ask(deployment, execution)
        except Hopeless:
            raise
        except NoAnswer as error:
            log.warning("%s", error)
            pause = random.uniform(0, bound)  # noqa: S311 (it only spreads the questions)
            left = context.get_remaining_time_in_millis() / 1000 - KEPT_SECONDS
            if left < pause + TRY_SECONDS:
                raise
            time.sleep(pause)
            bound = min(2 * bound, MOST_SECONDS)


def _ask(deployment: str, execution: str) -> tuple[str, str]:
    asked = json.dumps({"deployment": deployment, "execution": execution}).encode()
    request = urllib.request.Request(_address(), asked, method="POST")  # noqa: S310 (see _address)
    request.add_header("Content-Type", "application/json")
    request.add_header("Authorization", f"Bearer {_token()}")
    try:
        with _opener().open(request, timeout=TRY_SECONDS) as answer:
            return _read(answer.read(1 << 20))
    except urllib.error.HTTPError as error:
        if error.code == 401:
            # It may have been replaced since it was read.
            _token.cache_clear()
        told = f"Sortition answered {error.code}: {_detail(error.read(1 << 16))}"
        raise (Hopeless if error.code in HOPELESS else NoAnswer)(told) from None
    except (OSError, urllib.error.URLError) as error:
        raise NoAnswer(f"Sortition did not answer: {error}") from None


def _read(body: bytes) -> tuple[str, str]:
    try:
        told = json.loads(body)
        says, reason = told["says"], told["reason"]
    except (ValueError, KeyError, TypeError):
        raise NoAnswer("Sortition's answer cannot be read.") from None
    if says not in {*REPORTS, "wait"}:
        raise NoAnswer(f"Sortition says {says!r}, which is not known here.")
    return says, str(reason)


def _detail(body: bytes) -> str:
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return "without a reason"


@cache
def _address() -> str:
    """Return where to ask. Raises Hopeless for one that would show the token to the network."""
    base = os.environ["SORTITION_URL"].rstrip("/")
    parts = urllib.parse.urlsplit(base)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise Hopeless("SORTITION_URL must begin with https://.")
    return f"{base}/api/v1/hooks/codedeploy"


@cache
def _token() -> str:
    """Return the deploy token. Raises NoAnswer."""
    try:
        secrets = boto3.client("secretsmanager", config=AWS)
        told = secrets.get_secret_value(SecretId=os.environ["SORTITION_TOKEN_SECRET"])
    except (BotoCoreError, ClientError) as error:
        raise NoAnswer(f"The token cannot be read: {error}") from None
    return str(told["SecretString"]).strip()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer: following it would take the token along."""

    def redirect_request(self, *_: Any) -> None:
        return None


@cache
def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_NoRedirect)


def _report(deployment: str, execution: str, status: str) -> None:
    codedeploy = boto3.client("codedeploy", config=AWS)
    try:
        codedeploy.put_lifecycle_event_hook_execution_status(
            deploymentId=deployment, lifecycleEventHookExecutionId=execution, status=status
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "LifecycleEventAlreadyCompletedException":
            raise
        log.info("%s had its answer already.", deployment)
