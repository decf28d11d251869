"""The demo's shop: which side is to be released, what breaks and what heals it."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from examples.shop.health import Health
from flagserver.demo.running import place_of
from flagserver.demo.shop import Api, DemoError, Place, Shop, following
from flagserver.settings import Settings


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return place_of(Settings(data_dir=tmp_path), 8401)


@pytest.fixture
def shop(place: Place) -> Shop:
    shop = Shop(place)
    shop.prepare()
    return shop


def weigh(place: Place, **weights: int) -> None:
    (place.shop / "weights.json").write_text(json.dumps(weights))


def orders(place: Place, side: str) -> Any:
    return json.loads((place.shop / f"{side}.json").read_text())


@pytest.mark.parametrize(
    ("weights", "side"),
    [
        ({"blue": 1}, "green"),
        ({"blue": 19, "green": 1}, "green"),
        ({"blue": 1, "green": 1}, "green"),
        ({"green": 1}, "blue"),
    ],
)
def test_the_canary_is_the_newest_version_until_it_has_all_of_the_traffic(
    place: Place, shop: Shop, weights: dict[str, int], side: str
) -> None:
    weigh(place, **weights)

    assert shop.canary() == side


def test_what_runs_is_kept_from_start_to_start(place: Place, shop: Shop) -> None:
    weigh(place, blue=1)
    shop.break_canary()

    shop.prepare()

    assert orders(place, "green") == {"version": "1.5.0", "broken": "errors"}


def test_the_canary_is_broken_and_healed(place: Place, shop: Shop) -> None:
    weigh(place, blue=3, green=1)

    assert shop.break_canary() == "green"
    assert (orders(place, "green")["broken"], orders(place, "blue")["broken"]) == ("errors", False)
    assert shop.heal() == ["green"]
    assert orders(place, "green") == {"version": "1.5.0", "broken": False}
    assert shop.heal() == []


@pytest.mark.parametrize("way", ["errors", "slow", "hosts"])
def test_it_can_be_broken_in_more_than_one_way(place: Place, shop: Shop, way: str) -> None:
    weigh(place, blue=3, green=1)

    shop.break_canary(way)

    assert orders(place, "green") == {"version": "1.5.0", "broken": way}


def test_health_changes_with_the_second_answer_in_a_row_that_says_so() -> None:
    health = Health()

    changes = [health.hear(well) for well in (False, True, False, False, False, True, True)]

    assert changes == [False, False, False, True, False, False, True]
    assert health.well


def test_without_a_version_to_be_released_nothing_is_broken(place: Place, shop: Shop) -> None:
    weigh(place, green=1)

    with pytest.raises(DemoError, match="demo deploy"):
        shop.break_canary()

    assert orders(place, "blue")["broken"] is False


def test_the_next_version_is_the_next_minor_one() -> None:
    assert (following("1.5.0"), following("1.9.3")) == ("1.6.0", "1.10.0")


@pytest.mark.parametrize("written", [None, "{", "{}", '{"url": 1}'])
def test_a_demo_that_does_not_run_is_named_with_the_way_to_one(
    tmp_path: Path, written: str | None
) -> None:
    if written is not None:
        (tmp_path / "demo.json").write_text(written)

    with pytest.raises(DemoError, match=r"No demo runs on .*make demo"):
        Place.find(tmp_path)


def test_the_inner_ports_follow_the_shops_and_leave_the_servers_out() -> None:
    by_default = place_of(Settings(), 8401)
    beside = place_of(Settings(port=8502), 8500)

    assert list(by_default.ports().values()) == [8401, 8402, 8403, 8404]
    assert list(beside.ports().values()) == [8500, 8501, 8503, 8504]


@pytest.mark.parametrize(("status", "error"), [(503, OSError), (409, DemoError)])
def test_what_the_server_cannot_do_now_may_be_asked_again(
    place: Place, status: int, error: type[Exception]
) -> None:
    """A store that is slow for a moment must not end a demo that has just begun."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"detail": "a test says so"}'
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    place.token_file.write_text("srt_admin_a_b")
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        asked = replace(place, url=f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(error, match=f"answered {status}: a test says so"):
            Api(asked).ask("GET", "/api/v1/flags")
