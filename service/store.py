"""What the service asks of a store. The pipeline sees this and never redis.

One customer's keys and the log of their partition share a hash slot, so every write below is
atomic on Redis Cluster too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import NamedTuple, Protocol

from features.record import LogId


class Member(NamedTuple):
    """A customer who was merged into another, and what is stored of their timeline."""

    customer_id: str
    timeline: bytes | None


class Snapshot(NamedTuple):
    """What is stored of a customer, as bytes; None where there is nothing.

    Of a customer who was merged into another it is what is stored of that other one, the root.
    """

    timeline: bytes | None
    ledger: bytes | None
    profile: bytes | None
    customer_id: str = ""  # of the root
    members: Sequence[Member] = ()
    unfinished: bool = False  # a merge stopped half-way: the ledger does not hold everything


class Write(NamedTuple):
    """One event to store."""

    record: bytes  # 40 bytes, see features.record
    counted: bool  # whether a contact limit may count it
    entry: bytes  # a serialised LogEntry
    releases: bytes = b""  # hash of the reservation that it ends, 8 bytes; empty: none


class Cap(NamedTuple):
    """A limit on presentations, as the store rechecks it."""

    at_most: int
    within: int  # milliseconds
    channel: int  # 0: wherever it was presented
    actions: bytes  # codes of the actions that count, little-endian 16 bits each


class Hold(NamedTuple):
    """A capped action to reserve: it counts as presented until it is, or until its window ends."""

    record: bytes  # 40 bytes; its outcome is features.record.RESERVED, its value the seconds held
    caps: Sequence[Cap]
    entry: bytes  # a serialised LogEntry


class Status(NamedTuple):
    """What a store says of itself."""

    latency_ms: float
    log_entries: int


STORED, DUPLICATE, CONFLICT, TOO_OLD, ERASED, UNAVAILABLE = 1, 2, 3, 4, 5, 6
"""What became of a :class:`Write`; the first four are those of ``features.timeline.Status``."""

BATCH = 32
"""Events that one script call takes at most, so that it never holds the store for long."""


class Store(Protocol):
    """Timelines, ledgers, profiles, the log and the models of one tenant.

    Every method raises :class:`service.errors.StoreUnavailable` when the store does not answer.
    """

    def read(self, customer_id: str) -> Awaitable[Snapshot]:
        """Read everything of one customer. Calls of the same turn share a round trip.

        A future that is given is the caller's own: cancelling it, or answering it in place of the
        store, changes nothing for the read nor for anybody else.
        """
        ...

    async def record(self, events: Sequence[tuple[str, Write]]) -> list[int]:
        """Store events of any customers; give a status for each, in order.

        Does not raise when the store fails half-way: those events are UNAVAILABLE.
        """
        ...

    def reserve(
        self, customer_id: str, now: int, holds: Sequence[Hold], read_at: LogId | None = None
    ) -> Awaitable[list[bool]]:
        """Reserve what no cap forbids, one after the other in one atomic step; say which.

        Presentations of the last ``within`` milliseconds before ``now`` (and any dated later) and
        reservations that are still open count. Reserving the same record again is granted again. Of
        a customer who was merged into another meanwhile, nothing is granted. Calls of the same turn
        share a round trip; of a future the same holds as for :meth:`read`.

        Args:
            customer_id: The root, where customers were merged.
            now: Milliseconds.
            holds: What to reserve.
            read_at: The id in the header of the ledger over which the caller has counted already,
                and found that all of this has room beside each other; ``NEVER`` where there was
                none. The store counts again only where the ledger has changed since. None: always.
        """
        ...

    def flush(self) -> None:
        """Send what was asked in this turn now; otherwise it leaves when the turn ends."""
        ...

    async def write_profile(
        self, customer_id: str, expected: LogId, profile: bytes, entry: bytes, moment: int
    ) -> LogId | None:
        """Replace a profile that was read at ``expected``; None where it has changed since.

        Raises:
            Precondition: The customer was forgotten after ``moment``, the date of the change.
        """
        ...

    def resolve(self, names: Sequence[tuple[str, str]]) -> Awaitable[list[str | None]]:
        """Customers that (namespace, normalised value) name; None where nobody.

        Of a future the same holds as for :meth:`read`.
        """
        ...

    async def link(self, namespace: str, value: str, customer_id: str, entry: bytes) -> str:
        """Let an identifier name a customer unless it names one already; give whom it names.

        Forgetting the customer removes the link.
        """
        ...

    async def root(self, customer_id: str) -> str:
        """The customer whom another was merged into, however often; the same one if never."""
        ...

    async def merge(self, customer_id: str, into: str, caller: str) -> bool:
        """Make a customer a member of another; False where they are one already.

        When it returns, no reservation takes the union of both ledgers past a cap. Calling it again
        after a failure finishes what was begun.
        """
        ...

    async def orphan(self, decision_id: str, hash: bytes, entry: bytes) -> int:
        """Log an outcome whose decision is not known, once: STORED or DUPLICATE."""
        ...

    async def lease(self, ceiling: str, period: str, amount: int, limit: int, ttl: int) -> int:
        """Take up to ``amount`` units of a ceiling for a period; give how many were left to take.

        All that is ever taken of a period never exceeds ``limit``. ``ttl`` is in milliseconds.
        """
        ...

    async def give_back(self, ceiling: str, period: str, amount: int) -> None:
        """Return units that were taken and not used."""
        ...

    async def prices(self) -> dict[str, float]:
        """Shadow prices by resource."""
        ...

    async def set_prices(self, prices: Mapping[str, float]) -> None:
        """Set the shadow prices of some resources."""
        ...

    async def keep_configuration(self, digest: str, written: bytes) -> None:
        """Keep a configuration for ever under its digest, for replays."""
        ...

    async def configuration(self, digest: str) -> bytes | None:
        """A configuration that was kept."""
        ...

    async def journal(self, decisions: Sequence[tuple[str, str, bytes, bytes]]) -> list[bool]:
        """Append (customer_id, decision_id, summary, entry) to the log, each once.

        Says of each whether it is done. Raises only where none could be: a part of the store may be
        away, and what belongs elsewhere does not wait for it.
        """
        ...

    async def decision(self, decision_id: str) -> bytes | None:
        """The log entry of a decision; None where it is not known or no longer kept."""
        ...

    async def decided(self, decision_id: str) -> bytes | None:
        """The summary of a decision, which outlives its log entry; None after 30 days."""
        ...

    async def forget(self, customer_id: str, moment: int, entry: bytes) -> tuple[int, int]:
        """Remove a customer; give the numbers of events and log entries that went."""
        ...

    async def models(self) -> tuple[bytes | None, list[bytes]]:
        """The pointer to the active bundle, and the manifests of all bundles."""
        ...

    async def publish(self, version: str, manifest: bytes, blob: bytes) -> bool:
        """Keep a bundle for ever under its version; False where the version is taken."""
        ...

    async def bundle(self, version: str) -> bytes | None:
        """The bytes of a bundle."""
        ...

    async def point(self, old: bytes | None, new: bytes) -> bool:
        """Move the pointer to the active bundle; False where somebody else has moved it."""
        ...

    async def claim(self, vocabulary: bytes, previous: bytes | None) -> bytes | None:
        """Claim a vocabulary where ``previous`` is the one claimed; give what is claimed now."""
        ...

    async def status(self) -> Status:
        """Ask the store how it is."""
        ...

    async def close(self) -> None:
        """Give the connections back."""
        ...
