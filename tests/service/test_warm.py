from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from features import elementary, journey, kernels, record, timeline, usage
from service import chance, choosing, drawing, entering, ranking, sight
from service.forest import kernels as forests
from service.forest import walk
from service.rules import kernel

KERNELS = (
    elementary, journey, kernels, record, timeline, usage, chance, drawing, ranking, forests, walk,
    kernel, sight, choosing, entering,
)  # fmt: skip


def compiled(module: object) -> dict[str, int]:
    """Signatures that each kernel of a module has been compiled for."""
    return {
        name: len(one.signatures)
        for name, one in vars(module).items()
        if hasattr(one, "signatures")
    }


def test_warming_compiles_every_kernel_for_the_types_of_serving(tmp_path: Path) -> None:
    """In a process of its own: what is warm already here would prove nothing."""
    asked = """
import numpy as np
from features import elementary, journey, kernels, record, timeline, usage
from service import chance, drawing, ranking, warm
from tests.service.test_warm import KERNELS, compiled
from service.models import Models
from tests.integration.serving import business, sealed
bank = business()
models = Models(sealed(), bank)  # verified in the workshop, which may compile
warm.kernels()
before = [compiled(one) for one in KERNELS]
assert all(any(some.values()) for some in before), before
from features.plan import Context, Plan, rows_of
from features.profile import EMPTY
from features.record import LogId, decode, encode
from service import exploration
from service.arbitration import Arbiter, Scores
from service.situation import Situation
from service.catalogue import Exploration
from service.chance import Chance
from service.exploration import Candidates, Shape
from service.rooms import Room
from service.limits import Limits
from tests.chain import NOW, Event, chained
plan = Plan(bank.definitions, bank.vocabulary)
_, records = decode(encode(LogId(1, 0), chained([Event(NOW)])))
facts = journey.read(records, NOW, plan.lens)
vector = plan.customer(timeline.as_of(records, NOW), EMPTY, Context(), NOW, facts)
Limits(bank).counted(records, NOW)
plan.touched(records, NOW, rows_of(list(bank.vocabulary.actions.values())), 100)
plan.pairs(records, NOW, rows_of(list(bank.vocabulary.actions.values())), 100)
elementary.softmax(elementary.sigmoid(vector))
for known in (False, True):
    shapes = [(100,), (100,), (100, 3)] if known else []
    scores = Scores(*(np.zeros(shape) for shape in shapes))
    ranked = Arbiter(bank).rank(2**100 - 1, scores, Situation("phone", {"a": 0.5}, {}, NOW))
    for shape in (Shape(3, 1, 0.0), Shape(3, 1, 0.0, 5, [Room("r", 2**100 - 1, 2)])):
        for how in (exploration.GREEDY, Exploration(0.1, 0.2, 0.3)):
            candidates = Candidates(ranked.rows, ranked.priority, bank.traits)
            exploration.draw(candidates, shape, how, Chance(2**64 - known))
from rapport.v1 import decision_pb2 as pb
from service import deliberation
from service.entries import Entries
from service.inputs import Inputs, Known, Question
from service.pipeline import Pipeline
from service.weighed import Reply
whole = Pipeline(bank)
for used in (models, None):
    for known in (Known(records, records, EMPTY), Known(None, None, None)):
        for places in (["agent_hint"], [], list(bank.placements)[:1]):
            asked = Question("c", bank.placements["agent_hint"].channels[0], 1, places)
            weighed = whole.weigh(Inputs(asked, known, NOW, 2**64 - 1), used)
            answer = whole.settle(weighed, [Reply()] * len(weighed.wants))
            Entries(bank).written(answer, b"", b"", "")
            deliberation.written(weighed, len(bank.actions))
after = [compiled(one) for one in KERNELS]
assert before == after, [(m, n) for m, n in zip(before, after) if m != n]
"""
    done = subprocess.run(
        [sys.executable, "-c", asked],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr[-2_000:]


def test_there_are_kernels_to_warm() -> None:
    for module in KERNELS:
        assert compiled(module)
