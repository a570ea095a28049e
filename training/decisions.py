"""Logged decisions as experiments: what chance drew for each placement, and how likely it was.

The treatment is what was *drawn*, shown or not: an agent who spares some customers, or a default in
the place of an action that could not be reserved, is part of what drawing it does (intention to
treat). What is mandatory is never drawn, so it is no treatment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from features.elementary import Floats
from features.plan import Context, Plan
from features.profile import Value
from features.vocabulary import Vocabulary
from rapport.v1 import decision_pb2, log_pb2
from training import archive


class Slot(NamedTuple):
    """One drawn action."""

    action: str
    probability: float  # that it was drawn into its slot; the hold-back is in it


class Drawn(NamedTuple):
    """What was drawn for one placement of one decision."""

    decision_id: str
    customer_id: str
    moment: int  # milliseconds
    placement: str
    context: Context
    vector: Floats | None  # customer features as they were logged; None: by other definitions
    slots: list[Slot]
    held_back: bool  # chance left the slate empty
    probability: float  # of being held back, or of not being


def drawn(
    folder: Path, plan: Plan, vocabulary: Vocabulary, erased: Mapping[str, int] | None = None
) -> Iterator[Drawn]:
    """Read every slate that chance had a part in, customer by customer.

    Args:
        folder: The archive.
        plan: Whose definitions a logged vector must have been computed by.
        vocabulary: For the codes of requests.
        erased: Moments up to which nothing may be used, by customer.
    """
    for entry in archive.read(folder, ("decision",)):
        logged = log_pb2.LogEntry.FromString(entry.entry).decision
        moment = _milliseconds(logged.response)
        if moment <= (erased or {}).get(entry.customer_id, -1):
            continue
        vector = None
        if logged.vector and logged.feature_digest == plan.digest:
            vector = np.frombuffer(logged.vector)
        for slate in logged.response.slates:
            slots, probability = treatment(slate)
            if probability <= 0 or (not slots and not slate.held_back):
                continue  # nothing qualified, or an older log that does not say
            yield Drawn(
                logged.response.decision_id,
                entry.customer_id,
                moment,
                slate.placement,
                context(logged.request, vocabulary),
                vector,
                slots,
                slate.held_back,
                probability,
            )


def treatment(slate: decision_pb2.Slate) -> tuple[list[Slot], float]:
    """What was drawn, and P(held back) if it was, P(not held back) if it was not; 0: not known."""
    if slate.held_back:
        return [], slate.selection_probability
    ranked = [one for one in slate.recommendations if not one.mandatory]
    conditional = float(np.prod([one.selection_probability for one in ranked]))
    if conditional <= 0:
        return [], 0.0
    shown = min(1.0, slate.selection_probability / conditional)
    return [
        Slot(one.instead_of or one.action, one.selection_probability * shown) for one in ranked
    ], shown


def context(request: decision_pb2.DecideRequest, vocabulary: Vocabulary) -> Context:
    """What the caller said, as the models see it."""
    return Context(
        vocabulary.channels.get(request.channel, 0),
        request.direction or 1,
        {
            name: _plain(value)
            for name, value in request.context.items()
            if value.WhichOneof("kind") not in (None, "null_value")
        },
    )


def _plain(value: object) -> Value:
    plain: Value = getattr(value, value.WhichOneof("kind"))  # type: ignore[attr-defined]
    return plain


def _milliseconds(response: decision_pb2.DecideResponse) -> int:
    stamp = response.decided_at
    return stamp.seconds * 1000 + stamp.nanos // 1_000_000
