from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.definitions import Count, Definitions
from features.plan import Plan
from features.record import LogId
from rapport.v1 import decision_pb2 as pb
from rapport.v1 import log_pb2
from service.answers import timestamp
from tests.chain import NOW, VOCABULARY
from training import archive, decisions
from training.archive import Entry
from training.decisions import Drawn

PLAN = Plan(Definitions([Count("events")]), VOCABULARY)
VECTOR = np.array([7.0]).tobytes()


def slate(*drawn: tuple[str, float], shown: float = 0.9, **changes: Any) -> pb.Slate:
    conditional = float(np.prod([chance for _, chance in drawn]))
    recommendations = [
        pb.Recommendation(action=action, rank=rank, selection_probability=chance)
        for rank, (action, chance) in enumerate(drawn, 1)
    ]
    fields = {"selection_probability": shown * conditional} | changes
    return pb.Slate(placement="here", recommendations=recommendations, **fields)


def held_back(chance: float = 0.1) -> pb.Slate:
    return pb.Slate(placement="here", held_back=True, selection_probability=chance)


def read(folder: Path, *slates: pb.Slate, erased: int | None = None, **logged: Any) -> list[Drawn]:
    """What is read of one decision with these slates."""
    response = pb.DecideResponse(decision_id="d1", decided_at=timestamp(NOW), slates=slates)
    fields: dict[str, Any] = {
        "request": pb.DecideRequest(channel="chat"),
        "response": response,
        "vector": VECTOR,
        "feature_digest": PLAN.digest,
    } | logged
    entry = log_pb2.LogEntry(customer_id="anna", decision=log_pb2.DecisionLogged(**fields))
    archive.write(folder, 0, [Entry.parse(LogId(1, 0), entry.SerializeToString())])
    forgotten = {} if erased is None else {"anna": erased}
    return list(decisions.drawn(folder, PLAN, VOCABULARY, forgotten))


def test_what_was_drawn_is_read_with_its_probability(tmp_path: Path) -> None:
    (one,) = read(tmp_path, slate(("tablet", 0.5), ("discount", 0.25)))
    assert [slot.action for slot in one.slots] == ["tablet", "discount"]
    assert [slot.probability for slot in one.slots] == pytest.approx([0.45, 0.225])
    assert one.probability == pytest.approx(0.9)
    assert not one.held_back
    assert (one.decision_id, one.customer_id, one.moment) == ("d1", "anna", NOW)
    assert one.placement == "here"
    assert one.context.channel == VOCABULARY.channels["chat"]
    assert one.vector is not None
    assert one.vector.tolist() == [7.0]


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5), st.floats(0.5, 1.0))
def test_the_probability_of_a_slot_is_its_own_times_that_of_showing_anything(
    chances: list[float], shown: float
) -> None:
    slots, probability = decisions.treatment(
        slate(*(("tablet", one) for one in chances), shown=shown)
    )
    assert probability == pytest.approx(shown)
    assert [slot.probability for slot in slots] == pytest.approx([shown * one for one in chances])


def test_a_held_back_slate_is_a_treatment_of_its_own(tmp_path: Path) -> None:
    (one,) = read(tmp_path, held_back(0.04))
    assert one.held_back
    assert one.slots == []
    assert one.probability == pytest.approx(0.04)


def test_each_placement_was_drawn_for_itself(tmp_path: Path) -> None:
    found = read(tmp_path, held_back(), slate(("tablet", 0.5)))
    assert [one.held_back for one in found] == [True, False]


def test_what_was_drawn_counts_and_not_what_stood_in_for_it() -> None:
    drawn = slate(("callback", 0.5))
    drawn.recommendations[0].instead_of = "tablet"
    assert [slot.action for slot in decisions.treatment(drawn)[0]] == ["tablet"]


def test_what_is_mandatory_is_no_treatment(tmp_path: Path) -> None:
    drawn = slate(("callback", 1.0), ("tablet", 0.5))
    drawn.recommendations[0].mandatory = True
    assert [slot.action for slot in decisions.treatment(drawn)[0]] == ["tablet"]
    only = slate(("callback", 1.0))
    only.recommendations[0].mandatory = True
    assert read(tmp_path, only) == []


@pytest.mark.parametrize(
    "slates",
    [
        [pb.Slate(placement="here", selection_probability=1.0)],  # nothing qualified
        [slate(("tablet", 0.5), selection_probability=0.0)],  # an older log
        [slate(("tablet", 0.0))],
        [],
    ],
)
def test_where_chance_had_no_part_there_is_no_treatment(
    slates: list[pb.Slate], tmp_path: Path
) -> None:
    assert read(tmp_path, *slates) == []


@pytest.mark.parametrize("logged", [{"feature_digest": "another"}, {"vector": b""}])
def test_a_vector_of_other_definitions_is_not_taken(logged: dict[str, Any], tmp_path: Path) -> None:
    (one,) = read(tmp_path, slate(("tablet", 0.5)), **logged)
    assert one.vector is None


def test_a_forgotten_customer_is_no_ground(tmp_path: Path) -> None:
    assert read(tmp_path / "a", slate(("tablet", 0.5)), erased=NOW) == []
    assert len(read(tmp_path / "b", slate(("tablet", 0.5)), erased=NOW - 1)) == 1
