"""Models that score: verified, warmed, and swapped as one immutable reference.

A bundle is loaded beside the one that serves; only when it has reproduced its golden cases does it
take over, and one that is refused changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import msgspec
import numpy as np

from features import journey
from features import profile as profiles
from features.definitions import Definitions
from features.elementary import Floats
from features.kernels import Integers
from features.plan import Context, Plan, rows_of
from features.record import Records
from features.vocabulary import Vocabulary
from service import bundle as bundles
from service import forest, goldens, heap
from service.acceptance import Acceptance
from service.bundle import AcceptanceCalibration, Bundle, Calibration, Golden
from service.business import Business
from service.contributions import Contributions
from service.errors import BundleRefused
from service.intents import Intents
from service.layout import Layout
from service.sight import Compiled, Seen, Seer, Sight
from service.uplift import Uplift
from service.usual import Usual, laid_out


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
        self._seer: Seer | None = None
        files = bundle.files
        try:
            vocabulary = msgspec.json.decode(files[bundles.VOCABULARY], type=Vocabulary)
            definitions = msgspec.json.decode(files[bundles.DEFINITIONS], type=Definitions)
            calibration = msgspec.json.decode(files[bundles.CALIBRATION], type=Calibration)
            golden = msgspec.msgpack.decode(files[bundles.GOLDEN], type=list[Golden])
            bags = [bag for bag in bundles.bags(files.get(bundles.UPLIFT, b"")) if bag]
            self.plan = Plan(definitions, vocabulary)
            written = files.get(bundles.ACCEPTANCE)
            names, of_action = len(self.plan.names), self.plan.columns("acceptance")
            customers = len(self.plan.customer_features)
            intent = _trees([files.get(bundles.INTENT)], self.plan.columns("intent"), customers)
            acceptance = _trees([written], of_action, names)
            uplift = _trees([bag.encode() for bag in bags], np.append(of_action, names), names + 1)
        except (KeyError, ValueError, msgspec.DecodeError) as error:
            raise BundleRefused(
                f"bundle {self.manifest.version} cannot be loaded: {error}"
            ) from error
        self._check(calibration, len(bags))
        broken = vocabulary.breaks(business.vocabulary)
        if broken:
            raise BundleRefused(
                f"bundle {self.manifest.version} knows another vocabulary: {broken[0]}"
            )
        codes = [business.vocabulary.actions[action.name] for action in business.actions]
        self.row_of_action: Integers = rows_of(codes)
        self.names = [action.name for action in business.actions]
        self.evidence = _evidence(calibration.acceptance, self.names)
        self.usual: Usual = laid_out(self.plan, business)
        """What :meth:`row` begins with."""
        self._intents: Intents | None = None
        self._acceptance: Acceptance | None = None
        self._uplift: Uplift | None = None
        self._contributions: Contributions | None = None
        if intent is not None and calibration.intent is not None:
            self._intents = Intents(intent, calibration.intent, vocabulary.names, self.usual)
        if acceptance is not None and calibration.acceptance is not None:
            self._acceptance = Acceptance(acceptance, calibration.acceptance, self.usual)
        if written is not None and calibration.acceptance is not None:
            self._contributions = Contributions(written, calibration.acceptance, self.plan)
        if uplift is not None and calibration.uplift is not None:
            self._uplift = Uplift(uplift, calibration.uplift, self.usual, self.names)
        goldens.verify(self, golden)

    def _check(self, calibration: Calibration, bags: int) -> None:
        """Refuse a bundle whose files are not of each other, or not of this version."""
        calibrated = calibration.uplift
        if bags != (0 if calibrated is None else len(calibrated.effects)):
            raise BundleRefused(
                f"bundle {self.manifest.version} cannot be loaded: {bundles.UPLIFT} holds "
                f"{bags} bags and {bundles.CALIBRATION} speaks of others; train it again"
            )
        if self.plan.digest != self.manifest.feature_digest:
            raise BundleRefused(
                f"bundle {self.manifest.version} was built on other definitions: its feature "
                f"digest is {self.manifest.feature_digest}, this server computes "
                f"{self.plan.digest}; train it with this version of Rapport"
            )

    def parts(self) -> list[tuple[str, object]]:
        """What they are made of, for another process; see :meth:`of_parts`.

        Whatever is an array is mapped there, and not read.
        """
        # Contributions are the workshop's alone, and addresses mean nothing elsewhere.
        kept = {**vars(self), "_contributions": None, "_seer": None}
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
        return bundles.INTENT in self.manifest.files

    @property
    def scores_acceptance(self) -> bool:
        """Whether there is an acceptance model."""
        return bundles.ACCEPTANCE in self.manifest.files

    @property
    def scores_uplift(self) -> bool:
        """Whether there is an uplift model."""
        return self._uplift is not None

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
        return np.empty(0) if self._intents is None else self._intents.probabilities(vector)

    def named(self, probabilities: Floats) -> list[tuple[str, float]]:
        """Intents with their probabilities, most likely first."""
        return [] if self._intents is None else self._intents.named(probabilities)

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
        intents, acceptance = self._intents, self._acceptance
        compiled = Compiled(
            self.plan.lens.words,
            self.plan.of_customer,
            self.plan.of_pair,
            self.row_of_action,
            (0, 0) if intents is None else intents.forest.addresses,
            (0, 0) if acceptance is None else acceptance.forest.addresses,
            1.0 if intents is None else intents.calibration.temperature,
            0.0 if acceptance is None else acceptance.calibration.slope,
            0.0 if acceptance is None else acceptance.calibration.offset,
        )
        return Seer(compiled, self.layout)

    @cached_property
    def layout(self) -> Layout:
        """Where what is seen and said stands; one object for all decisions with these models."""
        intents, usual = self._intents, self.usual
        names = [] if intents is None else intents.names
        places = {name: place for place, name in enumerate(names)}
        order = [] if intents is None else intents.order
        rows, pairs = len(usual.rows), len(self.plan.pair_features)
        says = 0 if self._acceptance is None else rows
        return Layout(names, places, order, usual.features, says, rows, pairs)

    def seen(self, vector: Floats, records: Records, now: int) -> Seen:
        """What the models see of a customer, for :meth:`acceptance` and :meth:`uplift`."""
        touched = self.plan.touched(records, now, self.row_of_action, len(self.names))
        return Seen(vector, *touched)

    def row(self, seen: Seen, row: int) -> Floats:
        """All that the models see of one action: [names of the plan]."""
        return self.usual.row(seen, row)

    def acceptance(self, seen: Seen) -> Floats:
        """Acceptance probability of each action."""
        return np.empty(0) if self._acceptance is None else self._acceptance.of_all(seen)

    def acceptance_of(self, row: Floats) -> float:
        """Acceptance probability of any row [names of the plan], tree by tree."""
        return float("nan") if self._acceptance is None else self._acceptance.of(row)

    def uplift(self, seen: Seen) -> Floats | None:
        """Reward if presented less reward if nothing is, in the business's currency.

        Returns:
            [actions, 3]: mean, and the low and high end of its interval. None: no uplift model.
        """
        return None if self._uplift is None else self._uplift.of_all(seen)

    def uplift_of(self, row: Floats, action: str, vector: Floats) -> Floats | None:
        """Uplift [mean, low, high] of an action, tree by tree; see :mod:`service.uplift`."""
        return None if self._uplift is None else self._uplift.of(row, action, vector)

    def contributions(self, row: Floats) -> list[tuple[str, float, float]]:
        """What each feature added to a row's log-odds: name, value, contribution, largest first.

        The last one, ``base``, is what every row starts from; all add up to the row's log-odds.
        """
        return [] if self._contributions is None else self._contributions.of(row)


def _trees(texts: Sequence[bytes | None], columns: Integers, width: int) -> forest.Trees | None:
    """Read models over some columns of rows of this width, to be scored together."""
    found = [forest.parse(one.decode(), columns, width) for one in texts if one is not None]
    return forest.together(found) if found else None


def _evidence(calibration: AcceptanceCalibration | None, names: Sequence[str]) -> Floats | None:
    """Presentations [actions] that the acceptance model has learnt from; None: not known."""
    if calibration is None or calibration.evidence is None:
        return None
    return np.array([calibration.evidence.get(name, 0.0) for name in names], np.float64)
