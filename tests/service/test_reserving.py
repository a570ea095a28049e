"""What reserves an action is, byte for byte, what its record and its message would be."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from features.duration import DAY
from features.record import RESERVED, interaction_hash, pack, reservation_hash
from features.vocabulary import Direction
from rapport.v1 import log_pb2
from service.declared import OUTCOME_TYPE
from service.inputs import Inputs, Known, Question
from service.reserving import Reserving
from service.store import Cap, Hold
from service.weighed import Want, Weighed
from tests.service.test_pipeline import WORDS, shop, thing

OF = shop([thing("a", 9.0), thing("b", 8.0), thing("d", 1.0)], reserves_for="90s")


def plainly(weighed: Weighed, want: Want, decision_id: str) -> Hold:
    """The slow reference."""
    question = weighed.inputs.question
    action = OF.actions[want.row].name
    held = question.hold_for or OF.policies.reserves_for_ms
    record = pack(
        occurred_at=weighed.now,
        hash=reservation_hash(decision_id, action),
        interaction=interaction_hash(question.interaction_id),
        type=WORDS.type_codes[OUTCOME_TYPE],
        value=float(-(-held // 1000)),
        action=WORDS.actions[action],
        channel=WORDS.channels[question.channel],
        direction=question.direction,
        outcome=RESERVED,
    )
    entry = log_pb2.LogEntry(
        customer_id=question.customer_id,
        reserved=log_pb2.ActionReserved(record=record, decision_id=decision_id),
    )
    return Hold(record, want.caps, entry.SerializeToString())


@given(
    customer=st.one_of(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=128),
        st.sampled_from(["x" * 127, "x" * 128, "\N{GRINNING FACE}" * 128]),
    ),
    channel=st.sampled_from(sorted(WORDS.channels)),
    direction=st.sampled_from(list(Direction)),
    interaction=st.text(max_size=8),
    held=st.one_of(st.none(), st.integers(1, 30 * DAY)),
    rows=st.lists(st.integers(0, 2), max_size=3, unique=True),
    now=st.integers(0, 2**42),
    number=st.integers(0, 16**25 - 1),
)
def test_a_hold_is_written_as_its_record_and_its_message_would_be(
    customer: str, channel: str, direction: Direction, interaction: str, held: int | None,
    rows: list[int], now: int, number: int,
) -> None:  # fmt: skip
    question = Question(
        customer, channel, int(direction), ["hint"], interaction_id=interaction, hold_for=held
    )
    inputs = Inputs(question, Known(None, None, None), now, 0)
    nothing: Any = None
    weighed = Weighed(inputs, now, *[nothing] * 14)
    wants = [Want("hint", row, 1.0, [Cap(1, DAY, 0, b"\1\0")], []) for row in rows]
    decision_id = f"{number:025x}"
    expected = [plainly(weighed, want, decision_id) for want in wants]
    assert Reserving(OF).holds(weighed, wants, decision_id) == expected
