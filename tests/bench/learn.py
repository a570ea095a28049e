"""The models of the reference work: truly trained, and published as any others.

Labels are made up, from thresholds on customer, action and pair features together, so that the
trees split on all three. Trained trees are kept under ``build/bench/trees`` by a digest of all that
goes into them; a bundle is sealed anew by the product's own code every time.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import lightgbm
import msgspec
import numpy as np

from features.elementary import Floats
from features.kernels import Integers
from features.plan import Context, Plan, rows_of
from service.bundle import AcceptanceCalibration, Bundle, IntentCalibration
from service.business import Business
from service.usual import described
from tests.bench import people as peoples
from tests.bench import reference
from tests.bench.people import People
from tests.bench.processes import WORK
from training import publish
from training.replay import History
from training.train import COMMON, Trained

TREES: Final = 300
INTENT_TREES: Final = 60
LEAVES: Final = 31
_MOMENTS: Final = 5_000  # customers whose rows are learnt from
_ACTIONS_EACH: Final = 6
_THEN: Final = 1_790_000_000_000  # milliseconds: training is the same whenever it is done
EVIDENCE: Final = 200.0  # presentations that the model claims to know of each action

_ACCEPTANCE: Final[dict[str, Any]] = {
    **COMMON,
    "objective": "binary",
    "learning_rate": 0.06,
    "num_leaves": LEAVES,
    "min_data_in_leaf": 20,
}
_INTENT: Final[dict[str, Any]] = {
    **COMMON,
    "objective": "multiclass",
    "num_class": reference.INTENTS,
    "learning_rate": 0.1,
    "num_leaves": LEAVES,
    "min_data_in_leaf": 5,
    "min_sum_hessian_in_leaf": 1e-3,
}

Show = Callable[[str, int, int], None]


class Kind(NamedTuple):
    """Which models."""

    trees: int = TREES
    seed: int = 1  # another one gives other trees of the same shape
    intent_trees: int = INTENT_TREES  # of each intent


DEFAULT: Final = Kind()


def bundle(business: Business, show: Show, kind: Kind = DEFAULT) -> Bundle:
    """Models for a reference business, trained if that was not done before.

    Args:
        business: From :func:`tests.bench.reference.business`.
        show: Told stage, rounds done, and of how many.
        kind: How many trees, and which.
    """
    learning = _Learning(business, show)
    acceptance = learning.acceptance(kind)
    intent = learning.intent(kind)
    people = learning.people
    histories = [
        History(people.ids[i], people.timelines[i], []) for i in range(0, len(people.ids), 400)
    ]
    codes = sorted(business.vocabulary.intent_codes.values())
    evidence = dict.fromkeys(business.vocabulary.actions, EVIDENCE)
    return publish.build(
        learning.plan,
        business,
        intent=Trained(intent, IntentCalibration("intents", codes, 1.0), {}),
        acceptance=Trained(acceptance, AcceptanceCalibration(1.0, 0.0, evidence), {}),
        cases=publish.golden_cases(histories, business.vocabulary),
        built_at=_THEN + 1_000 * kind.trees + 60_000 * kind.seed,
        lineage={"made by": "tests.bench.learn"},
    )


def save(bundle: Bundle, name: str) -> Path:
    """Write a bundle where servers of the bench find it."""
    return publish.save(bundle, WORK / "bundles" / name)


class _Learning:
    """The rows to learn from, made when something has to be learnt."""

    def __init__(self, business: Business, show: Show) -> None:
        self.business, self._show = business, show
        self.plan = Plan(business.definitions, business.vocabulary)
        self.people = People(business, _THEN, _MOMENTS, seed=77)
        self._learnt_from: tuple[Floats, Floats, Integers] | None = None

    def acceptance(self, kind: Kind) -> lightgbm.Booster:
        """Trees over customer, action and pair features."""
        parameters = {**_ACCEPTANCE, "seed": kind.seed}

        def learn() -> lightgbm.Booster:
            _, rows, accepted = self._rows()
            name = f"train {kind.trees} trees, {len(self.business.actions):,} actions"
            columns = self.plan.columns("acceptance")
            return self._train(name, rows[:, columns], accepted, columns, parameters, kind.trees)

        return self._kept((parameters, kind.trees), learn)

    def intent(self, kind: Kind) -> lightgbm.Booster:
        """Trees of all intents over customer features."""

        def learn() -> lightgbm.Booster:
            vectors, _, _ = self._rows()
            columns = self.plan.columns("intent")
            rows = vectors[:, columns]
            chance = np.random.default_rng(4)
            scores = np.column_stack([_stumps(rows, chance, 12) for _ in range(reference.INTENTS)])
            labels = (scores + chance.gumbel(size=scores.shape)).argmax(axis=1)
            name = f"train {reference.INTENTS} x {kind.intent_trees} trees"
            return self._train(name, rows, labels, columns, _INTENT, kind.intent_trees)

        return self._kept((_INTENT, kind.intent_trees), learn, of_actions=False)

    def _rows(self) -> tuple[Floats, Floats, Integers]:
        """Vectors of customers, rows of customer x action, and whether these were accepted."""
        if self._learnt_from is not None:
            return self._learnt_from
        plan, business, people = self.plan, self.business, self.people
        chance = np.random.default_rng(3)
        codes = list(business.vocabulary.actions.values())
        of_actions = plan.actions(described(business))
        row_of = rows_of(codes)
        vectors, rows = [], []
        channels = np.array(list(business.vocabulary.channels.values()))
        for i in range(len(people.ids)):
            records = people.timelines[i]
            context = Context(int(chance.choice(channels)), 1)
            vector = plan.customer(records, people.profile(i), context, people.now)
            pairs = plan.pairs(records, people.now, row_of, len(codes))
            told = np.flatnonzero(pairs[:, 0] > 0)  # of those that were shown, and of any
            some = [*chance.permutation(told)[: _ACTIONS_EACH // 2]]
            some += [*chance.integers(0, len(codes), _ACTIONS_EACH - len(some))]
            vectors.append(vector)
            rows += [np.concatenate([vector, of_actions[a], pairs[a]]) for a in some]
            if i % 250 == 249:
                self._show("rows to learn from", i + 1, len(people.ids))
        table = np.array(rows)
        # Every action, and everybody with some actions, differs: the trees have to see both.
        tastes = _stumps(table, chance, 120) + 2.0 * _stumps(table[:, -10:], chance, 60)
        odds = (tastes - tastes.mean()) / tastes.std() - 1.0
        accepted = (chance.random(len(table)) < 1 / (1 + np.exp(-odds))).astype(np.int64)
        self._learnt_from = np.array(vectors), table, accepted
        return self._learnt_from

    def _train(
        self,
        name: str,
        rows: Floats,
        labels: Integers,
        columns: Integers,
        parameters: dict[str, Any],
        rounds: int,
    ) -> lightgbm.Booster:
        categories = set(self.plan.categorical())
        names = [self.plan.names[i] for i in columns]
        data = lightgbm.Dataset(
            rows,
            labels,
            feature_name=[f"f{i}" for i in range(len(names))],
            categorical_feature=[i for i, one in enumerate(names) if one in categories],
            params=parameters,
        )
        return lightgbm.train(
            parameters,
            data,
            num_boost_round=rounds,
            callbacks=[lambda state: self._show(name, state.iteration + 1, rounds)],
        )

    def _kept(
        self,
        parts: tuple[Any, ...],
        learn: Callable[[], lightgbm.Booster],
        *,
        of_actions: bool = True,
    ) -> lightgbm.Booster:
        """Trees that were trained before from the same, or those that are trained now."""
        sources = [inspect.getsource(one) for one in (reference, peoples, _Learning, _stumps)]
        catalogue = len(self.business.actions) if of_actions else 0
        written = msgspec.json.encode(
            [*sources, self.plan.digest, repr(parts), catalogue, lightgbm.__version__]
        )
        name = hashlib.blake2b(written, digest_size=8).hexdigest()
        at = WORK / "trees" / f"{name}.txt"
        if not at.exists():
            at.parent.mkdir(parents=True, exist_ok=True)
            trained = learn()
            at.with_suffix(".half").write_text(trained.model_to_string())
            at.with_suffix(".half").replace(at)
        return lightgbm.Booster(model_str=at.read_text())


def _stumps(rows: Floats, chance: np.random.Generator, count: int) -> Floats:
    """A sum of steps at thresholds that the data has, each perhaps of two features together."""
    total = np.zeros(len(rows))
    for _ in range(count):
        above = np.ones(len(rows), bool)
        for column in chance.integers(0, rows.shape[1], int(chance.integers(1, 3))):
            known = rows[~np.isnan(rows[:, column]), column]
            if len(known):
                above &= rows[:, column] > chance.choice(known)
        total += chance.normal() * above
    return total
