"""OFREP 0.3.0 as the protocol has it; its public clients are in tests/e2e."""

from __future__ import annotations

from typing import Any

import pytest

from flagserver.http.resource import ATTRIBUTES

from .api import Answer, Api, Caller

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
