"""Say why each action was or was not part of an answer, from what was logged. Pure."""

from __future__ import annotations

import numpy as np

from rapport.v1 import decision_pb2 as pb
from rapport.v1 import log_pb2
from service.business import Business
from service.errors import Precondition
from service.models import Models


def explain(
    decision: log_pb2.DecisionLogged,
    request: pb.ExplainRequest,
    business: Business,
    models: Models | None,
) -> pb.ExplainResponse:
    """Give the one reason that decided, for each placement and action.

    Args:
        decision: As it was logged.
        request: Which action, and whether with contributions.
        business: For the actions that no placement could show.
        models: The models in charge, for contributions.

    Raises:
        Precondition: Contributions cannot be given; the message says why.
    """
    answer = decision.response
    candidates = [one for one in answer.trace if request.action in ("", one.action)]
    for slate in answer.slates:
        seen = {one.action for one in answer.trace if one.placement == slate.placement}
        candidates += [
            pb.Candidate(
                action=action.name,
                placement=slate.placement,
                dropped_by=pb.STAGE_ELIGIBILITY,
                reason=_untraced(slate.placement, decision),
            )
            for action in business.actions
            if action.name not in seen and request.action in ("", action.name)
        ]
    explained = pb.ExplainResponse(
        decision_id=answer.decision_id,
        decided_at=answer.decided_at,
        rung=answer.rung,
        candidates=candidates,
        versions=answer.versions,
    )
    if request.include_contributions:
        explained.contributions.extend(_contributions(decision, request.action, models))
    return explained


def _untraced(placement: str, decision: log_pb2.DecisionLogged) -> pb.Reason:
    """Why an action was no candidate at all."""
    if decision.response.rung == pb.RUNG_DEFAULTS:
        text = f"There was no time for more than the defaults of {placement}"
        return pb.Reason(code="NO_DEFAULT", text=text)
    text = f"Has no treatment for {placement} on {decision.request.channel}"
    return pb.Reason(code="NO_TREATMENT", text=text)


def _contributions(
    decision: log_pb2.DecisionLogged, action: str, models: Models | None
) -> list[pb.Contribution]:
    logged = {one.action: one.vector for one in decision.action_vectors}
    version = decision.response.versions.bundle
    if action not in logged:
        raise Precondition(
            f"what the model saw of {action!r} was not logged: it was not in the answer, "
            "or no model scored it"
        )
    if models is None or models.manifest.version != version:
        raise Precondition(f"bundle {version!r} decided and is not in charge any more")
    row = np.frombuffer(logged[action])
    return [
        pb.Contribution(feature=name, value=value, log_odds=added)
        for name, value, added in models.contributions(row)
    ]
