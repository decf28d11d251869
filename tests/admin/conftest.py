from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from .browser import Desk, furnish, opened
from .house import House, Visitor


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def visitor(house: House) -> Visitor:
    return house.visitor()


@pytest.fixture
def desk(browser: Browser, house: House) -> Iterator[Desk]:
    with furnish(house).served() as address, opened(browser, house, address) as desk:
        yield desk
