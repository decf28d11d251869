"""The list of flags, the form for a new one, and the overview."""

from __future__ import annotations

import re

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


# --- narrowing the list ---------------------------------------------------------------------------


@pytest.fixture
def many(house: House) -> House:
    for key, owner in (("ramping", "search"), ("on", "search"), ("off", "pay"), ("killed", "pay")):
        house.flag(key, owner=owner)
    house.share("ramping", 25.0)
    house.share("on", 100.0)
    house.share("killed", 50.0)
    house.kill("killed")
    return house


def listed(visitor: Visitor, address: str) -> list[str]:
    source = visitor.see(address).source
    return [key for key in ("ramping", "on", "off", "killed") if f'id="row-{key}"' in source]


@pytest.mark.parametrize(
    ("address", "keys"),
    [
        ("/flags", ["ramping", "on", "off", "killed"]),
        ("/flags?state=ramping", ["ramping"]),
        ("/flags?state=on", ["on"]),
        ("/flags?state=off", ["off"]),
        ("/flags?state=killed", ["killed"]),
        ("/flags?state=rollout", []),
        ("/flags?state=archived", []),
        ("/flags?env=staging&state=off", ["ramping", "on", "off", "killed"]),
        ("/flags?owner=pay", ["off", "killed"]),
        ("/flags?owner=pay&state=killed&q=kill", ["killed"]),
        ("/flags?state=<b>&env=none&sort=up&page=-3", ["ramping", "on", "off", "killed"]),
    ],
)
def test_the_address_says_which_flags_are_listed(
    many: House, visitor: Visitor, address: str, keys: list[str]
) -> None:
    assert listed(visitor, address) == keys


def test_sorts_are_counted_whichever_is_shown(many: House, visitor: Visitor) -> None:
    text = visitor.see("/flags?owner=pay&state=killed").text

    assert "All 2" in text
    assert "Ramping 0" in text
    assert "Killed 1" in text


def test_the_last_change_can_come_first(many: House, visitor: Visitor) -> None:
    source = visitor.see("/flags?sort=changed").source

    assert source.index("row-killed") < source.index("row-ramping")


def test_a_flag_that_all_have_had_for_long_is_called_stale_with_its_reason(
    house: House, visitor: Visitor
) -> None:
    house.clock.late = 40 * 24 * 3600
    for key in ("done", "young", "kept"):
        house.flag(key, kind="permanent" if key == "kept" else "temporary")
        house.share(key, 100.0)
    house.clock.late = 0
    house.share("young", 50.0)
    house.share("young", 100.0)

    page = visitor.see("/flags?state=stale")

    reason = "100 % in production for 40 days, no conditions: remove it from the code"
    assert page.text.count(reason) == 1
    assert "done" in page.text
    assert "young" not in page.text
    assert f"Stale: {reason}" in visitor.see("/flags/done").text


def test_flags_that_wait_for_somebody_or_that_nobody_asks_for_say_so(
    house: House, visitor: Visitor
) -> None:
    house.clock.late = 100 * 24 * 3600
    for key in ("stuck", "silent", "asked"):
        house.flag(key)
        house.share(key, 25.0)
    asking = house.services.outcomes.asking
    asking.note("production", ["asked"])
    asking.keep()
    house.clock.late = 0
    for key in ("silent", "asked"):
        house.share(key, 50.0)
    asking.note("production", ["asked"])
    asking.keep()

    page = visitor.see("/flags?state=stale")

    assert "25 % in production for 100 days: finish the ramp or take it back" in page.text
    assert re.search(r"no service asked for it in production for (99|100) days: remove", page.text)
    assert page.text.count("⚠ stale") == 2
    assert "Stale: no service asked" in visitor.see("/flags/silent").text
    assert "Stale:" not in visitor.see("/flags/asked").text


def test_a_rollout_that_moves_a_flag_shows_its_step_without_a_click(
    house: House, visitor: Visitor
) -> None:
    from flagserver.domain.rollout_commands import NewRollout

    from .house import ANA

    house.flag("new-search")
    house.services.rollouts.start(
        NewRollout.model_validate(
            {
                "environment": "staging",
                "service": "shop",
                "schedule": "5%:5m,100%",
                "guards": "none",
                "targets": [{"kind": "flag", "name": "new-search"}],
                "reason": "a test",
            }
        ),
        ANA,
    )

    assert "2 steps" in visitor.see("/flags?state=rollout").text
    text = visitor.see("/flags/new-search").text
    assert "Open the rollout , which alone may enlarge this flag" in text


def test_health_tells_of_controllers_services_and_notices(house: House, visitor: Visitor) -> None:
    text = visitor.see("/health").text
    assert "Controllers nothing to look at" in text
    assert "Services none report" in text
    assert "Notices to log ✔ has everything" in text

    house.flag("new-search")
    house.report("new-search", 250, 750)
    assert "Services ✔ 1 in 1 processes all say their version" in visitor.see("/health").text

    house.store_away = True
    away = visitor.see("/health")
    assert away.status == 200
    assert "Controllers" not in away.text
