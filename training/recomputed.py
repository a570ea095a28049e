"""Decisions computed again, as they were and without one cause each. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from features import timeline
from features.elementary import Floats
from features.profile import Value
from features.record import EMPTY
from service import variables
from service.arbitration import Scores
from service.business import Business
from service.inputs import Inputs
from service.models import Models
from service.weighed import Weighed
from training import without
from training.cases import Case
from training.rates import Mask
from training.reproduce import Past
from training.without import Key, Recalled

WHOLE: Final = ("intent match", "model")
"""Kinds of causes that are a whole mechanism."""

EVERYWHERE: Final = ("feature", *WHOLE)
"""Kinds of causes that have a part in every decision."""

_RELIED: Final = 60
_ROWS: Final = 4

Show = Callable[[int, int], None]


class Without(NamedTuple):
    """What the decisions would have been without a cause."""

    shown: Mask  # [decisions, actions of the business]
    change: Floats  # [decisions] of the sum of the priorities of what is shown


class Recomputed:
    """Some decisions, computed again.

    Args:
        cases: Each with its inputs and what it was made with.
        business: Whose catalogue the columns are; others are mapped by the names of actions.
        show: Told what is done, and of how much.
    """

    def __init__(self, cases: Sequence[Case], business: Business, show: Show) -> None:
        self.business = business
        self._inputs = [_given(one) for one in cases]
        self._pasts = [_past(one) for one in cases]
        self._models = {
            id(past): None if past.models is None else Recalled(past.models) for past in self._pasts
        }
        self._columns = {
            id(past): np.array(
                [business.rows.get(one.name, -1) for one in past.pipeline.business.actions]
            )
            for past in {id(one): one for one in self._pasts}.values()
        }
        self._weighed: list[Weighed] = []
        self._priority: list[Floats] = []
        self.effects: list[set[Key]] = []
        for number in range(len(cases)):
            past = self._pasts[number]
            weighed = past.pipeline.weigh(self._inputs[number], self._asked(number))
            self._weighed.append(weighed)
            self._priority.append(self._worth(number, weighed))
            self.effects.append(without.in_effect(weighed, past.pipeline.business))
            if (number + 1) % 50 == 0 or number + 1 == len(cases):
                show(number + 1, len(cases))
        self.shown = np.array([self._row(i, one) for i, one in enumerate(self._weighed)], bool)
        self.value = np.array([self._sum(i, one) for i, one in enumerate(self._weighed)])

    def __len__(self) -> int:
        return len(self._inputs)

    def _asked(
        self, number: int, blind: tuple[int, float] | None = None, *, silent: bool = False
    ) -> Models | None:
        models = self._models[id(self._pasts[number])]
        return None if models is None else models.at(number, blind, silent=silent)

    def _worth(self, number: int, weighed: Weighed) -> Floats:
        """Priority of every action, dropped ones too, as it was: [actions of its catalogue]."""
        past = self._pasts[number]
        actions = len(past.pipeline.business.actions)
        scores = Scores()
        models = self._models[id(past)]
        if models is not None and weighed.vector is not None and models.scores_acceptance:
            told = models.seen(weighed.vector, *_seen(weighed))
            scores = Scores(models.acceptance(told), models.evidence, models.uplift(told))
        everything = (1 << actions) - 1
        ranked = past.pipeline.arbiter.rank(everything, scores, weighed.situation, weighed.group)
        worth = np.empty(actions)
        worth[ranked.rows] = ranked.priority
        return worth

    def _sum(self, number: int, weighed: Weighed) -> float:
        return float(self._priority[number][_drawn(weighed)].sum())

    def _row(self, number: int, weighed: Weighed) -> Mask:
        shown = np.zeros(len(self.business.actions), bool)
        columns = self._columns[id(self._pasts[number])][_drawn(weighed)]
        shown[columns[columns >= 0]] = True
        return shown

    def without(self, cause: Key, show: Show) -> Without:
        """Decide everything again without a cause.

        What is shown then is valued by the priorities that it has now, so that a rule and a feature
        are measured alike: with what the business believes today.
        """
        pasts = {id(past): past for past in self._pasts}
        pipelines = {at: without.pipeline(past.pipeline, cause) for at, past in pasts.items()}
        neutral = self._neutral(cause.name) if cause.kind == "feature" else {}
        shown, change = np.empty_like(self.shown), np.zeros(len(self))
        for number, before in enumerate(self._weighed):
            touched = cause.kind in EVERYWHERE or cause in self.effects[number]
            if not touched:  # it said nothing, so nothing changes
                shown[number] = self.shown[number]
                continue
            past = self._pasts[number]
            blind = neutral.get(id(past))
            models = None
            if before.models is not None:
                models = self._asked(number, blind, silent=cause.kind == "model")
            after = pipelines[id(past)].weigh(self._inputs[number], models)
            shown[number] = self._row(number, after)
            change[number] = self._sum(number, after) - self.value[number]
            if (number + 1) % 50 == 0:
                show(number + 1, len(self))
        show(len(self), len(self))
        return Without(shown, change)

    def _neutral(self, feature: str) -> dict[int, tuple[int, float]]:
        """Column of a feature and its neutral value, by what the decisions were made with."""
        found = {}
        for past, models in self._models.items():
            if models is None or feature not in models.plan.names:
                continue
            column = models.plan.names.index(feature)
            values = np.array(
                [
                    weighed.vector[column]
                    for own, weighed in zip(self._pasts, self._weighed, strict=True)
                    if id(own) == past and weighed.vector is not None
                ]
            )
            if len(values):
                category = feature in models.plan.categorical()
                found[past] = column, without.neutral(values, category)
        return found

    def relied_on(self) -> dict[str, float]:
        """How much the models rely on each feature of the customer, by what was shown."""
        found: dict[str, float] = {}
        for past, models in self._models.items():
            if models is None:
                continue
            own = [
                one
                for one, made in zip(self._weighed, self._pasts, strict=True)
                if id(made) == past and one.vector is not None
            ]
            step = max(1, len(own) // _RELIED)
            relied = without.relied_on(
                models,
                (
                    (one.vector, *_seen(one), _drawn(one)[:_ROWS])
                    for one in own[::step]
                    if one.vector is not None
                ),
            )
            customers = set(models.plan.names[: len(models.plan.customer_features)])
            for name, much in relied.items():
                if name in customers:
                    found[name] = max(much, found.get(name, 0.0))
        return found

    def feature(self, name: str) -> list[Value | None]:
        """What a feature was in each decision; categories as texts."""
        values: list[Value | None] = []
        for past, weighed in zip(self._pasts, self._weighed, strict=True):
            models = self._models[id(past)]
            if models is None or weighed.vector is None or name not in models.plan.names:
                values.append(None)
                continue
            number = float(weighed.vector[models.plan.names.index(name)])
            if np.isnan(number):
                values.append(None)
            elif name in models.plan.categorical():
                values.append(f"{number:g}")
            else:
                values.append(number)
        return values

    def read(self, name: str) -> list[Value | None]:
        """What a condition read by a name such as ``customer.age`` in each decision."""
        root, _, field = name.partition(".")
        return [
            self._field(past, weighed, root, field)
            for past, weighed in zip(self._pasts, self._weighed, strict=True)
        ]

    def _field(self, past: Past, weighed: Weighed, root: str, field: str) -> Value | None:
        question, situation = weighed.inputs.question, weighed.situation
        found: object = None
        match root:
            case "customer":
                found = variables.of_customer(weighed.inputs.known.profile).get(field)
            case "consent":
                profile = weighed.inputs.known.profile
                found = None if profile is None else profile.granted(field, question.channel)
            case "context":
                found = variables.of_context(
                    question.context,
                    {**question.contact, "locale": question.locale},
                    channel=question.channel,
                    direction=question.direction,
                    assurance=question.assurance,
                    now=weighed.now,
                    zone=ZoneInfo(past.pipeline.business.definitions.time_zone),
                ).get(field)
            case "journey":
                found = variables.of_journey(situation.facts).get(field)
            case "intent":
                found = variables.of_intents(weighed.intents).get(field)
        return found if isinstance(found, bool | str | int | float) else None

    def effect(self, cause: Key) -> Mask:
        """In which decisions a cause said something: [decisions]."""
        return np.array([cause in one for one in self.effects], bool)


def _given(case: Case) -> Inputs:
    assert case.inputs is not None  # noqa: S101  chosen for having some
    return case.inputs


def _past(case: Case) -> Past:
    assert case.past is not None  # noqa: S101  chosen for having one
    return case.past


def _drawn(weighed: Weighed) -> list[int]:
    return [
        int(weighing.ranked.rows[slot.place])
        for weighing in weighed.weighings
        for slot in weighing.drawn.slots
    ]


def _seen(weighed: Weighed) -> tuple[np.ndarray, int]:
    records = weighed.inputs.known.records
    return (EMPTY if records is None else timeline.as_of(records, weighed.now)), weighed.now
