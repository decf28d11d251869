"""Who asks too often is told so, and when to come back; nobody else notices."""

from __future__ import annotations

from dataclasses import replace

import fakeredis
import httpx
import pytest

from flagserver.bootstrap import build_services
from flagserver.domain.rates import BURST_SECONDS, Rates
from flagserver.domain.tokens import Token
from flagserver.http.ofrep import PURPOSE
from flagserver.services.rates import JITTER_SECONDS
from flagserver.settings import Settings

from .api import Answer, Api, Caller, a_store, an_api

SNAPSHOT = "/api/v1/sdk/snapshot"
STREAM = "/api/v1/sdk/stream"
SHOP = "https://shop.example"
LIMITED = Settings(rates=Rates(sdk=2, deploy=2, admin=100, address=2))
"""Bursts of twenty."""


@pytest.fixture
def limited() -> Api:
    return an_api(settings=LIMITED)


def refuse() -> None:
    raise AssertionError("somebody was taken for a stranger")


def questions(api: Api, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the ids of the tokens that the store is asked for from now on, as they come."""
    asked: list[str] = []
    read = api.services.tokens._read

    def noted(id: str) -> Token | None:
        asked.append(id)
        return read(id)

    monkeypatch.setattr(api.services.tokens, "_read", noted)
    return asked


def ask_until_refused(caller: Caller, path: str, most: int = 100) -> Answer:
    """Ask so often that it is refused; return the refusal."""
    for _ in range(most):
        answer = caller.get(path)
        answer.response.close()
        if answer.status == 429:
            return answer
    raise AssertionError(f"{most} requests were let in")


@pytest.mark.parametrize(
    ("scope", "path"),
    [("sdk", SNAPSHOT), ("sdk", "/api/v1/status"), ("deploy", "/api/v1/flags")],
)
def test_a_token_that_asks_too_often_is_told_when_to_come_back(
    limited: Api, scope: str, path: str
) -> None:
    caller, other = limited.caller(scope, "production"), limited.caller(scope, "production")

    refused = ask_until_refused(caller, path)
    also = other.get(path)
    limited.clock.turn(int(refused.headers["Retry-After"]))
    again = caller.get(path)

    assert refused.code == "too_many"
    assert 1 <= int(refused.headers["Retry-After"]) <= 1 + JITTER_SECONDS
    assert (also.status, again.status) == (200, 200)


def test_a_scope_has_its_own_rate(limited: Api) -> None:
    ask_until_refused(limited.deploy(), "/api/v1/flags")

    for _ in range(int(2 * BURST_SECONDS) + 5):
        assert limited.admin.get("/api/v1/flags").status == 200


def test_what_a_refused_request_was_to_do_is_not_done(limited: Api) -> None:
    limited.flag("new-search", share=20)
    deploy = limited.deploy()
    ask_until_refused(deploy, "/api/v1/flags")

    killed = deploy.post("/api/v1/flags/new-search/environments/production/kill")

    state = limited.admin.get("/api/v1/flags/new-search/environments/production").json
    assert killed.status == 429
    assert state["killed"] is False


class TestWithoutAGoodToken:
    def test_an_address_is_refused_and_those_with_good_tokens_there_are_not(
        self, limited: Api
    ) -> None:
        sdk = limited.sdk()

        refused = ask_until_refused(limited.nobody, SNAPSHOT)

        assert refused.code == "too_many"
        assert sdk.get(SNAPSHOT).status == 200
        assert limited.admin.get("/api/v1/flags").status == 200

    def test_another_address_is_not(self, limited: Api) -> None:
        ask_until_refused(limited.nobody, "/api/v1/flags")

        answer = limited.client.get("/api/v1/flags", environ_overrides={"REMOTE_ADDR": "192.0.2.1"})

        assert answer.status_code == 401

    def test_while_no_tokens_are_known_yet_nobody_is_a_stranger(self, limited: Api) -> None:
        """A server that starts knows none: its fleet is not to be sent away for that."""
        sdk = limited.sdk()
        starting = build_services(LIMITED, limited.store, limited.clock)

        found = {starting.tokens.authenticate(str(sdk.token), refuse).scope for _ in range(100)}

        assert found == {"sdk"}

    def test_who_guesses_tokens_does_not_get_to_the_store(
        self, limited: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        guesser = Caller(limited, f"srt_sdk_{'f' * 12}_{'0' * 64}")
        ask_until_refused(guesser, SNAPSHOT)

        def asked(*_: object) -> None:
            raise AssertionError("the store was asked")

        monkeypatch.setattr(limited.services.tokens, "_read", asked)

        assert guesser.get(SNAPSHOT).status == 429

    @pytest.mark.parametrize("origin", [None, SHOP])
    def test_who_makes_tickets_up_does_not_get_to_the_store(
        self, monkeypatch: pytest.MonkeyPatch, origin: str | None
    ) -> None:
        limited = an_api(settings=replace(LIMITED, ofrep_origins=(SHOP, "https://other.example")))
        asked = questions(limited, monkeypatch)
        made_up = f"/ofrep/v1/events?ticket={'f' * 12}.1.{'0' * 64}"
        sent = {} if origin is None else {"Origin": origin}

        answers = [limited.nobody.get(made_up, **sent).status for _ in range(30)]

        assert answers == [401] * int(2 * BURST_SECONDS) + [429] * 10
        assert asked == ["f" * 12] * int(2 * BURST_SECONDS), "each is asked for once"

    def test_who_spoils_a_ticket_is_counted_and_asks_nothing_of_the_store(
        self, limited: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        id = str(limited.sdk().token).split("_")[2]
        spoilt = limited.services.tokens.ticket(id, PURPOSE, "")[:-64] + "0" * 64
        asked = questions(limited, monkeypatch)

        ask_until_refused(limited.nobody, f"/ofrep/v1/events?ticket={spoilt}")

        assert asked == []

    def test_a_good_ticket_is_not_counted_by_address(self, limited: Api) -> None:
        ticket = limited.services.tokens.ticket(str(limited.sdk().token).split("_")[2], PURPOSE, "")
        ask_until_refused(limited.nobody, "/api/v1/flags")

        answer = limited.nobody.get(f"/ofrep/v1/events?ticket={ticket}")
        answer.response.close()

        assert answer.status == 200

    @pytest.mark.parametrize("path", ["/openapi.json", "/ofrep/v1/events?ticket=none"])
    def test_what_is_public_and_costs_something_is_counted(self, limited: Api, path: str) -> None:
        ask_until_refused(limited.nobody, "/api/v1/flags")

        assert limited.nobody.get(path).code == "too_many"

    @pytest.mark.parametrize("path", ["/openapi.json", "/ofrep/v1/events?ticket=none"])
    def test_and_is_open_to_who_asks_now_and_then(self, limited: Api, path: str) -> None:
        assert limited.nobody.get(path).code != "too_many"

    @pytest.mark.parametrize("path", ["/healthz", "/readyz"])
    def test_a_probe_is_never_refused(self, limited: Api, path: str) -> None:
        ask_until_refused(limited.nobody, "/api/v1/flags")

        assert {limited.nobody.get(path).status for _ in range(200)} == {200}


def test_an_sdk_reads_and_is_counted_alike_while_the_store_is_away() -> None:
    """Nothing is asked of it to count, so nothing is refused for it: reads fail open."""
    server = fakeredis.FakeServer()
    api = an_api(a_store(server), settings=LIMITED)
    sdk = api.sdk()
    api.reachable = server.connected = False

    answers = [sdk.get(SNAPSHOT).status for _ in range(int(2 * BURST_SECONDS) + 1)]

    assert answers == [200] * int(2 * BURST_SECONDS) + [429]


class TestBeforeFlask:
    """Snapshots and streams are answered by the front, which says it itself."""

    def test_a_refusal_there_is_the_same_and_keeps_the_connection(self, limited: Api) -> None:
        key = {"Authorization": f"Bearer {limited.sdk().token}"}
        with limited.served() as address, httpx.Client(base_url=address, headers=key) as client:
            answers = [client.get(SNAPSHOT) for _ in range(int(2 * BURST_SECONDS) + 1)]
            stream = client.get(STREAM)

        refused = answers[-1]
        assert [answer.status_code for answer in answers[:-1]] == [200] * int(2 * BURST_SECONDS)
        for each in (refused, stream):
            assert (each.status_code, each.json()["code"]) == (429, "too_many")
            assert each.headers["Content-Type"] == "application/problem+json"
            assert each.headers["X-Content-Type-Options"] == "nosniff"
            assert int(each.headers["Retry-After"]) >= 1
            assert each.headers.get("Connection") != "close"

    def test_a_fleet_that_comes_back_at_once_is_let_in_as_it_is(self) -> None:
        api = an_api()
        key = {"Authorization": f"Bearer {api.sdk().token}"}
        with api.served() as address, httpx.Client(base_url=address, headers=key) as client:
            answers = {client.get(SNAPSHOT).status_code for _ in range(200)}

        assert answers == {200}
