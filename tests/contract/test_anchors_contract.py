"""Where checkpoints are kept outside: one is added once, and never changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flagserver.ports import Anchors, AnchorTaken
from flagserver.storage.anchors import DiskAnchors
from tests.anchors import FakeAnchors

LOG = "flags.example/record"


@pytest.fixture(params=["disk", "fake"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Anchors]:
    """Open the same anchors, as another process would."""
    fake = FakeAnchors()
    if request.param == "fake":
        return lambda: fake
    return lambda: DiskAnchors(tmp_path / "new" / "anchors")


@pytest.fixture
def anchors(opened: Callable[[], Anchors]) -> Anchors:
    return opened()


def place(size: int, epoch: int = 1, log: str = LOG) -> str:
    return f"{log}/{epoch}/{size:020d}"


def test_there_is_none_to_begin_with(anchors: Anchors):
    assert anchors.newest(LOG) is None


def test_what_was_added_is_there_for_every_process(anchors: Anchors, opened: Callable[[], Anchors]):
    anchors.add(place(3), "— drei\n")

    assert opened().newest(LOG) == "— drei\n"


def test_the_newest_is_of_the_highest_epoch_and_in_it_of_the_highest_size(anchors: Anchors):
    for size, epoch in [(9, 1), (100, 1), (20, 2), (3, 10), (2, 10)]:
        anchors.add(place(size, epoch), f"{epoch} {size}\n")

    assert anchors.newest(LOG) == "10 3\n"


def test_logs_are_apart(anchors: Anchors):
    anchors.add(place(3, log="flags.example/other"), "other\n")
    anchors.add(place(2), "ours\n")

    assert anchors.newest(LOG) == "ours\n"
    assert anchors.newest("flags.example") is None


def test_the_same_note_may_be_added_again(anchors: Anchors, opened: Callable[[], Anchors]):
    """Whoever got no answer asks again."""
    anchors.add(place(3), "three\n")
    opened().add(place(3), "three\n")

    assert anchors.newest(LOG) == "three\n"


def test_another_note_does_not_take_its_place(anchors: Anchors, opened: Callable[[], Anchors]):
    anchors.add(place(3), "three\n")

    with pytest.raises(AnchorTaken):
        opened().add(place(3), "forged\n")
    assert anchors.newest(LOG) == "three\n"
