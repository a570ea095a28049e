"""Copy the store's log to the archive: resumable, idempotent, page by page.

The archive itself says where to go on (:func:`training.archive.last`). A page is written only after
older files have lost the customers that it forgets, so an export that was killed does both again.
The store is told how far the export got only after the file is whole, and drops nothing that lies
behind that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from features.partition import PARTITIONS
from features.record import NEVER, LogId
from rapport.v1 import log_pb2
from service.redis_store import RedisStore
from training import archive
from training.archive import Entry

PAGE: Final = 5_000


class Exported(NamedTuple):
    """What an export did."""

    entries: int
    files: int
    erased: int  # entries of forgotten customers that left older files


async def export(
    store: RedisStore, folder: Path, progress: Callable[[int, int], None] | None = None
) -> Exported:
    """Copy all that is new of every partition.

    Args:
        store: Whose log.
        folder: The archive.
        progress: Told the partitions done, and of how many.
    """
    entries = files = erased = 0
    for number in range(PARTITIONS):
        after = archive.last(folder, number)
        while page := await store.log_page(number, after, PAGE):
            read = [Entry.parse(id, written) for id, written in page]
            forgotten = {entry.customer_id: entry.id for entry in read if entry.kind == "erased"}
            for customer, id in forgotten.items():
                erased += archive.erase(folder, number, customer, id)
            await _keep_versions(store, folder, read)
            archive.write(folder, number, _without(read, forgotten))
            after = page[-1][0]
            entries += len(page)
            files += 1
            await store.mark_exported(number, after)
        if progress is not None:
            progress(number + 1, PARTITIONS)
    return Exported(entries, files, erased)


async def _keep_versions(store: RedisStore, folder: Path, entries: list[Entry]) -> None:
    """Keep the configurations and bundles that decisions were made with: a replay needs them."""
    for entry in entries:
        if entry.kind != "decision":
            continue
        made_with = log_pb2.LogEntry.FromString(entry.entry).decision.response.versions
        configuration = archive.configuration(folder, made_with.catalogue)
        if not configuration.exists():
            archive.keep(configuration, await store.configuration(made_with.catalogue))
        bundle = archive.bundle(folder, made_with.bundle)
        if made_with.bundle and not bundle.exists():
            archive.keep(bundle, await store.bundle(made_with.bundle))


def _without(entries: list[Entry], forgotten: Mapping[str, LogId]) -> list[Entry]:
    """The entries but those of customers who were forgotten after them."""
    return [
        entry
        for entry in entries
        if entry.kind == "erased" or entry.id > forgotten.get(entry.customer_id, NEVER)
    ]


async def follow(
    store: RedisStore,
    folder: Path,
    every: float,
    stop: asyncio.Event,
    told: Callable[[Exported, float], None],
) -> None:
    """Export again and again until told to stop, and once more then."""
    while True:
        last = stop.is_set()
        start = time.perf_counter()
        told(await export(store, folder), time.perf_counter() - start)
        if last:
            return
        try:
            await asyncio.wait_for(stop.wait(), every)
        except TimeoutError:
            continue
