"""The slow way from what is known to what was drawn: every step in Python, or alone.

It shares with the pipeline no kernel that joins steps: what :mod:`service.sight` and
:mod:`service.choosing` do in two calls is done here by whoever does one step of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from features import journey
from features import profile as profiles
from features.plan import Context
from features.record import EMPTY, interaction_hash
from rapport.v1 import decision_pb2 as pb
from service import exploration, facts
from service.arbitration import HOLD_OUT, PROBABILITY_ONLY, RANDOM, Scores
from service.catalogue import Exploration
from service.causes import Filtered, rows_of, union
from service.chance import Chance
from service.circumstances import Circumstances
from service.experiments import group_of
from service.exploration import Candidates, Drawn, Shape
from service.factors import Ranked
from service.inputs import Inputs
from service.models import Models
from service.pipeline import Pipeline
from service.policies import Policies
from service.rooms import Room
from service.rules import Answers
from service.situation import Situation
from service.variables import Subject


class Step(NamedTuple):
    """One placement."""

    ranked: Ranked
    drawn: Drawn


class Decided(NamedTuple):
    """What came of the steps."""

    intents: Sequence[tuple[str, float]]
    vector: bytes
    results: Answers
    filtered: Filtered
    rooms: Sequence[Room]
    steps: Sequence[Step]


def decided(pipeline: Pipeline, inputs: Inputs, models: Models | None) -> Decided:
    """Decide; nothing may have happened later than the clock says."""
    of, question, known, now = pipeline.business, inputs.question, inputs.known, inputs.clock
    vocabulary = of.vocabulary
    records = EMPTY if known.records is None else known.records
    profile = known.profile or profiles.EMPTY
    channel = vocabulary.channels[question.channel]
    plan = None if models is None else models.plan
    lens = pipeline._lens if plan is None else plan.lens
    chain = None if known.records is None else journey.read(records, now, lens)
    intents: list[tuple[str, float]] = []
    scores, vector = Scores(), b""
    if models is not None and inputs.unscored is None:
        context = Context(channel, question.direction, question.context)
        seen_of = models.customer(records, profile, context, now, chain)
        vector = seen_of.tobytes()
        intents = models.named(models.intents(seen_of))
        seen = models.seen(seen_of, records, now)
        lifted = models.uplift(seen) if pipeline.arbiter.ranks_by_uplift else None
        scores = Scores(models.acceptance(seen), models.evidence, lifted)
    magnitudes = facts.magnitudes(None if chain is None else chain.values.tolist())
    by = of.policies.segment_by
    told = None if by is None or known.profile is None else known.profile.attributes.get(by)
    segment = told.value if told is not None and isinstance(told.value, str) else ""
    chances = dict(intents)
    situation = Situation(question.channel, chances, magnitudes, now, segment, inputs.prices)
    results = pipeline.policies.conditions.of(
        Subject(
            known.profile, question.context, question.contact, question.locale, question.channel,
            question.direction, question.assurance, now, magnitudes, intents, chances,
        )
    )  # fmt: skip
    at = Circumstances(
        question.channel, question.direction, question.assurance, now, known.profile,
        known.ledger, results, inputs.full_ceilings, question.allow, question.block,
        interaction_hash(question.interaction_id),
        pipeline.policies.limits.counted(known.ledger, now),
    )  # fmt: skip
    filtered = pipeline.policies.filtered(at)
    slots = {
        name: question.max_actions or of.placements[name].max_actions
        for name in question.placements
    }
    left = rooms(pipeline.policies, at, channel, sum(slots.values()))
    group = group_of(question.customer_id, of.policies.control)
    relationship = journey.Relationship(int(magnitudes.get("relationship", 0))).name
    chance, taken, steps = Chance(inputs.seed), 0, []
    for name in question.placements:
        placement = of.placements[name]
        offers = pipeline.offering.of(name, question.channel, question.locale, relationship)
        local = union(pipeline._local(name, placement, offers, question, pb.RUNG_FULL))
        ranked = pipeline.arbiter.rank(
            offers.actions & ~(filtered.dropped | local), scores, situation, group
        )
        how = placement.exploration
        if inputs.greedy:
            how = exploration.GREEDY
        elif group:
            how = exploration.UNIFORM if group == RANDOM else Exploration()
        drawn = exploration.draw(
            Candidates(ranked.rows, ranked.priority, of.traits),
            Shape(
                slots[name], placement.per_group,
                0.0 if group == PROBABILITY_ONLY else placement.nothing, taken, left,
            ),
            how,
            chance,
            held_out=group == HOLD_OUT,
        )  # fmt: skip
        taken |= rows_of(int(ranked.rows[one.place]) for one in drawn.slots)
        steps.append(Step(ranked, drawn))
    return Decided(intents, vector, results, filtered, left, steps)


def rooms(policies: Policies, at: Circumstances, channel: int, most: int) -> list[Room]:
    """What is left to an answer of so many actions, of the limits that it could use up."""
    if at.counts is None:
        return []
    own = list(policies.contacts.own(at)) if at.interaction else []
    found = []
    for one in policies.shares:
        counted = int(at.counts.within[one.key])
        if one.holds_on not in (0, channel) or counted <= one.at_most - min(one.takes, most):
            continue
        places = one.at_most - counted
        if places > 0 or own:  # else a filter has dropped them all
            again = rows_of(row for row, age in own if age < one.within)
            found.append(Room(one.name, one.rows & ~again, max(0, places)))
    return found
