"""`/metrics`: for whom it is, and what it does not tell."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flagserver.http import metrics
from flagserver.http.app import create_app
from flagserver.measures import BY_NAME, Board
from flagserver.settings import Settings, SettingsError

from .api import Api


def test_an_admin_of_all_environments_may_and_nobody_else(api: Api) -> None:
    assert api.admin.get("/metrics").status == 200
    for caller in (api.sdk(), api.deploy(), api.caller("admin", "production")):
        assert caller.get("/metrics").status == 403
    assert api.nobody.get("/metrics").status == 401


def test_it_can_be_opened_to_all(api: Api) -> None:
    app = create_app(api.services, Settings(metrics_public=True), Board())

    assert app.test_client().get("/metrics").status_code == 200


@pytest.mark.parametrize(("text", "public"), [("1", True), ("0", False), ("", False)])
def test_the_setting_is_yes_or_no(text: str, public: bool) -> None:
    assert Settings.read({"SORTITION_METRICS_PUBLIC": text}).metrics_public is public


def test_another_word_stops_the_start() -> None:
    with pytest.raises(SettingsError, match="SORTITION_METRICS_PUBLIC must be 1 or 0"):
        Settings.read({"SORTITION_METRICS_PUBLIC": "yes"})


def test_what_a_process_tells_is_in_the_catalogue_whole_and_from_the_start(api: Api) -> None:
    told = metrics.of_services(api.services)

    for name, values in told.items():
        assert all(len(labels) == len(BY_NAME[name].labels) for labels in values)
    assert set(told["store_alarm"]) == {
        *(("empty",), ("foreign",), ("behind",), ("unsafe",)),
    }
    results = ("accepted", "repeated", "failed", "refused")
    assert told["outcomes_batches"] == {(result,): 0 for result in results}
    became = ("taken", "late", "unknown", "early", "old")
    assert told["outcomes_rows"] == {(result,): 0 for result in became}


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0", "text/html"])
def test_it_speaks_prometheus(api: Api, accept: str) -> None:
    board = Board()
    board.add(lambda: metrics.of_services(api.services))
    client = create_app(api.services, Settings(metrics_public=True), board).test_client()

    answer = client.get("/metrics", headers={"Accept": accept})

    text = answer.get_data(as_text=True)
    openly = accept.startswith("application/openmetrics-text")
    assert (answer.mimetype == "application/openmetrics-text") == openly
    if not openly:
        names = {family.name for family in text_string_to_metric_families(text)}
        assert "sortition_store_alarm" in names
