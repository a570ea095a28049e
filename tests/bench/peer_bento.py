"""A peer: the same models over the same store behind BentoML, as a team without Rapport might.

It reads the customer, computes the same features with our own kernel, scores intents and all
actions with LightGBM, and answers the three best by probability x value. No rules, limits,
exploration, reservations, reasons or log. ``bentoml serve tests.bench.peer_bento:Decide`` serves
it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import bentoml
import lightgbm
import numpy as np
from redis.asyncio import Redis

from features import profile as profiles
from features.plan import Context, Plan, rows_of
from features.record import decode
from service import bundle as bundles
from service import business as businesses
from service import keys
from service.usual import described
from tests.bench.people import TENANT
from tests.bench.reference import CHANNEL, SLOTS


class Decider:
    """Answers which actions are best."""

    def __init__(self) -> None:
        business = businesses.load(Path(os.environ["BENCH_CONFIG"]))
        files = bundles.read(Path(os.environ["BENCH_BUNDLE"])).files
        self._redis: Any = Redis.from_url(os.environ["BENCH_STORE"])
        self._plan = Plan(business.definitions, business.vocabulary)
        self._intent = lightgbm.Booster(model_str=files[bundles.INTENT].decode())
        self._acceptance = lightgbm.Booster(model_str=files[bundles.ACCEPTANCE].decode())
        self._names = [one.name for one in business.actions]
        self._values = np.array([one.value for one in business.actions])
        self._described = self._plan.actions(described(business))
        self._row_of = rows_of([business.vocabulary.actions[name] for name in self._names])
        self._channel = business.vocabulary.channels[CHANNEL]

    async def decide(self, customer_id: str) -> dict[str, Any]:
        """Give intents and the best actions of a customer."""
        now = time.time_ns() // 1_000_000
        timeline, profile = await self._redis.mget(
            keys.timeline(TENANT, customer_id), keys.profile(TENANT, customer_id)
        )
        _, records = decode(timeline)
        _, told = profiles.decode(profile)
        vector = self._plan.customer(records, told, Context(self._channel, 1), now)
        pairs = self._plan.pairs(records, now, self._row_of, len(self._names))
        rows = np.column_stack([np.tile(vector, (len(self._names), 1)), self._described, pairs])[
            :, self._plan.columns("acceptance")
        ]
        odds = np.asarray(self._acceptance.predict(rows, raw_score=True, num_threads=1))
        row = vector[self._plan.columns("intent")].reshape(1, -1)
        intents = np.asarray(self._intent.predict(row, num_threads=1))[0]
        chances = 1 / (1 + np.exp(-odds))
        best = np.argsort(-chances * self._values)[:SLOTS]
        return {
            "intent": int(intents.argmax()),
            "actions": [self._names[i] for i in best],
            "probabilities": chances[best].tolist(),
        }

    decide = bentoml.api(decide)


Decide = bentoml.service(workers=1)(Decider)
