"""Row 24: a message that tells of a change is lost on the way."""

from __future__ import annotations

import pytest

from flagserver.services.snapshots import CHECK_SECONDS

from .site import Site, at_share

pytestmark = pytest.mark.needs("redis-server")

SLACK_SECONDS = 3.0
BEAT_SECONDS = 10.0


def test_an_event_of_the_feed_that_never_came_is_found_by_comparing_versions(site: Site):
    with at_share(site, 25) as asker:
        # The feed's answer arrives, but speaks of another environment: our event is lost, and the
        # place in the feed moves on, so that nothing ever tells of it again.
        lost = site.store_proxy.down.replace(b"from/production", b"from/nowhere-123")

        assert site.web.share(50).status == 200
        lost.wait()

        assert asker.until(50) <= CHECK_SECONDS + SLACK_SECONDS


@pytest.mark.slow
def test_a_change_that_never_came_down_the_stream_is_found_by_the_next_beat(site: Site):
    with at_share(site, 25) as asker:
        lost = site.front_proxy.down.drop(b"event: change")

        assert site.web.share(50).status == 200
        lost.wait()

        assert asker.until(50) <= BEAT_SECONDS + SLACK_SECONDS


def test_a_change_that_never_came_is_found_by_the_next_change(site: Site):
    with at_share(site, 25) as asker:
        lost = site.front_proxy.down.drop(b"event: change")
        assert site.web.share(50).status == 200
        lost.wait()
        assert asker.share == 25

        assert site.web.share(75).status == 200

        assert asker.until(75) <= SLACK_SECONDS
