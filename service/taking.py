"""Take events with which nothing is wrong in one pass; all others are for ``service.intake``. Pure.

A batch holds up to a thousand events, and hardly one of them is refused. What has to be said of one
that is, and what is rare (a mood, attributes, an identifier), is dealt with there: this gives the
very same, or leaves it. The log entry is put together from the bytes of the event, whose fields
protobuf writes in the order of their numbers.
"""

from __future__ import annotations

from typing import Final

from features.record import (
    CONTINUATION,
    MAX_DURATION,
    MAX_SEQUENCE,
    NO_DURATION,
    NO_SENTIMENT,
    agent_hash,
    event_hasher,
    interaction_hash,
    pack_fields,
)
from features.vocabulary import Vocabulary
from rapport.v1 import event_pb2
from service import intake, outcomes
from service.callers import Caller
from service.checks import EARLIEST, LATE, SHORT, SKEW
from service.errors import Violation
from service.intake import DIRECTIONS, LARGEST, MAX_SOURCE, OUTCOMES, Named, Taken
from service.store import Write
from service.wire import varint

# Keys of fields: of a LogEntry, of its EventLogged, and of the Event in that.
_CUSTOMER: Final = b"\x0a"
_LOGGED: Final = b"\x12"
_RECORD: Final = b"\x0a\x28"  # 40 bytes
_EVENT: Final = b"\x12"
_CALLER: Final = b"\x1a"
_RELEASES: Final = b"\x22\x08"  # 8 bytes
_COUNTED: Final = b"\x30\x01"
_SOURCE: Final = b"\x12"
_LONG: Final = 0x80  # from so many bytes on, a length of text takes two
_NAN: Final = float("nan")


class _Customer:
    """What is the same for all events of a customer."""

    def __init__(self, customer_id: str) -> None:
        written = customer_id.encode()
        key = _CUSTOMER + varint(len(written)) + written  # of CustomerKey too
        self.named = Named(customer_id)
        self.before = key + _LOGGED
        self.size = 1 + len(varint(len(key))) + len(key)  # of the field of an Event


class _Source:
    """What is the same for all events of a source."""

    def __init__(self, source: str) -> None:
        written = source.encode()
        self.field = _SOURCE + varint(len(written)) + written
        self.hasher = event_hasher(source)


class Taking:
    """Takes the events of one batch.

    Args:
        vocabulary: What names must be declared in.
        counted: Outcomes that contact limits count.
        caller: Who sends them.
        now: Milliseconds since 1970-01-01 UTC.
    """

    def __init__(
        self, vocabulary: Vocabulary, counted: frozenset[int], caller: Caller, now: int
    ) -> None:
        self._vocabulary, self._counted, self._caller, self._now = vocabulary, counted, caller, now
        self._first = EARLIEST if "import" in caller.scopes else max(EARLIEST, now - LATE)
        self._last = now + SKEW
        self._types = vocabulary.type_codes
        self._channels = {"": 0, **vocabulary.channels}
        self._intents = {"": 0, **vocabulary.intent_codes}
        self._actions = {"": 0, **vocabulary.actions}
        self._customers: dict[str, _Customer] = {}
        self._sources: dict[str, _Source] = {}
        self._interactions: dict[str, int] = {}
        name = caller.name.encode()
        self._sent_by = _CALLER + varint(len(name)) + name

    def take(self, event: event_pb2.Event, number: int) -> Taken | Violation:
        """Check one event and pack it; see :func:`service.intake.take`.

        Args:
            event: As it was sent, without unknown fields: the edge has dropped these.
            number: Its place in the batch.
        """
        plain = self._plain(event)
        if plain is not None:
            return plain
        if event.source.startswith(outcomes.SOURCE):
            text = f"begins with {outcomes.SOURCE!r}, which is RecordOutcome's; choose another"
            return Violation(f"events[{number}].source", text)
        return intake.take(
            event,
            f"events[{number}].",
            self._vocabulary,
            self._counted,
            self._caller,
            self._now,
        )

    def _plain(self, event: event_pb2.Event) -> Taken | None:
        """The event as it is stored; None where it needs more than a look."""
        id, source, who = event.event_id, event.source, event.customer.customer_id
        interaction, parent, agent = (
            event.interaction_id, event.parent_interaction_id, event.agent_id,
        )  # fmt: skip
        decision = event.decision_id
        texts = (
            id, source, who, interaction, parent, agent, decision, event.skill, event.queue,
            event.locale,
        )  # fmt: skip
        together = "".join(texts)
        stamp = event.occurred_at
        nanos = stamp.nanos
        moment = stamp.seconds * 1000 + nanos // 1_000_000
        type, action = self._types.get(event.type), self._actions.get(event.action)
        channel, intent = self._channels.get(event.channel), self._intents.get(event.intent)
        direction, outcome, sequence = event.direction, event.outcome, event.sequence
        if (
            type is None
            or channel is None
            or intent is None
            or action is None
            or direction not in DIRECTIONS
            or outcome not in OUTCOMES
            or not self._first <= moment <= self._last
            or not 0 <= nanos < 1_000_000_000
            or sequence > MAX_SEQUENCE
            or not id.strip()
            or not who.strip()
            or "\0" in together
            or (len(together) > SHORT and max(map(len, texts)) > SHORT)
            or len(source) > MAX_SOURCE
            or (source and not self._speaks_for(source))
            or event.HasField("sentiment")
            or event.HasField("received_at")
            or event.attributes
        ):
            return None
        value, seconds = _NAN, NO_DURATION
        if event.HasField("value"):
            value = event.value
            if not -LARGEST <= value <= LARGEST:
                return None
        if event.HasField("duration"):
            lasted = event.duration
            took = lasted.seconds + lasted.nanos / 1e9
            if not (0 <= lasted.nanos < 1_000_000_000 and 0 <= took <= MAX_DURATION):
                return None
            seconds = int(took)
        of_source = self._source(source or self._caller.name)
        hasher, written_id = of_source.hasher.copy(), id.encode()
        hasher.update(written_id)
        record = pack_fields(
            moment,
            int.from_bytes(hasher.digest(), "little"),
            sequence,
            agent_hash(agent) if agent else 0,
            self._interaction(interaction) if interaction else 0,
            value,
            type,
            intent,
            action,
            seconds,
            channel,
            direction | CONTINUATION if parent else direction,
            outcome,
            NO_SENTIMENT,
        )
        releases = intake.released(event) if decision else b""
        counts = bool(action) and outcome in self._counted
        written, of_customer = event.SerializeToString(), self._customer(who)
        # As it was sent, less the customer and with its source.
        first = len(written_id) + (2 if len(written_id) < _LONG else 3)
        if source:
            first += len(of_source.field)
            kept = written[:first] + written[first + of_customer.size :]
        else:
            kept = written[:first] + of_source.field + written[first + of_customer.size :]
        logged = b"".join(
            (
                _RECORD, record, _EVENT, varint(len(kept)), kept, self._sent_by,
                _RELEASES + releases if releases else b"", _COUNTED if counts else b"",
            )
        )  # fmt: skip
        entry = of_customer.before + varint(len(logged)) + logged
        return Taken(of_customer.named, Write(record, counts, entry, releases))

    def _speaks_for(self, source: str) -> bool:
        return not source.startswith(outcomes.SOURCE) and self._caller.speaks_for(source)

    def _customer(self, customer_id: str) -> _Customer:
        found = self._customers.get(customer_id)
        if found is None:
            found = self._customers[customer_id] = _Customer(customer_id)
        return found

    def _source(self, source: str) -> _Source:
        found = self._sources.get(source)
        if found is None:
            found = self._sources[source] = _Source(source)
        return found

    def _interaction(self, interaction_id: str) -> int:
        found = self._interactions.get(interaction_id)
        if found is None:
            found = self._interactions[interaction_id] = interaction_hash(interaction_id)
        return found
