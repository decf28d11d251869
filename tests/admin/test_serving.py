"""All that a flag serves: variants, conditions, prerequisites; going back; editing, archiving."""

from __future__ import annotations

from typing import Any

import pytest

from flagserver.domain.commands import FlagEdit, Reasoned

from .house import ANA, House, Page, Visitor

FLAG = "/flags/page-size"
SERVING = FLAG + "/environments/{}/serving"
PRODUCTION = SERVING.format("production")
STAGING = SERVING.format("staging")
SHARE = FLAG + "/environments/{}/share"
UNDO = FLAG + "/environments/staging/undo"
WHERE = {"attribute": "service.name", "operator": "in", "values": ["shop", "api"]}


@pytest.fixture
def sheet(house: House, visitor: Visitor) -> Page:
    house.flag("new-search")
    house.flag("page-size", variants={"classic": 20, "dense": 50, "huge": 100}, rest="classic")
    return visitor.see(STAGING)


def state(house: House, environment: str = "staging") -> Any:
    return house.services.flags.state("page-size", environment).state


def apply(visitor: Visitor, house: House, sheet: Page, **typed: str) -> Page:
    review = visitor.send(sheet, STAGING, **typed)
    assert "Review: page-size" in review.text
    return visitor.send(review, SHARE.format("staging"))


def test_all_of_it_is_changed_at_once_after_a_review(
    house: House, visitor: Visitor, sheet: Page
) -> None:
    typed = {
        "share": "40",
        "weight:dense": "70",
        "weight:huge": "30",
        "attribute:0": "service.name",
        "values:0": "shop\n api \n\n",
        "flag:0": "new-search",
        "variant:0": "on",
    }

    review = visitor.send(sheet, STAGING, **typed)

    assert state(house).share == 0
    for words in ("dense 70 %", "huge 30 %", "service.name in shop, api", "new-search serves on"):
        assert words in review.text
    done = visitor.send(review, SHARE.format("staging"))
    assert "Saved in staging as revision 1." in done.text
    after = state(house)
    assert after.share == 400_000
    assert after.weights == (("dense", 700_000), ("huge", 300_000))
    assert after.conditions[0].values == ("shop", "api")
    assert after.prerequisites[0].flag == "new-search"


def test_the_form_shows_what_is_served_and_an_empty_row_is_none(
    house: House, visitor: Visitor, sheet: Page
) -> None:
    house.share("page-size", 10.0, "staging", conditions=[WHERE])

    page = visitor.see(STAGING)
    shown = page.form("/serving")

    assert (shown["share"], shown["attribute:0"], shown["attribute:1"]) == (
        "10",
        "service.name",
        "",
    )
    assert "shop\napi" in page.source
    assert "Review" in visitor.send(page, STAGING, **{"attribute:0": "", "values:0": ""}).text


def test_sending_it_as_it_is_changes_nothing(house: House, visitor: Visitor, sheet: Page) -> None:
    weights = [{"variant": "huge", "weight": 60.0}, {"variant": "dense", "weight": 40.0}]
    house.share("page-size", 10.0, "staging", weights=weights, conditions=[WHERE])

    after = visitor.send(visitor.see(STAGING), STAGING, **{"values:0": "shop\napi"})

    assert "Nothing to change in staging" in after.text
    assert state(house).weights == (("huge", 600_000), ("dense", 400_000))


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"share": "lots"}, "Share must be a number"),
        ({"weight:dense": "x"}, "The weight of “dense” must be a number"),
        ({"weight:dense": "50", "weight:huge": "40"}, "must add up to 100 %"),
        ({"weight:dense": "0", "weight:huge": "0"}, "must add up to 100 %"),
        ({"attribute:0": "service.name"}, "Row 1, values"),
        ({"attribute:0": "user.id", "operator:0": "likes", "values:0": "x"}, "operator"),
        ({"flag:0": "none", "variant:0": "on"}, "There is no flag"),
        ({"flag:0": "new-search", "variant:0": "off"}, "serves to the rest"),
        ({"flag:0": "page-size", "variant:0": "dense"}, "page-size"),
        ({"reason": "ana@example.org said so", "share": "0.5"}, "must not hold an e-mail address"),
    ],
)
def test_what_cannot_be_served_is_named_and_what_was_typed_is_kept(
    house: House, visitor: Visitor, sheet: Page, typed: dict[str, str], words: str
) -> None:
    after = visitor.send(sheet, STAGING, **{"share": "5", **typed})

    assert after.status == 422
    assert words in after.text
    kept = after.form("/serving")
    assert all(kept[n] == text for n, text in typed.items() if n in kept and "operator" not in n)
    assert state(house).share == 0


def test_reapplied_it_leaves_alone_what_only_the_other_changed(
    house: House, visitor: Visitor, sheet: Page
) -> None:
    house.share("page-size", 10.0, "staging", conditions=[WHERE])

    stale = visitor.send(sheet, STAGING, share="5")

    assert stale.status == 412
    assert "It has changed since you looked" in stale.text
    assert "service.name in shop, api" in stale.text
    done = visitor.send(stale, SHARE.format("staging"))
    assert "Saved in staging as revision 2." in done.text
    assert state(house).share == 50_000
    assert len(state(house).conditions) == 1


def test_a_form_that_was_tampered_with_changes_nothing(
    house: House, visitor: Visitor, sheet: Page
) -> None:
    review = visitor.send(sheet, STAGING, share="5")

    for change in ("", "{", '{"shares": 5}', '{"share": 900}', "[" * 9000):
        after = visitor.send(review, SHARE.format("staging"), change=change)
        assert after.status == 422
    assert state(house).share == 0


def test_undo_is_a_new_revision(house: House, visitor: Visitor, sheet: Page) -> None:
    house.share("page-size", 30.0, "staging", conditions=[WHERE])
    house.share("page-size", 10.0, "staging", conditions=[])
    page = visitor.see(FLAG)
    assert "Back to 30 %" in page.text

    review = visitor.send(page, UNDO)
    assert "service.name in shop, api" in review.text
    done = visitor.send(review, SHARE.format("staging"))

    assert "Saved in staging as revision 3." in done.text
    assert "Undo of entry" in done.text
    assert (state(house).share, len(state(house).conditions)) == (300_000, 1)


def test_undo_of_what_is_no_entry_of_this_flag_is_refused(
    house: House, visitor: Visitor, sheet: Page
) -> None:
    house.share("page-size", 30.0, "staging")
    house.share("new-search", 30.0, "staging")
    page = visitor.see(FLAG)

    for entry in ("99999", "x", "", "1" * 40):
        assert visitor.send(page, UNDO, entry=entry).status == 404


def test_undo_of_what_was_changed_about_the_flag_itself_is_refused(
    house: House, visitor: Visitor, sheet: Page
) -> None:
    house.share("page-size", 30.0, "staging")
    page = visitor.see(FLAG)
    house.services.flags.edit("page-size", FlagEdit(owner="ranking"), 1, ANA)
    newest = house.services.flags.history("page-size", environment="staging", limit=1)[0]

    assert newest["environment"] is None
    assert visitor.send(page, UNDO, entry=str(newest["seq"])).status == 404


def test_a_flag_is_edited_and_a_second_editor_sees_the_first(
    house: House, visitor: Visitor, sheet: Page
) -> None:
    form = visitor.see(f"{FLAG}/edit")
    house.services.flags.edit("page-size", FlagEdit(owner="ranking"), 1, ANA)

    stale = visitor.send(form, f"{FLAG}/edit", description="How many results", kind="permanent")

    assert stale.status == 412
    assert "Now: ranking" in stale.text
    done = visitor.send(stale, f"{FLAG}/edit", owner="search", kind="permanent")
    assert "Saved." in done.text
    flag = house.services.flags.get("page-size").flag
    assert (flag.description, flag.owner, flag.kind) == ("How many results", "search", "permanent")


def test_a_flag_is_archived_and_brought_back(house: House, visitor: Visitor, sheet: Page) -> None:
    archive = f"{FLAG}/archive"

    done = visitor.send(visitor.see(archive), archive, reason="gone from the code")

    assert "This flag is archived" in done.text
    assert "page-size" not in visitor.see("/flags").text
    assert "page-size" in visitor.see("/flags?state=archived").text
    visitor.send(visitor.see(archive), archive)
    assert not house.services.flags.get("page-size").flag.archived


def test_what_another_flag_needs_is_not_archived(
    house: House, visitor: Visitor, sheet: Page
) -> None:
    house.share(
        "page-size", 5.0, "staging", prerequisites=[{"flag": "new-search", "variant": "on"}]
    )
    archive = "/flags/new-search/archive"

    refused = visitor.send(visitor.see(archive), archive)

    assert refused.status == 409
    assert "has new-search as a prerequisite" in refused.text


def test_whoever_may_only_look_is_told_so_and_offered_nothing(house: House) -> None:
    house.flag("new-search")
    house.share("new-search", 25.0)
    reader = house.visitor(role="viewer")

    page, sheet = reader.see("/flags/new-search"), reader.see("/flags")

    assert "You can look but not change this (role viewer)." in page.text
    assert "<form" not in page.source.split("<main")[1]
    assert "New flag" not in sheet.text
    assert reader.see("/flags/new-search/archive").status in (200, 403)


def test_an_archived_flag_has_no_form(house: House, visitor: Visitor, sheet: Page) -> None:
    house.services.flags.archive("page-size", Reasoned(), 1, ANA)

    assert visitor.see(STAGING).status == 409


def test_an_editor_is_told_before_typing_that_a_critical_environment_is_not_theirs(
    house: House, visitor: Visitor, sheet: Page
) -> None:
    editor = house.visitor(role="editor")

    review = editor.send(
        editor.see(FLAG), SHARE.format("production"), share="5", reason="I would like to"
    )

    assert "that needs a releaser" in review.text
    assert "confirm_environment" not in review.source
    allowed = editor.send(editor.see(FLAG), SHARE.format("staging"), share="5")
    assert "Apply 5 %" in allowed.text
