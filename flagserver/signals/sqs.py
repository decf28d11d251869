"""A queue of SQS into which EventBridge puts its events."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flagserver.aws import Aws, AwsError
from flagserver.domain.errors import TargetUnavailable
from flagserver.ports import Letter

WAIT_SECONDS = 3
"""How long an empty queue lets us wait: less than a call may take."""

AT_ONCE = 10
"""Most messages of one call."""

_URL = re.compile(r"https?://sqs\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?/[0-9]{12}/[A-Za-z0-9_.-]+")


class SqsMailbox:
    """`ports.Mailbox` for SQS."""

    def __init__(self, aws: Aws, url: str) -> None:
        """url: of the queue. Its region is told by it, or is that of the environment."""
        self._aws = aws
        self._url = url
        found = _URL.fullmatch(url)
        self._region = None if found is None else found[1]

    def receive(self) -> Sequence[Letter]:
        """Return what is there; see `ports.Mailbox`."""
        try:
            # It changes something: who receives a message hides it from others for a while.
            told = self._aws.write(
                "sqs",
                "receive_message",
                self._region,
                QueueUrl=self._url,
                MaxNumberOfMessages=AT_ONCE,
                WaitTimeSeconds=WAIT_SECONDS,
            )
        except AwsError as error:
            raise TargetUnavailable(str(error)) from None
        return [Letter(each["ReceiptHandle"], each["Body"]) for each in told.get("Messages") or []]

    def take_out(self, letters: Sequence[Letter]) -> None:
        """Delete them; see `ports.Mailbox`."""
        entries = [
            {"Id": str(number), "ReceiptHandle": letter.handle}
            for number, letter in enumerate(letters)
        ]
        try:
            self._aws.write(
                "sqs",
                "delete_message_batch",
                self._region,
                QueueUrl=self._url,
                Entries=entries,
            )
        except AwsError as error:
            raise TargetUnavailable(str(error)) from None
