from __future__ import annotations

import pytest

from .api import Api, an_api


@pytest.fixture
def api() -> Api:
    return an_api()
