"""Models that score: verified, warmed, and swapped as one immutable reference.

A bundle is loaded beside the one that serves; only when it has reproduced its golden cases does it
take over, and one that is refused changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from operator import itemgetter
from typing import Any, Final, NamedTuple

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
from service import forest, heap
from service.bundle import Bundle, Calibration, Golden
from service.business import Business
from service.errors import BundleRefused
from service.sight import Compiled, Layout, Seen, Seer, Sight
from service.usual import described

_TOLERANCE: Final = 1e-12
_PROBABILITY: Final = itemgetter(1)


class Usual(NamedTuple):
    """What the models see of actions, whoever the customer is; see :meth:`Models.row`."""

    rows: Floats  # [actions, names of the plan], the customer's columns come first
    features: int  # of the customer
    pair_at: int  # column of the first feature of customer and action
    hiding: Integers  # [actions] 1: it is not seen how the customer feels
    felt: Integers  # columns that say so


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
            bags = [bag for bag in bundles.bags(bundle.files.get(bundles.UPLIFT, b"")) if bag]
            self.plan = Plan(definitions, self._vocabulary)
            self._written = bundle.files.get(bundles.ACCEPTANCE)
            self._booster: Any = None
            self._seer: Seer | None = None
            names, of_intent = len(self.plan.names), self.plan.columns("intent")
            of_action = self._acceptance_columns = self.plan.columns("acceptance")
            self._intent = self._trees(
                [bundle.files.get(bundles.INTENT)], of_intent, len(self.plan.customer_features)
            )
            self._acceptance = self._trees([self._written], of_action, names)
            self._bags = self._trees(
                [bag.encode() for bag in bags], np.append(of_action, names), names + 1
            )
        except (KeyError, ValueError, msgspec.DecodeError) as error:
            raise BundleRefused(
                f"bundle {self.manifest.version} cannot be loaded: {error}"
            ) from error
        calibrated = self._calibration.uplift
        if len(bags) != (0 if calibrated is None else len(calibrated.effects)):
            raise BundleRefused(
                f"bundle {self.manifest.version} cannot be loaded: {bundles.UPLIFT} holds "
                f"{len(bags)} bags and {bundles.CALIBRATION} speaks of others; train it again"
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
        self._action_at, self._pair_at = customers, customers + actions
        self._rows = np.empty((len(codes), len(self.plan.names)))
        self._rows[:, :customers] = np.nan
        self._rows[:, customers : self._pair_at] = self._actions
        self._rows[:, self._pair_at :] = self.plan.pair_defaults
        self._hiding = frozenset(
            row for row, action in enumerate(business.actions) if action.queue_priority
        )
        self._felt = feelings(self.plan)
        self._compile()
        for number, case in enumerate(golden):
            try:
                self._reproduce(number, case)
            except (ValueError, msgspec.DecodeError) as error:
                raise BundleRefused(
                    f"bundle {self.manifest.version} cannot compute golden case {number}: {error}"
                ) from error

    def _trees(
        self, texts: Sequence[bytes | None], columns: Integers, width: int
    ) -> forest.Trees | None:
        """Read models over some columns of rows of this width, to be scored together."""
        found = [forest.parse(one.decode(), columns, width) for one in texts if one is not None]
        return forest.together(found) if found else None

    def _compile(self) -> None:
        """Make forests of the trees, for this catalogue."""
        names = len(self.plan.names)
        kinds = np.full(names, forest.PAIR, np.int64)
        kinds[: self._pair_at] = forest.ACTION
        kinds[: self._action_at] = forest.CUSTOMER
        usual = self._rows
        queueing = np.array([row in self._hiding for row in range(len(usual))], np.bool_)
        self._intent_forest: forest.Forest | None = None
        self._acceptance_forest: forest.Forest | None = None
        self._uplift_forest: forest.Forest | None = None
        if self._intent is not None:
            of_customer = kinds[: self._action_at]
            block = forest.compile(self._intent, usual[:1, : self._action_at], of_customer)
            self._intent_forest = forest.Forest(block)
        if self._acceptance is not None:
            block = forest.compile(self._acceptance, usual, kinds, queueing, self._felt)
            self._acceptance_forest = forest.Forest(block)
        if self._bags is not None:
            told = np.vstack([presented(usual), nothing(usual[:1, : self._action_at], names)])
            block = forest.compile(
                self._bags,
                told,
                np.append(kinds, forest.ACTION),
                np.append(queueing, False),
                self._felt,
            )
            self._uplift_forest = forest.Forest(block)

    def parts(self) -> list[tuple[str, object]]:
        """What they are made of, for another process; see :meth:`of_parts`.

        Whatever is an array is mapped there, and not read.
        """
        # Some is for contributions alone, and addresses mean nothing elsewhere.
        kept = {**vars(self), "_written": None, "_booster": None, "_seer": None}
        kept.pop("layout", None)
        return list(kept.items())

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
        return self._bags is not None

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
        if self._intent_forest is None or calibration is None:
            return np.empty(0)
        scores = self._intent_forest.score(vector)[0]
        probabilities: Floats = softmax(scores / calibration.temperature)
        return probabilities

    def named(self, probabilities: Floats) -> list[tuple[str, float]]:
        """Intents with their probabilities, most likely first."""
        calibration = self._calibration.intent
        if calibration is None:
            return []
        told = probabilities.tolist()
        pairs = [(name, told[place]) for place, name in self._classes]
        pairs.sort(key=_PROBABILITY, reverse=True)  # stable: equal ones stay in order of code
        return pairs

    @cached_property
    def _classes(self) -> list[tuple[int, str]]:
        """Places of the classes of the intent model, with their names, in order of code."""
        calibration = self._calibration.intent
        if calibration is None:
            return []
        names = self._vocabulary.names[calibration.field]
        ordered = sorted(enumerate(calibration.classes), key=itemgetter(1))
        return [(place, names[code]) for place, code in ordered]

    def look(
        self, records: Records, profile: profiles.Profile, context: Context, now: int
    ) -> Sight:
        """See a customer, and say what there is to say of intents and actions, in one step.

        It is what :meth:`customer`, :meth:`intents`, :meth:`seen` and :meth:`acceptance` give, to
        the bit.
        """
        if self._seer is None:
            self._seer = self._looking()
        return self._seer.see(records, self.plan.beside(profile, context, now), now)

    def _looking(self) -> Seer:
        intent, acceptance = self._calibration.intent, self._calibration.acceptance
        intents = self._intent_forest if intent is not None else None
        actions = self._acceptance_forest if acceptance is not None else None
        compiled = Compiled(
            self.plan.lens.words,
            self.plan.of_customer,
            self.plan.of_pair,
            self.row_of_action,
            (0, 0) if intents is None else intents.addresses,
            (0, 0) if actions is None else actions.addresses,
            1.0 if intent is None else intent.temperature,
            0.0 if acceptance is None else acceptance.slope,
            0.0 if acceptance is None else acceptance.offset,
        )
        return Seer(compiled, self.layout)

    @cached_property
    def layout(self) -> Layout:
        """Where what is seen and said stands; one object for all decisions with these models."""
        intent = self._calibration.intent
        names: list[str] = []
        order: list[int] = []
        if self._intent is not None and intent is not None:
            known = self._vocabulary.names[intent.field]
            names = [known[code] for code in intent.classes]
            order = [place for place, _ in self._classes]
        says = self._acceptance is not None and self._calibration.acceptance is not None
        rows = len(self._rows)
        places = {name: place for place, name in enumerate(names)}
        pairs = len(self.plan.pair_features)
        return Layout(names, places, order, self._action_at, rows if says else 0, rows, pairs)

    def seen(self, vector: Floats, records: Records, now: int) -> Seen:
        """What the models see of a customer, for :meth:`acceptance` and :meth:`uplift`."""
        touched = self.plan.touched(records, now, self.row_of_action, len(self._rows))
        return Seen(vector, *touched)

    @property
    def usual(self) -> Usual:
        """What :meth:`row` begins with."""
        hiding = np.array([row in self._hiding for row in range(len(self._rows))], np.int64)
        return Usual(self._rows, self._action_at, self._pair_at, hiding, self._felt)

    def row(self, seen: Seen, row: int) -> Floats:
        """All that the models see of one action: [names of the plan]."""
        told: Floats = self._rows[row].copy()
        told[: self._action_at] = seen.vector
        touched = seen.touched.tolist()
        if row in touched:
            told[self._pair_at :] = seen.pairs[touched.index(row)]
        if row in self._hiding:
            told[self._felt] = np.nan
        return told

    def acceptance(self, seen: Seen) -> Floats:
        """Acceptance probability of each action."""
        calibration = self._calibration.acceptance
        if self._acceptance_forest is None or calibration is None:
            return np.empty(0)
        scores = self._acceptance_forest.score(*seen)[:, 0]
        return sigmoid(scores * calibration.slope + calibration.offset)

    def acceptance_of(self, row: Floats) -> float:
        """Acceptance probability of any row [names of the plan], tree by tree."""
        calibration = self._calibration.acceptance
        if self._acceptance is None or calibration is None:
            return float("nan")
        scores = forest.row(self._acceptance, row)
        return float(sigmoid(scores * calibration.slope + calibration.offset)[0])

    def uplift(self, seen: Seen) -> Floats | None:
        """Reward if presented less reward if nothing is, in the business's currency.

        Returns:
            [actions, 3]: mean, and the low and high end of its interval. None: no uplift model.
        """
        if self._uplift_forest is None:
            return None
        return self._lifted(self._uplift_forest.score(*seen).T, self._effects)

    def uplift_of(self, row: Floats, action: str, vector: Floats) -> Floats | None:
        """Uplift [mean, low, high] of an action, tree by tree.

        Args:
            row: [names of the plan], any.
            action: Whose row it is.
            vector: [customer features], of presenting nothing.
        """
        if self._bags is None:
            return None
        without = nothing(vector[None], len(self.plan.names))
        scores = [forest.row(self._bags, one) for one in (presented(row[None])[0], without[0])]
        lifted = self._lifted(np.column_stack(scores), self._effects_of([action]))
        return None if lifted is None else lifted[0]

    def _lifted(self, scores: Floats, effects: Floats) -> Floats | None:
        """Uplift from scores [bags, rows + 1], the last of presenting nothing."""
        calibration = self._calibration.uplift
        if calibration is None:
            return None
        lifts = scores[:, :-1] - scores[:, -1:] + effects
        mean, reach = lifts.mean(axis=0), calibration.spread * lifts.std(axis=0, ddof=1)
        return np.column_stack([mean, mean - reach, mean + reach])

    def contributions(self, row: Floats) -> list[tuple[str, float, float]]:
        """What each feature added to a row's log-odds: name, value, contribution, largest first.

        The last one, ``base``, is what every row starts from; all add up to the row's log-odds.
        """
        calibration = self._calibration.acceptance
        if self._written is None or calibration is None:
            return []
        if self._booster is None:
            import lightgbm  # noqa: PLC0415  170 MB that no server needs: its workshop has it

            self._booster = lightgbm.Booster(model_str=self._written.decode())
        seen = row[self._acceptance_columns]
        parts = self._booster.predict(seen[None], pred_contrib=True, num_threads=1)[0]
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
        found = [("vector", vector, case.vector, 0.0)]
        found += self._alike(self.seen(vector, records, case.now))
        if self._intent is not None:
            found.append(("intents", self.intents(vector), case.intents, _TOLERANCE))
        if self._acceptance is not None and case.row:
            chance = np.array([self.acceptance_of(np.frombuffer(case.row))])
            found.append(("acceptance", chance, case.acceptance, _TOLERANCE))
        if self._bags is not None and case.row:
            lifted = self.uplift_of(np.frombuffer(case.row), case.action, vector)
            assert lifted is not None  # noqa: S101  the bags are there
            found.append(("uplift", lifted, case.uplift, _TOLERANCE))
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

    def _alike(self, seen: Seen) -> Iterable[tuple[str, Floats, bytes, float]]:
        """What the compiled forests say of the first action, and the same tree by tree."""
        row = self.row(seen, 0)
        if self._acceptance is not None:
            plain = np.array([self.acceptance_of(row)])
            yield "acceptance, compiled,", self.acceptance(seen)[:1], plain.tobytes(), 0.0
        lifted, one = self.uplift(seen), self.uplift_of(row, self.names[0], seen.vector)
        if lifted is not None and one is not None:
            # Scores are the same to the bit; a mean over bags of one action adds in another order.
            yield "uplift, compiled,", lifted[0], one.tobytes(), _TOLERANCE


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


def goldens(
    models: Models, cases: Sequence[tuple[bytes, profiles.Profile, Context, int]]
) -> list[Golden]:
    """Write golden cases for the models of an unpublished bundle."""
    written = []
    for stored, profile, context, now in cases:
        _, records = decode(stored)
        vector = models.customer(records, profile, context, now)
        row = models.row(models.seen(vector, records, now), 0)
        scored = models.scores_acceptance
        lifted = models.uplift_of(row, models.names[0], vector)
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
                np.array([models.acceptance_of(row)]).tobytes() if scored else b"",
                models.names[0] if scored or lifted is not None else "",
                b"" if lifted is None else lifted.tobytes(),
            )
        )
    return written
