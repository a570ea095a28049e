from __future__ import annotations

import lightgbm
import msgspec
import numpy as np
import pytest

from features.elementary import sigmoid
from features.plan import Context
from features.profile import EMPTY
from features.record import Records, decode
from service import bundle as bundles
from service.bundle import Calibration, Golden
from service.errors import BundleRefused
from service.models import Models, goldens
from tests.integration.serving import business, sealed
from tests.integration.test_bundles_live import resealed


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(sealed(), business())


@pytest.fixture(scope="module")
def cases() -> list[Golden]:
    return msgspec.msgpack.decode(sealed().files[bundles.GOLDEN], type=list[Golden])


def seen(case: Golden) -> tuple[Records, Context]:
    return decode(case.timeline)[1], Context(case.channel, case.direction)


def test_a_bundle_gives_its_golden_answers_to_the_bit(models: Models, cases: list[Golden]) -> None:
    assert len(cases) > 5
    assert any(len(case.timeline) > 1_000 for case in cases)
    for case in cases:
        records, context = seen(case)
        profile = msgspec.msgpack.decode(case.profile, type=type(EMPTY))
        vector = models.customer(records, profile, context, case.now)
        assert vector.tobytes() == case.vector
        assert np.array_equal(models.intents(vector), np.frombuffer(case.intents))


def test_scores_are_those_of_lightgbm(models: Models, cases: list[Golden]) -> None:
    calibration = msgspec.json.decode(sealed().files[bundles.CALIBRATION], type=Calibration)
    assert calibration.acceptance is not None
    booster = lightgbm.Booster(model_str=sealed().files[bundles.ACCEPTANCE].decode())
    records, context = seen(cases[-1])
    vector = models.customer(records, EMPTY, context, cases[-1].now)
    rows = models.rows(vector, records, cases[-1].now)
    assert rows.shape == (len(business().actions), len(models.plan.names))
    scores = np.asarray(booster.predict(rows[:, models.plan.columns("acceptance")], raw_score=True))
    wanted = sigmoid(scores * calibration.acceptance.slope + calibration.acceptance.offset)
    assert np.allclose(models.acceptance(rows), wanted, 1e-12, 1e-12)


def test_intents_are_named_and_add_up_to_one(models: Models, cases: list[Golden]) -> None:
    ranked = models.named(models.intents(np.frombuffer(cases[0].vector)))
    assert abs(sum(probability for _, probability in ranked) - 1) < 1e-9
    assert [p for _, p in ranked] == sorted((p for _, p in ranked), reverse=True)
    assert {name for name, _ in ranked} <= set(business().vocabulary.intents)


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
        rows = models.rows(np.frombuffer(case.vector), records, case.now)
        acceptance = models.acceptance(rows)
        for row in (0, 17, 99):
            told = models.contributions(rows[row])
            assert told[-1][0] == "base"
            assert abs(told[-1][2] - base()) < 1e-9
            total = sum(added for _, _, added in told)
            assert abs(1 / (1 + np.exp(-total)) - acceptance[row]) < 1e-9


def test_each_row_holds_the_customer_and_its_own_action(
    models: Models, cases: list[Golden]
) -> None:
    records, _ = seen(cases[-1])
    vector = np.frombuffer(cases[-1].vector)
    rows = models.rows(vector, records, cases[-1].now)
    assert np.array_equal(rows[:, : len(vector)], np.tile(vector, (len(rows), 1)), equal_nan=True)
    code = models.plan.names.index("action_code")
    codes = [business().vocabulary.actions[action.name] for action in business().actions]
    assert rows[:, code].tolist() == codes


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
    rows = models.rows(np.frombuffer(cases[0].vector), records, cases[0].now)
    assert models.acceptance(rows).size == 0
    assert models.contributions(rows[0]) == []


def test_goldens_are_written_by_what_reproduces_them(models: Models, cases: list[Golden]) -> None:
    case = cases[-1]
    _, context = seen(case)
    profile = msgspec.msgpack.decode(case.profile, type=type(EMPTY))
    (written,) = goldens(models, [(case.timeline, profile, context, case.now)])
    assert written == case


@pytest.mark.parametrize("field", ["vector", "intents", "acceptance"])
def test_another_answer_than_the_golden_one_is_refused(cases: list[Golden], field: str) -> None:
    number = len(cases) - 1
    data = np.frombuffer(getattr(cases[number], field)).copy()
    data[0] = 0.5 if field != "vector" else data[0] + 1
    spoilt = [*cases[:-1], msgspec.structs.replace(cases[number], **{field: data.tobytes()})]
    bundle = resealed(sealed(), "bad", **{bundles.GOLDEN: msgspec.msgpack.encode(spoilt)})
    with pytest.raises(BundleRefused, match=f"{field} of golden case {number} differs"):
        Models(bundle, business())


def test_calibration_changed_behind_the_golden_answers_is_refused() -> None:
    calibration = msgspec.json.decode(sealed().files[bundles.CALIBRATION])
    calibration["acceptance"]["offset"] += 1e-6
    spoilt = {bundles.CALIBRATION: msgspec.json.encode(calibration)}
    with pytest.raises(BundleRefused, match="does not give its own answers here"):
        Models(resealed(sealed(), "bad", **spoilt), business())
