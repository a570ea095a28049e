r"""How rows of somebody's log become events: a small YAML file, and the function it makes. Pure.

A field of the event is a *template*: text with columns in braces. ``"{case_id}"`` is a column,
``"case-{case_id}"`` has a prefix, ``"{activity}+{lifecycle}"`` is made of two, ``web`` is a
constant, and ``{#row}`` and ``{#row_in_customer}`` count from 1 and 0. ``{resource:whole}`` writes
112.0 as 112; ``:strip`` and ``:lower`` do as they say. A template is absent where one of its
columns is empty. Wherever a value is compared, ``/.../`` is a regular expression that has to match
all of it.
"""

from __future__ import annotations

import difflib
import operator
import re
import string
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import msgspec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from features.record import MAX_DURATION, MAX_SEQUENCE
from features.vocabulary import Attribute, Direction, Outcome, Vocabulary
from rapport.v1 import event_pb2
from service.errors import ConfigurationError

ROW: Final = "#row"
ROW_IN_CUSTOMER: Final = "#row_in_customer"
COUNTERS: Final = (ROW, ROW_IN_CUSTOMER)
CODED: Final = ("type", "channel", "direction", "intent", "action", "outcome")
_IDS: Final = (
    "interaction_id",
    "parent_interaction_id",
    "decision_id",
    "agent_id",
    "skill",
    "queue",
    "locale",
)
_FLAGS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_CLOCK: Final = re.compile(r"(\d+):([0-5]\d):([0-5]\d)(\.\d+)?")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LARGEST: Final = 3.4028234e38  # that a record's 32 bits hold
_MEMORY: Final = 50_000  # distinct rows of codes to remember

Patterns = str | int | list[str | int]
_Renames = list[tuple[str, re.Pattern[str] | None, str]]
T = TypeVar("T")


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A template for each field of the event."""

    customer_id: str
    occurred_at: str
    type: str
    event_id: str = "{#row}"
    sequence: str = "{#row}"
    channel: str = ""
    direction: str = ""
    intent: str = ""
    action: str = ""
    outcome: str = ""
    value: str = ""
    duration: str = ""
    sentiment: str = ""
    interaction_id: str = ""
    parent_interaction_id: str = ""
    decision_id: str = ""
    agent_id: str = ""
    skill: str = ""
    queue: str = ""
    locale: str = ""


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


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a CSV file is written; Parquet needs none of it."""

    delimiter: str = ","
    encoding: str = "utf-8-sig"


class Set(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a rule sets; an empty text takes a name away."""

    type: str | None = None
    channel: str | None = None
    direction: str | None = None
    intent: str | None = None
    action: str | None = None
    outcome: str | None = None
    value: float | None = None


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sets fields on the rows whose columns all match; ``#type`` is the type before any rule."""

    when: dict[str, Patterns]
    set: Set


class Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping file. Rules run in order; where two set the same field, the later one holds."""

    source: str
    event: Event
    time: Time = Time()
    file: File = File()
    empty: tuple[str, ...] = ("",)  # cells that say nothing
    decimal: Literal[".", ","] = "."
    duration_unit: Literal["ms", "s", "m", "h"] = "s"
    rename: dict[str, dict[str, str]] = {}  # of coded fields; a new name may use \1
    rules: list[Rule] = []
    profile: dict[str, str] = {}  # attribute: template

    def __post_init__(self) -> None:
        if not 1 <= len(self.source) <= 64:
            raise ValueError(f"source: {self.source!r}; write 1 to 64 characters")
        for at, written in self.templates():
            try:
                Template(written)
            except ValueError as error:
                inside = at if at.startswith("profile.") else f"event.{at}"
                raise ValueError(f"{inside}: {error}") from error
        for field, table in self.rename.items():
            if field not in CODED:
                raise ValueError(f"rename: {field!r} has no table; rename {', '.join(CODED)}")
            for old, new in table.items():
                _regex(old, new)
        for patterns in (patterns for rule in self.rules for patterns in rule.when.values()):
            _matcher(patterns)

    def templates(self) -> Iterator[tuple[str, str]]:
        """Each field of the event and, as ``profile.NAME``, each attribute, with its template."""
        for field in Event.__struct_fields__:
            yield field, getattr(self.event, field)
        yield from ((f"profile.{name}", written) for name, written in self.profile.items())

    def columns(self) -> set[str]:
        """Every column that the mapping reads."""
        read = {column for _, written in self.templates() for column in Template(written).columns}
        return read - {*COUNTERS} | {at for rule in self.rules for at in rule.when} - {"#type"}


class Mapped(NamedTuple):
    """A row as an event, with what it newly says of the customer's profile."""

    line: int
    event: event_pb2.Event
    profile: dict[str, float | bool | str]


class Refused(NamedTuple):
    """A row that became no event, and why."""

    line: int
    column: str
    value: str
    reason: str


class _Wrong(ValueError):
    """Carries column, value and reason of a refusal out of a row."""


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


def _regex(pattern: str, new: str = "") -> re.Pattern[str] | None:
    """The regular expression of ``/.../``; None for plain text."""
    if len(pattern) < 3 or pattern[0] != "/" or pattern[-1] != "/":
        return None
    try:
        regex = re.compile(pattern[1:-1], re.DOTALL)
        regex.sub(new, "")
    except (re.error, IndexError) as error:
        raise ValueError(f"{pattern!r}: {error}; write a regular expression of Python") from error
    return regex


def _matcher(patterns: Patterns) -> Callable[[str], bool]:
    """Whether a value is one of some texts, or matches one of some regular expressions."""
    listed = [str(one) for one in (patterns if isinstance(patterns, list) else [patterns])]
    regexes = [regex for one in listed if (regex := _regex(one))]
    texts = frozenset(one for one in listed if not _regex(one))
    return lambda value: value in texts or any(one.fullmatch(value) for one in regexes)


def _renamed(name: str, table: _Renames) -> str:
    """The new name by the first line of a table that fits; the name itself where none does."""
    for old, regex, new in table:
        if regex is None and name == old:
            return new
        if regex is not None and (match := regex.fullmatch(name)):
            return match.expand(new)
    return name


def _number(text: str, decimal: str) -> float:
    plain = text if decimal == "." else text.replace(".", "?").replace(",", ".")
    if not _NUMBER.fullmatch(plain):
        raise ValueError(f"is no number; write digits and a decimal {decimal!r}, or leave it empty")
    number = float(plain)
    if not abs(number) <= _LARGEST:
        raise ValueError("is too large for 32 bits; leave it empty")
    return number


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


class Mapper:
    """The function that a mapping makes; it remembers customers, so rows come in file order.

    Args:
        mapping: What the file says.
        vocabulary: The names it may use.
        header: The columns of the rows, in order.

    Raises:
        ConfigurationError: The mapping names a column or a name that does not exist.
    """

    def __init__(self, mapping: Mapping, vocabulary: Vocabulary, header: Sequence[str]) -> None:
        self._mapping = mapping
        self._known: dict[str, Collection[str]] = {
            "type": vocabulary.types,
            "channel": vocabulary.channels,
            "direction": [one.name for one in Direction if one],
            "intent": vocabulary.intents,
            "action": vocabulary.actions,
            "outcome": [one.name for one in Outcome if one],
        }
        problems = [*self._problems(vocabulary, header)]
        if problems:
            raise ConfigurationError("\n".join(problems))
        self._width = len(header)
        places = {column: at for at, column in enumerate([*header, *COUNTERS])}
        empty = frozenset(mapping.empty)
        self._templates = {at: Template(one) for at, one in mapping.templates() if one}
        self._text = {at: one.bind(places, empty) for at, one in self._templates.items()}
        self._ids = [field for field in _IDS if field in self._text]
        self._numbers = [
            (field, read)
            for field, read in (
                ("sequence", _sequence),
                ("value", self._number),
                ("sentiment", self._sentiment),
                ("duration", self._duration),
            )
            if field in self._text
        ]
        self._attributes = {name: vocabulary.attributes[name] for name in mapping.profile}
        self._moment = moments(mapping.time)
        self._renames: dict[str, _Renames] = {
            field: [(old, _regex(old), new) for old, new in table.items()]
            for field, table in mapping.rename.items()
        }
        self._rules = [
            ([(places.get(at), _matcher(patterns)) for at, patterns in rule.when.items()], rule.set)
            for rule in mapping.rules
        ]
        read = {at for when, _ in self._rules for at, _ in when if at is not None}
        read |= {places[at] for field in CODED for at in self._columns(field)}
        self._deciding = operator.itemgetter(*sorted(read)) if read else lambda _: ()
        self._decided: dict[Any, dict[str, Any] | tuple[str, str, str]] = {}
        self._rows: dict[str, int] = {}
        self._told: dict[str, tuple[str, ...]] = {}

    def _columns(self, field: str) -> tuple[str, ...]:
        return Template(getattr(self._mapping.event, field)).columns

    def _problems(self, vocabulary: Vocabulary, header: Sequence[str]) -> Iterator[str]:
        mapping = self._mapping
        for column in sorted(mapping.columns()):
            if header.count(column) != 1:
                where = "is twice in" if column in header else "is not in"
                yield f"column {column!r} {where} the file; it has {', '.join(header)}"
        for field in CODED:
            if set(self._columns(field)) & set(COUNTERS):
                yield f"event.{field}: a counter is no name; use columns"
            names = [getattr(rule.set, field) for rule in mapping.rules]
            names += [new for old, new in mapping.rename.get(field, {}).items() if not _regex(old)]
            if not self._columns(field):
                names.append(getattr(mapping.event, field))
            for name in names:
                if name and name not in self._known[field]:
                    yield f"{field} {name!r} {self._unknown(field, name)}"
        for name in mapping.profile:
            if name not in vocabulary.attributes:
                yield f"profile: {name!r} is not declared; add it to attributes in vocabulary.yaml"

    def _unknown(self, field: str, name: str) -> str:
        if field in ("direction", "outcome"):
            return f"is none; rename it to one of {', '.join(self._known[field])}"
        near = difflib.get_close_matches(name, self._known[field], n=1)
        hint = f"did you mean {near[0]!r}? If not, declare it" if near else "declare it"
        return f"is not in the vocabulary; {hint} there, or rename it in the mapping"

    def __call__(self, line: int, row: int, cells: Sequence[str]) -> Mapped | Refused:
        """Map one row.

        Args:
            line: Where the row is, for messages.
            row: Its number, from 1; it makes ids, so it counts refused rows too.
            cells: One text for each column of the header.
        """
        if len(cells) != self._width:
            reason = (
                f"{len(cells)} cells under a header of {self._width}; quote what has delimiters"
            )
            return Refused(line, "", self._mapping.file.delimiter.join(cells), reason)
        try:
            return self._row(line, [*cells, str(row), ""])
        except _Wrong as wrong:
            return Refused(line, *wrong.args)

    def _row(self, line: int, cells: list[str]) -> Mapped:
        customer = self._id("customer_id", cells)
        in_customer = self._rows.get(customer, 0)
        self._rows[customer] = in_customer + 1
        cells[-1] = str(in_customer)
        fields = dict(self._codes(cells))
        ms = self._read("occurred_at", cells, self._moment)
        if ms is None:
            raise self._absent("occurred_at")
        for field in self._ids:
            fields[field] = self._id(field, cells, absent=True)
        for name, read in self._numbers:
            if name not in fields and (number := self._read(name, cells, read)) is not None:
                fields[name] = number
        event = event_pb2.Event(
            event_id=self._id("event_id", cells),
            source=self._mapping.source,
            customer=event_pb2.CustomerKey(customer_id=customer),
            occurred_at=Timestamp(seconds=ms // 1_000, nanos=ms % 1_000 * 1_000_000),
            **fields,
        )
        return Mapped(line, event, self._news(customer, cells) if self._attributes else {})

    def _codes(self, cells: list[str]) -> dict[str, Any]:
        """Names and direction of a row, remembered by the columns that decide them."""
        key = self._deciding(cells)
        codes = self._decided.get(key)
        if codes is None:
            if len(self._decided) >= _MEMORY:
                self._decided.clear()
            try:
                codes = self._decide(cells)
            except _Wrong as wrong:
                codes = wrong.args
            self._decided[key] = codes
        if isinstance(codes, tuple):
            raise _Wrong(*codes)
        return codes

    def _decide(self, cells: list[str]) -> dict[str, Any]:
        codes: dict[str, Any] = {
            field: _renamed(self._text[field](cells), self._renames.get(field, []))
            for field in CODED
            if field in self._text
        }
        made = codes["type"]
        for when, to in self._rules:
            if all(matches(made if at is None else cells[at]) for at, matches in when):
                given = ((field, getattr(to, field)) for field in to.__struct_fields__)
                codes |= {field: one for field, one in given if one is not None}
        if not codes["type"]:
            raise self._absent("type")
        for field in CODED:
            if (name := codes.get(field)) and name not in self._known[field]:
                raise self._wrong(field, name, self._unknown(field, name))
        named = {"direction": Direction, "outcome": Outcome}
        return {
            field: named[field][code].value if field in named else code
            for field, code in codes.items()
            if code != ""
        }

    def _news(self, customer: str, cells: list[str]) -> dict[str, float | bool | str]:
        """What a row says of the profile that the customer's rows before it did not."""
        told = tuple(self._text[f"profile.{name}"](cells) for name in self._attributes)
        before = self._told.get(customer, ("",) * len(told))
        if told == before:
            return {}
        news: dict[str, float | bool | str] = {}
        for (name, attribute), text, old in zip(
            self._attributes.items(), told, before, strict=True
        ):
            if text and text != old:
                news[name] = self._attribute(f"profile.{name}", attribute, text)
        self._told[customer] = tuple(new or old for new, old in zip(told, before, strict=True))
        return news

    def _attribute(self, at: str, attribute: Attribute, text: str) -> float | bool | str:
        if attribute.kind == "category":
            if text not in attribute.values:
                raise self._wrong(at, text, f"is none of {', '.join(attribute.values)}; declare it")
            return text
        if attribute.kind == "flag":
            if text.lower() not in _FLAGS:
                raise self._wrong(at, text, f"is no flag; write one of {', '.join(_FLAGS)}")
            return _FLAGS[text.lower()]
        try:
            return self._number(text)
        except ValueError as error:
            raise self._wrong(at, text, str(error)) from None

    def _wrong(self, at: str, value: str, reason: str) -> _Wrong:
        template = self._templates.get(at)
        columns = () if template is None else template.columns
        return _Wrong(", ".join(columns), value, f"{at} {reason}")

    def _absent(self, field: str) -> _Wrong:
        return self._wrong(field, "", "is empty; fill it in, or leave the row out")

    def _id(self, field: str, cells: list[str], absent: bool = False) -> str:
        text = self._text[field](cells)
        if not text and not absent:
            raise self._absent(field)
        if len(text) > 128:
            raise self._wrong(field, text, f"has {len(text)} characters; use at most 128")
        return text

    def _read(self, field: str, cells: list[str], read: Callable[[str], T]) -> T | None:
        text = self._text[field](cells)
        try:
            return read(text) if text else None
        except ValueError as error:
            raise self._wrong(field, text, str(error)) from None

    def _number(self, text: str) -> float:
        return _number(text, self._mapping.decimal)

    def _sentiment(self, text: str) -> float:
        number = self._number(text)
        if not -1 <= number <= 1:
            raise ValueError("is not from -1 to 1; scale it, or leave it empty")
        return number

    def _duration(self, text: str) -> Duration:
        if clock := _CLOCK.fullmatch(text):
            seconds = int(clock[1]) * 3_600.0 + int(clock[2]) * 60 + int(clock[3])
        else:
            seconds = self._number(text) * _SECONDS[self._mapping.duration_unit]
        if not 0 <= seconds <= MAX_DURATION:
            raise ValueError(f"is not from 0 to {MAX_DURATION} s; correct it, or leave it empty")
        return Duration(seconds=int(seconds))


def _sequence(text: str) -> int:
    if not text.isdecimal() or int(text) > MAX_SEQUENCE:
        raise ValueError(f"is no whole number from 0 to {MAX_SEQUENCE}; correct it")
    return int(text)
