"""S3: moto's, with versions listed from any key on. Object Lock and If-None-Match it has."""

from __future__ import annotations

from typing import Any

from moto.s3.models import FakeDeleteMarker, FakeKey, S3Backend, s3_backends

_list = S3Backend.list_object_versions


def operation(method: str, path: str, query: str) -> str:
    """Return what a request asks for: S3 says it by method and path, not by a name."""
    key = path.strip("/").partition("/")[2]
    if not key:
        return "ListObjectVersions" if "versions" in query else "Bucket"
    return {"PUT": "PutObject", "GET": "GetObject"}.get(method, method)


def forget() -> None:
    """Let there be no bucket."""
    for regions in s3_backends.values():
        for backend in regions.values():
            backend.reset()


def install() -> None:
    """Make moto's S3 ours."""
    S3Backend.list_object_versions = _list_after  # type: ignore[method-assign]


def _list_after(
    self: S3Backend,
    bucket_name: str,
    delimiter: str | None = None,
    key_marker: str | None = None,
    max_keys: int | None = 1000,
    prefix: str = "",
    version_id_marker: str | None = None,
) -> Any:
    """List what comes after a key, whether or not there is such a key: moto leaves out the first
    after one that is not there."""
    if key_marker is None or version_id_marker or delimiter:
        told = (delimiter, key_marker, max_keys, prefix, version_id_marker)
        return _list(self, bucket_name, *told)
    keys, _, markers, _, _ = _list(self, bucket_name, None, None, None, prefix)
    found: list[FakeKey | FakeDeleteMarker] = [*keys, *markers]
    after = sorted((it for it in found if it.name > key_marker), key=lambda it: it.name)
    page = after[:max_keys]
    more = (page[-1].name, page[-1].version_id) if page and len(after) > len(page) else (None, None)
    shown = [each for each in page if isinstance(each, FakeKey)]
    hidden = [each for each in page if not isinstance(each, FakeKey)]
    return (shown, [], hidden, *more)
