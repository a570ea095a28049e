"""Learn the two models: LightGBM on replayed moments, calibrated on moments it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import lightgbm
import numpy as np

from features.elementary import Floats
from features.kernels import Integers
from service.bundle import AcceptanceCalibration, IntentCalibration
from training import calibrate, evaluate
from training.dataset import Dataset
from training.labels import Learning

COMMON: Final[dict[str, Any]] = {
    "verbosity": -1,
    "deterministic": True,
    "force_col_wise": True,
    "seed": 1,
    # Threads wait for one another at every split: with a busy neighbour, two took seven times as
    # long as one on a quarter of a million rows. `learning.parameters` can say otherwise.
    "num_threads": 1,
    "max_bin": 63,
}
_INTENT: Final[dict[str, Any]] = {
    "objective": "multiclass",
    "learning_rate": 0.2,
    "num_leaves": 31,
    "min_data_in_leaf": 20,
    # Without these, rare classes get leaves of vanishing hessian and the scores run away.
    "min_sum_hessian_in_leaf": 5.0,
    "lambda_l2": 10.0,
}
_ACCEPTANCE: Final[dict[str, Any]] = {
    "objective": "binary",
    "learning_rate": 0.06,
    "num_leaves": 15,
    "min_data_in_leaf": 30,
    "lambda_l2": 5.0,
}

Progress = Callable[[int, int], None]


class Split(NamedTuple):
    """Which rows are for learning, for stopping and calibrating, and for the report."""

    train: Integers
    validation: Integers
    test: Integers


class Trained(NamedTuple):
    """A model with its calibration and what it is worth."""

    booster: lightgbm.Booster
    calibration: IntentCalibration | AcceptanceCalibration
    metrics: dict[str, float]


def by_time(moments: Integers, test: float = 0.2, validation: float = 0.15) -> Split:
    """Split by time, oldest first: train, then validation, then test; a moment is never torn.

    Args:
        moments: [rows] milliseconds.
        test: Share of the newest rows that the report is about.
        validation: Share of the other rows, the newest again.
    """
    late = np.quantile(moments, 1 - test) if len(moments) else 0
    older = moments[moments < late]
    middle = np.quantile(older, 1 - validation) if len(older) else 0
    return Split(
        np.flatnonzero(moments < middle),
        np.flatnonzero((moments >= middle) & (moments < late)),
        np.flatnonzero(moments >= late),
    )


def intent(
    data: Dataset,
    split: Split,
    names: Sequence[str],
    categories: Sequence[str],
    field: str,
    learning: Learning,
    progress: Progress,
) -> Trained:
    """Train the intent model.

    Args:
        data: Labelled moments; labels are codes.
        split: Of its rows.
        names: Of its columns.
        categories: Those of them that are codes without an order.
        field: "intents" or "types": what the labels are codes of.
        learning: Rounds and parameters.
        progress: Told rounds done, and of how many at most.

    Raises:
        ValueError: There is too little to learn from.
    """
    classes = np.unique(data.labels[split.train])
    if len(classes) < 2:
        raise ValueError(
            f"the training part has {len(split.train)} moments and {len(classes)} intents; "
            "at least two are needed: import more events, or look at training.yaml"
        )
    column = np.full(int(data.labels.max()) + 1, -1, np.int64)
    column[classes] = np.arange(len(classes))
    labels = column[data.labels]
    known = Split(*(part[labels[part] >= 0] for part in split))
    _stocked(known._replace(test=split.test), "moments of known intents")
    parameters = {**COMMON, **_INTENT, "num_class": len(classes), **learning.parameters}
    booster = _learn(data.rows, labels, known, names, categories, parameters, learning, progress)
    scores = _scores(booster, data.rows[known.validation])
    divisor = calibrate.temperature(scores, labels[known.validation])
    test = split.test
    probabilities = _softmax(_scores(booster, data.rows[test]) / divisor)
    truth = labels[test]
    likeliest = probabilities.argmax(axis=1)
    seen = truth >= 0
    metrics = {
        "accuracy": evaluate.accuracy(probabilities, truth),
        "top3": evaluate.top(probabilities, truth, 3),
        "log_loss": evaluate.log_loss(probabilities[seen], truth[seen]),
        "calibration_error": evaluate.expected_calibration_error(
            probabilities.max(axis=1), (likeliest == truth).astype(np.int64)
        ),
        "bigram_accuracy": evaluate.conditional_mode(
            data.baseline[split.train],
            data.labels[split.train],
            data.baseline[test],
            data.labels[test],
        ),
        "classes": float(len(classes)),
        "trees": float(booster.num_trees()),
        **_sizes(split),
    }
    calibration = IntentCalibration(field, classes.tolist(), divisor)
    return Trained(booster, calibration, metrics)


def acceptance(
    data: Dataset,
    split: Split,
    names: Sequence[str],
    categories: Sequence[str],
    learning: Learning,
    progress: Progress,
    actions: Mapping[str, int] | None = None,
) -> Trained:
    """Train the acceptance model; labels are 0 and 1. See :func:`intent` for the arguments.

    Args:
        data: Labelled presentations; ``baseline`` is the code of what was presented.
        split: Of its rows.
        names: Of its columns.
        categories: Those of them that are codes without an order.
        learning: Rounds and parameters.
        progress: Told rounds done, and of how many at most.
        actions: Codes by name, of the actions whose rows are counted as evidence; None: of none.
    """
    positive = int(data.labels[split.train].sum())
    if min(positive, len(split.train) - positive) < 20:
        raise ValueError(
            f"the training part has {positive} acceptances in {len(split.train)} presentations; "
            "at least 20 of each kind are needed"
        )
    _stocked(split, "presentations")
    parameters = {**COMMON, **_ACCEPTANCE, **learning.parameters}
    booster = _learn(
        data.rows, data.labels, split, names, categories, parameters, learning, progress
    )
    slope, offset = calibrate.platt(
        _scores(booster, data.rows[split.validation])[:, 0], data.labels[split.validation]
    )
    scores = _scores(booster, data.rows[split.test])[:, 0] * slope + offset
    probabilities, truth = 1 / (1 + np.exp(-scores)), data.labels[split.test]
    metrics = {
        "auc": evaluate.auc(scores, truth),
        "calibration_error": evaluate.expected_calibration_error(probabilities, truth),
        "log_loss": evaluate.log_loss(np.column_stack([1 - probabilities, probabilities]), truth),
        "base_rate": float(truth.mean()) if len(truth) else float("nan"),
        "mean_probability": float(probabilities.mean()) if len(truth) else float("nan"),
        "trees": float(booster.num_trees()),
        **_sizes(split),
    }
    evidence = None if actions is None else _evidence(data.baseline[split.train], actions)
    return Trained(booster, AcceptanceCalibration(slope, offset, evidence), metrics)


def _evidence(presented: Integers, actions: Mapping[str, int]) -> dict[str, float]:
    """Rows of each action, those without any left out."""
    codes, counts = np.unique(presented, return_counts=True)
    rows = dict(zip(codes.tolist(), counts.tolist(), strict=True))
    return {name: float(rows[code]) for name, code in actions.items() if code in rows}


def _stocked(split: Split, what: str) -> None:
    for name, part in zip(split._fields, split, strict=True):
        if not len(part):
            raise ValueError(
                f"the {name} part has no {what}; the log is too short to be split by time: "
                "import more events"
            )


def _learn(
    rows: Floats,
    labels: Integers,
    split: Split,
    names: Sequence[str],
    categories: Sequence[str],
    parameters: dict[str, Any],
    learning: Learning,
    progress: Progress,
) -> lightgbm.Booster:
    categorical = [i for i, name in enumerate(names) if name in set(categories)]
    train = lightgbm.Dataset(
        rows[split.train],
        labels[split.train],
        feature_name=[f"f{i}" for i in range(len(names))],  # names may hold what LightGBM forbids
        categorical_feature=categorical,
        params=parameters,
    )
    held_out = train.create_valid(rows[split.validation], labels[split.validation])
    booster = lightgbm.train(
        parameters,
        train,
        num_boost_round=learning.rounds,
        valid_sets=[held_out],
        callbacks=[
            lightgbm.early_stopping(learning.patience, verbose=False),
            lambda state: progress(state.iteration + 1, learning.rounds),
        ],
    )
    progress(learning.rounds, learning.rounds)
    return booster


def _scores(booster: lightgbm.Booster, rows: Floats) -> Floats:
    scores = booster.predict(rows, raw_score=True)
    return np.asarray(scores, np.float64).reshape(len(rows), -1)


def _softmax(scores: Floats) -> Floats:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _sizes(split: Split) -> dict[str, float]:
    return {
        "train_rows": float(len(split.train)),
        "validation_rows": float(len(split.validation)),
        "test_rows": float(len(split.test)),
    }
