"""From a key made by hand to an outsider who verifies: a real controller signs a real store."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from sortition.cli.audit import anchors_in
from sortition.cli.main import cli
from sortition.record.checkpoint import open_checkpoint
from sortition.record.export import Kept, written
from sortition.record.note import SigningKey, VerifierKey

from flagserver import bootstrap
from flagserver.domain.commands import NewToken
from flagserver.main import main
from flagserver.settings import Settings, SettingsError
from flagserver.storage.redis.store import RedisStore
from flagserver.system import SystemEntropy
from tests.servers import redis_server, wait_until

LOG = "flags.example/record"


def make_key(folder: Path) -> VerifierKey:
    """Make a key as an operator does; the public half goes to keys.txt."""
    made = CliRunner().invoke(main, ["record-key", LOG, "-o", str(folder / "record.key")])
    assert made.exit_code == 0, made.output
    (folder / "keys.txt").write_text(made.output)
    return VerifierKey.parse(made.output)


def test_a_key_is_private_and_never_written_over(tmp_path: Path):
    public = make_key(tmp_path)
    path = tmp_path / "record.key"

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SigningKey.parse(path.read_text()).verifier == public
    again = CliRunner().invoke(main, ["record-key", LOG, "-o", str(path)])
    assert again.exit_code == 1
    assert "File exists" in again.output
    assert SigningKey.parse(path.read_text()).verifier == public


@pytest.mark.parametrize("name", ["", "with space", "a+b", "../up", "https://a.example/"])
def test_a_record_is_called_like_a_path(tmp_path: Path, name: str):
    made = CliRunner().invoke(main, ["record-key", name, "-o", str(tmp_path / "key")])

    assert made.exit_code == 1
    assert not (tmp_path / "key").exists()


@pytest.mark.parametrize("content", [None, "", "PRIVATE+KEY+x+00000000+AAAA", b"\xff"])
def test_a_key_that_is_none_stops_the_start_and_is_not_told(
    tmp_path: Path, content: str | bytes | None
):
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    settings = Settings.read({"SORTITION_RECORD_KEY_FILE": str(path)})

    with pytest.raises(SettingsError, match="SORTITION_RECORD_KEY_FILE: ") as refused:
        bootstrap.read_record_key(settings)
    assert "AAAA" not in str(refused.value)


@contextmanager
def a_controller(environ: dict[str, str]) -> Iterator[None]:
    command = [str(Path(sys.executable).with_name("flagserver")), "controller"]
    process = subprocess.Popen(command, env={**os.environ, **environ})
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.mark.needs("redis-server")
def test_what_is_written_is_soon_signed_and_an_outsider_can_tell(tmp_path: Path):
    key = make_key(tmp_path)
    with redis_server(tmp_path / "redis") as server:
        environ = {
            "SORTITION_REDIS_URL": server.url,
            "SORTITION_DATA_DIR": str(tmp_path / "data"),
            "SORTITION_RECORD_KEY_FILE": str(tmp_path / "record.key"),
            "SORTITION_ANCHORS_DIR": str(tmp_path / "anchors"),
        }
        settings, store = Settings.read(environ), RedisStore(server.url)
        services = bootstrap.build_services(settings, store)
        bootstrap.prepare(settings, store, services, SystemEntropy())
        with a_controller(environ):
            wait_until(lambda: signed(tmp_path, key) == length(store) > 0, "the record be signed")
            before = length(store)
            services.tokens.create(NewToken(scope="admin"), bootstrap.INSTALLATION)
            wait_until(lambda: signed(tmp_path, key) == before + 1, "the new entry be signed")
        links = store.record()
        entries = [Kept(it.seq, it.text, it.leaf, it.chain) for it in links]
    notes = [anchor.note.decode() for anchor in anchors_in(tmp_path / "anchors", LOG)]
    (tmp_path / "export").write_bytes(b"".join(written(LOG, entries, notes)))

    options = {"--export": "export", "--key": "keys.txt", "--anchors": "anchors"}
    arguments = [part for name, file in options.items() for part in (name, str(tmp_path / file))]
    done = CliRunner().invoke(cli, ["audit", "verify", *arguments])

    assert done.exit_code == 0, done.output
    assert done.output.startswith(f"✔ whole: {len(entries)} entries hang together")


def length(store: RedisStore) -> int:
    state = store.state()
    return 0 if state is None else state.seq


def signed(folder: Path, key: VerifierKey) -> int:
    """How many entries the newest anchor covers."""
    if not (folder / "anchors" / LOG).exists():
        return 0
    notes = [anchor.note for anchor in anchors_in(folder / "anchors", LOG)]
    return max((open_checkpoint(note, [key]).size for note in notes), default=0)
