"""What of a recommendation does not depend on the customer, written once. Pure.

Names, treatments, prices and sentences of a configuration are laid one after another in one blob;
:mod:`service.saying` copies from it, by number.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from string import Formatter
from typing import Final

import numpy as np

from features.kernels import Integers
from rapport.v1 import decision_pb2 as pb
from service import printing, saying
from service.arbitration import (
    LIKELY_TEXT,
    MANDATORY,
    MATCH_TEXT,
    UPLIFT_TEXT,
    WORTH_TEXT,
    Arbiter,
    Reason,
)
from service.business import Business
from service.catalogue import Action, Price, Treatment
from service.conditions import Conditions
from service.drawing import Bytes
from service.wire import nested, text

_FACTORS: Final = 2 + 11 * 9  # bytes of all of them


class Pieces:
    """What the recommendations of one configuration are made of.

    Args:
        business: Whose.
        conditions: Its; they say who pays what.
        arbiter: Its.

    Attributes:
        blob: All pieces.
        ends: [pieces + 1] where each begins, and the last one ends.
        rows: [rows, :data:`service.saying.OF_ROW`] what of each action stands where.
        reasons: [n, :data:`service.saying.REASON`] what may speak for actions, row by row.
        intents: [n] places of intents among the arbiter's, row by row, by name.
        prices: [n] places of the conditions of prices, row by row; -1: everybody meets it.
        most: Bytes that no recommendation exceeds.
    """

    def __init__(self, business: Business, conditions: Conditions, arbiter: Arbiter) -> None:
        self._business = business
        self._pieces: list[bytes] = []
        vocabulary, policies = business.vocabulary, business.policies
        self._sentences(arbiter, {name: one.title for name, one in vocabulary.intents.items()})
        self.placements = {name: self._piece(text(1, name)) for name in business.placements}
        self._treatments: dict[int, int] = {}
        self._kept: list[Treatment] = []  # so that their ids are
        rows, reasons, prices = [], [], []
        intents: list[int] = []
        longest = 0
        for row, action in enumerate(business.actions):
            paid = conditions.prices[row]
            named = self._piece(before(action))
            ended = self._ends(action, [price for _, price in paid])
            worded = [self._worded(one, [price for _, price in paid]) for one in action.treatments]
            speaking = self._reasons(action)
            answers = sorted({arbiter.intents.index(one) for one in action.intents},
                             key=arbiter.intents.__getitem__)  # fmt: skip
            rows.append(
                [
                    named, ended, len(prices), len(prices) + len(paid),
                    len(reasons), len(reasons) + len(speaking),
                    len(intents), len(intents) + len(answers), action.mandatory,
                    np.float64(action.prior).view(np.int64),
                ]
            )  # fmt: skip
            prices += [-1 if place is None else place for place, _ in paid]
            reasons += speaking
            intents += answers
            sizes = [len(self._pieces[named]), *[len(self._pieces[one[-1]]) for one in speaking]]
            ends = range(ended, ended + len(paid) + 1)
            told = [at + n for at in worded for n in range(len(paid) + 1)]
            sizes += [max(len(self._pieces[n]) for n in some) for some in (ends, told)]
            longest = max(longest, sum(sizes))
        self.rows: Integers = np.array(rows, np.int64).reshape(-1, saying.OF_ROW)
        self.reasons: Integers = np.array(reasons, np.int64).reshape(-1, saying.REASON)
        self.intents: Integers = np.array(intents, np.int64)
        self.prices: Integers = np.array(prices, np.int64)
        self.blob: Bytes = np.frombuffer(b"".join(self._pieces), np.uint8)
        self.ends: Integers = np.array([0, *accumulate(map(len, self._pieces))], np.int64)
        said = sum(map(len, self._pieces[: self._titles])) + max(
            map(len, self._pieces[self._titles :]), default=0
        )
        self.most = longest + _FACTORS + said + 4 * (printing.HEAD + printing.NUMBER + 16)

    def _piece(self, written: bytes) -> int:
        self._pieces.append(written)
        return len(self._pieces) - 1

    def _sentences(self, arbiter: Arbiter, titles: dict[str, str]) -> None:
        """The sentences with numbers in them, cut where these stand, as ``saying`` counts them."""
        for code, template in (
            ("INTENT_MATCH", MATCH_TEXT),
            ("LIKELY_ACCEPTED", LIKELY_TEXT),
            ("VALUE", WORTH_TEXT),
            ("UPLIFT", UPLIFT_TEXT),
        ):
            self._piece(text(1, code))
            for literal, *_ in Formatter().parse(template):
                self._piece(literal.encode())
        self._piece(_reason(MANDATORY))
        self._titles = len(self._pieces)
        assert self._titles == saying.TITLES  # noqa: S101  both are written in this project
        for name in arbiter.intents:
            self._piece(repr(titles[name]).encode())

    def _ends(self, action: Action, prices: Sequence[Price]) -> int:
        """What stands after the probability: for each price, and last for none."""
        currency = self._business.policies.currency
        return [self._piece(after(action, one, currency)) for one in (*prices, None)][0]

    def _worded(self, treatment: Treatment, prices: Sequence[Price]) -> int:
        currency = self._business.policies.currency
        first, *_ = [self._piece(expressed(treatment, one, currency)) for one in (*prices, None)]
        self._kept.append(treatment)
        self._treatments[id(treatment)] = first
        return first

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
        return [-1 if one is None else self._treatments[id(one)] for one in treatments]


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


def _bits(number: float) -> int:
    return int(np.float64(number).view(np.int64))
