"""`flags apply`: a repository's file says what shares are to be.

flags:
  new-search:
    production: 25
    staging: {share: 100}
  ranker:
    production: {share: 50, weights: {blue: 70, green: 30}}
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import linting
from .api import Api, Failure
from .exits import NOT_PERMITTED, USAGE
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
    """Do the steps in order, and return them as they were done.

    What has to wait for a second person keeps no other from being done; any other refusal ends it.
    Raises Failure then, and at the end where something waits, which tells what was done.
    """
    done: list[dict[str, Any]] = []
    waiting: list[dict[str, str]] = []
    for step in steps:
        try:
            revision = _do(api, step, write)
        except Failure as failure:
            id = failure.more.get("approval")
            if isinstance(id, str):
                waits = {"flag": step.key, "environment": step.environment, "approval": id}
                waiting.append(waits)
                continue
            before = f"{len(done)} of {len(steps)} were changed before; run it again to go on."
            message = f"{step.key} in {step.environment}: {failure.message} ({before})"
            told = {**failure.more, "done": done, "approvals": waiting}
            raise Failure(message, failure.exit_code, **told) from None
        done.append({**step.as_json(), "revision": revision})
    if waiting:
        raise _waits(api, waiting, done, len(steps))
    return done


def _do(api: Api, step: Step, write: Write) -> int:
    """Carry one step out; return the state's new revision."""
    body = dict(step.body)
    if write.reason is not None:
        body["reason"] = write.reason
    if write.confirm is not None:
        body["confirm_environment"] = write.confirm
    key = None if write.idempotency_key is None else _key(write.idempotency_key, step)
    state, _ = api.send("PATCH", step.path, body, revision=step.revision, idempotency_key=key)
    return int(state["revision"])


def _key(given: str, step: Step) -> str:
    """Return a step's own idempotency key: by what it changes, not by its place, since a second run
    has fewer steps; and of one length, since a flag's name can be as long as a key may be."""
    return hashlib.sha256(f"{given}\n{step.key}\n{step.environment}".encode()).hexdigest()


def _waits(
    api: Api, waiting: list[dict[str, str]], done: list[dict[str, Any]], steps: int
) -> Failure:
    lines = [
        f"{one['flag']} in {one['environment']} waits for a second person, "
        f"at {api.url}/approvals/{one['approval']}"
        for one in waiting
    ]
    message = "\n  ".join([f"{len(done)} of {steps} were changed; the rest waits.", *lines])
    told = {"code": "approval_required", "approvals": waiting, "done": done}
    return Failure(message, NOT_PERMITTED, **told)


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
