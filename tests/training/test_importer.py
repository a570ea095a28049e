from __future__ import annotations

import asyncio
import csv
import gzip
import io
from pathlib import Path

import duckdb
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from features.vocabulary import Vocabulary
from service.errors import ConfigurationError
from tests.training.stand_in import running
from training.importer import events, run
from training.mapper import Mapped, Refused
from training.mapping import Mapping
from training.sender import Sent

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


def written(path: Path, text: str, errors: str = "surrogateescape") -> Path:
    path.write_bytes(text.encode(errors=errors))
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
    rows = list(events(*loaded(), written(tmp_path / "a.csv", text)))
    assert sum(isinstance(row, Mapped) for row in rows) == len(bad) + 1
    told = [row for row in rows if isinstance(row, Refused)]
    assert [row.line for row in told] == [3 + 2 * at for at in range(len(bad))]
    for row, (column, reason) in zip(told, bad.values(), strict=True):
        assert row.column == column
        assert reason in row.reason
    assert told[-1].value == r"\xe9"


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


def test_refused_rows_keep_their_place_in_the_ids(tmp_path: Path) -> None:
    bad = "ann,?,sent,1,2,x\n"
    path = written(tmp_path / "a.csv", HEADER + GOOD + GOOD + bad + GOOD)
    rows = list(events(*loaded(), path))
    assert [row.event.event_id for row in rows if isinstance(row, Mapped)] == ["1", "2", "4"]


def test_a_file_without_the_columns_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"a.csv: column 'at' is not in the file"):
        next(events(*loaded(), written(tmp_path / "a.csv", "")))


@settings(max_examples=40)
@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=10))
def test_any_file_makes_a_row_of_each_row_and_the_same_again(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]]
) -> None:
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(HEADER.strip().split(","))
    rows.writerows((who, NOON, "sent", 1, 2, note) for who, note in cells)
    path = tmp_path_factory.mktemp("any") / "a.csv"
    written(path, text.getvalue(), "surrogatepass")
    first = list(events(*loaded(), path))
    assert len(first) == len(cells)
    assert first == list(events(*loaded(), path))
    ids = [row.event.event_id for row in first if isinstance(row, Mapped)]
    assert len(set(ids)) == len(ids)


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
    told = {event_id: profile for event_id, (_, profile) in split.items() if profile}
    assert set(told) == {event_id for event_id in split if event_id.endswith("-0")}
    for event_id, profile in told.items():
        case = event_id.removesuffix("0")
        first = min(
            event.occurred_at.ToMilliseconds()
            for id, (event, _) in split.items()
            if id.startswith(case)
        )
        assert profile.updated_at.ToMilliseconds() == first
        assert list(profile.attributes) == ["amount_req"]
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


@pytest.mark.parametrize(
    ("reading", "dropped"),
    [
        ("", "3 readings of sentiment were dropped: the mapping states no basis"),
        ("reading: {subject: customer, modality: text, source: crm, basis: contract}", ""),
    ],
)
def test_a_run_tells_how_many_moods_it_dropped_for_want_of_a_basis(
    files: Path, reading: str, dropped: str
) -> None:
    mood = f'{MAPPING}  sentiment: "{{worth}}"\n{reading}\n'
    written(files / "mapping.yaml", mood)
    written(files / "log.csv", HEADER + GOOD * 3 + f"ann,{NOON},sent,,2,x\n")
    console = Console(file=io.StringIO(), width=200)
    sent = run(
        files / "log.csv", files / "mapping.yaml", files, None,
        refused=files / "refused.csv", console=console,
    )  # fmt: skip
    assert sent == Sent(rows=4)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert dropped in shown
    assert ("sentiment" in shown) == bool(dropped)


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
