"""What callers may ask for, checked field by field: the bodies of the API and the UI's forms.

A field that is not given stays as it is. Shares and weights are in percent here, in steps of
0.0001, and in parts per million everywhere inside.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from sortition.core.conditions import Condition
from sortition.core.model import (
    KEY,
    MAX_CONDITIONS,
    MAX_PREREQUISITES,
    MAX_VARIANTS,
    InvalidSnapshot,
    check_condition,
    check_value,
)

from .errors import Invalid
from .personal import looks_personal
from .retention import LEAST_DAYS, MOST_DAYS

PPM_PER_PERCENT = 10_000


def percent_to_ppm(percent: float) -> int:
    """Return parts per million. Raises ValueError unless it is 0..100 in steps of 0.0001."""
    if not 0 <= percent <= 100:
        raise ValueError("must be from 0 to 100 (percent)")
    ppm = round(percent * PPM_PER_PERCENT)
    if abs(percent * PPM_PER_PERCENT - ppm) > 1e-6:
        raise ValueError("must be in steps of 0.0001 (percent)")
    return ppm


def ppm_to_percent(ppm: int) -> float:
    """Return percent, exact to its four decimals."""
    return ppm / PPM_PER_PERCENT


def _key(text: str) -> str:
    if not KEY.fullmatch(text):
        raise ValueError(
            "must begin with a-z or 0-9 and hold only a-z, 0-9, '.', '_' and '-', up to 100"
        )
    return text


def _percent(value: float) -> float:
    percent_to_ppm(value)
    return value


def _impersonal(text: str) -> str:
    if looks_personal(text):
        raise ValueError("must not hold an e-mail address or a phone number")
    return text


Key = Annotated[str, AfterValidator(_key), Field(examples=["new-search"])]
Percent = Annotated[float, AfterValidator(_percent), Field(examples=[25.0])]
Reason = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(_impersonal),
]
Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=500),
    # The record keeps it, whatever becomes of the flag.
    AfterValidator(_impersonal),
]
Kind = Literal["temporary", "permanent"]
Scope = Literal["sdk", "deploy", "admin"]


class Command(BaseModel):
    """A request's body: unknown fields, wrong types and NaN are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class NewFlag(Command):
    """A flag to be created. Without variants it is boolean: `on` (true) and `off` (false)."""

    key: Key
    description: Text = ""
    owner: Text = ""
    kind: Kind = "temporary"
    variants: dict[Key, JsonValue] = Field(
        default={"on": True, "off": False}, min_length=1, max_length=MAX_VARIANTS
    )
    rest: Key = "off"
    reason: Reason | None = None

    @field_validator("variants")
    @classmethod
    def _values(cls, variants: dict[str, Any]) -> dict[str, Any]:
        return {name: checked_value(value) for name, value in variants.items()}

    @model_validator(mode="after")
    def _rest_is_a_variant(self) -> NewFlag:
        if self.rest not in self.variants:
            raise ValueError(f"rest: there is no variant {self.rest!r}")
        return self


class FlagEdit(Command):
    """What may change about a flag itself."""

    description: Text | None = None
    owner: Text | None = None
    kind: Kind | None = None
    reason: Reason | None = None


class Weight(Command):
    """How much of the exposed share gets a variant."""

    variant: Key
    weight: Percent


class ConditionEdit(Command):
    """A question about the resource (where the code runs); see `sortition.core.conditions`."""

    attribute: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    operator: str
    values: list[Annotated[str, StringConstraints(min_length=1, max_length=500)]] = Field(
        min_length=1, max_length=100
    )

    @model_validator(mode="after")
    def _usable(self) -> ConditionEdit:
        try:
            check_condition(self.condition(), "")
        except InvalidSnapshot as error:
            raise ValueError(f"{error.path.strip('/')}: {error.problem}") from None
        return self

    def condition(self) -> Condition:
        """Return it as the core knows it."""
        return Condition(self.attribute, self.operator, tuple(self.values))


class PrerequisiteEdit(Command):
    """Another flag that must serve this variant to the same request."""

    flag: Key
    variant: Key


class Enlarging(Command):
    """What enlarging exposure in a critical environment needs."""

    reason: Reason | None = None
    confirm_environment: str | None = None


class StateEdit(Enlarging):
    """What may change about a flag in one environment."""

    share: Percent | None = None
    weights: list[Weight] | None = Field(default=None, min_length=1, max_length=MAX_VARIANTS)
    conditions: list[ConditionEdit] | None = Field(default=None, max_length=MAX_CONDITIONS)
    prerequisites: list[PrerequisiteEdit] | None = Field(default=None, max_length=MAX_PREREQUISITES)

    @field_validator("weights")
    @classmethod
    def _whole(cls, weights: list[Weight] | None) -> list[Weight] | None:
        if weights is not None:
            names = [weight.variant for weight in weights]
            if len(set(names)) != len(names):
                raise ValueError("a variant appears twice")
            if sum(percent_to_ppm(weight.weight) for weight in weights) != 1_000_000:
                raise ValueError("weights must add up to 100 %")
        return weights


class Reasoned(Command):
    """An act that may say why."""

    reason: Reason | None = None


class Acknowledgement(Command):
    """That entries of the record are lost is known, and why things go on."""

    reason: Reason


class NewEnvironment(Command):
    """An environment to be created."""

    key: Key
    description: Text = ""
    critical: bool = False
    uniform: bool = False
    four_eyes: bool = False
    reason: Reason | None = None


class EnvironmentEdit(Command):
    """What may change about an environment. default_schedule: of rollouts that name none.
    retention_days: how long the record keeps what it says of it.
    uniform: whether conditions on region or instance are refused there.
    four_eyes: whether enlarging waits there for a second person."""

    description: Text | None = None
    critical: bool | None = None
    uniform: bool | None = None
    four_eyes: bool | None = None
    default_schedule: Annotated[str, StringConstraints(max_length=2000)] | None = None
    retention_days: int | None = Field(default=None, ge=LEAST_DAYS, le=MOST_DAYS)
    reason: Reason | None = None


class NewToken(Command):
    """A token to be made. `sdk` and `deploy` belong to exactly one environment."""

    scope: Scope
    environment: Key | None = None
    description: Text = ""
    expires: datetime | None = Field(default=None, strict=False)
    reason: Reason | None = None

    @model_validator(mode="after")
    def _confined(self) -> NewToken:
        if self.scope != "admin" and self.environment is None:
            raise ValueError(f"environment: a {self.scope} token belongs to one environment")
        return self

    @field_validator("expires")
    @classmethod
    def _utc(cls, expires: datetime | None) -> datetime | None:
        if expires is not None and expires.tzinfo is None:
            raise ValueError("must name its time zone, as in 2027-01-31T00:00:00Z")
        return expires.astimezone(UTC) if expires is not None else None


class Rotation(Command):
    """A token to be replaced by another of the same scope and environment.

    overlap_hours: how long both are good, so that whoever shows the old one has time to change.
    """

    overlap_hours: Annotated[float, Field(ge=0, le=24 * 90)] = 24.0
    reason: Reason | None = None


_REASON: TypeAdapter[str] = TypeAdapter(Reason)


def checked_reason(reason: str) -> str:
    """Return a reason that came by no command's body. Raises Invalid."""
    try:
        return _REASON.validate_python(reason)
    except ValidationError as error:
        words = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise Invalid(f"The reason cannot be kept: {words}.", field="/reason") from None


def checked_value(value: Any) -> Any:
    """Return a JSON value of bounded depth. Raises ValueError."""
    try:
        check_value(value, "")
    except InvalidSnapshot as error:
        raise ValueError(error.problem) from None
    return value
