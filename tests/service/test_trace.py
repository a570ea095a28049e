from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from rapport.v1 import decision_pb2 as pb
from rapport.v1 import log_pb2
from service import deliberation, trace
from service.answers import Answers
from service.business import Business
from service.catalogue import Exploration, Treatment
from service.declared import Limit
from service.exploration import Fate
from service.factors import Factors
from service.inputs import Inputs
from service.pipeline import Pipeline
from service.reasons import Reason
from service.rooms import Room
from service.slates import Answer
from tests.service.test_pipeline import (
    WORDS,
    advised,
    decide,
    given_,
    names,
    scoring,
    shop,
    situations,
    thing,
    written,
)


def kept(answer: Answer, of: Business) -> log_pb2.Deliberation:
    """What the log holds, after a trip through its bytes."""
    return log_pb2.LogEntry.FromString(written(answer, of)).decision.deliberation


def traced(answer: Answer, of: Business, *, every: bool = False) -> list[pb.Candidate]:
    slates = pb.DecideResponse.FromString(Answers(of).written(answer, "id")).slates
    return trace.candidates(kept(answer, of), slates, of, every=every)


@settings(max_examples=100)
@given(situations())
def test_columns_hold_what_was_compared_to_the_last_bit(situation: tuple[Business, Inputs]) -> None:
    of, inputs = situation
    weighed = Pipeline(of).weigh(inputs, None)
    packed = deliberation.written(weighed, len(of.actions))
    read = log_pb2.Deliberation.FromString(packed)
    assert read.SerializeToString(deterministic=True) == packed, "as protobuf writes it"
    for weighing, one in zip(weighed.weighings, read.placements, strict=True):
        found = trace.compared(one)
        assert (found.placement, found.slots) == (weighing.name, weighing.slots)
        assert found.fates == list(weighing.drawn.fates)
        for column, ours in zip(found.ranked, weighing.ranked, strict=True):
            if ours is None:
                assert column is None
            else:
                assert column is not None
                assert column.tobytes() == ours.tobytes()
    for fared in trace.fared(read, len(of.actions)):
        weighing = next(one for one in weighed.weighings if one.name == fared.placement)
        causes = [
            (one.code, one.text, one.name, one.stage)
            for one in (*weighing.causes, *weighed.causes)
            if one.actions >> fared.row & 1
        ]
        assert [(one.code, one.text, one.name, one.stage) for one in fared.causes] == causes
        assert (fared.place >= 0) == (not causes)
        if fared.place >= 0:
            assert weighing.ranked.rows[fared.place] == fared.row


def test_what_the_models_said_survives_the_log() -> None:
    of = shop([thing("a"), thing("c")])
    models = scoring(of, lambda row: 0.3, {"a": (1.0, 0.5, 2.0)})
    answer = decide(of, given_(), models=models)
    ranked = trace.compared(kept(answer, of).placements[0]).ranked
    assert ranked.model is not None
    assert ranked.model.tolist() == [0.3, 0.3]
    assert ranked.uplift is None, "nothing ranks by it"
    assert ranked.evidence is None
    assert ranked.factors(0).acceptance_probability == 0.3


def test_candidates_come_by_rank_with_doing_nothing_last_and_those_that_were_dropped() -> None:
    of = shop(
        [thing("a", 9.0), thing("b", 2.0), thing("c", 0.5), thing("d", 7.0, purpose="marketing"),
         thing("e", treatments=[Treatment("say", ["banner"])])],
        {"max_actions": 1, "nothing": 1.0},
    )  # fmt: skip
    answer = decide(of, given_(block=["d"]))
    told = [(one.action, one.rank, one.reason.code) for one in traced(answer, of)]
    assert told == [
        ("a", 1, ""), ("b", 2, "RANKED_LOWER"), ("c", 4, "NO_PRIORITY"), ("d", 0, "BLOCKED"),
        ("do_nothing", 3, "DO_NOTHING"),
    ]  # fmt: skip
    with_all = [one.action for one in traced(answer, of, every=True)]
    assert with_all == ["a", "b", "c", "d", "e", "do_nothing"]
    nothing = traced(answer, of)[-1]
    assert nothing.factors.priority == 1.0
    assert nothing.dropped_by == pb.STAGE_ARBITRATION


def test_doing_nothing_wins_where_nothing_is_worth_more() -> None:
    of = shop([thing("a", 0.5)], {"nothing": 1.0})
    first, nothing = traced(decide(of, given_()), of)
    assert (nothing.action, nothing.rank, nothing.dropped_by) == ("do_nothing", 1, 0)
    assert not nothing.HasField("reason")
    assert (first.rank, first.reason.text) == (2, "Doing nothing is worth more (1.00)")


def test_the_chance_of_what_is_shown_is_told_and_of_others_it_is_nothing() -> None:
    of = shop([thing("a", 9.0), thing("b", 8.0)],
              {"max_actions": 1, "exploration": Exploration(temperature=1.0)})  # fmt: skip
    answer = decide(of, given_(seed=5))
    (slate,) = answer.slates
    for one in traced(answer, of)[:-1]:
        shown = one.action in names(answer, of)["hint"]
        assert one.selection_probability == (slate.shown[0].probability if shown else 0.0)


ONCE = Limit("once", 1, "7d", action="b")


@pytest.mark.parametrize("defaults", [[], ["d"]])
def test_what_could_not_be_reserved_is_told_whether_or_not_something_took_its_place(
    defaults: list[str],
) -> None:
    of = shop([thing("b", 9.0), thing("d", 1.0)], {"max_actions": 1, "defaults": defaults},
              limits=[ONCE])  # fmt: skip
    answer = decide(of, given_(), ["b"])
    assert names(answer, of) == {"hint": defaults}
    assert "RESERVATION_FAILED" in advised(answer)
    drawn, other, _ = traced(answer, of)
    assert (drawn.action, drawn.reason.code) == ("b", "RESERVATION_FAILED")
    assert drawn.dropped_by == pb.STAGE_CONTACT_POLICY
    assert not drawn.also
    if defaults:
        assert not other.HasField("reason"), "shown after all"
        assert other.dropped_by == pb.STAGE_UNSPECIFIED
        assert drawn.selection_probability == 1.0
    else:
        assert other.reason.code == "RANKED_LOWER"


def test_a_fate_in_words_for_every_fate() -> None:
    of = shop([thing("a", 9.0), thing("b", 8.0)])
    answer = decide(of, given_())
    one = next(iter(trace.fared(kept(answer, of), 2)))
    rooms = [Room("other", 0b10, 0), Room("some", 0b11, 3), Room("few", 0b11, 2)]
    one = one._replace(compared=one.compared._replace(rooms=rooms))
    texts = {}
    for fate in Fate:
        found = trace.fate(one._replace(compared=one.compared._replace(fates=[fate] * 2)), of)
        texts[fate] = found
    assert texts.pop(Fate.shown) is None
    codes = [found[1] for found in texts.values() if found]
    assert len(set(codes)) == len(texts) == 9
    told = texts[Fate.limit_full]
    assert told is not None
    assert told[2].endswith("(limit few)"), "that is at its end"


def test_numbers_that_were_not_there_are_absent_in_the_api() -> None:
    told = pb.Factors.FromString(trace.factors(Factors(0.5, 10.0, 1.0, 1.0, 5.0)))
    assert told.acceptance_probability == 0.5
    for field in ("uplift", "uplift_low", "model_probability", "evidence"):
        assert not told.HasField(field)
    numbers = Factors(0.5, 10.0, 1.0, 1.0, 5.0, 0.4, 20.0, 1.5, (3.0, 2.0, 4.0))
    told = pb.Factors.FromString(trace.factors(numbers))
    assert (told.uplift, told.uplift_low, told.uplift_high) == (3.0, 2.0, 4.0)
    assert (told.model_probability, told.evidence, told.capacity_cost) == (0.4, 20.0, 1.5)


def test_a_catalogue_of_hundreds_takes_a_few_kilobytes() -> None:
    words = msgspec.structs.replace(WORDS, actions={f"n{n}": n + 1 for n in range(400)})
    of = shop([])
    of = msgspec.structs.replace(
        of, vocabulary=words, actions=[thing(f"n{n}", 1.0 + n) for n in range(400)]
    )
    answer = decide(of, given_(unscored=Reason("MODELS_SKIPPED", "late"), allow=["n3", "n7"]))
    assert len(written(answer, of)) < 2_000
    every = decide(of, given_())
    assert len(written(every, of)) < 400 * 8 * 8
    assert math.isfinite(np.frombuffer(kept(every, of).placements[0].priority, "<f8").sum())
