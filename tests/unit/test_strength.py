"""A key that nobody drew stops the start, with the setting's name and how a good one is made."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import pytest
from sortition.record.note import SigningKey

from flagserver import bootstrap
from flagserver.domain.strength import FEWEST_OCTETS, weakness
from flagserver.egress import GuardedEgress, read_places
from flagserver.settings import Settings, SettingsError
from tests.builders import FakeClock

GOOD = bytes.fromhex("9d1c5d6f0be2a34c7781f0e9cb5a26d44f38b1e07a92c65d13fe80ab47d92c6b")

WEAK = {
    "zeros": bytes(32),
    "one letter": b"k" * 32,
    "a few octets": bytes.fromhex("deadbeefcafe0123") * 4,
    "a count": bytes(range(32)),
    "a count down by threes": bytes(range(255, 159, -3)),
    "what somebody typed": b"correct horse battery staple, so",
}


def test_what_was_drawn_by_lot_is_taken() -> None:
    drawn = random.Random(5)
    for octets in (24, 32, 64):
        assert all(weakness(drawn.randbytes(octets)) is None for _ in range(2000))


@pytest.mark.parametrize("key", WEAK.values(), ids=[*WEAK])
def test_what_nobody_drew_is_not(key: bytes) -> None:
    assert weakness(key) is not None


def test_a_short_one_is_not() -> None:
    assert weakness(GOOD[: FEWEST_OCTETS - 1]) is not None
    assert weakness(GOOD[:FEWEST_OCTETS]) is None


KEYS = {
    "SORTITION_RECORD_KEY": bootstrap.read_record_key,
    "SORTITION_PREVIEW_KEY": bootstrap.read_preview_key,
}


def told(name: str, key: SigningKey, folder: Path, *, by_file: bool) -> Settings:
    """Return settings with a key, by its text or by a file that holds it."""
    if not by_file:
        return Settings.read({name: key.secret()})
    path = folder / "key"
    path.write_text(f"{key.secret()}\n")
    return Settings.read({f"{name}_FILE": str(path)})


@pytest.mark.parametrize("by_file", [True, False], ids=["file", "variable"])
@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("seed", WEAK.values(), ids=[*WEAK])
def test_a_signing_key_stops_the_start(
    name: str, seed: bytes, by_file: bool, tmp_path: Path
) -> None:
    key = SigningKey("flags.example/record", seed)
    settings = told(name, key, tmp_path, by_file=by_file)

    with pytest.raises(SettingsError, match=f"^{name}.*: .*flagserver record-key") as refused:
        KEYS[name](settings)

    assert key.secret().split("+", 4)[4] not in str(refused.value) + repr(settings)


@pytest.mark.parametrize("by_file", [True, False], ids=["file", "variable"])
@pytest.mark.parametrize("name", KEYS)
def test_a_good_one_does_not(name: str, by_file: bool, tmp_path: Path) -> None:
    key = SigningKey("flags.example/record", GOOD)

    assert KEYS[name](told(name, key, tmp_path, by_file=by_file)) == key


@pytest.mark.parametrize("name", KEYS)
def test_one_that_is_told_twice_stops_the_start(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} and {name}_FILE are both set"):
        Settings.read({name: "a", f"{name}_FILE": "b"})


@pytest.mark.parametrize("seed", WEAK.values(), ids=[*WEAK])
def test_a_webhook_secret_stops_the_start(seed: bytes) -> None:
    told = {
        "SORTITION_WEBHOOK_URL": "https://ops.example/hook",
        "SORTITION_WEBHOOK_SECRET": f"whsec_{base64.b64encode(seed).decode()}",
    }
    egress = GuardedEgress(read_places("ops.example", inside=False))

    with pytest.raises(SettingsError, match=r"SORTITION_WEBHOOK_SECRET .*openssl rand") as refused:
        bootstrap.open_notifiers(Settings.read(told), egress, FakeClock())

    assert told["SORTITION_WEBHOOK_SECRET"] not in str(refused.value)


@pytest.mark.parametrize("seed", WEAK.values(), ids=[*WEAK])
def test_an_admin_token_stops_the_start(seed: bytes, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"srt_admin_0123456789ab_{seed.hex()}\n")
    settings = Settings.read({"SORTITION_ADMIN_TOKEN_FILE": str(path)})

    with pytest.raises(ValueError, match=r"openssl rand -hex 32") as refused:
        bootstrap.read_admin_token(settings)

    assert seed.hex() not in str(refused.value)


def test_an_admin_token_that_was_drawn_does_not(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"srt_admin_0123456789ab_{GOOD.hex()}\n")

    found = bootstrap.read_admin_token(Settings(admin_token_file=path))

    assert found == f"srt_admin_0123456789ab_{GOOD.hex()}"


def test_the_stores_address_comes_from_a_file_and_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("rediss://server:hush@store.example:6379\n")

    settings = Settings.read({"SORTITION_REDIS_URL_FILE": str(tmp_path / "url")})

    assert settings.redis_url == "rediss://server:hush@store.example:6379"
    assert "hush" not in repr(settings)
