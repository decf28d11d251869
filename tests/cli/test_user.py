"""`sortition user`: people, their links and roles, from a terminal."""

from __future__ import annotations

import re

import pytest

from tests.cli.conftest import House


@pytest.fixture
def ana(house: House) -> str:
    """Somebody who was invited; her id."""
    made = house.json("user", "invite", "ana@example.com", "--name", "Ana")
    return str(made["person"]["id"])


def test_a_link_is_printed_once_and_whole(house: House) -> None:
    done = house.run("user", "invite", "ben", "--name", "Ben", "--role", "editor")
    listed = house.run("user", "list")

    assert re.fullmatch(r"http://\S+/invitation/[0-9a-f]{64}", done.stdout.strip())
    assert re.search(r"Ben +ben +editor +invited", listed.output)


def test_roles_are_set_by_environment(house: House, ana: str) -> None:
    told = ("--role", "responder", "--role-in", "staging=releaser")
    done = house.run("user", "set", ana, *told, "--reason", "a test")

    assert "Ana is responder, revision 2." in done.output
    assert "staging=releaser" in house.run("user", "list").output


def test_at_another_revision_nothing_is_set(house: House, ana: str) -> None:
    house.run("user", "set", ana, "--role", "editor")

    done = house.run("user", "set", ana, "--role", "admin", "--if-revision", "1")

    assert done.exit_code == 7
    assert "revision 2" in done.stderr


def test_what_is_no_role_is_refused_with_those_that_are(house: House, ana: str) -> None:
    done = house.run("user", "set", ana, "--role-in", "staging=root")

    assert done.exit_code == 2
    assert "roles are viewer, responder" in done.stderr


def test_a_role_where_there_is_nothing_is_refused(house: House, ana: str) -> None:
    done = house.run("user", "set", ana, "--role-in", "nowhere=admin")

    assert done.exit_code == 1
    assert "There is no environment 'nowhere'" in done.stderr


def test_a_new_link_an_end_and_forgetting(house: House, ana: str) -> None:
    again = house.run("user", "link", ana)
    ended = house.run("user", "end", ana)
    forgotten = house.run("user", "forget", ana)

    assert "/invitation/" in again.stdout
    assert "may not sign in any more" in ended.output
    assert "is forgotten" in forgotten.output
    assert "example.com" not in house.run("user", "list").output


@pytest.mark.parametrize("verb", ["link", "end", "forget"])
def test_a_dry_run_changes_nothing(house: House, ana: str, verb: str) -> None:
    before = house.json("user", "list")

    done = house.run("user", verb, ana, "--dry-run")

    assert "would" in done.output
    assert house.json("user", "list") == before
