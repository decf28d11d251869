"""Everything that can be recorded has its words, and only that."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import flagserver
from flagserver.domain import events
from flagserver.domain.events import KINDS
from flagserver.domain.notices import Severity

ROOT = Path(flagserver.__file__).parent
PAGE = ROOT.parent / "docs" / "reference" / "notifications.md"
KIND = re.compile(r"[a-z]+(:[a-z]+){1,2}")
SUBJECTS = {kind.partition(":")[0] for kind in KINDS}


def written() -> Iterator[str]:
    """Yield a pattern for every kind that code of the server writes down: whatever text looks like
    one, with any word in place of what is filled in."""
    for path in sorted(ROOT.rglob("*.py")):
        if path.name == "events.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            text = _text(node)
            subject = text.partition(":")[0]
            if subject in SUBJECTS and re.fullmatch(r"[a-z]+(:([a-z]+|\[a-z\]\+)){1,2}", text):
                yield text


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if not isinstance(node, ast.JoinedStr):
        return ""
    parts = [_text(part) if isinstance(part, ast.Constant) else "[a-z]+" for part in node.values]
    return "".join(parts)


def test_every_kind_that_can_be_recorded_has_words() -> None:
    found = set(written())
    known = {pattern: [k for k in KINDS if re.fullmatch(pattern, k)] for pattern in found}

    assert [pattern for pattern, kinds in known.items() if not kinds] == []
    assert {"rollout:late:correct", "rollout:step:confirm"} <= found
    # And nothing has words that never happens.
    assert {kind for kinds in known.values() for kind in kinds} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_words(kind: str) -> None:
    words = events.words(kind)

    assert KIND.fullmatch(kind)
    assert words
    assert ":" not in words.replace("dropped: ", "")
    assert len(words) <= 60


def test_no_two_kinds_of_one_subject_have_the_same_words() -> None:
    told = [(kind.partition(":")[0], it.words) for kind, it in KINDS.items()]

    assert len(set(told)) == len(told)


def test_one_that_a_newer_server_recorded_is_named_as_it_is() -> None:
    assert events.words("rollout:moon:reach") == "rollout moon reach"
    assert events.severity("rollout:moon:reach") is None


def test_the_page_says_which_kinds_people_are_told_of() -> None:
    rows = re.findall(r"^\| `([a-z:]+)` \| `?(\w+)`?", PAGE.read_text(), re.MULTILINE)

    told = {kind: str(it.severity) for kind, it in KINDS.items() if it.severity is not None}
    assert {kind: how for kind, how in rows if ":" in kind} == told
    assert set(told.values()) <= set(Severity)
