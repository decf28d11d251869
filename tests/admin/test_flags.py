"""The list of flags, the form for a new one, and the overview."""

from __future__ import annotations

import pytest

from .house import House, Visitor


def test_an_empty_installation_says_what_a_flag_is(visitor: Visitor) -> None:
    assert "A flag is a named switch your code asks about" in visitor.see("/flags").text
    assert "A flag is a named switch your code asks about" in visitor.see("/").text


def test_shares_are_visible_without_a_click(house: House, visitor: Visitor) -> None:
    house.flag("new-search", description="New search ranking", owner="search")
    house.share("new-search", 25.0)
    house.share("new-search", 0.0001, "staging")
    house.report("new-search", 0, 0)

    text = visitor.see("/flags").text

    assert "new-search" in text
    assert "New search ranking" in text
    assert "25 %" in text
    assert "0.0001 %" in text
    assert "Ramping" in text


def test_a_killed_flag_is_seen_to_be_killed(house: House, visitor: Visitor) -> None:
    house.flag("new-search")
    house.share("new-search", 25.0)
    house.kill("new-search")

    assert "Killed" in visitor.see("/flags").text
    assert "1 killed" in visitor.see("/").text


def test_search_looks_in_key_description_and_owner(house: House, visitor: Visitor) -> None:
    house.flag("alpha", description="first", owner="team-one")
    house.flag("beta", description="second", owner="team-two")

    for query in ("ALPHA", "first", "team-one"):
        page = visitor.see(f"/flags?q={query}")
        assert "/flags/alpha" in page.source
        assert "/flags/beta" not in page.source


def test_a_search_that_finds_nothing_offers_to_create_it(visitor: Visitor) -> None:
    page = visitor.see("/flags?q=serch")

    assert "No flag has “serch”" in page.text
    assert "/flags/new?key=serch" in page.source


@pytest.mark.parametrize("asked", ["2", "99", "0", "-1", "x"])
def test_a_long_list_comes_in_pages(house: House, visitor: Visitor, asked: str) -> None:
    for number in range(51):
        house.flag(f"flag-{number:03}")

    page = visitor.see(f"/flags?page={asked}")

    last = asked in ("2", "99")
    assert ("flag-050" in page.text) is last
    assert ("flag-000" in page.text) is not last
    assert f"page {2 if last else 1} of 2" in page.text


def test_a_boolean_flag_is_created(house: House, visitor: Visitor) -> None:
    form = visitor.see("/flags/new")

    page = visitor.send(form, "/flags/new", key="dark-mode", description="Dark", owner="design")

    assert page.status == 200
    assert "Flag created. It exposes nobody" in page.text
    flag = house.services.flags.get("dark-mode").flag
    assert dict(flag.variants) == {"on": True, "off": False}
    assert flag.kind == "temporary"
    assert "Flag created" not in visitor.see("/flags/dark-mode").text


def test_a_flag_with_variants_is_created(house: House, visitor: Visitor) -> None:
    form = visitor.see("/flags/new")

    visitor.send(form, "/flags/new", key="size", variants='{"big": {"n": 50}, "small": {"n": 20}}')

    flag = house.services.flags.get("size").flag
    assert dict(flag.variants) == {"big": {"n": 50}, "small": {"n": 20}}
    assert flag.rest == "small"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"key": "Not A Key"}, "Key must begin with"),
        ({"key": ""}, "Key must begin with"),
        ({"key": "a", "variants": "{"}, "must be one JSON object"),
        ({"key": "a", "variants": "[1]"}, "must be one JSON object"),
        ({"key": "a", "variants": '{"a": 1, "a": 2}'}, "appears twice"),
        ({"key": "a", "variants": '{"a": NaN}'}, "NaN is not JSON"),
        ({"key": "a", "variants": "{}"}, "Variants"),
        ({"key": "a", "variants": "[" * 5000}, "must be one JSON object"),
        ({"key": "a", "variants": '{"a": 1}', "rest": "b"}, "no variant 'b'"),
        ({"key": "a", "variants": '{"A B": 1}'}, "“A B” must begin with"),
        ({"key": "a", "kind": "eternal"}, "Kind"),
        ({"key": "a", "reason": "for ana@example.org"}, "must not hold an e-mail address"),
        ({"key": "a", "description": "d" * 501}, "Description"),
    ],
)
def test_what_cannot_be_used_is_named_and_what_was_typed_is_kept(
    house: House, visitor: Visitor, typed: dict[str, str], words: str
) -> None:
    form = visitor.see("/flags/new")
    typed = {"description": "A description to keep", "owner": "team <b>", **typed}

    page = visitor.send(form, "/flags/new", **typed)

    assert page.status == 422
    assert words in page.text
    kept = page.form("/flags/new")
    assert {name: kept[name] for name in typed if name != "kind"} == {
        name: value for name, value in typed.items() if name != "kind"
    }
    assert house.services.flags.all() == []


def test_a_key_that_is_taken_is_named(house: House, visitor: Visitor) -> None:
    house.flag("taken")

    page = visitor.send(visitor.see("/flags/new"), "/flags/new", key="taken", owner="me-team")

    assert page.status == 409
    assert "exists" in page.text
    assert page.form("/flags/new")["owner"] == "me-team"


def test_the_overview_shows_who_reports_and_what_happened(house: House, visitor: Visitor) -> None:
    house.flag("new-search")
    house.share("new-search", 25.0)
    house.report("new-search", 250, 750)

    text = visitor.see("/").text

    assert "shop" in text
    assert "1.4.0" in text
    assert "16.7" in text  # 1000 requests in a minute
    assert "0.30 %" in text
    assert "share 0 % → 25 % in production" in text
    assert "because" in text


def test_health_says_what_is_wrong(house: House, visitor: Visitor) -> None:
    assert "✔ served" in visitor.see("/health").text

    house.store_away = True

    page = visitor.see("/health")
    assert page.status == 200
    assert "✖ off" in page.text
    assert "(store: given)" in page.text
