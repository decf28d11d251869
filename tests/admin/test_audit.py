"""The record for people: narrowed down, entry by entry, and whether it is whole."""

from __future__ import annotations

import html
import re

import pytest
from sortition.record.checkpoint import Checkpoint
from sortition.record.proofs import check
from sortition.record.verify import WHOLE

from flagserver.domain.documents import Change
from flagserver.domain.doubts import Doubt
from flagserver.services.sealing import Sealer
from flagserver.system import SystemClock, SystemEntropy
from tests.anchors import FakeAnchors
from tests.record.records import KEY, LOG

from .house import ANA, House, Visitor


@pytest.fixture
def story(house: House) -> House:
    house.flag("new-search")
    house.flag("old-cart", description="<b>old</b>")
    house.share("new-search", 5.0, reason="start small")
    house.share("new-search", 25.0, "staging")
    house.kill("new-search")
    return house


def entries(visitor: Visitor, address: str = "/audit") -> list[str]:
    return re.findall(r'href="/audit/(\d+)"', visitor.see(address).source)


def seqs(house: House, action: str, environment: str | None = None) -> list[str]:
    return [
        str(entry["seq"])
        for entry in house.services.record.recent(limit=100)
        if entry["action"] == action and environment in (None, entry["environment"])
    ]


def test_everything_is_in_it_newest_first(story: House, visitor: Visitor) -> None:
    found = [int(seq) for seq in entries(visitor)]

    assert found == sorted(found, reverse=True)
    assert found[-1] == 1
    text = visitor.see("/audit").text
    assert "new-search killed at 5 % in production" in text
    assert "start small" in text


def test_it_is_narrowed_down_by_its_address(story: House, visitor: Visitor) -> None:
    kills = seqs(story, "flag:kill")
    shares = seqs(story, "flag:share:change")

    assert entries(visitor, "/audit?what=flag&env=production&who=5f2c") == [*kills, shares[1]]
    assert entries(visitor, "/audit?thing=old-cart") == entries(
        visitor, "/audit?thing=flag/old-cart"
    )
    assert len(entries(visitor, "/audit?thing=old-cart")) == 1
    assert entries(visitor, "/audit?from=2000-01-01&to=2000-01-02") == []
    assert entries(visitor, "/audit?to=2999-01-01") == entries(visitor)
    assert entries(visitor, "/audit?what=nonsense&from=soon&before=x") == entries(visitor)
    assert "No entry is like that" in visitor.see("/audit?who=nobody").text


def test_what_was_done_to_one_flag_is_not_mixed_with_its_namesakes(
    house: House, visitor: Visitor
) -> None:
    house.flag("search")
    house.flag("new-search")
    (own,) = seqs(house, "flag:create", None)[1:]

    page = visitor.see("/audit?thing=search")

    assert entries(visitor, "/audit?thing=search") == [own]
    assert "What was done to flag/search itself" in page.text
    wider = html.unescape(re.findall(r'href="(/audit\?thing=search\*)"', page.source)[0])
    assert len(entries(visitor, wider)) == 2
    assert len(entries(visitor, "/audit?thing=sear")) == 2
    assert entries(visitor, "/audit?thing=search&what=environment") == []
    assert "/audit?thing=flag/search" in visitor.see("/flags/search").source


def test_a_long_record_comes_in_pages(house: House, visitor: Visitor) -> None:
    for number in range(60):
        house.flag(f"flag-{number}")

    first = entries(visitor)
    second = entries(visitor, f"/audit?before={first[-1]}")

    assert len(first) == 50
    assert int(second[0]) == int(first[-1]) - 1
    assert f"Older than {first[-1]}" in visitor.see("/audit").text


def test_an_entry_shows_what_it_changed_and_how_it_is_kept(story: House, visitor: Visitor) -> None:
    (kill,) = seqs(story, "flag:kill")
    (link,) = story.store.record(after=int(kill) - 1, limit=1)

    page = visitor.see(f"/audit/{kill}")

    assert "killed false true" in page.text
    assert "weights on 100 % on 100 %" in page.text.replace("\u2009", " ")
    assert "prerequisites none none" in page.text
    assert page.text.index("killed false true") < page.text.index("changed 20")
    assert page.text.index("killed false true") < page.text.index("share 5 % 5 %")
    assert link.leaf.hex() in page.text
    assert link.chain.hex() in page.text
    assert ANA.id in page.text


def test_an_entry_that_is_not_there_is_a_page_of_its_own(visitor: Visitor) -> None:
    assert visitor.see("/audit/999999").status == 404
    assert visitor.see("/audit/none").status == 404


def test_it_is_checked_when_somebody_asks(story: House, visitor: Visitor) -> None:
    page = visitor.see("/audit")
    assert "Not checked by this process yet" in page.text

    whole = visitor.send(page, "/audit/verify")

    assert "Checked: every entry follows from the one before." in whole.text
    assert "Whole:" in whole.text


def test_whoever_only_looks_sees_no_hashes(story: House) -> None:
    reader = story.visitor(role="viewer")

    assert "Check it now" not in reader.see("/audit").text
    assert "How it is kept" not in reader.see("/audit/1").text
    assert (
        reader.client.post("/audit/verify", headers={"Sec-Fetch-Site": "same-origin"}).status_code
        == 403
    )


# --- what is signed, and what is lost -------------------------------------------------------------


def signed(house: House) -> None:
    Sealer(house.store, KEY, FakeAnchors(), SystemClock(), SystemEntropy()).seal()


def test_an_entrys_proof_is_a_file_that_an_outsider_can_check(
    story: House, visitor: Visitor
) -> None:
    signed(story)
    (kill,) = seqs(story, "flag:kill")

    assert "proof as a file" in visitor.see(f"/audit/{kill}").text
    answer = visitor.client.get(f"/audit/{kill}/proof")

    assert f"entry-{kill}-proof.json" in answer.headers["Content-Disposition"]
    found = check(answer.get_json(), [KEY.verifier])
    assert found.kind == WHOLE


def test_an_entry_that_is_not_signed_yet_has_no_proof(story: House, visitor: Visitor) -> None:
    signed(story)
    story.share("new-search", 30.0)
    (newest, *_) = seqs(story, "flag:share:change")

    assert "not signed yet" in visitor.see(f"/audit/{newest}").text
    assert visitor.client.get(f"/audit/{newest}/proof").status_code == 404


class TestALoss:
    @pytest.fixture(autouse=True)
    def lost(self, story: House) -> None:
        words = "9 entries were signed, and 4 are here."
        doubt = Doubt("truncated", words, "", 1, 4, Checkpoint(LOG, 1, 9, bytes(32)).signed(KEY))
        change = Change((doubt.write(),), doubt.fact())
        story.store.commit(change, at=story.clock.now(), salt="5f")

    def test_it_is_said_and_what_still_works(self, visitor: Visitor) -> None:
        page = visitor.see("/audit")

        assert "The record is not what was signed: 9 entries were signed" in page.text
        assert "shrinking, killing and rolling back go on" in page.text
        assert "Acknowledge what is lost" in page.text

    def test_an_admin_acknowledges_it_with_a_reason_and_things_go_on(
        self, story: House, visitor: Visitor
    ) -> None:
        form = visitor.see("/audit/acknowledge")
        refused = visitor.send(form, "/audit/acknowledge", reason="")

        assert (refused.status, "Reason" in refused.text) == (422, True)
        done = visitor.send(form, "/audit/acknowledge", reason="the disk was lost")

        assert "A new epoch of the record has begun" in done.text
        assert story.services.losses.doubt() is None
        assert "There is nothing to acknowledge" in visitor.see("/audit/acknowledge").text

    def test_nobody_else_may(self, story: House) -> None:
        auditor = story.visitor(role="auditor")

        assert "Acknowledge what is lost" not in auditor.see("/audit").text
        assert auditor.see("/audit/acknowledge").status == 403
