"""Evaluation without a server: from a snapshot's file, by the same code that SDKs run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sortition.core.evaluate import compile_flags, explain
from sortition.resource import from_environment
from sortition.sources import file

from .api import Failure


def evaluate_offline(path: Path, key: str, request_id: str) -> dict[str, Any]:
    """Return what the server would answer, for the resource that OTEL_* says. Raises Failure."""
    try:
        snapshot = file.read(path)
    except (OSError, ValueError, RecursionError) as error:
        raise Failure(f"--snapshot: {error}") from None
    compiled = compile_flags(snapshot.flags, from_environment())
    if key not in compiled:
        raise Failure(f"There is no flag {key!r} in this snapshot.", code="not_found")
    found = explain(compiled[key], request_id)
    answer = found.evaluation
    return {
        "value": answer.value,
        "variant": answer.variant,
        "reason": str(answer.reason),
        "revision": answer.revision,
        "error": None if answer.error is None else str(answer.error),
        "point": found.point,
        "threshold": found.threshold,
        "because": found.because,
    }
