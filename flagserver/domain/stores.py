"""Which store this is, whether it still is the one that was known, and whether it will keep things.

A store that was emptied, restored, failed over or exchanged must not replace flags that are known:
`doubt` says why a store's word is not taken. See docs/adr/0008-what-is-known-is-kept.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from sortition.core import model as core

from .flags import State, enlarges

EMPTY, FOREIGN, BEHIND, UNSAFE = "empty", "foreign", "behind", "unsafe"
KINDS = (EMPTY, FOREIGN, BEHIND, UNSAFE)
"""What an alarm can be about."""


@dataclass(frozen=True, slots=True)
class StoreState:
    """Which store this is and how far its record goes.

    chain: value of the record's last entry, hex.  was: the id that the store gave up when an
    operator accepted it.
    """

    store: str
    epoch: int
    seq: int
    chain: str
    was: str | None = None

    @property
    def mark(self) -> core.SnapshotVersion:
        """Its place among the states of this store: a later one follows."""
        return core.SnapshotVersion(self.store, self.epoch, self.seq)

    def __str__(self) -> str:
        return f"{self.store}, epoch {self.epoch}, entry {self.seq}"


@dataclass(frozen=True, slots=True)
class Alarm:
    """Why a store's word is not taken. kind: one of KINDS; detail: for people."""

    kind: str
    detail: str


ADVICE = "Bring the right store back, or decide: flagserver store status."


def doubt(known: StoreState, found: StoreState | None, chain: str | None) -> Alarm | None:
    """Return why the store that is there is not the one that was known, or None: it is.

    chain: of the store's entry `known.seq`, None where its record does not go so far.
    """
    if found is None:
        return Alarm(EMPTY, f"The store is empty; it was store {known.store}. {ADVICE}")
    same = chain == known.chain or known.seq == 0
    if found.store != known.store:
        if found.was == known.store and same:
            return None
        return Alarm(FOREIGN, f"The store is {found.store}, and not {known.store}. {ADVICE}")
    if found.epoch > known.epoch:
        # Only an operator raises it.
        return None
    if found.epoch < known.epoch:
        return Alarm(BEHIND, f"The store is a copy from before epoch {known.epoch}. {ADVICE}")
    if same:
        return None
    if chain is None:
        ends = f"ends at entry {found.seq}, and entry {known.seq} was seen"
        return Alarm(BEHIND, f"The store lost changes: its record {ends}. {ADVICE}")
    other = f"entry {known.seq} of its record is not the one that was seen"
    return Alarm(BEHIND, f"The store lost changes: {other}. {ADVICE}")


def versions_doubt(
    found: StoreState, versions: Mapping[str, int], held: Mapping[str, core.SnapshotVersion]
) -> Alarm | None:
    """Return why the store cannot be right about an environment, or None: it can."""
    for environment, version in sorted(held.items()):
        if version.store != found.store or version.epoch != found.epoch:
            continue
        there = versions.get(environment, 0)
        if there < version.version:
            at = f"{environment} is at version {there}, and {version.version} was served"
            return Alarm(BEHIND, f"The store lost changes: {at}. {ADVICE}")
    return None


# --- whether it keeps things ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Conditions:
    """How a store is run; None where it does not say.

    policy: what it does when its memory is full.  limit, used: octets; limit 0: none.
    appends: whether writes are logged to disk.  writes_well: whether the last such write went well.
    replica: whether it is one.  linked: whether a replica has its master.
    ahead: seconds by which its clock is ahead of ours.
    """

    policy: str | None = None
    limit: int | None = None
    used: int | None = None
    appends: bool | None = None
    writes_well: bool | None = None
    replica: bool | None = None
    linked: bool | None = None
    ahead: float | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Something about how the store is run. refused: flags may be lost without a word, so the
    store is not followed until it is mended."""

    detail: str
    advice: str
    refused: bool = False


FULL = 0.9
"""Share of its memory at which a store is said to be nearly full."""

SKEW_SECONDS = 2.0
"""How far apart clocks may be. Leases go by the store's clock and tokens end by ours."""


def faults(conditions: Conditions) -> Iterator[Fault]:
    """Return what is wrong with how a store is run, the worst first."""
    policy, limit = conditions.policy, conditions.limit or 0
    if policy is not None and policy != "noeviction":
        advice = "Set maxmemory-policy noeviction."
        if policy.startswith("allkeys") and limit > 0:
            detail = f"The store throws flags away when its memory is full ({policy})."
            yield Fault(detail, advice, refused=True)
        elif policy.startswith("allkeys"):
            detail = f"The store would throw flags away if it had a maxmemory ({policy})."
            yield Fault(detail, advice)
        else:
            detail = (
                f"The store throws sessions and leases away when its memory is full ({policy})."
            )
            yield Fault(detail, advice)
    if conditions.replica:
        detail = "The store is a replica: changes cannot be made there."
        if conditions.linked is False:
            detail = "The store is a replica that has lost its master: it may be behind."
        yield Fault(detail, "Name its master in SORTITION_REDIS_URL.")
    if conditions.appends is False:
        detail = "The store keeps no log on disk: a restart loses changes."
        yield Fault(detail, "Set appendonly yes and appendfsync always.")
    if conditions.writes_well is False:
        yield Fault("The store's last write to its disk failed.", "Look at its disk and its log.")
    ahead = conditions.ahead or 0.0
    if abs(ahead) > SKEW_SECONDS:
        way = "ahead of" if ahead > 0 else "behind"
        detail = f"The store's clock is {abs(ahead):.0f} s {way} this server's."
        yield Fault(detail, "Let both follow the same time server.")
    if limit > 0 and conditions.used is not None and conditions.used > FULL * limit:
        percent = round(100 * conditions.used / limit)
        yield Fault(f"The store's memory is {percent} % full.", "Raise maxmemory.")


# --- taking a store in place of another -----------------------------------------------------------


def laid_open(served: core.Snapshot, found: core.Snapshot) -> list[str]:
    """Return the flags that the store which is there would expose more than was served."""
    return [
        key
        for key, flag in sorted(found.flags.items())
        if _exposes_more(served.flags.get(key), flag, found.environment)
    ]


def _exposes_more(before: core.Flag | None, after: core.Flag, environment: str) -> bool:
    now = state_of(after, environment)
    if before is None:
        return not now.serves_only_rest()
    if replace(before, revision=after.revision) == after:
        return False
    if any(getattr(before, part) != getattr(after, part) for part in ("salt", "variants", "rest")):
        return not now.serves_only_rest()
    return enlarges(state_of(before, environment), now)


def state_of(flag: core.Flag, environment: str) -> State:
    """Return the state that a snapshot's flag was made from."""
    return State(
        flag=flag.key,
        environment=environment,
        share=flag.share,
        weights=flag.weights,
        conditions=flag.conditions,
        prerequisites=flag.prerequisites,
        killed=flag.killed,
    )
