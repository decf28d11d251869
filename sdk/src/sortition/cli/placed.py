"""YAML and JSON files whose every value knows its line: so that an error can say where it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Place = tuple[str | int, ...]
"""Where a value is in a file: `("targets", 0, "name")`."""

MOST_ALIASED = 10_000
"""Values in a file at most: a few aliases of aliases can mean millions."""


@dataclass(frozen=True, order=True)
class Problem:
    """Something wrong with a file. line, column: from 1; field: `targets.0.name`, "" for the whole
    file."""

    file: str
    line: int
    column: int
    field: str
    message: str

    def words(self) -> str:
        """Return it as compilers write it, so that editors find the place."""
        where = f"{self.file}:{self.line}:{self.column}"
        return (
            f"{where}: {self.field}: {self.message}" if self.field else f"{where}: {self.message}"
        )


@dataclass
class Placed:
    """What a file holds, and where. places: path -> (line, column) of the field's name, or of a
    list's item."""

    file: str
    content: Any
    places: dict[Place, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, path: Place, message: str) -> Problem:
        """Return a problem at a path, or at what is nearest above it."""
        known = path
        while known and known not in self.places:
            known = known[:-1]
        line, column = self.places.get(known, (1, 1))
        return Problem(self.file, line, column, ".".join(map(str, path)), message)


class Loader(yaml.SafeLoader):
    """YAML whose times stay the text that they are."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read(path: Path, texts: tuple[str, ...] = ()) -> Placed:
    """Return what a file holds. One that cannot be read has a problem and no content.

    texts: fields at the top that are text however they are written.
    """
    try:
        return parse(path.read_text("utf-8"), str(path), texts)
    except OSError as error:
        said = error.strerror or "it cannot be read"
    except UnicodeError:
        said = "it is not UTF-8"
    return Placed(str(path), None, problems=[Problem(str(path), 1, 1, "", said)])


def parse(text: str, file: str, texts: tuple[str, ...] = ()) -> Placed:
    """Return what a text holds; see `read`."""
    placed = Placed(file, None)
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        if node is not None:
            if isinstance(node, yaml.MappingNode):
                keep_as_written(node, texts)
            for path, where in _walk(node, (), placed):
                placed.places[path] = where
            placed.content = loader.construct_document(node)
            json.dumps(placed.content, allow_nan=False)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        placed.content = None
        placed.problems.append(Problem(file, line, column, "", error.problem or str(error)))
    except (yaml.YAMLError, RecursionError, TypeError, ValueError) as error:
        placed.content = None
        placed.problems.append(Problem(file, 1, 1, "", str(error)))
    finally:
        loader.dispose()
    return placed


def keep_as_written(node: yaml.MappingNode, texts: tuple[str, ...]) -> None:
    """Let fields be text however they are written: `version: 2.10` is not the number 2.1."""
    for key, value in node.value:
        scalar = isinstance(value, yaml.ScalarNode) and not value.tag.endswith(":null")
        if scalar and key.value in texts:
            value.tag = "tag:yaml.org,2002:str"


def _walk(node: yaml.Node, path: Place, placed: Placed) -> Iterator[tuple[Place, tuple[int, int]]]:
    """Yield where every value is; note a field that is there twice: YAML keeps the last."""
    if len(placed.places) > MOST_ALIASED:
        raise ValueError(f"it holds more than {MOST_ALIASED} values")
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            here = (*path, str(key.value))
            where = (key.start_mark.line + 1, key.start_mark.column + 1)
            if key.value in seen:
                name = ".".join(map(str, here))
                placed.problems.append(Problem(placed.file, *where, name, "it is there twice"))
            seen.add(key.value)
            yield here, where
            yield from _walk(value, here, placed)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            here = (*path, i)
            yield here, (item.start_mark.line + 1, item.start_mark.column + 1)
            yield from _walk(item, here, placed)
