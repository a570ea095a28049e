"""Does training compute what the service computed? Logged decisions are compared bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from features.plan import Plan, rows_of
from features.profile import Profile
from features.record import NEVER, LogId, Records
from features.timeline import as_of
from rapport.v1 import decision_pb2, log_pb2
from service.business import Business
from service.usual import described, feelings
from training import archive, decisions, replay
from training.archive import Entry


class Parity(NamedTuple):
    """How many vectors were compared, and how many differ."""

    checked: int
    equal: int
    differing: list[str]  # decision ids, the first few


def of_archive(folder: Path, plan: Plan, business: Business) -> Parity:
    """Recompute what every logged decision's models saw, if it was made with these definitions.

    The rows of the actions in the answer are compared too, where the catalogue is still the same.
    """
    checked = equal = 0
    differing: list[str] = []
    entries = archive.read(folder, ("event", "profile", "decision", "erased"))
    for _, group in replay.grouped(entries):
        forgotten = NEVER
        for entry in group:
            if entry.kind == "erased":
                forgotten = entry.id
            if entry.kind != "decision":
                continue
            decision = log_pb2.LogEntry.FromString(entry.entry).decision
            if decision.feature_digest != plan.digest or not decision.vector:
                continue
            read = decision.response.read
            if read.members:
                continue  # of several customers' logs; rapport replay looks at those
            if NEVER < max(_id(read.timeline), _id(read.profile)) < forgotten:
                continue  # it was logged while its customer was being forgotten
            ours = vector(group, decision.request, decision.response, plan, business)
            checked += 1
            if ours == decision.vector and _same_actions(group, decision, plan, business):
                equal += 1
            elif len(differing) < 20:
                differing.append(decision.response.decision_id)
    return Parity(checked, equal, differing)


def vector(
    entries: list[Entry],
    request: decision_pb2.DecideRequest,
    response: decision_pb2.DecideResponse,
    plan: Plan,
    business: Business,
) -> bytes:
    """Recompute the customer's features of one decision: little-endian doubles.

    Args:
        entries: Of its customer, in the order of their ids.
        request: As it was logged.
        response: As it was logged: names the ids that were read, and the moment.
        plan: The compiled definitions.
        business: For the codes of the request.
    """
    records, profile, now = _seen(entries, response)
    context = decisions.context(request, business.vocabulary)
    return plan.customer(records, profile, context, now).tobytes()


def _seen(
    entries: list[Entry], response: decision_pb2.DecideResponse
) -> tuple[Records, Profile, int]:
    """What a decision saw of its customer, and when."""
    records, profile = replay.seen(entries, _id(response.read.timeline), _id(response.read.profile))
    stamp = response.decided_at
    now = stamp.seconds * 1000 + stamp.nanos // 1_000_000
    return as_of(records, now), profile.as_of(now), now


def _same_actions(
    entries: list[Entry], decision: log_pb2.DecisionLogged, plan: Plan, business: Business
) -> bool:
    """Whether the logged rows of the actions in the answer are those that we compute."""
    if decision.response.versions.catalogue != business.digest:
        return True
    rows = dict(zip(business.by_name, described(business), strict=True))
    records, _, now = _seen(entries, decision.response)
    for logged in decision.action_vectors:
        code = business.vocabulary.actions[logged.action]
        ours = (
            decision.vector
            + plan.actions([rows[logged.action]]).tobytes()
            + plan.pairs(records, now, rows_of([code]), 1).tobytes()
        )
        if business.by_name[logged.action].queue_priority:
            seen = np.frombuffer(ours).copy()
            seen[feelings(plan)] = np.nan
            ours = seen.tobytes()
        if ours != logged.vector:
            return False
    return True


def _id(written: str) -> LogId:
    return LogId.parse(written) if written else NEVER
