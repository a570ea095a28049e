"""Compile declared features into arrays, and evaluate them. Pure.

A plan is made once, when a bundle loads; :meth:`Plan.customer` and :meth:`Plan.pairs` are what the
service calls on every request and training on every replayed moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from features import beside as besides
from features import definitions as declared
from features import fields, filters, journey, kernels, program
from features import profile as profiles
from features.definitions import Definitions, scope
from features.elementary import Floats
from features.kernels import Integers
from features.record import Records
from features.vocabulary import Vocabulary

Context = besides.Context
_NO_FACTS: Final = np.empty(0)


class Plan:
    """Definitions compiled against a vocabulary.

    Raises:
        ValueError: A definition names what the vocabulary does not declare; the message names the
            feature and the nearest known name.
    """

    def __init__(self, definitions: Definitions, vocabulary: Vocabulary) -> None:
        self.definitions = definitions
        self.vocabulary = vocabulary
        self.digest = definitions.digest(kernels.VERSION)
        by_scope: dict[str, list[declared.Feature]] = {"customer": [], "action": [], "pair": []}
        for feature in definitions.features:
            by_scope[scope(feature)].append(feature)
        self.customer_features = by_scope["customer"]
        self.action_features = by_scope["action"]
        self.pair_features = by_scope["pair"]
        self.names = [
            feature.name
            for part in (self.customer_features, self.action_features, self.pair_features)
            for feature in part
        ]
        self._of_customer = program.compile(self.customer_features, vocabulary)
        self._of_pair = program.compile(self.pair_features, vocabulary)
        self.pair_defaults = self._of_pair.defaults
        """[pair features] of an action that no event is about."""
        self.lens = journey.Lens.of(vocabulary, definitions.journey)
        self._reads_journey = any(isinstance(one, declared.Journey) for one in by_scope["customer"])
        for feature in self.customer_features:
            self._known(feature)
        try:
            zone = ZoneInfo(definitions.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f"time_zone: {definitions.time_zone!r} is not known; "
                "use a name such as 'Europe/Amsterdam'"
            ) from error
        self._beside = besides.Beside(self.customer_features, vocabulary, zone)

    @property
    def of_customer(self) -> Integers:
        """The customer's features, compiled; see :func:`features.kernels.customer`."""
        return self._of_customer.block

    @property
    def of_pair(self) -> Integers:
        """Features of customer and action, compiled; see :func:`features.kernels.touched`."""
        return self._of_pair.block

    def beside(self, profile: profiles.Profile, context: Context, now: int) -> Floats:
        """What no event tells: profile, context and clock; see :class:`features.beside.Beside`."""
        return self._beside.told(profile, context, now)

    def _known(self, feature: declared.Feature) -> None:
        owner = f"feature {feature.name!r}"
        if isinstance(feature, declared.Profile):
            attributes = {name: one.code for name, one in self.vocabulary.attributes.items()}
            filters.code(owner, "attribute", attributes, feature.attribute)
        if isinstance(feature, declared.Context) and feature.field not in ("channel", "direction"):
            context = {name: one.code for name, one in self.vocabulary.context.items()}
            filters.code(owner, "context", context, feature.field)

    def columns(self, model: str) -> Integers:
        """Columns of ``names`` that a model sees, ascending: the order of its input."""
        chosen = set(self.definitions.chosen("intent" if model == "intent" else "acceptance"))
        return np.array([i for i, name in enumerate(self.names) if name in chosen], np.int64)

    def categorical(self) -> list[str]:
        """Names of the features whose numbers are codes without an order."""
        return [one.name for one in self.definitions.features if self._is_category(one)]

    def _is_category(self, feature: declared.Feature) -> bool:
        match feature:
            case declared.Last(field=field):
                return field not in ("value", "duration", "sentiment")
            case declared.Action(field=field):
                return field in ("code", "issue", "group")
            case declared.Journey(fact=fact):
                return fact in ("repeat_intent", "relationship", "lifetime_stage")
            case declared.Profile(attribute=name, part="value"):
                return self.vocabulary.attributes[name].kind == "category"
            case declared.Context(field=name):
                known = self.vocabulary.context.get(name)
                return known is None or known.kind == "category"
            case _:
                return False

    def customer(
        self,
        records: Records,
        profile: profiles.Profile,
        context: Context,
        now: int,
        facts: journey.Journey | None = None,
    ) -> Floats:
        """Compute the features of a customer at a moment.

        Args:
            records: The timeline, in order; events later than ``now`` are not seen.
            profile: As known at ``now``.
            context: What the caller says.
            now: Milliseconds since 1970-01-01 UTC.
            facts: From :func:`features.journey.read`, where the caller has them already.

        Returns:
            One number for each of ``customer_features``; NaN where there is none.
        """
        told = self.beside(profile, context, now)
        values = _NO_FACTS
        if self._reads_journey:
            found = journey.read(records, now, self.lens) if facts is None else facts
            values = found.values
        out = np.empty(len(self.customer_features))
        kernels.customer(fields.words(records), now, self._of_customer.block, told, values, out)
        return out

    def pairs(self, records: Records, now: int, row_of_action: Integers, rows: int) -> Floats:
        """Compute the features of the customer with each of ``rows`` actions.

        Args:
            records: The timeline, in order; events later than ``now`` are not seen.
            now: Milliseconds since 1970-01-01 UTC.
            row_of_action: [codes] row for events about an action, -1 for none; its last element
                answers for every larger code.
            rows: Number of candidates.

        Returns:
            [rows, pair features].
        """
        at, values = self.touched(records, now, row_of_action, rows)
        out = np.empty((rows, len(self.pair_features)))
        out[:] = self.pair_defaults
        out[at] = values
        return out

    def touched(
        self, records: Records, now: int, row_of_action: Integers, rows: int
    ) -> tuple[Integers, Floats]:
        """Compute what differs in :meth:`pairs` from ``pair_defaults``: rows that events touch.

        Args:
            records: As for :meth:`pairs`, and so the rest.
            now: Milliseconds since 1970-01-01 UTC.
            row_of_action: [codes] row for events about an action, -1 for none.
            rows: Number of candidates.

        Returns:
            Rows [n], each once, and their features [n, pair features]. A row whose events pass no
            filter is not among them.
        """
        found = np.empty(rows, np.int64)
        out = np.empty((min(rows, len(records)), len(self.pair_features)))
        words, block = fields.words(records), self._of_pair.block
        n = kernels.touched(words, now, block, row_of_action, found, out)
        return found[:n], out[:n]

    def actions(self, described: Sequence[Mapping[str, float]]) -> Floats:
        """Lay out what the catalogue says of each action: [rows, action features]."""
        return np.array(
            [[float(one[feature.field]) for feature in self._actions] for one in described],
            np.float64,
        ).reshape(len(described), len(self.action_features))

    @property
    def _actions(self) -> list[declared.Action]:
        return [one for one in self.action_features if isinstance(one, declared.Action)]


def rows_of(codes: Sequence[int]) -> Integers:
    """Build the ``row_of_action`` of :meth:`Plan.pairs` for candidates with these codes."""
    rows = np.full(max(codes, default=0) + 2, -1, np.int64)
    for row, code in enumerate(codes):
        rows[code] = row
    return rows
