"""The simulated bank's truth: its customers, what they accept, how it chose until now. Pure.

Everything that a model could hope to learn is here: tastes that go with the profile, needs that
make some actions fit, moods that make others unwelcome, and weariness of what was shown too often.
Weights are drawn from the seed, so a truth cannot be guessed by reading this file. What is accepted
is not always what helps: one sale is bought anyway by those who would accept it, and one kind offer
sends customers who are at a loss with screens back to us.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from features import duration
from service.business import Business
from service.catalogue import ASSURANCE, treatment

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SEGMENTS: Final = ("student", "starter", "family", "self_employed", "senior")
TEMPERS: Final = ("friend", "neutral", "enemy", "love_hate")
MEMORY: Final = 30 * duration.DAY
"""Milliseconds for which a customer remembers what was shown, refused or needed."""

# Per segment: median age, log of the balance, digital skill, chance of a mortgage.
_SEGMENTS: Final = np.array(
    [[21, 6.3, 0.8, 0.0], [29, 7.6, 0.7, 0.3], [42, 8.6, 0.6, 0.7], [46, 9.2, 0.6, 0.6],
     [69, 9.6, 0.3, 0.4]]
)  # fmt: skip
_SHARES: Final = np.cumsum([0.16, 0.24, 0.28, 0.12, 0.20])
_TEMPER_SHARES: Final = np.cumsum([0.30, 0.45, 0.13, 0.12])
_CALM: Final = (0.35, 0.10, -0.40, 0.0)  # mood that each temper returns to
_SWING: Final = (0.8, 1.0, 1.0, 2.2)  # how far one experience moves it

# Logits by issue: of the mood (-1 to 1), of each recent failure, of answering the need.
_MOOD: Final = {"grow": 1.5, "retain": -0.4, "service": 0.2, "recover": -0.7, "nurture": 0.8}
_FAILED: Final = {"grow": -0.9, "retain": 0.0, "service": 0.1, "recover": 0.6, "nurture": -0.5}
_FITS: Final = {"grow": 1.8, "retain": 1.6, "service": 0.9, "recover": 1.2, "nurture": 1.2}
_MISSES: Final = {"grow": -0.5, "retain": -1.2, "service": -2.6, "recover": -1.8, "nurture": -0.3}
_CHANNEL: Final = {"phone": 0.2, "branch": 0.4, "ivr": -0.3, "app": -0.5, "web": -0.9}
_MESSAGE: Final = -1.1
SIGNS: Final = 0.6
"""Share of accepted sales that are signed in the end."""
_LOSS, _HARM = 0.5, 0.6  # skill below which the harmful action harms, and how often it does
_SEEN, _REFUSED, _TAKEN = -0.45, -1.3, -2.0  # a time presented, a recent refusal, a sale made

_COMMON: Final = {
    "check_balance": 3.0, "login_trouble": 2.6, "card_declined": 2.0, "fee_question": 1.8,
    "payment_missing": 1.7, "change_details": 1.5, "payment_failed": 1.5, "bereavement": 0.15,
    "insurance_claim": 0.5, "report_fraud": 0.7, "mortgage_rate_expiry": 0.6,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Customer:
    """One customer as nobody at the bank can see them."""

    customer_id: str
    segment: int
    age: int
    balance: float
    skill: float  # 0 to 1: how well they help themselves on screens
    has_mortgage: bool
    tenure_days: int  # at the start of the simulation; 0: joins during it
    temper: int
    calm: float  # mood they return to, -1 to 1
    swing: float
    activity: float  # 1: as busy as the average customer
    marketing: bool  # consents
    profiling: bool
    research: bool
    taste: Floats  # [actions] logits
    needs: Floats  # [intents] shares, adding up to 1


class Situation(NamedTuple):
    """What acceptance depends on besides the customer."""

    channel: str
    need: int  # index of the true intent; -1: none
    mood: float  # -1 to 1
    failures: int  # of self-service in the last 24 hours
    needed: Mask  # [intents] in the last 30 days
    seen: Floats  # [actions] times presented in the last 30 days
    refused: Mask  # [actions] in the last 30 days
    taken: Mask  # [actions] ever


class World:
    """The bank and its market, drawn from a seed.

    Args:
        business: The configuration; its actions and intents give the axes.
        seed: Any whole number from 0.
    """

    def __init__(self, business: Business, seed: int) -> None:
        self.business = business
        self._seed = seed
        rng = np.random.default_rng([seed])
        actions = business.actions
        self.actions = [action.name for action in actions]
        self.intents = list(business.vocabulary.intents)
        groups = list(business.vocabulary.groups)
        self._group = np.array([groups.index(action.group) for action in actions])
        self.answers: Mask = np.array(
            [[intent in action.intents for action in actions] for intent in self.intents]
        )
        self._aimed = self.answers.any(axis=0)
        prior = np.clip([action.prior for action in actions], 0.01, 0.99)
        self._prior: Floats = np.log(prior / (1 - prior))
        self.sells: Mask = np.array([action.issue == "grow" for action in actions])
        self._mood, self._failed, self._fits, self._misses = (
            np.array([weights[action.issue] for action in actions])
            for weights in (_MOOD, _FAILED, _FITS, _MISSES)
        )
        self._misses = self._misses * self._aimed
        self.anyway: Mask = np.zeros(len(actions), bool)
        """[actions] sales that are made whether or not they are presented: uplift 0."""
        self._harmful = np.zeros(len(actions), bool)
        for mark, issue in ((self.anyway, "grow"), (self._harmful, "nurture")):
            chances = [action.prior * (action.issue == issue) for action in actions]
            mark[int(np.argmax(chances))] = max(chances) > 0
        self.worth: Floats = (
            SIGNS * self.sells * ~self.anyway * np.array([action.value for action in actions])
        )
        """[actions] what an acceptance adds to sales."""
        self._segment_taste = rng.normal(0, 0.6, (len(SEGMENTS), len(groups)))
        self._trait_taste = rng.normal(0, 0.35, (5, len(groups)))
        self._action_taste = rng.normal(0, 0.3, len(actions))
        self._segment_needs = rng.normal(0, 0.7, (len(SEGMENTS), len(self.intents)))
        self._trait_needs = rng.normal(0, 0.4, (5, len(self.intents)))
        self._common = np.log([_COMMON.get(intent, 1.0) for intent in self.intents])
        self.hardness: Floats = rng.normal(0.2, 0.9, len(self.intents))
        """[intents] logits of failing to help oneself."""
        self.agents: Floats = rng.normal(0, 0.4, 40)
        """Logits of resolving a contact."""
        self._assurance = np.array([ASSURANCE[action.assurance] for action in actions])
        self._valid = np.array([action.valid.milliseconds for action in actions])
        self._shown = {
            (name, channel): np.array(
                [treatment(one, name, channel) is not None for one in actions]
            )
            for name, placement in business.placements.items()
            for channel in placement.channels
        }
        self._purpose = np.array([action.purpose or "" for action in actions])

    def draws(self, index: int) -> np.random.Generator:
        """The random numbers of one customer; they are the same however many others there are."""
        return np.random.default_rng([self._seed, 1, index])

    def customer(self, index: int, rng: np.random.Generator) -> Customer:
        """Draw a customer; one in twelve joins during the simulation."""
        segment = int(np.searchsorted(_SHARES, rng.random()))
        temper = int(np.searchsorted(_TEMPER_SHARES, rng.random()))
        age, wealth, skill, mortgage = _SEGMENTS[segment] + rng.normal(0, [4, 1.0, 0.18, 0])
        skill = float(np.clip(skill, 0.03, 0.97))
        has_mortgage = bool(rng.random() < mortgage)
        joins = rng.random() < 1 / 12
        tenure = 0 if joins else int(min(rng.exponential(2_000) + 30, (age - 17) * 365, 12_000))
        traits = np.array(
            [(age - 42) / 18, (wealth - 8.3) / 1.5, (skill - 0.6) * 4, has_mortgage * 2.0 - 1,
             (min(tenure, 4_000) - 1_700) / 1_200]
        )  # fmt: skip
        group = self._segment_taste[segment] + traits @ self._trait_taste
        group += rng.normal(0, 0.3, len(group))
        needs = self._common + self._segment_needs[segment] + traits @ self._trait_needs
        needs = np.exp(needs + rng.normal(0, 0.7, len(needs)))
        chances = rng.random(3)
        return Customer(
            customer_id=f"c{index:06d}",
            segment=segment,
            age=max(18, int(age)),
            balance=float(np.exp(wealth)),
            skill=skill,
            has_mortgage=has_mortgage,
            tenure_days=max(0, tenure),
            temper=temper,
            calm=_CALM[temper],
            swing=_SWING[temper],
            activity=float(rng.lognormal(-0.15, 0.55)),
            marketing=bool(chances[0] < 0.78),
            profiling=bool(chances[1] < 0.85),
            research=bool(chances[2] < 0.60),
            taste=self._prior
            + 0.5 * self.sells
            + self._action_taste
            + group[self._group]
            + rng.normal(0, 0.3),
            needs=needs / needs.sum(),
        )

    def eligible(
        self, customer: Customer, placement: str, channel: str, assurance: str, now: int
    ) -> Mask:
        """Which actions [actions] may be shown: treatment, validity, assurance and consent."""
        mask = self._shown[placement, channel] & (self._assurance <= ASSURANCE[assurance])
        mask = mask & (self._valid[:, 0] <= now) & (now <= self._valid[:, 1])
        for purpose in ("marketing", "profiling", "research"):
            if not getattr(customer, purpose):
                mask = mask & (self._purpose != purpose)
        return mask

    def harm(self, customer: Customer) -> Floats:
        """P(presenting the action sends the customer back to us) [actions]."""
        return np.where(self._harmful & (customer.skill < _LOSS), _HARM, 0.0)

    def acceptance(self, customer: Customer, situation: Situation) -> Floats:
        """True acceptance probability [actions], of each on its own, wherever in a slate it is."""
        one = situation
        wanted = self.answers[one.need] if one.need >= 0 else np.zeros(len(self.actions), bool)
        lately = self.answers[one.needed].any(axis=0) & ~wanted
        logits = customer.taste + _CHANNEL.get(
            one.channel, 0.0 if one.channel == "chat" else _MESSAGE
        )
        logits += np.where(wanted, self._fits, np.where(lately, 0.4 * self._fits, self._misses))
        logits += one.mood * self._mood + min(one.failures, 3) * self._failed
        if customer.temper >= TEMPERS.index("enemy"):
            logits -= 0.5 * self.sells
        logits += _SEEN * np.minimum(one.seen, 4) + _REFUSED * one.refused
        logits += _TAKEN * (one.taken & self.sells)
        chances: Floats = 1 / (1 + np.exp(-logits))
        return chances


class Incumbent:
    """How the bank chose until now: crude and partly by chance, so its log can be learned from.

    It knows priors and the last topic it saw, likes to sell, and looks at nothing else. It draws
    slot by slot from (1 - floor) softmax + floor uniform over what remains, without contact limits.
    A small share of slates is held back, larger where the placement declares so.
    """

    floor: Final = 0.2
    noise: Final = 0.5
    hold_back: Final = 0.05

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self._world = world
        self._rng = rng

    def holds_back(self, placement: str) -> tuple[bool, float]:
        """Draw whether a slate is held back; give the probability of that as well."""
        declared = self._world.business.placements[placement].exploration.hold_back
        chance = max(self.hold_back, declared)
        return bool(self._rng.random() < chance), chance

    def slate(self, eligible: Mask, topic: int, slots: int) -> tuple[list[int], list[float]]:
        """Draw a slate.

        Args:
            eligible: [actions], at least ``slots`` of them.
            topic: Index of the intent that was last seen; -1: none.
            slots: 1 or more.

        Returns:
            Indexes of the actions, and the selection probability of each: conditional on those
            above it, and on the noise of this decision.
        """
        world, rng = self._world, self._rng
        rest = np.flatnonzero(eligible)
        score: Any = (
            0.5 * world._prior[rest]
            + world.sells[rest]
            + self.noise * rng.standard_normal(len(rest))
        )
        if topic >= 0:
            score = score + 2.0 * world.answers[topic, rest]
        weight = np.exp(score)
        chosen: list[int] = []
        selection: list[float] = []
        for _ in range(slots):
            chances = (1 - self.floor) * weight / weight.sum() + self.floor / len(rest)
            at = min(int(np.searchsorted(np.cumsum(chances), rng.random())), len(rest) - 1)
            chosen.append(int(rest[at]))
            selection.append(float(chances[at]))
            others = np.arange(len(rest)) != at
            rest, weight = rest[others], weight[others]
        return chosen, selection
