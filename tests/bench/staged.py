"""A server with clocks around the steps of a decision: where its microseconds go.

``python -m tests.bench.staged CONFIG STORE BUNDLE ADDRESS REPORT`` serves until SIGTERM like
``rapport serve``, then writes a :class:`Report`. A clock shows a step's own time: what other steps
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
from pathlib import Path
from typing import Any, Final

import lightgbm
import msgspec
import numpy as np
import uvloop

from service import bundle as bundles
from service import business as businesses
from service import logs
from service.bundle import Bundle
from service.models import Models
from service.redis_store import RedisStore
from service.server import Server, Settings

STAGES: Final[dict[str, tuple[str, ...]]] = {
    "request read": ("service.questions:read",),
    "snapshot decoded": ("service.reading:known",),
    "journey facts": ("features.journey:read", "service.facts:tell"),
    "features": ("service.models:Models.customer", "service.models:Models.rows"),
    "intents scored": ("service.models:Models.intents", "service.models:Models.named"),
    "actions scored": ("service.models:Models.acceptance",),
    "rules evaluated": ("service.pipeline:Pipeline._conditions",),
    "filter stages": ("service.policies:Policies.causes",),
    "ranked": ("service.arbitration:Arbiter.rank",),
    "drawn": ("service.exploration:draw",),
    "weighed, the rest": ("service.pipeline:Pipeline.weigh",),
    "holds packed": ("service.decide:Decider._hold",),
    "answer made": ("service.pipeline:Pipeline.settle",),
    "answer written": ("service.answers:response",),
    "log entry built": ("service.answers:logged",),
    "canonical line": ("structlog:BoundLoggerBase._proxy_to_logger",),
}
"""Steps, and the functions that they consist of; one that is gone by now is told as missing."""

_WHOLE: Final = "log entry built"
"""A step that keeps what other steps take inside it: it is not on the way of the answer."""

_COMPARED: Final = 20  # every so many calls, LightGBM scores the same rows too
_SCORING: Final = "service.models:Models.acceptance"


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
            for function in functions:
                found = _found(function)
                if found is None:
                    self.missing.append(f"{name}: {function}")
                else:
                    owner, attribute = found
                    setattr(owner, attribute, self._timed(name, getattr(owner, attribute)))

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        stage, running, now = self.stages[name], self._running, time.thread_time_ns

        @functools.wraps(function)
        def run(*arguments: Any, **named: Any) -> Any:
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

    def __init__(self, bundle: Bundle) -> None:
        self._booster = lightgbm.Booster(model_str=bundle.files[bundles.ACCEPTANCE].decode())
        self._chance = random.Random(1)
        self.scored: list[float] = []
        self.predicted: list[float] = []
        self.difference = 0.0

    def put(self) -> None:
        """Put a clock around scoring."""
        owner, attribute = _found(_SCORING) or (None, "")
        if owner is None:
            return
        scores = getattr(owner, attribute)

        @functools.wraps(scores)
        def run(models: Models, *arguments: Any, **named: Any) -> Any:
            start = time.thread_time_ns()
            found = scores(models, *arguments, **named)
            self.scored.append((time.thread_time_ns() - start) / 1e3)
            if self._chance.randrange(_COMPARED) == 0:
                self._compare(models, np.asarray(arguments[0]), np.asarray(found))
            return found

        setattr(owner, attribute, run)

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


def serve(config: str, url: str, bundle: str, address: str, report: str) -> None:
    """Serve with clocks; write what they show when it has drained."""
    business = businesses.load(Path(config))
    sealed = bundles.read(Path(bundle))
    writer = logs.configure()
    clocks, scoring = Clocks(), Scoring(sealed)

    async def run() -> None:
        store = RedisStore(
            url,
            horizon=business.ledger_window_ms,
            keep=business.ledger_keep,
            decisions=business.response_window_ms,
        )
        server = Server(business, store, Settings(listen=address, configuration=Path(config)))
        await server.start(sealed)
        scoring.put()  # golden cases are scored by now
        clocks.put()
        try:
            await server.until_signal()
        finally:
            await server.stop()

    uvloop.run(run())
    writer.close()
    told = Report(
        clocks.stages["filter stages"].calls,
        clocks.stages,
        clocks.missing,
        scoring.scored,
        scoring.predicted,
        scoring.difference,
        len(business.actions),
    )
    Path(report).write_bytes(msgspec.json.encode(told))


if __name__ == "__main__":
    serve(*sys.argv[1:])
