"""`aws deploy …` and `aws ecs …` as far as the pipeline uses them, over botocore: what AWS would
refuse is refused here, for parameters are checked by its own model.

    aws deploy list-deployments --application-name A --query Q --output text
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import botocore.session
import jmespath  # type: ignore[import-untyped]
from botocore.exceptions import ClientError


def main(words: list[str]) -> None:
    service, operation, *rest = words
    named = {"deploy": "codedeploy", "ecs": "ecs"}[service]
    options = parsed(rest)
    query, form = options.pop("query", None), options.pop("output", "json")
    told: dict[str, Any] = {}
    for name, value in options.items():
        if name == "cli-input-json":
            told = json.loads(Path(value[0].removeprefix("file://")).read_text()) | told
        else:
            told[camel(name)] = meant(name, value)
    client = botocore.session.get_session().create_client(named)
    try:
        answer = getattr(client, operation.replace("-", "_"))(**told)
    except ClientError as error:
        sys.exit(f"An error occurred: {error}")
    found = jmespath.search(query[0], answer) if query else answer
    assert form == ["text"], "the script asks for text"
    sys.stdout.write(text(found) + "\n")


def parsed(words: list[str]) -> dict[str, list[str]]:
    """Return option -> its values."""
    found: dict[str, list[str]] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name = word.removeprefix("--")
            found[name] = []
        else:
            found[name].append(word)
    return found


def camel(name: str) -> str:
    """Return the parameter that an option sets."""
    return re.sub(r"-(\w)", lambda match: match.group(1).upper(), name)


def meant(name: str, value: list[str]) -> Any:
    if name == "create-time-range":
        return dict(part.split("=", 1) for part in value[0].split(","))
    return value if name.endswith("-ids") else value[0]


def text(found: Any) -> str:
    """Return a result as `--output text` prints it: a list on one line, with tabs."""
    if found is None:
        return "None"
    return "\t".join(map(str, found)) if isinstance(found, list) else str(found)


if __name__ == "__main__":
    main(sys.argv[1:])
