"""Find what causes a gap: take out one suspect at a time and see how much of the gap is left. Pure.

Suspects are the causes that say something more often in the segment than elsewhere, or less, and
the features that the models rely on and that tell the segment from everybody else: what treats all
alike makes no gap. Shares of different causes need not add up to 1: two rules may each be enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from service.business import Business
from service.stages import STAGES
from training import proxies, rates
from training.audited import Cause, Cost, Read, Shown
from training.rates import Mask, Tally
from training.recomputed import EVERYWHERE, WHOLE, Recomputed, Without
from training.without import Key

_DIFFERS: Final = 0.01
"""Difference of the shares of decisions in which a cause speaks, from which on it is suspected."""
_CLOSE: Final = 0.1
"""Association, from 0 to 1, under which a feature tells nothing of who belongs to a segment."""
FILTERS: Final = 30
FEATURES: Final = 12
_TOLD: Final = 8
"""Causes, and actions of each, that are told."""

Stage = Callable[[str, int, int], None]


class Causes:
    """The suspects of some gaps, taken out one at a time.

    Args:
        base: The decisions as they were.
        customers: [decisions] number of the customer of each.
        segments: [decisions] members of each segment that has a gap.
        show: Told how far each suspect is.
    """

    def __init__(
        self,
        base: Recomputed,
        customers: np.ndarray,
        segments: Sequence[Mask],
        show: Stage,
    ) -> None:
        self._base = base
        self._customers = customers
        self.suspects, self.passed_over = _suspects(base, segments)
        self._runs: dict[Key, Without] = {}
        for number, cause in enumerate(self.suspects, 1):
            self._runs[cause] = base.without(
                cause,
                lambda done, of, n=number: show(  # type: ignore[misc]
                    "decide without each suspect",
                    (n - 1) * of + done,
                    len(self.suspects) * of,
                ),
            )

    def of(
        self, rows: Sequence[int], possible: np.ndarray, members: Mask, attribute: str
    ) -> list[Cause]:
        """The causes of one gap, the one that explains most first.

        Args:
            rows: Actions any of which counts.
            possible: [decisions] whether any of them could have been shown.
            members: [decisions] of the segment.
            attribute: By which it is a segment.
        """
        before = self._tally(self._base.shown, rows, possible)
        found = []
        for cause, run in self._runs.items():
            if not self._tells(cause, members):
                continue
            after = self._tally(run.shown, rows, possible)
            told = rates.explained(before, after, members)
            if told is None or told.share < _DIFFERS:
                continue
            found.append(self._cause(cause, run, told, after, members, attribute))
        return ranked(found)[:_TOLD]

    def _tells(self, cause: Key, members: Mask) -> bool:
        """Whether a cause treats these members otherwise than everybody else, surely enough.

        One that does not can still close a gap: where it goes, an action may vanish for everybody.
        """
        if cause.kind == "model":
            return True
        if cause.kind in EVERYWHERE:
            name = "intent.name" if cause.kind == "intent match" else ""
            values = self._base.read(name) if name else self._base.feature(cause.name)
            return proxies.associated(values, members).scaled >= _CLOSE
        effect = self._base.effect(cause)
        difference = abs(float(effect[members].mean() - effect[~members].mean()))
        share = float(effect.mean())
        people = (len(np.unique(self._customers[side])) for side in (members, ~members))
        error = math.sqrt(share * (1 - share) * sum(1 / count for count in people))
        return difference >= max(_DIFFERS, 2 * error)

    def _tally(self, shown: Mask, rows: Sequence[int], possible: np.ndarray) -> Tally:
        return Tally(
            shown[:, list(rows)].any(axis=1) * possible.astype(float),
            possible.astype(float),
            self._customers,
        )

    def _cause(
        self,
        cause: Key,
        run: Without,
        told: rates.Explained,
        after: Tally,
        members: Mask,
        attribute: str,
    ) -> Cause:
        base = self._base
        effect = base.effect(cause) if cause.kind not in EVERYWHERE else None
        one, other = rates.side(after.of(members)), rates.side(after.of(~members))
        change, low, high = rates.mean(run.change, self._customers)
        text, expressions = described(cause, base.business)
        return Cause(
            cause.kind,
            cause.name,
            cause.stage,
            text,
            expressions,
            self._reads(cause, members, attribute),
            1.0 if effect is None else float(effect[members].mean()),
            1.0 if effect is None else float(effect[~members].mean()),
            told.share,
            told.low,
            told.high,
            one.rate / other.rate if other.rate else math.nan,
            one.rate,
            other.rate,
            Cost(float(base.value.mean()), change, low, high),
            self._shown(run),
        )

    def _shown(self, run: Without) -> list[Shown]:
        before, after = self._base.shown.mean(axis=0), run.shown.mean(axis=0)
        order = np.argsort(-np.abs(after - before))[:_TOLD]
        return [
            Shown(self._base.business.actions[row].name, float(before[row]), float(after[row]))
            for row in order.tolist()
            if before[row] != after[row]
        ]

    def _reads(self, cause: Key, members: Mask, attribute: str) -> list[Read]:
        base = self._base
        told = []
        for name in reads(cause, base.business):
            root, _, field = name.partition(".")
            values = base.feature(field) if root == "feature" else base.read(name)
            found = proxies.associated(values, members)
            told.append((found, name, _attribute(name, base.business) == attribute))
        if cause.kind not in EVERYWHERE:
            found = proxies.associated(base.effect(cause).tolist(), members)
            told.append((found, "in effect", False))
        told.sort(key=lambda one: (-one[2], -one[0].scaled))
        return [
            Read(name, found.measure, found.strength, found.proxy, protected)
            for found, name, protected in told
        ]


NAMED: Final = 0.1
"""Share of a gap that a cause must explain, surely more than nothing, to be called its cause."""


def named(cause: Cause) -> bool:
    """Whether a cause surely explains enough to be named."""
    return closeness(cause) >= NAMED and cause.explained_low > 0


def ranked(found: Sequence[Cause]) -> list[Cause]:
    """The cause that explains most first.

    A whole mechanism is told after what is in it: it explains much, and helps little.
    """
    parts = any(named(one) for one in found if one.kind not in WHOLE)
    return sorted(found, key=lambda one: (one.kind in WHOLE and parts, -closeness(one)))


def closeness(cause: Cause) -> float:
    """1 where all of a gap goes away; less where some is left, or where it turns around."""
    return 1 - abs(1 - cause.explained)


def _suspects(base: Recomputed, segments: Sequence[Mask]) -> tuple[list[Key], int]:
    """Whom to take out, and how many more there would have been."""
    difference: dict[Key, float] = {}
    for cause in sorted(set().union(*base.effects)):
        effect = base.effect(cause)
        differs = max(
            (abs(effect[one].mean() - effect[~one].mean()) for one in segments), default=0.0
        )
        if differs >= _DIFFERS:
            difference[cause] = float(differs)
    relied = base.relied_on()
    tells: dict[Key, float] = {}
    for name, much in relied.items():
        values = base.feature(name)
        close = max((proxies.associated(values, one).scaled for one in segments), default=0.0)
        if close > 0:
            tells[Key("feature", name)] = much * close
    filters, features = _most(difference), _most(tells)
    extra = []
    if relied:
        extra = [Key("model", "acceptance")]
        if any(action.intents for action in base.business.actions):
            extra.append(Key("intent match", "intent_match"))
    over = max(0, len(filters) - FILTERS) + max(0, len(features) - FEATURES)
    return [*filters[:FILTERS], *features[:FEATURES], *extra], over


def _most(found: Mapping[Key, float]) -> list[Key]:
    return sorted(found, key=lambda one: (-found[one], one))


def described(cause: Key, business: Business) -> tuple[str, list[str]]:
    """What a cause says in words, and its expressions."""
    policies = business.policies
    match cause.kind:
        case "rule":
            rules = _rules(cause, business)
            return (rules[0][0] if rules else ""), list(dict.fromkeys(when for _, when in rules))
        case "limit":
            limits = (one for one in policies.limits if one.name == cause.name)
            return "; ".join(
                f"At most {o.at_most} {o.outcome} within {o.within}" for o in limits
            ), []
        case "context weight":
            weights = (one for one in policies.context_weights if one.name == cause.name)
            return "; ".join(f"{one.reason} (x {one.weight:g})" for one in weights), []
        case "consent":
            return f"Needs consent for {cause.name}", []
        case "assurance":
            return f"Needs a caller who is {cause.name}", []
        case "segment weights":
            return f"Goal {cause.name} counts differently by {policies.segment_by}", []
        case "intent match":
            return "Actions that answer the likely intent rank higher", []
        case "model":
            return "All that the models say of acceptance; without it, declared priors rank", []
        case "feature":
            return "A feature of the models; without it everybody has the usual value", []
    return "", []


def reads(cause: Key, business: Business) -> list[str]:
    """Names of what a cause reads: of conditions, ``consent.`` and ``feature.``."""
    policies = business.policies
    match cause.kind:
        case "rule":
            whens = [when for _, when in _rules(cause, business)]
            found = {read for when in whens for read in business.checked[when].reads}
            return sorted(one for one in found if not one.startswith("action."))
        case "consent":
            return [f"consent.{cause.name}"]
        case "feature":
            return [f"feature.{cause.name}"]
        case "assurance":
            return ["context.assurance"]
        case "segment weights":
            return [f"customer.{policies.segment_by}"]
        case "intent match":
            return ["intent.name"]
        case "context weight":
            when = next((o.when for o in policies.context_weights if o.name == cause.name), None)
            if when is None:
                return []
            named = [("journey", when.fact), ("context", when.channel and "channel"),
                     ("intent", when.intent and "name")]  # fmt: skip
            return [f"{root}.{name}" for root, name in named if name]
    return []


def _rules(cause: Key, business: Business) -> list[tuple[str, str]]:
    """Reason and condition of every rule that a key names."""
    if cause.stage not in dict(STAGES).values():
        return []
    staged = getattr(business.policies.rules, cause.stage)
    rules = [one.rule for one in staged]
    rules += [rule for action in business.actions for rule in getattr(action, cause.stage)]
    return [(one.reason, one.when) for one in rules if one.name == cause.name]


def _attribute(name: str, business: Business) -> str:
    """The attribute that a name stands for; empty: none."""
    root, _, field = name.partition(".")
    if root == "customer":
        return field
    if root == "feature":
        declared = next((o for o in business.definitions.features if o.name == field), None)
        return getattr(declared, "attribute", "") if declared is not None else ""
    return ""
