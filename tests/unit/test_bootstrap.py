"""What settings of the outward doors become, and which of them stop the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flagserver import bootstrap
from flagserver.domain.notices import Notice, Severity
from flagserver.domain.outcomes import Row, settle_seconds
from flagserver.domain.signals import Ask, Measure, Signal
from flagserver.settings import Settings, SettingsError
from tests.builders import T0, FakeClock, House
from tests.capturing import Capturing

SECRET = "whsec_3RztOw7QBH6oAU1vfVmCOypEI01A4eMZJK7NyZJw8LQ="
SLACK = "https://hooks.slack.com/services/T0/B0/hush"


def settings(**told: str) -> Settings:
    return Settings.read({f"SORTITION_{name.upper()}": value for name, value in told.items()})


def notifiers(**told: str) -> list[Any]:
    read = settings(**told)
    return bootstrap.open_notifiers(read, bootstrap.open_egress(read), FakeClock())


def test_the_log_is_told_always_and_others_where_they_are_set_up():
    assert [each.name for each in notifiers()] == ["log"]

    everybody = notifiers(
        webhook_url="https://ops.example/hook",
        webhook_secret=SECRET,
        egress_hosts="ops.example hooks.slack.com events.pagerduty.com",
        slack_webhook=SLACK,
        pagerduty_key="0" * 32,
    )
    assert [each.name for each in everybody] == ["log", "webhook", "slack", "pagerduty"]


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"egress_hosts": "*.slack.com"}, "SORTITION_EGRESS_HOSTS: .* is not host or host:port"),
        ({"egress_internal_hosts": "0x7f.1"}, "SORTITION_EGRESS_INTERNAL_HOSTS: "),
        ({"slack_webhook": SLACK, "egress_hosts": "ops.example"}, "SORTITION_SLACK_WEBHOOK: "),
        ({"slack_webhook": SLACK.replace("https", "http")}, "SORTITION_SLACK_WEBHOOK: "),
        ({"slack_webhook": "hush"}, "SORTITION_SLACK_WEBHOOK: the address is not"),
        ({"pagerduty_key": "hush", "pagerduty_url": "https://pd.example"}, "PAGERDUTY_URL"),
        ({"webhook_url": "https://ops.example/hush"}, "SORTITION_WEBHOOK_URL: .*on the list"),
        ({"webhook_url": "https://ops.example/hush", "egress_hosts": "ops.example"},
         "needs SORTITION_WEBHOOK_SECRET"),
        ({"webhook_url": "https://ops.example/hush", "egress_hosts": "ops.example",
          "webhook_secret": "hush"}, "SORTITION_WEBHOOK_SECRET must be whsec_"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_stops_the_start_and_is_named(told: dict[str, str], problem: str):
    with pytest.raises(SettingsError, match=problem) as refused:
        notifiers(**told)

    assert "hush" not in str(refused.value)


def test_a_prometheus_that_may_not_be_called_stops_the_start():
    house, read = House(), settings(prometheus_url="http://prometheus.internal:9090")
    egress = bootstrap.open_egress(read)

    with pytest.raises(SettingsError, match="SORTITION_PROMETHEUS_URL"):
        bootstrap.open_sources(read, house.store, house.services.snapshots, egress)


def test_sources_are_over_the_store_and_the_flags_that_are_served():
    house = House()
    house.create("new-search")
    house.services.snapshots.load()
    read = settings(
        prometheus_url="http://prometheus.internal:9090",
        egress_internal_hosts="prometheus.internal:9090",
    )
    sources = {
        each.name: each
        for each in bootstrap.open_sources(
            read, house.store, house.services.snapshots, bootstrap.open_egress(read)
        )
    }
    assert set(sources) == {"outcomes", "metrics", "prometheus"}

    now = int(T0.timestamp())
    house.store._now = T0.timestamp
    for variant, failures in (("on", 5), ("off", 1)):
        row = Row("flag/new-search", variant, now, 10, 10, failures)
        house.store.add("staging", f"{variant}:1", 1, [row], {})
    signal = Signal.of("outcomes", Measure.RATE)
    ask = Ask(signal, "staging", "shop", None, 60, 60, flag="new-search")

    settled = now + settle_seconds(read.flush_seconds)
    early = sources["outcomes"].measure([ask], settled - 0.1)[ask]
    measured = sources["outcomes"].measure([ask], settled)[ask]

    assert all(point.value is None for point in early.canary)
    assert (measured.canary[-1].value, measured.control[-1].value) == (0.5, 0.1)


def test_a_notice_goes_from_settings_to_whoever_listens(tmp_path: Path):
    """All of it but the store: settings, the list, the signature, the thread."""
    (tmp_path / "secret").write_text(SECRET)
    with Capturing() as server:
        read = settings(
            webhook_url=f"{server.url}/hook",
            webhook_secret_file=str(tmp_path / "secret"),
            egress_internal_hosts=f"127.0.0.1:{server.port}",
            public_url="https://flags.example",
        )
        found = bootstrap.open_notifiers(read, bootstrap.open_egress(read), FakeClock())
        box = _Box()
        running = bootstrap.build_notices(box, box, found, FakeClock(), "one")
        running.start()
        try:
            server.wait_for(1)
        finally:
            running.stop()

        assert server.requests[0].json["title"] == "Holding"
        assert server.requests[0].json["url"] == "https://flags.example/rollouts/r-1"


class _Box:
    """An outbox with one notice, and every lease."""

    def undelivered(self, notifier: str, *, limit: int = 100) -> list[tuple[str, Notice]]:
        notice = Notice(
            *("n1", "rollout:hold", Severity.INFO, T0.isoformat()),
            *("production", "shop", "rollout/r-1", "Holding"),
        )
        return [] if notifier in self.__dict__ else [("1", notice)]

    def delivered(self, notifier: str, position: str) -> None:
        self.__dict__[notifier] = position

    def acquire(self, name: str, holder: str, *, ttl_seconds: float) -> Any:
        return name

    def release(self, lease: Any) -> None:
        pass
