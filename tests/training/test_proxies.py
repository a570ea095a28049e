from __future__ import annotations

import math

import numpy as np
import pytest

from training import proxies

MEMBERS = np.arange(400) < 150
RNG = np.random.default_rng


def test_numbers_are_told_by_the_area_under_the_curve() -> None:
    values = [float(i) for i in range(400)]
    assert proxies.associated(values, MEMBERS) == ("auc", 1.0)
    assert proxies.associated(values[::-1], MEMBERS) == ("auc", 1.0), "in either direction"
    noise = RNG(1).random(400).tolist()
    told = proxies.associated(noise, MEMBERS)
    assert told.measure == "auc"
    assert told.strength < 0.57
    assert not told.proxy


def test_equal_numbers_count_half() -> None:
    values = np.array([1.0, 2.0, 2.0, 3.0])
    assert proxies.area(values, np.array([False, True, False, True])) == pytest.approx(0.875)


def test_unknown_numbers_are_left_out_of_the_curve() -> None:
    values = [None if i % 2 else float(i) for i in range(400)]
    assert proxies.associated(values, MEMBERS).strength == 1.0


def test_categories_are_told_by_cramers_v() -> None:
    told = proxies.associated([bool(one) for one in MEMBERS], MEMBERS)
    assert told.measure == "cramers_v"
    assert told.strength == pytest.approx(1.0, abs=0.01)
    assert told.proxy
    chance = RNG(2).integers(0, 4, 400)
    assert proxies.associated([str(one) for one in chance], MEMBERS).strength < 0.12


def test_few_different_numbers_are_categories_and_so_is_being_unknown() -> None:
    told = proxies.associated([None if one else 1.0 for one in MEMBERS], MEMBERS)
    assert told.measure == "cramers_v"
    assert told.strength > 0.95


def test_what_is_always_the_same_tells_nothing() -> None:
    told = proxies.associated([True] * 400, MEMBERS)
    assert told == ("cramers_v", 0.0)
    assert told.scaled == 0.0
    assert math.isnan(proxies.area(np.ones(4), np.ones(4, bool)))


def test_both_measures_go_from_nothing_to_all_on_one_scale() -> None:
    assert proxies.Association("auc", 0.5).scaled == 0.0
    assert proxies.Association("auc", 1.0).scaled == 1.0
    assert proxies.Association("auc", math.nan).scaled == 0.0
    assert proxies.Association("cramers_v", 0.4).scaled == 0.4
