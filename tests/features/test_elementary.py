from __future__ import annotations

import decimal
import hashlib
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.elementary import exp, sigmoid, softmax

RANGE = st.floats(-708, 709)
SCORES = st.lists(st.floats(-800, 800), min_size=1, max_size=40).map(np.array)

DIGEST = """
import hashlib, numpy as np
from features import fields, kernels, program
from features.definitions import Decayed, Definitions, Mean, Sum
from features.elementary import sigmoid, softmax
from features.record import RECORD
from features.vocabulary import Type, Vocabulary

dice = np.random.Generator(np.random.PCG64(5))
scores = dice.uniform(-708.0, 708.0, 100_000)
seen = hashlib.sha256(sigmoid(scores).tobytes())
seen.update(softmax(scores / 20.0).tobytes())
records = np.zeros(512, RECORD)
records["occurred_at"] = np.sort(dice.integers(0, 2**31, 512))
records["value"] = dice.uniform(-1e3, 1e3, 512)
records["type"] = 1
made = program.compile(
    [
        Decayed(name="a", half_life="3d", field="value"),
        Decayed(name="b", half_life="7m"),
        Sum(name="c", field="value"),
        Mean(name="d", field="value", window="9d"),
    ],
    Vocabulary(channels={}, types={"x": Type(1)}),
)
for now in range(2**31, 2**31 + 10**9, 10**7):
    out = np.empty(4)
    kernels.customer(fields.words(records), now, made.block, np.empty(0), np.empty(0), out)
    seen.update(out.tobytes())
print(seen.hexdigest())
"""


@given(RANGE)
@settings(max_examples=2_000)
def test_exp_is_within_two_ulp_of_the_truth_over_its_range(x: float) -> None:
    with decimal.localcontext() as context:
        context.prec = 40
        truth = decimal.Decimal(x).exp()
        error = abs(decimal.Decimal(exp(x)) - truth) / decimal.Decimal(math.ulp(float(truth)))
    assert error < 2


def test_exp_is_within_two_ulp_of_the_c_library_on_a_fine_grid() -> None:
    for x in np.linspace(-708, 709, 20_001).tolist():
        assert abs(exp(x) - math.exp(x)) <= 2 * math.ulp(math.exp(x)), x


@pytest.mark.parametrize(
    ("x", "result"),
    [
        (0.0, 1.0),
        (-0.0, 1.0),
        (-708.1, 0.0),
        (-1e300, 0.0),
        (-math.inf, 0.0),
    ],
)
def test_exp_of_special_numbers(x: float, result: float) -> None:
    assert exp(x) == result


def test_exp_ends_where_doubles_do_and_keeps_nan() -> None:
    assert exp(710.0) == exp(math.inf) == exp(709.0) < math.inf
    assert math.isnan(exp(math.nan))


@given(st.lists(RANGE, min_size=2, max_size=30))
def test_exp_is_monotone(numbers: list[float]) -> None:
    results = [exp(x) for x in sorted(numbers)]
    assert results == sorted(results)


@given(SCORES)
def test_sigmoid_gives_probabilities_that_mirror_one_another(scores: np.ndarray) -> None:
    chances = sigmoid(scores)
    assert ((chances >= 0) & (chances <= 1)).all()
    np.testing.assert_allclose(chances + sigmoid(-scores), 1, rtol=0, atol=3e-16)
    order = np.argsort(scores)
    assert (np.diff(chances[order]) >= -1e-15).all()


def test_sigmoid_is_the_logistic_function() -> None:
    scores = np.linspace(-30, 30, 601)
    np.testing.assert_allclose(sigmoid(scores), 1 / (1 + np.exp(-scores)), rtol=1e-15)
    assert sigmoid(np.zeros(1))[0] == 0.5


@given(SCORES)
def test_softmax_sums_to_one_and_keeps_the_order(scores: np.ndarray) -> None:
    chances = softmax(scores)
    assert abs(chances.sum() - 1) < 1e-14
    order = np.argsort(scores)
    assert (np.diff(chances[order]) >= 0).all()


@given(SCORES, st.integers(-1_000, 1_000))
def test_softmax_looks_at_differences_alone(scores: np.ndarray, shift: int) -> None:
    whole = np.round(scores)
    assert softmax(whole).tobytes() == softmax(whole + shift).tobytes()


@given(SCORES)
def test_softmax_is_what_the_formula_says(scores: np.ndarray) -> None:
    truth = np.exp(scores - scores.max())
    np.testing.assert_allclose(softmax(scores), truth / truth.sum(), rtol=1e-13, atol=1e-300)


def test_a_processor_without_its_special_features_gives_the_same_bits(tmp_path: Path) -> None:
    masked = _digest(tmp_path, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")
    here: dict[str, object] = {}
    exec(DIGEST.replace("print(seen.hexdigest())", "done = seen"), here)  # noqa: S102  the same code
    ours = here["done"]
    assert ours.hexdigest() == masked  # type: ignore[attr-defined]


def _digest(cache: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", DIGEST],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache), **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert any(cache.rglob("*.nbc")), "it was compiled afresh"
    digest = done.stdout.strip()
    assert len(digest) == len(hashlib.sha256().hexdigest())
    return digest
