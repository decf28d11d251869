"""OFREP 0.3.0 as the protocol has it; its public clients are in tests/e2e."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from flagserver.domain import tokens
from flagserver.http.resource import ATTRIBUTES
from flagserver.settings import Settings

from .api import Answer, Api, Caller, an_api

ALL = "/ofrep/v1/evaluate/flags"


def evaluate(caller: Caller, key: str, context: Any = None, **headers: str) -> Answer:
    body = {"context": {"targetingKey": "abc"} if context is None else context}
    return caller.post(f"{ALL}/{key}", body, **headers)


def test_an_evaluation_says_value_variant_reason_and_revision(api: Api) -> None:
    api.flag("new-search", share=100)

    answer = evaluate(api.sdk(), "new-search")

    assert answer.status == 200
    assert answer.json == {
        "key": "new-search",
        "value": True,
        "variant": "on",
        "reason": "STATIC",
        "metadata": {"flagSetId": "production", "version": "1", "revision": 1},
    }


def test_the_reason_is_one_that_ofrep_knows(api: Api) -> None:
    api.flag("drawn", share=50)
    api.flag("nobody")
    api.flag("killed", share=50)
    api.admin.post("/api/v1/flags/killed/environments/production/kill")
    sdk = api.sdk()

    reasons = {key: evaluate(sdk, key).json["reason"] for key in ("drawn", "nobody", "killed")}

    assert reasons == {"drawn": "SPLIT", "nobody": "STATIC", "killed": "DISABLED"}


def test_values_keep_the_form_in_which_they_were_created(api: Api) -> None:
    for key, text in [("float", "1.0"), ("integer", "1"), ("object", '{"a":[1,2.0]}')]:
        body = f'{{"key":"{key}","variants":{{"a":{text}}},"rest":"a"}}'
        assert api.admin.post("/api/v1/flags", raw=body.encode()).status == 201

    sdk = api.sdk()

    assert '"value":1.0' in evaluate(sdk, "float").text
    assert '"value":1,' in evaluate(sdk, "integer").text
    assert '"value":{"a":[1,2.0]}' in evaluate(sdk, "object").text


def test_an_unknown_flag_is_named(api: Api) -> None:
    answer = evaluate(api.sdk(), "none")

    assert (answer.status, answer.code) == (404, "flag_not_found")
    assert (answer.json["key"], answer.json["errorCode"]) == ("none", "FLAG_NOT_FOUND")
    assert answer.json["errorDetails"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"context": None},
        {"context": {}},
        {"context": {"targetingKey": ""}},
        {"context": {"targetingKey": 7}},
        {"context": {"targetingKey": None}},
    ],
    ids=str,
)
def test_without_a_targeting_key_nothing_is_drawn(api: Api, body: Any) -> None:
    api.flag("new-search", share=50)
    sdk = api.sdk()

    for path in (ALL, f"{ALL}/new-search"):
        answer = sdk.post(path, body)
        assert (answer.status, answer.json["errorCode"]) == (400, "TARGETING_KEY_MISSING")
        assert answer.json["errorDetails"]


@pytest.mark.parametrize(
    ("context", "field"),
    [
        ({"email": "canary-7f3a"}, "/context/email"),
        ({"user.id": "canary-7f3a"}, "/context/user.id"),
        ({"service.customer": "canary-7f3a"}, "/context/service.customer"),
        ({"process.owner": "canary-7f3a"}, "/context/process.owner"),
        ({"host.ip": "198.51.100.77"}, "/context/host.ip"),
        ({"a/b": "canary-7f3a"}, "/context/a~1b"),
        ({"": "canary-7f3a"}, "/context/"),
        ({"service.name": 7}, "/context/service.name"),
        ({"service.name": ["canary-7f3a"]}, "/context/service.name"),
        ({"service.name": "canary-7f3a" * 50}, "/context/service.name"),
        ({"service.name": "canary-7f3a@example.org"}, "/context/service.name"),
        ({"targetingKey": "canary-7f3a@example.org"}, "/context/targetingKey"),
        ({"targetingKey": "canary-7f3a +49 151 23456789"}, "/context/targetingKey"),
        ({"targetingKey": "canary-7f3a" * 100}, "/context/targetingKey"),
    ],
    ids=str,
)
def test_a_context_holds_where_code_runs_and_nothing_about_a_person(
    api: Api, context: dict[str, Any], field: str
) -> None:
    api.flag("new-search", share=50)
    sdk = api.sdk()

    for path in (ALL, f"{ALL}/new-search"):
        answer = sdk.post(path, {"context": {"targetingKey": "abc"} | context})

        assert (answer.status, answer.code) == (400, "invalid_context")
        assert (answer.json["errorCode"], answer.field) == ("INVALID_CONTEXT", field)
        assert "canary" not in answer.text
        assert "198.51" not in answer.text


def test_bare_digits_are_an_id(api: Api) -> None:
    api.flag("new-search", share=50)

    assert evaluate(api.sdk(), "new-search", {"targetingKey": "4915123456789"}).status == 200


def test_conditions_are_settled_by_the_resource_that_is_sent(api: Api) -> None:
    api.flag("new-search", share=100)
    condition = {"attribute": "service.version", "operator": "version_at_least", "values": ["2"]}
    path = "/api/v1/flags/new-search/environments/production"
    why = {"reason": "x", "confirm_environment": "production"}
    api.admin.patch(path, why | {"conditions": [condition]}, revision=1)
    sdk = api.sdk()

    def value(version: str) -> bool:
        context = {"targetingKey": "abc", "service.version": version}
        return bool(evaluate(sdk, "new-search", context).json["value"])

    assert (value("1.9"), value("2.1")) == (False, True)


def test_the_attributes_are_names_of_opentelemetry() -> None:
    assert {"service.name", "service.version", "service.instance.id"} <= ATTRIBUTES
    assert {"deployment.environment.name", "cloud.region"} <= ATTRIBUTES
    personal = {"user", "owner", "ip", "mac", "client", "session", "command_line", "device"}
    assert [name for name in ATTRIBUTES if personal & {*name.split(".")}] == []


def test_all_flags_come_with_a_tag_and_are_not_sent_twice(api: Api) -> None:
    api.flag("new-search", share=50)
    api.flag("other", share=100)
    sdk = api.sdk()
    body = {"context": {"targetingKey": "abc"}}

    first = sdk.post(ALL, body)
    again = sdk.post(ALL, body, If_None_Match=first.headers["ETag"])
    weak = sdk.post(ALL, body, If_None_Match="W/" + first.headers["ETag"])
    refetch = sdk.post(f"{ALL}?flagConfigEtag=x&flagConfigLastModified=1", body)

    assert [flag["key"] for flag in first.json["flags"]] == ["new-search", "other"]
    assert first.json["flags"][0] == evaluate(sdk, "new-search").json
    assert (again.status, again.text, weak.status) == (304, "", 304)
    assert again.headers["ETag"] == first.headers["ETag"]
    assert refetch.json == first.json


def test_the_tag_depends_on_the_context_and_on_the_flags(api: Api) -> None:
    api.flag("new-search", share=50)
    sdk = api.sdk()

    def fetch(id: str, tag: str = "") -> Answer:
        return sdk.post(ALL, {"context": {"targetingKey": id}}, If_None_Match=tag)

    by_value = {fetch(f"id-{n}").json["flags"][0]["value"]: f"id-{n}" for n in range(20)}
    on, off = by_value[True], by_value[False]
    tag = fetch(on).headers["ETag"]

    assert fetch(off, tag).status == 200
    api.share("new-search", 60)
    assert fetch(on, tag).status == 200


def test_a_broken_request_is_told_in_ofreps_words(api: Api) -> None:
    api.flag("new-search", share=50)
    sdk = api.sdk()

    for raw, code in [(b"{", "malformed_body"), (b'{"context":[]}', "invalid_field")]:
        answer = sdk.post(f"{ALL}/new-search", raw=raw)
        assert (answer.status, answer.code, answer.json["key"]) == (400, code, "new-search")
        assert answer.json["errorCode"] == "PARSE_ERROR"
    assert sdk.post(f"{ALL}/a%20b", {"context": {}}).json["errorCode"] == "FLAG_NOT_FOUND"
    assert sdk.post(f"{ALL}/a/b", {"context": {}}).status == 404


def test_unknown_members_are_ignored(api: Api) -> None:
    api.flag("new-search", share=50)
    body = {"context": {"targetingKey": "abc"}, "more": 1}

    assert api.sdk().post(f"{ALL}/new-search", body).status == 200


# The stream of events, and web pages

SHOP, OTHER = "https://shop.example", "https://other.example"


@pytest.fixture
def open_api() -> Api:
    """An API that pages of a shop may ask."""
    return an_api(settings=Settings(ofrep_origins=(SHOP,)))


def evaluate_all(caller: Caller, **headers: str) -> Answer:
    return caller.post(ALL, {"context": {"targetingKey": "abc"}}, **headers)


def stream_of(answer: Answer) -> str:
    """Return the address that an answer names."""
    (stream,) = answer.json["eventStreams"]
    assert (stream["type"], stream["inactivityDelaySec"]) == ("sse", 120)
    return str(stream["endpoint"]["requestUri"])


class Events:
    """Reads a stream of events as a browser does."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()

    def next(self) -> tuple[dict[str, Any], str]:
        """Return data and id of the next event. Raises EOFError."""
        fields: dict[str, str] = {}
        for line in self._lines:
            if line == "" and "data" in fields:
                assert fields["event"] == "message"
                return json.loads(fields["data"]), fields["id"]
            name, _, text = line.partition(": ")
            fields[name] = text
        raise EOFError


@contextmanager
def hearing(address: str, **headers: str) -> Iterator[Events]:
    sent = {name.replace("_", "-"): text for name, text in headers.items()}
    with httpx.stream("GET", address, headers=sent, timeout=10) as response:
        assert response.status_code == 200, response.read()
        yield Events(response)


def test_an_event_tells_to_ask_again_and_nothing_of_flags(open_api: Api) -> None:
    open_api.flag("new-search", share=5)
    sdk = open_api.sdk()
    path = stream_of(evaluate_all(sdk, Origin=SHOP))
    with open_api.served() as address, hearing(address + path, Origin=SHOP) as events:
        open_api.reachable = False
        first, _ = events.next()
        open_api.share("new-search", 30)
        told, id = events.next()
        headers = events.response.headers

    etag = open_api.services.snapshots.view("production").etag
    assert first["type"] == "refetchEvaluation", (
        "what changed since the answer is asked for at once"
    )
    assert told == {"type": "refetchEvaluation", "etag": etag}
    assert f'"{id}"' == etag
    assert headers["Content-Type"] == "text/event-stream"
    assert headers["Access-Control-Allow-Origin"] == SHOP
    assert "Access-Control-Allow-Credentials" not in headers


def test_who_comes_back_and_missed_nothing_need_not_ask(open_api: Api) -> None:
    open_api.flag("new-search", share=5)
    path = stream_of(evaluate_all(open_api.sdk(), Origin=SHOP))
    with open_api.served() as address:
        with hearing(address + path, Origin=SHOP) as events:
            _, id = events.next()
        with hearing(address + path, Origin=SHOP, Last_Event_ID=id) as events:
            open_api.reachable = False
            open_api.share("new-search", 30)
            _, after = events.next()

    assert int(after.rpartition(".")[2]) == int(id.rpartition(".")[2]) + 1


def test_each_stream_comes_back_at_a_time_of_its_own(open_api: Api) -> None:
    path = stream_of(evaluate_all(open_api.sdk(), Origin=SHOP))

    begun = {open_api.nobody.get(path, Origin=SHOP).text.split("\n")[0] for _ in range(10)}

    assert len(begun) > 3
    assert all(2000 <= int(line.removeprefix("retry: ")) <= 10_000 for line in begun)


def test_an_address_stays_the_same_for_a_while_and_then_ends(open_api: Api) -> None:
    sdk = open_api.sdk()
    first = evaluate_all(sdk, Origin=SHOP)
    tag, path = first.headers["ETag"], stream_of(first)
    open_api.flag("another")

    assert stream_of(evaluate_all(sdk, Origin=SHOP)) == path, "a change does not move the stream"
    open_api.clock.turn(tokens.TICKET_SECONDS)
    assert open_api.nobody.get(path, Origin=SHOP).status == 200
    renewed = evaluate_all(sdk, Origin=SHOP, If_None_Match=tag)
    assert (renewed.status, stream_of(renewed) == path) == (200, False)
    open_api.clock.turn(tokens.TICKET_SECONDS)
    ended = open_api.nobody.get(path, Origin=SHOP)
    assert (ended.status, ended.code, ended.json["errorCode"]) == (
        401,
        "unauthenticated",
        "GENERAL",
    )


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda ticket: "",
        lambda ticket: ticket + "0",
        lambda ticket: ticket.replace(".", ".1", 1),
        lambda ticket: "ffffffffffff" + ticket[12:],
        lambda ticket: ticket[:-1] + ("0" if ticket[-1] != "0" else "1"),
        lambda ticket: ticket.upper(),
        lambda ticket: "srt_sdk_" + ticket,
    ],
)
def test_a_ticket_is_right_or_wrong(open_api: Api, spoilt: Callable[[str], str]) -> None:
    path, _, ticket = stream_of(evaluate_all(open_api.sdk(), Origin=SHOP)).partition("?ticket=")

    answer = open_api.nobody.get(f"{path}?ticket={spoilt(ticket)}", Origin=SHOP)

    assert (answer.status, answer.code) == (401, "unauthenticated")
    assert ticket not in answer.text


def test_a_ticket_opens_nothing_else_and_no_token_opens_the_stream(open_api: Api) -> None:
    sdk = open_api.sdk()
    path, _, ticket = stream_of(evaluate_all(sdk, Origin=SHOP)).partition("?ticket=")

    for headers in ({"Authorization": f"Bearer {ticket}"}, {"X-API-Key": ticket}):
        sent = {name.replace("-", "_"): text for name, text in headers.items()}
        assert open_api.nobody.get("/api/v1/sdk/snapshot", **sent).status == 401
        assert open_api.nobody.get(f"/api/v1/sdk/stream?ticket={ticket}", **sent).status == 401
    assert sdk.get(path).status == 401
    assert sdk.get(f"{path}?ticket={sdk.token}").status == 401


def test_a_ticket_is_for_the_origin_that_it_was_given_to(open_api: Api) -> None:
    sdk = open_api.sdk()
    page, program = (stream_of(evaluate_all(sdk, **of)) for of in ({"Origin": SHOP}, {}))

    assert open_api.nobody.get(page, Origin=OTHER).status == 401
    assert open_api.nobody.get(program, Origin=SHOP).status == 401
    assert open_api.nobody.get(program).status == 200
    assert open_api.nobody.get(page).status == 200, (
        "a page that is served by this origin sends none"
    )


def test_a_stream_ends_with_the_token_that_its_ticket_is_of(open_api: Api) -> None:
    sdk = open_api.sdk()
    assert sdk.token is not None
    path = stream_of(evaluate_all(sdk, Origin=SHOP))
    with open_api.served() as address, hearing(address + path, Origin=SHOP) as events:
        open_api.reachable = False
        events.next()
        open_api.admin.delete(f"/api/v1/tokens/{sdk.token.split('_')[2]}")
        with pytest.raises(EOFError):
            events.next()
        refused = httpx.get(address + path, headers={"Origin": SHOP})

    assert refused.status_code == 401


def test_a_page_may_ask_if_its_origin_is_on_the_list(open_api: Api) -> None:
    sdk = open_api.sdk()

    ours = open_api.nobody.send("OPTIONS", ALL, Origin=SHOP)
    theirs = open_api.nobody.send("OPTIONS", f"{ALL}/new-search", Origin=OTHER)
    answer, other = evaluate_all(sdk, Origin=SHOP), evaluate_all(sdk, Origin=OTHER)
    refused = evaluate_all(open_api.nobody, Origin=SHOP)

    assert (ours.status, ours.headers["Access-Control-Allow-Origin"]) == (204, SHOP)
    assert ours.headers["Access-Control-Allow-Methods"] == "POST"
    assert "Authorization" in ours.headers["Access-Control-Allow-Headers"]
    assert answer.headers["Access-Control-Allow-Origin"] == SHOP
    assert "ETag" in answer.headers["Access-Control-Expose-Headers"]
    assert (refused.status, refused.headers["Access-Control-Allow-Origin"]) == (401, SHOP)
    for each in (theirs, other):
        assert [name for name in dict(each.headers) if name.startswith("Access-Control")] == []
    assert "eventStreams" not in other.json
    for each in (ours, theirs, answer, other):
        assert "Origin" in each.headers["Vary"]
        assert "Access-Control-Allow-Credentials" not in each.headers


def test_without_a_list_no_page_may_ask(api: Api) -> None:
    assert api.nobody.send("OPTIONS", ALL, Origin=SHOP).status == 405
    answer = evaluate_all(api.sdk(), Origin=SHOP)
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_the_rest_of_the_api_is_for_no_page(open_api: Api) -> None:
    answer = open_api.admin.get("/api/v1/flags", Origin=SHOP)

    assert "Access-Control-Allow-Origin" not in answer.headers


def test_an_answer_waits_for_the_version_that_an_event_named(api: Api) -> None:
    api.flag("new-search", share=0)
    sdk = api.sdk()
    held = api.services.snapshots.view("production").snapshot.version
    coming = f'"{held.store}.{held.epoch}.{held.version + 1}"'
    api.reachable = False
    api.share("new-search", 100)
    later = threading.Timer(0.1, api.services.snapshots.step, [0])
    later.start()

    answer = sdk.post(f"{ALL}?flagConfigEtag={coming}", {"context": {"targetingKey": "abc"}})
    later.join()

    assert answer.json["flags"][0]["value"] is True


def test_a_version_that_does_not_come_is_not_waited_for_long(api: Api) -> None:
    store = api.services.snapshots.view("production").snapshot.version.store
    start = time.monotonic()

    for etag in ("x", '"0.9.9"', "a.b.c", f'"{store}.9.9"'):
        answer = api.sdk().post(
            f"{ALL}?flagConfigEtag={etag}", {"context": {"targetingKey": "abc"}}
        )
        assert answer.status == 200

    assert time.monotonic() - start < 2
