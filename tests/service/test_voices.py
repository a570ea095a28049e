from __future__ import annotations

import pytest

from rapport.v1 import decision_pb2 as pb
from service import voices


def candidate(code: str, text: str = "Not in this season") -> pb.Candidate:
    return pb.Candidate(
        action="tablet",
        placement="hint",
        dropped_by=pb.STAGE_ARBITRATION,
        reason=pb.Reason(code=code, text=text),
        also=[pb.Reason(code="CEILING"), pb.Reason(code="BLOCKED")],
        rank=3,
        factors=pb.Factors(
            acceptance_probability=0.25, value=40, context_weight=1.5, lever=2, priority=30
        ),
    )


def test_three_people_hear_the_same_reason_each_in_their_words() -> None:
    told = voices.voices(candidate("RANKED_LOWER"))
    assert told.agent == "Not now: Not in this season."
    assert told.customer == "Other things seemed more useful to you now."
    assert told.auditor == (
        "arbitration: RANKED_LOWER: Not in this season; also CEILING, BLOCKED; "
        "rank 3: P 0.2500, V 40.00, C 1.5, L 2, priority 30"
    )


def test_a_reason_that_is_a_sentence_ends_once() -> None:
    assert voices.voices(candidate("RULE", "Only for adults.")).agent == "Not now: Only for adults."


def test_uplift_is_told_to_the_auditor_with_its_interval() -> None:
    one = candidate("RANKED_LOWER")
    one.factors.uplift, one.factors.uplift_low, one.factors.uplift_high = 1.5, -0.25, 3.25
    assert voices.voices(one).auditor.endswith("; uplift 1.500 [-0.250, 3.250]")


def test_what_was_shown_has_no_reason_and_says_so_too() -> None:
    one = candidate("")
    one.ClearField("reason")
    one.selection_probability = 0.125
    told = voices.voices(one)
    assert told.agent.startswith("Accepted by 25%")
    assert told.auditor.startswith("shown, selection probability 0.125; rank 3")
    assert told.customer


@pytest.mark.parametrize("code", sorted(voices.CODES))
def test_every_code_has_words_of_its_own(code: str) -> None:
    customer = voices.voices(candidate(code)).customer
    others = {voices.voices(candidate(other)).customer for other in voices.CODES - {code}}
    assert customer not in others


def test_a_code_that_nobody_has_words_for_is_an_error_and_no_silence() -> None:
    with pytest.raises(KeyError):
        voices.voices(candidate("BECAUSE"))


def test_the_agent_hears_why_it_is_shown_and_not_what_our_rules_are_called() -> None:
    one = candidate("")
    one.ClearField("reason")
    why = pb.Reason(code="CONTEXT_WEIGHT", text="They just failed to help themselves.")
    assert voices.voices(one, [why]).agent == "They just failed to help themselves."
    told = voices.voices(candidate("CONTACT_LIMIT", "Rejected once within 30d (limit no_means_no)"))
    assert told.agent == "Not now: Rejected once within 30d."
    assert "no_means_no" in told.auditor


def test_the_agent_hears_that_the_situation_speaks_against_a_sale() -> None:
    one = candidate("RANKED_LOWER", "2 other actions rank higher")
    one.factors.context_weight = 0.2
    assert voices.voices(one).agent.endswith("The situation weighs against it (x0.2).")
