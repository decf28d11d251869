"""The record for people: what was done, by whom and why; an entry; whether it is whole."""

from __future__ import annotations

import json
from contextlib import suppress

from flask import Blueprint, Response, request, url_for
from sortition.core.model import KEY
from werkzeug.wrappers import Response as AnyResponse

from flagserver.domain import access
from flagserver.domain.commands import Acknowledgement
from flagserver.domain.errors import Conflict, NotFound

from .. import record_page
from ..forms import Typed, Unusable, build
from ..interface import Interface, may, principal
from ..story import line


class Audit:
    """The log, an entry, and having it checked."""

    def __init__(self, ui: Interface) -> None:
        self._ui = ui
        self._services = ui.services

    def log(self) -> Response:
        """Entries, newest first, as the address narrows them down."""
        asked = record_page.read(request.args)
        exact = self._exact(asked)
        found = record_page.find(self._services.audit.log, asked, exact, self._ui.name_of)
        return self._ui.page(
            "audit.html",
            asked=asked,
            exact=exact,
            lines=[line(entry) for entry in found.entries],
            found=found,
            subjects=record_page.SUBJECTS,
            environments=[each.environment.key for each in self._services.environments.all()],
            record=self._services.record,
            standing=self._services.audit.standing(),
            checkpoint=record_page.newest(self._services.audit.checkpoints()),
        )

    def _exact(self, asked: record_page.Asked) -> str | None:
        """Return the one thing that an address means: named in full, or a flag by its key."""
        if "/" in asked.thing:
            return asked.thing
        if asked.subject not in {"", "flag"} or not KEY.fullmatch(asked.thing):
            return None
        with suppress(NotFound):
            return f"flag/{self._services.flags.get(asked.thing).flag.key}"
        return None

    def acknowledging(self) -> Response:
        """Say what is lost, and ask whether that is known."""
        return self._acknowledging(Typed())

    def acknowledge(self) -> AnyResponse:
        """Take it that entries are lost, so that things may be enlarged again."""
        typed = Typed(request.form.to_dict())
        try:
            command = build(Acknowledgement, typed, reason=typed.text("reason").strip())
            self._services.losses.acknowledge(command, principal())
        except Unusable:
            return self._acknowledging(typed, 422)
        except Conflict as refusal:
            typed.refuse(refusal)
            return self._acknowledging(typed, refusal.status)
        return self._ui.go(url_for("admin.audit"), "acknowledged")

    def _acknowledging(self, typed: Typed, status: int = 200) -> Response:
        access.check(principal(), access.MANAGE)
        return self._ui.page(
            "audit_acknowledge.html",
            status=status,
            standing=self._services.audit.standing(),
            form=typed,
        )

    def proof(self, seq: int) -> Response:
        """The proof that an entry is in the signed record, as a file for whoever checks it."""
        made = self._services.audit.proof(seq, principal())
        answer = Response(json.dumps(made, indent=2) + "\n", mimetype="application/json")
        answer.headers["Content-Disposition"] = f'attachment; filename="entry-{seq}-proof.json"'
        return answer

    def entry(self, seq: int) -> Response:
        """One entry."""
        found = self._services.audit.log(target=None, environment=None, before=seq + 1, limit=1)
        if not found or found[0]["seq"] != seq:
            raise NotFound(f"The record has no entry {seq} any more, or not yet.")
        entry = found[0]
        kept = None
        if may(access.AUDIT):
            kept = self._services.audit.page(seq - 1, 1, principal()).links[0]
        return self._ui.page(
            "audit_entry.html",
            entry=entry,
            line=line(entry),
            parts_of=record_page.parts(entry.get("before"), entry.get("after")),
            kept=kept,
            signed=record_page.newest(self._services.audit.checkpoints()),
            text="" if kept is None else (kept.canonical or b"").decode(),
        )

    def verify(self) -> AnyResponse:
        """Check what of the record was not checked yet."""
        access.check(principal(), access.AUDIT)
        broken = self._services.record.check()
        word = "whole" if broken is None else "broken"
        return self._ui.go(url_for("admin.audit"), word)


def routes(blueprint: Blueprint, ui: Interface) -> None:
    """Add the addresses of the record."""
    audit = Audit(ui)
    blueprint.add_url_rule("/audit", "audit", audit.log)
    # A store counts no further.
    here = f"/audit/<int(max={2**53 - 1}):seq>"
    blueprint.add_url_rule(here, "audit_entry", audit.entry)
    blueprint.add_url_rule(f"{here}/proof", "audit_proof", audit.proof)
    blueprint.add_url_rule("/audit/acknowledge", "audit_acknowledging", audit.acknowledging)
    blueprint.add_url_rule(
        "/audit/acknowledge", "audit_acknowledge", audit.acknowledge, methods=["POST"]
    )
    blueprint.add_url_rule("/audit/verify", "audit_verify", audit.verify, methods=["POST"])
