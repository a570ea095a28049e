"""The customers of the reference work: timelines, ledgers and profiles, all different.

The same seed and moment give the same people, so what the store held when a decision was taken
need not be kept to check it afterwards.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
from redis import Redis

from features import profile as profiles
from features.duration import DAY, HOUR
from features.kernels import Integers
from features.profile import Consent, Profile, Told, Value
from features.record import NO_SENTIMENT, RECORD, LogId, Records, encode
from features.vocabulary import Outcome
from service import keys
from service.business import Business
from service.declared import OUTCOME_TYPE
from service.limits import counted_outcomes

COUNT: Final = 10_000
EVENTS: Final = 256
TOUCHED: Final = 40  # actions that a customer's events are about
TENANT: Final = "main"
_SPAN: Final = 120 * DAY
_PAGE: Final = 500
_ANSWERS: Final = (Outcome.clicked, Outcome.accepted, Outcome.rejected, Outcome.dismissed)


class People:
    """Customers with a history of some length.

    Args:
        business: In whose words.
        now: Milliseconds; nothing happened after that.
        count: How many.
        events: Of each.
        seed: Another one gives others.
    """

    def __init__(
        self, business: Business, now: int, count: int = COUNT, events: int = EVENTS, seed: int = 5
    ) -> None:
        self.business, self.now, self.events = business, now, events
        self.ids = [f"c{events}-{number}" for number in range(count)]
        self.place = {one: number for number, one in enumerate(self.ids)}
        self.read = LogId(now, 1)  # of all that is stored before the first decision
        self._chance = np.random.default_rng((seed, events))
        self._counted = sorted(counted_outcomes(business))

    @cached_property
    def timelines(self) -> Records:
        """[customers, events] records, those of each in order."""
        chance, vocabulary = self._chance, self.business.vocabulary
        people, events = len(self.ids), self.events
        records = np.zeros((people, events), RECORD)
        shape = (people, events)
        # More of it lately, as with people.
        ages = (chance.random(shape) ** 2 * _SPAN).astype(np.int64) + 1
        records["occurred_at"] = self.now - np.sort(ages, axis=1)[:, ::-1]
        records["hash"] = chance.integers(1, 2**63, shape, np.uint64)
        kinds = [code for name, code in vocabulary.type_codes.items() if name != OUTCOME_TYPE]
        records["type"] = chance.choice(np.array(kinds, np.uint16), shape)
        records["intent"] = np.where(
            chance.random(shape) < 0.6, chance.integers(1, len(vocabulary.intents) + 1, shape), 0
        )
        records["channel"] = chance.integers(1, max(vocabulary.channels.values()) + 1, shape)
        records["flags"] = chance.integers(1, 4, shape)
        records["interaction"] = chance.integers(0, 2**32, shape, np.uint32)
        records["agent"] = np.where(chance.random(shape) < 0.1, chance.integers(1, 200, shape), 0)
        worth = np.where(chance.random(shape) < 0.3, chance.gamma(2.0, 40.0, shape), np.nan)
        records["value"] = worth.astype(np.float32)
        lasted = np.where(chance.random(shape) < 0.2, chance.integers(5, 1_800, shape), 65_535)
        records["duration"] = lasted
        felt = chance.integers(-100, 101, shape)
        records["sentiment"] = np.where(chance.random(shape) < 0.15, felt, NO_SENTIMENT)
        self._show_actions(records)
        records.flags.writeable = False
        return records

    def _show_actions(self, records: Records) -> None:
        """Turn a third of the events into what became of some actions: shown, then answered."""
        chance, vocabulary = self._chance, self.business.vocabulary
        people, events = records.shape
        codes = np.array(list(vocabulary.actions.values()), np.uint16)
        touched = min(TOUCHED, len(codes), events // 4)
        whose = np.argsort(chance.random((people, len(codes))), axis=1)[:, :touched]
        when = np.argsort(chance.random((people, events)), axis=1)[:, : 2 * touched]
        when = np.sort(when.reshape(people, touched, 2), axis=2)
        row = np.arange(people)[:, None]
        for turn in range(2):
            at = (row, when[:, :, turn])
            records["type"][at] = vocabulary.type_codes[OUTCOME_TYPE]
            records["action"][at] = codes[whose]
            records["outcome"][at] = (
                int(Outcome.presented)
                if turn == 0
                else chance.choice(np.array(_ANSWERS, np.uint8), whose.shape)
            )

    def ledger(self, number: int) -> Records:
        """What contact limits count of a customer's events."""
        records: Records = self.timelines[number]
        recent = records["occurred_at"] >= self.now - self.business.ledger_window_ms
        counted: Records = records[recent & np.isin(records["outcome"], self._counted)]
        return counted

    def profile(self, number: int) -> Profile:
        """All attributes told and all consents given, another profile for everybody."""
        chance = random.Random(number)
        moment = self.now - chance.randrange(HOUR, 20 * DAY)
        told: dict[str, Told] = {}
        for name, attribute in self.business.vocabulary.attributes.items():
            value: Value = chance.choice(list(attribute.values) or [""])
            if attribute.kind == "number":
                value = float(
                    chance.randrange(18, 90) if name == "age" else chance.randrange(4_000)
                )
            elif attribute.kind == "flag":
                value = chance.random() < 0.5
            told[name] = Told(value, moment)
        told["products"] = Told(float(chance.randrange(9)), moment)
        told["customer_since_days"] = Told(float(chance.randrange(30, 9_000)), moment)
        purposes = self.business.vocabulary.purposes
        return Profile(told, [Consent(one, "", True, moment) for one in purposes])

    def stored(self, number: int) -> Iterator[tuple[str, bytes]]:
        """Keys of a customer and what they hold."""
        customer, none = self.ids[number], self.timelines[number][:0]
        yield keys.timeline(TENANT, customer), encode(self.read, self.timelines[number])
        yield keys.ledger(TENANT, customer), encode(self.read, self.ledger(number))
        yield (
            keys.profile(TENANT, customer),
            encode(self.read, none) + profiles.encode(self.profile(number)),
        )

    def fill(self, urls: Sequence[str], show: Callable[[int, int], None]) -> None:
        """Write everybody into some stores.

        Args:
            urls: The stores.
            show: Told customers done, and of how many.
        """
        connected: list[Any] = [Redis.from_url(url) for url in urls]
        for first in range(0, len(self.ids), _PAGE):
            page = range(first, min(first + _PAGE, len(self.ids)))
            stored = [pair for number in page for pair in self.stored(number)]
            for redis in connected:
                with redis.pipeline(transaction=False) as pipeline:
                    for key, value in stored:
                        pipeline.set(key, value)
                    pipeline.execute()
            show(page.stop, len(self.ids))
        for redis in connected:
            redis.close()

    def drawn(self, count: int, seed: int) -> Integers:
        """Some of them, none twice."""
        chance = np.random.default_rng(seed)
        chosen: Integers = chance.permutation(len(self.ids))[:count]
        return chosen
