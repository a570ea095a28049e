"""Learn the uplift: reward if an action is presented, less reward if nothing is.

Ground are slates drawn with known probabilities, and among them those that were held back. Each bag
takes half of the customers, so that bags differ as much as two samples of all of them would:

1. What the customer's features say of the reward is taken away, learnt from other customers.
2. Trees learn what is left, from one row a drawn slot and one a held-back slate, weighted by the
   inverse of their probability. What the *other* slots of the slate add on average goes first.
3. Trees shrink effects towards each other; ridge regression on the half that they have not seen
   gives each action back what is missing on average.

docs/decisions/0004-uplift.md says why, and what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import lightgbm
import numpy as np
import numpy.typing as npt

from features import duration
from features.elementary import Floats
from features.kernels import Integers
from features.plan import Plan, rows_of
from features.record import EMPTY
from service.bundle import UpliftCalibration
from service.uplift import nothing, presented
from training import calibrate, evaluate
from training.labels import UpliftTarget
from training.slates import Slates
from training.train import COMMON

_TREES: Final[dict[str, Any]] = {
    **COMMON,
    "objective": "regression",
    "learning_rate": 0.1,
    "num_leaves": 15,
    "min_data_in_leaf": 50,
    "lambda_l2": 1.0,
    # Actions are categories; what LightGBM shrinks of them by default is what is to be learnt.
    "cat_l2": 1.0,
    "cat_smooth": 5.0,
    "min_data_per_group": 20,
}
_CENTRE: Final[dict[str, Any]] = {**_TREES, "num_leaves": 8, "lambda_l2": 5.0}
_CENTRE_ROUNDS: Final = 40
_SHRUNK: Final = 20.0  # slates at which an action keeps half of what sets it apart from the others
_TEST: Final = 0.2  # share of the newest slates that the report is about
_TEST_SHOWN, _TEST_ACTIONS = 1_000, 12  # the most that the report looks at, for the sake of time

Mask = npt.NDArray[np.bool_]
Progress = Callable[[int, int], None]


class Learnt(NamedTuple):
    """Bags with what turns them into intervals; none where there was too little to learn from."""

    bags: list[lightgbm.Booster]
    calibration: UpliftCalibration | None
    metrics: dict[str, float]
    note: str  # the same for a person


def learn(
    data: Slates,
    plan: Plan,
    described: Floats,
    names: Sequence[str],
    codes: Sequence[int],
    target: UpliftTarget,
    progress: Progress,
) -> Learnt:
    """Train the bags on all but the newest slates, and judge them by those.

    Args:
        data: Slates.
        plan: Compiled definitions.
        described: [actions, action features].
        names: Of the actions.
        codes: Of the actions.
        target: How to learn, and from how much at least.
        progress: Told bags done, and of how many.
    """
    late = float(np.quantile(data.moments, 1 - _TEST)) if len(data.moments) else 0.0
    span = duration.milliseconds(target.within)
    train = data.where(data.moments + span <= late)  # no outcome of theirs lies in the test part
    test = data.where(data.moments > late)
    metrics = {
        "slates": float(len(train.rewards)),
        "held_back": float(train.held_back.sum()),
        "test_slates": float(len(test.rewards)),
        "clip": target.clip,
    }
    if metrics["held_back"] < target.held_back or not len(train.action):
        progress(target.bags, target.bags)
        return Learnt([], None, metrics, _too_few(int(metrics["held_back"]), target))
    learner = _Learner(train, plan, described, target)
    bags, effects, means = [], [], []
    for number in range(target.bags):  # one after another: LightGBM crashed with two threads
        booster, effect, mean = learner.bag(number)
        bags.append(booster)
        effects.append(effect)
        means.append(mean)
        progress(len(bags), target.bags)
    calibration = UpliftCalibration(
        effects=[dict(zip(names, one[:-1].tolist(), strict=True)) for one in effects],
        others=[float(one[-1]) for one in effects],
        # A half-sample differs from the other half as two whole samples do; the mean over the bags
        # has, on top of the error of a whole sample, that of drawing a few halves.
        spread=calibrate.student((1 + target.confidence) / 2, target.bags - 1)
        * float(np.sqrt(1 + 1 / target.bags)),
    )
    metrics |= learner.metrics() | _judged(test, learner, bags, effects, codes)
    metrics["trees"] = float(sum(bag.num_trees() for bag in bags))
    told = _told(np.array(means), names, metrics, calibration.spread, target.confidence)
    return Learnt(bags, calibration, metrics, told)


class _Learner:
    """Everything that the bags have in common."""

    def __init__(self, data: Slates, plan: Plan, described: Floats, target: UpliftTarget) -> None:
        self._data, self._plan, self._described = data, plan, described
        self._columns = np.append(plan.columns("acceptance"), len(plan.names))
        self._width = len(plan.names)
        self._categories = _categories(plan, self._columns)
        known = [i for i in self._columns if i < len(plan.customer_features)]
        self._known = np.array(known, np.int64)
        self._target = target
        count = len(data.rewards)
        self._counts = np.zeros((count, len(described)))
        np.add.at(self._counts, (data.slate, data.action), 1.0)
        self._design = np.column_stack([np.ones(count), self._counts.sum(axis=1), self._counts])
        self._weights = 1 / data.probability
        whole, self._customer = np.unique(np.array(data.who), return_inverse=True)
        self._customers = len(whole)
        self._held = np.flatnonzero(data.held_back)
        slots = self.rows(data.customers[data.slate], data.action, data.pairs)
        self._nothing = self.without(data.customers)
        self._rows = np.vstack([slots, self._nothing[self._held]])
        self._slates = np.concatenate([data.slate, self._held])
        chances = np.concatenate([data.chance, data.probability[self._held]])
        self._clipped = 1 / chances > target.clip
        self._slot_weights = np.minimum(1 / chances, target.clip)
        self._left, effects = self._centred()
        others = self._counts[data.slate] @ effects - effects[data.action]
        goals = self._left[self._slates]
        goals[: len(others)] -= others
        self._parameters = {**_TREES, **target.learning.parameters}
        self._set = lightgbm.Dataset(
            self._rows,
            goals,
            weight=self._slot_weights / self._slot_weights.mean(),
            feature_name=[f"f{i}" for i in range(self._rows.shape[1])],
            categorical_feature=self._categories,
            params=self._parameters,
            free_raw_data=False,
        ).construct()

    def rows(self, customers: Floats, action: Integers, pairs: Floats) -> Floats:
        """Rows of presenting actions, as the trees see them."""
        return presented(np.hstack([customers, self._described[action], pairs]))[:, self._columns]

    def without(self, customers: Floats) -> Floats:
        """Rows of presenting nothing."""
        return nothing(customers, self._width)[:, self._columns]

    def _centred(self) -> tuple[Floats, Floats]:
        """Reward of each slate less what the customer explains, and the mean effect by action."""
        data = self._data
        every = np.ones(len(data.rewards), bool)
        effects = self._ridge(data.rewards, every)[:-1]
        halves = np.random.default_rng(0).permutation(self._customers)[self._customer] % 2
        usual = np.zeros(len(data.rewards))
        for _ in range(2):
            plain = data.rewards - self._counts @ effects
            self._centres = [self._centre(plain, halves != half) for half in (0, 1)]
            for half, centre in enumerate(self._centres):
                here = halves == half
                usual[here] = centre.predict(data.customers[here][:, self._known])
            effects = self._ridge(data.rewards - usual, every)[:-1]
        return data.rewards - usual, effects

    def _centre(self, plain: Floats, chosen: Mask) -> lightgbm.Booster:
        return lightgbm.train(
            _CENTRE,
            lightgbm.Dataset(self._data.customers[chosen][:, self._known], plain[chosen]),
            _CENTRE_ROUNDS,
        )

    def unseen(self, codes: Sequence[int]) -> Floats:
        """Pair features of actions that were never presented: [actions, pair features]."""
        return self._plan.pairs(EMPTY, 0, rows_of(codes), len(codes))

    def usual(self, customers: Floats) -> Floats:
        """What the customer's features say of the reward, whatever is presented."""
        said = [centre.predict(customers[:, self._known]) for centre in self._centres]
        return np.asarray(np.mean(said, axis=0))

    def _ridge(self, goals: Floats, chosen: Mask) -> Floats:
        """Mean effect of each action on goals by slate, and last that of an action not drawn.

        Actions have an effect in common, which is free, and differences, which are shrunk.
        """
        design = self._design[chosen]
        weighted = design * self._weights[chosen][:, None]
        penalty = np.full(design.shape[1], _SHRUNK * float(chosen.mean()))
        penalty[:2] = 1e-9
        fitted = np.linalg.solve(design.T @ weighted + np.diag(penalty), weighted.T @ goals[chosen])
        return np.append(fitted[1] + fitted[2:], fitted[1])

    def bag(self, number: int) -> tuple[lightgbm.Booster, Floats, Floats]:
        """Train on half of the customers.

        Returns:
            The trees; what they leave out of each action, and last of one not drawn; and the mean
            uplift of each action where it was drawn, NaN of those that never were.
        """
        data = self._data
        rng = np.random.default_rng([1, number])
        seen = (rng.permutation(self._customers) < self._customers // 2)[self._customer]
        rows = np.flatnonzero(seen[self._slates])
        booster = lightgbm.train(
            self._parameters, self._set.subset(rows.tolist()), self._target.learning.rounds
        )
        base = np.asarray(booster.predict(self._nothing))
        slots = np.asarray(booster.predict(self._rows[: len(data.slate)]))
        lifts = slots - base[data.slate]
        said = base + np.bincount(data.slate, lifts, len(base))
        effects = self._ridge(self._left - said, ~seen)
        weights = self._slot_weights[: len(lifts)]
        drawn = np.bincount(data.action, weights, len(self._described))
        whole = np.bincount(data.action, weights * lifts, len(self._described))
        with np.errstate(invalid="ignore"):
            return booster, effects, whole / np.where(drawn > 0, drawn, np.nan) + effects[:-1]

    def metrics(self) -> dict[str, float]:
        """How much the weights leave of the rows."""
        weights = self._slot_weights[: len(self._data.slate)]
        return {
            "slots": float(len(weights)),
            "clipped": float(self._clipped.mean()),
            "effective_slots": float(weights.sum() ** 2 / (weights**2).sum()),
        }


def _judged(
    test: Slates,
    learner: _Learner,
    bags: Sequence[lightgbm.Booster],
    effects: Sequence[Floats],
    codes: Sequence[int],
) -> dict[str, float]:
    """What showing is worth in the test part, and whether the model knows when it is worth more.

    Both arms are scored alike: by the mean uplift of the actions that their placement shows most.
    """
    shown = np.flatnonzero(~test.held_back)
    some = np.random.default_rng(2).permutation(shown)[:_TEST_SHOWN]
    chosen = np.sort(np.concatenate([np.flatnonzero(test.held_back), some]))
    treated = ~test.held_back[chosen]
    if not treated.any() or treated.all():
        return {}
    weights = 1 / test.probability[chosen]
    weights[treated] *= len(shown) / len(some)
    rewards = (test.rewards - learner.usual(test.customers))[chosen]
    scores = np.zeros(len(chosen))
    places = np.array(test.placements)
    for place in np.unique(places):
        here = places[chosen] == place
        drawn = np.bincount(test.action[places[test.slate] == place], minlength=len(codes))
        usual = [row for row in np.argsort(-drawn, kind="stable")[:_TEST_ACTIONS] if drawn[row]]
        scores[here] = _mean_lift(
            learner, bags, effects, test.customers[chosen[here]], usual, drawn[usual], codes
        )
    worth = [np.average(rewards[arm], weights=weights[arm]) for arm in (treated, ~treated)]
    return {
        "of_showing": float(worth[0] - worth[1]),
        "qini": evaluate.qini(scores, rewards, treated, weights),
    }


def _mean_lift(
    learner: _Learner,
    bags: Sequence[lightgbm.Booster],
    effects: Sequence[Floats],
    customers: Floats,
    actions: Sequence[int],
    shares: Integers,
    codes: Sequence[int],
) -> Floats:
    """Mean uplift of some actions, as if none of them had ever been presented to the customer."""
    lifts = np.zeros(len(customers))
    pairs = learner.unseen([codes[row] for row in actions])
    without = learner.without(customers)
    for row, pair, share in zip(actions, pairs, shares / max(1, shares.sum()), strict=True):
        told = learner.rows(
            customers, np.full(len(customers), row), np.tile(pair, (len(customers), 1))
        )
        for bag, effect in zip(bags, effects, strict=True):
            lift = bag.predict(told) + effect[row]
            lifts += share / len(bags) * lift
    for bag in bags:
        lifts -= np.asarray(bag.predict(without)) / len(bags)
    return lifts


def _categories(plan: Plan, columns: Integers) -> list[int]:
    """Places, among the columns, of those that are codes without an order."""
    named = set(plan.categorical())
    return [
        place
        for place, column in enumerate(columns)
        if column < len(plan.names) and plan.names[column] in named
    ]


def _too_few(held_back: int, target: UpliftTarget) -> str:
    return (
        f"Uplift: not enough data. {held_back} slates were held back, {target.held_back} are "
        "needed, so there is no uplift model; wait, or raise exploration.hold_back in "
        "placements.yaml"
    )


def _told(
    means: Floats,
    names: Sequence[str],
    metrics: dict[str, float],
    spread: float,
    confidence: float,
) -> str:
    """What was learnt, for a person: which actions help and which harm, beyond doubt."""
    mean, reach = means.mean(axis=0), spread * means.std(axis=0, ddof=1)
    helps = [i for i in np.argsort(-mean) if mean[i] - reach[i] > 0]
    harms = [i for i in np.argsort(mean) if mean[i] + reach[i] < 0]
    named = ", ".join(
        f"{names[i]} {mean[i]:+.1f} [{mean[i] - reach[i]:.1f}, {mean[i] + reach[i]:.1f}]"
        for i in [*helps[:2], *harms[:2]]
    )
    return (
        f"Uplift: learnt from {metrics['slates']:,.0f} slates, {metrics['held_back']:,.0f} of them "
        f"held back. With {confidence:.0%} confidence {len(helps)} actions help and {len(harms)} "
        f"harm" + (f", such as {named}" if named else "")
    )
