"""The record's anchors in S3: objects that nobody can change or delete before their time.

    s3://<bucket>/<prefix>/<log>/<epoch>/<size, 20 digits>      the signed note

Each is put only where nothing stands (`If-None-Match: *`), and locked in compliance mode: until its
date not even the account's root can take it away. A delete marker hides an object and takes no
version away, so what counts here is the oldest version of each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from flagserver.aws import Aws, AwsError, AwsRefused
from flagserver.ports import AnchorsUnavailable, AnchorTaken, Clock

PLACE = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/(?P<prefix>[\w./-]*))?")
"""How a setting names where they are."""

DIGITS = 20
"""Of a size in a key."""

PAGE = 1000
"""Most versions of one answer of S3."""

PROBES = 64
"""Most looks for the newest; a look halves what is left, and a size has 64 bits."""


class S3Anchors:
    """`ports.Anchors` in a bucket with Object Lock."""

    def __init__(self, aws: Aws, clock: Clock, place: str, *, days: int) -> None:
        """place: `s3://bucket/prefix`.  days: how long each is locked. Raises ValueError for a
        place that is none; asks nobody."""
        found = PLACE.fullmatch(place)
        if found is None:
            raise ValueError(f"{place!r} is no place of the form s3://bucket/prefix")
        self._aws = aws
        self._clock = clock
        self._bucket = found["bucket"]
        prefix = (found["prefix"] or "").strip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._days = days

    def add(self, place: str, note: str) -> None:
        """Put a note, locked, unless something stands there; see `ports.Anchors`."""
        key = self._prefix + place
        try:
            self._put(key, note)
        except AwsRefused as error:
            if error.code != "PreconditionFailed":
                raise _unavailable(error) from None
            if self._first_version(key) != note:
                taken = f"Another checkpoint is anchored at s3://{self._bucket}/{key}."
                raise AnchorTaken(taken) from None
        except AwsError as error:
            raise _unavailable(error) from None

    def newest(self, log: str) -> str | None:
        """Return the newest note of a log, or None; see `ports.Anchors`."""
        for epoch in sorted(self._epochs(log), reverse=True):
            key = self._newest_key(f"{self._prefix}{log}/{epoch}/")
            if key is not None:
                return self._first_version(key)
        return None

    def _put(self, key: str, note: str) -> None:
        self._aws.write(
            "s3",
            "put_object",
            Bucket=self._bucket,
            Key=key,
            Body=note.encode(),
            ContentType="text/plain; charset=utf-8",
            # S3 asks for a checksum with every lock.
            ChecksumAlgorithm="SHA256",
            IfNoneMatch="*",
            ObjectLockMode="COMPLIANCE",
            ObjectLockRetainUntilDate=self._clock.now() + timedelta(days=self._days),
        )

    def _epochs(self, log: str) -> list[int]:
        above = f"{self._prefix}{log}/"
        found = self._list(above, Delimiter="/").get("CommonPrefixes") or []
        names = [each["Prefix"].removeprefix(above).rstrip("/") for each in found]
        return [int(name) for name in names if name.isascii() and name.isdigit()]

    def _newest_key(self, above: str) -> str | None:
        """Return the last key of an epoch, in few looks however many there are: keys are in the
        order of their sizes, so that it is enough to find a page that has an end."""
        low, high, newest = 0, 10**DIGITS, None
        for _ in range(PROBES):
            page = self._list(above, KeyMarker=f"{above}{low:0{DIGITS}d}" if low else "")
            keys = _keys(page, above)
            newest = keys[-1] if keys else newest
            if not page.get("IsTruncated"):
                return newest
            if not keys:
                raise AnchorsUnavailable(f"s3://{self._bucket}/{above} is full of other things.")
            low, high = self._further(above, int(keys[-1].removeprefix(above)), high)
        raise AnchorsUnavailable(f"s3://{self._bucket}/{above} does not end.")

    def _further(self, above: str, seen: int, high: int) -> tuple[int, int]:
        """Return a size at or after `seen` after which there still is something, as far on as one
        look tells, and one after which there is nothing."""
        ahead = min(2 * seen, (seen + high) // 2)
        page = self._list(above, KeyMarker=f"{above}{ahead:0{DIGITS}d}", MaxKeys=1)
        return (ahead, high) if _keys(page, above) else (seen, ahead)

    def _first_version(self, key: str) -> str:
        """Return the text of an object as it was first put."""
        found = self._list(key).get("Versions") or []
        versions = [each for each in found if each["Key"] == key]
        if not versions:
            raise AnchorsUnavailable(f"s3://{self._bucket}/{key} cannot be found again.")
        # S3 tells the newest first; its times are whole seconds.
        version = {"VersionId": versions[-1]["VersionId"]}
        try:
            answer = self._aws.read("s3", "get_object", Bucket=self._bucket, Key=key, **version)
            text: str = answer["Body"].read().decode()
        except AwsError as error:
            raise _unavailable(error) from None
        except (OSError, UnicodeDecodeError) as error:
            raise AnchorsUnavailable(
                f"s3://{self._bucket}/{key} cannot be read: {error}."
            ) from None
        return text

    def _list(self, prefix: str, **more: Any) -> Mapping[str, Any]:
        told = {"Bucket": self._bucket, "Prefix": prefix, "MaxKeys": PAGE, **more}
        told = {name: value for name, value in told.items() if value != ""}
        try:
            return self._aws.read("s3", "list_object_versions", **told)
        except AwsError as error:
            raise _unavailable(error) from None


def _keys(page: Mapping[str, Any], above: str) -> Sequence[str]:
    """Return the keys of anchors in an answer, in order; others that lie there are passed over."""
    found = {each["Key"] for each in page.get("Versions") or []}
    names = sorted(key for key in found if key.removeprefix(above).isdigit())
    return [key for key in names if len(key) == len(above) + DIGITS]


def _unavailable(error: AwsError) -> AnchorsUnavailable:
    return AnchorsUnavailable(f"The anchors cannot be reached: {error}")
