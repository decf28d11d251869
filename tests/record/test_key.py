"""The key that signs never reaches the store: not in a command, not in what is kept."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from sortition.record.note import SigningKey

from flagserver import bootstrap
from flagserver.ports import Signer, SignerUnavailable
from flagserver.services.pruning import Pruner
from flagserver.services.sealing import Sealer, Sealing
from flagserver.settings import Settings
from flagserver.storage.redis.server import Server
from flagserver.storage.redis.store import RedisStore
from tests.unit.test_sealing import House

SEED = hashlib.sha256(b"a test").digest()
KEY = SigningKey("flags.example/record", SEED)


def forms() -> dict[str, bytes]:
    """How 32 secret bytes can be written."""
    return {
        "raw": SEED,
        "hex": SEED.hex().encode(),
        "base64": base64.b64encode(SEED)[:-4],
        # As a key file has it: with the algorithm's byte before it.
        "line": base64.b64encode(b"\x01" + SEED)[4:-4],
        "url": base64.urlsafe_b64encode(SEED)[:-4],
        "private": b"PRIVATE+KEY",
    }


class Wire:
    """A client that remembers all that it is asked."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.sent: list[bytes] = []

    def execute_command(self, *words: Any, **options: Any) -> Any:
        told = (word if isinstance(word, bytes) else str(word).encode() for word in words)
        self.sent.append(b" ".join(told))
        return self._client.execute_command(*words, **options)


def sealed_with(key_file: Path) -> tuple[House, bytes, bytes]:
    """Sign with the key of a file, as a controller does; return what went to the store and what
    lies there."""
    settings = Settings.read({"SORTITION_RECORD_KEY_FILE": str(key_file)})
    key = bootstrap.read_record_key(settings)
    assert key is not None
    house = House()
    client = fakeredis.FakeRedis(server=house.redis)
    wire = Wire(client)
    store = RedisStore(Server(lambda: wire, "wire"))
    sealing = Sealing(Sealer(store, key, house.anchors, house.clock, house.entropy), store, "one")
    for _ in range(3):
        house.write()
        sealing.look()
    house.clock.seconds += 92 * 86400
    for _ in range(3):
        Pruner(store, house.clock, house.entropy, key.verifier).prune()
        sealing.look()
    kept = b"".join(client.dump(name) or b"" for name in client.keys("*"))
    return house, b"\n".join(wire.sent), kept


def test_the_key_never_reaches_the_store(tmp_path: Path):
    path = tmp_path / "record.key"
    path.write_text(KEY.secret())

    house, sent, kept = sealed_with(path)

    # What is signed with it does, and was seen.
    note = house.store.checkpoints()[-1].encode()
    assert note in sent
    assert [name for name, form in forms().items() if form in sent + kept] == []


@pytest.mark.parametrize("form", forms())
def test_a_leak_would_be_seen(form: str):
    """The same look at what a careless driver would have written."""
    client = fakeredis.FakeRedis()
    whole = KEY.secret().encode()
    client.set("{sortition}:leak", whole if form in {"line", "private"} else forms()[form])

    assert forms()[form] in (client.dump("{sortition}:leak") or b"")


def test_a_key_does_not_show_itself():
    assert SEED.hex() not in repr(KEY)
    assert repr(SEED) not in repr(KEY)


class Elsewhere:
    """A signer whose key lies elsewhere, as in a KMS: `ports.Signer`."""

    def __init__(self, sign: Callable[[str], str]) -> None:
        self.verifier = KEY.verifier
        self._sign = sign
        self.away = False

    def sign(self, text: str) -> str:
        if self.away:
            raise SignerUnavailable("The key's holder does not answer.")
        return self._sign(text)


def test_a_key_may_lie_elsewhere_and_be_away_for_a_while(caplog: pytest.LogCaptureFixture):
    house, elsewhere = House(), Elsewhere(KEY.sign)
    signer: Signer = elsewhere
    sealer = Sealer(house.open(), signer, house.anchors, house.clock, house.entropy)
    sealing = Sealing(sealer, house.open(), "one")
    house.write(2)
    elsewhere.away = True

    assert not sealing.step()
    assert "The key's holder does not answer" in caplog.text
    elsewhere.away = False
    assert sealing.step()
    assert len(house.notes) == 1
