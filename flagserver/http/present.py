"""How things look on the wire. Shares and weights in percent, instants in RFC 3339.

The `TypedDict`s are the shapes that the OpenAPI document shows; the functions below return them,
so mypy sees to it that neither says anything else than the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from pydantic import JsonValue
from sortition.core.evaluate import Explanation

# pydantic asks for this TypedDict below Python 3.12, and brings it.
from typing_extensions import TypedDict

from flagserver.domain import events
from flagserver.domain.commands import ppm_to_percent
from flagserver.domain.documents import Principal
from flagserver.domain.flags import Flag, State
from flagserver.domain.outcomes import Totals
from flagserver.domain.tokens import Token
from flagserver.services.catalogue import FlagView, StateView
from flagserver.services.environments import EnvironmentView
from flagserver.services.flags import Plan
from flagserver.services.health import Health
from flagserver.services.outcomes import Exposure

# Shapes


class WeightJson(TypedDict):
    """How much of the exposed share gets a variant, in percent."""

    variant: str
    weight: float


class ConditionJson(TypedDict):
    """A question about the resource (where the code runs)."""

    attribute: str
    operator: str
    values: list[str]


class PrerequisiteJson(TypedDict):
    """Another flag that must serve this variant to the same request."""

    flag: str
    variant: str


class StateFields(TypedDict):
    """What is set for a flag in one environment. share: percent."""

    flag: str
    environment: str
    share: float
    weights: list[WeightJson]
    conditions: list[ConditionJson]
    prerequisites: list[PrerequisiteJson]
    killed: bool
    changed: str | None


class StateJson(StateFields):
    """A flag in one environment. revision: 0 until somebody touches it."""

    revision: int


class PlanJson(TypedDict):
    """What a change would do."""

    before: StateJson
    after: StateFields
    enlarges: bool


class FlagJson(TypedDict):
    """A flag with its state in every environment that the caller may see."""

    key: str
    description: str
    owner: str
    kind: str
    variants: dict[str, JsonValue]
    rest: str
    salt: str
    archived: bool
    created: str
    changed: str
    revision: int
    environments: dict[str, StateJson]


class FlagsJson(TypedDict):
    """Flags, by key."""

    flags: list[FlagJson]


class HistoryJson(TypedDict):
    """Entries of the record, newest first; `words`: their action, for people."""

    entries: list[dict[str, JsonValue]]


class EnvironmentJson(TypedDict):
    """An environment. default_schedule: of its rollouts that name none. retention_days: how long
    the record keeps what it says of it. uniform: no condition looks at region or instance.
    four_eyes: enlarging waits there for a second person."""

    key: str
    description: str
    critical: bool
    default_schedule: str
    retention_days: int
    uniform: bool
    four_eyes: bool
    created: str
    changed: str
    revision: int


class EnvironmentsJson(TypedDict):
    """Environments: uncritical ones first."""

    environments: list[EnvironmentJson]


class TokenJson(TypedDict):
    """A token without its secret. owner: the person who was shown its text, where one is known."""

    id: str
    scope: str
    environment: str | None
    description: str
    created: str
    expires: str | None
    revoked: str | None
    followed_by: str | None
    owner: str | None


class NewTokenJson(TokenJson):
    """A token as it is shown once. token: null when a retry asks for it again."""

    token: str | None


class UsedTokenJson(TokenJson):
    """A token without its secret, in a list. last_used: the hour in which it was, null: never."""

    last_used: str | None


class TokensJson(TypedDict):
    """Tokens, newest first."""

    tokens: list[UsedTokenJson]


class MetricJson(TypedDict):
    """A custom metric."""

    total: int
    failed: int


class TotalsJson(TypedDict):
    """Outcomes added up. p95: seconds; null without requests, or off the scale.

    late: of the requests, those that were reported too late to be judged by.
    """

    assignments: int
    requests: int
    failures: int
    late: int
    p95: float | None
    metrics: dict[str, MetricJson]


class ExposureJson(TypedDict):
    """What a flag served within (since, until], unix seconds. share: percent that was exposed."""

    since: int
    until: int
    share: float | None
    assignments: int
    variants: dict[str, TotalsJson]
    services: dict[str, TotalsJson]


class ExplanationJson(TypedDict):
    """How an answer came about. point and threshold: null when no lot was drawn."""

    value: JsonValue
    variant: str | None
    reason: str
    revision: int | None
    error: str | None
    point: int | None
    threshold: int | None
    because: str


class StatusJson(TypedDict):
    """Who the token is, and what server and store this is."""

    principal: str
    scope: str
    environment: str | None
    version: str
    store: str | None
    writable: bool
    age_seconds: float | None
    versions: dict[str, int]
    problems: list[str]


class AliveJson(TypedDict):
    """The process answers."""

    ok: bool


class ReadyJson(TypedDict):
    """ready: flags are served.  writable: changes can be made.  problems: in words.

    source: where the flags came from last: `store`, `disk` or `nothing`.
    """

    ready: bool
    writable: bool
    source: str
    age_seconds: float | None
    problems: list[str]


class AcceptedJson(TypedDict):
    """accepted: false for a batch that was here before."""

    accepted: bool


# Flags


def flag(view: FlagView, only: str | None = None) -> FlagJson:
    """Return a flag with its states; only: the one environment that the caller may see."""
    of: Flag = view.flag
    return {
        "key": of.key,
        "description": of.description,
        "owner": of.owner,
        "kind": of.kind,
        "variants": dict(of.variants),
        "rest": of.rest,
        "salt": of.salt,
        "archived": of.archived,
        "created": of.created,
        "changed": of.changed,
        "revision": view.revision,
        "environments": {
            name: state(each) for name, each in view.states.items() if only in (None, name)
        },
    }


def state(view: StateView) -> StateJson:
    """Return a flag's state in one environment."""
    return {**state_fields(view.state), "revision": view.revision}


def state_fields(of: State) -> StateFields:
    """Return what a state says, without its revision."""
    return {
        "flag": of.flag,
        "environment": of.environment,
        "share": ppm_to_percent(of.share),
        "weights": [{"variant": v, "weight": ppm_to_percent(w)} for v, w in of.weights],
        "conditions": [
            {"attribute": c.attribute, "operator": c.operator, "values": list(c.values)}
            for c in of.conditions
        ],
        "prerequisites": [{"flag": p.flag, "variant": p.variant} for p in of.prerequisites],
        "killed": of.killed,
        "changed": of.changed,
    }


def plan(of: Plan) -> PlanJson:
    """Return what a change would do."""
    return {
        "before": state(of.before),
        "after": state_fields(of.after),
        "enlarges": of.enlarges,
    }


def explanation(of: Explanation) -> ExplanationJson:
    """Return how an answer came about. The request id is not in it."""
    evaluation = of.evaluation
    return {
        "value": evaluation.value,
        "variant": evaluation.variant,
        "reason": str(evaluation.reason),
        "revision": evaluation.revision,
        "error": None if evaluation.error is None else str(evaluation.error),
        "point": of.point,
        "threshold": of.threshold,
        "because": of.because,
    }


def history(entries: list[Mapping[str, Any]]) -> HistoryJson:
    """Return entries of the record."""
    return {"entries": [{**entry, "words": events.words(entry["action"])} for entry in entries]}


# Outcomes


def exposure(
    of: Exposure, services: Mapping[str, Totals], edges: tuple[float, ...]
) -> ExposureJson:
    """Return what a flag served within a window, beside how its services did."""
    return {
        "since": of.since,
        "until": of.until,
        "share": None if of.share is None else round(of.share, 4),
        "assignments": of.assignments,
        "variants": {name: totals(each, edges) for name, each in of.variants.items()},
        "services": {name: totals(each, edges) for name, each in services.items()},
    }


def totals(of: Totals, edges: tuple[float, ...]) -> TotalsJson:
    """Return added-up outcomes."""
    p95 = of.quantile(0.95, edges)
    return {
        "assignments": of.assignments,
        "requests": of.requests,
        "failures": of.failures,
        "late": of.late,
        "p95": None if p95 is None or p95 == float("inf") else p95,
        "metrics": {
            name: {"total": total, "failed": failed} for name, (total, failed) in of.metrics.items()
        },
    }


# Everything else


def environment(view: EnvironmentView) -> EnvironmentJson:
    """Return an environment."""
    of = view.environment
    return {
        "key": of.key,
        "description": of.description,
        "critical": of.critical,
        "default_schedule": of.default_schedule,
        "retention_days": of.retention_days,
        "uniform": of.uniform,
        "four_eyes": of.four_eyes,
        "created": of.created,
        "changed": of.changed,
        "revision": view.revision,
    }


def token(of: Token) -> TokenJson:
    """Return a token without its digest."""
    return {
        "id": of.id,
        "scope": of.scope,
        "environment": of.environment,
        "description": of.description,
        "created": of.created,
        "expires": of.expires,
        "revoked": of.revoked,
        "followed_by": of.followed_by,
        "owner": of.owner,
    }


def used_token(of: Token, last_used: str | None) -> UsedTokenJson:
    """Return a token of a list."""
    return {**token(of), "last_used": last_used}


def new_token(of: Token, text: str | None) -> NewTokenJson:
    """Return a new token with its text, which is shown now or never."""
    return {**token(of), "token": text}


def status(principal: Principal, health: Health) -> StatusJson:
    """Return who asks, and how this server is. A confined caller sees its own environment."""
    only = principal.environment
    return {
        "principal": principal.id,
        "scope": principal.scope,
        "environment": only,
        "version": version("sortition-server"),
        "store": health.store,
        "writable": health.writable,
        "age_seconds": _tenths(health.age_seconds),
        "versions": {name: v for name, v in health.versions.items() if only in (None, name)},
        "problems": list(health.problems),
    }


def ready(health: Health) -> ReadyJson:
    """Return what anybody may know about how this server is: no names, no addresses."""
    return {
        "ready": health.ready,
        "writable": health.writable,
        "source": health.source,
        "age_seconds": _tenths(health.age_seconds),
        "problems": list(_in_public(health)),
    }


def _in_public(health: Health) -> Iterator[str]:
    if not health.ready:
        yield "No flags were loaded yet."
    if not health.writable:
        yield "Changes cannot be made now; /api/v1/status says why."
    elif health.ready and health.problems:
        yield "Something needs a look; /api/v1/status says what."


def etag(revision: int) -> dict[str, str]:
    """Return the header that names a revision."""
    return {"ETag": f'"{revision}"'}


def _tenths(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
