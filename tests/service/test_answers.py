from __future__ import annotations

import numpy as np
import pytest

from features.record import EMPTY, NEVER, LogId
from rapport.v1 import decision_pb2 as pb
from rapport.v1 import log_pb2
from service import VERSION, answers
from service.arbitration import Factors, Ranked, Reason
from service.decide import Answer, Known, Seen, Slate
from service.facts import Fact
from service.policies import Drop, Offer
from tests.business import action, business
from tests.chain import NOW, Event, chained

FACTORS = Factors(0.25, 40.0, 1.5, 2.0)
DISCOUNT = action("discount")
CHOSEN = Ranked(Offer(DISCOUNT, DISCOUNT.treatments[0]), FACTORS, (Reason("VALUE", "Worth it"),))
DROPPED = Seen("tablet", "hint", Drop(pb.STAGE_CONTACT_POLICY, "CONTACT_LIMIT", "too often"))


def answer(**changes: object) -> Answer:
    known = Known(chained([Event(NOW)]), EMPTY, None, LogId(5, 1), NEVER, LogId(6, 0))
    made = Answer(
        now=NOW + 7,
        rung=pb.RUNG_WITHOUT_MODELS,
        advisories=[Reason("NO_MODEL", "none")],
        intents=[(f"intent{i}", 0.1) for i in range(7)],
        facts=[
            Fact("mood", "Bad mood", -0.5),
            Fact("repeat_contact", "Again", 2, NOW, "billing", ("ivr", "phone")),
        ],
        slates=[Slate("hint", [CHOSEN]), Slate("banner", [])],
        trace=[Seen("discount", "hint", None, FACTORS, 1), DROPPED],
        known=known,
        models=None,
        vector=np.array([1.0, np.nan]),
        rows={"discount": np.array([2.0, 3.0])},
    )
    return made._replace(**changes)  # type: ignore[arg-type]


def test_an_answer_says_all_that_was_found() -> None:
    built = answers.response(answer(), "id", business(), trace=False, features=False)
    assert built.decision_id == "id"
    assert answers.milliseconds(built.decided_at) == NOW + 7
    assert built.rung == pb.RUNG_WITHOUT_MODELS
    assert [(one.code, one.message) for one in built.advisories] == [("NO_MODEL", "none")]
    assert len(built.intents) == 5
    assert [slate.placement for slate in built.slates] == ["hint", "banner"]
    (one,) = built.slates[0].recommendations
    assert (one.action, one.title, one.rank) == ("discount", "Discount", 1)
    assert one.treatment.name == "say"
    assert one.factors.priority == pytest.approx(0.25 * 40 * 1.5 * 2)
    assert [(reason.code, reason.text) for reason in one.reasons] == [("VALUE", "Worth it")]
    assert one.selection_probability == 1.0
    assert not built.trace
    assert not built.HasField("features")
    assert built.versions.code == VERSION
    assert not built.versions.bundle


def test_a_fact_names_what_is_behind_it_where_there_is_something() -> None:
    built = answers.response(answer(), "", business(), trace=False, features=False)
    mood, again = built.facts
    assert not mood.HasField("newest")
    assert not mood.intent
    assert answers.milliseconds(again.newest) == NOW
    assert list(again.channels) == ["ivr", "phone"]


def test_what_was_read_is_named_by_the_ids_of_the_log() -> None:
    read = answers.response(answer(), "", business(), trace=False, features=False).read
    assert (read.timeline, read.ledger, read.profile, read.events) == ("5-1", "", "6-0", 1)
    nothing = answer(known=Known(None, None, None))
    read = answers.response(nothing, "", business(), trace=False, features=False).read
    assert read == pb.ReadIds()


def test_the_trace_tells_shown_and_dropped_apart() -> None:
    built = answers.response(answer(), "", business(), trace=True, features=False)
    shown, dropped = built.trace
    assert (shown.dropped_by, shown.rank) == (pb.STAGE_UNSPECIFIED, 1)
    assert not shown.HasField("reason")
    assert shown.HasField("factors")
    assert (dropped.dropped_by, dropped.reason.code) == (pb.STAGE_CONTACT_POLICY, "CONTACT_LIMIT")
    assert not dropped.HasField("factors")


def test_what_is_logged_is_the_whole_answer_and_the_bits_that_the_models_saw() -> None:
    request = pb.DecideRequest(channel="phone", utterance="hello")
    written = answers.logged(answer(), "id", "ann", request, business(), "ivr")
    entry = log_pb2.LogEntry.FromString(written)
    assert entry.customer_id == "ann"
    decision = entry.decision
    assert (decision.request, decision.caller) == (request, "ivr")
    assert decision.response.decision_id == "id"
    assert len(decision.response.trace) == 2
    assert np.frombuffer(decision.vector).tobytes() == np.array([1.0, np.nan]).tobytes()
    (row,) = decision.action_vectors
    assert row.action == "discount"
    assert np.frombuffer(row.vector).tolist() == [2.0, 3.0]


@pytest.mark.parametrize("ms", [0, 1, 999, 1_000, NOW, NOW + 1])
def test_a_moment_survives_the_api(ms: int) -> None:
    assert answers.milliseconds(answers.timestamp(ms)) == ms
