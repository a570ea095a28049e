"""What of an answer does not depend on the customer, written once. Pure.

Names, treatments, prices and sentences of a configuration are laid one after another in one blob;
:mod:`service.saying` and :mod:`service.telling` copy from it, by number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from string import Formatter
from typing import Final

import numpy as np

from features.duration import DAY, HOUR, MINUTE, SECOND, spoken
from features.journey import Relationship, Stage
from features.kernels import Integers
from rapport.v1 import decision_pb2 as pb
from service import facts, printing, saying, telling
from service.arbitration import Arbiter
from service.business import Business
from service.catalogue import Action, Price, Treatment
from service.conditions import Conditions
from service.facts import Fact
from service.layout import LIKELY
from service.reasons import LIKELY_TEXT, MANDATORY, MATCH_TEXT, UPLIFT_TEXT, WORTH_TEXT, Reason
from service.spans import Spans
from service.wire import double, moment, nested, text

_FACTORS: Final = 2 + 11 * 9  # bytes of all of them
_NUMBERS: Final = 16 * (printing.HEAD + printing.NUMBER)  # bytes of what stands between pieces
_BETWEEN: Final = ", "
_TRIES: Final = (facts.ONE_TRY, facts.TRIES.format(""))
_UNITS: Final = (
    spoken(0),
    *(f" {spoken(size).split()[1]}" for size in (DAY, HOUR, MINUTE, SECOND)),
)


class Pieces:
    """What the answers of one configuration are made of.

    Args:
        business: Whose.
        conditions: Its; they say who pays what.
        arbiter: Its.

    Attributes:
        address: Of the words that say where everything is, see :data:`service.saying.BLOB`. Those
            stay for as long as this does.
        placements: Piece of each name.
        most: Bytes that no recommendation exceeds.
        most_told: Bytes that intents and facts do not exceed.
    """

    def __init__(self, business: Business, conditions: Conditions, arbiter: Arbiter) -> None:
        self._business = business
        self._pieces: list[bytes] = []
        self._treatments: dict[tuple[int, int], int] = {}  # by row and identity
        self._kept: list[Treatment] = []  # so that their ids are
        vocabulary = business.vocabulary
        self._of_recommendations()
        self._of_facts()
        known = {name: one.title for name, one in vocabulary.intents.items()}
        self._numbers = {name: number for number, name in enumerate({**known, **vocabulary.types})}
        fixed = sum(map(len, self._pieces))
        longest = 0
        for name in self._numbers:
            title = repr(known.get(name, name)).encode()
            self._pieces += title, text(5, name), text(1, name)
            longest = max(longest, len(title), len(self._pieces[-1]))
        codes = [vocabulary.intents[name].code if name in known else -1 for name in self._numbers]
        of_code = _by_code({code: n for n, code in enumerate(codes) if code >= 0})
        first = len(self._pieces)
        channels = self._of_channels(vocabulary.channels)
        told = fixed + sum(map(len, self._pieces[first:])) + _NUMBERS
        told += len(_BETWEEN) * len(vocabulary.channels)  # the one piece that comes many times
        self.most_told = told + (LIKELY + 2) * (longest + _FACTORS)
        self.placements = {name: self._piece(text(1, name)) for name in business.placements}
        said = sum(map(len, self._pieces[: saying.TITLES])) + longest + _FACTORS + _NUMBERS
        actions, most = self._of_actions(conditions, arbiter)
        self.most = said + most
        blob = np.frombuffer(b"".join(self._pieces), np.uint8)
        ends = np.array([0, *accumulate(map(len, self._pieces))], np.int64)
        self._spans = Spans([blob, ends, *actions, channels, of_code, np.array(codes, np.int64)])
        self.address = self._spans.address

    def _of_actions(self, conditions: Conditions, arbiter: Arbiter) -> tuple[list[Integers], int]:
        """Lay out the actions; beside it the most bytes that pieces of one may have.

        :data:`service.saying.OF_ROW` of each; then, row by row, :data:`service.saying.REASON` of
        what may speak for it, places among the arbiter's intents and titles of what it answers, by
        name, and places of the conditions of its prices (-1: everybody meets it).
        """
        rows: list[list[int]] = []
        reasons: list[list[int]] = []
        intents: list[tuple[int, int]] = []
        prices: list[int] = []
        most = 0
        for row, action in enumerate(self._business.actions):
            own = [price for _, price in conditions.prices[row]]
            first, begin = len(self._pieces), (len(prices), len(reasons), len(intents))
            named, ended = self._piece(before(action)), self._ends(action, own)
            for one in action.treatments:
                self._worded(row, one, own)
            prices += [-1 if place is None else place for place, _ in conditions.prices[row]]
            reasons += self._reasons(action)
            intents += [
                (arbiter.intents.index(name), telling.INTENT + 3 * self._numbers[name])
                for name in sorted(set(action.intents))
            ]
            (price, reason, intent), prior = begin, _bits(action.prior)
            rows.append(
                [named, ended, price, len(prices), reason, len(reasons), intent, len(intents),
                 action.mandatory, prior]
            )  # fmt: skip
            most = max(most, sum(map(len, self._pieces[first:])))
        found = [np.array(one, np.int64).reshape(-1) for one in (rows, reasons, intents, prices)]
        return found, most

    def numbers(self, names: Sequence[str]) -> Integers:
        """Numbers of intents by name, as ``service.telling`` counts them."""
        return np.array([self._numbers[name] for name in names], np.int64)

    def _piece(self, written: bytes) -> int:
        self._pieces.append(written)
        return len(self._pieces) - 1

    def _cut(self, template: str) -> None:
        """A sentence, cut where numbers and names stand in it."""
        self._pieces += [literal.encode() for literal, *_ in Formatter().parse(template)]

    def _of_recommendations(self) -> None:
        """Sentences in the order in which ``service.saying`` counts them."""
        for code, template in (
            ("INTENT_MATCH", MATCH_TEXT),
            ("LIKELY_ACCEPTED", LIKELY_TEXT),
            ("VALUE", WORTH_TEXT),
            ("UPLIFT", UPLIFT_TEXT),
        ):
            self._piece(text(1, code))
            self._cut(template)
        self._piece(_reason(MANDATORY))
        assert len(self._pieces) == saying.TITLES  # noqa: S101  both are written in this project

    def _of_facts(self) -> None:
        """Sentences in the order in which ``service.telling`` counts them."""
        self._pieces += text(1, "failed_self_service"), *map(str.encode, _TRIES)
        self._cut(facts.FAILED_TEXT)
        self._pieces += map(str.encode, (_BETWEEN, " and ", facts.STRANGE))
        self._pieces += nested(6, facts.STRANGE.encode()), *map(str.encode, _UNITS)
        self._piece(text(1, "repeat_contact"))
        self._cut(facts.LOOKS_TEXT)
        self._cut(facts.REPEAT_TEXT)
        for kind, _, one, many in facts.COUNTED:
            self._pieces += fact(Fact(kind, one, 1)), text(1, kind)
            self._pieces += map(str.encode, many.split("{}"))
        for mood in (facts.WORSE, facts.BETTER):
            self._piece(text(1, "sentiment_trend") + text(2, mood))
        for told, kinds in ((facts.RELATIONSHIPS, Relationship), (facts.STAGES, Stage)):
            self._pieces += [fact(told[one]) if one in told else b"" for one in kinds]
        assert len(self._pieces) == telling.INTENT  # noqa: S101  both are written in this project

    def _of_channels(self, codes: Mapping[str, int]) -> Integers:
        found = _by_code(dict.fromkeys(codes.values(), 0)).repeat(2).reshape(-1, 2)
        for name, code in codes.items():
            words, field = facts.worded(name).encode(), nested(6, name.encode())
            found[code] = self._piece(words), self._piece(field)
        return found

    def _ends(self, action: Action, prices: Sequence[Price]) -> int:
        """What stands after the probability: for each price, and last for none."""
        currency = self._business.policies.currency
        first, *_ = [self._piece(after(action, one, currency)) for one in (*prices, None)]
        return first

    def _worded(self, row: int, treatment: Treatment, prices: Sequence[Price]) -> None:
        currency = self._business.policies.currency
        first, *_ = [self._piece(expressed(treatment, one, currency)) for one in (*prices, None)]
        self._kept.append(treatment)
        self._treatments[row, id(treatment)] = first

    def _reasons(self, action: Action) -> list[list[int]]:
        """Context weights and levers that may speak for an action."""
        policies = self._business.policies
        found = []
        for place, one in enumerate(policies.context_weights):
            if one.weight >= 1 and one.target.covers(action):
                said = self._piece(_reason(Reason("CONTEXT_WEIGHT", one.reason)))
                found.append([place, 0, 0, _bits(one.weight), said])
        for lever in policies.levers:
            if lever.factor >= 1 and lever.target.covers(action):
                said = self._piece(_reason(Reason("LEVER", f"Campaign {lever.name}")))
                found.append([-1, *lever.valid.milliseconds, _bits(lever.factor), said])
        return found

    def offered(self, treatments: Sequence[Treatment | None]) -> list[int]:
        """For each row, the first piece of the treatment that a placement shows; -1 for none."""
        return [
            -1 if one is None else self._treatments[row, id(one)]
            for row, one in enumerate(treatments)
        ]


def fact(told: Fact) -> bytes:
    """A fact as a field of an answer."""
    parts = [
        text(1, told.kind),
        text(2, told.text),
        double(3, told.magnitude),
        b"" if told.newest is None else nested(4, moment(told.newest)),
        text(5, told.intent),
        *[nested(6, channel.encode()) for channel in told.channels],
    ]
    return nested(6, b"".join(parts))


def before(action: Action) -> bytes:
    """What of a recommendation stands before its rank."""
    return text(1, action.name) + text(2, action.title)


def expressed(treatment: Treatment, price: Price | None, currency: str) -> bytes:
    """A treatment with the price that the customer pays in its words."""
    words = treatment.text
    if price is not None:
        words = words.replace("{price}", f"{abs(price.amount):.2f} {currency}")
    parts = [text(1, treatment.name), text(2, words), text(3, treatment.locale)]
    parts += [text(4, treatment.kind), *[nested(5, one.encode()) for one in treatment.disclosures]]
    return nested(4, b"".join(parts))


def after(action: Action, price: Price | None, currency: str) -> bytes:
    """What of a recommendation stands after its probability."""
    cost = None if price is None else pb.Price(
        amount=price.amount, currency=currency, per=price.per, condition=price.condition
    )  # fmt: skip
    tail = pb.Recommendation(mandatory=action.mandatory, price=cost, parts=action.parts)
    return tail.SerializeToString()


def _reason(reason: Reason) -> bytes:
    return nested(6, text(1, reason.code) + text(2, reason.text))


def _by_code(values: Mapping[int, int]) -> Integers:
    """[codes] a value for each; -1 for codes that have none."""
    found = np.full(max(values, default=-1) + 1, -1, np.int64)
    for code, value in values.items():
        found[code] = value
    return found


def _bits(number: float) -> int:
    return int(np.float64(number).view(np.int64))
