"""What the uplift model says of actions: reward if presented less reward if nothing is. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.elementary import Floats
from service import forest
from service.bundle import UpliftCalibration
from service.sight import Seen
from service.usual import Usual


class Uplift:
    """The uplift model of one bundle.

    Args:
        bags: Trees, one class a bag, over rows of the plan and one column more.
        calibration: Makes intervals of their scores.
        usual: What is seen of actions whoever the customer is.
        actions: Their names.
    """

    def __init__(
        self,
        bags: forest.Trees,
        calibration: UpliftCalibration,
        usual: Usual,
        actions: Sequence[str],
    ) -> None:
        self._bags, self._calibration = bags, calibration
        self.effects = self._effects_of(actions)
        names = usual.rows.shape[1]
        without = nothing(usual.rows[:1, : usual.features], names)
        block = forest.compile(
            bags,
            np.vstack([presented(usual.rows), without]),
            np.append(usual.kinds, forest.ACTION),
            np.append(usual.hiding.astype(bool), False),
            usual.felt,
        )
        self._forest = forest.Forest(block)

    def of_all(self, seen: Seen) -> Floats:
        """Uplift of each action in the business's currency: [actions, 3], mean, low and high."""
        return self._lifted(self._forest.score(*seen).T, self.effects)

    def of(self, row: Floats, action: str, vector: Floats) -> Floats:
        """Uplift [mean, low, high] of an action, tree by tree.

        Args:
            row: [names of the plan], any.
            action: Whose row it is.
            vector: [customer features], of presenting nothing.
        """
        without = nothing(vector[None], len(row))
        scores = [forest.row(self._bags, one) for one in (presented(row[None])[0], without[0])]
        lifted: Floats = self._lifted(np.column_stack(scores), self._effects_of([action]))[0]
        return lifted

    def _effects_of(self, names: Sequence[str]) -> Floats:
        """What the trees of each bag left out of some actions: [bags, actions]."""
        effects, others = self._calibration.effects, self._calibration.others
        return np.array(
            [
                [known.get(name, other) for name in names]
                for known, other in zip(effects, others, strict=True)
            ],
            np.float64,
        ).reshape(-1, len(names))

    def _lifted(self, scores: Floats, effects: Floats) -> Floats:
        """Uplift from scores [bags, rows + 1], the last of presenting nothing."""
        lifts = scores[:, :-1] - scores[:, -1:] + effects
        mean, reach = lifts.mean(axis=0), self._calibration.spread * lifts.std(axis=0, ddof=1)
        return np.column_stack([mean, mean - reach, mean + reach])


def presented(rows: Floats) -> Floats:
    """Rows [actions, names of the plan] as the uplift model sees them: with a column of 1 more."""
    return np.column_stack([rows, np.ones(len(rows))])


def nothing(customers: Floats, names: int) -> Floats:
    """Rows of presenting nothing: no feature of an action or of a pair, and 0 in the added column.

    Args:
        customers: [rows, customer features].
        names: Number of names of the plan, of which the customer's come first.
    """
    rows = np.full((len(customers), names + 1), np.nan)
    rows[:, : customers.shape[1]] = customers
    rows[:, -1] = 0.0
    return rows
