"""Compile declared features into arrays, and evaluate them. Pure.

A plan is made once, when a bundle loads; :meth:`Plan.customer` and :meth:`Plan.pairs` are what the
service calls on every request and training on every replayed moment.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from features import definitions as declared
from features import filters, journey, kernels
from features import profile as profiles
from features.definitions import Definitions, Where, scope
from features.duration import milliseconds
from features.elementary import Floats
from features.kernels import Integers, Program
from features.record import Records
from features.vocabulary import Vocabulary

_FIELDS: Final = {
    "type": kernels.TYPE,
    "channel": kernels.CHANNEL,
    "intent": kernels.INTENT,
    "action": kernels.ACTION,
    "outcome": kernels.OUTCOME,
    "direction": kernels.WAY,
    "agent": kernels.AGENT,
    "value": kernels.VALUE,
    "duration": kernels.DURATION,
    "sentiment": kernels.SENTIMENT,
}
_OPS: Final[dict[type, int]] = {
    declared.Count: kernels.COUNT,
    declared.Sum: kernels.SUM,
    declared.Mean: kernels.MEAN,
    declared.Decayed: kernels.DECAYED,
    declared.SinceLast: kernels.SINCE_LAST,
    declared.SinceFirst: kernels.SINCE_FIRST,
    declared.Last: kernels.LAST,
    declared.Gap: kernels.GAP,
    declared.Distinct: kernels.DISTINCT,
    declared.Trend: kernels.TREND,
    declared.Run: kernels.RUN,
    declared.Sequence: kernels.SEQUENCE,
}
_EVERY_EVENT: Final = np.zeros(0, np.int64)


class Context(NamedTuple):
    """What the caller says of the contact; codes from the vocabulary, 0 where absent."""

    channel: int = 0
    direction: int = 0
    values: Mapping[str, profiles.Value] = {}


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
        self._of_customer = compile(self.customer_features, vocabulary)
        self._of_pair = compile(self.pair_features, vocabulary)
        self.lens = journey.Lens.of(vocabulary, definitions.journey)
        self._beside = [
            (slot, feature)
            for slot, feature in enumerate(self.customer_features)
            if not isinstance(feature, declared.OverEvents)
        ]
        for _, feature in self._beside:
            self._known(feature)
        try:
            self._zone = ZoneInfo(definitions.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f"time_zone: {definitions.time_zone!r} is not known; "
                "use a name such as 'Europe/Amsterdam'"
            ) from error

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
        out = np.empty((1, len(self.customer_features)))
        kernels.evaluate(records, now, self._of_customer, _EVERY_EVENT, out)
        vector: Floats = out[0]
        if not self._beside:
            return vector
        facts = facts or journey.read(records, now, self.lens)
        local = datetime.datetime.fromtimestamp(now / 1000, self._zone)
        for slot, feature in self._beside:
            match feature:
                case declared.Journey(fact=fact):
                    vector[slot] = facts.value(fact)
                case declared.Profile():
                    vector[slot] = self._profile(feature, profile, now)
                case declared.Context(field="channel"):
                    vector[slot] = context.channel
                case declared.Context(field="direction"):
                    vector[slot] = context.direction
                case declared.Context(field=name):
                    value = context.values.get(name)
                    vector[slot] = profiles.number(value, self.vocabulary.context[name])
                case declared.Clock(field="hour_of_day"):
                    vector[slot] = local.hour
                case declared.Clock(field="minute_of_day"):
                    vector[slot] = 60 * local.hour + local.minute
                case declared.Clock(field="day_of_week"):
                    vector[slot] = local.weekday()
        return vector

    def _profile(self, feature: declared.Profile, profile: profiles.Profile, now: int) -> float:
        attribute = self.vocabulary.attributes[feature.attribute]
        told = profile.attributes.get(feature.attribute)
        if feature.part == "state":
            return float(profile.state(feature.attribute, attribute, now))
        if told is None or (feature.part == "value" and told.value is None):
            return float("nan")
        if feature.part == "age":
            return (now - told.updated_at) / 1000.0
        return profiles.number(told.value, attribute)

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
        out = np.empty((rows, len(self.pair_features)))
        kernels.evaluate(records, now, self._of_pair, row_of_action, out)
        return out

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


def compile(features: Sequence[declared.Feature], vocabulary: Vocabulary) -> Program:
    """Turn the features over events among ``features`` into a program for the kernel.

    A feature's slot is its place in ``features``; the slots of other features are left alone.
    """
    bits: list[tuple[int, declared.OverEvents, Where, int]] = []
    for slot, feature in enumerate(features):
        if isinstance(feature, declared.Sequence):
            steps = feature.steps
            bits += [(slot, feature, where, len(steps) - 1 - i) for i, where in enumerate(steps)]
        elif isinstance(feature, declared.OverEvents):
            bits.append((slot, feature, feature.where, 0))
    words = max(1, -(-len(bits) // 64))
    codes = filters.codes(vocabulary)
    tables = []
    for field in filters.FIELDS:
        table = np.zeros((max(codes[field].values(), default=0) + 2, words), np.uint64)
        for b, (_, over, where, _) in enumerate(bits):
            chosen = filters.allowed(f"feature {over.name!r}", where, field, vocabulary)
            rows = range(len(table)) if chosen is None else chosen
            for code in rows:
                table[code, b // 64] |= np.uint64(1 << (b % 64))
        tables.append(table)
    windows = sorted({f.window_ms for _, f, _, _ in bits if f.window_ms is not None})
    expire = np.zeros((len(windows), words), np.uint64)
    distinct = np.full(len(features), -1, np.int64)
    steps_of = np.zeros(len(features), np.int64)
    parameter = np.array([_parameter(f) for _, f, _, _ in bits], np.float64)
    widest = 1
    for b, (slot, over, _, _) in enumerate(bits):
        if over.window_ms is not None:
            expire[windows.index(over.window_ms), b // 64] |= np.uint64(1 << (b % 64))
        if isinstance(over, declared.Distinct):
            distinct[slot] = distinct.max() + 1
            largest = (
                65_535 if over.field == "agent" else max(codes[over.field].values(), default=0)
            )
            parameter[b] = largest  # codes that came later count for no feature, whatever the rest
            widest = max(widest, largest // 64 + 1)
        if isinstance(over, declared.Sequence):
            steps_of[slot] = len(over.steps)
    return Program(
        tables=(tables[0], tables[1], tables[2], tables[3], tables[4], tables[5]),
        windows=np.array(windows, np.int64),
        expire=expire if windows else np.zeros((0, words), np.uint64),
        op=np.array([_OPS[type(f)] for _, f, _, _ in bits], np.int64),
        field=np.array([_field(f) for _, f, _, _ in bits], np.int64),
        parameter=parameter,
        slot=np.array([slot for slot, _, _, _ in bits], np.int64),
        step=np.array([step for _, _, _, step in bits], np.int64),
        steps=steps_of,
        distinct=distinct,
        shape=np.array([int(distinct.max(initial=-1)) + 1, widest], np.int64),
    )


def _field(feature: declared.OverEvents) -> int:
    name = getattr(feature, "field", None)
    return kernels.ONE if name is None else _FIELDS[name]


def _parameter(feature: declared.OverEvents) -> float:
    match feature:
        case declared.Decayed(half_life=half_life):
            return float(milliseconds(half_life))
        case declared.Trend(window=window):
            return milliseconds(window) / 2
        case declared.Last(back=back) | declared.Gap(back=back):
            return float(back)
        case _:
            return 0.0
