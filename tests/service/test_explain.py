from __future__ import annotations

import math

import pytest

from rapport.v1 import decision_pb2 as pb
from rapport.v1 import log_pb2
from service import answers, explain
from service.budget import Budget
from service.decide import Decider, Question
from service.errors import Precondition
from service.models import Models
from tests.business import business as little
from tests.chain import NOW
from tests.integration.serving import business, sealed
from tests.integration.shelf import Shelf


def logged(rung: pb.Rung.ValueType = pb.RUNG_FULL) -> log_pb2.DecisionLogged:
    """A decision in which one action was shown, one dropped and two not considered."""
    return log_pb2.DecisionLogged(
        request=pb.DecideRequest(channel="phone"),
        response=pb.DecideResponse(
            decision_id="id",
            rung=rung,
            slates=[pb.Slate(placement="hint")],
            trace=[
                pb.Candidate(action="tablet", placement="hint", rank=1),
                pb.Candidate(
                    action="callback",
                    placement="hint",
                    dropped_by=pb.STAGE_CONTACT_POLICY,
                    reason=pb.Reason(code="CONTACT_LIMIT", text="too often"),
                ),
            ],
        ),
    )


def told(decision: log_pb2.DecisionLogged, action: str = "") -> dict[str, str]:
    request = pb.ExplainRequest(decision_id="id", action=action)
    explained = explain.explain(decision, request, little(), None)
    return {one.action: one.reason.code for one in explained.candidates}


def test_every_action_of_the_catalogue_has_its_reason() -> None:
    assert told(logged()) == {
        "tablet": "",
        "callback": "CONTACT_LIMIT",
        "discount": "NO_TREATMENT",
        "insurance": "NO_TREATMENT",
    }


def test_one_action_may_be_asked_for() -> None:
    assert told(logged(), "callback") == {"callback": "CONTACT_LIMIT"}
    assert told(logged(), "discount") == {"discount": "NO_TREATMENT"}


def test_what_there_was_no_time_for_is_not_told_to_lack_a_treatment() -> None:
    assert told(logged(pb.RUNG_DEFAULTS), "discount") == {"discount": "NO_DEFAULT"}


def test_an_action_of_two_placements_has_a_reason_in_each() -> None:
    decision = logged()
    decision.response.slates.add(placement="banner")
    request = pb.ExplainRequest(decision_id="id", action="tablet")
    explained = explain.explain(decision, request, little(), None)
    assert [(one.placement, one.reason.code) for one in explained.candidates] == [
        ("hint", ""),
        ("banner", "NO_TREATMENT"),
    ]


async def decided(models: Models) -> log_pb2.DecisionLogged:
    decider = Decider(business(), Shelf(), lambda: models, lambda: NOW)
    question = Question("ann", "phone", 1, ["agent_hint"], assurance=3)
    answer = await decider.decide(question, Budget(10.0, lambda: 0.0))
    written = answers.logged(answer, "id", "ann", pb.DecideRequest(), business(), "ivr")
    return log_pb2.LogEntry.FromString(written).decision


async def test_contributions_and_base_add_up_to_the_logged_acceptance() -> None:
    models = Models(sealed(), business())
    decision = await decided(models)
    for one in decision.response.slates[0].recommendations:
        request = pb.ExplainRequest(decision_id="id", action=one.action, include_contributions=True)
        explained = explain.explain(decision, request, business(), models)
        total = math.fsum(part.log_odds for part in explained.contributions)
        assert 1 / (1 + math.exp(-total)) == pytest.approx(
            one.factors.acceptance_probability, abs=1e-9
        )


async def test_contributions_need_the_bundle_that_decided() -> None:
    models = Models(sealed(), business())
    decision = await decided(models)
    action = decision.response.slates[0].recommendations[0].action
    request = pb.ExplainRequest(decision_id="id", action=action, include_contributions=True)
    with pytest.raises(Precondition, match="not in charge any more"):
        explain.explain(decision, request, business(), None)
    request.action = "gold_credit_card"
    with pytest.raises(Precondition, match="was not in the answer"):
        explain.explain(decision, request, business(), models)
