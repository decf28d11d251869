"""What a rollout is to be: from a file, from options, or from both.

# yaml-language-server: $schema=rollout.schema.json   (`sortition rollouts schema` prints it)
environment: production
service: api
version: 2.4.0
schedule: 5%:5m,25%:10m,50%:15m,100%
targets:
  - {kind: flag, name: new-search}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from . import placed
from .api import Failure
from .exits import USAGE

TEXTS = ("environment", "service", "version")
"""Fields that are text however they are written: `version: 2.10` is not the number 2.1."""

ONLY_OF_A_START = ("reason", "confirm_environment", "start_at", "replace", "hold_if_lost")
"""What a rollout that is only thought of has not."""


class _Loader(yaml.SafeLoader):
    """YAML whose times stay the text that they are."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read(path: Path, holds: str = "environment, service, targets, …") -> dict[str, Any]:
    """Return the fields of a file, YAML or JSON. Raises Failure, naming it."""
    try:
        content = _load(path.read_text())
        json.dumps(content, allow_nan=False)
    except (OSError, UnicodeError, yaml.YAMLError, RecursionError, TypeError, ValueError) as error:
        raise _bad(path, str(error)) from None
    if not isinstance(content, dict):
        raise _bad(path, f"the file holds one mapping: {holds}")
    content.pop("$schema", None)
    if "confirm_environment" in content:
        raise _bad(path, "confirm_environment is not for files: give --confirm")
    return content


def _load(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if isinstance(node, yaml.MappingNode):
            _keep_as_written(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _keep_as_written(node: yaml.MappingNode) -> None:
    for key, value in node.value:
        scalar = isinstance(value, yaml.ScalarNode) and not value.tag.endswith(":null")
        if scalar and key.value in TEXTS:
            value.tag = "tag:yaml.org,2002:str"


def body(path: Path | None, environment: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a new rollout. given: the options of the commands `plan` and `start`.

    Options come before the file; --flag, --alb, --codedeploy and --alarm are added to what it has.
    The environment must be said once, or twice alike: a file must not end up somewhere else.
    """
    made = read(path) if path is not None else {}
    named = made.get("environment")
    if environment is not None and named not in (None, environment):
        message = f"{path} is for {named}, and --env says {environment}."
        raise Failure(message, USAGE, code="usage")
    options = {
        "environment": environment,
        **{name: given[name] for name in ("service", "version", "schedule", "relation", "guards")},
        "requests_per_second": given["requests_per_second"],
        "start_at": given.get("start_at"),
        "until": given.get("until"),
        "replace": given.get("replace") or None,
        "hold_if_lost": given.get("hold_if_lost"),
    }
    made.update({name: value for name, value in options.items() if value is not None})
    targets = [{"kind": "flag", "name": key} for key in given["flags"]]
    targets += [_alb(text) for text in given["albs"]]
    targets += [{"kind": "codedeploy", "name": name} for name in given["deployments"]]
    for name, more in (("targets", targets), ("alarms", list(given["alarms"]))):
        if more:
            # What is no list in the file is for the server to refuse, which says how it should be.
            there = made.get(name, [])
            made[name] = [*there, *more] if isinstance(there, list) else there
    _complete(made)
    return made


def planned(made: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body for a rollout that is only thought of."""
    return {name: value for name, value in made.items() if name not in ONLY_OF_A_START}


def in_the_file(path: Path, failure: Failure, given: Mapping[str, Any]) -> Failure:
    """Return a refusal with the place in the file that it is about, or with the option that added
    what it is about; as it is where it is about neither."""
    place = str(failure.more.get("field", ""))
    name = place.lstrip("/").split("/")[0]
    if not name or given.get(name) or name in {"reason", "confirm_environment"}:
        return failure
    detail = failure.more.get("detail", failure.message)
    steps = tuple(int(step) if step.isdigit() else step for step in place[1:].split("/"))
    written = read(path)
    if name == "environment" and name not in written:
        return failure
    added = _added(steps, written, given)
    if added is not None:
        return Failure(f"{added}: {detail}", failure.exit_code, **failure.more)
    line = placed.read(path).problem(steps, "").line
    message = f"{path}: {place[1:].replace('/', '.')}: {detail} (line {line})"
    return Failure(message, failure.exit_code, **failure.more)


def _added(
    steps: tuple[str | int, ...], written: Mapping[str, Any], given: Mapping[str, Any]
) -> str | None:
    """Return the option, with its value, that put something behind what a file has in a list; None
    where it is the file's own."""
    lists = {
        "targets": [
            *(f"--flag {key}" for key in given.get("flags", ())),
            *(f"--alb {text}" for text in given.get("albs", ())),
            *(f"--codedeploy {name}" for name in given.get("deployments", ())),
        ],
        "alarms": [f"--alarm {name}" for name in given.get("alarms", ())],
    }
    if len(steps) < 2 or not isinstance(steps[1], int):
        return None
    name, number = str(steps[0]), steps[1]
    behind = number - len(written.get(name) or ())
    options = lists.get(name, [])
    return options[behind] if 0 <= behind < len(options) else None


def _complete(made: Mapping[str, Any]) -> None:
    for name, option in (
        ("environment", "--env"),
        ("service", "--service"),
        ("targets", "--flag, --alb or --codedeploy"),
    ):
        if not made.get(name):
            message = f"Missing {option}: say it, or write `{name}` into a file (-f)."
            raise Failure(message, USAGE, code="usage")


def _alb(text: str) -> dict[str, Any]:
    name, *parts = (part.strip() for part in text.split(","))
    settings = dict(part.partition("=")[::2] for part in parts)
    if not name or set(settings) != {"canary", "stable"} or not all(settings.values()):
        message = f"--alb: write it as RULE_ARN,canary=GROUP_ARN,stable=GROUP_ARN, not {text!r}."
        raise Failure(message, USAGE, code="usage")
    return {"kind": "alb", "name": name, "settings": settings}


def _bad(path: Path, problem: str) -> Failure:
    return Failure(f"{path}: {problem}.", USAGE, code="bad_file")
