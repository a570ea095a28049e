from __future__ import annotations

import gzip
from pathlib import Path

import duckdb
import pytest

from service.errors import ConfigurationError
from training import tables
from training.mapper import Refused
from training.mapping import File

HEADER = "who,worth,note\n"
GOOD = "ann,1,x\n"
ANN = ["ann", "1", "x"]


def written(path: Path, text: str | bytes) -> Path:
    content = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def read(path: Path, *columns: str, **file: str) -> tuple[list[str], list[tables.Row]]:
    with tables.opened(path, File(**file), columns) as (header, rows):
        return header, list(rows)


def test_lines_count_as_an_editor_does(tmp_path: Path) -> None:
    two_lines = 'ann,1," x\r\ny, ""z"""\r\n'
    text = HEADER + GOOD + two_lines + GOOD + "\n\n" + GOOD
    header, rows = read(written(tmp_path / "a.csv", text))
    assert header == ["who", "worth", "note"]
    assert rows == [(2, ANN), (3, ["ann", "1", ' x\r\ny, "z"']), (5, ANN), (8, ANN)]


def test_a_row_with_broken_bytes_names_the_cell_and_ends_nothing(tmp_path: Path) -> None:
    text = HEADER + "ann,1,caf\udce9\n" + "ann,1,x,\udce9\n" + GOOD
    _, ((_, named), (_, beyond), good) = read(written(tmp_path / "a.csv", text))
    assert named == Refused(
        2, "note", r"caf\xe9", "has bytes that are not utf-8-sig; set `file.encoding`"
    )
    assert isinstance(beyond, Refused)
    assert (beyond.column, beyond.value) == ("", r"\xe9")
    assert good == (4, ANN)


def test_a_quote_that_is_never_closed_is_told_with_all_its_lines(tmp_path: Path) -> None:
    text = HEADER + GOOD + 'ann,1,"x\n' + GOOD
    _, (good, (line, told)) = read(written(tmp_path / "a.csv", text))
    assert good == (2, ANN)
    assert isinstance(told, Refused)
    assert told.line == line == 3
    assert "in lines 3 to 4" in told.reason


def test_a_file_cut_off_is_told_where_it_ends(tmp_path: Path) -> None:
    lines = "".join(f"c{at},{at * 7919 % 1000},{at * 31}\n" for at in range(5_000))
    whole = gzip.compress((HEADER + lines).encode())
    path = tmp_path / "a.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    _, (*rows, (line, told)) = read(path)
    assert isinstance(told, Refused)
    assert "nothing from here on can be read" in told.reason
    assert told.line == line == len(rows) + 2
    assert 500 < len(rows) < 5_000


def test_gzip_encoding_and_delimiter_change_nothing(tmp_path: Path) -> None:
    text = HEADER + "zoë,1,x\n" + GOOD
    plain = read(written(tmp_path / "a.csv", text))
    assert plain[1] == [(2, ["zoë", "1", "x"]), (3, ANN)]
    assert plain == read(written(tmp_path / "a.csv.gz", text))
    assert plain == read(written(tmp_path / "b.csv", b"\xef\xbb\xbf" + text.encode()))
    european = text.replace(",", ";").encode("cp1252")
    path = written(tmp_path / "c.csv", european)
    assert plain == read(path, delimiter=";", encoding="cp1252")


def test_parquet_gives_the_needed_columns_as_texts(tmp_path: Path) -> None:
    table = duckdb.sql(
        "SELECT * FROM (VALUES ('ann', 1.5, TIMESTAMPTZ '2024-03-01 12:00:00.25+01', 1), "
        '(NULL, NULL, NULL, 2)) AS t(who, worth, "at", unused)'
    )
    assert table is not None
    table.write_parquet(str(tmp_path / "a.parquet"))
    header, rows = read(tmp_path / "a.parquet", "at", "who", "worth", "absent")
    assert header == ["who", "worth", "at"]
    moment = "2024-03-01T11:00:00.250000+00:00"
    assert rows == [(1, ["ann", "1.5", moment]), (2, ["", "", ""])]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "none.csv.*name a file"),
        ("none.parquet", None, "name a Parquet file"),
        ("bad.parquet", b"who", "name a Parquet file"),
        ("bad.csv.gz", None, "name a file"),
    ],
)
def test_a_file_that_is_none_is_refused_at_once(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        read(tmp_path / name)


@pytest.mark.parametrize("file", [{"delimiter": ";;"}, {"encoding": "utf-99"}])
def test_a_delimiter_or_encoding_that_is_none_is_refused_at_once(
    tmp_path: Path, file: dict[str, str]
) -> None:
    with pytest.raises(ConfigurationError, match=r"a.csv: .*; name a .*file"):
        read(written(tmp_path / "a.csv", HEADER), **file)
