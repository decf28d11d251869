"""Any sequence of changes and refusals leaves the store where a small model of it is."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sortition.record.entry import find_break

from flagserver.domain.documents import Change, Fact, Idempotency, Write, states
from flagserver.domain.errors import (
    AlreadyExists,
    ClaimTaken,
    IdempotencyMismatch,
    Moved,
    Refusal,
    StaleRevision,
)
from tests.contract.changes import STORE, commit
from tests.contract.conftest import Backend
from tests.contract.test_engine_contract import a_notice
from tests.slices import everything

FLAGS = st.sampled_from(["a", "b", "c"])
ENVIRONMENTS = st.sampled_from(["production", "staging"])
OFF_BY = st.sampled_from([0, 0, 0, 0, -1, 1])


class Model(RuleBasedStateMachine):
    """Documents, versions, claims and idempotency keys as dictionaries."""

    backend: Backend

    def __init__(self) -> None:
        super().__init__()
        self.documents: dict[tuple[str, str], tuple[int, Any]] = {}
        self.versions: Counter[str] = Counter()
        self.claims: dict[str, str] = {}
        self.keys: dict[str, tuple[str, int, dict[str, int]]] = {}
        self.entries: list[Any] = []
        self.told: list[str] = []

    @initialize()
    def begin(self) -> None:
        self.backend.empty()
        self.stores = [self.backend.open(), self.backend.open()]
        for store in self.stores:
            store.initialise(STORE)

    @rule(
        which=st.integers(0, 1),
        flags=st.sets(FLAGS, max_size=3),
        environment=ENVIRONMENTS,
        off_by=OFF_BY,
        claim=st.one_of(st.none(), st.tuples(st.sampled_from("xyz"), FLAGS)),
        release=st.one_of(st.none(), st.tuples(st.sampled_from("xyz"), FLAGS)),
        goes=st.one_of(st.none(), FLAGS),
        told=st.integers(0, 2),
        guard=st.one_of(st.none(), st.tuples(ENVIRONMENTS, OFF_BY)),
        key=st.one_of(st.none(), st.tuples(st.sampled_from("kl"), st.sampled_from("12"))),
        body=st.integers(0, 9),
    )
    def change(
        self,
        which: int,
        flags: set[str],
        environment: str,
        off_by: int,
        claim: tuple[str, str] | None,
        release: tuple[str, str] | None,
        goes: str | None,
        told: int,
        guard: tuple[str, int] | None,
        key: tuple[str, str] | None,
        body: int,
    ) -> None:
        collection = states(environment)
        writes = tuple(
            self._write(collection, flag, off_by, None if flag == goes else {"n": body})
            for flag in sorted(flags)
        )
        change = Change(
            writes=writes,
            fact=Fact("a", "r", "flag:share:change", "flag/x", environment, after=body),
            environments=(environment,),
            flags=tuple(sorted(flags)),
            claims=dict([claim]) if claim else {},
            releases=dict([release]) if release else {},
            notices=tuple(a_notice(str(len(self.told) + i)) for i in range(told)),
            at_versions={guard[0]: max(0, self.versions[guard[0]] + guard[1])} if guard else {},
            idempotency=Idempotency(*key) if key else None,
        )
        refused = self._expected(change)
        if refused is not None:
            with pytest.raises(Refusal) as refusal:
                commit(self.stores[which], change)
            assert refusal.type is refused
            return
        done = commit(self.stores[which], change)
        if key and key[0] in self.keys:
            _, seq, versions = self.keys[key[0]]
            assert (done.repeated, done.seq, done.versions) == (True, seq, versions)
            return
        self._carry_out(change)
        assert (done.repeated, done.seq) == (False, len(self.entries))
        assert done.versions == {environment: self.versions[environment]}

    @invariant()
    def the_store_is_where_the_model_is(self) -> None:
        if not hasattr(self, "stores"):
            return
        store = self.stores[0]
        assert dict(store.versions()) == dict(self.versions)
        for environment in ("production", "staging"):
            content = store.read_environment(environment)
            kept = {key: (each.revision, each.body) for key, each in content.states.items()}
            collection = states(environment)
            assert kept == {k: v for (c, k), v in self.documents.items() if c == collection}
            assert content.version == self.versions[environment]

    def teardown(self) -> None:
        if not hasattr(self, "stores"):
            return
        links = self.stores[1].record()
        assert len(links) == len(self.entries)
        assert find_break(links) is None
        undelivered = self.stores[0].undelivered("slack", limit=10**4)
        assert [notice.id for _, notice in undelivered] == self.told
        history = self.stores[1].history(target=None, environment=None, before=None, limit=10**6)
        assert [entry["after"] for entry in reversed(history)] == self.entries
        assert [event.seq for event in self.stores[1].events("0-0", 0)] == [
            link.seq for link in links
        ]

    def _write(self, collection: str, flag: str, off_by: int, body: Any) -> Write:
        expected = max(0, self._revision(collection, flag) + off_by)
        # What is to go must be there.
        return Write(collection, flag, expected, body if expected else {"n": 0})

    def _released(self, change: Change) -> set[str]:
        return {name for name, owner in change.releases.items() if self.claims.get(name) == owner}

    def _revision(self, collection: str, key: str) -> int:
        return self.documents.get((collection, key), (0, None))[0]

    def _expected(self, change: Change) -> type[Refusal] | None:
        once = change.idempotency
        if once and once.key in self.keys:
            return None if self.keys[once.key][0] == once.fingerprint else IdempotencyMismatch
        for write in change.writes:
            if self._revision(write.collection, write.key) != write.expected:
                return StaleRevision if write.expected else AlreadyExists
        held = {n: o for n, o in self.claims.items() if n not in self._released(change)}
        if any(held.get(name, owner) != owner for name, owner in change.claims.items()):
            return ClaimTaken
        if any(self.versions[name] != held for name, held in change.at_versions.items()):
            return Moved
        return None

    def _carry_out(self, change: Change) -> None:
        for write in change.writes:
            if write.body is None:
                del self.documents[write.collection, write.key]
            else:
                self.documents[write.collection, write.key] = (write.expected + 1, write.body)
        self.versions.update(change.environments)
        for name in self._released(change):
            del self.claims[name]
        self.claims.update(change.claims)
        self.told += [notice.id for notice in change.notices]
        self.entries.append(change.fact.after)
        if change.idempotency:
            versions = {name: self.versions[name] for name in change.environments}
            once = change.idempotency
            self.keys[once.key] = (once.fingerprint, len(self.entries), versions)


@pytest.mark.timeout(600 if everything() else 60)
def test_any_sequence_of_changes(backend: Backend):
    machine = type("Told", (Model,), {"backend": backend})
    bounds = settings(
        max_examples=300 if everything() else 8,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    run_state_machine_as_test(machine, settings=bounds)
