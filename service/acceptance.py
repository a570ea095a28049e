"""What the acceptance model says of actions: all at once, or any row tree by tree. Pure."""

from __future__ import annotations

from features.elementary import Floats, sigmoid
from service import forest
from service.bundle import AcceptanceCalibration
from service.sight import Seen
from service.usual import Usual


class Acceptance:
    """The acceptance model of one bundle.

    Args:
        trees: Its, over rows of the plan.
        calibration: Makes probabilities of their scores.
        usual: What is seen of actions whoever the customer is.
    """

    def __init__(
        self, trees: forest.Trees, calibration: AcceptanceCalibration, usual: Usual
    ) -> None:
        self._trees, self.calibration = trees, calibration
        hiding = usual.hiding.astype(bool)
        block = forest.compile(trees, usual.rows, usual.kinds, hiding, usual.felt)
        self.forest = forest.Forest(block)

    def of_all(self, seen: Seen) -> Floats:
        """Probability of each action."""
        return self._calibrated(self.forest.score(*seen)[:, 0])

    def of(self, row: Floats) -> float:
        """Probability of any row [names of the plan], tree by tree."""
        return float(self._calibrated(forest.row(self._trees, row))[0])

    def _calibrated(self, scores: Floats) -> Floats:
        return sigmoid(scores * self.calibration.slope + self.calibration.offset)
