"""A server with clocks around the steps of a decision: where its microseconds go.

``python -m tests.bench.staged REPORT ACTIONS BUNDLE ...`` serves until SIGTERM, as ``rapport serve
...`` does, then writes a :class:`Report`. A clock shows a step's own time: what other steps
took inside it is theirs. They are clocks of the thread's CPU: time in which others had the core
does not count. They cost half a microsecond a step, so throughput is never measured here. What no
clock is around (gRPC, the event loop, the store's client) is what remains of the CPU of a call.
"""

from __future__ import annotations

import functools
import importlib
import random
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import lightgbm
import msgspec
import numpy as np

from service import bundle as bundles
from service import cli
from service.bundle import Bundle
from service.models import Models
from service.sight import Seen

STAGES: Final[dict[str, tuple[str, ...]]] = {
    "request read": ("service.asked:Reader.read",),
    "snapshot decoded": ("service.reading:known",),
    "seen and said": ("service.models:Models.look",),
    "facts told": ("service.facts:tell",),
    "rules loaded": ("service.conditions:Conditions.load",),
    "what stands": ("service.standing:Standings.of",),
    "chosen": ("service.chooser:Chooser.choose",),
    "weighed, the rest": ("service.together:Together._turn",),
    "holds packed": ("service.reserving:Reserving.holds",),
    "answer made": ("service.pipeline:Pipeline.settle",),
    "answer written": ("service.answers:Answers.written",),
    "log entry built": ("service.entries:Entries.written",),
    "canonical line": ("service.logs:line",),
}
"""Steps, and the functions that they consist of; one of which none is left is told as missing.

*Seen and said* are facts, features, intents and the actions' chances, one call; *chosen* are rules,
limits, ranks and the draw, another.
"""

_FIRST: Final = "request read"
"""The first step of every decision; what came before the first of them was no decision."""

_WHOLE: Final = "log entry built"
"""A step that keeps what other steps take inside it: it is not on the way of the answer."""

_COMPARED: Final = 10  # every so many calls, what was seen last is scored alone, and by LightGBM
_SCORING: Final = "service.models:Models.look"


class Stage(msgspec.Struct):
    """One step."""

    total_us: float = 0.0
    calls: int = 0


class Report(msgspec.Struct):
    """What the clocks showed."""

    decisions: int
    stages: dict[str, Stage]
    missing: list[str]  # functions that are not there any more
    scored_us: list[float]  # each scoring of all actions
    predicted_us: list[float]  # Booster.predict on the rows of some of them, at the same place
    difference: float  # largest between the two, of a raw score
    actions: int
    spent_us: float = 0.0  # on scoring with LightGBM, which is no step


class _Running:
    """A step under way."""

    def __init__(self, step: str) -> None:
        self.step = step
        self.others = 0  # nanoseconds that other steps took inside it


class Clocks:
    """Own time by step, on one thread."""

    def __init__(self) -> None:
        self.stages = {name: Stage() for name in STAGES}
        self.missing: list[str] = []
        self._running: list[_Running] = []

    def put(self) -> None:
        """Put a clock around every function that is there."""
        for name, functions in STAGES.items():
            found = [one for one in map(_found, functions) if one is not None]
            for owner, attribute in found:
                setattr(owner, attribute, self._timed(name, getattr(owner, attribute)))
            if not found:
                self.missing.append(f"{name}: {', '.join(functions)}")

    @property
    def decided(self) -> bool:
        """Whether there was a decision."""
        return self.stages[_FIRST].calls > 0

    def leave_out(self, nanoseconds: int) -> None:
        """Count time that was spent on measuring for no step."""
        if self._running:
            self._running[-1].others += nanoseconds

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        stage, running, now = self.stages[name], self._running, time.thread_time_ns

        @functools.wraps(function)
        def run(*arguments: Any, **named: Any) -> Any:
            if not self.decided and name != _FIRST:  # golden cases
                return function(*arguments, **named)
            if running and running[-1].step == _WHOLE:
                return function(*arguments, **named)
            mine = _Running(name)
            running.append(mine)
            start = now()
            try:
                return function(*arguments, **named)
            finally:
                took = now() - start
                running.pop()
                stage.total_us += (took - mine.others) / 1e3
                stage.calls += 1
                if running:
                    running[-1].others += took

        return run


class Scoring:
    """Scoring inside the server, against LightGBM on the same rows at the same place."""

    def __init__(self, bundle: Bundle, clocks: Clocks) -> None:
        self._clocks = clocks
        self._booster = lightgbm.Booster(model_str=bundle.files[bundles.ACCEPTANCE].decode())
        self._chance = random.Random(1)
        self.scored: list[float] = []
        self.predicted: list[float] = []
        self.difference = 0.0
        self.spent_us = 0.0

    def put(self) -> None:
        """Score now and then in front of a decision, where caches are as it finds them."""
        owner, attribute = _found(_SCORING) or (None, "")
        if owner is None:
            return
        look = getattr(owner, attribute)
        last: list[Seen] = []

        @functools.wraps(look)
        def run(models: Models, *arguments: Any, **named: Any) -> Any:
            if self._clocks.decided and last and self._chance.randrange(_COMPARED) == 0:
                before = time.thread_time_ns()
                self._score(models, last[0])
                spent = time.thread_time_ns() - before
                self.spent_us += spent / 1e3
                self._clocks.leave_out(spent)
            found = look(models, *arguments, **named)
            last[:] = [found.seen]
            return found

        setattr(owner, attribute, run)

    def _score(self, models: Models, seen: Seen) -> None:
        """Score all actions for the customer of the decision before, and LightGBM too."""
        start = time.thread_time_ns()
        found = models.acceptance(seen)
        self.scored.append((time.thread_time_ns() - start) / 1e3)
        rows = np.array([models.row(seen, row) for row in range(len(found))])
        self._compare(models, rows, np.asarray(found))

    def _compare(self, models: Models, rows: np.ndarray, found: np.ndarray) -> None:
        """Score what was scored, as LightGBM does."""
        columns = models.plan.columns("acceptance")
        seen = np.ascontiguousarray(rows[:, columns])
        start = time.thread_time_ns()
        scores = self._booster.predict(seen, raw_score=True, num_threads=1)
        self.predicted.append((time.thread_time_ns() - start) / 1e3)
        ours = np.log(found / (1 - found))  # the bench's models are calibrated by nothing
        self.difference = max(self.difference, float(np.abs(ours - scores).max()))


def _found(function: str) -> tuple[Any, str] | None:
    """Where a function is: what holds it, and under which name."""
    module, _, path = function.partition(":")
    *outer, attribute = path.split(".")
    try:
        owner: Any = importlib.import_module(module)
    except ModuleNotFoundError:
        return None
    for name in outer:
        owner = getattr(owner, name, None)
    return (owner, attribute) if hasattr(owner, attribute) else None


def main() -> None:
    """Serve with clocks; write what they show when it has drained."""
    report, actions, bundle, *words = sys.argv[1:]
    clocks = Clocks()
    scoring = Scoring(bundles.read(Path(bundle)), clocks)
    clocks.put()
    scoring.put()
    sys.argv = ["rapport", "serve", "--bundle", bundle, *words]
    with suppress(SystemExit):  # the command's own end
        cli.main()
    told = Report(
        clocks.stages[_FIRST].calls,
        clocks.stages,
        clocks.missing,
        scoring.scored,
        scoring.predicted,
        scoring.difference,
        int(actions),
        scoring.spent_us,
    )
    Path(report).write_bytes(msgspec.json.encode(told))


if __name__ == "__main__":
    main()
