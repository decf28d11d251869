"""Everything that can be refused, each with its stable code on the wire.

Refusal
├── Invalid                 invalid_field           422   names the field
├── ReasonRequired          reason_required         422
├── ConfirmationRequired    confirmation_required   422
├── Unauthenticated         unauthenticated         401
├── Forbidden               forbidden               403
├── NotFound                not_found               404
├── AlreadyExists           already_exists          409
├── Conflict                conflict                409
│   ├── ClaimTaken              (a seed that another flag has: draw again)
│   ├── Moved                   (the environment changed meanwhile: decide again)
│   ├── Locked                  locked                  409   a rollout moves it now
│   ├── TargetOwned             target_owned            409   somebody else sets its weight
│   ├── RecordInDoubt           record_in_doubt         409   it lost entries: nothing is enlarged
│   └── ApprovalLapsed          approval_lapsed         409   it is not what was approved of
├── ApprovalRequired        approval_required       409   waits for a second person; carries its id
├── StaleRevision           stale_revision          412   carries the current revision
├── RevisionRequired        revision_required       428
├── TooMany                 too_many                429   carries when to try again
├── IdempotencyMismatch     idempotency_mismatch    422
├── StoreUnavailable        store_unavailable       503   nothing was changed, or it is unknown
└── TargetUnavailable       target_unavailable      503   nothing was set, or it is unknown
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class Refusal(Exception):
    """A request that is not carried out. `detail` is for people: what happened, what to do.

    field: JSON pointer into the request's body, when one field is at fault.
    """

    code: ClassVar[str]
    status: ClassVar[int]
    title: ClassVar[str]

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field


class Invalid(Refusal):
    """A field's value cannot be used."""

    code, status, title = "invalid_field", 422, "A field is not valid"


@contextmanager
def under(pointer: str) -> Iterator[None]:
    """Put a pointer before the field of any refusal from within: `/steps/0/share` of a schedule is
    `/schedule/steps/0/share` of the request that brought it. An Invalid without one names all."""
    try:
        yield
    except Refusal as error:
        if error.field is not None or isinstance(error, Invalid):
            error.field = pointer + (error.field or "")
        raise


class ReasonRequired(Refusal):
    """Enlarging exposure in a critical environment needs a reason."""

    code, status, title = "reason_required", 422, "A reason is required"


class ConfirmationRequired(Refusal):
    """Enlarging exposure in a critical environment needs its name repeated."""

    code, status, title = "confirmation_required", 422, "Confirmation is required"


class Unauthenticated(Refusal):
    """No valid token or session."""

    code, status, title = "unauthenticated", 401, "Not signed in"


class Forbidden(Refusal):
    """Signed in, but not allowed to do this."""

    code, status, title = "forbidden", 403, "Not permitted"


class NotFound(Refusal):
    """There is no such thing."""

    code, status, title = "not_found", 404, "Not found"


class AlreadyExists(Refusal):
    """A thing of this key exists."""

    code, status, title = "already_exists", 409, "Already exists"


class Conflict(Refusal):
    """The state of things does not allow it."""

    code, status, title = "conflict", 409, "Conflict"


class ClaimTaken(Conflict):
    """What must be unique belongs to somebody else."""


class Moved(Conflict):
    """The environment is no longer at the version that the decision was made on."""


class Locked(Conflict):
    """A flag is in a running rollout, which alone may enlarge it."""

    code, title = "locked", "It is in a running rollout"


class TargetOwned(Conflict):
    """Somebody else owns a target's weight, or changed it since we looked: we never fight."""

    code, title = "target_owned", "Somebody else sets its weight"


class RecordInDoubt(Conflict):
    """The record is not what was signed: nothing is enlarged until that is acknowledged."""

    code, title = "record_in_doubt", "The record lost entries"


class ApprovalLapsed(Conflict):
    """What was approved of is not what would be done: it has changed meanwhile."""

    code, title = "approval_lapsed", "It is not what was approved of"


class ApprovalRequired(Refusal):
    """Not done yet: a second person has to approve. approval: the id of what waits for them."""

    code, status, title = "approval_required", 409, "A second person has to approve"

    def __init__(self, detail: str, *, approval: str) -> None:
        super().__init__(detail)
        self.approval = approval


class StaleRevision(Refusal):
    """Somebody changed the thing since the caller looked."""

    code, status, title = "stale_revision", 412, "It has changed meanwhile"

    def __init__(self, detail: str, *, revision: int) -> None:
        super().__init__(detail)
        self.revision = revision


class RevisionRequired(Refusal):
    """A write to an existing thing says which revision it means (If-Match)."""

    code, status, title = "revision_required", 428, "A revision is required"


class TooMany(Refusal):
    """Tried too often. retry_after: seconds until it may be tried again."""

    code, status, title = "too_many", 429, "Too many tries"

    def __init__(self, detail: str, *, retry_after: float) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class IdempotencyMismatch(Refusal):
    """The idempotency key was used for another request."""

    code, status, title = "idempotency_mismatch", 422, "Idempotency key was used before"


class StoreUnavailable(Refusal):
    """The store does not answer. Flags keep their values; changes are off until it is back."""

    code, status, title = "store_unavailable", 503, "The store is not answering"


class TargetUnavailable(Refusal):
    """A target's own API does not answer, refuses or throttles. Whether a write took effect is
    unknown: read before trying again.

    retry_after: seconds, when the other side said so.
    """

    code, status, title = "target_unavailable", 503, "The target is not answering"

    def __init__(
        self, detail: str, *, field: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(detail, field=field)
        self.retry_after = retry_after
