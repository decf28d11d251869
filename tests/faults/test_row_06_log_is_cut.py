"""Row 6: the store's log loses its end, and the store starts as if nothing had been."""

from __future__ import annotations

from pathlib import Path

import pytest

from flagserver.services.record import Record
from flagserver.storage.redis.store import RedisStore

from .site import Site, at_share, until

pytestmark = pytest.mark.needs("redis-server")


def cut_log(site: Site) -> None:
    """Cut the log within the last change: it is gone, and what came after it (outcomes are brought
    to the store a while later)."""
    [log] = Path(site.redis.directory).rglob("*.incr.aof")
    octets = log.read_bytes()
    log.write_bytes(octets[: octets.rindex(b"flag:share:change")])


def test_a_record_that_lost_its_end_is_found_by_who_served_it_and_by_who_watched_it(site: Site):
    with at_share(site, 25) as asker, RedisStore(site.redis.url) as store:
        # An SDK's outcomes are in the log too; they would be what is cut off.
        watching = Record(store)
        assert site.web.share(50).status == 200
        asker.until(50)
        assert watching.check() is None
        seen = watching.checked
        site.until_kept()
        asker.client.close(2)
        assert site.web.share(75).status == 200
        until(lambda: watching.check() is None and watching.checked == seen + 1, "entry to be seen")
        site.until_kept()

        site.redis.kill()
        cut_log(site)
        site.redis.start()

        # the store says nothing, and is not believed
        until(lambda: "lost changes" in site.web.problems(), "the alarm")
        told = site.web.problems()
        assert f"its record ends at entry {seen}, and entry {seen + 1} was seen" in told
        broken = watching.check()
        assert broken is not None
        assert (
            broken.problem
            == f"TRUNCATED: the record ends at entry {seen}, entry {seen + 1} was seen"
        )
        # nothing is promoted on it until an operator acknowledges it
        assert site.web.share(90).status == 503
        status, output = site.web.command("doctor")
        assert (status, f"entry {seen + 1} was seen" in output) == (9, True)

        id = site.meta()["store"]
        status, output = site.web.command("store", "accept", "--store", id, "--reason", "log cut")
        assert status == 0, output
        site.until_writable()
        assert site.web.share(90).status == 200
        assert watching.check() is None
