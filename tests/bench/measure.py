"""Floor and full in turns: throughput, latency and CPU, round by round."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np

from features.elementary import Floats
from tests.bench.load import Done, Job
from tests.bench.processes import Process, cpu_of, drained
from tests.bench.stand import Pair, Stand

SHARES: Final = (0.25, 0.5, 0.8)
"""Of the peak: of what full does with 64 in flight."""
QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}


class Scale(NamedTuple):
    """How long to measure."""

    rounds: int = 7
    closed: float = 1.5  # seconds
    open: float = 3.0  # seconds
    in_flight: tuple[int, ...] = (1, 16, 64)
    shares: tuple[float, ...] = SHARES
    samples: int = 1_000  # decisions that are computed again


BRIEF: Final = Scale(7, 1.0, 2.0, (1, 16), (0.5,), 200)
"""For another way between the same processes."""

QUICK: Final = Scale(3, 0.7, 1.5, (1, 16), (0.5,), 150)
"""For a developer who waits, and as a guard in CI."""


class Series:
    """Numbers by name, one a round; latencies also of all rounds together."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        self._pooled: dict[str, list[Floats]] = {}

    def add(self, name: str, value: float) -> None:
        """Add what a round gave."""
        self.values.setdefault(name, []).append(value)

    def add_latencies(self, name: str, milliseconds: Floats) -> None:
        """Add the latencies of a round."""
        for label, quantile in QUANTILES.items():
            self.add(f"{name}.{label}", float(np.quantile(milliseconds, quantile)))
        self._pooled.setdefault(name, []).append(milliseconds)

    def median(self, name: str) -> float:
        """Median over the rounds; NaN where there is none."""
        return statistics.median(self.values[name]) if name in self.values else float("nan")

    def spread(self, name: str) -> tuple[float, float]:
        """Lowest and highest of the rounds."""
        return min(self.values[name]), max(self.values[name])

    def pooled(self, name: str) -> Floats:
        """Latencies of all rounds, milliseconds."""
        return np.concatenate(self._pooled[name])

    def ratios(self, name: str) -> list[float]:
        """Full over floor, round by round; ``name`` begins behind ``floor.`` and ``full.``."""
        pairs = zip(self.values[f"full.{name}"], self.values[f"floor.{name}"], strict=True)
        return [one / other for one, other in pairs]


class Turns:
    """Measures one pair in turns.

    Args:
        stand: Where it is.
        pair: The pair.
        scale: How long.
        taken: Told the calls that full has answered since the last time, once it has drained.
    """

    def __init__(
        self, stand: Stand, pair: Pair, scale: Scale, taken: Callable[[int], None]
    ) -> None:
        self._stand, self._pair, self._scale, self._taken = stand, pair, scale, taken
        self.series = Series()
        self._seed = 0
        self._calls = 0  # to full since the log was looked at

    def run(self, show: Callable[[int, int], None]) -> float:
        """Measure all rounds; give the peak that rates are shares of, calls a second."""
        servers = {"floor": self._pair.floor, "full": self._pair.full}
        for name in servers:  # connections, caches, branch predictors
            self._closed(name, 16, 1.0)
        peak = self._closed("full", 64, self._scale.closed)[0].per_second
        self._look()
        for turn in range(self._scale.rounds):
            order = list(servers)
            for name in order if turn % 2 == 0 else order[::-1]:
                self._round(name, peak)
            self._look()
            show(turn + 1, self._scale.rounds)
        return peak

    def _look(self) -> None:
        self._taken(self._calls)
        self._calls = 0

    def _server(self, name: str) -> Process:
        return self._pair.full if name == "full" else self._pair.floor

    def _round(self, name: str, peak: float) -> None:
        server, store = self._server(name), self._pair.store.pid
        for in_flight in self._scale.in_flight:
            before, before_store = server.cpu(), cpu_of(store)
            done, latencies = self._closed(name, in_flight, self._scale.closed)
            self.series.add_latencies(f"{name}.{in_flight} in flight", latencies)
            for what, value in (
                ("per_second", done.per_second),
                ("cpu_us", 1e6 * (server.cpu() - before) / done.calls),
                ("store_us", 1e6 * (cpu_of(store) - before_store) / done.calls),
                ("sender_us", done.sender_us),
            ):
                self.series.add(f"{name}.{what}.{in_flight}", value)
        for share in self._scale.shares:
            job = self._job(name, "open")
            job = msgspec.structs.replace(job, rate=share * peak, seconds=self._scale.open)
            done, latencies = self._called(name, job)
            self.series.add_latencies(f"{name}.{share:.0%} of peak", latencies)
            self.series.add(f"{name}.behind_us.{share:.0%}", done.behind_us)

    def _closed(self, name: str, in_flight: int, seconds: float) -> tuple[Done, Floats]:
        job = self._job(name, "closed")
        return self._called(
            name, msgspec.structs.replace(job, in_flight=in_flight, seconds=seconds)
        )

    def _job(self, name: str, kind: Literal["closed", "open"]) -> Job:
        """A job whose customers come in an order of its own."""
        self._seed += 1
        return Job(kind, self._server(name).address, self._stand.questions, "", seed=self._seed)

    def _called(self, name: str, job: Job) -> tuple[Done, Floats]:
        """Run a job; the journal of full is empty when it is done."""
        done, latencies = self._stand.loader.run(job)
        if name == "full":
            self._calls += done.calls
            self.series.add("full.drain_s", drained(job.address))
        return done, latencies
