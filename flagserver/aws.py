"""How this server speaks to AWS: one policy for every call, whoever makes it.

    writes: one try, 5 s at most. Whether one that timed out took effect, only a read can tell. The
            caller is asked once more, when all is ready to be sent, whether it still may be.
    reads:  up to three tries, 5 s at most for all of them; at most so many a second for each
            service and region, and fewer after AWS throttled us, until that has been well for a
            while. A read whose turn would come too late is not made. (botocore's own adaptive mode
            waits for its turn without an end, and a lease does not.)

Region, credentials and endpoint (AWS_ENDPOINT_URL) are found as boto3 finds them everywhere.

AwsError
├── AwsNotSet       no region or no credentials: nothing was asked
├── AwsNotSent      the caller's time was over before it was sent: nothing was asked
├── AwsRefused      AWS answered no: nothing happened. `code` is AWS's own
│   └── AwsThrottled    too many requests, of us or of others in the account: later perhaps
└── AwsUnknown      no answer in time, or a failure on their side: it may have happened
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)

CONNECT_SECONDS = 1.0
WRITE_ANSWER_SECONDS = 4.0
READ_ANSWER_SECONDS = 2.5
READ_TRY_SECONDS = CONNECT_SECONDS + READ_ANSWER_SECONDS
READ_SECONDS = 5.0
"""How long a read takes at most with all its tries: none begins that could end after it. What comes
back at once, throttled or with an error, leaves time for another."""

READ_TRIES = 3

READS_PER_SECOND = 8.0
READS_AT_ONCE = 20.0
"""What one process allows itself of each service and region. AWS counts by account and region (for
ELB reads e.g. a bucket of 40), and others want some too."""

MOST_CLIENTS = 64
"""Whoever starts a rollout names regions; clients are large. Of more, the one made first goes."""

READS = ("describe", "get", "list", "batch_get")
"""How the names of operations that change nothing begin."""

THROTTLES = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "SlowDown",
    }
)

PAGES = 50
"""Most pages of one listing. A listing that does not end is a mistake, ours or theirs."""


class AwsError(Exception):
    """A call that did not do what it was to do. `str()` is a sentence for people."""


class AwsNotSet(AwsError):
    """There is no region, or there are no credentials."""


class AwsNotSent(AwsError):
    """Whoever wanted it did not want it any more when it was to be sent."""


class AwsRefused(AwsError):
    """AWS answered, and refused. code: AWS's own, `RuleNotFound`."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code

    @property
    def forbidden(self) -> bool:
        """Tell whether a permission is missing."""
        return self.code.startswith(("AccessDenied", "UnauthorizedOperation", "NotAuthorized"))


class AwsThrottled(AwsRefused):
    """Too many requests."""


class AwsUnknown(AwsError):
    """No answer in time, or a failure on their side."""


@dataclass(frozen=True, slots=True)
class Arn:
    """An Amazon Resource Name. kind: the first word of the resource, `listener-rule`; path: what
    follows it, `app/shop/50dc…/f2f7…`."""

    partition: str
    service: str
    region: str
    account: str
    kind: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Arn:
        """Return the parts of `arn:aws:service:region:account:kind/path`. Raises ValueError."""
        head, *parts = text.split(":", 5)
        kind, _, path = parts[4].partition("/") if len(parts) == 5 else ("", "", "")
        if head != "arn" or not all(parts) or not path:
            raise ValueError(
                f"{text!r} is no ARN of the form arn:aws:service:region:account:kind/…"
            )
        partition, service, region, account, _ = parts
        return cls(partition, service, region, account, kind, path)

    def of(self, kind: str, path: str) -> str:
        """Return the ARN of something else of the same account and region."""
        where = f"{self.partition}:{self.service}:{self.region}:{self.account}"
        return f"arn:{where}:{kind}/{path}"


Watch = Callable[[str, str], AbstractContextManager[Any]]
"""Is told (service, operation) around each call: a span of a trace."""


def unwatched(service: str, operation: str) -> AbstractContextManager[Any]:
    """Tell nobody."""
    return nullcontext()


Permit = Callable[[], bool]
"""Is asked when a write lies ready, signed, whether it may still be sent."""


def always() -> bool:
    """Permit it."""
    return True


class Aws:
    """Clients of AWS's services, made when first needed and kept. Safe to use from any thread."""

    def __init__(
        self,
        *,
        session: boto3.session.Session | None = None,
        watch: Watch = unwatched,
        reads_per_second: float = READS_PER_SECOND,
        reads_at_once: float = READS_AT_ONCE,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._session = session
        self._watch = watch
        self._reads_per_second = reads_per_second
        self._reads_at_once = reads_at_once
        self._monotonic = monotonic
        self._sleep = sleep
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, str | None, bool], Any] = {}
        self._allowances: dict[tuple[str, str | None], Allowance] = {}
        self._caller = threading.local()
        self._account: str | None = None

    @property
    def region(self) -> str | None:
        """The region of the environment or the profile, or None. Raises AwsNotSet."""
        with _sentences("region", "of the profile"), self._lock:
            region: str | None = self._opened().region_name
            return region

    def account(self) -> str:
        """Return the id of the account that our credentials are of; asked once. Raises AwsError."""
        if self._account is None:
            answer = self.read("sts", "get_caller_identity")
            self._account = str(answer["Account"])
        return self._account

    def read(
        self, service: str, operation: str, region: str | None = None, /, **parameters: Any
    ) -> dict[str, Any]:
        """Return the answer to a call that changes nothing. Raises AwsError.

        operation: as boto3 names it, `describe_rules`.  region: None for that of the environment.
        """
        if not operation.startswith(READS):
            raise ValueError(f"{operation} is not known to change nothing; call `write`.")
        deadline = self._monotonic() + READ_SECONDS
        allowance = self._wait_for_turn(service, region, deadline)
        self._caller.deadline = deadline
        try:
            answer = self._call(service, operation, region, parameters, writes=False)
        except AwsThrottled:
            allowance.less()
            raise
        if answer.get("ResponseMetadata", {}).get("RetryAttempts"):
            allowance.less()
        else:
            allowance.more()
        return answer

    def pages(
        self,
        service: str,
        operation: str,
        region: str | None = None,
        /,
        *,
        items: str,
        token: tuple[str, str] = ("nextToken", "nextToken"),
        **parameters: Any,
    ) -> list[Any]:
        """Return the items of all pages of a listing, at most PAGES. Raises AwsError.

        items: the member of the answer that holds them.  token: the members of question and answer
        that lead from page to page.
        """
        asked, answered = token
        found: list[Any] = []
        for _ in range(PAGES):
            answer = self.read(service, operation, region, **parameters)
            found += answer.get(items) or []
            if not answer.get(answered):
                return found
            parameters[asked] = answer[answered]
        raise AwsUnknown(f"{service} {operation} goes on after {PAGES} pages.")

    def write(
        self,
        service: str,
        operation: str,
        region: str | None = None,
        may: Permit = always,
        /,
        **parameters: Any,
    ) -> dict[str, Any]:
        """Return the answer to a call that changes something, tried once. Raises AwsError; after
        AwsUnknown it may have taken effect, at once or in a moment.

        may: asked at the last moment, for making a client and renewing credentials take a while at
        times. After it lies only connecting, CONNECT_SECONDS at most and a name's look-up. False:
        AwsNotSent.
        """
        self._caller.may = may
        return self._call(service, operation, region, parameters, writes=True)

    def _call(
        self, service: str, operation: str, region: str | None, parameters: Any, *, writes: bool
    ) -> dict[str, Any]:
        with self._watch(service, operation), _sentences(service, operation):
            client = self._client(service, region, writes=writes)
            answer: dict[str, Any] = getattr(client, operation)(**parameters)
            return answer

    def _client(self, service: str, region: str | None, *, writes: bool) -> Any:
        key = (service, region, writes)
        # One at a time: what makes clients is not safe between threads, clients are.
        with self._lock:
            if key not in self._clients:
                client = self._opened().client(service, region_name=region, config=_config(writes))
                if writes:
                    client.meta.events.register_last("before-send", self._still_wanted)
                else:
                    client.meta.events.register_first("before-send", self._still_time)
                _make_room(self._clients)
                self._clients[key] = client
            return self._clients[key]

    def _opened(self) -> Any:
        if self._session is None:
            self._session = boto3.session.Session()
        return self._session

    # botocore (`Endpoint._do_get_response`) says `before-send` at each try, when the request is
    # signed and before it looks for a connection; what a handler raises ends the call.

    def _still_time(self, event_name: str, **_: Any) -> None:
        if self._monotonic() + READ_TRY_SECONDS > self._caller.deadline:
            raise AwsUnknown(f"{_what(event_name)}: no good answer within {READ_SECONDS:g} s")

    def _still_wanted(self, event_name: str, **_: Any) -> None:
        if not self._caller.may():
            raise AwsNotSent(
                f"{_what(event_name)}: there was no time left to send it; nothing was written."
            )

    def _wait_for_turn(self, service: str, region: str | None, deadline: float) -> Allowance:
        with self._lock:
            if (service, region) not in self._allowances:
                _make_room(self._allowances)
            allowance = self._allowances.setdefault(
                (service, region),
                Allowance(self._reads_per_second, self._reads_at_once, self._monotonic()),
            )
            wait = allowance.take(self._monotonic())
        if self._monotonic() + wait + READ_TRY_SECONDS > deadline:
            with self._lock:
                allowance.give_back()
            raise AwsThrottled(
                f"{service}: this process allows itself {allowance.rate:.3g} reads a second, and "
                "more are asked for; this one is left out.",
                "OwnLimit",
            )
        if wait > 0:
            self._sleep(wait)
        return allowance


@dataclass(slots=True)
class Allowance:
    """So many a second, so many at once; time is an argument.

    rate: it is halved when the other side complains, down to SLOWEST, and comes back by a twentieth
    of itself with each call that goes well.
    """

    rate: float
    most: float
    at: float
    left: float = field(init=False)
    fastest: float = field(init=False)

    SLOWEST: ClassVar[float] = 0.5

    def __post_init__(self) -> None:
        self.left = self.most
        self.fastest = self.rate

    def take(self, now: float) -> float:
        """Take one, and return how many seconds to wait before it may be used."""
        self.left = min(self.most, self.left + (now - self.at) * self.rate) - 1
        self.at = now
        return max(0.0, -self.left / self.rate)

    def give_back(self) -> None:
        """Put back what was taken and will not be used."""
        self.left += 1

    def less(self) -> None:
        """Slow down, and spend nothing that was saved."""
        self.rate = max(self.rate / 2, self.SLOWEST)
        self.left = min(self.left, 1.0)

    def more(self) -> None:
        """Come back to what it was."""
        self.rate = min(self.rate * 1.05, self.fastest)


def _config(writes: bool) -> Config:
    return Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=WRITE_ANSWER_SECONDS if writes else READ_ANSWER_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 1 if writes else READ_TRIES},
        max_pool_connections=10,
        user_agent_appid="sortition",
    )


def _make_room(kept: dict[Any, Any]) -> None:
    while len(kept) >= MOST_CLIENTS:
        kept.pop(next(iter(kept)))


def _what(event_name: str) -> str:
    return event_name.removeprefix("before-send.").replace(".", " ")


@contextmanager
def _sentences(service: str, operation: str) -> Iterator[None]:
    """Turn what botocore raises into our few kinds."""
    what = f"{service} {operation}"
    try:
        yield
    except ClientError as error:
        raise _refusal(what, error) from None
    except (NoRegionError, NoCredentialsError, PartialCredentialsError, ProfileNotFound) as error:
        raise AwsNotSet(f"{what} was not asked: {error}") from None
    except BotoCoreError as error:
        raise AwsUnknown(f"{what}: {error}") from None


def _refusal(what: str, error: ClientError) -> AwsError:
    told = error.response.get("Error", {})
    code, message = str(told.get("Code", "")), str(told.get("Message", "")).strip()
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    text = f"{what}: {code}: {message}" if message else f"{what}: {code}"
    if code in THROTTLES or status == 429:
        return AwsThrottled(text, code)
    return AwsUnknown(text) if status >= 500 else AwsRefused(text, code)
