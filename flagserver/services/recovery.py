"""The operator's decision about a store that is not the one that was known.

Nothing here happens by itself: a store that lost something may have lost a kill, and taking it
would expose again whom somebody had taken out. See docs/adr/0008-what-is-known-is-kept.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sortition.core.bucketing import seed
from sortition.core.model import Snapshot

from flagserver.domain import documents, doubts, environments, flags, stores
from flagserver.domain.commands import checked_reason
from flagserver.domain.documents import Change, EnvironmentContent, Fact, Principal, Write
from flagserver.domain.doubts import Doubt
from flagserver.domain.environments import Environment
from flagserver.domain.errors import Conflict
from flagserver.domain.flags import Flag, State
from flagserver.domain.previews import LONGEST_HOURS
from flagserver.domain.snapshots import build_snapshot
from flagserver.domain.stores import EMPTY, UNSAFE, Alarm, Fault, StoreState, laid_open
from flagserver.domain.times import rfc3339
from flagserver.ports import Clock, Copies, Documents, Entropy, Kept, StoreIdentity

from .trust import Trust

OPERATOR = "operator"
"""Who decides: whoever may run commands beside the server's data."""

UNTOLD = "The store that had it is gone, or another stands in its place. Switch it on again."
"""Why people are told that a second person is wanted no more."""

NOTHING_YET = Fact(OPERATOR, OPERATOR, "store:accept", "store")


@dataclass(frozen=True, slots=True)
class Report:
    """What is known here, what is there, and what taking it would mean.

    exposes: environment -> flags that it would expose more than was served.
    """

    known: StoreState | None
    found: StoreState | None
    alarm: Alarm | None
    exposes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    """What was decided.

    killed: environment -> flags, so that nobody is exposed who was not.
    filled: environment -> how many flags were put into an empty store, as they were served.
    loosened: environments in which enlarging waits for no second person any more, as far as is
    known: where it was not kept what is said of one, it may have been so.
    """

    identity: StoreIdentity
    killed: Mapping[str, Sequence[str]]
    filled: Mapping[str, int]
    loosened: Sequence[str] = ()


class Recovery:
    """Use cases for an operator on a machine that has served."""

    def __init__(
        self,
        store: Documents,
        clock: Clock,
        entropy: Entropy,
        copies: Copies,
        promised: Callable[[], str | None] = lambda: None,
    ) -> None:
        """promised: the newest checkpoint that was anchored, None where nothing is signed."""
        self._store = store
        self._promised = promised
        self._clock = clock
        self._entropy = entropy
        self._copies = copies

    def look(self) -> Report:
        """Compare the store with what this machine knows. Raises StoreUnavailable."""
        trust = Trust(self._store, self._clock, self._copies)
        kept = trust.restore().snapshots
        trust.examine({name: snapshot.version for name, snapshot in kept.items()})
        found = self._store.state()
        exposes = {}
        if found is not None and trust.alarm is not None:
            exposes = {
                name: keys
                for name, content in self._contents().items()
                if (keys := laid_open(_served(kept, content), _snapshot(content)))
            }
        return Report(trust.known, found, trust.alarm, exposes, trust.faults)

    def accept(
        self,
        store: str,
        reason: str | None,
        *,
        as_is: bool = False,
        in_place_of: StoreIdentity | None = None,
        by: Principal | None = None,
    ) -> Accepted:
        """Take the store that is there in place of the one that was known.

        It gets the known id in a higher epoch, so that every server and SDK takes it. Flags that it
        would expose more than was served are killed, and an empty one is filled with what this
        machine knows, unless it is taken as it is. People are told where a second person is
        wanted no more.

        store: the id that `look` found, or `empty`.  in_place_of: what was known, where this
        machine does not know it.  by: whoever decides, unless it is an operator here. Raises
        Conflict when there is nothing to decide, Invalid for a reason that must not be kept.
        """
        reason = None if reason is None else checked_reason(reason)
        report = self.look()
        known = _identity(report.known) or in_place_of
        found = self._wanted(report, store, known)
        if known is None:
            raise Conflict(
                "This machine does not know which store there was: say it with --in-place-of."
            )
        successor = StoreIdentity(known.store, max(known.epoch, found.epoch) + 1)
        killed = {} if as_is else report.exposes
        kept = self._copies.read()
        filled = {} if as_is or report.found is not None else kept.snapshots
        loosened = self._loosened(kept, filled)
        done = Accepted(
            *(successor, killed, {name: len(snapshot.flags) for name, snapshot in filled.items()}),
            tuple(each.key for each in loosened),
        )
        document = self._store.read(doubts.COLLECTION, doubts.KEY)
        doubt = None if document is None else Doubt.from_body(document.body)
        change = self._filling(kept) if filled else self._killing(killed)
        change = replace(
            change, notices=tuple(environments.loosened(each, UNTOLD) for each in loosened)
        )
        if document is not None and doubt is not None:
            change = replace(
                change,
                writes=(*change.writes, doubts.lifted(document)),
                notices=(*change.notices, doubt.ends(known.store, self._now())),
            )
        self._store.accept(
            *(replace(change, fact=self._fact(done, found, doubt, reason, by)), found, successor),
            at=self._clock.now(),
            salt=self._entropy.hex(16),
        )
        return done

    def _fact(
        self,
        done: Accepted,
        found: StoreState,
        doubt: Doubt | None,
        reason: str | None,
        by: Principal | None,
    ) -> Fact:
        """Return what the record says: also what is lost, and what was promised about it.

        Without that a verifier could not tell this loss from one that nobody decided about.
        """
        return Fact(
            actor=OPERATOR if by is None else by.id,
            role=OPERATOR if by is None else by.role_in(None),
            action="store:accept",
            target=f"store/{done.identity.store}",
            before={
                "store": found.store,
                "epoch": found.epoch,
                "entries": found.seq,
                "checkpoint": self._promised() or (doubt and doubt.promised),
                "kept": found.seq if doubt is None else doubt.kept,
            },
            after={
                "store": done.identity.store,
                "epoch": done.identity.epoch,
                "killed": {name: list(keys) for name, keys in done.killed.items()},
                "filled": dict(done.filled),
                "loosened": list(done.loosened),
            },
            reason=reason,
        )

    def _wanted(self, report: Report, store: str, known: StoreIdentity | None) -> StoreState:
        """Return the store to be accepted; an empty one is set up. Raises Conflict."""
        alarm, found = report.alarm, report.found
        if alarm is not None and alarm.kind == UNSAFE:
            raise Conflict(alarm.detail)
        if alarm is None and (report.known is not None or known is None):
            raise Conflict("There is nothing to decide: the store is the one that is known.")
        if store != (EMPTY if found is None else found.store):
            there = "empty" if found is None else found.store
            raise Conflict(f"The store is {there}, and not {store}: look again.")
        if found is None:
            self._store.initialise(self._entropy.hex(8))
            found = self._store.state()
        if found is None:
            raise Conflict("The store was emptied again: look again.")
        return found

    def _loosened(self, kept: Kept, filled: Mapping[str, Snapshot]) -> list[Environment]:
        """Return the environments, as they will be, that wanted a second person and will not: also
        those of which nobody can say whether they did."""
        at, told = self._now(), {each.key: each for each in kept.environments or ()}
        found = self._store.read_all(documents.ENVIRONMENTS)
        left = {key: Environment.from_body(document.body) for key, document in found.items()}
        left |= {each.key: each for each in _refilled(kept, at)} if filled else {}
        wanting = {key for key, each in told.items() if each.four_eyes}
        untold = filled.keys() - told.keys()
        wanted = {key for key, each in left.items() if each.four_eyes}
        return [
            replace(left.get(key) or told[key], four_eyes=False, changed=at)
            for key in sorted((wanting | untold) - wanted)
        ]

    def _contents(self) -> dict[str, EnvironmentContent]:
        names = sorted(self._store.read_all(documents.ENVIRONMENTS))
        return {name: self._store.read_environment(name) for name in names}

    def _killing(self, killed: Mapping[str, Sequence[str]]) -> Change:
        """Return what kills flags, environment by environment."""
        contents = self._contents()
        return Change(
            writes=tuple(
                self._kill(contents[name], key) for name, keys in killed.items() for key in keys
            ),
            fact=NOTHING_YET,
            environments=tuple(killed),
            flags=tuple(sorted({key for keys in killed.values() for key in keys})),
            at_versions={name: contents[name].version for name in killed},
        )

    def _kill(self, content: EnvironmentContent, key: str) -> Write:
        document = content.states.get(key)
        if document is None:
            flag = Flag.from_body(content.flags[key].body)
            state, revision = flags.default_state(flag, content.environment), 0
        else:
            state, revision = State.from_body(document.body), document.revision
        killed = replace(state, killed=True, changed=self._now())
        collection = documents.states(content.environment)
        return Write(collection, key, revision, killed.to_body())

    def _filling(self, kept: Kept) -> Change:
        """Return what puts into an empty store all that this machine knows."""
        at, snapshots = self._now(), kept.snapshots
        live = {key: flag for each in snapshots.values() for key, flag in each.flags.items()}
        writes = [
            Write(documents.ENVIRONMENTS, each.key, 0, each.to_body())
            for each in _refilled(kept, at)
        ]
        writes += [
            Write(documents.TOKENS, token.id, 0, token.to_body()) for token in kept.tokens or ()
        ]
        writes += [
            Write(documents.FLAGS, key, 0, flags.known_as(flag, at=at).to_body())
            for key, flag in sorted(live.items())
        ]
        writes += [
            Write(documents.states(name), key, 0, stores.state_of(flag, name).to_body())
            for name, snapshot in sorted(snapshots.items())
            for key, flag in sorted(snapshot.flags.items())
        ]
        # How long a revoked preview had yet is not known any more: none has longer than this.
        over = int(self._clock.now().timestamp()) + LONGEST_HOURS * 3600
        writes += [
            Write(documents.REVOKED_PREVIEWS, name, 0, dict.fromkeys(revoked, over))
            for name, snapshot in sorted(snapshots.items())
            if (revoked := snapshot.revoked_previews)
        ]
        return Change(
            writes=tuple(writes),
            fact=NOTHING_YET,
            environments=tuple(sorted(snapshots)),
            flags=tuple(sorted(live)),
            claims={f"seed:{seed(flag.salt)}": key for key, flag in live.items()},
        )

    def _now(self) -> str:
        return rfc3339(self._clock.now())


def _refilled(kept: Kept, at: str) -> list[Environment]:
    """Return the environments that this machine has served, as they were; of those of which
    nothing else was kept, what their key says."""
    told = {each.key: environments.restored(each, at=at) for each in kept.environments or ()}
    return [told.get(key) or environments.known_as(key, at=at) for key in sorted(kept.snapshots)]


def as_json(report: Report) -> dict[str, Any]:
    """Return a report as a JSON object."""
    return {
        "known": _described(report.known),
        "found": _described(report.found),
        "alarm": None if report.alarm is None else report.alarm.kind,
        "detail": None if report.alarm is None else report.alarm.detail,
        "exposes": {name: list(keys) for name, keys in report.exposes.items()},
        "faults": [f"{fault.detail} {fault.advice}" for fault in report.faults],
    }


def _described(state: StoreState | None) -> dict[str, Any] | None:
    if state is None:
        return None
    return {"store": state.store, "epoch": state.epoch, "entries": state.seq}


def _identity(state: StoreState | None) -> StoreIdentity | None:
    return None if state is None else StoreIdentity(state.store, state.epoch)


def _snapshot(content: EnvironmentContent) -> Snapshot:
    return build_snapshot(content, flush_seconds=0.0, edges=())


def _served(kept: Mapping[str, Snapshot], content: EnvironmentContent) -> Snapshot:
    """Return what was served in an environment; nothing, where it is not known here."""
    found = kept.get(content.environment)
    return replace(_snapshot(content), flags={}) if found is None else found
