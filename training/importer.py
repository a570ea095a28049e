"""Bring somebody's event log in: rows of CSV or Parquet, mapped, and sent to a running server.

A bad row never ends a run and is never lost: it becomes a ``Refused`` with its line and reason.
Every event has an id of its own, so that a run that was killed can be run again, from the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import gzip
import itertools
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TextIO, cast

import duckdb
import grpc
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from features.vocabulary import Vocabulary
from rapport.v1 import customer_pb2, customer_pb2_grpc, decision_pb2, decision_pb2_grpc
from service import config as configuration
from service.errors import (
    ConfigurationError,
    Denied,
    RapportError,
    StoreUnavailable,
    Unauthenticated,
)
from training.mapping import Mapped, Mapper, Mapping, Refused

Row = tuple[int, list[str] | Refused]
"""Where a row is, and its cells or why they could not be read."""

_Read = tuple[list[str], Iterator[Row]]  # a header and the rows below it

Progressed = Callable[[int, int | None], None]
"""Told after each batch how many rows are done, and of how many, where that is known."""

_Status = decision_pb2.EventResult
_COUNTED: Final = {
    _Status.STATUS_STORED: "stored",
    _Status.STATUS_DUPLICATE: "duplicate",
    _Status.STATUS_CONFLICT: "conflict",
    _Status.STATUS_TOO_OLD_FOR_TIMELINE: "too_old",
    _Status.STATUS_INVALID: "invalid",
    _Status.STATUS_ERASED: "erased",
}
_REFUSALS: Final = {
    "conflict": "is known with another content; give it another id, or another `source`",
    "erased": "occurred before its customer was forgotten; leave the row out",
    "invalid": "is refused by the server",
}
_TRY_AGAIN: Final = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_ERRORS: Final[dict[grpc.StatusCode, type[RapportError]]] = {
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: Denied,
}
_TIMEOUT: Final = 30.0  # seconds a call
_UNREADABLE: Final = (OSError, EOFError, zlib.error, UnicodeDecodeError)


def events(mapping: Mapping, vocabulary: Vocabulary, path: Path) -> Iterator[Mapped | Refused]:
    """Map a file, row by row: ``.parquet``, or CSV under any other name, gzipped as ``.gz``.

    Lines of CSV count from 1 with the header; rows of Parquet from 1. Ids made of ``{#row}`` or
    ``{#row_in_customer}`` are the same in every run as long as the rows before stay.

    Raises:
        ConfigurationError: With the first row, where the mapping and the columns of the file, or
            the mapping and the vocabulary, do not fit.
    """
    read = _parquet if path.suffix == ".parquet" else _csv
    with contextlib.ExitStack() as opened:
        header, rows = read(mapping, path, opened)
        try:
            mapper = Mapper(mapping, vocabulary, header)
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error}") from error
        for row, (line, cells) in enumerate(rows, 1):
            yield cells if isinstance(cells, Refused) else mapper(line, row, cells)


def _parquet(mapping: Mapping, path: Path, opened: contextlib.ExitStack) -> _Read:
    """Read the columns that the mapping needs as texts, times as ISO 8601."""
    db = opened.enter_context(duckdb.connect())
    try:
        described = db.execute(
            "DESCRIBE SELECT * FROM read_parquet($path)", {"path": str(path)}
        ).fetchall()
    except duckdb.Error as error:
        raise ConfigurationError(f"{path}: {error}; name a Parquet file") from error
    used = mapping.columns()
    needed = [(name, kind) for name, kind, *_ in described if name in used]
    texts = []
    for name, kind in needed:
        quoted = '"' + name.replace('"', '""') + '"'
        if kind == "TIMESTAMP WITH TIME ZONE":
            in_utc = f"make_timestamp(epoch_us({quoted}))"
            quoted = f"strftime({in_utc}, '%Y-%m-%dT%H:%M:%S.%f+00:00')"
        texts.append(f"coalesce(cast({quoted} AS VARCHAR), '')")

    def rows() -> Iterator[Row]:
        query = f"SELECT {', '.join(texts) or 'NULL'} FROM read_parquet($path)"  # noqa: S608
        result = db.execute(query, {"path": str(path)})
        row = 0
        while several := result.fetchmany(10_000):
            for cells in several:
                row += 1
                yield row, list(cells)

    return [name for name, _ in needed], rows()


def _csv(mapping: Mapping, path: Path, opened: contextlib.ExitStack) -> _Read:
    """Read a CSV file, each row with the line that it begins on."""
    file = opened.enter_context(_open(path, mapping.file.encoding))
    suspicious: list[str] = []
    try:
        lines = _noting(file, suspicious)
        reader = csv.reader(lines, delimiter=mapping.file.delimiter, strict=True)
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
                names = itertools.chain(header, itertools.repeat(""))
                column, cell = next(
                    one for one in zip(names, cells, strict=False) if _broken(one[1])
                )
                reason = f"has bytes that are not {mapping.file.encoding}; set `file.encoding`"
                yield line, Refused(line, column, _shown(cell), reason)
            elif cells:
                yield line, cells

    return header, rows()


def _open(path: Path, encoding: str) -> TextIO:
    """Open text, plain or gzipped; bytes that are not of the encoding become lone surrogates."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        file = opened(path, "rt", encoding=encoding, errors="surrogateescape", newline="")
    except (OSError, LookupError) as error:
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


class Sent(msgspec.Struct):
    """What became of the rows, by number."""

    rows: int = 0
    unmapped: int = 0
    stored: int = 0
    duplicate: int = 0
    conflict: int = 0
    too_old: int = 0
    invalid: int = 0
    erased: int = 0
    profiles: int = 0  # updates that were accepted

    @property
    def refused(self) -> int:
        """Rows that are in no log because of what they say."""
        return self.unmapped + self.conflict + self.invalid + self.erased


async def send(
    target: str,
    rows: Iterable[Mapped | Refused],
    *,
    token: str | None = None,
    batch: int = 500,
    in_flight: int = 8,
    progress: Progressed | None = None,
    refused: Callable[[Refused], None] | None = None,
    total: int | None = None,
    patience: float = 60.0,
    credentials: grpc.ChannelCredentials | None = None,
) -> Sent:
    """Send rows to a server; what it could not store for now is sent again.

    A profile is updated before the events of the batch that tells of it, in the order of the rows.

    Args:
        target: ``host:port``.
        rows: From :func:`events`; taken as they are needed.
        token: Goes along as ``authorization: Bearer TOKEN``.
        batch: Events a call, 1 to 1,000.
        in_flight: Calls at the same time.
        progress: Told after each batch how many rows are done, of ``total``.
        refused: Told each row that was refused, here or by the server.
        total: How many rows there will be, where that is known.
        patience: Seconds to try again while nothing at all is stored.
        credentials: Of a TLS channel; without them the channel is plain.

    Raises:
        StoreUnavailable: Patience ran out. Run it again: nothing is doubled.
        Unauthenticated: The token is not known.
        Denied: The token lacks a scope: record, or profile where the mapping has a profile.
        RapportError: The server refused a whole call.
    """
    channel = (
        grpc.aio.insecure_channel(target)
        if credentials is None
        else grpc.aio.secure_channel(target, credentials)
    )
    async with channel:
        sender = _Sender(channel, iter(rows), token, patience, refused or (lambda _: None))

        async def work() -> None:
            while await sender.batch(batch):
                if progress is not None:
                    progress(sender.sent.rows, total)

        workers = [asyncio.create_task(work()) for _ in range(in_flight)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
    return sender.sent


class _Sender:
    """What the calls in flight share."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        rows: Iterator[Mapped | Refused],
        token: str | None,
        patience: float,
        refused: Callable[[Refused], None],
    ) -> None:
        self.sent = Sent()
        self._rows = rows
        self._refused = refused
        self._decisions = decision_pb2_grpc.DecisionServiceStub(channel)
        self._customers = customer_pb2_grpc.CustomerServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._patience = patience
        self._stored_at = time.monotonic()
        self._turn = asyncio.Lock()

    async def batch(self, size: int) -> bool:
        """Take the next rows and see them stored; False where there are none."""
        async with self._turn:  # profiles change in the order of the rows
            taken = list(itertools.islice(self._rows, size))
            mapped = [row for row in taken if isinstance(row, Mapped)]
            self._stored_at = time.monotonic()
            await self._update(mapped)
        for row in taken:
            if isinstance(row, Refused):
                self.sent.unmapped += 1
                self._refused(row)
        await self._record(mapped)
        self.sent.rows += len(taken)
        return bool(taken)

    async def _record(self, rows: list[Mapped]) -> None:
        pauses = _pauses()
        while rows:
            request = decision_pb2.RecordEventsRequest(events=[row.event for row in rows])
            response = await self._call(self._decisions.RecordEvents, request)
            again = []
            for row, result in zip(rows, response.results, strict=True):
                if result.status == _Status.STATUS_UNAVAILABLE:
                    again.append(row)
                else:
                    self._count(row, result)
            if len(again) < len(rows):
                self._stored_at = time.monotonic()
                pauses = _pauses()
            rows = again
            if rows:
                await self._wait(next(pauses), "the store does not answer")

    def _count(self, row: Mapped, result: decision_pb2.EventResult) -> None:
        status = _COUNTED.get(result.status, "invalid")
        setattr(self.sent, status, getattr(self.sent, status) + 1)
        if status in _REFUSALS:
            why = result.violation
            field = why.field.rpartition("].")[2] or "event_id"
            value = str(getattr(row.event, field, ""))
            reason = why.description or f"{row.event.event_id!r} {_REFUSALS[status]}"
            self._refused(Refused(row.line, field, value, reason))

    async def _update(self, rows: list[Mapped]) -> None:
        """Update the profiles that rows tell of: one call a customer, 50 at the same time."""
        news: dict[str, tuple[Mapped, dict[str, float | bool | str]]] = {}
        for row in rows:
            if row.profile:
                customer = row.event.customer.customer_id
                news.setdefault(customer, (row, {}))[1].update(row.profile)
        waiting = [self._profile(row, attributes) for row, attributes in news.values()]
        for at in range(0, len(waiting), 50):
            await asyncio.gather(*waiting[at : at + 50])

    async def _profile(self, row: Mapped, attributes: dict[str, float | bool | str]) -> None:
        request = customer_pb2.UpdateProfileRequest(customer=row.event.customer)
        for name, value in attributes.items():
            if isinstance(value, bool):
                request.attributes[name].bool_value = value
            elif isinstance(value, float):
                request.attributes[name].number_value = value
            else:
                request.attributes[name].string_value = value
        try:
            await self._call(self._customers.UpdateProfile, request)
        except _RefusedCall as error:
            self._refused(Refused(row.line, "profile", str(attributes), str(error)))
        else:
            self.sent.profiles += 1

    async def _call(self, method: Any, request: Any) -> Any:
        for pause in _pauses():
            try:
                return await method(request, metadata=self._metadata, timeout=_TIMEOUT)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _TRY_AGAIN:
                    kind = _ERRORS.get(error.code(), _RefusedCall)
                    raise kind(f"{error.code().name}: {error.details()}") from error
                why = f"{error.code().name}: {error.details()}"
            await self._wait(pause, why)
        raise AssertionError

    async def _wait(self, pause: float, why: str) -> None:
        if time.monotonic() - self._stored_at > self._patience:
            raise StoreUnavailable(
                f"nothing was stored for {self._patience:g} s: {why}; "
                "see to the server and run again, nothing is stored twice"
            )
        await asyncio.sleep(pause)


class _RefusedCall(RapportError):
    """The server refused a whole call."""


def _pauses() -> Iterator[float]:
    """Seconds to wait before each new try: 0.05, doubled up to 5."""
    return (min(5.0, 0.05 * 2**tried) for tried in itertools.count())


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
    with refused.open("w", encoding="utf-8", newline="") as file, _bar(console) as bar:
        out = csv.writer(file)
        out.writerow(Refused._fields)
        task = bar.add_task(path.name, total=limit)

        def note(row: Refused) -> None:
            out.writerow(row._replace(value=row.value[:200]))
            reasons[row.column, row.reason[:60]] += 1

        def advance(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        chosen = itertools.islice(rows, limit)
        if target is None:
            sent = _checked(chosen, note, advance)
        else:
            sent = asyncio.run(
                send(target, chosen, token=token, progress=advance, refused=note, total=limit)
            )
        bar.update(task, total=sent.rows)
    _summary(console, sent, reasons, refused)
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
