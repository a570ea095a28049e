"""Compile the kernels into numba's cache, so that no request waits for a compiler.

Run once at install or image build; a server does it again at start, in milliseconds by then.
"""

from __future__ import annotations

import numpy as np

from features import elementary, journey, timeline, usage
from features.definitions import Count, Definitions
from features.plan import Context, Plan, rows_of
from features.profile import EMPTY
from features.record import NEVER, decode, encode, pack
from features.usage import Counting
from features.vocabulary import Type, Vocabulary
from service.rules import Environment, Program


def kernels() -> None:
    """Call every kernel with the types that serving and training use."""
    vocabulary = Vocabulary(channels={"a": 1}, types={"b": Type(1)}, actions={"c": 1})
    features: list[Count] = [Count(name="d"), Count(name="e", per_action=True)]
    plan = Plan(Definitions(features=list(features)), vocabulary)
    folded, _ = timeline.fold([pack(occurred_at=1, hash=1, type=1, action=1)])
    _, records = decode(encode(NEVER, folded))
    facts = journey.read(records, 2, plan.lens)
    plan.customer(records, EMPTY, Context(), 2, facts)
    plan.pairs(records, 2, rows_of([1]), 1)
    none = np.zeros(0, np.int64)
    first = np.zeros(usage.OUTCOMES * 2 + 1, np.int64)
    usage.count(records, 2, Counting(2, first, none, none, none, none, none))
    Program([], Environment({})).answers([], [])
    elementary.softmax(elementary.sigmoid(np.zeros(2)))


if __name__ == "__main__":
    kernels()
