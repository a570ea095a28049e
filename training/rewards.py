"""What a decision was worth: the customer's outcomes in a window after it. Pure.

*Nothing* has no outcome of its own, so a reward joins by customer and window, never by decision.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from features import duration
from features.elementary import Floats
from features.kernels import Integers
from features.record import Records
from features.vocabulary import Outcome
from training.labels import UpliftTarget


class Rewards:
    """Sums rewards over windows.

    Args:
        target: What each outcome is worth, and the window.
        values: By code of the action, for outcomes that are worth their ``value`` and came without.
    """

    def __init__(self, target: UpliftTarget, values: Mapping[int, float]) -> None:
        self.span = duration.milliseconds(target.within)
        self._amounts = np.zeros(256)
        self._by_value = np.zeros(256, bool)
        for name, reward in target.reward.items():
            if reward == "value":
                self._by_value[Outcome[name]] = True
            else:
                self._amounts[Outcome[name]] = reward
        self._values = np.zeros(max(values, default=0) + 2)
        for code, value in values.items():
            self._values[code] = value

    def __call__(self, records: Records, moments: Integers) -> Floats:
        """Reward of one customer after each moment: from it to the window's end, both included.

        Args:
            records: All events of the customer, in order.
            moments: Milliseconds. A decision's own outcomes may be dated at its very moment.
        """
        outcome = records["outcome"]
        declared = self._values[np.minimum(records["action"], len(self._values) - 1)]
        came = records["value"].astype(np.float64)
        worth = np.where(np.isnan(came), declared, came)
        each = np.where(self._by_value[outcome], worth, self._amounts[outcome])
        total = np.append(0.0, np.cumsum(each))
        at = records["occurred_at"]
        after = np.searchsorted(at, moments + self.span, side="right")
        return np.asarray(total[after] - total[np.searchsorted(at, moments, side="left")])
