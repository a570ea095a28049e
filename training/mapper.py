"""The function that a mapping makes: a row becomes an event, or is refused with a reason.

It does no I/O and knows no clock.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from features.vocabulary import Direction, Outcome, Vocabulary
from rapport.v1 import customer_pb2, event_pb2
from service.errors import ConfigurationError
from training.cells import (
    COUNTERS,
    Renames,
    Template,
    attribute,
    duration,
    matcher,
    moments,
    number,
    regex,
    renamed,
    sentiment,
    sequence,
)
from training.mapping import CODED, Mapping, Reading

_IDS: Final = (
    "interaction_id",
    "parent_interaction_id",
    "decision_id",
    "agent_id",
    "skill",
    "queue",
    "locale",
)
_MEMORY: Final = 50_000  # distinct rows of codes to remember

T = TypeVar("T")


class Mapped(NamedTuple):
    """A row as an event, with what it newly says of the customer's profile, told at its time."""

    line: int
    event: event_pb2.Event
    profile: customer_pb2.UpdateProfileRequest | None
    sentiment_dropped: bool = False  # it has a reading that we have no basis to keep


class Refused(NamedTuple):
    """A row that became no event, and why."""

    line: int
    column: str
    value: str
    reason: str


class _Wrong(ValueError):
    """Carries column, value and reason of a refusal out of a row."""


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
        readers: dict[str, Callable[[str], Any]] = {
            "sequence": sequence,
            "value": partial(number, decimal=mapping.decimal),
            "sentiment": partial(sentiment, decimal=mapping.decimal),
            "duration": partial(duration, unit=mapping.duration_unit, decimal=mapping.decimal),
        }
        self._mood = _mood(mapping.reading)
        if self._mood is None:
            readers.pop("sentiment")  # nothing is read that nobody may keep
        self._numbers = [(field, read) for field, read in readers.items() if field in self._text]
        self._attributes = {
            name: partial(attribute, declared=vocabulary.attributes[name], decimal=mapping.decimal)
            for name in mapping.profile
        }
        self._moment = moments(mapping.time)
        self._renames: dict[str, Renames] = {
            field: [(old, regex(old), new) for old, new in table.items()]
            for field, table in mapping.rename.items()
        }
        self._rules = [
            ([(places.get(at), matcher(patterns)) for at, patterns in rule.when.items()], rule.set)
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
            names += [new for old, new in mapping.rename.get(field, {}).items() if not regex(old)]
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
            if name not in fields and (told := self._read(name, cells, read)) is not None:
                fields[name] = self._written(name, told)
        event = event_pb2.Event(
            event_id=self._id("event_id", cells),
            source=self._mapping.source,
            customer=event_pb2.CustomerKey(customer_id=customer),
            occurred_at=Timestamp(seconds=ms // 1_000, nanos=ms % 1_000 * 1_000_000),
            **fields,
        )
        news = self._news(event, cells) if self._attributes else None
        dropped = self._mood is None and "sentiment" in self._text
        return Mapped(line, event, news, dropped and bool(self._text["sentiment"](cells)))

    def _written(self, field: str, told: Any) -> Any:
        """A number as the event holds it."""
        if field == "duration":
            return Duration(seconds=told)
        if field != "sentiment" or self._mood is None:
            return told
        reading = event_pb2.Sentiment(score=told)
        reading.MergeFrom(self._mood)
        return reading

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
            field: renamed(self._text[field](cells), self._renames.get(field, []))
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

    def _news(
        self, event: event_pb2.Event, cells: list[str]
    ) -> customer_pb2.UpdateProfileRequest | None:
        """What a row says of the profile that the customer's rows before it did not."""
        customer = event.customer.customer_id
        told = tuple(self._text[f"profile.{name}"](cells) for name in self._attributes)
        before = self._told.get(customer, ("",) * len(told))
        if told == before:
            return None
        news = customer_pb2.UpdateProfileRequest(
            customer=event.customer, updated_at=event.occurred_at
        )
        for name, text, old in zip(self._attributes, told, before, strict=True):
            if text and text != old:
                value = self._read(f"profile.{name}", cells, self._attributes[name])
                if isinstance(value, bool):
                    news.attributes[name].bool_value = value
                elif isinstance(value, float):
                    news.attributes[name].number_value = value
                elif value is not None:
                    news.attributes[name].string_value = value
        self._told[customer] = tuple(new or old for new, old in zip(told, before, strict=True))
        return news if news.attributes else None

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


def _mood(reading: Reading | None) -> event_pb2.Sentiment | None:
    """What all readings of sentiment have in common; None where they may not be kept."""
    if reading is None or reading.basis is None:
        return None
    return event_pb2.Sentiment(
        subject=event_pb2.Sentiment.SUBJECT_CUSTOMER,
        modality=event_pb2.Sentiment.Modality.Value(f"MODALITY_{reading.modality.upper()}"),
        source=reading.source,
        basis=event_pb2.Sentiment.Basis.Value(f"BASIS_{reading.basis.upper()}"),
    )
