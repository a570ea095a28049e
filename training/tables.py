"""Read tables, CSV and Parquet, row by row as texts.

A row that cannot be read is told as ``Refused`` in its place and ends nothing; that a file is
none is a ``ConfigurationError`` at once.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import itertools
import zlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final, TextIO, cast

import duckdb

from service.errors import ConfigurationError
from training.mapper import Refused
from training.mapping import File

Row = tuple[int, list[str] | Refused]
"""Where a row is, and its cells or why they could not be read."""

Table = tuple[list[str], Iterator[Row]]
"""A header and the rows below it."""

_UNREADABLE: Final = (OSError, EOFError, zlib.error, UnicodeDecodeError)


@contextlib.contextmanager
def opened(path: Path, file: File, columns: Collection[str]) -> Iterator[Table]:
    """Open a table: ``.parquet``, or CSV under any other name, gzipped as ``.gz``.

    Lines of CSV count from 1 with the header; rows of Parquet from 1.

    Args:
        path: The file.
        file: How it is written, where it is CSV.
        columns: The ones needed; of Parquet, no other is read.

    Raises:
        ConfigurationError: The file is none of its kind.
    """
    how = _parquet(path, columns) if path.suffix == ".parquet" else _csv(path, file)
    with how as table:
        yield table


@contextlib.contextmanager
def _parquet(path: Path, columns: Collection[str]) -> Iterator[Table]:
    """Read columns as texts, times as ISO 8601."""
    with duckdb.connect() as db:
        needed = _needed(db, path, columns)
        yield [name for name, _ in needed], _fetched(db, path, needed)


def _needed(
    db: duckdb.DuckDBPyConnection, path: Path, columns: Collection[str]
) -> list[tuple[str, str]]:
    """Name and kind of the columns that are there and needed."""
    try:
        described = db.execute(
            "DESCRIBE SELECT * FROM read_parquet($path)", {"path": str(path)}
        ).fetchall()
    except duckdb.Error as error:
        raise ConfigurationError(f"{path}: {error}; name a Parquet file") from error
    return [(name, kind) for name, kind, *_ in described if name in columns]


def _fetched(
    db: duckdb.DuckDBPyConnection, path: Path, needed: list[tuple[str, str]]
) -> Iterator[Row]:
    texts = []
    for name, kind in needed:
        quoted = '"' + name.replace('"', '""') + '"'
        if kind == "TIMESTAMP WITH TIME ZONE":
            in_utc = f"make_timestamp(epoch_us({quoted}))"
            quoted = f"strftime({in_utc}, '%Y-%m-%dT%H:%M:%S.%f+00:00')"
        texts.append(f"coalesce(cast({quoted} AS VARCHAR), '')")

    query = f"SELECT {', '.join(texts) or 'NULL'} FROM read_parquet($path)"  # noqa: S608
    result = db.execute(query, {"path": str(path)})
    row = 0
    while several := result.fetchmany(10_000):
        for cells in several:
            row += 1
            yield row, list(cells)


@contextlib.contextmanager
def _csv(path: Path, file: File) -> Iterator[Table]:
    """Read a CSV file, each row with the line that it begins on."""
    with _open(path, file.encoding) as lines:
        suspicious: list[str] = []
        try:
            noted = _noting(lines, suspicious)
            reader = csv.reader(noted, delimiter=file.delimiter, strict=True)
            header = next(reader, [])
        except (*_UNREADABLE, TypeError, csv.Error) as error:
            raise ConfigurationError(
                f"{path}: {error}; name a CSV file, its delimiter, encoding"
            ) from error

        def rows() -> Iterator[Row]:
            while True:
                line = reader.line_num + 1
                suspicious.clear()
                try:
                    cells = next(reader, None)
                except csv.Error as error:
                    reason = f"{error}, in lines {line} to {reader.line_num}; quotes are doubled"
                    yield line, Refused(line, "", "", reason)
                    continue
                except _UNREADABLE as error:
                    reason = f"nothing from here on can be read: {error}; make the file again"
                    yield line, Refused(line, "", "", reason)
                    return
                if cells is None:
                    return
                if suspicious:
                    yield line, _misread(line, header, cells, file.encoding)
                elif cells:
                    yield line, cells

        yield header, rows()


def _misread(line: int, header: list[str], cells: list[str], encoding: str) -> Refused:
    """Name the first cell with bytes that are not of the encoding."""
    names = itertools.chain(header, itertools.repeat(""))
    column, cell = next(one for one in zip(names, cells, strict=False) if _broken(one[1]))
    reason = f"has bytes that are not {encoding}; set `file.encoding`"
    return Refused(line, column, _shown(cell), reason)


def _open(path: Path, encoding: str) -> TextIO:
    """Open text, plain or gzipped; bytes that are not of the encoding become lone surrogates."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        file = opened(path, "rt", encoding=encoding, errors="surrogateescape", newline="")
    except OSError as error:
        raise ConfigurationError(
            f"{path}: {error.strerror or error}; name a file that can be read"
        ) from error
    except LookupError as error:
        raise ConfigurationError(f"{path}: {error}; name a file and its encoding") from error
    return cast(TextIO, file)


def _noting(lines: Iterable[str], suspicious: list[str]) -> Iterator[str]:
    """Pass lines on, noting those with broken bytes."""
    for line in lines:
        if not line.isascii() and _broken(line):
            suspicious.append(line)
        yield line


def _broken(text: str) -> bool:
    return any("\ud800" <= one <= "\udfff" for one in text)


def _shown(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
