from __future__ import annotations

import contextlib
import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.definitions import Definitions
from features.vocabulary import Vocabulary
from service import config
from service.catalogue import Validity
from service.errors import ConfigurationError

FILE = Path("some/file.yaml")


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    number: int
    day: datetime.date | None = None
    share: float = 0.0


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    inner: Inner
    listed: list[Inner] = []
    named: dict[str, Inner] = {}
    deep: dict[str, dict[str, int]] = {}


def complaint(text: str, kind: type = Outer) -> str:
    with pytest.raises(ConfigurationError) as refused:
        config.parse(text, kind, FILE)
    return str(refused.value)


GOOD = """\
inner: {number: 1, day: 2026-02-28}
listed:
  - number: 2
  - {number: 3, share: 1}
named:
  one: {number: 4}
deep:
  a: {b: 5}
"""


def test_what_fits_is_read() -> None:
    read, _ = config.parse(GOOD, Outer, FILE)
    assert read.inner == Inner(1, datetime.date(2026, 2, 28))
    assert [one.number for one in read.listed] == [2, 3]
    assert read.named == {"one": Inner(4)}
    assert read.deep == {"a": {"b": 5}}


def test_an_empty_file_is_an_empty_mapping() -> None:
    assert config.parse("# nothing yet\n", dict, FILE)[0] == {}


@pytest.mark.parametrize(
    ("text", "start", "words"),
    [
        ("inner: {number: x}\n", "1:9: inner.number: ", "Expected `int`, got `str`"),
        ("inner:\n  number: 1\n  colour: 2\n", "3:3: inner.colour: ", "unknown field `colour`"),
        ("inner: {}\n", "1:1: inner: ", "missing required field `number`"),
        ("listed: []\n", "1:1: the file: ", "missing required field `inner`"),
        (GOOD.replace("share: 1", "share: lots"), "4:17: listed.1.share: ", "Expected `float`"),
        (GOOD.replace("{number: 4}", "{number: four}"), "6:9: named.one.number: ", "`int`"),
        (GOOD.replace("{b: 5}", "{b: 5, c: 6, d: x}"), "8:19: deep.a.d: ", "got `str`"),
        (GOOD.replace("one: {number: 4}", "one: {number: 4}\n  two: {numbr: 1}"),
         "7:9: named.two.numbr: ", "unknown field"),
        (GOOD.replace("one: {number: 4}", "1: {number: 4}"), "5:1: named: ", "got `int`"),
        ("- 1\n", "1:1: the file: ", "Expected `object`, got `array`"),
        ("just words\n", "1:1: the file: ", "Expected `object`, got `str`"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_file_line_column_and_field(
    text: str, start: str, words: str
) -> None:
    told = complaint(text)
    assert told.startswith(f"some/file.yaml:{start}")
    assert words in told


@pytest.mark.parametrize(
    ("text", "start", "words"),
    [
        ("inner: {number: 1}\ninner: {number: 2}\n", "2:1: ", "'inner' is written twice"),
        ("inner: {number: 1, number: 1}\n", "1:20: ", "'number' is written twice"),
        ("inner: [1\n", "2:1: ", "expected ',' or ']'"),
        ("inner:\n\t- 1\n", "2:1: ", "cannot start any token"),
        ("inner: {number: *nobody}\n", "1:17: ", "undefined alias"),
        ("a: 1\n---\nb: 2\n", "2:1: ", "but found another document"),
        ("inner: !!python/name:os.system x\n", "1:8: ", "could not determine a constructor"),
        ("inner: {number: 1, day: 2026-02-30}\n", "1:25: ", "'2026-02-30': day is out of range"),
        ("inner:\n  number: \x00\n", "2:11: ", "#x0000 may not stand in YAML"),
        ("{{ template }}: 1\n", "1:1: ", "a key is a mapping"),
        ("? [a, b]\n: 1\n", "1:3: ", "a key is a sequence"),
        ("inner: &a [*a]\n", " ", "an alias holds itself"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_place(text: str, start: str, words: str) -> None:
    told = complaint(text)
    assert told.startswith(f"some/file.yaml:{start}")
    assert words in told


def test_what_a_struct_says_of_itself_is_told_at_its_place() -> None:
    text = "channels: {a: 1}\ntypes:\n  x: {code: 1}\n  y: {code: 1}\n"
    assert complaint(text, Vocabulary) == (
        "some/file.yaml:4:3: types.y: types.y: code 1 is taken by 'x'; the next free one is 2"
    )
    text = "features:\n  - {op: count, name: a}\n  - {op: count, name: b, window: 3x}\n"
    assert complaint(text, Definitions).startswith("some/file.yaml:3:5: features.1: '3x' is no")
    assert "swap them" in complaint("from: 2026-02-01\nuntil: 2026-01-01\n", Validity)


@pytest.mark.parametrize(
    ("steps", "place"),
    [
        ((), "1:1"),
        (("inner",), "1:1"),
        (("inner", "day"), "1:20"),
        (("inner", "share"), "1:1"),  # not written: where it is missing from
        (("listed",), "2:1"),
        (("listed", 0), "3:5"),
        (("listed", 1, "share"), "4:17"),
        (("listed", 7), "2:1"),
        (("deep", "a", "b"), "8:7"),
        (("nothing", "of", "it"), "1:1"),
    ],
)
def test_a_part_is_found_where_it_was_written(steps: tuple[str | int, ...], place: str) -> None:
    _, places = config.parse(GOOD, Outer, FILE)
    assert places.at(*steps) == f"some/file.yaml:{place}"
    assert places.path == FILE


def test_a_file_says_where_its_parts_are(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(GOOD)
    read, places = config.read(path, Outer)
    assert read == config.load(path, Outer)
    assert places.at("named", "one") == f"{path}:6:3"
    path.write_text("")
    assert config.read(path, dict)[1].at("anything") == str(path)


def test_a_time_of_day_is_no_number_to_the_base_of_sixty() -> None:
    text = "{a: 22:00:00, b: 07:30:00, c: 1:30.5, d: 10, e: 1.5, f: 0x1f, g: '12'}"
    assert config.parse(text, dict, FILE)[0] == {
        "a": "22:00:00", "b": "07:30:00", "c": "1:30.5", "d": 10, "e": 1.5, "f": 31, "g": "12",
    }  # fmt: skip


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none.yaml: No such file.*create it"):
        config.load(tmp_path / "none.yaml", Outer)


def test_a_file_that_is_no_text_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(b"inner:\n  number: \xff\n")
    with pytest.raises(ConfigurationError, match=r"file.yaml:2: is no UTF-8"):
        config.load(path, Outer)


def test_a_file_is_read_with_its_path_in_complaints(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(GOOD)
    assert config.load(path, Outer) == config.parse(GOOD, Outer, path)[0]
    path.write_text("inner: 1\n")
    with pytest.raises(ConfigurationError) as refused:
        config.load(path, Outer)
    assert str(refused.value).startswith(f"{path}:1:1: inner: ")


@given(st.text(alphabet=st.sampled_from("ab:{}[]-&*!?|>'\"#%@ \n\t0123.\x00é"), max_size=60))
def test_whatever_is_written_it_is_read_or_refused(text: str) -> None:
    told = "some/file.yaml:"
    with contextlib.suppress(ConfigurationError):
        try:
            config.parse(text, dict[str, Any], FILE)
        except ConfigurationError as error:
            told = str(error)
            raise
    assert told.startswith("some/file.yaml:")
