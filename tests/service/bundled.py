from __future__ import annotations

import datetime
import functools
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from features.elementary import Floats
from features.plan import Context
from features.record import Records, decode
from service.bundle import Bundle, Golden
from service.catalogue import Exploration
from service.models import Models
from service.sight import Seen
from tests.integration.serving import CONFIG, business
from training import simulate, workflow
from training.labels import Learning, Targets


def seen(case: Golden) -> tuple[Records, Context]:
    return decode(case.timeline)[1], Context(case.channel, case.direction)


def matrix(models: Models, told: Seen) -> Floats:
    """What the models see of every action: [actions, names of the plan]."""
    return np.stack([models.row(told, row) for row in range(len(models.names))])


@functools.cache
def lifted() -> Bundle:
    """A bundle with an uplift model of few trees, for a bank that holds back every second slate."""
    bank = business()
    placements = {
        name: msgspec.structs.replace(one, exploration=Exploration(hold_back=0.5))
        for name, one in bank.placements.items()
    }
    bank = msgspec.structs.replace(bank, placements=placements)
    targets = workflow.targets(CONFIG)
    assert targets.uplift is not None
    few = msgspec.structs.replace(
        targets.uplift, within="2d", held_back=20, bags=3, learning=Learning(8)
    )
    with tempfile.TemporaryDirectory() as folder:
        simulate.simulate(
            bank, Path(folder), customers=60, days=60, seed=1,
            end=datetime.datetime(2026, 11, 20, tzinfo=datetime.UTC),
            progress=lambda done, of: None,
        )  # fmt: skip
        return workflow.fit(Path(folder), bank, Targets(uplift=few), lambda name, done, of: None)
