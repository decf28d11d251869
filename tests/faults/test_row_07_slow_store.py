"""Row 7: the store, or the way to it, is slow."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from .site import STATE, Answer, Site, at_share, until

pytestmark = pytest.mark.needs("redis-server")

MOST_SECONDS = 12.0
"""A change waits two seconds for its turn and five for its attempts, each of them bounded."""


def test_a_slow_store_slows_changes_in_bounds_and_nothing_else(site: Site):
    with at_share(site, 25) as asker:
        token = site.sdk_token()
        assert site.web.process is not None
        process = psutil.Process(site.web.process.pid)
        site.store_proxy.down.delay = 2.0

        def kill() -> tuple[Answer, float]:
            began = time.monotonic()
            answer = site.web.ask("POST", f"{STATE}/kill", {}, seconds=60)
            return answer, time.monotonic() - began

        with ThreadPoolExecutor(40) as pool:
            asked = [pool.submit(kill) for _ in range(40)]
            # what comes from memory is served as always
            for _ in range(10):
                began = time.monotonic()
                answer = site.web.ask("GET", "/api/v1/sdk/snapshot", token=token)
                assert (answer.status, time.monotonic() - began < 1) == (200, True)
            threads = process.num_threads()
            answers = [each.result() for each in asked]

        assert {answer.status for answer, _ in answers} == {503}
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer, _ in answers)
        assert max(seconds for _, seconds in answers) < MOST_SECONDS
        assert threads < 200, "threads are bounded, whoever waits"
        asker.goes_on()

        site.store_proxy.heal()
        site.store_proxy.reset()
        site.until_writable()
        # Changes that were under way may have been made: they were told so. They were kills.
        until(lambda: site.web.ask("POST", f"{STATE}/kill", {}).status == 200, "a kill")
        asker.until(0)
        assert process.num_threads() <= threads


def test_a_thin_line_to_the_store_is_enough(site: Site):
    with at_share(site, 25) as asker:
        # 256 kbit/s, both ways
        site.store_proxy.up.rate = site.store_proxy.down.rate = 32_000

        for percent in (30, 35, 40):
            assert site.web.share(percent).status == 200
            asker.until(percent)
