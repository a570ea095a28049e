"""What each feature adds to what the acceptance model says of a row; no server asks it itself."""

from __future__ import annotations

from typing import Any

from features.elementary import Floats
from features.plan import Plan
from service.bundle import AcceptanceCalibration


class Contributions:
    """Takes the acceptance model of one bundle apart, with LightGBM.

    Args:
        written: The model's text.
        calibration: Its.
        plan: Of the rows.
    """

    def __init__(self, written: bytes, calibration: AcceptanceCalibration, plan: Plan) -> None:
        self._written, self._calibration, self._plan = written, calibration, plan
        self._booster: Any = None

    def of(self, row: Floats) -> list[tuple[str, float, float]]:
        """What each feature added to a row's log-odds: name, value, contribution, largest first.

        The last one, ``base``, is what every row starts from; all add up to the row's log-odds.
        """
        if self._booster is None:
            import lightgbm  # noqa: PLC0415  170 MB that no server needs: its workshop has it

            self._booster = lightgbm.Booster(model_str=self._written.decode())
        slope, columns = self._calibration.slope, self._plan.columns("acceptance")
        seen = row[columns]
        parts = self._booster.predict(seen[None], pred_contrib=True, num_threads=1)[0]
        names = [self._plan.names[i] for i in columns]
        told = zip(names, seen.tolist(), (parts[:-1] * slope).tolist(), strict=True)
        base = float(parts[-1]) * slope + self._calibration.offset
        return [*sorted(told, key=lambda one: -abs(one[2])), ("base", float("nan"), base)]
