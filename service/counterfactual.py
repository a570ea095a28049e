"""What would have to be different for an action to be in the greedy answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from rapport.v1 import decision_pb2 as pb
from service import exploration
from service.arbitration import PROBABILITY_ONLY
from service.business import Business
from service.causes import Rows
from service.exploration import Candidates, Fate, Shape
from service.factors import Factors
from service.situation import NOBODY
from service.trace import Fared

_MARGIN: Final = 1e-9
_HIGHEST: Final = {
    "acceptance_probability": 1.0,
    "value": 1e9,
    "context_weight": 100.0,
    "lever": 1e9,
}
_SAID: Final = {
    "acceptance_probability": "the acceptance probability",
    "value": "the value",
    "context_weight": "the context weight",
    "lever": "the lever",
    "uplift": "the uplift",
}


def of_reasons(reasons: Sequence[pb.Reason]) -> pb.Change:
    """What has to be lifted for an action that a filter dropped: all of it."""
    names = [one.code for one in reasons]
    told = "; ".join(one.text for one in reasons)
    return pb.Change(factors=names, text=f"It would pass the filters without: {told}")


def of_rank(one: Fared, business: Business, taken: Rows, group: str = NOBODY) -> pb.Change:
    """The least change of one factor that brings a candidate into the greedy answer.

    Args:
        one: A candidate that passed the filters and is not in the answer.
        business: Whose catalogue it was.
        taken: Rows that other placements showed before this one was filled.
        group: Control group of the customer.
    """
    fate = one.compared.fates[one.place]
    if fate is Fate.elsewhere:
        return pb.Change(text="Nothing: it is in the answer, in another placement")
    if fate in (Fate.not_drawn, Fate.held_back, Fate.held_out) and _greedy(
        one, business, taken, None
    ):
        return pb.Change(text="Nothing: without chance and control groups it would be shown")
    needed = _needed(one, business, taken)
    if needed is None:
        return pb.Change(text="No priority is enough: what stands beside it leaves no room")
    now = one.compared.ranked.factors(one.place)
    if group == PROBABILITY_ONLY:
        return _of_probability(now, needed)
    return _of_factors(now, needed, one, business)


def _needed(one: Fared, business: Business, taken: Rows) -> float | None:
    """The lowest priority with which it would be in the greedy answer; None: there is none."""
    own = float(one.compared.ranked.priority[one.place])
    nothing = one.compared.nothing
    others = {float(p) for p in one.compared.ranked.priority if p >= own}
    steps = [p + _MARGIN * max(1.0, abs(p)) for p in sorted({nothing, *others}) if p >= own]
    low, high = 0, len(steps)  # the first step that is enough; it only gets easier upwards
    while low < high:
        middle = (low + high) // 2
        if _greedy(one, business, taken, steps[middle]):
            high = middle
        else:
            low = middle + 1
    return steps[low] if low < len(steps) else None


def _greedy(one: Fared, business: Business, taken: Rows, priority: float | None) -> bool:
    """Whether the greedy answer would hold it, perhaps with another priority."""
    ranked = one.compared.ranked
    priorities = ranked.priority.copy()
    if priority is not None:
        priorities[one.place] = priority
    order = np.argsort(-priorities, kind="stable")
    rows = ranked.rows[order]
    placement = business.placements[one.placement]
    drawn = exploration.draw(
        Candidates(rows, priorities[order], business.traits),
        Shape(
            one.compared.slots, placement.per_group, one.compared.nothing, taken, one.compared.rooms
        ),
        exploration.GREEDY,
        exploration.NO_CHANCE,
    )
    return any(rows[slot.place] == one.row for slot in drawn.slots)


def _of_factors(now: Factors, needed: float, one: Fared, business: Business) -> pb.Change:
    if now.uplift is not None:
        return _of_uplift(now, needed, business.actions[one.row].cost)
    values = {
        "acceptance_probability": now.acceptance_probability,
        "value": now.value,
        "context_weight": now.context_weight,
        "lever": now.lever,
    }
    best: tuple[float, str, float] | None = None
    for name, value in values.items():
        rest = float(np.prod([other for other_name, other in values.items() if other_name != name]))
        if rest <= 0 or needed / rest > _HIGHEST[name]:
            continue
        enough = needed / rest * (1 + _MARGIN)
        change = (enough - value) / max(abs(value), 1e-12)
        if best is None or change < best[0] * (1 - _MARGIN) - _MARGIN:
            best = change, name, enough
    if best is None:
        return pb.Change(text="No one factor is enough: more than one of them stands at nothing")
    _, name, enough = best
    text = _told(name, values[name], enough)
    return pb.Change(factors=[name], **{"from": values[name]}, to=enough, text=text)


def _told(name: str, value: float, enough: float) -> str:
    now, then = f"{value:.4g}", f"{enough:.4g}"
    if now == then:
        return f"It would be shown if {_SAID[name]} were a hair above {now}"
    return f"It would be shown if {_SAID[name]} were {then} instead of {now}"


def _of_probability(now: Factors, needed: float) -> pb.Change:
    """Of a customer whose actions are ranked by their acceptance probability alone."""
    enough = needed * (1 + _MARGIN)
    if now.priority <= 0 or enough > _HIGHEST["acceptance_probability"]:
        return pb.Change(text="No one factor is enough: more than one of them stands at nothing")
    name, value = "acceptance_probability", now.acceptance_probability
    return pb.Change(factors=[name], **{"from": value}, to=enough, text=_told(name, value, enough))


def _of_uplift(now: Factors, needed: float, cost: float) -> pb.Change:
    assert now.uplift is not None  # noqa: S101  asked before
    mean, low, _ = now.uplift
    rest = now.context_weight * now.lever
    if rest <= 0:
        return pb.Change(
            factors=["context_weight"],
            **{"from": now.context_weight},
            text="It would have to be allowed by its context weight first",
        )
    enough = needed / rest * (1 + _MARGIN) + cost + now.capacity
    text = _told("uplift", mean, enough)
    if low < 0:
        text += " and its interval left harm out"
    return pb.Change(factors=["uplift"], **{"from": mean}, to=enough, text=text)
