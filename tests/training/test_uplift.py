from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from features.definitions import Action, Count, Definitions
from features.elementary import Floats
from features.plan import Plan
from service.uplift import nothing, presented
from tests.chain import VOCABULARY
from training import uplift
from training.labels import UpliftTarget
from training.slates import Slates
from training.uplift import Learnt

CUSTOMER = [Count(f"x{n}", window=f"{n + 1}d") for n in range(6)]
OF_ACTION = [Action("code", field="code"), Action("price", field="value")]
PLAN = Plan(Definitions([*CUSTOMER, *OF_ACTION, Count("shown", per_action=True)]), VOCABULARY)
NAMES = ["helps", "useless", "harms"]
CODES = [1, 2, 3]
DESCRIBED = np.array([[1.0, 10.0], [2.0, 30.0], [3.0, 5.0]])
DAY = 86_400_000


class Planted(NamedTuple):
    """Slates of a world whose uplift is known: [slates, actions]."""

    slates: Slates
    truth: Floats


def planted(count: int = 5_000, *, held_back: float = 0.1, seed: int = 1) -> Planted:
    """Draw slates from a policy that looks at the customer, with what came of them.

    The first action helps by 4; the second helps nobody and is drawn for those who do well anyway;
    the third harms by 8 where the last feature is negative, and nobody else.
    """
    rng = np.random.default_rng(seed)
    customer = rng.integers(0, count // 6, count)
    lasting = rng.normal(size=(count // 6, 3))[customer]
    x = np.hstack([rng.normal(size=(count, 3)), lasting])
    truth = np.column_stack([np.full(count, 4.0), np.zeros(count), -8.0 * (x[:, 5] < 0)])
    held = rng.random(count) < held_back
    score = np.exp(np.column_stack([0.5 * x[:, 0], 1.2 * x[:, 4], -0.5 * x[:, 1]]))
    rewards = 5 * x[:, 4] + 3 * np.sin(x[:, 0]) + rng.normal(0, 8, count)
    slate, action, chance = [], [], []
    for i in np.flatnonzero(~held):
        rest = [0, 1, 2]
        for _ in range(rng.integers(1, 3)):
            weights = score[i, rest]
            chances = 0.8 * weights / weights.sum() + 0.2 / len(rest)
            at = int(rng.choice(len(rest), p=chances / chances.sum()))
            rewards[i] += truth[i, rest[at]]
            slate.append(i)
            action.append(rest.pop(at))
            chance.append(chances[at] * (1 - held_back))
    made = Slates(
        customers=x,
        rewards=rewards,
        moments=np.sort(rng.integers(0, 180 * DAY, count)),
        who=[f"c{n}" for n in customer],
        placements=["here"] * count,
        held_back=held,
        probability=np.where(held, held_back, 1 - held_back),
        slate=np.array(slate, np.int64),
        action=np.array(action, np.int64),
        chance=np.array(chance),
        pairs=np.zeros((len(slate), 1)),
    )
    return Planted(made, truth)


def learnt(slates: Slates, **changes: Any) -> Learnt:
    target = msgspec.convert({"reward": {"resolved": 1.0}} | changes, UpliftTarget)
    return uplift.learn(slates, PLAN, DESCRIBED, NAMES, CODES, target, lambda done, of: None)


def told(found: Learnt, customers: Floats) -> Floats:
    """Uplift in every bag, as a server computes it: [bags, customers, actions]."""
    assert found.calibration is not None
    columns = np.append(PLAN.columns("acceptance"), len(PLAN.names))
    bags = []
    for bag, effects in zip(found.bags, found.calibration.effects, strict=True):
        without = np.asarray(bag.predict(nothing(customers, len(PLAN.names))[:, columns]))
        lifts = []
        for row, name in zip(DESCRIBED, NAMES, strict=True):
            rest = np.tile(np.append(row, 0.0), (len(customers), 1))
            shown = presented(np.hstack([customers, rest]))[:, columns]
            lifts.append(np.asarray(bag.predict(shown)) - without + effects[name])
        bags.append(np.column_stack(lifts))
    return np.array(bags)


def interval(lifts: Floats, spread: float) -> tuple[Floats, Floats]:
    """Mean over the bags, and how far the interval reaches."""
    return lifts.mean(axis=0), spread * lifts.std(axis=0, ddof=1)


@pytest.fixture(scope="module")
def world() -> Planted:
    return planted()


@pytest.fixture(scope="module")
def found(world: Planted) -> Learnt:
    return learnt(world.slates)


def test_the_mean_uplift_of_each_action_is_covered(world: Planted, found: Learnt) -> None:
    assert found.calibration is not None
    lifts = told(found, world.slates.customers[:600]).mean(axis=1)
    mean, reach = interval(lifts, found.calibration.spread)
    assert (np.abs(mean - world.truth[:600].mean(axis=0)) < reach).all()
    assert mean[0] - reach[0] > 0  # and the interval is no excuse
    assert mean[2] + reach[2] < 0
    assert reach.max() < 2.5


def test_who_is_harmed_is_told_from_who_is_not(world: Planted, found: Learnt) -> None:
    harmed = world.truth[:600, 2] < 0
    harm = told(found, world.slates.customers[:600]).mean(axis=0)[:, 2]
    assert harm[harmed].mean() < -5
    assert harm[~harmed].mean() > -2.5


def test_an_action_that_is_drawn_for_those_who_do_well_anyway_gets_no_credit(
    world: Planted, found: Learnt
) -> None:
    data = world.slates
    seemed = [float(data.rewards[data.slate[data.action == action]].mean()) for action in range(3)]
    assert seemed[1] > data.rewards[data.held_back].mean() + 1.5  # a plain mean is fooled
    assert abs(told(found, data.customers[:600]).mean(axis=(0, 1))[1]) < 1.0


def test_nine_intervals_in_ten_cover_the_truth() -> None:
    inside: list[bool] = []
    for seed in range(6):
        made = planted(3_000, seed=seed, held_back=0.15)
        one = learnt(made.slates)
        assert one.calibration is not None
        lifts = told(one, made.slates.customers[:300])
        for few, truth in (
            (lifts.mean(axis=1), made.truth[:300].mean(axis=0)), (lifts, made.truth[:300])
        ):  # fmt: skip
            mean, reach = interval(few, one.calibration.spread)
            inside += (np.abs(mean - truth) < reach).ravel().tolist()
    assert np.mean(inside) > 0.85


def test_a_moderate_confidence_gives_a_narrower_interval(world: Planted) -> None:
    spreads = []
    for confidence in (0.5, 0.9):
        one = learnt(world.slates, confidence=confidence, bags=3, learning={"rounds": 2})
        assert one.calibration is not None
        spreads.append(one.calibration.spread)
    assert spreads[0] < spreads[1] / 2


def test_without_held_back_slates_it_is_refused_in_words(world: Planted) -> None:
    shown = world.slates.where(~world.slates.held_back)
    refused = learnt(shown)
    assert refused.bags == []
    assert refused.calibration is None
    assert refused.metrics["held_back"] == 0
    assert "not enough data. 0 slates were held back, 200 are needed" in refused.note
    assert "raise exploration.hold_back" in refused.note


def test_the_declared_minimum_decides(world: Planted) -> None:
    there = int(learnt(world.slates, held_back=10**6).metrics["held_back"])
    few = {"bags": 2, "learning": {"rounds": 2}}
    assert learnt(world.slates, held_back=there, **few).bags
    assert not learnt(world.slates, held_back=there + 1, **few).bags


def test_no_slates_at_all_are_refused_in_words(world: Planted) -> None:
    none = world.slates.where(np.zeros(len(world.slates.rewards), bool))
    assert "not enough data" in learnt(none).note


def test_the_same_slates_give_the_same_bags(world: Planted, found: Learnt) -> None:
    again = learnt(world.slates)
    assert again.metrics == found.metrics
    assert again.calibration == found.calibration
    for one, other in zip(again.bags, found.bags, strict=True):
        assert one.model_to_string() == other.model_to_string()


def test_bags_differ_for_they_see_other_customers(found: Learnt) -> None:
    assert len({bag.model_to_string() for bag in found.bags}) == len(found.bags) == 8


def test_what_is_clipped_is_reported(world: Planted) -> None:
    few = {"bags": 2, "learning": {"rounds": 2}}
    free = learnt(world.slates, clip=1_000.0, **few).metrics
    clipped = learnt(world.slates, clip=2.0, **few).metrics
    assert (free["clip"], free["clipped"]) == (1_000.0, 0.0)
    assert clipped["clip"] == 2.0
    assert clipped["clipped"] > 0.3
    assert clipped["effective_slots"] > free["effective_slots"]


def test_the_report_judges_by_later_slates(found: Learnt, world: Planted) -> None:
    metrics = found.metrics
    assert metrics["test_slates"] == pytest.approx(0.2 * len(world.slates.rewards), abs=2)
    gap = 14 / 180  # slates whose window reaches into the test part are not learnt from
    assert metrics["slates"] == pytest.approx((0.8 - gap) * len(world.slates.rewards), rel=0.05)
    assert metrics["qini"] > 0.1
    assert abs(metrics["of_showing"]) < 3


def test_rewards_of_the_test_part_change_no_bag(world: Planted) -> None:
    data = world.slates
    late = data.moments > np.quantile(data.moments, 0.8)
    few = {"bags": 2, "learning": {"rounds": 5}}
    other = data._replace(rewards=np.where(late, -999.0, data.rewards))
    one, two = learnt(data, **few), learnt(other, **few)
    assert [bag.model_to_string() for bag in one.bags] == [
        bag.model_to_string() for bag in two.bags
    ]
    assert one.metrics["of_showing"] != two.metrics["of_showing"]


def test_the_note_names_what_helps_and_what_harms(found: Learnt) -> None:
    assert "With 90% confidence 1 actions help and 1 harm" in found.note
    assert "helps +" in found.note
    assert "harms -" in found.note
    assert "useless" not in found.note


def test_an_action_that_was_never_drawn_has_the_effect_of_the_others(world: Planted) -> None:
    data = world.slates
    without = [i for i in range(len(data.rewards)) if 2 in data.action[data.slate == i]]
    kept = np.ones(len(data.rewards), bool)
    kept[without] = False
    one = learnt(data.where(kept), bags=2, learning={"rounds": 2})
    assert one.calibration is not None
    for effects, other in zip(one.calibration.effects, one.calibration.others, strict=True):
        assert effects["harms"] == pytest.approx(other)
        assert effects["helps"] != pytest.approx(other)


def test_every_bag_is_progress(world: Planted) -> None:
    steps: list[tuple[int, int]] = []
    target = msgspec.convert(
        {"reward": {"resolved": 1.0}, "bags": 3, "learning": {"rounds": 2}}, UpliftTarget
    )

    def run(slates: Slates) -> Sequence[tuple[int, int]]:
        steps.clear()
        uplift.learn(slates, PLAN, DESCRIBED, NAMES, CODES, target, lambda *one: steps.append(one))
        return list(steps)

    assert run(world.slates) == [(1, 3), (2, 3), (3, 3)]
    assert run(world.slates.where(~world.slates.held_back)) == [(3, 3)]


def test_a_slot_is_learnt_from_without_what_the_other_slots_of_its_slate_add() -> None:
    made = planted(3_000)
    flat = np.tile([4.0, 0.0, -8.0], (len(made.truth), 1))
    rewards = np.bincount(
        made.slates.slate, flat[0, made.slates.action], minlength=len(made.slates.rewards)
    )
    target = msgspec.convert({"reward": {"resolved": 1.0}}, UpliftTarget)
    data = made.slates._replace(rewards=rewards.astype(np.float64))
    goals = np.asarray(uplift._Learner(data, PLAN, DESCRIBED, target)._set.get_label())
    drawn = goals[: len(data.action)]
    alone = np.bincount(data.slate)[data.slate] == 1
    for action in range(3):
        one, two = (drawn[(data.action == action) & which].mean() for which in (alone, ~alone))
        assert one == pytest.approx(two, abs=0.8)
