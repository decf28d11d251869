"""One guard for every body: whatever comes, the answer is a 4xx that says where the fault is."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagserver.bootstrap import Outside
from flagserver.http import body
from flagserver.http.errors import Problem
from flagserver.http.routing import PUBLIC
from tests.fakes import FakeSignalSource, FakeTargetDriver
from tests.gates import DEPLOYMENT, FakeGates, an_asking

from . import routes
from .api import Api, an_api

FLAGS = "/api/v1/flags"
DEEP = b"[" * 5000
BOMBS = {
    "deep arrays": DEEP,
    "deep arrays, closed": DEEP + b"]" * 5000,
    "deep objects": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "deep below a name": b'{"key":' + DEEP + b"]" * 5000 + b"}",
    "64 KB of brackets": b"[" * body.LIMIT,
    "64 KB of quotes": b'"' * body.LIMIT,
    "64 KB of escapes": b'{"key":"' + b"\\" * (body.LIMIT - 8),
    "64 KB of digits": b'{"key":' + b"9" * (body.LIMIT - 8) + b"}",
    "64 KB of zeros": b"[" + b"0," * (body.LIMIT // 2 - 2) + b"0]",
    "64 KB of one name": b'{"a":1' + b',"a":1' * (body.LIMIT // 6 - 3) + b"}",
    "nothing but a brace": b"{",
    "zeros": b"\0" * 1000,
}


@pytest.fixture(scope="module")
def shared() -> Api:
    # What lies outside answers, so that what a body leads to there is reached too.
    gates = FakeGates({DEPLOYMENT: an_asking()})
    outside = Outside({"alb": FakeTargetDriver()}, {"cloudwatch": FakeSignalSource()}, gates)
    api = an_api(outside=outside)
    api.flag("new-search", share=5)
    return api


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_no_bomb_hurts_any_route(shared: Api, bomb: bytes) -> None:
    for route in shared.routes:
        caller, start = routes.let_in(shared, route), time.monotonic()

        answer = caller.send(route.method, routes.path(route), raw=bomb, **routes.headers(route))

        assert answer.status == 400, f"{route.endpoint}: {answer.text}"
        assert answer.code == "malformed_body"
        assert time.monotonic() - start < 1
    assert shared.nobody.get("/healthz").status == 200


MALFORMED: dict[str, tuple[bytes, str | None]] = {
    "a name twice": (b'{"key":"a","key":"b"}', "/key"),
    "a name twice, below": (b'{"variants":{"on":{"x":1,"x":2}}}', "/variants/on/x"),
    "NaN": (b'{"share":NaN}', "/share"),
    "infinity": (b'{"a":[1,-Infinity]}', "/a/1"),
    "a float beyond floats": (b'{"share":1e999}', "/share"),
    "an integer beyond integers": (b'{"a":{"b/c~":9007199254740993}}', "/a/b~1c~0"),
    "half a surrogate": (b'{"owner":"\\ud800"}', "/owner"),
    "half a surrogate as name": (b'{"a":{"\\udfff":1}}', "/a"),
    "a byte order mark": (b'\xef\xbb\xbf{"key":"a"}', None),
    "UTF-16": ('{"key":"a"}'.encode("utf-16"), None),
    "not UTF-8": (b'{"key":"\xff"}', None),
    "a raw surrogate": (b'{"key":"\xed\xa0\x80"}', None),
    "an array": (b"[]", ""),
    "a string": (b'"text"', ""),
    "null": (b"null", ""),
    "a comment": (b'{"key":"a"} // no', None),
    "a trailing comma": (b'{"key":"a",}', None),
    "a control character": (b'{"key":"\x01"}', None),
    "single quotes": (b"{'key':'a'}", None),
    "white space": (b"  ", None),
}


@pytest.mark.parametrize(("raw", "field"), MALFORMED.values(), ids=MALFORMED)
def test_what_is_not_exact_json_is_malformed(shared: Api, raw: bytes, field: str | None) -> None:
    answer = shared.admin.post(FLAGS, raw=raw)

    assert (answer.status, answer.code, answer.field) == (400, "malformed_body", field)


INVALID: list[tuple[Any, str, str]] = [
    ({}, "/key", "invalid_field"),
    ({"key": 7}, "/key", "invalid_field"),
    ({"key": None}, "/key", "invalid_field"),
    ({"key": "New"}, "/key", "invalid_field"),
    ({"key": "a\n"}, "/key", "invalid_field"),
    ({"key": "a", "color": "red"}, "/color", "unknown_field"),
    ({"key": "a", "a/b~": 1}, "/a~1b~0", "unknown_field"),
    ({"key": "a", "kind": "other"}, "/kind", "invalid_field"),
    ({"key": "a", "variants": []}, "/variants", "invalid_field"),
    ({"key": "a", "variants": {"On": 1}, "rest": "on"}, "/variants/On", "invalid_field"),
    ({"key": "a", "rest": "none"}, "/rest", "invalid_field"),
    ({"key": "a", "description": "x" * 501}, "/description", "invalid_field"),
    ({"key": "a", "reason": "ask ann@example.org"}, "/reason", "invalid_field"),
]


@pytest.mark.parametrize(("value", "field", "code"), INVALID, ids=str)
def test_a_field_that_cannot_be_used_is_named(
    shared: Api, value: Any, field: str, code: str
) -> None:
    answer = shared.admin.post(FLAGS, value)

    assert (answer.status, answer.code, answer.field) == (422, code, field)
    assert answer.json["errors"][0]["field"] == field


def test_every_fault_is_told_at_once(shared: Api) -> None:
    answer = shared.admin.post(FLAGS, {"key": "A", "kind": "x", "color": 1})

    assert [each["field"] for each in answer.json["errors"]] == ["/key", "/kind", "/color"]


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json-patch+json",
        "",
    ],
)
def test_only_json_is_json(shared: Api, kind: str) -> None:
    answer = shared.admin.post(FLAGS, raw=b'{"key":"a"}', Content_Type=kind)

    assert (answer.status, answer.code) == (415, "unsupported_media_type")


def test_a_packed_body_is_not_unpacked(shared: Api) -> None:
    answer = shared.admin.post(FLAGS, raw=b'{"key":"a"}', Content_Encoding="gzip")

    assert (answer.status, answer.code) == (415, "unsupported_media_type")


def test_a_body_has_a_size(shared: Api) -> None:
    fits = json.dumps({"key": "A", "x": "x" * (body.LIMIT - 30)}).encode()
    assert len(fits) <= body.LIMIT

    assert shared.admin.post(FLAGS, raw=fits).status == 422
    over = shared.admin.post(FLAGS, raw=fits + b" " * 100)
    large = shared.sdk().post("/api/v1/sdk/outcomes", raw=fits + b" " * 100)
    larger = shared.sdk().post("/api/v1/sdk/outcomes", raw=b" " * (1024 * 1024 + 1))

    assert (over.status, over.code) == (413, "body_too_large")
    assert (large.status, larger.status) == (422, 413)


def test_a_route_without_a_body_takes_none(shared: Api) -> None:
    answer = shared.admin.send("GET", FLAGS, raw=b"{}")

    assert (answer.status, answer.code) == (400, "malformed_body")


def test_a_body_is_not_read_before_it_is_known_who_sends_it(shared: Api) -> None:
    for route in shared.routes:
        if route.action == PUBLIC:
            continue
        answer = shared.nobody.send(route.method, routes.path(route), raw=DEEP)
        assert answer.status == 401, route.endpoint


# Hypothesis: whatever the octets, a Problem of 4xx or a value that Python reads the same.

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(json_values)
def test_what_is_json_is_read_as_it_is(value: Any) -> None:
    read = body.parse(json.dumps(value).encode())

    assert read == value
    assert json.dumps(read) == json.dumps(value)


@given(st.binary() | st.text('[]{}",:\\u0123456789eE+-.dDfF nulltrueNaI').map(str.encode))
def test_anything_else_is_a_problem(raw: bytes) -> None:
    try:
        value = body.parse(raw)
    except Problem as refused:
        problem = refused
    else:
        assert value == json.loads(raw)
        json.dumps(value, allow_nan=False).encode()
        return
    assert (problem.status, problem.code) == (400, "malformed_body")
    json.dumps(problem.detail)


near_values = json_values | st.sampled_from(
    [
        *(0, -1, 100, 100.00001, 1e308, 5e-324, -0.0, 2**53 - 1, math.pi, True, ""),
        *("production", "on", "new-search", "a" * 501, "\0", "\n", "\x1b[31m", "\u202e", "😀"),
        *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2027-01-31T00:00:00Z"),
        *(1e17, -62135596801, 253402300800, "1763880000", "P1D"),
        *([], {}, [[]], [{}], {"": {}}, {"on": 1, "off": 2}, {"on": {}, "off": [None]}),
        [{"variant": "on", "weight": 100}],
        [{"attribute": "a", "operator": "version_below", "values": ["9" * 400]}],
        [{"flag": "new-search", "variant": "on"}],
        [{"at": 1, "seconds": 1, "service": {"requests": 1, "failures": 0}}],
    ]
)


@given(st.data())
def test_no_route_answers_a_body_with_5xx(shared: Api, data: st.DataObject) -> None:
    route = data.draw(st.sampled_from([r for r in shared.routes if r.model is not None]))
    known = [*(route.model.model_fields if route.model else ()), "service.name", "context"]
    sample = st.just(routes.body(route) or {})
    noise = st.dictionaries(st.sampled_from(known) | st.text(max_size=5), near_values, max_size=4)
    content = data.draw(st.tuples(sample, noise).map(lambda two: two[0] | two[1]))

    caller = routes.let_in(shared, route)
    answer = caller.send(
        route.method,
        routes.path(route, key="new-search", id="0000000000ff"),
        raw=json.dumps(content).encode(),
        **routes.headers(route),
    )

    assert answer.status < 500, f"{route.endpoint} {content}: {answer.text}"
