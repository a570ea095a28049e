"""Say why each action was or was not part of an answer, from what was logged. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.elementary import Floats
from rapport.v1 import decision_pb2 as pb
from rapport.v1 import log_pb2
from service import counterfactual, trace
from service.business import Business
from service.causes import Rows, rows_of
from service.errors import Precondition
from service.exploration import Fate
from service.models import Models
from service.trace import Fared
from service.voices import voices


def explain(
    decision: log_pb2.DecisionLogged,
    request: pb.ExplainRequest,
    business: Business,
) -> pb.ExplainResponse:
    """Give the one reason that decided, for each placement and action of the catalogue.

    Args:
        decision: As it was logged.
        request: Which action.
        business: The configuration that decided.
    """
    answer = decision.response
    size = len(business.actions)
    fared = {
        (one.placement, business.actions[one.row].name): one
        for one in trace.fared(decision.deliberation, size)
    }
    taken = _taken(decision.deliberation)
    reasons = {
        (slate.placement, shown.action): shown.reasons
        for slate in answer.slates
        for shown in slate.recommendations
    }
    candidates = []
    for one in trace.candidates(decision.deliberation, answer.slates, business, every=True):
        if one.action == trace.DO_NOTHING or request.action not in ("", one.action):
            continue
        one.voices.CopyFrom(voices(one, reasons.get((one.placement, one.action), ())))
        if one.reason.code:
            how = fared[one.placement, one.action]
            one.change.CopyFrom(
                _change(one, how, business, taken[one.placement], answer.control_group)
            )
        candidates.append(one)
    return pb.ExplainResponse(
        decision_id=answer.decision_id,
        decided_at=answer.decided_at,
        rung=answer.rung,
        candidates=candidates,
        versions=answer.versions,
    )


def _change(
    one: pb.Candidate, how: Fared, business: Business, taken: Rows, group: str
) -> pb.Change:
    """What would bring an action into the answer."""
    if one.reason.code == "RESERVATION_FAILED" or how.causes:
        return counterfactual.of_reasons([one.reason, *one.also])
    return counterfactual.of_rank(how, business, taken, group)


def _taken(deliberation: log_pb2.Deliberation) -> dict[str, Rows]:
    """For each placement, the rows that were drawn before it was filled."""
    before: dict[str, Rows] = {}
    taken = 0
    for placement in deliberation.placements:
        before[placement.placement] = taken
        rows = np.frombuffer(placement.rows, "<u2")
        drawn = np.frombuffer(placement.fate, np.uint8) == Fate.shown
        taken |= rows_of(rows[drawn].tolist())
    return before


def seen(decision: log_pb2.DecisionLogged, action: str, models: Models | None) -> Floats:
    """What the model saw of an action: a row of :meth:`Models.rows`.

    Args:
        decision: As it was logged.
        action: One of its answer.
        models: The models in charge.

    Raises:
        Precondition: It cannot be told what each feature added; the message says why.
    """
    logged = {one.action: one.vector for one in decision.action_vectors}
    version = decision.response.versions.bundle
    if action not in logged:
        raise Precondition(
            f"what the model saw of {action!r} was not logged: it was not in the answer, "
            "or no model scored it"
        )
    if models is None or models.manifest.version != version:
        raise Precondition(f"bundle {version!r} decided and is not in charge any more")
    return np.frombuffer(logged[action])


def contributions(parts: Sequence[tuple[str, float, float]]) -> list[pb.Contribution]:
    """What each feature added to a score, as the API tells it."""
    return [
        pb.Contribution(feature=name, value=value, log_odds=added) for name, value, added in parts
    ]
