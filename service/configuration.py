"""The configuration in charge: read again when its files change, and swapped as one reference.

A configuration with a mistake changes nothing: the one before it serves on, and the mistake is told
in the log, in GetStatus and to whoever asked for the reload.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import structlog

from features.vocabulary import Vocabulary
from service import background, ceilings, heap
from service.asked import Reader
from service.business import Business, published
from service.capacity import Prices
from service.decide import Decider, World
from service.errors import (
    BundleRefused,
    ConfigurationError,
    NotFound,
    RapportError,
    StoreUnavailable,
    Unfinished,
)
from service.limits import counted_outcomes
from service.redis_store import RedisStore
from service.registry import Registry
from service.store import Store
from service.workshop import Workshop

_POLL_SECONDS: Final = 2.0

_Signature = tuple[tuple[str, int, int], ...]


class Serving(NamedTuple):
    """One configuration with what is compiled from it. A call takes it once and keeps it."""

    business: Business
    decider: Decider
    counted: frozenset[int]  # outcomes that go to the ledger
    questions: Reader


class Configuration:
    """Keeps the configuration that serves in step with its files.

    Args:
        path: A folder or a published file; None: it never changes.
        business: What was read from it.
        store: Where it is kept for replays, and its vocabulary claimed.
        registry: Models are fitted to the catalogue.
        prices: Resources are declared in it.
        world: What its decider needs.
        workshop: Where it is read and checked.
    """

    def __init__(
        self,
        path: Path | None,
        business: Business,
        store: RedisStore,
        registry: Registry,
        prices: Prices,
        world: World,
        workshop: Workshop,
    ) -> None:
        self._path = path
        self._store = store
        self._registry = registry
        self._prices = prices
        self._world = world
        self._workshop = workshop
        self._reading = asyncio.Lock()
        self._seen = _signature(path)
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self.current = self._compiled(business)
        self.refused = ""

    def _compiled(self, business: Business) -> Serving:
        return Serving(
            business,
            Decider(business, self._world),
            counted_outcomes(business),
            Reader(business),
        )

    async def _read(self, path: Path) -> tuple[bytes, Serving] | None:
        """The published file with what is compiled from it; None where nothing has changed.

        What takes long happens in the workshop, and the rest in a thread, in small steps.
        """

        def made(parts: Iterator[Any]) -> tuple[bytes, Serving] | None:
            for digest in parts:
                (written,) = parts
                with heap.staying():
                    business = published(written)
                    vars(business)["digest"] = digest  # to work it out takes 2 ms in one go
                    return written, self._compiled(business)
            return None

        known = self.current.business.digest
        return await self._workshop.do("configuration", path, known, then=made)

    async def start(self) -> None:
        """Claim the vocabulary, keep the configuration for replays, and watch the files.

        Raises:
            ConfigurationError: The vocabulary breaks the one claimed.
        """
        business = self.current.business
        await claim(self._store, business.vocabulary)
        await self._store.keep_configuration(business.digest, business.written())
        await self._world.leases.start(
            ceilings.current(business, self._world.clock()), ceilings.needs(business)
        )
        if self._path is not None:
            self._task = asyncio.create_task(self._run(), name="configuration")

    def look(self) -> None:
        """Look at once, not only when it is time."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await background.pause(self._wake, _POLL_SECONDS)
            signature = await asyncio.to_thread(_signature, self._path)
            if signature == self._seen:
                continue
            try:
                await self.reload()
                self._seen = signature
            except StoreUnavailable as error:  # nothing is wrong with it: it is read again
                structlog.get_logger().warning("configuration not read", error=str(error))
            except RapportError as error:
                self._seen = signature
                structlog.get_logger().error("configuration refused", error=str(error))
            except Exception as error:  # noqa: BLE001  the next change may be better
                self._seen = signature
                self.refused = str(error)
                structlog.get_logger().exception("configuration refused")

    async def reload(self) -> bool:
        """Read the configuration again; False where it has not changed.

        Raises:
            ConfigurationError: It has a mistake, its vocabulary breaks the one claimed, or the
                models in charge do not fit it.
            StoreUnavailable: The store does not answer.
        """
        if self._path is None:
            return False
        async with self._reading:
            try:
                found = await self._read(self._path)
                if found is None:
                    self.refused = ""
                    return False
                written, serving = found
                business = serving.business
                await claim(self._store, business.vocabulary)
                await self._store.keep_configuration(business.digest, written)
                models = await self._registry.fitted(business)
            except (ConfigurationError, BundleRefused, NotFound, Unfinished) as error:
                self.refused = str(error)
                raise ConfigurationError(str(error)) from error
            # From here to the end nothing waits: no call sees half of it.
            self._store.retain(
                business.ledger_window_ms, business.ledger_keep, business.response_window_ms
            )
            self._registry.serve(business, models)
            self._prices.declare(business.policies.resources)
            self.current = serving
            self.refused = ""
        await self._world.leases.start(
            ceilings.current(business, self._world.clock()), ceilings.needs(business)
        )
        structlog.get_logger().info("configuration active", digest=business.digest)
        return True

    async def close(self) -> None:
        """Stop watching the files."""
        await background.end(self._task)


class Catalogues:
    """Configurations of earlier decisions, as the store keeps them."""

    def __init__(self, store: Store, most: int = 8) -> None:
        self._store = store
        self._most = most
        self._read: dict[str, Business] = {}

    async def of(self, digest: str, current: Business) -> Business:
        """The configuration that a decision was made with.

        Raises:
            NotFound: It is not kept.
        """
        if digest == current.digest:
            return current
        if digest not in self._read:
            written = await self._store.configuration(digest)
            if written is None:
                raise NotFound(
                    f"configuration {digest!r}, which decided, is not kept in this store"
                )
            while len(self._read) >= self._most:
                del self._read[next(iter(self._read))]
            self._read[digest] = await asyncio.to_thread(published, written)
        return self._read[digest]


def _signature(path: Path | None) -> _Signature:
    """What changes when any file of a configuration does."""
    if path is None:
        return ()
    files = [path] if path.is_file() else sorted(path.rglob("*.yaml"))
    return tuple(
        (str(file), stat.st_mtime_ns, stat.st_size)
        for file in files
        if (stat := _stat(file)) is not None
    )


def _stat(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except FileNotFoundError:  # renamed away between listing and looking
        return None


async def claim(store: RedisStore, vocabulary: Vocabulary) -> None:
    """Claim the vocabulary's codes in the store.

    Raises:
        ConfigurationError: The store holds records written with other codes.
    """
    ours = msgspec.json.encode(vocabulary, order="sorted")
    for _ in range(3):
        written = await store.claimed()
        if written is not None:
            known = msgspec.json.decode(written, type=Vocabulary)
            if broken := known.breaks(vocabulary):
                raise ConfigurationError(
                    "vocabulary.yaml does not fit what the store holds: " + "; ".join(broken[:5])
                )
            if not vocabulary.breaks(known):
                return  # the store knows all of ours, and perhaps more
        if await store.claim(ours, written) == ours:
            return
    raise ConfigurationError("another server claims another vocabulary at the same time; try again")
