"""Models that score: verified, warmed, and swapped as one immutable reference.

A bundle is loaded beside the one that serves; only when it has reproduced its golden cases does it
take over, and one that is refused changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import lightgbm
import msgspec
import numpy as np

from features import journey
from features import profile as profiles
from features.definitions import Definitions, felt
from features.elementary import Floats, sigmoid, softmax
from features.kernels import Integers
from features.plan import Context, Plan, rows_of
from features.record import Records, decode
from features.vocabulary import Vocabulary
from service import bundle as bundles
from service import heap
from service.bundle import Bundle, Calibration, Golden
from service.business import Business
from service.errors import BundleRefused
from service.policies import described

_TOLERANCE: Final = 1e-12


class Models:
    """The models of one bundle, ready to score one configuration's actions.

    Args:
        bundle: Checked files.
        business: Whose actions it will score.

    Raises:
        BundleRefused: It was built on other definitions or another kernel, breaks the vocabulary,
            or does not reproduce its golden cases.
    """

    def __init__(self, bundle: Bundle, business: Business) -> None:
        self.manifest = bundle.manifest
        self.checksum = bundle.checksum
        try:
            self._vocabulary = msgspec.json.decode(
                bundle.files[bundles.VOCABULARY], type=Vocabulary
            )
            definitions = msgspec.json.decode(bundle.files[bundles.DEFINITIONS], type=Definitions)
            self._calibration = msgspec.json.decode(
                bundle.files[bundles.CALIBRATION], type=Calibration
            )
            golden = msgspec.msgpack.decode(bundle.files[bundles.GOLDEN], type=list[Golden])
            self._bags = [
                lightgbm.Booster(model_str=bag)
                for bag in bundles.bags(bundle.files.get(bundles.UPLIFT, b""))
                if bag
            ]
            self.plan = Plan(definitions, self._vocabulary)
            self._intent = _booster(bundle, bundles.INTENT)
            self._acceptance = _booster(bundle, bundles.ACCEPTANCE)
        except (KeyError, ValueError, msgspec.DecodeError, lightgbm.basic.LightGBMError) as error:
            raise BundleRefused(
                f"bundle {self.manifest.version} cannot be loaded: {error}"
            ) from error
        calibrated = self._calibration.uplift
        if len(self._bags) != (0 if calibrated is None else len(calibrated.effects)):
            raise BundleRefused(
                f"bundle {self.manifest.version} cannot be loaded: {bundles.UPLIFT} holds "
                f"{len(self._bags)} bags and {bundles.CALIBRATION} speaks of others; train it again"
            )
        if self.plan.digest != self.manifest.feature_digest:
            raise BundleRefused(
                f"bundle {self.manifest.version} was built on other definitions: its feature "
                f"digest is {self.manifest.feature_digest}, this server computes "
                f"{self.plan.digest}; train it with this version of Rapport"
            )
        broken = self._vocabulary.breaks(business.vocabulary)
        if broken:
            raise BundleRefused(
                f"bundle {self.manifest.version} knows another vocabulary: {broken[0]}"
            )
        self._actions = self.plan.actions(described(business))
        codes = [business.vocabulary.actions[action.name] for action in business.actions]
        self.row_of_action: Integers = rows_of(codes)
        self.names = [action.name for action in business.actions]
        self.evidence = self._evidence()
        self._effects = self._effects_of(self.names)
        customers, actions = len(self.plan.customer_features), len(self.plan.action_features)
        self._intent_columns = self.plan.columns("intent")
        self._acceptance_columns = self.plan.columns("acceptance")
        self._uplift_columns = np.append(self._acceptance_columns, len(self.plan.names))
        self._action_at, self._pair_at = customers, customers + actions
        self._rows = np.empty((len(codes), len(self.plan.names)))
        self._rows[:, customers : self._pair_at] = self._actions
        self._queueing = np.array(
            [row for row, action in enumerate(business.actions) if action.queue_priority], np.int64
        )
        self._felt = feelings(self.plan)
        for number, case in enumerate(golden):
            try:
                self._reproduce(number, case)
            except (ValueError, msgspec.DecodeError, lightgbm.basic.LightGBMError) as error:
                raise BundleRefused(
                    f"bundle {self.manifest.version} cannot compute golden case {number}: {error}"
                ) from error

    def parts(self) -> list[tuple[str, object]]:
        """What they are made of, for another process; see :meth:`of_parts`.

        Whatever is an array is mapped there, and not read.
        """
        return list(vars(self).items())

    @classmethod
    def of_parts(cls, parts: Iterable[tuple[str, object]]) -> Models:
        """Put together what another process has verified, for as long as it may serve."""
        models = cls.__new__(cls)
        with heap.staying():
            for name, part in parts:
                setattr(models, name, part)
        return models

    @property
    def scores_intents(self) -> bool:
        """Whether there is an intent model."""
        return self._intent is not None

    @property
    def scores_acceptance(self) -> bool:
        """Whether there is an acceptance model."""
        return self._acceptance is not None

    @property
    def scores_uplift(self) -> bool:
        """Whether there is an uplift model."""
        return bool(self._bags)

    def _evidence(self) -> Floats | None:
        """Presentations [actions] that the acceptance model has learnt from; None: not known."""
        calibration = self._calibration.acceptance
        if calibration is None or calibration.evidence is None:
            return None
        return np.array([calibration.evidence.get(name, 0.0) for name in self.names], np.float64)

    def _effects_of(self, names: Sequence[str]) -> Floats:
        """What the trees of each bag left out of some actions: [bags, actions]."""
        calibration = self._calibration.uplift
        if calibration is None:
            return np.empty((0, len(names)))
        return np.array(
            [
                [effects.get(name, other) for name in names]
                for effects, other in zip(calibration.effects, calibration.others, strict=True)
            ],
            np.float64,
        ).reshape(-1, len(names))

    def customer(
        self,
        records: Records,
        profile: profiles.Profile,
        context: Context,
        now: int,
        facts: journey.Journey | None = None,
    ) -> Floats:
        """The features of the customer; see :meth:`features.plan.Plan.customer`."""
        return self.plan.customer(records, profile, context, now, facts)

    def intents(self, vector: Floats) -> Floats:
        """Probability of each class of the intent model, from the customer's features."""
        calibration = self._calibration.intent
        if self._intent is None or calibration is None:
            return np.empty(0)
        row = vector[self._intent_columns].reshape(1, -1)
        scores = self._intent.predict(row, raw_score=True, num_threads=1)
        return softmax(np.asarray(scores, np.float64).reshape(-1) / calibration.temperature)

    def named(self, probabilities: Floats) -> list[tuple[str, float]]:
        """Intents with their probabilities, most likely first."""
        calibration = self._calibration.intent
        if calibration is None:
            return []
        names = self._vocabulary.names[calibration.field]
        pairs = zip(calibration.classes, probabilities.tolist(), strict=True)
        ranked = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
        return [(names[code], probability) for code, probability in ranked]

    def rows(self, vector: Floats, records: Records, now: int) -> Floats:
        """Everything the acceptance model may see of each action: [actions, names of the plan].

        How the customer feels is absent for actions that move somebody ahead in a queue. The array
        is overwritten by the next call.
        """
        self._rows[:, : len(vector)] = vector
        if self._pair_at < self._rows.shape[1]:
            self._rows[:, self._pair_at :] = self.plan.pairs(
                records, now, self.row_of_action, len(self._rows)
            )
        if len(self._queueing) and len(self._felt):
            self._rows[np.ix_(self._queueing, self._felt)] = np.nan
        return self._rows

    def acceptance(self, rows: Floats) -> Floats:
        """Acceptance probability of each row of :meth:`rows`."""
        calibration = self._calibration.acceptance
        if self._acceptance is None or calibration is None:
            return np.empty(0)
        scores = self._acceptance.predict(
            np.ascontiguousarray(rows[:, self._acceptance_columns]), raw_score=True, num_threads=1
        )
        return sigmoid(np.asarray(scores) * calibration.slope + calibration.offset)

    def uplift(self, rows: Floats) -> Floats | None:
        """Reward if presented less reward if nothing is, in the business's currency.

        Args:
            rows: From :meth:`rows`: one for each action, of one customer.

        Returns:
            [actions, 3]: mean, and the low and high end of its interval. None: no uplift model.
        """
        return self._lifted(rows, self._effects)

    def _lifted(self, rows: Floats, effects: Floats) -> Floats | None:
        calibration = self._calibration.uplift
        if calibration is None or not self._bags:
            return None
        without = nothing(rows[:1, : self._action_at], len(self.plan.names))
        told = np.vstack([presented(rows), without])[:, self._uplift_columns]
        scores = np.array(
            [bag.predict(told, raw_score=True, num_threads=1) for bag in self._bags], np.float64
        )
        lifts = scores[:, :-1] - scores[:, -1:] + effects
        mean, reach = lifts.mean(axis=0), calibration.spread * lifts.std(axis=0, ddof=1)
        return np.column_stack([mean, mean - reach, mean + reach])

    def contributions(self, row: Floats) -> list[tuple[str, float, float]]:
        """What each feature added to a row's log-odds: name, value, contribution, largest first.

        The last one, ``base``, is what every row starts from; all add up to the row's log-odds.
        """
        calibration = self._calibration.acceptance
        if self._acceptance is None or calibration is None:
            return []
        seen = row[self._acceptance_columns]
        parts = self._acceptance.predict(seen.reshape(1, -1), pred_contrib=True, num_threads=1)[0]
        names = [self.plan.names[i] for i in self._acceptance_columns]
        told = zip(names, seen.tolist(), (parts[:-1] * calibration.slope).tolist(), strict=True)
        base = float(parts[-1]) * calibration.slope + calibration.offset
        return [*sorted(told, key=lambda one: -abs(one[2])), ("base", float("nan"), base)]

    def _reproduce(self, number: int, case: Golden) -> None:
        """Compute a golden case and compare; this warms the kernels too."""
        _, records = decode(case.timeline)
        profile = msgspec.msgpack.decode(case.profile, type=profiles.Profile)
        vector = self.plan.customer(
            records, profile, Context(case.channel, case.direction), case.now
        )
        self.rows(vector, records, case.now)
        found = [("vector", vector, case.vector, 0.0)]
        if self._intent is not None:
            found.append(("intents", self.intents(vector), case.intents, _TOLERANCE))
        if self._acceptance is not None and case.row:
            row = np.frombuffer(case.row).reshape(1, -1)
            found.append(("acceptance", self.acceptance(row), case.acceptance, _TOLERANCE))
        if self._bags and case.row:
            row = np.frombuffer(case.row).reshape(1, -1)
            lifted = self._lifted(row, self._effects_of([case.action]))
            assert lifted is not None  # noqa: S101  the bags are there
            found.append(("uplift", lifted.reshape(-1), case.uplift, _TOLERANCE))
        for what, ours, written, tolerance in found:
            theirs = np.frombuffer(written)
            same = (
                ours.tobytes() == written
                if tolerance == 0.0
                else ours.shape == theirs.shape and np.allclose(ours, theirs, tolerance, tolerance)
            )
            if not same:
                raise BundleRefused(
                    f"bundle {self.manifest.version} does not give its own answers here: "
                    f"{what} of golden case {number} differs; train it with this version"
                )


def presented(rows: Floats) -> Floats:
    """Rows [actions, names of the plan] as the uplift model sees them: with a column of 1 more."""
    return np.column_stack([rows, np.ones(len(rows))])


def nothing(customers: Floats, names: int) -> Floats:
    """Rows of presenting nothing: no feature of an action or of a pair, and 0 in the added column.

    Args:
        customers: [rows, customer features].
        names: Number of names of the plan, of which the customer's come first.
    """
    rows = np.full((len(customers), names + 1), np.nan)
    rows[:, : customers.shape[1]] = customers
    rows[:, -1] = 0.0
    return rows


def feelings(plan: Plan) -> Integers:
    """Columns that say how the customer feels: absent for actions that move somebody ahead."""
    names = {feature.name for feature in plan.definitions.features if felt(feature)}
    return np.array([i for i, name in enumerate(plan.names) if name in names], np.int64)


def _booster(bundle: Bundle, name: str) -> Any:
    text = bundle.files.get(name)
    return None if text is None else lightgbm.Booster(model_str=text.decode())


def goldens(
    models: Models, cases: Sequence[tuple[bytes, profiles.Profile, Context, int]]
) -> list[Golden]:
    """Write golden cases for the models of an unpublished bundle."""
    written = []
    for stored, profile, context, now in cases:
        _, records = decode(stored)
        vector = models.customer(records, profile, context, now)
        row = models.rows(vector, records, now)[:1].copy()
        scored = models.scores_acceptance
        lifted = models.uplift(models.rows(vector, records, now))
        written.append(
            Golden(
                stored,
                profiles.encode(profile),
                context.channel,
                context.direction,
                now,
                vector.tobytes(),
                models.intents(vector).tobytes(),
                row.tobytes() if scored or lifted is not None else b"",
                models.acceptance(row).tobytes() if scored else b"",
                models.names[0] if scored or lifted is not None else "",
                b"" if lifted is None else lifted[0].tobytes(),
            )
        )
    return written
