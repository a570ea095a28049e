from __future__ import annotations

import msgspec
import numpy as np

from service import bundle as bundles
from service.bundle import Calibration, Golden
from service.models import Models
from tests.integration.serving import business, sealed


def test_intents_are_named_and_add_up_to_one(models: Models, cases: list[Golden]) -> None:
    ranked = models.named(models.intents(np.frombuffer(cases[0].vector)))
    assert abs(sum(probability for _, probability in ranked) - 1) < 1e-9
    assert [p for _, p in ranked] == sorted((p for _, p in ranked), reverse=True)
    assert {name for name, _ in ranked} <= set(business().vocabulary.intents)


def test_intents_that_are_as_likely_are_named_in_the_order_of_their_codes(models: Models) -> None:
    calibration = msgspec.json.decode(sealed().files[bundles.CALIBRATION], type=Calibration)
    assert calibration.intent is not None
    classes, names = calibration.intent.classes, business().vocabulary.names["intents"]
    dice = np.random.Generator(np.random.PCG64(7))
    for _ in range(50):
        drawn = dice.choice([0.1, 0.2, 0.3], len(classes))
        pairs = sorted(zip(classes, drawn.tolist(), strict=True), key=lambda one: (-one[1], one[0]))
        assert models.named(drawn) == [(names[code], chance) for code, chance in pairs]
