"""Row 12: a machine's clock is wrong, or jumps."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flagserver.processes import Child, Process
from flagserver.storage.redis import keys

from .site import Site, at_share, until

pytestmark = pytest.mark.needs("redis-server")

SKEWED = Path(__file__).with_name("skewed.py")


@pytest.mark.parametrize("seconds", [3600, pytest.param(-3600, marks=pytest.mark.slow)])
def test_a_wrong_clock_is_named_and_flags_are_served_all_the_same(site: Site, seconds: int):
    with at_share(site, 25) as asker:
        skewed = site.another_web("skewed", program=(sys.executable, str(SKEWED), str(seconds)))
        skewed.start()
        until(lambda: skewed.ready()["writable"], "the skewed server")

        way = "behind" if seconds > 0 else "ahead of"
        told = skewed.problems()
        assert "The store's clock is" in told
        assert f"s {way} this server's" in told
        assert "clock" not in site.web.problems()
        assert skewed.share(50).status == 200
        asker.until(50)


@pytest.mark.slow
def test_controllers_with_clocks_an_hour_apart_agree_who_leads(site: Site):
    environment = {"SORTITION_REDIS_URL": site.store_proxy.url}
    programs = {
        "now": (sys.executable, "-m", "flagserver.main"),
        "later": (sys.executable, str(SKEWED), "3600"),
    }
    running = {
        name: Process(Child(name, (*program, "controller"), environment), lambda _: None)
        for name, program in programs.items()
    }
    for process in running.values():
        site.stack.callback(process.stop, 10)

    def leading() -> list[str]:
        return [name for name, p in running.items() if "leading" in " ".join(p.lines)]

    until(lambda: len(leading()) == 1, "one of them to lead")
    [first] = leading()
    with site.redis.client() as client:
        token = int(client.hget(keys.lease("controller"), "token") or 0)
    # it leaves, and the other leads, with a higher fencing token
    running[first].stop(10)
    until(lambda: len(leading()) == 2, "the other to lead", seconds=40)
    with site.redis.client() as client:
        assert int(client.hget(keys.lease("controller"), "token") or 0) > token
