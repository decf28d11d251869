"""Settings of what goes outward: where from, what stops the start, and that no secret is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from flagserver import bootstrap
from flagserver.domain.rollout import TICK_SECONDS
from flagserver.settings import SECRETS, SETTINGS, Outward, Settings, SettingsError
from flagserver.storage.anchors import DiskAnchors
from flagserver.storage.anchors_s3 import S3Anchors


def read(**environ: str) -> Outward:
    named = {f"SORTITION_{name.upper()}": value for name, value in environ.items()}
    return Settings.read(named).outward


def test_nothing_is_told_or_asked_by_default():
    assert read() == Outward()
    assert Outward().webhook_url is None
    assert Outward().internal_hosts == ""


def test_every_setting_has_its_place():
    told = {
        **{name.removeprefix("SORTITION_").lower(): f"the {name}" for name in SECRETS},
        "egress_hosts": "a.test",
        "egress_internal_hosts": "b.test",
        "webhook_url": "https://a.test/",
        "pagerduty_url": "https://a.test/pd",
        "prometheus_url": "http://b.test",
    }

    found = read(**told)

    assert found == Outward(
        hosts="a.test",
        internal_hosts="b.test",
        webhook_url="https://a.test/",
        webhook_secret="the SORTITION_WEBHOOK_SECRET",
        slack_webhook="the SORTITION_SLACK_WEBHOOK",
        pagerduty_url="https://a.test/pd",
        pagerduty_key="the SORTITION_PAGERDUTY_KEY",
        prometheus_url="http://b.test",
        prometheus_token="the SORTITION_PROMETHEUS_TOKEN",
        oidc_client_secret="the SORTITION_OIDC_CLIENT_SECRET",
    )


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_secret_comes_from_a_file_as_well(name: str, tmp_path: Path):
    (tmp_path / "secret").write_text("from a file\n")
    environ = {f"{name}_FILE": str(tmp_path / "secret")}

    field = name.removeprefix("SORTITION_").lower()
    assert getattr(Settings.read(environ).outward, field) == "from a file"
    assert f"{name}_FILE" in SETTINGS


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_secret_is_not_shown(name: str):
    settings = Settings.read({name: "hush"})

    assert "hush" not in repr(settings) + str(settings)


def test_a_secret_is_given_once(tmp_path: Path):
    (tmp_path / "secret").write_text("hush")

    with pytest.raises(SettingsError, match="both set") as refused:
        read(slack_webhook="hush", slack_webhook_file=str(tmp_path / "secret"))
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "why"), [(None, "No such file"), (b"", "empty"), (b"\n \n", "empty"),
                         (b"\xff\xfe", "not text")]
)  # fmt: skip
def test_a_file_without_a_secret_stops_the_start(tmp_path: Path, content: bytes | None, why: str):
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SettingsError, match=f"SORTITION_PAGERDUTY_KEY_FILE: .*{why}"):
        read(pagerduty_key_file=str(path))


def test_a_directory_is_no_secret(tmp_path: Path):
    with pytest.raises(SettingsError, match="Is a directory"):
        read(pagerduty_key_file=str(tmp_path))


def test_a_name_that_is_nearly_right_stops_the_start():
    with pytest.raises(SettingsError, match="SORTITION_SLACK_WEBHOOK_URL"):
        read(slack_webhook_url="https://hooks.slack.com/x")


def test_origins_of_pages_are_listed():
    told = {"SORTITION_OFREP_ORIGINS": "https://shop.example, http://127.0.0.1:8080 http://[::1]"}

    assert Settings.read(told).ofrep_origins == (
        *("https://shop.example", "http://127.0.0.1:8080", "http://[::1]"),
    )
    assert Settings.read({}).ofrep_origins == ()


@pytest.mark.parametrize(
    "text",
    [
        *("*", "null", "https://*.example", "shop.example", "https://shop.example/"),
        *("https://Shop.example", "https://shop.example/page", "ftp://shop.example"),
        *("https://ann@shop.example", "https://shop.example:", "https://ok.example,*"),
    ],
)
def test_what_is_no_origin_stops_the_start(text):
    with pytest.raises(SettingsError, match="SORTITION_OFREP_ORIGINS"):
        Settings.read({"SORTITION_OFREP_ORIGINS": text})


def test_a_controller_looks_every_five_seconds_unless_it_is_told_otherwise():
    assert Settings.read({}).tick_seconds == TICK_SECONDS == 5
    assert Settings.read({"SORTITION_TICK_SECONDS": "0.5"}).tick_seconds == 0.5


@pytest.mark.parametrize("text", ["0", "0.2", "11", "soon", "nan", "-1"])
def test_a_tick_that_no_lease_would_outlive_or_that_never_rests_is_refused(text: str):
    with pytest.raises(SettingsError, match=r"SORTITION_TICK_SECONDS must be seconds from 0\.25"):
        Settings.read({"SORTITION_TICK_SECONDS": text})


def test_anchors_are_in_one_place():
    both = {"SORTITION_ANCHORS_S3": "s3://bucket", "SORTITION_ANCHORS_DIR": "/anchors"}

    with pytest.raises(SettingsError, match="one of them is enough"):
        Settings.read(both)


def test_a_place_of_anchors_that_is_none_stops_the_start():
    settings = Settings.read({"SORTITION_ANCHORS_S3": "https://bucket"})

    with pytest.raises(SettingsError, match="SORTITION_ANCHORS_S3: 'https://bucket' is no place"):
        bootstrap.open_anchors(settings)


def test_anchors_are_in_s3_where_the_settings_say_so():
    told = {"SORTITION_ANCHORS_S3": "s3://bucket/ours", "SORTITION_ANCHORS_DAYS": "7"}

    assert isinstance(bootstrap.open_anchors(Settings.read(told)), S3Anchors)
    assert isinstance(bootstrap.open_anchors(Settings.read({})), DiskAnchors)
