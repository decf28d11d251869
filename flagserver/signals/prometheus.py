"""Prometheus: the value of an expression at the end of each period, by HTTP API v1.

    prometheus, MEASURE, query=EXPRESSION      of the canary
                         control=EXPRESSION    of the other arm, where there is one
                         sample=EXPRESSION     how many requests the canary's value rests on

An expression answers one number (a scalar, or a vector of one series); in it `$service`,
`$version`, `$environment`, `$window` and `$period` (as in `5m`: `300s`) stand for those of the ask.
Rates are fractions, latencies seconds. Nothing, NaN and infinity are no data.
"""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

from flagserver.domain.errors import Invalid
from flagserver.domain.signals import Ask, Measure, Measured, Point, Signal
from flagserver.ports import Egress, EgressError

from .periods import check_measure, check_settings, check_text, ends

log = logging.getLogger(__name__)

MEASURE_SECONDS = 5.0
"""For all questions of one look together."""

AT_ONCE = 8
"""Questions that are open at the same time."""

LONGEST_EXPRESSION = 4000
SETTINGS = ("query", "control", "sample")
MEASURES = (
    *(Measure.RATE, Measure.LATENCY, Measure.VALUE),
    *(Measure.UNHEALTHY_HOSTS, Measure.HEALTHY_RATIO),
)

STANDS_FOR = re.compile(r"\$(service|version|environment|window|period)\b")
PLAIN = re.compile(r"[A-Za-z0-9 ._:/@+~-]*")
"""What may stand within quotes of an expression and end none of them."""


class CannotAsk(Exception):
    """A question that has no answer; the text is for people."""


Question = tuple[str, int]
"""An expression, and the unix second at which its value is wanted."""


class PrometheusSource:
    """`ports.SignalSource` over one Prometheus, or whatever speaks its HTTP API."""

    name = "prometheus"

    def __init__(
        self,
        egress: Egress,
        url: str,
        token: str | None = None,
        *,
        settle_seconds: float = 15.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """url: as in `http://prometheus.internal:9090`.  settle_seconds: its scrape interval."""
        self._egress = egress
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._settle_seconds = settle_seconds
        self._monotonic = monotonic

    def check(self, signal: Signal) -> None:
        """Raise Invalid unless the signal has a query. Whether Prometheus understands it shows at
        the first look."""
        check_measure(signal, MEASURES)
        check_settings(signal, SETTINGS)
        check_text(signal, "query", needed=True, longest=LONGEST_EXPRESSION)
        for name in SETTINGS[1:]:
            check_text(signal, name, longest=LONGEST_EXPRESSION)
        for name in SETTINGS:
            value = signal.get(name)
            if isinstance(value, str) and re.search(r"\$\{", value):
                raise Invalid("write $version, not ${version}.", field=f"/settings/{name}")

    def measure(self, asks: Sequence[Ask], now: float) -> Mapping[Ask, Measured]:
        """Return an answer to every ask. The same question of several asks is put once."""
        whens = {ask: ends(ask, now, self._settle_seconds) for ask in asks}
        wanted: dict[Ask, dict[str, list[Question]]] = {}
        measured: dict[Ask, Measured] = {}
        for ask in asks:
            try:
                wanted[ask] = _questions(ask, whens[ask])
            except CannotAsk as error:
                measured[ask] = Measured(error=str(error))
        questions = {
            each: None for ask in wanted.values() for some in ask.values() for each in some
        }
        answers = self._ask_all(list(questions))
        for ask, questions_of in wanted.items():
            measured[ask] = _measured(ask, whens[ask], questions_of, answers)
        return measured

    def _ask_all(
        self, questions: Sequence[Question]
    ) -> Mapping[Question, float | CannotAsk | None]:
        deadline = self._monotonic() + MEASURE_SECONDS

        def ask(question: Question) -> float | CannotAsk | None:
            try:
                return self._ask(question, deadline - self._monotonic())
            except CannotAsk as error:
                return error
            except Exception as error:
                log.exception("prometheus could not be asked")
                return CannotAsk(f"failed ({type(error).__name__})")

        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="prometheus") as pool:
            return dict(zip(questions, pool.map(ask, questions), strict=True))

    def _ask(self, question: Question, seconds: float) -> float | None:
        """Return the value, None for no data. Raises CannotAsk."""
        if seconds <= 0:
            raise CannotAsk(f"no answer within {MEASURE_SECONDS:g} s for all questions")
        expression, at = question
        told = {"query": expression, "time": str(at), "timeout": f"{math.ceil(seconds)}s"}
        try:
            answer = self._egress.send(
                "POST",
                self._url,
                headers=self._headers,
                body=urlencode(told).encode(),
                seconds=seconds,
            )
        except EgressError as error:
            raise CannotAsk(str(error)) from None
        return _value(answer.status, answer.body)


def _questions(ask: Ask, when: Sequence[int]) -> dict[str, list[Question]]:
    """Return the questions of each setting, one for each period. Raises CannotAsk."""
    return {
        name: [(_filled_in(str(ask.signal.get(name)), ask), at) for at in when]
        for name in SETTINGS
        if ask.signal.get(name) is not None
    }


def _filled_in(expression: str, ask: Ask) -> str:
    """Return an expression with what its names stand for. Raises CannotAsk for a value that could
    end the quotes it stands in."""
    values = {
        "service": ask.service,
        "version": ask.version or "",
        "environment": ask.environment,
        "window": f"{ask.window_seconds}s",
        "period": f"{ask.period_seconds}s",
    }

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if not values[name]:
            raise CannotAsk(f"${name} stands for nothing: this rollout has none")
        if not PLAIN.fullmatch(values[name]):
            raise CannotAsk(f"${name} is {values[name]!r}, which cannot stand in an expression")
        return values[name]

    return STANDS_FOR.sub(fill, expression)


def _measured(
    ask: Ask,
    when: Sequence[int],
    questions: Mapping[str, Sequence[Question]],
    answers: Mapping[Question, float | CannotAsk | None],
) -> Measured:
    values: dict[str, list[float | None]] = {}
    for name, some in questions.items():
        values[name] = []
        for question in some:
            answer = answers[question]
            if isinstance(answer, CannotAsk):
                return Measured(error=f"prometheus: {answer}")
            values[name].append(answer)
    samples = values.get("sample", [None] * len(when))
    canary = tuple(
        Point(at, value, None if sample is None else int(sample))
        for at, value, sample in zip(when, values["query"], samples, strict=True)
    )
    control = values.get("control")
    if control is None or all(value is None for value in control):
        return Measured(canary)
    return Measured(
        canary, tuple(Point(at, value) for at, value in zip(when, control, strict=True))
    )


def _value(status: int, body: bytes) -> float | None:
    """Return the one number of an answer, None for no data. Raises CannotAsk."""
    try:
        told = json.loads(body)
        if told["status"] != "success":
            raise CannotAsk(f"{_short(told.get('errorType'))}: {_short(told.get('error'))}")
        if told.get("warnings"):
            # Of several stores behind one, some did not answer: what is there may be half of it.
            raise CannotAsk(f"answers with a warning: {_short(told['warnings'][0])}")
        return _one_number(told["data"]["resultType"], told["data"]["result"])
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        raise CannotAsk(f"answered {status} in a form that is not its own") from None


def _one_number(kind: str, result: Any) -> float | None:
    if kind == "vector":
        if not result:
            return None
        if len(result) > 1:
            raise CannotAsk(f"answers {len(result)} series where one is needed: sum them")
        result = result[0]["value"]
    elif kind != "scalar":
        raise CannotAsk(f"answers a {_short(kind)} where a scalar or vector is needed")
    value = float(result[1])
    return value if math.isfinite(value) else None


def _short(text: Any) -> str:
    """Return the beginning of what the other side says, on one line."""
    return "".join(each if each.isprintable() else " " for each in str(text)[:200])
