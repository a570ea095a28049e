r"""How rows of somebody's log become events: a small YAML file, as structs. Pure.

A field of the event is a *template*: text with columns in braces. ``"{case_id}"`` is a column,
``"case-{case_id}"`` has a prefix, ``"{activity}+{lifecycle}"`` is made of two, ``web`` is a
constant, and ``{#row}`` and ``{#row_in_customer}`` count from 1 and 0. ``{resource:whole}`` writes
112.0 as 112; ``:strip`` and ``:lower`` do as they say. A template is absent where one of its
columns is empty. Wherever a value is compared, ``/.../`` is a regular expression that has to match
all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, Literal

import msgspec

from training.cells import COUNTERS, Decimal, Patterns, Template, Time, Unit, matcher, regex

Basis = Literal["consent", "contract", "legal_obligation", "legitimate_interest"]
CODED: Final = ("type", "channel", "direction", "intent", "action", "outcome")


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A template for each field of the event."""

    customer_id: str
    occurred_at: str
    type: str
    event_id: str = "{#row}"
    sequence: str = "{#row_in_customer}"
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


class Reading(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How sentiment was read, and why we may keep it; the same for every row.

    No basis is assumed: without one the readings are dropped and counted, as the server would.
    """

    subject: Literal["customer", "agent"]
    modality: Literal["text", "voice", "stated", "observed"]
    source: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    basis: Basis | None = None

    def __post_init__(self) -> None:
        if self.subject == "agent":
            raise ValueError(
                "subject: 'agent'; Rapport keeps no emotions of employees: no event.sentiment"
            )


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
    decimal: Decimal = "."
    duration_unit: Unit = "s"
    rename: dict[str, dict[str, str]] = {}  # of coded fields; a new name may use \1
    rules: list[Rule] = []
    profile: dict[str, str] = {}  # attribute: template; told when the row occurred
    reading: Reading | None = None  # of `event.sentiment`; without its basis none is kept

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
                regex(old, new)
        for patterns in (patterns for rule in self.rules for patterns in rule.when.values()):
            matcher(patterns)

    def templates(self) -> Iterator[tuple[str, str]]:
        """Each field of the event and, as ``profile.NAME``, each attribute, with its template."""
        for field in Event.__struct_fields__:
            yield field, getattr(self.event, field)
        yield from ((f"profile.{name}", written) for name, written in self.profile.items())

    def columns(self) -> set[str]:
        """Every column that the mapping reads."""
        read = {column for _, written in self.templates() for column in Template(written).columns}
        return read - {*COUNTERS} | {at for rule in self.rules for at in rule.when} - {"#type"}
