from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.record import NEVER, LogId
from rapport.v1 import log_pb2
from tests.chain import NOW, Event
from training import archive
from training.archive import Entry


def entry(
    ms: int,
    customer: str = "anna",
    kind: str = "event",
    *,
    record: bytes | None = b"\0" * 40,
    body: bytes = b"\0body",
    sequence: int = 0,
) -> Entry:
    return Entry(LogId(ms, sequence), customer, kind, record if kind == "event" else None, body)


ids = st.builds(LogId, st.integers(1, 2**62), st.integers(0, 2**62))
entries = st.lists(
    st.builds(
        Entry,
        id=ids,
        customer_id=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
        kind=st.sampled_from(["event", "decision", "profile", "identity", "erased"]),
        record=st.one_of(st.none(), st.binary(min_size=40, max_size=40)),
        entry=st.binary(min_size=1, max_size=60),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda one: one.id,
)
KINDS = ("event", "decision", "profile", "identity", "erased")


@given(entries)
def test_what_was_written_is_read_to_the_byte(
    tmp_path_factory: pytest.TempPathFactory, written: list[Entry]
) -> None:
    folder = tmp_path_factory.mktemp("archive")
    written.sort()
    archive.write(folder, 7, written)
    assert archive.read(folder, KINDS) == sorted(written, key=lambda one: (one.customer_id, one.id))


def test_bytes_may_hold_anything_nuls_too(tmp_path: Path) -> None:
    every = bytes(range(256))
    one = entry(1, record=every[:40], body=b"\0" + every + b"\0")
    archive.write(tmp_path, 0, [one])
    (found,) = archive.read(tmp_path)
    assert found == one
    assert type(found.record) is bytes
    assert type(found.entry) is bytes


@pytest.mark.parametrize("name", ["plain", "it's", "run[1]", "a*b", "with space", "ünï"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "runx1").mkdir()
    kept = entry(1, "ben")
    archive.write(tmp_path / name, 0, [kept, entry(2, "anna")])
    assert archive.erase(tmp_path / name, 0, "anna", LogId(3, 0)) == 1
    assert archive.read(tmp_path / name) == [kept]


def test_an_entry_is_parsed_from_what_the_stream_holds() -> None:
    packed = Event(NOW).packed()
    event = log_pb2.LogEntry(customer_id="anna", event=log_pb2.EventLogged(record=packed))
    written = event.SerializeToString()
    id = LogId(5, 6)
    assert Entry.parse(id, written) == Entry(id, "anna", "event", packed, written)
    erased = log_pb2.LogEntry(customer_id="ben", erased=log_pb2.CustomerErased())
    assert Entry.parse(id, erased.SerializeToString())[1:4] == ("ben", "erased", None)


def test_files_are_named_by_their_partition_and_ids(tmp_path: Path) -> None:
    at = archive.write(tmp_path, 17, [entry(10), entry(12, sequence=3)])
    assert at == tmp_path / "partition=017" / "10-0_12-3.parquet"
    assert archive.span(at) == (LogId(10, 0), LogId(12, 3))


def test_files_come_in_the_order_of_their_ids_not_of_their_names(tmp_path: Path) -> None:
    paths = [archive.write(tmp_path, 1, [entry(ms, sequence=n)]) for ms, n in
             ((9, 9), (9, 10), (10, 0), (100, 0))]  # fmt: skip
    assert archive.files(tmp_path, 1) == paths
    assert archive.files(tmp_path, 2) == []


def test_the_last_id_is_that_of_the_partition(tmp_path: Path) -> None:
    assert archive.last(tmp_path, 3) == NEVER
    archive.write(tmp_path, 3, [entry(9), entry(10)])
    archive.write(tmp_path, 3, [entry(9_999, sequence=4)])
    archive.write(tmp_path, 3, [entry(9_999, sequence=5), entry(9_999, sequence=11)])
    archive.write(tmp_path, 4, [entry(20_000)])
    assert archive.last(tmp_path, 3) == LogId(9_999, 11)
    assert archive.last(tmp_path, 5) == NEVER


def test_a_half_written_file_is_ignored(tmp_path: Path) -> None:
    whole = archive.write(tmp_path, 3, [entry(1)])
    whole.with_name("2-0_9-0.half").write_bytes(whole.read_bytes()[:50])
    assert archive.files(tmp_path) == [whole]
    assert archive.last(tmp_path, 3) == LogId(1, 0)
    assert len(archive.read(tmp_path)) == 1


def test_a_write_that_is_killed_leaves_no_file_and_the_next_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("training.archive.os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            archive.write(tmp_path, 3, [entry(1)])
    assert archive.files(tmp_path) == []
    assert archive.last(tmp_path, 3) == NEVER
    archive.write(tmp_path, 3, [entry(1)])
    assert [path.suffix for path in (tmp_path / "partition=003").iterdir()] == [".parquet"]


def test_the_same_entries_written_twice_count_once(tmp_path: Path) -> None:
    rows = [entry(1), entry(2, "ben"), entry(3)]
    archive.write(tmp_path, 3, rows)
    archive.write(tmp_path, 3, rows)
    assert len(archive.files(tmp_path)) == 1
    archive.write(tmp_path, 3, rows[1:])  # an export that was resumed with another page
    assert len(archive.files(tmp_path)) == 2
    assert [one.id.ms for one in archive.read(tmp_path)] == [1, 3, 2]


def test_only_the_kinds_asked_for_are_read(tmp_path: Path) -> None:
    archive.write(tmp_path, 3, [entry(n, kind=kind) for n, kind in enumerate(KINDS, 1)])
    assert [one.kind for one in archive.read(tmp_path, ("profile", "decision"))] == [
        "decision",
        "profile",
    ]
    assert [one.kind for one in archive.read(tmp_path)] == ["event"]


def test_one_partition_can_be_read_alone(tmp_path: Path) -> None:
    archive.write(tmp_path, 3, [entry(1, "anna")])
    archive.write(tmp_path, 4, [entry(1, "ben")])
    assert [one.customer_id for one in archive.read(tmp_path, partition=4)] == ["ben"]


@pytest.mark.parametrize(
    "act",
    [
        archive.read,
        lambda folder: archive.read(folder / "absent"),
        lambda folder: archive.read(folder, partition=9),
    ],
)
def test_an_empty_archive_says_what_to_do(tmp_path: Path, act: Callable[[Path], object]) -> None:
    with pytest.raises(FileNotFoundError, match="export or simulate first"):
        act(tmp_path)


def test_erasing_rewrites_the_partition_without_the_customer(tmp_path: Path) -> None:
    mixed = archive.write(tmp_path, 3, [entry(1), entry(2, "ben"), entry(3, kind="profile")])
    only = archive.write(tmp_path, 3, [entry(4)])
    other = archive.write(tmp_path, 3, [entry(5, "ben")])
    untouched = other.stat().st_mtime_ns
    elsewhere = archive.write(tmp_path, 4, [entry(1)])
    assert archive.erase(tmp_path, 3, "anna", LogId(9, 0)) == 3
    assert archive.files(tmp_path) == [mixed, other, elsewhere]
    assert not only.exists()
    assert other.stat().st_mtime_ns == untouched
    assert [one.id.ms for one in archive.read(tmp_path, KINDS, 3)] == [2, 5]
    with duckdb.connect() as db:  # no byte of it is left, not merely none that read() shows
        rows = db.read_parquet([str(path) for path in archive.files(tmp_path, 3)]).fetchall()
    assert {row[2] for row in rows} == {"ben"}


def test_erasing_keeps_the_entry_that_says_so_and_what_came_after(tmp_path: Path) -> None:
    rows = [entry(1), entry(2, kind="erased"), entry(3), entry(4, kind="erased"), entry(5)]
    archive.write(tmp_path, 3, rows)
    assert archive.erase(tmp_path, 3, "anna", LogId(2, 0)) == 1
    assert [one.id.ms for one in archive.read(tmp_path, KINDS)] == [2, 3, 4, 5]
    assert archive.erase(tmp_path, 3, "anna", LogId(4, 0)) == 1
    assert [one.id.ms for one in archive.read(tmp_path, KINDS)] == [2, 4, 5]
    assert archive.erase(tmp_path, 3, "anna", LogId(4, 0)) == 0
