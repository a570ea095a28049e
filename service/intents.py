"""What the intent model says of a customer. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from operator import itemgetter
from typing import Final

from features.elementary import Floats, softmax
from service import forest
from service.bundle import IntentCalibration
from service.usual import Usual

_PROBABILITY: Final = itemgetter(1)


class Intents:
    """The intent model of one bundle.

    Args:
        trees: Its, over the customer's features.
        calibration: Makes probabilities of their scores.
        words: Names by code, of every field of the vocabulary.
        usual: What is seen whoever the customer is.
    """

    def __init__(
        self,
        trees: forest.Trees,
        calibration: IntentCalibration,
        words: Mapping[str, Mapping[int, str]],
        usual: Usual,
    ) -> None:
        self.calibration, self._words = calibration, words
        of_customer = slice(usual.features)
        block = forest.compile(trees, usual.rows[:1, of_customer], usual.kinds[of_customer])
        self.forest = forest.Forest(block)

    @cached_property
    def names(self) -> list[str]:
        """Of its classes, as they are scored."""
        known = self._words[self.calibration.field]
        return [known[code] for code in self.calibration.classes]

    @cached_property
    def order(self) -> list[int]:
        """Places of its classes in order of code."""
        ordered = sorted(enumerate(self.calibration.classes), key=itemgetter(1))
        return [place for place, _ in ordered]

    def probabilities(self, vector: Floats) -> Floats:
        """Probability of each class, from the customer's features."""
        scores = self.forest.score(vector)[0]
        probabilities: Floats = softmax(scores / self.calibration.temperature)
        return probabilities

    def named(self, probabilities: Floats) -> list[tuple[str, float]]:
        """Intents with their probabilities, most likely first."""
        told, names = probabilities.tolist(), self.names
        pairs = [(names[place], told[place]) for place in self.order]
        pairs.sort(key=_PROBABILITY, reverse=True)  # stable: equal ones stay in order of code
        return pairs
