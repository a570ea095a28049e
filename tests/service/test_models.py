from __future__ import annotations

import msgspec
import numpy as np

from service import bundle as bundles
from service.bundle import Calibration, Golden
from service.models import Models
from tests.integration.serving import business, sealed
from tests.integration.test_bundles_live import resealed
from tests.service.bundled import matrix, seen


def test_what_they_saw_of_one_customer_outlives_the_next(
    models: Models, cases: list[Golden]
) -> None:
    case, other = max(cases, key=lambda one: len(one.timeline)), cases[0]
    told = models.seen(np.frombuffer(case.vector), seen(case)[0], case.now)
    assert len(told.touched), "some action was presented to them"
    before = matrix(models, told)
    models.acceptance(models.seen(np.frombuffer(other.vector), seen(other)[0], other.now))
    assert matrix(models, told).tobytes() == before.tobytes()


def test_a_bundle_without_an_acceptance_model_scores_intents_only(cases: list[Golden]) -> None:
    whole = sealed()
    calibration = msgspec.json.decode(whole.files[bundles.CALIBRATION], type=Calibration)
    without = {name: data for name, data in whole.files.items() if name != bundles.ACCEPTANCE}
    cases = [msgspec.structs.replace(case, row=b"", acceptance=b"") for case in cases]
    half = resealed(
        bundles.Bundle(whole.manifest, whole.checksum, without),
        "half",
        **{
            bundles.CALIBRATION: msgspec.json.encode(
                Calibration(intent=calibration.intent, acceptance=None)
            ),
            bundles.GOLDEN: msgspec.msgpack.encode(cases),
        },
    )
    models = Models(half, business())
    assert models.scores_intents
    assert not models.scores_acceptance
    records, _ = seen(cases[0])
    told = models.seen(np.frombuffer(cases[0].vector), records, cases[0].now)
    assert models.acceptance(told).size == 0
    assert models.contributions(models.row(told, 0)) == []


def test_evidence_is_told_by_action_and_zero_for_one_never_seen(models: Models) -> None:
    calibration = msgspec.json.decode(sealed().files[bundles.CALIBRATION], type=Calibration)
    assert calibration.acceptance is not None
    known = calibration.acceptance.evidence
    assert known is not None
    assert models.evidence is not None
    assert models.evidence.tolist() == [known.get(one.name, 0.0) for one in business().actions]
    assert 0.0 in models.evidence
    assert sum(known.values()) == sealed().manifest.metrics["acceptance.train_rows"]


def test_an_older_bundle_tells_no_evidence() -> None:
    calibration = msgspec.json.decode(sealed().files[bundles.CALIBRATION])
    del calibration["acceptance"]["evidence"]
    older = resealed(sealed(), "old", **{bundles.CALIBRATION: msgspec.json.encode(calibration)})
    assert Models(older, business()).evidence is None
