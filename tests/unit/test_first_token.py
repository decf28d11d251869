"""The first admin token, where the operator brings it: by a file or a variable, and for good."""

from __future__ import annotations

from pathlib import Path

import pytest

from flagserver import bootstrap
from flagserver.domain.commands import Reasoned
from flagserver.domain.errors import Conflict, Unauthenticated
from flagserver.main import Failed, check_admin_token
from flagserver.settings import Settings, SettingsError
from tests.builders import ADMIN, House

ID = "0123456789ab"
SECRET = "9d1c5d6f0be2a34c7781f0e9cb5a26d44f38b1e07a92c65d13fe80ab47d92c6b"
TOKEN = f"srt_admin_{ID}_{SECRET}"


def brought(text: str, folder: Path, *, by_file: bool) -> Settings:
    """Return the settings of an operator who brings a first admin token."""
    if not by_file:
        return Settings.read({"SORTITION_ADMIN_TOKEN": text})
    path = folder / "token"
    path.write_text(f"{text}\n")
    return Settings.read({"SORTITION_ADMIN_TOKEN_FILE": str(path)})


def prepare(house: House, settings: Settings) -> str | None:
    """Do what a web process does when it starts; return what it would print."""
    return bootstrap.prepare(settings, house.store, house.services, house.entropy)


both_ways = pytest.mark.parametrize("by_file", [True, False], ids=["file", "variable"])


@both_ways
def test_one_that_was_brought_is_good_and_none_is_printed(tmp_path: Path, by_file: bool) -> None:
    house = House()

    assert prepare(house, brought(TOKEN, tmp_path, by_file=by_file)) is None

    who = house.services.tokens.authenticate(TOKEN)
    assert (who.id, who.role) == (f"token:{ID}", "admin")


@both_ways
@pytest.mark.parametrize("text", ["secret", f"srt_admin_{ID}_{'00' * 32}"], ids=["form", "zeros"])
def test_one_that_cannot_be_one_stops_the_start_and_is_not_told(
    tmp_path: Path, by_file: bool, text: str
) -> None:
    settings = brought(text, tmp_path, by_file=by_file)

    with pytest.raises(Failed) as refused:
        check_admin_token(settings)

    name = "SORTITION_ADMIN_TOKEN" + ("_FILE" if by_file else "")
    assert str(refused.value).startswith(f"{name}: ")
    assert text not in str(refused.value) + repr(settings)


def test_one_that_is_told_twice_stops_the_start() -> None:
    with pytest.raises(SettingsError, match=r"SORTITION_ADMIN_TOKEN and .*_FILE are both set"):
        Settings.read({"SORTITION_ADMIN_TOKEN": TOKEN, "SORTITION_ADMIN_TOKEN_FILE": "b"})


def test_one_that_was_revoked_stays_so_and_keeps_no_server_from_starting(tmp_path: Path) -> None:
    house, settings = House(), brought(TOKEN, tmp_path, by_file=False)
    prepare(house, settings)
    house.services.tokens.revoke(ID, Reasoned(), ADMIN)

    assert prepare(house, settings) is None

    with pytest.raises(Unauthenticated):
        house.services.tokens.authenticate(TOKEN)


def test_an_id_that_another_secret_has_is_refused(tmp_path: Path) -> None:
    house = House()
    prepare(house, brought(TOKEN, tmp_path, by_file=False))
    other = f"srt_admin_{ID}_{SECRET[::-1]}"

    with pytest.raises(Conflict, match="is there with another secret"):
        prepare(house, brought(other, tmp_path, by_file=False))
