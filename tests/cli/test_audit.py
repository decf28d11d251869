"""`sortition audit`, offline: an export, a public key and a folder of anchors are enough."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sortition.cli import exits
from sortition.cli.main import cli
from sortition.record.checkpoint import Checkpoint, open_checkpoint

from flagserver import bootstrap
from flagserver.domain.commands import NewToken
from flagserver.domain.documents import Change, Principal
from flagserver.domain.doubts import Doubt
from flagserver.domain.errors import NotFound
from flagserver.services.audit import Page
from flagserver.services.sealing import Sealer
from flagserver.storage.anchors import DiskAnchors
from flagserver.storage.redis import keys
from flagserver.system import SystemClock, SystemEntropy
from tests.record.records import FOREIGN, KEY, LOG, Record, a_record

from .conftest import House


class Desk:
    """An auditor's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = a_record()
        self.put(self.record)
        (folder / "key").write_text(f"# ours\n{KEY.verifier}\n")
        for anchor in self.record.anchors or []:
            place = open_checkpoint(anchor.note, [KEY.verifier]).place
            path = folder / "anchors" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(anchor.note)

    def put(self, record: Record) -> None:
        (self.folder / "export").write_bytes(record.export())

    def run(self, *arguments: str) -> Result:
        runner = CliRunner(env={"SORTITION_URL": None, "SORTITION_TOKEN": None})
        # Names of files in the folder, so that a story reads well.
        placed = [arg.replace("@", f"{self.folder}/") for arg in arguments]
        return runner.invoke(cli, ["audit", *placed])

    def verify(self, *more: str) -> Result:
        return self.run("verify", "--export", "@export", "--key", "@key", *more)

    def verdict(self, *more: str) -> dict[str, Any]:
        return dict(json.loads(self.verify("--json", *more).stdout))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_whole_record_ends_with_0(desk: Desk):
    done = desk.verify("--anchors", "@anchors")

    assert done.exit_code == exits.DONE
    assert done.stdout == "✔ whole: 9 entries hang together, 9 are signed, 9 are anchored\n"
    assert desk.verdict("--anchors", "@anchors") == {
        "kind": "whole",
        "words": "9 entries hang together, 9 are signed, 9 are anchored",
        "seq": None,
        "until": None,
        "entries": 9,
        "pruned": 0,
        "signed": 9,
        "anchored": 9,
        "lost": 0,
    }


def test_a_changed_one_ends_with_9_and_names_the_entry(desk: Desk):
    export = desk.folder / "export"
    export.write_bytes(export.read_bytes().replace(b'{\\"share\\":50}', b'{\\"share\\":51}', 1))

    done = desk.verify("--anchors", "@anchors")

    assert done.exit_code == exits.CHECK_FAILED
    assert done.stdout == "✖ tampered: entry 4: the body does not match its leaf hash\n"
    assert desk.verdict()["seq"] == 4


def test_a_cut_one_is_seen_with_the_anchors_only(desk: Desk):
    del desk.record.links[6:]
    del desk.record.notes[2:]
    desk.put(desk.record)

    assert desk.verify().exit_code == exits.DONE
    assert "would not be seen" in desk.verdict()["words"]
    assert desk.verify("--anchors", "@anchors").exit_code == exits.CHECK_FAILED
    assert desk.verdict("--anchors", "@anchors")["kind"] == "truncated"


def test_another_key_is_the_wrong_one(desk: Desk):
    (desk.folder / "key").write_text(str(FOREIGN.verifier))

    assert desk.verify().exit_code == exits.CHECK_FAILED
    assert desk.verdict()["kind"] == "wrong_key"


@pytest.mark.parametrize("anchors", ["nowhere", "empty", "another log's", "a file"])
def test_anchors_that_are_not_there_are_unreachable(desk: Desk, anchors: str):
    (desk.folder / "empty").mkdir()
    (desk.folder / "another log's" / "flags.example" / "else" / "1").mkdir(parents=True)
    (desk.folder / "a file").write_text("")

    assert desk.verify("--anchors", f"@{anchors}").exit_code == exits.CHECK_FAILED
    assert desk.verdict("--anchors", f"@{anchors}")["kind"] == "anchor_unreachable"


def test_anchors_that_cannot_be_read_are_not_passed_over(desk: Desk):
    (desk.folder / "anchors" / LOG / "2").write_text("where a folder should be")

    verdict = desk.verdict("--anchors", "@anchors")
    assert verdict["kind"] == "anchor_unreachable"
    assert "Not a directory" in verdict["words"]


def test_what_is_no_anchor_in_the_folder_is_an_anchor_that_does_not_hold(desk: Desk):
    (desk.folder / "anchors" / LOG / "1" / f"{9:020d}").write_text("something else\n")

    assert desk.verdict("--anchors", "@anchors")["kind"] == "tampered"


def test_an_export_cannot_send_the_reader_elsewhere(desk: Desk):
    export = desk.folder / "export"
    export.write_bytes(export.read_bytes().replace(LOG.encode(), b"../anchors/" + LOG.encode(), 1))

    assert desk.verdict("--anchors", "@anchors")["kind"] == "tampered"


def test_words_of_a_file_do_not_steer_the_terminal(desk: Desk):
    export = desk.folder / "export"
    export.write_bytes(export.read_bytes().replace(LOG.encode(), b"a\\u001b[2J", 1))

    done = desk.verify()

    assert done.exit_code == exits.CHECK_FAILED
    assert "\x1b" not in done.stdout


# --- proofs ---------------------------------------------------------------------------------------


def test_a_proof_needs_no_record(desk: Desk):
    made = desk.run("prove", "5", "--export", "@export", "--key", "@key", "-o", "@proof")
    (desk.folder / "export").unlink()

    done = desk.run("verify", "--proof", "@proof", "--key", "@key")

    assert (made.exit_code, done.exit_code) == (exits.DONE, exits.DONE)
    assert done.stdout == f"✔ whole: this is entry 5 of {LOG}/1, as signed with 9 entries\n"
    proof = desk.folder / "proof"
    proof.write_text(proof.read_text().replace('"seq": 5', '"seq": 6'))
    assert desk.run("verify", "--proof", "@proof", "--key", "@key").exit_code == exits.CHECK_FAILED


def test_that_it_only_grew_is_proven_from_a_checkpoint_that_was_kept(desk: Desk):
    (desk.folder / "kept").write_text(desk.record.notes[0])

    made = desk.run("prove", "--since", "@kept", "--export", "@export", "--key", "@key")
    (desk.folder / "proof").write_text(made.stdout)

    done = desk.run("verify", "--proof", "@proof", "--key", "@key")
    assert done.stdout == f"✔ whole: {LOG}/1 only grew, from 3 to 9 entries\n"


def test_what_is_not_whole_proves_nothing(desk: Desk):
    desk.record.links[0], desk.record.links[1] = desk.record.links[1], desk.record.links[0]
    desk.put(desk.record)

    done = desk.run("prove", "5", "--export", "@export", "--key", "@key")

    assert done.exit_code == exits.CHECK_FAILED
    assert done.stdout == "✖ tampered: entry 1: found entry 2 in its place\n"


def test_what_is_not_there_is_said(desk: Desk):
    done = desk.run("prove", "12", "--export", "@export", "--key", "@key")

    assert done.exit_code == exits.ERROR
    assert done.stderr == "✖ entries 1 to 9 are signed, entry 12 is not\n"


# --- with the server ------------------------------------------------------------------------------


@pytest.fixture
def sealed(house: House, tmp_path: Path) -> Sealer:
    """What signs the server's record; the public key is at hand."""
    (tmp_path / "key").write_text(str(KEY.verifier))
    anchors = DiskAnchors(tmp_path / "anchors")
    return Sealer(house.services.audit._store, KEY, anchors, SystemClock(), SystemEntropy())


def test_the_log_says_what_was_done(house: House):
    assert house.run("flags", "create", "new-search", "--reason", "for the shop").exit_code == 0

    done = house.run("audit", "log", "--limit", "1")
    told = house.json("audit", "log", "--target", "flag/new-search")

    assert "for the shop" in done.stdout
    assert "flag/new-search" in done.stdout
    assert [entry["target"] for entry in told["entries"]] == ["flag/new-search"]


def test_the_servers_record_is_exported_and_verified(house: House, sealed: Sealer, tmp_path: Path):
    sealed.seal()
    for number in range(3):
        assert house.run("flags", "create", f"flag-{number}").exit_code == 0
    sealed.seal()
    options = ["--key", str(tmp_path / "key"), "--anchors", str(tmp_path / "anchors")]

    made = house.json("audit", "export", "-o", str(tmp_path / "export"))
    offline = house.json("audit", "verify", "--export", str(tmp_path / "export"), *options)
    online = house.json("audit", "verify", *options)

    assert offline["kind"] == online["kind"] == "whole"
    # That it is read is written down each time, and not signed yet.
    assert made["entries"] == offline["entries"] == offline["signed"] + 1
    assert online["entries"] == offline["entries"] + 1
    assert online["anchored"] == offline["anchored"] == offline["signed"]


def test_whoever_reads_all_of_it_is_noted(house: House, tmp_path: Path):
    assert house.run("audit", "export", "-o", str(tmp_path / "export")).exit_code == 0

    (newest,) = house.json("audit", "log", "--limit", "1")["entries"]
    assert newest["action"] == "record:export:begin"
    assert newest["actor"].startswith("token:")


def test_a_proof_comes_from_the_server_too(house: House, sealed: Sealer, tmp_path: Path):
    sealed.seal()
    audit, by = house.services.audit, bootstrap.INSTALLATION
    (tmp_path / "proof").write_text(json.dumps(audit.proof(2, by)))

    done = house.run(
        *("audit", "verify", "--proof", str(tmp_path / "proof")),
        *("--key", str(tmp_path / "key")),
    )

    assert (done.exit_code, "this is entry 2 of" in done.stdout) == (exits.DONE, True)
    assert audit.proof(None, by)["seq"] == audit.standing().signed
    with pytest.raises(NotFound, match="are signed, entry 999 is not"):
        audit.proof(999, by)


SET = ("flags", "set", "new-search", "--env", "staging")

# --- replay ---------------------------------------------------------------------------------------


def test_flags_are_what_the_record_says(house: House, tmp_path: Path):
    assert house.run("flags", "create", "new-search").exit_code == 0
    assert (
        house.run("flags", "set", "new-search", "--env", "staging", "--share", "5").exit_code == 0
    )

    done = house.run("audit", "replay")

    assert done.exit_code == exits.DONE
    assert done.stdout.startswith("✔ same: 2 things are what ")
    assert house.run("audit", "export", "-o", str(tmp_path / "export")).exit_code == 0
    again = house.json("audit", "replay", "--export", str(tmp_path / "export"))
    assert (again["kind"], again["findings"], again["things"]) == ("same", [], 2)


def test_what_was_changed_around_the_server_is_found(house: House, tmp_path: Path):
    assert house.run("flags", "create", "new-search").exit_code == 0
    assert (
        house.run("flags", "set", "new-search", "--env", "staging", "--share", "5").exit_code == 0
    )
    assert house.run("audit", "export", "-o", str(tmp_path / "export")).exit_code == 0
    store = house.services.audit._store
    place = keys.documents("states/staging")
    kept = store._server.read("HGET", place, "new-search")  # type: ignore[attr-defined]
    store._server.write("HSET", place, "new-search", kept.replace(b"50000", b"990000"))  # type: ignore[attr-defined]

    done = house.run("audit", "replay")
    told = json.loads(house.run("audit", "replay", "--json").stdout)

    assert done.exit_code == exits.CHECK_FAILED
    assert "staging/flag/new-search: entry " in done.stdout
    assert "left it with another share" in done.stdout
    (finding,) = told["findings"]
    assert (told["kind"], finding["kind"]) == ("around", "other")
    assert house.run("flags", "create", "later").exit_code == 0
    old = house.run("audit", "replay", "--export", str(tmp_path / "export"))
    assert (old.exit_code, "Export the record again" in old.stderr) == (exits.ERROR, True)


# --- what is lost ---------------------------------------------------------------------------------


def test_what_is_in_doubt_is_acknowledged(house: House):
    doubt = Doubt("truncated", "9 entries were signed, and 4 are here.", "", 1, 4, a_note(9))
    change = Change(writes=(doubt.write(),), fact=doubt.fact())
    house.services.audit._store.commit(change, at=SystemClock().now(), salt="00" * 16)
    assert house.run("flags", "create", "new-search").exit_code == 0
    wanted = [*SET, "--share", "5"]
    refused = house.run(*wanted)
    assert (refused.exit_code, "sortition audit acknowledge" in refused.stderr) == (7, True)

    done = house.run("audit", "acknowledge", "--reason", "the disk was full")

    assert done.exit_code == exits.DONE, done.output
    assert "epoch 2" in done.stdout
    assert "5 entries are lost" in done.stdout
    house.services.snapshots.step(0.01)
    assert house.run(*wanted).exit_code == exits.DONE
    again = house.run("audit", "acknowledge", "--reason", "the disk was full")
    assert (again.exit_code, "nothing to acknowledge" in again.stderr) == (exits.CONFLICT, True)


def a_note(size: int) -> str:
    return Checkpoint(LOG, 1, size, bytes(32)).signed(KEY)


def test_an_export_is_read_in_pages(house: House, sealed: Sealer, tmp_path: Path):
    for number in range(5):
        assert house.run("flags", "create", f"flag-{number}").exit_code == 0
    sealed.seal()
    pages: list[int] = []
    asked = house.services.audit.page

    def small(after: int, limit: int, by: Principal) -> Page:
        pages.append(after)
        return asked(after, 2, by)

    house.services.audit.page = small  # type: ignore[method-assign]  # a page holds a thousand

    online = house.json("audit", "verify", "--key", str(tmp_path / "key"))

    assert online["kind"] == "whole"
    assert pages == list(range(0, online["entries"] + online["entries"] % 2, 2))


def test_a_record_that_nobody_signs_is_not_whole(house: House, tmp_path: Path):
    (tmp_path / "key").write_text(str(KEY.verifier))

    done = house.run("audit", "verify", "--key", str(tmp_path / "key"))

    assert done.exit_code == exits.CHECK_FAILED
    assert "wrong_key: nothing in it is signed" in done.stdout


def test_only_an_admin_of_all_environments_gets_the_whole_record(house: House, tmp_path: Path):
    confined = [
        NewToken(scope="deploy", environment="staging"),
        NewToken(scope="admin", environment="staging"),
    ]
    for wanted in confined:
        made = house.services.tokens.create(wanted, bootstrap.INSTALLATION)
        house.services.snapshots.step(0.01)
        house.api = replace(house.api, token=str(made.text))
        done = house.run("audit", "export", "-o", str(tmp_path / "export"))
        assert done.exit_code == exits.NOT_PERMITTED, done.output


# --- used wrongly ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["verify", "--key", "@key"], exits.USAGE, "No server: set SORTITION_URL"),
        (
            ["verify", "--key", "@key", "--export", "@export", "--proof", "@key"],
            exits.USAGE,
            "not both",
        ),
        (["verify", "--export", "@export"], exits.USAGE, "--key"),
        (["verify", "--export", "@none", "--key", "@key"], exits.USAGE, "none"),
        (["verify", "--export", "@export", "--key", "@export"], exits.ERROR, "line 1"),
        (["verify", "--proof", "@key", "--key", "@key"], exits.ERROR, "this is no JSON"),
        (
            ["verify", "--proof", "@key", "--key", "@key", "--anchors", "@anchors"],
            exits.USAGE,
            "--anchors belongs to --export",
        ),
        (["prove", "--export", "@export", "--key", "@key"], exits.USAGE, "Give ENTRY"),
    ],
)
def test_it_says_how_it_is_used(desk: Desk, arguments: list[str], code: int, words: str):
    done = desk.run(*arguments)

    assert done.exit_code == code
    assert words in done.output
