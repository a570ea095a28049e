"""What a model is to predict, at which moments: a view of the log, computed anew each time.

``training.yaml`` says which events are moments and where their label is found; the log stays as it
is, so a label can be redefined without touching history.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from features import duration
from features.definitions import Where
from features.filters import Filter
from features.kernels import Integers
from features.record import Records
from features.vocabulary import Outcome, Vocabulary
from service.business import Business

OutcomeName = Literal[
    "presented",
    "clicked",
    "accepted",
    "rejected",
    "dismissed",
    "overridden",
    "no_response",
    "converted",
    "resolved",
    "repeat_contact",
]


class Learning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How LightGBM is to learn; ``parameters`` are its own names."""

    rounds: int = 40
    patience: int = 4  # rounds without improvement on the validation part
    parameters: dict[str, float | int | bool | str] = {}


class IntentTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The label of an event is a field of the next event that matches ``of``."""

    at: Where
    label: Literal["intent", "type"]
    of: Where = Where()
    within: str | None = None
    same_interaction: bool = False
    learning: Learning = Learning()

    def __post_init__(self) -> None:
        if self.within is not None:
            duration.milliseconds(self.within)


class AcceptanceTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The label of a presentation is the first outcome of its action after it."""

    at: Where
    wanted: list[OutcomeName]
    unwanted: list[OutcomeName]
    within: str | None = None  # None: as the catalogue and the policies say, for each action
    silence: Literal["negative", "drop"] | None = None  # None: counts as the policies say
    learning: Learning = Learning(rounds=300, patience=20)

    def __post_init__(self) -> None:
        if self.within is not None:
            duration.milliseconds(self.within)


class UpliftTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a slate is worth: a sum over the customer's outcomes in a window after it.

    A reward is an amount in the business's currency, or ``value`` for the worth that came with the
    event; where none came, the catalogue's.
    """

    reward: Annotated[dict[OutcomeName, float | Literal["value"]], msgspec.Meta(min_length=1)]
    within: str = "14d"
    held_back: Annotated[int, msgspec.Meta(ge=1)] = 200  # slates that are the least to learn from
    clip: Annotated[float, msgspec.Meta(ge=1)] = 200.0  # the most that one slot may weigh
    bags: Annotated[int, msgspec.Meta(ge=2, le=64)] = 8
    confidence: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.9  # of the interval
    learning: Learning = Learning(rounds=60)  # to the last round: nothing is held out to stop on

    def __post_init__(self) -> None:
        duration.milliseconds(self.within)


class Targets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be learnt: ``training.yaml``."""

    intent: IntentTarget | None = None
    acceptance: AcceptanceTarget | None = None
    uplift: UpliftTarget | None = None


class Labelled(NamedTuple):
    """Moments of one customer: index of the event, and the label."""

    at: Integers
    label: Integers


class Intents:
    """Finds the moments of an intent model; a label is a code of the vocabulary."""

    def __init__(self, target: IntentTarget, vocabulary: Vocabulary) -> None:
        self._target = target
        self._at = Filter("training.yaml: intent.at", target.at, vocabulary)
        self._of = Filter("training.yaml: intent.of", target.of, vocabulary)
        forever = int(np.iinfo(np.int64).max)
        self._span = forever if target.within is None else duration.milliseconds(target.within)

    def __call__(self, records: Records) -> Labelled:
        """Label one customer's events."""
        label = records[self._target.label]
        of = np.flatnonzero(self._of(records) & (label > 0))
        index, found = [], []
        for i in np.flatnonzero(self._at(records)):
            following = of[np.searchsorted(of, i, side="right") :]
            if self._target.same_interaction:
                interaction = records["interaction"][i]
                same = records["interaction"][following] == interaction
                following = following[same & (interaction > 0)]  # 0 stands alone
            if len(following):
                j = following[0]
                if records["occurred_at"][j] - records["occurred_at"][i] <= self._span:
                    index.append(i)
                    found.append(label[j])
        return Labelled(np.array(index, np.int64), np.array(found, np.int64))


class Responses(NamedTuple):
    """How long a presentation waits for its outcome, and what silence stands for."""

    span: int  # milliseconds
    of_action: Mapping[int, int] = {}  # milliseconds by code, where an action has its own
    silence: OutcomeName = "no_response"


def responses(business: Business) -> Responses:
    """What a configuration declares of responses."""
    policies, codes = business.policies, business.vocabulary.actions
    return Responses(
        duration.milliseconds(policies.responds_within),
        {
            codes[action.name]: duration.milliseconds(action.responds_within)
            for action in business.actions
            if action.responds_within is not None
        },
        policies.silence,
    )


class Acceptances:
    """Finds the presentations of an acceptance model; a label is 0 or 1.

    Args:
        target: What counts as accepted.
        vocabulary: For its names.
        declared: What holds where the target does not say otherwise.
        end: Last moment of the log, in milliseconds. Where silence is a label, a presentation whose
            window is still open then is left out: an answer would come early and silence could not
            come yet.
    """

    def __init__(
        self,
        target: AcceptanceTarget,
        vocabulary: Vocabulary,
        declared: Responses,
        end: int | None = None,
    ) -> None:
        self._at = Filter("training.yaml: acceptance.at", target.at, vocabulary)
        self._wanted = _codes(target.wanted)
        self._settling = np.concatenate([self._wanted, _codes(target.unwanted)])
        self._spans = np.full(max([*vocabulary.actions.values(), 0]) + 2, declared.span, np.int64)
        for code, span in declared.of_action.items():
            self._spans[code] = span
        if target.within is not None:
            self._spans[:] = duration.milliseconds(target.within)
        self._silence: int | None = int(declared.silence in target.wanted)
        if target.silence is not None:
            self._silence = None if target.silence == "drop" else 0
        self._end = end

    def __call__(self, records: Records) -> Labelled:
        """Label one customer's events."""
        action, moment, outcome = records["action"], records["occurred_at"], records["outcome"]
        settling = np.flatnonzero(np.isin(outcome, self._settling))
        index, label = [], []
        spans = self._spans[np.minimum(action, len(self._spans) - 1)]
        asked = self._at(records) & (action > 0)
        if self._silence is not None and self._end is not None:
            asked &= moment + spans <= self._end
        for i in np.flatnonzero(asked):
            later = settling[np.searchsorted(settling, i, side="right") :]
            later = later[action[later] == action[i]]
            if len(later) and moment[later[0]] - moment[i] <= spans[i]:
                index.append(i)
                label.append(int(outcome[later[0]] in self._wanted))
            elif self._silence is not None:
                index.append(i)
                label.append(self._silence)
        return Labelled(np.array(index, np.int64), np.array(label, np.int64))


def _codes(names: list[OutcomeName]) -> npt.NDArray[np.int64]:
    return np.array([Outcome[name] for name in names], np.int64)
