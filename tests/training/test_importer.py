from __future__ import annotations

import asyncio
import csv
import gzip
import io
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import duckdb
import grpc
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from features.vocabulary import Vocabulary
from rapport.v1 import customer_pb2, customer_pb2_grpc, decision_pb2, decision_pb2_grpc, event_pb2
from service.errors import ConfigurationError, Denied, RapportError, StoreUnavailable
from training import importer
from training.importer import Sent, events, run, send
from training.mapping import Mapped, Mapping, Refused

Status = decision_pb2.EventResult
REAL = Path("../shared/data/bpi2012")

VOCABULARY = """
channels: {mail: 1}
types: {sent: {code: 1}, opened: {code: 2}}
attributes: {income: {code: 1, kind: number}}
"""
MAPPING = """
source: crm
event:
  customer_id: "{who}"
  occurred_at: "{at}"
  type: "{what}"
  value: "{worth}"
  duration: "{took}"
  skill: "{note}"
"""
NOON = "2024-03-01T12:00:00+01:00"
HEADER = "who,at,what,worth,took,note\n"
GOOD = f"ann,{NOON},sent,1,2,x\n"


def loaded(mapping: str = MAPPING) -> tuple[Mapping, Vocabulary]:
    return (
        msgspec.yaml.decode(mapping, type=Mapping),
        msgspec.yaml.decode(VOCABULARY, type=Vocabulary),
    )


def written(path: Path, text: str | bytes) -> Path:
    content = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_each_bad_row_is_told_by_line_and_reason_and_all_others_are_mapped(tmp_path: Path) -> None:
    bad = {
        f",{NOON},sent,1,2,x": ("who", "customer_id is empty"),
        "ann,noon,sent,1,2,x": ("at", "is no time"),
        f"ann,{NOON},send,1,2,x": ("what", "is not in the vocabulary"),
        f"ann,{NOON},sent,NaN,2,x": ("worth", "is no number"),
        f"{'a' * 129},{NOON},sent,1,2,x": ("who", "has 129 characters"),
        f"ann,{NOON},sent,1,64801,x": ("took", "from 0 to 64800 s"),
        f"ann,{NOON},sent,1,2": ("", "5 cells under a header of 6"),
        f"ann,{NOON},sent,1,2,x,y": ("", "7 cells under a header of 6"),
        f'"ann"b,{NOON},sent,1,2,x': ("", "expected after"),
        f"ann,{NOON},sent,1,2,\udce9": ("note", "bytes that are not utf-8-sig"),
    }
    text = HEADER + "".join(GOOD + line + "\n" for line in bad) + GOOD
    rows = list(
        events(*loaded(), written(tmp_path / "a.csv", text.encode(errors="surrogateescape")))
    )
    assert sum(isinstance(row, Mapped) for row in rows) == len(bad) + 1
    told = [row for row in rows if isinstance(row, Refused)]
    assert [row.line for row in told] == [3 + 2 * at for at in range(len(bad))]
    for row, (column, reason) in zip(told, bad.values(), strict=True):
        assert row.column == column
        assert reason in row.reason
    assert told[-1].value == r"\xe9"


def test_lines_count_as_an_editor_does(tmp_path: Path) -> None:
    two_lines = f'ann,{NOON},sent,1,2," x\r\ny, ""z"""\r\n'
    bad = "ann,?,sent,1,2,x\n"
    text = HEADER + GOOD + two_lines + bad + "\n\n" + GOOD + bad
    rows = list(events(*loaded(), written(tmp_path / "a.csv", text)))
    assert [row.line for row in rows] == [2, 3, 5, 8, 9]
    assert isinstance(rows[1], Mapped)
    assert rows[1].event.skill == ' x\r\ny, "z"'
    assert [row.event.event_id for row in rows if isinstance(row, Mapped)] == ["1", "2", "4"]


def test_a_quote_that_is_never_closed_is_told_with_all_its_lines(tmp_path: Path) -> None:
    text = HEADER + GOOD + f'ann,{NOON},sent,1,2,"x\n' + GOOD
    good, told = events(*loaded(), written(tmp_path / "a.csv", text))
    assert isinstance(good, Mapped)
    assert isinstance(told, Refused)
    assert told.line == 3
    assert "in lines 3 to 4" in told.reason


def test_a_file_cut_off_is_told_where_it_ends(tmp_path: Path) -> None:
    lines = "".join(f"c{at},{NOON},sent,{at * 7919 % 1000},2,{at * 31}\n" for at in range(5_000))
    whole = gzip.compress((HEADER + lines).encode())
    path = tmp_path / "a.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    *mapped, told = events(*loaded(), path)
    assert isinstance(told, Refused)
    assert "nothing from here on can be read" in told.reason
    assert told.line == len(mapped) + 2
    assert 500 < len(mapped) < 5_000


def test_gzip_encoding_and_delimiter_change_nothing(tmp_path: Path) -> None:
    text = HEADER + f"zoë,{NOON},sent,1,2,x\n" + GOOD
    plain = list(events(*loaded(), written(tmp_path / "a.csv", text)))
    assert plain == list(events(*loaded(), written(tmp_path / "a.csv.gz", text)))
    assert plain == list(
        events(*loaded(), written(tmp_path / "b.csv", b"\xef\xbb\xbf" + text.encode()))
    )
    other = MAPPING + "file: {delimiter: ';', encoding: cp1252}"
    european = text.replace(",", ";").encode("cp1252")
    assert plain == list(events(*loaded(other), written(tmp_path / "c.csv", european)))


def test_parquet_gives_the_events_of_csv(tmp_path: Path) -> None:
    lines = [f"c{at % 3},{NOON},sent,{at / 4},{at},n{at}\n" for at in range(20)]
    lines[7] = "c1,,sent,,,\n"
    source = written(tmp_path / "a.csv", HEADER + "".join(lines))
    mapping, vocabulary = loaded()
    expected = list(events(mapping, vocabulary, source))
    typed = "{'at': 'TIMESTAMPTZ', 'worth': 'DOUBLE', 'took': 'INT'}"
    texts = "{'at': 'VARCHAR', 'worth': 'VARCHAR', 'took': 'VARCHAR'}"
    for name, types in (("typed", typed), ("texts", texts)):
        table = duckdb.sql(f"FROM read_csv('{source}', types = {types})")
        assert table is not None
        table.write_parquet(str(tmp_path / f"{name}.parquet"))
        rows = list(events(mapping, vocabulary, tmp_path / f"{name}.parquet"))
        assert [row.line for row in rows] == list(range(1, 21))
        assert [row._replace(line=row.line + 1) for row in rows] == expected


@settings(max_examples=40)
@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=10))
def test_any_file_makes_a_row_of_each_row_and_the_same_again(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]]
) -> None:
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(HEADER.strip().split(","))
    rows.writerows((who, NOON, "sent", 1, 2, note) for who, note in cells)
    encoded = text.getvalue().encode(errors="surrogatepass")
    path = written(tmp_path_factory.mktemp("any") / "a.csv", encoded)
    first = list(events(*loaded(), path))
    assert len(first) == len(cells)
    assert first == list(events(*loaded(), path))
    ids = [row.event.event_id for row in first if isinstance(row, Mapped)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "none.csv.*name a file"),
        ("none.parquet", None, "name a Parquet file"),
        ("bad.parquet", b"who", "name a Parquet file"),
        ("bad.csv.gz", None, "name a file"),
        ("empty.csv", b"", "column 'at' is not in the file"),
    ],
)
def test_a_file_that_is_none_is_refused_at_once(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        next(events(*loaded(), tmp_path / name))


@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is absent")
def test_the_split_of_a_real_log_gives_the_events_of_the_whole(tmp_path: Path) -> None:
    folder = Path("config/examples/bpi2012")
    mapping = msgspec.yaml.decode((folder / "mapping.yaml").read_bytes(), type=Mapping)
    vocabulary = msgspec.yaml.decode((folder / "vocabulary.yaml").read_bytes(), type=Vocabulary)
    header, *lines = gzip.decompress((REAL / "val.csv.gz").read_bytes()).decode().splitlines(True)
    part = written(tmp_path / "part.csv", header + "".join(lines[:8_000]))
    split = {
        row.event.event_id: (row.event, row.profile)
        for row in events(mapping, vocabulary, part)
        if isinstance(row, Mapped)
    }
    assert len(split) == 8_000
    cases = {event_id.partition("-")[0] for event_id in split}
    content = gzip.decompress((REAL / "events.csv.gz").read_bytes())
    header, *lines = content.decode().splitlines(True)
    some = [line for line in lines if line.partition(",")[0] in cases]
    whole = events(mapping, vocabulary, written(tmp_path / "whole.csv", header + "".join(some)))
    found = {
        row.event.event_id: (row.event, row.profile) for row in whole if isinstance(row, Mapped)
    }
    assert split == {event_id: found[event_id] for event_id in split}


class Server(decision_pb2_grpc.DecisionServiceServicer, customer_pb2_grpc.CustomerServiceServicer):
    """Stores events like the real one, and fails as it is told."""

    def __init__(self) -> None:
        self.target = ""
        self.stored: dict[str, event_pb2.Event] = {}
        self.log: list[str] = []
        self.tokens: set[Any] = set()
        self.fails: list[grpc.StatusCode] = []  # whole calls, first
        self.loses: Counter[str] = Counter()  # times that an event is answered UNAVAILABLE
        self.calls = self.busy = self.most_busy = self.largest = 0

    async def RecordEvents(
        self, request: decision_pb2.RecordEventsRequest, context: Any
    ) -> decision_pb2.RecordEventsResponse:
        self.calls += 1
        self.largest = max(self.largest, len(request.events))
        self.tokens |= {
            value for key, value in context.invocation_metadata() if key == "authorization"
        }
        if self.fails:
            await context.abort(self.fails.pop(0), "told to")
        self.busy += 1
        self.most_busy = max(self.busy, self.most_busy)
        await asyncio.sleep(0.002)
        self.busy -= 1
        return decision_pb2.RecordEventsResponse(results=map(self.store, request.events))

    def store(self, event: event_pb2.Event) -> decision_pb2.EventResult:
        if self.loses[event.event_id] > 0:
            self.loses[event.event_id] -= 1
            return Status(status=Status.STATUS_UNAVAILABLE)
        if event.skill == "bad":
            why = decision_pb2.Violation(
                field="events[3].skill", description="'bad' is bad; mend it"
            )
            return Status(status=Status.STATUS_INVALID, violation=why)
        if event.skill == "old":
            return Status(status=Status.STATUS_TOO_OLD_FOR_TIMELINE)
        if event.skill == "gone":
            return Status(status=Status.STATUS_ERASED)
        known = self.stored.setdefault(event.event_id, event)
        self.log.append(event.customer.customer_id)
        if known is event:
            return Status(status=Status.STATUS_STORED)
        same = known == event
        return Status(status=Status.STATUS_DUPLICATE if same else Status.STATUS_CONFLICT)

    async def UpdateProfile(
        self, request: customer_pb2.UpdateProfileRequest, context: Any
    ) -> customer_pb2.UpdateProfileResponse:
        income = request.attributes["income"].number_value
        await asyncio.sleep(0.02 / (1 + abs(income)))  # an older one takes longer
        if income < 0:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "income below 0")
        self.log.append(f"{request.customer.customer_id}={income:g}")
        return customer_pb2.UpdateProfileResponse()


@asynccontextmanager
async def running() -> AsyncIterator[Server]:
    service = Server()  # type: ignore[abstract]
    server = grpc.aio.server()
    decision_pb2_grpc.add_DecisionServiceServicer_to_server(service, server)
    customer_pb2_grpc.add_CustomerServiceServicer_to_server(service, server)
    service.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield service
    finally:
        await server.stop(None)


def numbered(number: int, skill: str = "", **profile: float) -> list[Mapped | Refused]:
    return [
        Mapped(
            at + 2,
            event_pb2.Event(
                event_id=str(at),
                customer=event_pb2.CustomerKey(customer_id=f"c{at % 7}"),
                skill=skill,
            ),
            dict(profile),
        )
        for at in range(number)
    ]


async def test_all_rows_arrive_once_in_batches_with_the_token() -> None:
    told: list[tuple[int, int | None]] = []
    async with running() as server:
        rows = numbered(1_000)
        sent = await send(
            server.target,
            iter(rows),
            token="secret",  # noqa: S106
            batch=90,
            progress=lambda *done: told.append(done),
            total=1_000,
        )
        assert sent == Sent(rows=1_000, stored=1_000)
        assert len(server.stored) == 1_000
        assert server.tokens == {"Bearer secret"}
        assert server.largest == 90
        assert 1 < server.most_busy <= 8
        assert sorted(told)[-1] == (1_000, 1_000)
        again = await send(server.target, rows)
        assert again == Sent(rows=1_000, duplicate=1_000)


async def test_what_is_unavailable_is_sent_again_and_nothing_else() -> None:
    async with running() as server:
        server.fails = [grpc.StatusCode.UNAVAILABLE] * 2
        server.loses = Counter({"3": 3, "4": 1, "77": 2})
        sent = await send(server.target, numbered(100), batch=50)
        assert sent == Sent(rows=100, stored=100)
        assert len(server.log) == 100


async def test_each_status_is_counted_and_refusals_are_told_by_line() -> None:
    async with running() as server:
        told: list[Refused] = []
        rows = numbered(6)
        for at, skill in enumerate(("", "bad", "old", "gone")):
            rows[at].event.skill = skill  # type: ignore[union-attr]
        server.stored["4"] = event_pb2.Event(event_id="4")
        rows.append(Refused(9, "who", "", "customer_id is empty"))
        sent = await send(server.target, rows, refused=told.append)
        assert sent == Sent(
            rows=7, unmapped=1, stored=2, conflict=1, too_old=1, invalid=1, erased=1
        )
        assert sent.refused == len(told) == 4
        by_line = {row.line: row for row in told}
        assert by_line[3] == Refused(3, "skill", "bad", "'bad' is bad; mend it")
        assert "forgotten" in by_line[5].reason
        assert "another content" in by_line[6].reason


async def test_a_profile_is_told_before_its_events_and_in_order() -> None:
    async with running() as server:
        rows = [numbered(1, income=income)[0] for income in (1.0, 2.0, -1.0, 3.0)]
        told: list[Refused] = []
        sent = await send(server.target, rows, batch=1, refused=told.append)
        assert (sent.profiles, sent.stored, sent.duplicate) == (3, 1, 3)
        assert [one for one in server.log if "=" in one] == ["c0=1", "c0=2", "c0=3"]
        assert server.log[0] == "c0=1"
        assert [row.column for row in told] == ["profile"]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, Denied),
        (grpc.StatusCode.INVALID_ARGUMENT, RapportError),
    ],
)
async def test_a_call_that_is_refused_ends_the_run(
    status: grpc.StatusCode, error: type[RapportError]
) -> None:
    async with running() as server:
        server.fails = [status] * 20
        with pytest.raises(error, match=f"{status.name}: told to"):
            await send(server.target, numbered(10), batch=1)
        assert not server.stored


async def test_patience_ends_and_says_that_a_new_run_doubles_nothing() -> None:
    async with running() as server:
        server.loses = Counter({"3": 1_000_000})
        with pytest.raises(StoreUnavailable, match="nothing is stored twice"):
            await send(server.target, numbered(10), patience=0.2)
        assert len(server.stored) == 9
        server.loses.clear()
        assert await send(server.target, numbered(10)) == Sent(rows=10, stored=1, duplicate=9)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    written(tmp_path / "vocabulary.yaml", VOCABULARY)
    written(tmp_path / "mapping.yaml", MAPPING)
    written(tmp_path / "log.csv", HEADER + GOOD * 3 + "ann,?,sent,1,2,[x]\n" + GOOD)
    return tmp_path


def test_a_run_tells_what_became_of_it_and_keeps_the_refused_rows(files: Path) -> None:
    console = Console(file=io.StringIO(), width=120)
    out = files / "build" / "refused.csv"
    sent = run(files / "log.csv", files / "mapping.yaml", files, None, refused=out, console=console)
    assert sent == Sent(rows=5, unmapped=1)
    with out.open(newline="") as file:
        header, row = csv.reader(file)
    assert header == ["line", "column", "value", "reason"]
    assert row[:3] == ["5", "at", "?"]
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "unmapped" in shown
    assert "occurred_at is no time" in shown


async def test_a_run_sends_to_a_server_up_to_its_limit(files: Path) -> None:
    async with running() as server:
        sent = await asyncio.to_thread(
            run,
            files / "log.csv",
            files / "mapping.yaml",
            files,
            server.target,
            token="t",  # noqa: S106
            refused=files / "refused.csv",
            limit=4,
            console=Console(file=io.StringIO()),
        )
        assert sent == Sent(rows=4, unmapped=1, stored=3)
        assert list(server.stored) == ["1", "2", "3"]


def test_waits_double_up_to_five_seconds() -> None:
    pauses = importer._pauses()
    assert [next(pauses) for _ in range(9)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
