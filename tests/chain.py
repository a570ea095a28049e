"""Chains of events for tests: a small business's words, and events spelled out in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from features import record, timeline
from features.duration import DAY, HOUR, MINUTE
from features.record import Records
from features.vocabulary import Attribute, Direction, Intent, Namespace, Outcome, Type, Vocabulary

NOW = 1_800_000_000_000

VOCABULARY = Vocabulary(
    channels={"phone": 1, "ivr": 2, "chat": 3, "web": 4, "app": 7},
    types={
        "contact": Type(1, "contact"),
        "failed": Type(2, "self_service_failed"),
        "completed": Type(3, "self_service_completed"),
        "resolved": Type(4, "resolved"),
        "unresolved": Type(5, "unresolved"),
        "question": Type(6, "question"),
        "answer": Type(7, "answer"),
        "complaint": Type(8, "complaint"),
        "purchase": Type(9, "purchase"),
        "page": Type(10),
        "outcome": Type(12),
    },
    intents={
        "billing": Intent(1, "A question about the bill"),
        "moving": Intent(2, "Moves house"),
        "leaving": Intent(5, "Thinks of leaving"),
    },
    actions={"discount": 1, "callback": 2, "tablet": 3, "insurance": 6},
    groups={"care": 1, "sales": 2},
    attributes={
        "age": Attribute(1, "number"),
        "balance": Attribute(2, "number", stale_after="2d"),
        "segment": Attribute(3, "category", {"home": 1, "office": 2}),
        "member": Attribute(4, "flag"),
    },
    context={
        "wait": Attribute(1, "number"),
        "tone": Attribute(2, "category", {"calm": 1, "angry": 2}),
    },
    purposes=["marketing", "profiling"],
    namespaces={
        "phone": Namespace("digits"),
        "mobile": Namespace("phone"),
        "email": Namespace("lower"),
        "cookie": Namespace("exact"),
    },
)


class Event(NamedTuple):
    """One event in names, codes where a test wants one that nobody declared."""

    at: int
    type: str | int = "page"
    channel: str | int = 0
    direction: int = Direction.inbound
    intent: str | int = 0
    action: str | int = 0
    outcome: int = Outcome.none
    value: float | None = None
    duration: int | None = None
    sentiment: int | None = None  # hundredths
    interaction: str = ""
    continues: bool = False
    agent: int = 0
    sequence: int = 0
    id: str = ""

    def code(self, field: str) -> int:
        """Code of a named field."""
        held = getattr(self, field)
        if isinstance(held, int):
            return int(held)
        known = {
            "type": VOCABULARY.type_codes,
            "channel": VOCABULARY.channels,
            "intent": VOCABULARY.intent_codes,
            "action": VOCABULARY.actions,
        }[field]
        return known[held]

    def packed(self) -> bytes:
        """The 40 bytes of the timeline."""
        return record.pack(
            occurred_at=self.at,
            hash=record.event_hash("test", self.id or repr(self)),
            type=self.code("type"),
            sequence=self.sequence,
            agent=self.agent,
            interaction=record.interaction_hash(self.interaction),
            value=self.value,
            intent=self.code("intent"),
            action=self.code("action"),
            duration=self.duration,
            channel=self.code("channel"),
            direction=self.direction,
            continuation=self.continues,
            outcome=self.outcome,
            sentiment=None if self.sentiment is None else self.sentiment / 100,
        )


def chained(events: Iterable[Event], limit: int = timeline.LIMIT) -> Records:
    """The timeline of some events."""
    return timeline.fold((event.packed() for event in events), limit)[0]


def unique(events: Sequence[Event]) -> list[Event]:
    """The events, each with an identity of its own."""
    return [event._replace(id=str(number)) for number, event in enumerate(events)]


AGES = st.one_of(
    st.integers(-2 * HOUR, 40 * DAY),
    st.sampled_from([0, 1, MINUTE, HOUR, HOUR - 1, DAY, DAY - 1, DAY + 1, 7 * DAY, 30 * DAY]),
)
"""How long ago; windows end just at some of them, and some lie in the future."""


def events(most: int = 40, *, strange: bool = True) -> st.SearchStrategy[list[Event]]:
    """Events of one customer in any order.

    Args:
        most: How many.
        strange: Whether some hold codes that the vocabulary does not have.
    """

    def named(names: Iterable[str], *codes: int) -> st.SearchStrategy[str | int]:
        return st.sampled_from([*names, 0, *(codes if strange else ())])

    values = st.one_of(st.none(), st.floats(-1e6, 1e6, width=32))
    return st.lists(
        st.builds(
            Event,
            at=AGES.map(lambda age: NOW - age),
            type=st.sampled_from([*VOCABULARY.types, *((11, 13, 60_000) if strange else ())]),
            channel=named(VOCABULARY.channels, 5, 8, 200),
            direction=st.integers(0, 3),
            intent=named(VOCABULARY.intents, 3, 6, 65_535),
            action=named(VOCABULARY.actions, 4, 7, 65_535),
            outcome=st.sampled_from([*map(int, Outcome), *((12, 200) if strange else ())]),
            value=values,
            duration=st.one_of(st.none(), st.integers(0, record.MAX_DURATION)),
            sentiment=st.one_of(st.none(), st.integers(-100, 100)),
            interaction=st.sampled_from(["", "a", "b", "c"]),
            continues=st.booleans(),
            agent=st.sampled_from([0, 1, 64, 65_535]),
            sequence=st.integers(0, 3),
        ),
        max_size=most,
    ).map(unique)


def float32(value: float) -> float:
    """A value as 24 bits of precision keep it."""
    return float(np.float32(value))
