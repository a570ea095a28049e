from __future__ import annotations

import lightgbm
import msgspec
import numpy as np

from service import bundle as bundles
from service.bundle import Calibration, Golden
from service.models import Models
from tests.integration.serving import sealed
from tests.service.bundled import matrix, seen


def base() -> float:
    """The log-odds that contributions are added to, from the bundle's own files."""
    calibration = msgspec.json.decode(sealed().files[bundles.CALIBRATION], type=Calibration)
    assert calibration.acceptance is not None
    booster = lightgbm.Booster(model_str=sealed().files[bundles.ACCEPTANCE].decode())
    nothing = np.full((1, booster.num_feature()), np.nan)
    parts = np.asarray(booster.predict(nothing, pred_contrib=True))
    return float(parts[0, -1] * calibration.acceptance.slope + calibration.acceptance.offset)


def test_contributions_and_base_add_up_to_the_score(models: Models, cases: list[Golden]) -> None:
    for case in cases:
        records, _ = seen(case)
        known = models.seen(np.frombuffer(case.vector), records, case.now)
        rows, acceptance = matrix(models, known), models.acceptance(known)
        for row in (0, 17, 99):
            told = models.contributions(rows[row])
            assert told[-1][0] == "base"
            assert abs(told[-1][2] - base()) < 1e-9
            total = sum(added for _, _, added in told)
            assert abs(1 / (1 + np.exp(-total)) - acceptance[row]) < 1e-9
