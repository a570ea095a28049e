"""What a model is to predict, at which moments: a view of the log, computed anew each time.

``training.yaml`` says which events are moments and where their label is found; the log stays as it
is, so a label can be redefined without touching history.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from features import duration
from features.definitions import Where
from features.filters import Filter
from features.kernels import Integers
from features.record import Records
from features.vocabulary import Outcome, Vocabulary

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
    within: str
    silence: Literal["negative", "drop"]
    learning: Learning = Learning(rounds=300, patience=20)

    def __post_init__(self) -> None:
        duration.milliseconds(self.within)


class Targets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be learnt: ``training.yaml``."""

    intent: IntentTarget | None = None
    acceptance: AcceptanceTarget | None = None


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


class Acceptances:
    """Finds the presentations of an acceptance model; a label is 0 or 1.

    Args:
        target: What counts as accepted.
        vocabulary: For its names.
        end: Last moment of the log, in milliseconds. Where silence means no, a presentation whose
            window is still open then is left out: yes would come early and no could not come yet.
    """

    def __init__(
        self, target: AcceptanceTarget, vocabulary: Vocabulary, end: int | None = None
    ) -> None:
        self._at = Filter("training.yaml: acceptance.at", target.at, vocabulary)
        self._wanted = _codes(target.wanted)
        self._settling = np.concatenate([self._wanted, _codes(target.unwanted)])
        self._span = duration.milliseconds(target.within)
        self._silence = target.silence
        open_ended = end is None or target.silence == "drop"
        self._latest = np.iinfo(np.int64).max if open_ended or end is None else end - self._span

    def __call__(self, records: Records) -> Labelled:
        """Label one customer's events."""
        action, moment, outcome = records["action"], records["occurred_at"], records["outcome"]
        settling = np.flatnonzero(np.isin(outcome, self._settling))
        index, label = [], []
        ripe = moment <= self._latest
        for i in np.flatnonzero(self._at(records) & (action > 0) & ripe):
            later = settling[np.searchsorted(settling, i, side="right") :]
            later = later[action[later] == action[i]]
            if len(later) and moment[later[0]] - moment[i] <= self._span:
                index.append(i)
                label.append(int(outcome[later[0]] in self._wanted))
            elif self._silence == "negative":
                index.append(i)
                label.append(0)
        return Labelled(np.array(index, np.int64), np.array(label, np.int64))


def _codes(names: list[OutcomeName]) -> npt.NDArray[np.int64]:
    return np.array([Outcome[name] for name in names], np.int64)
