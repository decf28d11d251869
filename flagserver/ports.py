"""Every door of the server on one page. Drivers stand behind them; services knock.

All doors raise `StoreUnavailable` (or their own refusal) when the other side does not answer in
time; none waits without bound.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ParamSpec, Protocol, Self, TypeVar, runtime_checkable

from sortition.core.model import Snapshot
from sortition.record.entry import Link
from sortition.record.note import VerifierKey

from flagserver.domain.documents import (
    Body,
    Change,
    Committed,
    Document,
    EnvironmentContent,
    Event,
    Idempotency,
)
from flagserver.domain.environments import Environment
from flagserver.domain.errors import Refusal
from flagserver.domain.guards import Action, Verdict
from flagserver.domain.hooks import Asking
from flagserver.domain.metrics import Posted
from flagserver.domain.notices import Notice
from flagserver.domain.outcomes import Drawn, Part, Report, Row, Totals
from flagserver.domain.people import Outsider
from flagserver.domain.retention import Range
from flagserver.domain.rollout import Rollback, Rollout
from flagserver.domain.signals import Ask, Measured, Signal
from flagserver.domain.stores import Conditions, StoreState
from flagserver.domain.targets import Reading, Target
from flagserver.domain.tokens import Token
from flagserver.domain.verbs import Turn

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoreIdentity:
    """Which store this is. A store that was flushed or replaced has another id."""

    store: str
    epoch: int


class Clock(Protocol):
    """Time, as an argument."""

    def now(self) -> datetime:
        """Return the present in UTC."""

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""


class Entropy(Protocol):
    """Chance, as an argument."""

    def hex(self, octets: int) -> str:
        """Return that many random octets in hex, fit for secrets."""


class Documents(Protocol):
    """What is authoritative: documents, the record and the feed, changed together or not at all."""

    def initialise(self, store: str) -> StoreIdentity:
        """Return the store's identity, giving it this one if it has none (an empty store)."""

    def identity(self) -> StoreIdentity | None:
        """Return the store's identity, or None when it is empty."""

    def state(self) -> StoreState | None:
        """Return which store this is and how far its record goes, or None when it is empty."""

    def conditions(self) -> Conditions:
        """Return how the store is run, as far as it says."""

    def interruptions(self) -> int:
        """Return how often this process lost the store's answer. Since the last of them, another
        store may stand in its place."""

    def distrust(self, why: str | None) -> None:
        """Refuse every commit of this process with StoreUnavailable, for this reason; None: no
        more."""

    def accept(
        self,
        change: Change,
        found: StoreState,
        successor: StoreIdentity,
        *,
        at: datetime,
        salt: str,
    ) -> Committed:
        """Carry out a change and give the store that was found another identity, in one script.

        The change is made in the successor's epoch. Raises Conflict when the store is no longer
        as it was found, and what `commit` raises.
        """

    def read(self, collection: str, key: str) -> Document | None:
        """Return one document."""

    def read_all(self, collection: str) -> dict[str, Document]:
        """Return a collection's documents by key."""

    def keys(self, collection: str) -> list[str]:
        """Return the keys of a collection's documents, in no order."""

    def read_some(self, collection: str, names: Sequence[str]) -> dict[str, Document]:
        """Return those of a collection's documents that are there, by key; asked for together, not
        as of one moment."""

    def read_environment(
        self, environment: str, flags: Sequence[str] | None = None
    ) -> EnvironmentContent:
        """Return an environment (or only the named flags of it) as of one version, atomically.

        An environment that nobody wrote to has version 0. Raises Conflict on an empty store.
        """

    def versions(self) -> Mapping[str, int]:
        """Return every environment's snapshot version."""

    def commit(self, change: Change, *, at: datetime, salt: str) -> Committed:
        """Carry out a change in ONE script: revisions checked, documents written, versions raised,
        the entry appended to the record, the event to the feed.

        The caller MUST treat StoreUnavailable as "unknown": the change may have been made. A
        retry with the same idempotency key is safe. The store MUST NOT write anything when it
        raises StaleRevision (a document is not at the expected revision), AlreadyExists (expected
        0), ClaimTaken (a claim belongs to another owner), Moved (`at_versions`), Conflict (the
        store is not the one that this process began with) or IdempotencyMismatch.
        """

    def repeats(self, asked: Idempotency) -> bool:
        """Tell whether a change was made for this very request. Raises IdempotencyMismatch when
        one was made for another request with this key.

        For decisions that would be refused now because they were carried out; `commit` asks it by
        itself.
        """

    def record(self, *, after: int = 0, limit: int = 1000) -> list[Link]:
        """Return entries of the record with seq > after, oldest first."""

    def history(
        self, *, target: str | None, environment: str | None, before: int | None, limit: int
    ) -> list[Mapping[str, Any]]:
        """Return decoded entries, newest first; `environment` keeps those of it and of none.

        Those of a target are found by an index, which `commit` and `drop_bodies` keep."""

    def index(self) -> bool:
        """Put a further part of the record into that index, which a store that older versions
        wrote to lacks. Returns whether all of it is there. `history` is right without, and slower.
        """

    def events(self, after: str, wait_seconds: float) -> list[Event]:
        """Return events after a position (of `feed_end` or an event), oldest first, waiting at
        most that long for the first. A feed that was cut shows as a gap in `versions`."""

    def feed_end(self) -> str:
        """Return the position of the newest event, to be read before the state it follows."""

    def ping(self) -> None:
        """Return when the store answers."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a web process knew when it last could write it down.

    state: of the store.  snapshots: by environment.  tokens: None when none were kept.
    environments: None when none were kept: older versions kept none.
    problems: what could not be read, in words.
    """

    state: StoreState | None = None
    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    tokens: tuple[Token, ...] | None = None
    environments: tuple[Environment, ...] | None = None
    problems: tuple[str, ...] = ()


class Copies(Protocol):
    """What is known, kept on this machine's disk: so that serving needs no store, and a store
    that lost something is found out.

    Processes of one machine share them. What is older than what is there MUST NOT replace it.
    Writing raises OSError and then leaves what was there.
    """

    def read(self) -> Kept:
        """Return what is there and whole. Raises nothing."""

    def keep_state(self, state: StoreState) -> None:
        """Keep which store is known, and up to which entry."""

    def keep_snapshot(self, snapshot: Snapshot) -> None:
        """Keep an environment's snapshot."""

    def keep_tokens(self, tokens: Sequence[Token], state: StoreState) -> None:
        """Keep the tokens, as digests, as they were at a state of the store or after it."""

    def keep_environments(self, bodies: Sequence[Body], state: StoreState) -> None:
        """Keep what is said of environments, as it was at a state of the store or after it. They
        are kept as they came: a process must not stop at what a newer version says of them."""


class SignerUnavailable(Exception):
    """Whoever holds the key does not answer; why, in words that tell nothing of the key."""


class Signer(Protocol):
    """Who signs the record's checkpoints. The secret need not lie in this process.

    `sortition.record.note.SigningKey` is the driver for a key from a file. One for AWS KMS would
    hold a key's ARN and its public half (`GetPublicKey`, once), and hand `text.encode()` to `Sign`
    (`ED25519_SHA_512`, message type RAW: pure Ed25519, as notes want it).
    """

    @property
    def verifier(self) -> VerifierKey:
        """The public key; its name is the log's."""

    def sign(self, text: str) -> str:
        """Return the signed note of a text. Raises SignerUnavailable."""


class AnchorsUnavailable(Exception):
    """The anchors do not answer, or cannot be read or written; why, in words."""


class AnchorTaken(Exception):
    """Another note stands where one was to be added: two records claim one name."""


class Anchors(Protocol):
    """Checkpoints outside of the store's reach: one may be added, none be changed or taken away.

    All raise AnchorsUnavailable.
    """

    def add(self, place: str, note: str) -> None:
        """Keep a note at `<log>/<epoch>/<size>`, durably before this returns. Does nothing where
        that very note stands there; raises AnchorTaken where another one does."""

    def newest(self, log: str) -> str | None:
        """Return the note of the highest epoch, and in it of the highest size; None: no note."""


class Checkpoints(Protocol):
    """Signed checkpoints beside the record, for those who export it."""

    def keep_checkpoint(self, note: str) -> None:
        """Keep a note as the newest. One that is kept twice does no harm."""

    def checkpoints(self, *, limit: int = 1000) -> list[str]:
        """Return the newest notes that are kept, oldest first."""


class Bodies(Protocol):
    """Bodies of the record that are kept no longer."""

    def drop_bodies(self, ranges: Sequence[Range]) -> None:
        """Take the bodies of these entries out of the store, their salts with them; leaf hashes and
        the chain stay. Readers see all or nothing of it. Safe to repeat; of two at a time one
        raises Conflict. From then on the store owes a rewriting of its log."""

    def rewrite_log(self) -> bool:
        """See that what was taken out leaves the store's log on disk too. True: it has, or there is
        no log. False: it is under way; ask again. Raises StoreUnavailable where the store may not
        be told so."""


class Outcomes(Protocol):
    """What services reported; spread by environment and flag, short-lived."""

    def add(
        self,
        environment: str,
        source: str,
        seq: int,
        rows: Iterable[Row],
        about: Mapping[str, Any],
        drawn: Iterable[Drawn] = (),
    ) -> bool:
        """Add the rows of one batch. False when (source, seq) was here before.

        source: `<instance>:<started>`.  about: what `sources` tells of it.  drawn: samples of
        points.  Adding again after a failure half-way is safe.
        """

    def note(self, environment: str, reports: Sequence[Report]) -> list[bool]:
        """Note batches without their rows; tell of each whether it is new.

        One that is noted again by the same owner is still new, unless its source sent another
        meanwhile: after an answer that was lost, `note` again."""

    def count(
        self,
        environment: str,
        source: str,
        seq: int,
        rows: Iterable[Row],
        drawn: Iterable[Drawn] = (),
    ) -> bool:
        """Add rows of batches that are noted. False when all of (source, seq) was here before.

        source: of whoever merged them.  Adding again after a failure half-way is safe."""

    def totals(
        self, environment: str, subject: str, *, since: int, until: int
    ) -> Mapping[str, Totals]:
        """Return variant -> totals of a flag (or version -> totals of a service, "" of those that
        told none), ticks in (since, until], unix seconds. subject: `flag/<key>` or
        `service/<name>`."""

    def series(
        self, environment: str, subject: str, *, since: int, until: int
    ) -> Mapping[int, Mapping[str, Totals]]:
        """Return the same per tick, by the unix second at which it ended."""

    def ticks(
        self,
        wanted: Collection[tuple[str, str]],
        *,
        since: int,
        until: int,
        halves: bool = False,
    ) -> Mapping[tuple[str, str], Mapping[int, Mapping[Part, Totals]]]:
        """Return totals per aligned tick (see `domain.outcomes.tick_of`) in (since, until] and
        part, of many subjects at once.

        wanted: (environment, subject). A service's parts are its versions, and with `halves` the
        halves of those; a flag's are its variants by the service and version that served them.
        What is empty is left out, and a tick that only began by `until` is not told.
        """

    def minutes(
        self, wanted: Mapping[tuple[str, str], Collection[int]]
    ) -> Mapping[tuple[str, str], Mapping[int, Mapping[str, Totals]]]:
        """Return the same per minute, of many subjects at once and for much less than `series`.

        wanted: (environment, subject) -> unix seconds at which minutes ended, multiples of 60. A
        tick that ended together with its minute is of that minute. What is empty is left out.
        """

    def assignments(
        self, wanted: Mapping[tuple[str, str], Collection[str]], ends: Collection[int]
    ) -> Mapping[tuple[str, str], Mapping[str, int]]:
        """Return how often variants of many flags were served in all of the minutes that ended
        then, and nothing else of them, for much less than `minutes`.

        wanted: (environment, subject) -> variants. What is empty is left out.
        """

    def points(
        self, environment: str, subject: str, *, since: int, until: int
    ) -> Mapping[int, int]:
        """Return bin -> points of the samples of a flag, of the hours that (since, until] touches;
        unix seconds. They are kept for a day and two hours."""

    def sources(self, environment: str) -> list[Mapping[str, Any]]:
        """Return who reported lately: service.name, service.version, instance, seen (unix)."""


class Metrics(Protocol):
    """Custom metrics and business KPIs that others posted; bounded, and gone after two hours."""

    def post(self, environment: str, points: Sequence[Posted]) -> int:
        """Keep points; one that was here is replaced. Returns how many found no room."""

    def posted(self, environment: str, *, since: int, until: int) -> list[Posted]:
        """Return all points in (since, until], unix seconds, oldest first."""


class Sessions(Protocol):
    """Short secrets with an end: browser sessions, one-time links and invitations, kept hashed."""

    def put(self, kind: str, digest: str, body: Mapping[str, Any], *, ttl_seconds: int) -> None:
        """Keep a body under a secret's digest. kind: `session`, `link`, `invitation` or
        `oidc`."""

    def get(self, kind: str, digest: str) -> Mapping[str, Any] | None:
        """Return the body, or None when it has ended."""

    def take(self, kind: str, digest: str) -> Mapping[str, Any] | None:
        """Return the body and forget it, so that nobody else gets it."""

    def drop(self, kind: str, digest: str) -> None:
        """Forget it."""


class Attempts(Protocol):
    """How often something was tried lately."""

    def tried(self, names: Sequence[str], *, window_seconds: int) -> list[int]:
        """Count one try under each name and return how many there are of each. A name's first try
        begins its window, and when that has ended nothing is left of it."""


class Uses(Protocol):
    """When tokens were last used. Not authoritative: one use more or less decides nothing."""

    def keep_uses(self, uses: Mapping[str, str]) -> None:
        """Keep when tokens were last used: id -> RFC 3339 in UTC. Of two times the later stays, and
        keeping one again does no harm."""

    def uses(self) -> Mapping[str, str]:
        """Return id of a token -> when it was last used, of those that ever were."""


class FlagUses(Protocol):
    """On which days flags were last asked for. Not authoritative either."""

    def keep_asked(self, environment: str, days: Mapping[str, str]) -> None:
        """Keep on which days flags were last asked for in an environment: flag -> `2026-11-28`. Of
        two days the later stays, and keeping one again does no harm."""

    def asked(self, environment: str) -> Mapping[str, str]:
        """Return flag -> the day on which it was last asked for there, of those that ever were;
        "" -> the first day on which any was kept."""


class Passwords(Protocol):
    """Keeps passwords so that nobody can tell them, and tells whether one is right."""

    def keep(self, password: str) -> str:
        """Return what is kept of a password. Slow on purpose."""

    def is_right(self, password: str, kept: str | None) -> bool:
        """Tell whether it is that password. Takes as long for None: nobody has that name."""

    def is_outdated(self, kept: str) -> bool:
        """Tell whether it is to be kept anew, at its next use."""


@dataclass(frozen=True, slots=True)
class Introduction:
    """One sign-in at an identity provider, from its begin to its end.

    callback: where the browser comes back to.  verifier: of PKCE, 43 to 128 characters (RFC 7636).
    """

    callback: str
    state: str
    nonce: str
    verifier: str


class NotIntroduced(Exception):
    """An identity provider did not say who somebody is, or not so that it is believed. Its text is
    for people and holds no secret."""


class IdentityProvider(Protocol):
    """Says who somebody is, by OpenID Connect."""

    @property
    def name(self) -> str:
        """What people call it."""

    def begin(self, told: Introduction) -> str:
        """Return where the browser is sent. Raises NotIntroduced."""

    def finish(self, told: Introduction, code: str) -> Outsider:
        """Spend the code that a browser came back with and return who it is. Raises
        NotIntroduced."""


class SignedHeader(Protocol):
    """Says who somebody is, by what stands in front of the server and signs its word."""

    def read(self, token: str) -> Outsider:
        """Return who it is. Raises NotIntroduced."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A role that one process holds. token: rises with every new holder (fencing)."""

    name: str
    holder: str
    token: int


class Leases(Protocol):
    """Who may act, one at a time (product: TTL 15 s, fencing token from the store's clock)."""

    def acquire(self, name: str, holder: str, *, ttl_seconds: float) -> Lease | None:
        """Return the lease, renewed if the holder has it already, or None: somebody else does."""

    def release(self, lease: Lease) -> None:
        """Give it up if it is still ours."""


class RolloutLeases(Leases, Protocol):
    """What holding many rollouts, and enlarging them, needs besides."""

    def acquire_all(
        self, names: Sequence[str], holder: str, *, ttl_seconds: float
    ) -> list[Lease | None]:
        """Return what `acquire` does for many at once, in order."""

    def secure(self, lease: Lease, *, ttl_seconds: float) -> bool:
        """Renew a lease, before or after exposure is enlarged. False: it is not ours any more, or
        the store has replicas and none of them has what was written until now; the caller MUST
        then enlarge nothing, for a failover would forget it, and give its leases up."""


class Looks(Protocol):
    """What a controller saw at each look at a rollout. Not authoritative: a look that is lost is a
    gap in a chart, and nothing is decided from one."""

    def append(self, rollout: str, look: Mapping[str, Any]) -> None:
        """Add one look. The oldest go when there are more than about 400, all 90 days after the
        last."""

    def looks(self, rollout: str, *, limit: int = 400) -> list[Mapping[str, Any]]:
        """Return the newest looks, oldest first."""

    def last(self, rollouts: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        """Return the newest look of each of these that has one."""

    def saw(self, at: Mapping[str, float]) -> None:
        """Note that these rollouts were looked at: id -> unix seconds. Forgotten after 90 days."""

    def seen(self, rollouts: Sequence[str]) -> Mapping[str, float]:
        """Return when each of these was looked at last (unix seconds), of those that were."""


class Evidence(Protocol):
    """What rollouts are judged by: sufficient statistics, look by look, and nothing about a
    request. A verdict is replayed from it, and a controller that takes over learns from it where
    the evidence stands. Forgotten 90 days after the last entry."""

    def keep_evidence(
        self,
        rollout: str,
        known: int,
        entry: Mapping[str, Any],
        standing: Mapping[str, Any] | None = None,
    ) -> bool:
        """Add an entry after the `known` ones, the head of the series being the first of all; and
        keep how it left the rollout.

        False: there are others, or more; another controller judges too, and the caller MUST read
        them before it judges on. The same entry again, after a lost answer, is the same entry.
        """

    def evidence(self, rollouts: Sequence[str]) -> Mapping[str, list[Mapping[str, Any]]]:
        """Return the entries of each of these that has any, oldest first; one that cannot be read
        is empty."""

    def standings(self, rollouts: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        """Return how the newest entry left each of these, of those that have one."""


class Halves(Protocol):
    """A/A history: how two halves of the one version that a service ran scattered, window by
    window. Sums, and nothing about a request or a process; forgotten after eight days."""

    def keep_halves(
        self,
        environment: str,
        service: str,
        windows: Mapping[int, Mapping[str, Any]],
        *,
        always: bool = False,
    ) -> bool:
        """Keep what windows said, by their end (unix, a multiple of WINDOW_SECONDS). What is kept
        of a window stays, whoever tells of it again, so this may be done again; only what has a
        `why`, and so says nothing, gives way to what has none.

        False, and nothing is kept, where a bounded number of other services of the environment have
        history and this one has none. always: keep it whatever their number.
        """

    def known(self, environment: str) -> list[str]:
        """Return the services of an environment that have history."""

    def time(self) -> float:
        """Return what time it is by the store's clock (unix), the same for all who ask."""

    def halves(
        self, wanted: Collection[tuple[str, str]], *, since: int, until: int
    ) -> Mapping[tuple[str, str], Mapping[int, Mapping[str, Any]]]:
        """Return what windows said that ended in (since, until], oldest first; one that cannot be
        read is empty. wanted: (environment, service). Who has none is left out."""


class Journal(Protocol):
    """What the controllers of this machine hold, on its disk: so that traffic can be taken back
    while the store is away, and the store told of it afterwards."""

    def keep(self, rollout: Rollout) -> None:
        """Keep a rollout as it is now. Raises OSError."""

    def kept(self) -> list[Rollout]:
        """Return the rollouts that are kept and were not taken back."""

    def lowered(self, id: str, cause: Rollback) -> None:
        """Keep that its traffic is taken back without the store, and why: before anything is
        touched, and again with `applied` when it was done. Raises OSError."""

    def all_lowered(self) -> list[tuple[str, Rollback]]:
        """Return what is or was taken back without the store, and is not in the store yet."""

    def forget(self, id: str) -> None:
        """Forget a rollout: the store knows all of it."""

    def keep_only(self, live: Collection[str]) -> None:
        """Forget every rollout but these: the others have ended."""


class Outbox(Protocol):
    """Notices that changes left (`Change.notices`), until each notifier has delivered them.

    Every notifier has a place of its own, so one that is down holds up nobody else.
    """

    def undelivered(self, notifier: str, *, limit: int = 100) -> list[tuple[str, Notice]]:
        """Return (position, notice) after the notifier's place, oldest first. A notifier that was
        never heard of begins with the oldest notice there is."""

    def delivered(self, notifier: str, position: str) -> None:
        """Move the notifier's place forward to this position; never back. The caller MUST have
        delivered everything up to it: a notice is delivered at least once."""


class Nudges(Protocol):
    """Word that something happened outside: a controller then looks before its next tick. Not
    authoritative: word that is lost costs a few seconds."""

    def nudge(self, id: str, *, ttl_seconds: float) -> bool:
        """Pass word on, once for each id within that time. False: it was passed on before."""

    def nudged(self) -> int:
        """Return a number that rises whenever word is passed on."""


class Receipts(Protocol):
    """Who was told of what: the outbox, looked at afterwards."""

    def told(
        self, subject: str, *, limit: int = 1000
    ) -> tuple[list[tuple[str, Notice]], Mapping[str, str]]:
        """Return ((position, notice), oldest first) of one subject among the newest `limit`, and
        the place of each notifier: it has delivered everything up to that."""


class Store(
    Documents,
    Checkpoints,
    Bodies,
    Outcomes,
    Metrics,
    Sessions,
    Attempts,
    Uses,
    FlagUses,
    RolloutLeases,
    Looks,
    Evidence,
    Halves,
    Outbox,
    Receipts,
    Nudges,
    Protocol,
):
    """All of it, as one driver offers it."""


# --- engines, signals, people ---------------------------------------------------------------------


class TargetDriver(Protocol):
    """One kind of thing with a weight that lies outside of our store: an ALB rule.

    A driver keeps nothing between calls: whoever asks next may be another process. Every call to
    the other side has a time-out of at most 5 s, and one that changes anything is never repeated
    within a driver: after TargetUnavailable the caller reads, and decides again.
    """

    kind: str

    def check(self, target: Target) -> None:
        """Raise Invalid, `field` a pointer into the target (`/name`, `/settings/canary`), unless it
        exists, is ours (this account) and could be driven; TargetOwned while a deployment owns it;
        Conflict while the canary has no healthy target, or serves already; TargetUnavailable.
        Changes nothing. Called before a rollout begins."""

    def nearest(self, target: Target, share: int) -> int:
        """Return the share (parts per million) that `set` will really bring about: the greatest
        that its weights can express and that is not above `share`. Asks nobody."""

    def read(self, target: Target) -> Reading:
        """Return how the target stands now. Raises TargetUnavailable."""

    def read_all(self, targets: Collection[Target]) -> Mapping[Target, Reading | Refusal]:
        """Return how each of them stands now, in as few calls as the other side allows: what a tick
        asks for. Never raises.

        One that cannot be read is a TargetUnavailable and spoils no other; one that is gone is a
        reading with `foreign`, as it is for `read`. `healthy` may be left unknown.
        """

    def set(self, target: Target, share: int, before: Reading, deadline: float) -> Reading:
        """Give the canary `nearest(share)` and return what is read back afterwards, whatever it is.

        before: the reading that the caller decided on. The driver MUST look again before it writes
        and raise TargetOwned when an owner or a foreign change is there, or when the weights are
        not those of `before`. It writes nothing but the weights, and nothing when they are right
        already.
        deadline: `Clock.monotonic` after which no write may begin (TargetUnavailable: nothing was
        written), because the caller's lease will not outlive it.
        The caller MUST compare the share that it gets back: a write may show late, or not at all.
        """

    def roll_back(self, target: Target, deadline: float) -> Reading:
        """Send everything to the stable side, by taking the canary out altogether, so that clients
        who stick to it leave too; return what is read back. Goes ahead whatever was there before,
        except while a deployment owns it (TargetOwned). Safe to repeat."""

    def commands_by_hand(self, target: Target) -> list[str]:
        """Return the commands that a person runs to do what `roll_back` does, when we cannot."""


@runtime_checkable
class Follower(TargetDriver, Protocol):
    """A driver whose other side is an engine that owns the weights: it can be followed, and only
    that. Its readings have a `lane`; `set` raises TargetOwned.

    `roll_back` has the engine go back, by whichever of its ways is left, and raises
    TargetUnavailable, saying how it stands, until nothing of the traffic goes to the new version
    and the engine is done. It returns within the time of one change and its reading, and is called
    again at each tick.
    """

    def settle(self, target: Target) -> Target:
        """Return the target as the rollout keeps it: under a name that is the same whoever names
        it, with `deployment` and `steps` (`Target`), and with whatever must be known later and will
        not be told any more. Changes nothing. Raises Invalid, Conflict (nothing is there to be
        followed), TargetUnavailable."""

    def go_on(self, target: Target, deadline: float) -> None:
        """Let the engine go on from where it waits for somebody to say so: before the first
        traffic, or until the old version may go. Does nothing when it does not wait. deadline: as
        for `set`. Raises TargetUnavailable."""


class Gates(Protocol):
    """An engine that asks before it goes on, and waits for its answer: CodeDeploy's hooks."""

    def asking(self, deployment: str) -> Asking:
        """Return how a deployment stands at this moment, and which of its hooks waits. Raises
        NotFound, TargetUnavailable."""

    def answer(self, deployment: str, execution: str, *, passed: bool) -> bool:
        """Answer a question. execution: the engine's id of it. False: it was answered before, or
        nobody asks any more. Raises TargetUnavailable; then it may have been answered, and to
        answer again is safe."""


class SignalSource(Protocol):
    """One place that numbers come from: CloudWatch, Prometheus, what SDKs report."""

    name: str

    def check(self, signal: Signal) -> None:
        """Raise Invalid, naming the setting (`/settings/alarms`), unless it could be measured.
        Called before a rollout begins; may ask the other side."""

    def measure(self, asks: Sequence[Ask], now: float) -> Mapping[Ask, Measured]:
        """Return an answer to every ask, in as few calls as the other side allows.

        now: unix seconds; no point ends after it, and a period that has not ended is left out.
        One ask that fails is a `Measured.error` and spoils no other; so are a time-out (5 s),
        throttling and a refusal of the other side. Never raises.
        """


@dataclass(frozen=True, slots=True)
class Letter:
    """One message of a queue. handle: by which it is taken out."""

    handle: str
    text: str = field(repr=False)


class Mailbox(Protocol):
    """A queue that events are put into, for servers that nobody outside can reach."""

    def receive(self) -> Sequence[Letter]:
        """Return what is there, a few at most, waiting a few seconds for the first. What is not
        taken out comes again. Raises TargetUnavailable."""

    def take_out(self, letters: Sequence[Letter]) -> None:
        """Take messages out of the queue. Raises TargetUnavailable; then they may come again."""


class NotDelivered(Exception):
    """A notifier could not deliver; the notice stays in the outbox and is tried again.

    retry_after: seconds, when the other side said so.
    refused: this notice will never be taken (the other side refuses it as it is): it is
    logged, counted, and passed over, so that it holds up no other.
    """

    def __init__(
        self, detail: str, *, retry_after: float | None = None, refused: bool = False
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        self.refused = refused


class Notifier(Protocol):
    """One way to tell people: a webhook, Slack, PagerDuty."""

    name: str

    def send(self, notice: Notice) -> None:
        """Deliver it, within 5 s, trying once. A notice that this notifier does not tell of (of
        too little severity) counts as delivered. Raises NotDelivered."""


# --- outward calls --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back of an outward call, whole. headers: names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False, default=b"")


class EgressError(Exception):
    """An outward call that came to no answer. Its text names host and port and nothing else of the
    address: an address can be a secret."""


class NotAllowed(EgressError):
    """The address is not on the list of those that may be called, or leads where nothing may.
    Nothing was sent."""


class NoAnswer(EgressError):
    """No whole answer came in time, or one that is too large. What was sent may have taken
    effect."""


class Egress(Protocol):
    """The one way out for every call but AWS's."""

    def check(self, url: str) -> None:
        """Raise NotAllowed unless this address may be called as far as it can be told from its
        text. Asks nobody."""

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        seconds: float = 5.0,
        limit: int = 1 << 20,
    ) -> Answer:
        """Make one call and return its answer, whatever its status; a redirect is an answer.

        seconds: for all of it, looking the name up included.  limit: octets of the answer's body.
        Raises NotAllowed, NoAnswer. Tries once.
        """


# --- measuring ourselves --------------------------------------------------------------------------


class LookSpan(Protocol):
    """One look at a rollout, as it is traced. What is called while it is entered belongs to it;
    left, it has ended."""

    def __enter__(self) -> Self:
        """Begin to look."""

    def __exit__(self, *_: object) -> None:
        """Have looked."""


class Telemetry(Protocol):
    """Who counts and traces what rollouts do. Every method returns at once, whatever is on the
    other side, and raises nothing."""

    def holds(self, rollouts: Collection[Rollout]) -> None:
        """Be told which rollouts this process holds from now on."""

    def look(self, rollout: Rollout) -> LookSpan:
        """Return a look at a rollout that begins now."""

    def judged(
        self, look: LookSpan, rollout: Rollout, action: Action, verdicts: Sequence[Verdict]
    ) -> None:
        """Be told how a rollout's guards stand, and what follows."""

    def turned(self, turn: Turn) -> None:
        """Be told of a turn that this process has committed; of each once."""

    def within(self, looks: Sequence[LookSpan], act: Callable[P, T]) -> Callable[P, T]:
        """Return `act` so that what it calls, on whatever thread, belongs to these looks."""


class NoTelemetry:
    """Nobody counts or traces."""

    def __enter__(self) -> Self:
        """Begin to look."""
        return self

    def __exit__(self, *_: object) -> None:
        """Have looked."""

    def holds(self, rollouts: Collection[Rollout]) -> None:
        """Tell nobody."""

    def look(self, rollout: Rollout) -> LookSpan:  # noqa: ARG002 (the door's form)
        """Return a look that nobody traces."""
        return self

    def judged(
        self, look: LookSpan, rollout: Rollout, action: Action, verdicts: Sequence[Verdict]
    ) -> None:
        """Tell nobody."""

    def turned(self, turn: Turn) -> None:
        """Tell nobody."""

    def within(self, looks: Sequence[LookSpan], act: Callable[P, T]) -> Callable[P, T]:  # noqa: ARG002
        """Return it as it is."""
        return act


UNTOLD = NoTelemetry()
