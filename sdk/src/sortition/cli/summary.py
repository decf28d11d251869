"""What a rollout came to, in Markdown, for a pipeline's page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import rollout_words as words
from .output import clean, duration, percent

Rollout = Mapping[str, Any]

_SPECIAL = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_[]|#~<>"} | {"&": "&amp;"})


def markdown(it: Rollout, last: str) -> str:
    """Return the summary of a rollout. last: what the watch ended with, for people."""
    return "\n".join(_lines(it, last)) + "\n"


def _lines(it: Rollout, last: str) -> Iterator[str]:
    yield f"### {_safe(words.title(it))}: {_safe(words.state(it))}"
    yield ""
    yield f"Rollout {_safe(it['id'])}, {_safe(words.step(it))}. {_safe(last)}"
    yield ""
    yield from _table(
        ("Step", "Share", "Held", ""),
        [
            (
                str(step["number"]),
                percent(step["share"]),
                duration(step["hold"]) if step["hold"] else "–",
                step["at"] if not it["rollback"] or step["at"] != "now" else "taken back from here",
            )
            for step in it["steps"]
        ],
    )
    yield from _table(
        ("Target", "Share now"),
        [(words.target(each), words.confirmed(each)) for each in it["targets"]],
    )
    rows = words.guard_rows(it)
    if rows:
        yield from _table(
            ("Guard", "Canary", "Stable", "Limit", "Verdict"),
            [
                (r.name, r.canary, r.stable, r.limit, words.VERDICTS.get(r.verdict, r.verdict))
                for r in rows
            ],
        )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(map(_safe, row))} |"
    yield ""


def _safe(text: str) -> str:
    """Return text that Markdown shows as it is: names and reasons come from elsewhere."""
    return clean(text).translate(_SPECIAL)
