from __future__ import annotations

import datetime
import functools
import tempfile
from pathlib import Path

import lightgbm
import msgspec
import numpy as np
import pytest

from features.elementary import Floats, sigmoid
from features.plan import Context
from features.profile import EMPTY
from features.record import Records, decode
from service import bundle as bundles
from service.bundle import Bundle, Calibration, Golden
from service.catalogue import Exploration
from service.errors import BundleRefused
from service.models import Models, goldens, nothing, presented
from service.sight import Seen
from tests.integration.serving import CONFIG, business, sealed
from tests.integration.test_bundles_live import resealed
from training import simulate, workflow
from training.labels import Learning, Targets


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(sealed(), business())


@pytest.fixture(scope="module")
def cases() -> list[Golden]:
    return msgspec.msgpack.decode(sealed().files[bundles.GOLDEN], type=list[Golden])


def seen(case: Golden) -> tuple[Records, Context]:
    return decode(case.timeline)[1], Context(case.channel, case.direction)


def matrix(models: Models, told: Seen) -> Floats:
    """What the models see of every action: [actions, names of the plan]."""
    return np.stack([models.row(told, row) for row in range(len(models.names))])


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
    told = models.seen(vector, records, cases[-1].now)
    rows = matrix(models, told)
    assert rows.shape == (len(business().actions), len(models.plan.names))
    scores = np.asarray(booster.predict(rows[:, models.plan.columns("acceptance")], raw_score=True))
    wanted = sigmoid(scores * calibration.acceptance.slope + calibration.acceptance.offset)
    assert np.allclose(models.acceptance(told), wanted, 1e-12, 1e-12)
    assert models.acceptance(told).tolist() == [models.acceptance_of(row) for row in rows]


def test_what_they_saw_of_one_customer_outlives_the_next(
    models: Models, cases: list[Golden]
) -> None:
    case, other = max(cases, key=lambda one: len(one.timeline)), cases[0]
    told = models.seen(np.frombuffer(case.vector), seen(case)[0], case.now)
    assert len(told.touched), "some action was presented to them"
    before = matrix(models, told)
    models.acceptance(models.seen(np.frombuffer(other.vector), seen(other)[0], other.now))
    assert matrix(models, told).tobytes() == before.tobytes()


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


def test_each_row_holds_the_customer_and_its_own_action(
    models: Models, cases: list[Golden]
) -> None:
    records, _ = seen(cases[-1])
    vector = np.frombuffer(cases[-1].vector)
    rows = matrix(models, models.seen(vector, records, cases[-1].now))
    queueing = [row for row, one in enumerate(business().actions) if one.queue_priority]
    others = np.delete(rows[:, : len(vector)], queueing, axis=0)
    assert np.array_equal(others, np.tile(vector, (len(others), 1)), equal_nan=True)
    code = models.plan.names.index("action_code")
    codes = [business().vocabulary.actions[action.name] for action in business().actions]
    assert rows[:, code].tolist() == codes


def test_how_the_customer_feels_does_not_move_them_ahead_in_a_queue(
    models: Models, cases: list[Golden]
) -> None:
    names = ["sentiment_mean_30d", "sentiment_last", "journey_relationship"]
    felt = [models.plan.names.index(name) for name in names]
    records, _ = seen(cases[0])
    calm, angry = (np.frombuffer(cases[0].vector).copy() for _ in range(2))
    calm[felt], angry[felt] = [1.0, 1.0, 2.0], [-1.0, -1.0, 3.0]
    queueing = np.array([one.queue_priority for one in business().actions])
    calmly = matrix(models, models.seen(calm, records, cases[0].now))
    angrily = matrix(models, models.seen(angry, records, cases[0].now))
    assert queueing.any()
    assert np.array_equal(calmly[queueing], angrily[queueing], equal_nan=True)
    assert np.isnan(angrily[queueing][:, felt]).all()
    assert not np.array_equal(calmly[~queueing], angrily[~queueing], equal_nan=True)


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


def test_golden_cases_of_older_bundles_are_read(cases: list[Golden]) -> None:
    older = [list(msgspec.structs.astuple(case))[:9] for case in cases]
    bundle = resealed(sealed(), "old", **{bundles.GOLDEN: msgspec.msgpack.encode(older)})
    assert Models(bundle, business()).scores_acceptance


@functools.cache
def lifted() -> Bundle:
    """A bundle with an uplift model of few trees, for a bank that holds back every second slate."""
    bank = business()
    placements = {
        name: msgspec.structs.replace(one, exploration=Exploration(hold_back=0.5))
        for name, one in bank.placements.items()
    }
    bank = msgspec.structs.replace(bank, placements=placements)
    targets = workflow.targets(CONFIG)
    assert targets.uplift is not None
    few = msgspec.structs.replace(
        targets.uplift, within="2d", held_back=20, bags=3, learning=Learning(8)
    )
    with tempfile.TemporaryDirectory() as folder:
        simulate.simulate(
            bank, Path(folder), customers=60, days=60, seed=1,
            end=datetime.datetime(2026, 11, 20, tzinfo=datetime.UTC),
            progress=lambda done, of: None,
        )  # fmt: skip
        return workflow.fit(Path(folder), bank, Targets(uplift=few), lambda name, done, of: None)


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
    assert models._effects[:, -1].tolist() == calibration.others
    assert len(np.unique(models._effects[0])) > 20


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
