"""Row 25: the server's disk is full, or gives back other octets than it was given."""

from __future__ import annotations

import sys

import pytest

from .site import Site, at_share, until

pytestmark = pytest.mark.needs("redis-server")

# No file may grow beyond this: what a full disk is to whoever writes one.
LIMITED = (
    "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)); "
    "sys.argv[0] = 'flagserver'; runpy.run_module('flagserver.main', run_name='__main__')"
)


@pytest.mark.slow
def test_with_a_full_disk_flags_are_served_and_the_disk_is_named(site: Site):
    with at_share(site, 25) as asker:
        full = site.another_web("full", program=(sys.executable, "-c", LIMITED))
        full.start()
        until(lambda: full.ready()["writable"], "the server")
        until(lambda: "cannot be kept on this server's disk" in full.problems(), "the alarm")

        assert full.share(50).status == 200
        asker.until(50)
        assert full.ready()["ready"]
        assert full.ready()["problems"]
        known = full.directory / "data" / "known"
        assert {path.name for path in known.iterdir()} <= {"lock"}, "no half of a file is left"


@pytest.mark.parametrize(
    "name",
    [
        "flags-production.json",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("tokens.json", "store.json")),
    ],
)
def test_a_flipped_bit_is_found_and_never_served(site: Site, name: str):
    with at_share(site, 25) as asker:
        token = site.sdk_token()
        site.until_kept()
        site.web.kill()
        site.redis.kill()
        path = site.web.directory / "data" / "known" / name
        octets = bytearray(path.read_bytes())
        octets[len(octets) // 2] ^= 4
        path.write_bytes(octets)

        site.web.start()
        answer = site.web.ask("GET", "/api/v1/sdk/snapshot", token=token)

        if name == "store.json":
            assert answer.json["flags"]["new-search"]["share"] == 250_000
        else:
            assert (answer.status, answer.json["code"]) == (503, "store_unavailable")
        assert name in " ".join(site.web.lines)
        asker.goes_on()

        # and the store mends it
        site.redis.start()
        site.until_writable()
        site.until_kept()
        assert site.web.share(50).status == 200
        asker.until(50)
