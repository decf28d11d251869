"""The reference of the command says what the command is."""

from __future__ import annotations

from pathlib import Path

import pytest
from sortition.cli import reference

PAGES = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize(
    ("page", "made"),
    [("cli.md", reference.command_page), ("exit-codes.md", reference.exits_page)],
)
def test_the_page_is_current(page: str, made: object) -> None:
    assert callable(made)

    assert (PAGES / page).read_text() == made(), "python -m sortition.cli.reference docs/reference"
