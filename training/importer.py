"""Bring somebody's event log in: rows of CSV or Parquet, mapped, and sent to a running server.

A bad row never ends a run and is never lost: it becomes a ``Refused`` with its line and reason.
Every event has an id of its own, so that a run that was killed can be run again, from the start.
"""

from __future__ import annotations

import asyncio
import csv
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from features.vocabulary import Vocabulary
from service import config as configuration
from service.errors import ConfigurationError
from training import tables
from training.mapper import Mapped, Mapper, Refused
from training.mapping import Mapping
from training.sender import Progressed, Sent, send


def events(mapping: Mapping, vocabulary: Vocabulary, path: Path) -> Iterator[Mapped | Refused]:
    """Map a file, row by row: ``.parquet``, or CSV under any other name, gzipped as ``.gz``.

    Lines of CSV count from 1 with the header; rows of Parquet from 1. Ids made of ``{#row}`` or
    ``{#row_in_customer}`` are the same in every run as long as the rows before stay.

    Raises:
        ConfigurationError: With the first row, where the mapping and the columns of the file, or
            the mapping and the vocabulary, do not fit.
    """
    with tables.opened(path, mapping.file, mapping.columns()) as (header, rows):
        try:
            mapper = Mapper(mapping, vocabulary, header)
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error}") from error
        for row, (line, cells) in enumerate(rows, 1):
            yield cells if isinstance(cells, Refused) else mapper(line, row, cells)


def run(
    path: Path,
    mapping: Path,
    config: Path,
    target: str | None,
    *,
    token: str | None = None,
    refused: Path = Path("build/refused.csv"),
    limit: int | None = None,
    console: Console | None = None,
) -> Sent:
    """Import a file and show how it goes; this is the command ``rapport import``.

    Args:
        path: The log.
        mapping: Its mapping file.
        config: The configuration folder, for its ``vocabulary.yaml``.
        target: ``host:port``; None: only map, which tells what is wrong with the file.
        token: See :func:`send`.
        refused: Where to write the refused rows, as CSV; written anew in each run.
        limit: Only so many rows.
        console: Where to draw.

    Raises:
        ConfigurationError: A file of the configuration is wrong.
        RapportError: As :func:`send`; the refused rows so far are written.
    """
    console = console or Console()
    vocabulary = configuration.load(config / "vocabulary.yaml", Vocabulary)
    rows = events(configuration.load(mapping, Mapping), vocabulary, path)
    refused.parent.mkdir(parents=True, exist_ok=True)
    reasons: Counter[tuple[str, str]] = Counter()
    dropped = 0
    with refused.open("w", encoding="utf-8", newline="") as file, _bar(console) as bar:
        out = csv.writer(file)
        out.writerow(Refused._fields)
        task = bar.add_task(path.name, total=limit)

        def note(row: Refused) -> None:
            out.writerow(row._replace(value=row.value[:200]))
            reasons[row.column, row.reason[:60]] += 1

        def advance(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        def watched() -> Iterator[Mapped | Refused]:
            nonlocal dropped
            for row in itertools.islice(rows, limit):
                dropped += isinstance(row, Mapped) and row.sentiment_dropped
                yield row

        chosen = watched()
        if target is None:
            sent = _checked(chosen, note, advance)
        else:
            sent = asyncio.run(
                send(target, chosen, token=token, progress=advance, refused=note, total=limit)
            )
        bar.update(task, total=sent.rows)
    _summary(console, sent, reasons, refused)
    if dropped:
        console.print(
            f"{dropped:,} readings of sentiment were dropped: the mapping states no basis "
            "to keep them. Write reading: {subject, modality, source, basis}."
        )
    return sent


def _checked(
    rows: Iterable[Mapped | Refused], note: Callable[[Refused], None], advance: Progressed
) -> Sent:
    sent = Sent()
    for row in rows:
        sent.rows += 1
        if isinstance(row, Refused):
            sent.unmapped += 1
            note(row)
        if sent.rows % 5_000 == 0:
            advance(sent.rows, None)
    return sent


def _bar(console: Console) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    return Progress(*columns, TimeElapsedColumn(), console=console)


def _summary(
    console: Console, sent: Sent, reasons: Counter[tuple[str, str]], refused: Path
) -> None:
    table = Table("what became of it", "number")
    table.columns[1].justify = "right"
    for field in sent.__struct_fields__:
        if (number := getattr(sent, field)) or field == "rows":
            table.add_row(field.replace("_", " "), f"{number:,}")
    console.print(table)
    if reasons:
        why = Table("column", "why refused", "rows")
        for (column, reason), number in reasons.most_common(10):
            why.add_row(escape(column), escape(reason), f"{number:,}")
        console.print(why, f"All {reasons.total():,} refused rows are in {refused}")
