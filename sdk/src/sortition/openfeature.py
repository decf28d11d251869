"""The OpenFeature provider: flags drawn by lot behind OpenFeature's API.

    client = sortition.Client("https://flags.example", key="srt_sdk_...")
    api.set_provider_and_wait(sortition.openfeature.Provider(client))

The targeting key is the request id. Any other attribute of the context is left unread: nothing
about a person decides. OpenFeature's API itself costs many times an evaluation; in hot paths ask
the client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, GeneralError, ProviderNotReadyError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata

from .client import Client, Status
from .core.evaluate import Evaluation
from .core.reasons import ErrorCode as OurErrorCode

T = TypeVar("T")

WAIT_SECONDS = 5.0
"""How long `initialize` waits for flags."""


class Provider(AbstractProvider):
    """Evaluates by a client. `shutdown` closes it.

    Emits STALE when the server falls silent and READY when it is back; a stream that is lost and
    found again is no event.
    """

    def __init__(self, client: Client, *, wait_seconds: float = WAIT_SECONDS) -> None:
        """wait_seconds: how long `initialize` waits for the first flags."""
        super().__init__()
        self._client = client
        self._wait_seconds = wait_seconds
        self._stale = False
        client.on("stale", self._tell_stale)
        client.on("ready", self._tell_ready)

    def get_metadata(self) -> Metadata:
        """Return the provider's name."""
        return Metadata(name="sortition")

    def initialize(self, evaluation_context: EvaluationContext) -> None:  # noqa: ARG002 (theirs)
        """Wait until there are flags. Raises ProviderNotReadyError."""
        if not self._client.wait_ready(self._wait_seconds):
            raise ProviderNotReadyError(f"no flags within {self._wait_seconds:g} s")

    def shutdown(self) -> None:
        """Report what is left and end."""
        self._client.close()

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """Return a boolean flag's answer."""
        return self._resolve(flag_key, default_value, evaluation_context, _is_boolean)

    def resolve_string_details(
        self,
        flag_key: str,
        default_value: str,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        """Return the answer of a flag whose values are text."""
        return self._resolve(flag_key, default_value, evaluation_context, _is_text)

    def resolve_integer_details(
        self,
        flag_key: str,
        default_value: int,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[int]:
        """Return the answer of a flag whose values are whole numbers."""
        return self._resolve(flag_key, default_value, evaluation_context, _is_whole)

    def resolve_float_details(
        self,
        flag_key: str,
        default_value: float,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[float]:
        """Return the answer of a flag whose values are numbers."""
        found = self._resolve(flag_key, default_value, evaluation_context, _is_number)
        if found.error_code is None:
            # OpenFeature takes a whole number for a type mismatch here.
            found.value = float(found.value)
        return found

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """Return the answer of a flag whose values are lists or objects."""
        return self._resolve(flag_key, default_value, evaluation_context, _is_object)

    def _tell_stale(self, status: Status) -> None:
        self._stale = True
        told = f"the server is silent ({status.last_error})" if status.last_error else "silence"
        self.emit_provider_stale(ProviderEventDetails(message=told))

    def _tell_ready(self, status: Status) -> None:
        # The first time OpenFeature finds out by itself, when `initialize` returns.
        if self._stale:
            self._stale = False
            self.emit_provider_ready(ProviderEventDetails(message=f"snapshot {status.version}"))

    def _resolve(
        self,
        key: str,
        default: T,
        context: EvaluationContext | None,
        fits: Callable[[Any], bool],
    ) -> FlagResolutionDetails[T]:
        request_id = context.targeting_key if context is not None else None
        try:
            answer = self._client.evaluate(key, request_id or "")
        except Exception as error:  # noqa: BLE001 (the client never raises; if it does, say no id)
            raise GeneralError(type(error).__name__) from None
        if answer.error is not None:
            return _failed(default, answer.error, _WORDS.get(answer.error, "not evaluated"))
        if not fits(answer.value):
            return _failed(default, OurErrorCode.TYPE_MISMATCH, "the flag's value has another type")
        return _details(answer)


_WORDS = {
    OurErrorCode.FLAG_NOT_FOUND: "there is no such flag",
    OurErrorCode.PROVIDER_NOT_READY: "no flags were received yet",
    OurErrorCode.TARGETING_KEY_MISSING: "the targeting key is the request id; it is missing",
    OurErrorCode.INVALID_CONTEXT: "the targeting key is not text that UTF-8 can carry",
}


def _details(answer: Evaluation) -> FlagResolutionDetails[Any]:
    return FlagResolutionDetails(
        value=answer.value,
        variant=answer.variant,
        reason=Reason(str(answer.reason)),
        flag_metadata={} if answer.revision is None else {"revision": answer.revision},
    )


def _failed(default: T, code: OurErrorCode, words: str) -> FlagResolutionDetails[T]:
    return FlagResolutionDetails(
        value=default, error_code=ErrorCode(str(code)), error_message=words, reason=Reason.ERROR
    )


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_object(value: Any) -> bool:
    return isinstance(value, (list, dict))
