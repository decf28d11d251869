"""The documents that ship: found, shown, safe, and all links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from admin.library import Library, slug
from hatch_build import documents

from .house import House, Visitor

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted((ROOT / "docs").rglob("*.md"))


@pytest.fixture(scope="module")
def library() -> Library:
    return Library()


def test_what_the_issue_asks_for_is_on_the_first_page(visitor: Visitor) -> None:
    page = visitor.see("/help")

    for path in ("tutorials/first-flag", "operations/troubleshooting", "operations/rollback"):
        assert f'href="/help/{path}"' in page.source
        assert visitor.see(f"/help/{path}").status == 200


def test_every_document_is_a_page_and_every_link_in_it_leads_somewhere(library: Library) -> None:
    for file in DOCUMENTS:
        page = library.page(file.relative_to(ROOT / "docs").with_suffix("").as_posix())
        assert page is not None, file
        for path, anchor in re.findall(r'href="/help/([^"#]+)(?:#([^"]*))?"', page.body):
            target = library.page(path)
            assert target is not None, f"{file.name} links to {path}"
            assert not anchor or f'id="{anchor}"' in target.body, f"{file.name}: {path}#{anchor}"


def test_a_search_finds_symptoms(visitor: Visitor) -> None:
    page = visitor.see("/help?q=nobody+gets")

    assert "Troubleshooting" in page.text
    assert "No document says “xyzzy”" in visitor.see("/help?q=xyzzy").text


@pytest.mark.parametrize("path", ["none", "../README", "operations/../../README", "operations"])
def test_what_is_no_document_is_not_there(visitor: Visitor, path: str) -> None:
    assert visitor.see(f"/help/{path}").status == 404


def test_what_stands_in_a_document_can_do_nothing(tmp_path: Path) -> None:
    (tmp_path / "evil.md").write_text(
        "# <script>alert(1)</script>\n\n<img src=x onerror=alert(1)> [a](javascript:alert(1)) "
        "[b](data:text/html,x) [c](//elsewhere.example) ![d](https://elsewhere.example/x.png)\n\n"
        "| <b> | x |\n|---|---|\n| `<i>` | [e](evil.md) |\n\n[f](../../outside.md) [g](mailto:x)\n"
    )

    page = Library(tmp_path).page("evil")

    assert page is not None
    body = str(page.body)
    assert "<script" not in body
    assert "<img" not in body
    assert set(re.findall(r'href="([^"]*)"', body)) == {"/help/evil", "mailto:x"}
    assert "javascript:" not in re.sub(r">[^<]*<", "><", body)


def test_an_installation_without_documents_says_so(tmp_path: Path) -> None:
    assert Library(tmp_path / "none").shelves() == {}


def test_anchors_are_those_of_git_hosts() -> None:
    assert slug('"The store is not answering"') == "the-store-is-not-answering"
    assert slug("Only `what` ships, and how") == "only-what-ships-and-how"


def test_the_wheel_carries_all_of_them() -> None:
    places = documents(ROOT)

    assert {Path(file) for file in places} == set(DOCUMENTS)
    assert all(place.startswith("admin/docs/") for place in places.values())


def test_titles_are_shown_as_text(house: House, visitor: Visitor) -> None:
    assert "<h1 id=" in visitor.see("/help/reference/cli").source
