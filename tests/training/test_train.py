from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.elementary import Floats
from features.kernels import Integers
from service.bundle import AcceptanceCalibration, IntentCalibration
from training import evaluate, train
from training.dataset import Dataset
from training.labels import Learning
from training.train import Split, Trained

NAMES = ["code", "signal", "noise", "gaps"]
INTENT, ACCEPTANCE = Learning(30, 5), Learning(120, 15)


@given(
    st.lists(st.integers(0, 50), max_size=60),
    st.floats(0.05, 0.6),
    st.floats(0.05, 0.6),
)
def test_no_part_holds_a_moment_later_than_one_of_the_next_part(
    moments: list[int], test: float, validation: float
) -> None:
    at = np.array(moments, np.int64)
    split = train.by_time(at, test, validation)
    assert sorted(np.concatenate(split).tolist()) == list(range(len(at)))  # each row once
    for earlier, later in ((split.train, split.validation), (split.validation, split.test),
                           (split.train, split.test)):  # fmt: skip
        if len(earlier) and len(later):
            assert at[earlier].max() < at[later].min()  # and no moment is torn


def test_parts_have_the_shares_asked_for() -> None:
    at = np.random.default_rng(1).permutation(10_000) + 1_700_000_000_000
    sizes = [len(part) for part in train.by_time(at, test=0.2, validation=0.25)]
    assert sizes == pytest.approx([6_000, 2_000, 2_000], abs=2)


def features(count: int, rng: np.random.Generator) -> Floats:
    gaps = np.where(rng.random(count) < 0.5, np.nan, rng.normal(size=count))
    return np.column_stack(
        [rng.integers(0, 6, count), rng.normal(size=count), rng.normal(size=count), gaps]
    )


def data(rows: Floats, labels: Integers) -> Dataset:
    count = len(labels)
    newest = np.zeros(count, np.int64)
    return Dataset(rows, labels, np.arange(count), [f"c{n % 50}" for n in range(count)], newest)


def intents(count: int = 3_000, seed: int = 1) -> Dataset:
    """The intent is the code's, mostly; codes of the vocabulary have gaps."""
    rng = np.random.default_rng(seed)
    rows = features(count, rng)
    usual = np.array([3, 9, 3, 12, 40, 9])[rows[:, 0].astype(int)]
    noise = rng.choice([3, 9, 12, 40], count)
    return data(rows, np.where(rng.random(count) < 0.85, usual, noise).astype(np.int64))


def acceptances(count: int = 4_000, seed: int = 1) -> tuple[Dataset, Floats]:
    """Acceptance depends on the signal and the code; given with the true probabilities."""
    rng = np.random.default_rng(seed)
    rows = features(count, rng)
    truth = 1 / (1 + np.exp(-(1.5 * rows[:, 1] + (rows[:, 0] == 2) - 1.0)))
    return data(rows, np.asarray(rng.random(count) < truth, np.int64)), truth


def learn_intent(made: Dataset, split: Split | None = None, learning: Learning = INTENT) -> Trained:
    return train.intent(
        made, split or train.by_time(made.moments), NAMES, ["code"], "intents",
        learning, lambda done, of: None,
    )  # fmt: skip


def learn_acceptance(
    made: Dataset, split: Split | None = None, learning: Learning = ACCEPTANCE
) -> Trained:
    return train.acceptance(
        made, split or train.by_time(made.moments), NAMES, ["code"],
        learning, lambda done, of: None,
    )  # fmt: skip


def test_a_planted_intent_is_learnt() -> None:
    made = intents()
    trained = learn_intent(made)
    assert isinstance(trained.calibration, IntentCalibration)
    assert trained.calibration.field == "intents"
    assert trained.calibration.classes == [3, 9, 12, 40]
    assert trained.metrics["accuracy"] > 0.85  # 0.85 + 0.15 / 4 is the best there is
    assert trained.metrics["top3"] > 0.93
    assert trained.metrics["accuracy"] > trained.metrics["bigram_accuracy"] + 0.3
    assert trained.metrics["calibration_error"] < 0.05
    assert trained.metrics["classes"] == 4
    sizes = [trained.metrics[f"{part}_rows"] for part in ("train", "validation", "test")]
    assert sum(sizes) == 3_000


def test_a_planted_acceptance_is_learnt_and_calibrated() -> None:
    made, truth = acceptances(12_000)
    trained = learn_acceptance(made)
    test = train.by_time(made.moments).test
    best = evaluate.auc(truth[test], made.labels[test])
    assert best - 0.02 < trained.metrics["auc"] <= best + 0.01
    assert trained.metrics["calibration_error"] < 0.04
    assert trained.metrics["mean_probability"] == pytest.approx(
        trained.metrics["base_rate"], abs=0.03
    )
    assert isinstance(trained.calibration, AcceptanceCalibration)
    scores = np.asarray(trained.booster.predict(made.rows[test], raw_score=True))
    said = 1 / (1 + np.exp(-(scores * trained.calibration.slope + trained.calibration.offset)))
    assert np.abs(said - truth[test]).mean() < 0.06


def test_noise_is_not_learnt() -> None:
    rng = np.random.default_rng(9)
    made = data(features(3_000, rng), rng.integers(0, 2, 3_000))
    assert learn_acceptance(made).metrics["auc"] == pytest.approx(0.5, abs=0.06)


def test_two_trainings_give_the_same_model_to_the_letter() -> None:
    made, _ = acceptances(1_500)
    for learn, some in ((learn_intent, intents(1_500)), (learn_acceptance, made)):
        one, two = learn(some), learn(some)
        assert one.booster.model_to_string() == two.booster.model_to_string()
        assert one.calibration == two.calibration
        assert one.metrics == two.metrics


def test_the_test_part_is_looked_at_by_nothing_but_the_report() -> None:
    made, _ = acceptances(1_500)
    test = train.by_time(made.moments).test
    labels, rows = made.labels.copy(), made.rows.copy()
    labels[test], rows[test] = 1 - labels[test], 7.0
    one, two = learn_acceptance(made), learn_acceptance(made._replace(labels=labels, rows=rows))
    assert one.booster.model_to_string() == two.booster.model_to_string()
    assert one.calibration == two.calibration
    assert one.metrics != two.metrics


def test_rare_classes_do_not_make_the_scores_run_away() -> None:
    rng = np.random.default_rng(4)
    rows = features(2_500, rng)
    labels = rng.choice(40, 2_500, p=np.array([0.61] + [0.01] * 39)) + 1
    labels[rows[:, 1] > 1.8] = 41  # a rare class that is easy to tell
    trained = learn_intent(data(rows, labels), learning=Learning(60, 60))
    scores = np.asarray(trained.booster.predict(rows, raw_score=True))
    assert np.abs(scores).max() < 30
    uniform = np.log(trained.metrics["classes"])
    assert trained.metrics["log_loss"] < uniform
    assert isinstance(trained.calibration, IntentCalibration)
    assert 0.2 < trained.calibration.temperature < 5


def test_an_intent_that_the_training_part_never_saw_counts_as_wrong_and_breaks_nothing() -> None:
    made = intents(1_000)
    labels = made.labels.copy()
    labels[900:] = 77  # the newest half of the test part
    metrics = learn_intent(made._replace(labels=labels)).metrics
    assert metrics["accuracy"] < 0.5
    assert metrics["classes"] == 4
    assert np.isfinite(metrics["log_loss"])


@pytest.mark.filterwarnings("error")
def test_a_test_part_of_unseen_intents_only_is_reported_without_a_log_loss() -> None:
    made = intents(1_000)
    labels = made.labels.copy()
    labels[train.by_time(made.moments).test] = 77
    metrics = learn_intent(made._replace(labels=labels)).metrics
    assert metrics["accuracy"] == 0.0
    assert np.isnan(metrics["log_loss"])


@pytest.mark.parametrize(
    ("count", "classes", "told"),
    [
        (0, 1, "0 moments and 0 intents"),
        (500, 1, "1 intents; at least two are needed: import more events"),
    ],
)
def test_too_few_intents_are_named(count: int, classes: int, told: str) -> None:
    rng = np.random.default_rng(1)
    made = data(features(count, rng), rng.integers(1, 1 + classes, count))
    with pytest.raises(ValueError, match=told):
        learn_intent(made)


@pytest.mark.parametrize("accepted", [0, 19])
def test_too_few_acceptances_are_named(accepted: int) -> None:
    made, _ = acceptances(1_000)
    labels = np.zeros(1_000, np.int64)
    labels[:accepted] = 1
    told = f"has {accepted} acceptances in 680 presentations; at least 20 of each kind are needed"
    with pytest.raises(ValueError, match=told):
        learn_acceptance(made._replace(labels=labels))
    with pytest.raises(ValueError, match="at least 20"):
        learn_acceptance(made._replace(labels=np.ones(1_000, np.int64)))


@pytest.mark.parametrize("lacking", ["validation", "test"])
def test_an_empty_part_is_named(lacking: str) -> None:
    nothing = np.zeros(0, np.int64)
    split = train.by_time(np.arange(1_000))._replace(**{lacking: nothing})
    with pytest.raises(ValueError, match=f"the {lacking} part has no .*import more events"):
        learn_intent(intents(1_000), split)
    with pytest.raises(ValueError, match=f"the {lacking} part has no .*import more events"):
        learn_acceptance(acceptances(1_000)[0], split)


def test_a_validation_part_of_unseen_intents_only_is_named() -> None:
    made = intents(1_000)
    labels = made.labels.copy()
    labels[train.by_time(made.moments).validation] = 77
    with pytest.raises(ValueError, match="the validation part has no moments of known intents"):
        learn_intent(made._replace(labels=labels))


def test_parameters_of_the_configuration_reach_lightgbm() -> None:
    made, _ = acceptances(1_000)
    trained = learn_acceptance(made, learning=Learning(3, 3, {"num_leaves": 2}))
    assert trained.booster.num_trees() <= 3
    assert all(tree["num_leaves"] <= 2 for tree in trained.booster.dump_model()["tree_info"])


def test_training_stops_when_the_validation_part_gains_no_more() -> None:
    rng = np.random.default_rng(9)
    made = data(features(2_000, rng), rng.integers(0, 2, 2_000))
    assert learn_acceptance(made, learning=Learning(200, 5)).booster.num_trees() < 100


def test_progress_ends_where_all_rounds_are_done() -> None:
    steps: list[tuple[int, int]] = []
    made, _ = acceptances(600)
    train.acceptance(
        made, train.by_time(made.moments), NAMES, [], Learning(40, 2),
        lambda done, of: steps.append((done, of)),
    )  # fmt: skip
    assert steps[0] == (1, 40)
    assert steps[-1] == (40, 40)
    assert steps == sorted(steps)


def test_features_may_have_names_that_lightgbm_forbids() -> None:
    made, _ = acceptances(600)
    trained = train.acceptance(
        made, train.by_time(made.moments), ['a:"b"', "c,d", "e[f]", "ünï {}"], ["c,d"],
        Learning(5, 5), lambda done, of: None,
    )  # fmt: skip
    assert trained.booster.feature_name() == ["f0", "f1", "f2", "f3"]
