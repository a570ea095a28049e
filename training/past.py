"""Find what a replay needs: in the archive, and in a store's log that was not exported yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from features.partition import partition
from features.record import NEVER, LogId
from rapport.v1 import log_pb2
from service import bundle as bundles
from service.business import published
from service.errors import NotFound
from service.models import Models
from service.pipeline import Pipeline
from service.redis_store import RedisStore
from training import archive
from training.archive import Entry
from training.reproduce import Past, Reproduced, reproduce

_PAGE: Final = 5_000
_KINDS: Final = ("event", "profile", "decision", "reserved", "adopted", "erased")


class Sources:
    """An archive, a store, or both.

    Args:
        folder: The archive; None: there is none.
        store: Whose log may hold more; None: there is none.
    """

    def __init__(self, folder: Path | None, store: RedisStore | None) -> None:
        self._folder = folder
        self._store = store
        self._logs: dict[int, dict[str, list[Entry]]] = {}
        self._pasts: dict[tuple[str, str], Past] = {}

    async def replay(self, decision_id: str) -> Reproduced:
        """Compute a decision again and compare.

        Raises:
            NotFound: Neither source knows it, or what it was made with. A forgotten customer's
                decisions are gone for good.
            Precondition: Another version of Rapport decided.
        """
        number = int(decision_id[:2], 16)
        logs = await self._log(number)
        for entries in logs.values():
            for entry in entries:
                if entry.kind == "decision" and _names(entry, decision_id):
                    return await self.of(entry)
        looked = self._folder or "none is there"
        log = "the log of the store" if self._store else "a store, since none was named"
        raise NotFound(
            f"decision {decision_id!r} is neither in the archive ({looked}) nor in {log}: name "
            "them with --archive and --store. Or it was never taken, recorded nothing, or its "
            "customer was forgotten since"
        )

    async def decisions(self, number: int) -> list[Entry]:
        """All decisions of a partition."""
        logs = await self._log(number)
        return [one for entries in logs.values() for one in entries if one.kind == "decision"]

    async def of(self, entry: Entry) -> Reproduced:
        """Compute a logged decision again and compare; see :meth:`replay`."""
        logged = log_pb2.LogEntry.FromString(entry.entry).decision
        customers = [entry.customer_id, *(o.customer_id for o in logged.response.read.members)]
        entries: dict[str, Sequence[Entry]] = {}
        for customer in customers:
            log = await self._log(partition(customer))
            entries[customer] = log.get(customer, ())
        made_with = logged.response.versions
        past = await self._past(made_with.catalogue, made_with.bundle)
        return reproduce(entry.entry, entries, past)

    async def _log(self, number: int) -> dict[str, list[Entry]]:
        """The entries of a partition by customer, each in the order of their ids."""
        if number not in self._logs:
            found: dict[str, list[Entry]] = {}
            after = NEVER
            if self._folder is not None and archive.files(self._folder, number):
                for entry in archive.read(self._folder, _KINDS, number):
                    found.setdefault(entry.customer_id, []).append(entry)
                after = archive.last(self._folder, number)
            for entry in await self._rest(number, after):
                found.setdefault(entry.customer_id, []).append(entry)
            self._logs[number] = found
        return self._logs[number]

    async def _rest(self, number: int, after: LogId) -> list[Entry]:
        """What the store's log holds beyond the archive."""
        rest: list[Entry] = []
        while self._store is not None:
            page = await self._store.log_page(number, after, _PAGE)
            rest += [Entry.parse(id, written) for id, written in page]
            if len(page) < _PAGE:
                break
            after = page[-1][0]
        return rest

    async def _past(self, catalogue: str, bundle: str) -> Past:
        if (catalogue, bundle) not in self._pasts:
            business = published(await self._configuration(catalogue))
            models = None
            if bundle:
                models = Models(bundles.unpack(await self._bundle(bundle)), business)
            self._pasts[catalogue, bundle] = Past(Pipeline(business), models)
        return self._pasts[catalogue, bundle]

    async def _configuration(self, digest: str) -> bytes:
        kept = None if self._folder is None else archive.configuration(self._folder, digest)
        if kept is not None and kept.exists():
            return kept.read_bytes()
        written = None if self._store is None else await self._store.configuration(digest)
        if written is None:
            raise NotFound(f"configuration {digest!r}, which decided, is kept nowhere that I look")
        return written

    async def _bundle(self, version: str) -> bytes:
        kept = None if self._folder is None else archive.bundle(self._folder, version)
        if kept is not None and kept.exists():
            return kept.read_bytes()
        blob = None if self._store is None else await self._store.bundle(version)
        if blob is None:
            raise NotFound(f"bundle {version!r}, which decided, is kept nowhere that I look")
        return blob


def _names(entry: Entry, decision_id: str) -> bool:
    logged = log_pb2.LogEntry.FromString(entry.entry)
    return logged.decision.response.decision_id == decision_id
