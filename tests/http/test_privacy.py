"""A request id that is sent to the server leaves no trace: not in the log, the store, an answer."""

from __future__ import annotations

import base64
import logging

import fakeredis
import pytest

from .api import a_store, an_api

ID = "canary-7f3a-9e21"
FORMS = [
    ID.encode(),
    ID.encode().hex().encode(),
    base64.b64encode(ID.encode())[:-4],
    ID.encode("utf-16-le"),
]


def traces(octets: bytes) -> list[bytes]:
    return [form for form in FORMS if form in octets]


def dump(server: fakeredis.FakeServer) -> bytes:
    client = fakeredis.FakeRedis(server=server)
    return b"".join(bytes(key) + (client.dump(key) or b"") for key in client.scan_iter())


def test_an_id_that_is_sent_is_not_kept_told_or_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    server = fakeredis.FakeServer()
    api = an_api(a_store(server))
    api.flag("new-search", share=50)
    sdk = api.sdk()
    one, every = "/ofrep/v1/evaluate/flags/new-search", "/ofrep/v1/evaluate/flags"
    state = "/api/v1/flags/new-search/environments/production"
    context = {"targetingKey": ID}
    strange = context | {"service.name": ID * 50}

    answers = [
        sdk.post(one, {"context": context}),
        sdk.post(every, {"context": context}),
        sdk.post(one, {"context": strange}),
        sdk.post(one, {"context": {"targetingKey": ID + "@example.org"}}),
        sdk.post(one, {"context": {"targetingKey": ID * 100}}),
        sdk.post(one, {"context": [ID]}),
        sdk.post(one, raw=b'{"context": ' + ID.encode()),
        api.admin.post(f"{state}/eval", {"request_id": ID}),
        api.admin.post(f"{state}/eval", {"request_id": [ID]}),
        sdk.get("/api/v1/sdk/snapshot", traceparent=f"00-{ID}-01", X_Request_Id=ID),
    ]

    assert sorted({answer.status for answer in answers}) == [200, 400, 422]
    for answer in answers:
        assert traces(answer.response.get_data() + str(answer.headers).encode()) == []
    assert traces(caplog.text.encode()) == []
    assert traces("".join(capfd.readouterr()).encode()) == []
    assert traces(dump(server)) == []


def test_the_search_for_traces_finds_one() -> None:
    server = fakeredis.FakeServer()
    api = an_api(a_store(server))

    api.flag("new-search", description=f"seen {ID}")

    assert traces(dump(server)) == [ID.encode()]


def test_no_parameter_of_any_route_is_about_a_person() -> None:
    api = an_api()
    fields = {
        name
        for route in api.routes
        # Of people who work here, which is theirs to say; nobody who is served is among them.
        if route.model is not None and not route.path.startswith("/api/v1/people")
        for name in route.model.model_json_schema()["properties"]
    }

    assert fields & {"user", "user_id", "email", "name", "ip", "attributes", "country"} == set()
