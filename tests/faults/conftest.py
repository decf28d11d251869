from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .site import Site, a_site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with a_site(tmp_path) as made:
        yield made
