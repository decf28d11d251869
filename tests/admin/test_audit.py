"""The record for people: narrowed down, entry by entry, and whether it is whole."""

from __future__ import annotations

import re

import pytest

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
