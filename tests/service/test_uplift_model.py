from __future__ import annotations

import lightgbm
import msgspec
import numpy as np
import pytest

from features.profile import EMPTY
from service import bundle as bundles
from service.bundle import Calibration, Golden
from service.errors import BundleRefused
from service.models import Models
from service.uplift import nothing, presented
from tests.integration.serving import business
from tests.integration.test_bundles_live import resealed
from tests.service.bundled import lifted, matrix, seen


def test_uplift_is_the_mean_over_the_bags_with_its_interval(cases: list[Golden]) -> None:
    models = Models(bundles.unpack(bundles.pack(lifted())), business())
    assert models.scores_uplift
    calibration = msgspec.json.decode(lifted().files[bundles.CALIBRATION], type=Calibration).uplift
    assert calibration is not None
    records, context = seen(cases[-1])
    vector = models.customer(records, EMPTY, context, cases[-1].now)
    told = models.seen(vector, records, cases[-1].now)
    rows = matrix(models, told)
    columns = np.append(models.plan.columns("acceptance"), len(models.plan.names))
    lifts = []
    for number, bag in enumerate(bundles.bags(lifted().files[bundles.UPLIFT])):
        booster = lightgbm.Booster(model_str=bag)
        shown = np.asarray(booster.predict(presented(rows)[:, columns]))
        without = np.asarray(booster.predict(nothing(vector[None], rows.shape[1])[:, columns]))
        effects = calibration.effects[number]
        lifts.append(shown - without + [effects[one.name] for one in business().actions])
    assert len(lifts) == 3
    found = models.uplift(told)
    assert found is not None
    assert found.shape == (len(business().actions), 3)
    mean, deviation = np.mean(lifts, axis=0), np.std(lifts, axis=0, ddof=1)
    wanted = [mean, mean - calibration.spread * deviation, mean + calibration.spread * deviation]
    assert np.allclose(found, np.column_stack(wanted), 1e-12, 1e-9)
    assert (found[:, 1] < found[:, 0]).all()
    assert (found[:, 0] < found[:, 2]).all()
    assert len(np.unique(found[:, 0])) > 50


def test_an_action_that_is_new_in_the_catalogue_has_the_uplift_of_the_others() -> None:
    known = business()
    new = msgspec.structs.replace(known.actions[0], name="brand_new")
    codes = {**known.vocabulary.actions, "brand_new": max(known.vocabulary.actions.values()) + 1}
    vocabulary = msgspec.structs.replace(known.vocabulary, actions=codes)
    grown = msgspec.structs.replace(known, actions=[*known.actions, new], vocabulary=vocabulary)
    models = Models(lifted(), grown)
    calibration = msgspec.json.decode(lifted().files[bundles.CALIBRATION], type=Calibration).uplift
    assert calibration is not None
    assert models._uplift is not None
    effects = models._uplift.effects
    assert effects[:, -1].tolist() == calibration.others
    assert len(np.unique(effects[0])) > 20


def test_a_bundle_without_an_uplift_model_says_so(models: Models, cases: list[Golden]) -> None:
    records, _ = seen(cases[0])
    told = models.seen(np.frombuffer(cases[0].vector), records, cases[0].now)
    assert not models.scores_uplift
    assert models.uplift(told) is None


def test_nothing_has_no_feature_of_an_action_and_is_marked() -> None:
    assert presented(np.array([[1.0, 2.0, 3.0]])).tolist() == [[1.0, 2.0, 3.0, 1.0]]
    row = nothing(np.array([[1.0, 2.0]]), 4)[0]
    assert row[:2].tolist() == [1.0, 2.0]
    assert np.isnan(row[2:4]).all()
    assert row[4] == 0.0


@pytest.mark.parametrize("spoil", ["spread", "others", "bags", "golden"])
def test_an_uplift_that_was_altered_is_refused(spoil: str) -> None:
    files = lifted().files
    calibration = msgspec.json.decode(files[bundles.CALIBRATION])
    bags = bundles.bags(files[bundles.UPLIFT])
    golden = msgspec.msgpack.decode(files[bundles.GOLDEN], type=list[Golden])
    action = golden[0].action
    if spoil == "spread":
        calibration["uplift"]["spread"] += 1e-3
    elif spoil == "others":
        calibration["uplift"]["effects"][1][action] += 1e-6
    elif spoil == "bags":
        bags = bags[:-1]
    else:
        worth = np.frombuffer(golden[0].uplift) + 1e-6
        golden[0] = msgspec.structs.replace(golden[0], uplift=worth.tobytes())
    bad = resealed(
        lifted(), "bad",
        **{
            bundles.CALIBRATION: msgspec.json.encode(calibration),
            bundles.UPLIFT: bundles.joined(bags),
            bundles.GOLDEN: msgspec.msgpack.encode(golden),
        },
    )  # fmt: skip
    told = "2 bags" if spoil == "bags" else "uplift of golden case"
    with pytest.raises(BundleRefused, match=told):
        Models(bad, business())
