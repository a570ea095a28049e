from __future__ import annotations

import lightgbm
import msgspec
import numpy as np

from features.elementary import sigmoid
from features.profile import EMPTY
from service import bundle as bundles
from service.bundle import Calibration, Golden
from service.models import Models
from tests.integration.serving import business, sealed
from tests.service.bundled import matrix, seen


def test_scores_are_those_of_lightgbm(models: Models, cases: list[Golden]) -> None:
    calibration = msgspec.json.decode(sealed().files[bundles.CALIBRATION], type=Calibration)
    assert calibration.acceptance is not None
    booster = lightgbm.Booster(model_str=sealed().files[bundles.ACCEPTANCE].decode())
    records, context = seen(cases[-1])
    vector = models.customer(records, EMPTY, context, cases[-1].now)
    told = models.seen(vector, records, cases[-1].now)
    rows = matrix(models, told)
    assert rows.shape == (len(business().actions), len(models.plan.names))
    scores = np.asarray(booster.predict(rows[:, models.plan.columns("acceptance")], raw_score=True))
    wanted = sigmoid(scores * calibration.acceptance.slope + calibration.acceptance.offset)
    assert np.allclose(models.acceptance(told), wanted, 1e-12, 1e-12)
    assert models.acceptance(told).tolist() == [models.acceptance_of(row) for row in rows]
