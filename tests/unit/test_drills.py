"""Who was told, by the places in the outbox."""

from __future__ import annotations

import pytest

from flagserver.domain.drills import told
from flagserver.domain.notices import Notice, Severity

NOTICE = Notice("1", "rollout:hold", Severity.INFO, "now", None, None, "rollout/r-1", "Held.")


@pytest.mark.parametrize(
    ("place", "is_told"),
    [
        ("1700000000000-1", True),
        ("1700000000000-10", True),
        ("1700000000001-0", True),
        ("1700000000000-0", False),
        ("999999999999-9", False),
        ("1700000000000", False),
    ],
)
def test_whoever_has_delivered_up_to_it_has_told(place: str, is_told: bool) -> None:
    (found,) = told([("1700000000000-1", NOTICE)], {"pager": place})
    assert found.notifiers == (("pager",) if is_told else ())


def test_notifiers_are_told_in_order_of_their_names() -> None:
    (found,) = told([("1-1", NOTICE)], {"slack": "2-0", "log": "2-0", "late": "0-0"})
    assert found.notifiers == ("log", "slack")
