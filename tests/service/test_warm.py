from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from features import elementary, journey, kernels, record, timeline, usage


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
from features import elementary, journey, kernels, record, timeline, usage
from service import warm
from tests.service.test_warm import compiled
warm.kernels()
before = [compiled(one) for one in (elementary, journey, kernels, record, timeline, usage)]
assert all(any(some.values()) for some in before), before
from features.plan import Context, Plan, rows_of
from features.profile import EMPTY
from features.record import LogId, decode, encode
from service.policies import Policies
from tests.chain import NOW, Event, chained
from tests.integration.serving import business
bank = business()
plan = Plan(bank.definitions, bank.vocabulary)
_, records = decode(encode(LogId(1, 0), chained([Event(NOW)])))
facts = journey.read(records, NOW, plan.lens)
vector = plan.customer(timeline.as_of(records, NOW), EMPTY, Context(), NOW, facts)
Policies(bank).counted(records, NOW)
plan.touched(records, NOW, rows_of(list(bank.vocabulary.actions.values())), 100)
plan.pairs(records, NOW, rows_of(list(bank.vocabulary.actions.values())), 100)
elementary.softmax(elementary.sigmoid(vector))
after = [compiled(one) for one in (elementary, journey, kernels, record, timeline, usage)]
assert before == after, (before, after)
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
    for module in (elementary, journey, kernels, record, timeline, usage):
        assert compiled(module)
