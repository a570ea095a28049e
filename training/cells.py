"""What one cell of a row says: templates, patterns, numbers and times as text. Pure.

Each reader takes a text and raises ValueError with the reason and a remedy; who calls it knows
the row and the column.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

import msgspec

from features.record import MAX_DURATION, MAX_SEQUENCE
from features.vocabulary import Attribute

ROW: Final = "#row"
ROW_IN_CUSTOMER: Final = "#row_in_customer"
COUNTERS: Final = (ROW, ROW_IN_CUSTOMER)
Decimal = Literal[".", ","]
Unit = Literal["ms", "s", "m", "h"]
Patterns = str | int | list[str | int]
Renames = list[tuple[str, re.Pattern[str] | None, str]]

_FLAGS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_CLOCK: Final = re.compile(r"(\d+):([0-5]\d):([0-5]\d)(\.\d+)?")
_SECONDS: Final[dict[Unit, float]] = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LARGEST: Final = 3.4028234e38  # that a record's 32 bits hold


def _whole(text: str) -> str:
    whole, _, fraction = text.partition(".")
    return text if fraction.strip("0") or not whole.removeprefix("-").isdecimal() else whole


_CONVERSIONS: Final[dict[str, Callable[[str], str]]] = {
    "": str,
    "whole": _whole,
    "strip": str.strip,
    "lower": str.lower,
}


class Template:
    """Text with columns in braces."""

    def __init__(self, written: str) -> None:
        self.parts: list[tuple[str, str | None, str]] = []
        for literal, column, conversion, _ in string.Formatter().parse(written):
            if column is not None and (not column or (conversion or "") not in _CONVERSIONS):
                known = ", ".join(f":{one}" for one in _CONVERSIONS if one)
                raise ValueError(f"{written!r}: write {{column}}, and after it nothing or {known}")
            if column is not None and column.startswith("#") and column not in COUNTERS:
                raise ValueError(f"{written!r}: # stands before {' and '.join(COUNTERS)} alone")
            self.parts.append((literal, column, conversion or ""))
        self.columns = tuple(column for _, column, _ in self.parts if column is not None)

    def bind(self, places: dict[str, int], empty: Collection[str]) -> Callable[[list[str]], str]:
        """Make the function from a row's cells to the text; ``""`` where a column is empty."""
        if len(self.parts) == 1 and self.parts[0][0] == "" and self.parts[0][2] == "":
            at = places[self.columns[0]]
            return lambda cells: "" if cells[at] in empty else cells[at]
        parts = [
            (literal, -1 if column is None else places[column], _CONVERSIONS[conversion])
            for literal, column, conversion in self.parts
        ]

        def text(cells: list[str]) -> str:
            made = []
            for literal, at, convert in parts:
                made.append(literal)
                if at >= 0:
                    if cells[at] in empty:
                        return ""
                    made.append(convert(cells[at]))
            return "".join(made)

        return text


def regex(pattern: str, new: str = "") -> re.Pattern[str] | None:
    """The regular expression of ``/.../``; None for plain text."""
    if len(pattern) < 3 or pattern[0] != "/" or pattern[-1] != "/":
        return None
    try:
        compiled = re.compile(pattern[1:-1], re.DOTALL)
        compiled.sub(new, "")
    except (re.error, IndexError) as error:
        raise ValueError(f"{pattern!r}: {error}; write a regular expression of Python") from error
    return compiled


def matcher(patterns: Patterns) -> Callable[[str], bool]:
    """Whether a value is one of some texts, or matches one of some regular expressions."""
    listed = [str(one) for one in (patterns if isinstance(patterns, list) else [patterns])]
    regexes = [compiled for one in listed if (compiled := regex(one))]
    texts = frozenset(one for one in listed if not regex(one))
    return lambda value: value in texts or any(one.fullmatch(value) for one in regexes)


def renamed(name: str, table: Renames) -> str:
    """The new name by the first line of a table that fits; the name itself where none does."""
    for old, compiled, new in table:
        if compiled is None and name == old:
            return new
        if compiled is not None and (match := compiled.fullmatch(name)):
            return match.expand(new)
    return name


def number(text: str, decimal: Decimal = ".") -> float:
    """A number that 32 bits hold."""
    plain = text if decimal == "." else text.replace(".", "?").replace(",", ".")
    if not _NUMBER.fullmatch(plain):
        raise ValueError(f"is no number; write digits and a decimal {decimal!r}, or leave it empty")
    read = float(plain)
    if not abs(read) <= _LARGEST:
        raise ValueError("is too large for 32 bits; leave it empty")
    return read


def sentiment(text: str, decimal: Decimal = ".") -> float:
    """A mood from -1 to 1."""
    read = number(text, decimal)
    if not -1 <= read <= 1:
        raise ValueError("is not from -1 to 1; scale it, or leave it empty")
    return read


def duration(text: str, unit: Unit = "s", decimal: Decimal = ".") -> int:
    """Whole seconds, of a number in a unit or of a clock such as ``00:01:30``."""
    if clock := _CLOCK.fullmatch(text):
        seconds = int(clock[1]) * 3_600.0 + int(clock[2]) * 60 + int(clock[3])
    else:
        seconds = number(text, decimal) * _SECONDS[unit]
    if not 0 <= seconds <= MAX_DURATION:
        raise ValueError(f"is not from 0 to {MAX_DURATION} s; correct it, or leave it empty")
    return int(seconds)


def sequence(text: str) -> int:
    """The order of events within a millisecond."""
    if not text.isdecimal() or int(text) > MAX_SEQUENCE:
        raise ValueError(
            f"is no whole number from 0 to {MAX_SEQUENCE}; count within a customer or a "
            "millisecond, or set `event.sequence` to ''"
        )
    return int(text)


def attribute(text: str, declared: Attribute, decimal: Decimal = ".") -> float | bool | str:
    """A value of a profile attribute, of the kind that the vocabulary declares."""
    if declared.kind == "category":
        if text not in declared.values:
            raise ValueError(f"is none of {', '.join(declared.values)}; declare it")
        return text
    if declared.kind == "flag":
        if text.lower() not in _FLAGS:
            raise ValueError(f"is no flag; write one of {', '.join(_FLAGS)}")
        return _FLAGS[text.lower()]
    return number(text, decimal)


class Time(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How times are written: ``iso``, ``epoch_s``, ``epoch_ms`` or a pattern of strptime.

    Times without an offset are local times of ``zone``. One that a change of the clock made
    happen twice, or never, is refused, unless ``clock_change`` says which offset to read it with:
    the one before the change (``earlier``) or after it (``later``).
    """

    format: str = "iso"
    zone: str | None = None
    clock_change: Literal["refuse", "earlier", "later"] = "refuse"

    def __post_init__(self) -> None:
        if self.format not in ("iso", "epoch_s", "epoch_ms") and "%" not in self.format:
            raise ValueError(f"format: {self.format!r}; write iso, epoch_s, epoch_ms or a pattern")
        try:
            ZoneInfo(self.zone or "UTC")
        except (KeyError, OSError, ValueError) as error:
            raise ValueError(f"zone: {self.zone!r} is none; write one as Europe/Oslo") from error


def moments(time: Time) -> Callable[[str], int]:
    """Make the function from a written time to milliseconds since 1970-01-01 UTC.

    It raises ValueError with the reason and a remedy.
    """
    zone = None if time.zone is None else ZoneInfo(time.zone)
    fold = int(time.clock_change == "later")

    def placed(moment: datetime) -> datetime:
        if moment.tzinfo is not None:
            return moment
        if zone is None:
            raise ValueError("has no offset; name the `zone` of its clock under `time`")
        local = moment.replace(tzinfo=zone)
        before, after = (local.replace(fold=one).utcoffset() or timedelta() for one in (0, 1))
        if before != after and time.clock_change == "refuse":
            often = "twice" if before > after else "never"
            raise ValueError(
                f"happened {often} in {zone}, where clocks changed; export times with an offset, "
                "or set `time.clock_change` to earlier or later"
            )
        return local.replace(fold=fold)

    def read(text: str) -> datetime:
        if time.format == "iso":
            return datetime.fromisoformat(text)
        if time.format.startswith("epoch_"):
            whole, _, fraction = text.partition(".")
            if not (whole.isdecimal() and (fraction.isdecimal() or not fraction)):
                raise ValueError
            ms = int(whole) if time.format == "epoch_ms" else int(whole + f"{fraction:0<3.3}")
            return _EPOCH + timedelta(milliseconds=ms)
        return datetime.strptime(text, time.format)  # noqa: DTZ007

    def since_1970(text: str) -> int:
        try:
            moment = read(text)
        except OverflowError:
            raise ValueError("is after the year 9999; is `time.format` epoch_ms?") from None
        except ValueError:
            raise ValueError(
                f"is no time as {time.format}; set `time.format`, or correct it"
            ) from None
        since = placed(moment) - _EPOCH
        if since.days < 0:
            raise ValueError("is before 1970; leave the row out")
        return since.days * 86_400_000 + since.seconds * 1_000 + since.microseconds // 1_000

    return since_1970
