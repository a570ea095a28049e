"""What the service asks of a store. The pipeline sees this and never redis.

One customer's keys and the log of their partition share a hash slot, so every write below is
atomic on Redis Cluster too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import NamedTuple, Protocol

from features.record import LogId


class Snapshot(NamedTuple):
    """What is stored of a customer, as bytes; None where there is nothing."""

    timeline: bytes | None
    ledger: bytes | None
    profile: bytes | None


class Write(NamedTuple):
    """One event to store."""

    record: bytes  # 40 bytes, see features.record
    counted: bool  # whether a contact limit may count it
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
        """Read everything of one customer. Calls of the same turn share a round trip."""
        ...

    async def record(self, events: Sequence[tuple[str, Write]]) -> list[int]:
        """Store events of any customers; give a status for each, in order.

        Does not raise when the store fails half-way: those events are UNAVAILABLE.
        """
        ...

    async def write_profile(
        self, customer_id: str, expected: LogId, profile: bytes, entry: bytes, moment: int
    ) -> LogId | None:
        """Replace a profile that was read at ``expected``; None where it has changed since.

        Raises:
            Precondition: The customer was forgotten after ``moment``, the date of the change.
        """
        ...

    async def resolve(self, names: Sequence[tuple[str, str]]) -> list[str | None]:
        """Customers that (namespace, normalised value) name; None where nobody."""
        ...

    async def link(self, namespace: str, value: str, customer_id: str, entry: bytes) -> str:
        """Let an identifier name a customer unless it names one already; give whom it names.

        Forgetting the customer removes the link.
        """
        ...

    async def journal(self, decisions: Sequence[tuple[str, str, bytes, bytes]]) -> None:
        """Append (customer_id, decision_id, summary, entry) to the log, each once."""
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
