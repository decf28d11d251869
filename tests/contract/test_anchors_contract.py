"""Where checkpoints are kept outside: one is added once, and never changed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from examples.awsfake.scene import REGION
from flagserver.ports import Anchors, AnchorsUnavailable, AnchorTaken
from flagserver.services.sealing import Sealer, Unsealable
from flagserver.storage import anchors_s3
from flagserver.storage.anchors import DiskAnchors
from flagserver.storage.anchors_s3 import S3Anchors
from tests.anchors import FakeAnchors
from tests.awsfake.double import Double, double, environment_of
from tests.builders import FakeClock
from tests.unit.test_sealing import KEY, House

LOG = "flags.example/record"
DAYS = 400
names = itertools.count()


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    with double() as found, environment_of(found):
        yield found


class Bucket:
    """A bucket of its own, with Object Lock or without."""

    def __init__(self, aws: Double, *, lock: bool = True) -> None:
        self.aws, self.clock = aws, FakeClock()
        self.name = f"anchors-{next(names)}"
        self.s3 = aws.client("s3")
        place = {"LocationConstraint": REGION}
        told = {"CreateBucketConfiguration": place, "ObjectLockEnabledForBucket": lock}
        self.s3.create_bucket(Bucket=self.name, **told)

    def anchors(self, prefix: str = "/sortition") -> S3Anchors:
        return S3Anchors(self.aws.aws(), self.clock, f"s3://{self.name}{prefix}", days=DAYS)

    def versions(self) -> Any:
        return self.s3.list_object_versions(Bucket=self.name)


@pytest.fixture(params=["disk", "fake", "s3"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Anchors]:
    """Open the same anchors, as another process would."""
    if request.param == "s3":
        return Bucket(request.getfixturevalue("running")).anchors
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


# --- in S3 ----------------------------------------------------------------------------------------


@pytest.fixture
def bucket(running: Double) -> Iterator[Bucket]:
    yield Bucket(running)
    running.well()


@pytest.mark.parametrize("prefix", ["", "/", "/one", "/one/two/"])
def test_it_lies_under_its_prefix(bucket: Bucket, prefix: str):
    bucket.anchors(prefix).add(place(3), "three\n")

    (found,) = bucket.versions()["Versions"]
    assert found["Key"] == f"{prefix.strip('/')}/{place(3)}".lstrip("/")
    assert bucket.anchors(prefix).newest(LOG) == "three\n"


def test_nobody_can_take_it_away_before_its_time(bucket: Bucket):
    bucket.anchors().add(place(3), "three\n")
    (found,) = bucket.versions()["Versions"]
    what = {"Bucket": bucket.name, "Key": found["Key"], "VersionId": found["VersionId"]}

    kept = bucket.s3.head_object(**what)

    assert kept["ObjectLockMode"] == "COMPLIANCE"
    until = kept["ObjectLockRetainUntilDate"] - bucket.clock.now()
    assert abs(until - timedelta(days=DAYS)) < timedelta(seconds=1)
    with pytest.raises(ClientError, match="AccessDenied"):
        bucket.s3.delete_object(**what)
    with pytest.raises(ClientError, match="AccessDenied"):
        bucket.s3.delete_object(**what, BypassGovernanceRetention=True)


def test_what_was_hidden_or_written_over_counts_as_it_was_first_put(bucket: Bucket):
    """Whoever rules the bucket can put a delete marker, or another version, on top."""
    bucket.anchors().add(place(3), "three\n")
    bucket.anchors().add(place(9), "nine\n")
    key = f"sortition/{place(9)}"

    bucket.s3.delete_object(Bucket=bucket.name, Key=key)
    assert bucket.anchors().newest(LOG) == "nine\n"

    bucket.s3.put_object(Bucket=bucket.name, Key=key, Body=b"forged\n")
    assert bucket.anchors().newest(LOG) == "nine\n"


def test_a_bucket_without_object_lock_takes_nothing(running: Double):
    bucket = Bucket(running, lock=False)

    with pytest.raises(AnchorsUnavailable, match="InvalidRequest: Bucket is missing"):
        bucket.anchors().add(place(3), "three\n")
    assert "Versions" not in bucket.versions()


@pytest.mark.parametrize("count", [4, 5, 6, 40])
def test_the_newest_of_many_is_found_in_few_looks(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, count: int
):
    """A year has a hundred thousand, and an answer a thousand."""
    monkeypatch.setattr(anchors_s3, "PAGE", 5)
    for number in range(1, count + 1):
        key = f"sortition/{place(number * 7)}"
        bucket.s3.put_object(Bucket=bucket.name, Key=key, Body=b"%d" % number)
    bucket.aws.forget_calls()

    assert bucket.anchors().newest(LOG) == str(count)
    assert len(bucket.aws.calls("ListObjectVersions")) <= 16


def test_other_things_that_lie_there_are_passed_over(bucket: Bucket):
    bucket.anchors().add(place(3), "three\n")
    for key in (f"sortition/{LOG}/1/zzz", f"sortition/{LOG}/readme", f"sortition/{LOG}/x/1"):
        bucket.s3.put_object(Bucket=bucket.name, Key=key, Body=b"something else")

    assert bucket.anchors().newest(LOG) == "three\n"


@pytest.mark.parametrize("kind", ["fail", "deny", "cut"])
def test_an_answer_that_does_not_come_is_said(bucket: Bucket, kind: str):
    bucket.anchors().add(place(3), "three\n")
    bucket.aws.fault("PutObject", kind)
    with pytest.raises(AnchorsUnavailable, match="s3 put_object"):
        bucket.anchors().add(place(4), "four\n")

    bucket.aws.fault("ListObjectVersions", kind, times=9)
    with pytest.raises(AnchorsUnavailable, match="s3 list_object_versions"):
        bucket.anchors().newest(LOG)


def test_a_note_whose_answer_was_lost_is_there_all_the_same(bucket: Bucket):
    bucket.aws.fault("PutObject", "cut")
    with pytest.raises(AnchorsUnavailable):
        bucket.anchors().add(place(3), "three\n")

    bucket.anchors().add(place(3), "three\n")

    assert len(bucket.versions()["Versions"]) == 1
    assert bucket.anchors().newest(LOG) == "three\n"


def test_a_record_that_was_cut_is_not_signed_though_its_anchor_was_hidden(bucket: Bucket):
    """Whoever rules the store and the bucket hides the newest anchor behind a delete marker."""
    house = House()
    house.write(2)
    Sealer(house.store, KEY, bucket.anchors(), house.clock, house.entropy).seal()
    dump = house.dump()
    house.write(2)
    Sealer(house.store, KEY, bucket.anchors(), house.clock, house.entropy).seal()
    house.put_back(dump)
    bucket.s3.delete_object(Bucket=bucket.name, Key=f"sortition/{place(4)}")

    with pytest.raises(Unsealable, match="4 entries were signed, and 2 are here"):
        Sealer(house.store, KEY, bucket.anchors(), house.clock, house.entropy).seal()


@pytest.mark.parametrize("text", ["", "bucket", "s3://", "s3://A", "https://b.s3.amazonaws.com/x"])
def test_a_place_that_is_none_is_refused(running: Double, text: str):
    with pytest.raises(ValueError, match="s3://bucket/prefix"):
        S3Anchors(running.aws(), FakeClock(), text, days=1)
