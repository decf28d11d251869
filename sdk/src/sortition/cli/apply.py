"""`flags apply`: a repository's file says what shares are to be.

flags:
  new-search:
    production: 25
    staging: {share: 100}
  ranker:
    production: {share: 50, weights: {blue: 70, green: 30}}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import linting
from .api import Api, Failure
from .exits import USAGE
from .options import Write
from .output import difference

FIELDS = ("share", "weights")


@dataclass(frozen=True)
class Step:
    """One change that brings a flag in an environment in line."""

    key: str
    environment: str
    revision: int
    body: Mapping[str, Any]
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    enlarges: bool

    @property
    def path(self) -> str:
        """The state's path."""
        return f"/api/v1/flags/{self.key}/environments/{self.environment}"

    def words(self) -> str:
        """Return the diff."""
        lines = difference(dict(self.before), dict(self.after), FIELDS)
        return "\n".join([f"{self.key} · {self.environment} · revision {self.revision}", *lines])

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "flag": self.key,
            "environment": self.environment,
            "revision": self.revision,
            "enlarges": self.enlarges,
            "before": {name: self.before[name] for name in FIELDS},
            "after": {name: self.after[name] for name in FIELDS},
        }


def read(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Return flag -> environment -> fields of a file. Raises Failure that names every place where
    something is wrong."""
    content = linting.checked(path, "flags").content
    return {
        key: {name: _fields(told) for name, told in states.items()}
        for key, states in content["flags"].items()
    }


def plan(
    api: Api, wanted: Mapping[str, Mapping[str, Mapping[str, Any]]], only: str | None
) -> list[Step]:
    """Return what has to change, shrinking first. Raises Failure before anything is changed."""
    steps = []
    for key, states in wanted.items():
        known = api.get(f"/api/v1/flags/{key}")
        for environment, body in states.items():
            if only is not None and environment != only:
                continue
            if environment not in known["environments"]:
                names = ", ".join(known["environments"])
                message = f"{key}: there is no environment {environment!r}; there are {names}."
                raise Failure(message, USAGE, code="bad_file")
            revision = known["environments"][environment]["revision"]
            path = f"/api/v1/flags/{key}/environments/{environment}"
            found, _ = api.send("PATCH", path, body, query={"dry_run": 1}, revision=revision)
            before, after = found["before"], found["after"]
            if any(before[name] != after[name] for name in FIELDS):
                steps.append(
                    Step(key, environment, revision, body, before, after, found["enlarges"])
                )
    return sorted(steps, key=lambda step: step.enlarges)


def carry_out(api: Api, steps: list[Step], write: Write) -> list[dict[str, Any]]:
    """Do the steps in order; the first that is refused ends it, and what was done is told."""
    done: list[dict[str, Any]] = []
    for number, step in enumerate(steps):
        body = dict(step.body)
        if write.reason is not None:
            body["reason"] = write.reason
        if write.confirm is not None:
            body["confirm_environment"] = write.confirm
        key = f"{write.idempotency_key}-{number}" if write.idempotency_key else None
        try:
            state, _ = api.send(
                "PATCH", step.path, body, revision=step.revision, idempotency_key=key
            )
        except Failure as failure:
            before = f"{len(done)} of {len(steps)} were changed before; run it again to go on."
            message = f"{step.key} in {step.environment}: {failure.message} ({before})"
            raise Failure(message, failure.exit_code, **failure.more, done=done) from None
        done.append({**step.as_json(), "revision": state["revision"]})
    return done


def _fields(told: Any) -> dict[str, Any]:
    if not isinstance(told, dict):
        return {"share": float(told)}
    body: dict[str, Any] = {}
    if "share" in told:
        body["share"] = told["share"]
    if "weights" in told:
        weights = told["weights"]
        body["weights"] = [{"variant": name, "weight": part} for name, part in weights.items()]
    return body
