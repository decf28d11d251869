"""Drills: beginning one, and the proof of what it showed."""

from __future__ import annotations

from flagserver.domain import access, documents, drills
from flagserver.domain.commands import Reasoned
from flagserver.domain.documents import Change, Fact, Principal
from flagserver.domain.drills import Proof
from flagserver.domain.environments import Environment
from flagserver.domain.errors import NotFound
from flagserver.domain.times import unix
from flagserver.ports import Clock, Documents, Entropy, Receipts

from .turns import RolloutView, Turns


class Drills:
    """Use cases around drills."""

    def __init__(
        self, store: Documents, receipts: Receipts, clock: Clock, entropy: Entropy
    ) -> None:
        self._store = store
        self._receipts = receipts
        self._clock = clock
        self._entropy = entropy
        self._turns = Turns(store, clock, entropy)

    def begin(self, id: str, command: Reasoned, by: Principal) -> RolloutView:
        """Write down that a rollout is about to be made to fail on purpose. Raises NotFound,
        Forbidden, Conflict (in a critical environment always)."""
        view = self._turns.get(id)
        rollout = view.rollout
        access.check(by, access.CHANGE, rollout.environment)
        drills.check(rollout, self._environment(rollout.environment))
        fact = Fact(
            actor=by.id,
            role=by.role_in(rollout.environment),
            action=drills.BEGIN,
            target=rollout.name,
            environment=rollout.environment,
            reason=command.reason or "A drill: it is made to fail on purpose.",
        )
        change = Change(writes=(), fact=fact)
        self._store.commit(change, at=self._clock.now(), salt=self._entropy.hex(16))
        return view

    def proof(self, id: str, by: Principal) -> Proof:
        """Return what a drill showed so far. Raises NotFound where there was none."""
        rollout = self._turns.get(id).rollout
        access.check(by, access.READ, rollout.environment)
        entries = self._store.history(target=rollout.name, environment=None, before=None, limit=500)
        begun = next((each for each in entries if each["action"] == drills.BEGIN), None)
        if begun is None:
            raise NotFound(f"There was no drill on {rollout.name}.")
        found, places = self._receipts.told(rollout.name)
        return Proof(rollout, unix(begun["ts"]), begun["actor"], drills.told(found, places))

    def _environment(self, key: str) -> Environment:
        document = self._store.read(documents.ENVIRONMENTS, key)
        if document is None:
            # Of one that is gone nobody knows better.
            return Environment(key, "", critical=True, created="", changed="")
        return Environment.from_body(document.body)
