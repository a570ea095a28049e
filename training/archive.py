"""The log at rest: Parquet files, one folder a partition, named by the ids they hold.

``DIR/partition=017/1700000000000-0_1700000005000-3.parquet`` holds the entries of partition 17
from the first id to the last. A file appears under its name only when it is whole, so the archive
says by itself where an export has to go on, and writing the same entries again replaces the file.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np

from features.record import NEVER, LogId
from rapport.v1 import log_pb2


@functools.cache
def _database() -> duckdb.DuckDBPyConnection:
    """One engine a process: starting one takes longer than writing a file."""
    return duckdb.connect()


class Entry(NamedTuple):
    """One entry of the log, its id first: entries sort in the order of their partition's log."""

    id: LogId
    customer_id: str
    kind: str  # event, decision, profile, identity or erased
    record: bytes | None  # the timeline's 40 bytes, for an event
    entry: bytes  # a serialised LogEntry

    @classmethod
    def parse(cls, id: LogId, written: bytes) -> Entry:
        """Read what the store's stream holds.

        Raises:
            google.protobuf.message.DecodeError: The bytes are no LogEntry.
        """
        entry = log_pb2.LogEntry.FromString(written)
        kind = entry.WhichOneof("entry") or ""
        record = entry.event.record if kind == "event" else None
        return cls(id, entry.customer_id, kind, record, written)


def folder(archive: Path, partition: int) -> Path:
    """Where a partition's files are."""
    return archive / f"partition={partition:03d}"


def write(archive: Path, partition: int, entries: Sequence[Entry]) -> Path:
    """Write entries of one partition, in the order of their ids, as one file.

    Args:
        archive: The archive's folder; created where absent.
        partition: 0 to 255.
        entries: At least one, sorted by id.
    """
    at = folder(archive, partition)
    at.mkdir(parents=True, exist_ok=True)
    path = at / f"{entries[0].id}_{entries[-1].id}.parquet"
    _copy(entries, path)
    return path


def configuration(archive: Path, digest: str) -> Path:
    """Where a configuration is that decisions in the archive were made with."""
    return archive / "configurations" / f"{digest}.json"


def bundle(archive: Path, version: str) -> Path:
    """Where a bundle is that decisions in the archive were made with."""
    return archive / "bundles" / f"{version}.tar.gz"


def keep(path: Path, written: bytes | None) -> None:
    """Write a file as a whole, unless there is nothing to write."""
    if written is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".half")
    half.write_bytes(written)
    os.replace(half, path)


def _copy(entries: Sequence[Entry], path: Path) -> None:
    columns = {
        "ms": np.array([entry.id.ms for entry in entries], np.int64),
        "sequence": np.array([entry.id.sequence for entry in entries], np.int64),
        "customer_id": np.array([entry.customer_id for entry in entries], object),
        "kind": np.array([entry.kind for entry in entries], object),
        "record": np.array([entry.record for entry in entries], object),
        "entry": np.array([entry.entry for entry in entries], object),
    }
    half = path.with_suffix(".half")
    with _database().cursor() as db:
        db.register("entries", columns)
        db.sql(
            "SELECT ms, sequence, customer_id, kind, record::BLOB AS record, "
            "entry::BLOB AS entry FROM entries ORDER BY ms, sequence"
        ).write_parquet(str(half), compression="zstd")
    os.replace(half, path)


def files(archive: Path, partition: int | None = None) -> list[Path]:
    """The archive's files, oldest first within a partition."""
    pattern = f"{'partition=*' if partition is None else folder(archive, partition).name}/*.parquet"
    return sorted(archive.glob(pattern), key=lambda path: (path.parent, span(path)))


def span(path: Path) -> tuple[LogId, LogId]:
    """The ids of the first and the last entry of a file, as its name says."""
    first, _, last = path.stem.partition("_")
    return LogId.parse(first), LogId.parse(last)


def last(archive: Path, partition: int) -> LogId:
    """The id that an export of the partition goes on after; (0, 0) before the first."""
    return max((span(path)[1] for path in files(archive, partition)), default=NEVER)


def read(
    archive: Path, kinds: Iterable[str] = ("event",), partition: int | None = None
) -> list[Entry]:
    """Read entries of some kinds, sorted by customer and id, each one once.

    Raises:
        FileNotFoundError: The archive holds no file.
    """
    paths = [str(path) for path in files(archive, partition)]
    if not paths:
        raise FileNotFoundError(f"{archive}: no Parquet files there; export or simulate first")
    with _database().cursor() as db:
        rows = db.execute(
            "SELECT DISTINCT ON (customer_id, ms, sequence) ms, sequence, customer_id, kind, "
            "record, entry FROM read_parquet($paths, hive_partitioning = false) "
            "WHERE list_contains($kinds, kind) ORDER BY customer_id, ms, sequence",
            {"paths": paths, "kinds": list(kinds)},
        ).fetchall()
    return [
        Entry(LogId(ms, sequence), customer, kind, record and bytes(record), bytes(entry))
        for ms, sequence, customer, kind, record, entry in rows
    ]


def erase(archive: Path, partition: int, customer_id: str, id: LogId) -> int:
    """Rewrite a partition without what it holds of a customer before the entry of their erasure.

    Returns:
        The number of entries that went.
    """
    gone = 0
    for path in files(archive, partition):
        with _database().cursor() as db:
            rows = db.read_parquet(str(path), hive_partitioning=False).fetchall()
        kept = [
            Entry(LogId(ms, sequence), who, kind, record, entry)
            for ms, sequence, who, kind, record, entry in rows
            if who != customer_id or kind == "erased" or LogId(ms, sequence) > id
        ]
        if len(kept) < len(rows):
            gone += len(rows) - len(kept)
            if kept:
                _copy(kept, path)
            else:
                path.unlink()
    return gone
