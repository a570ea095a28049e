"""Where the milliseconds of a call go when calls come at random, on average and of the slowest.

``python -m tests.bench.waits [CALLS_A_SECOND ...]`` calls the bench's server in an open loop and
notes when a call was meant to start, and when it was sent and answered; the server notes when it
took it up, had read the customer, weighed, and was done. Half a minute; without rates, half of the
peak.
"""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from service import cli
from service.decide import Decider
from service.together import Steps
from tests.bench.load import Job, Run
from tests.bench.processes import WORK, Process, cores, drained
from tests.bench.stand import Stand, address, serve_words, stand
from tests.bench.wire import framed
from training.progress import Bars

PARTS: Final = (
    "sent later than meant",
    "on the way in: kernel, gRPC, event loop",
    "customer read",
    "waiting to be weighed",
    "weighed and written",
    "limits reserved",
    "on the way out",
    "all",
)
_SECONDS: Final = 8.0
_SLOWEST: Final = 0.02

Moments = tuple[str, float, float, float, float, float]
"""Customer; taken up, read, drawing, drafted, done: seconds of the machine's monotonic clock."""


class Watched(Run):
    """A run that keeps when each call was meant to start, was sent, and was answered."""

    def __init__(self, job: Job, messages: list[bytes]) -> None:
        super().__init__(job, messages)
        self._calls: list[dict[int, tuple[int, float, float]]] = [{} for _ in self._connections]
        self.told: list[tuple[int, float, float, float]] = []  # customer, meant, sent, answered

    def _send(self, number: int, due: float) -> None:
        customer = self._order[self.sent % len(self._order)]
        super()._send(number, due)
        stream = next(reversed(self._due[number]))
        self._calls[number][stream] = customer, due, time.perf_counter()

    def _collect(self, number: int, now: Any) -> int:
        open_before = set(self._due[number])
        ended = super()._collect(number, now)
        at = now()
        for stream in open_before - set(self._due[number]):
            self.told.append((*self._calls[number].pop(stream), at))
        return ended


def main() -> None:
    """Measure and print."""
    os.sched_setaffinity(0, cores().others)
    console = Console()
    with Bars() as bars, stand(bars, ("unix",)) as ready:
        store = ready.pairs["unix"].store
        at, report = address("unix", "waits"), WORK / "waits.moments"
        words = [
            "-m",
            "tests.bench.waits",
            "serve",
            str(report),
            *serve_words(ready.work, store.url, at)[3:],
        ]
        runs: list[tuple[float, Watched]] = []
        with Process("waits", words, at, cores().server):
            job = Job("closed", at, ready.questions, "", in_flight=64, seconds=2.0)
            done, _ = ready.loader.run(job)
            drained(at)
            rates = [float(one) for one in sys.argv[1:]] or [done.per_second / 2]
            for seed, rate in enumerate(rates):
                runs.append((rate, _watched(ready, at, rate, seed)))
                bars("rates", seed + 1, len(rates))
        moments = msgspec.msgpack.decode(report.read_bytes(), type=list[Moments])
    for rate, run in runs:
        console.print(_table(rate, _joined(run, moments, ready.people.ids)))


def _watched(ready: Stand, at: str, rate: float, seed: int) -> Watched:
    messages = msgspec.msgpack.decode(Path(ready.questions).read_bytes(), type=list[bytes])
    run = Watched(Job("open", at, "", "", seed=seed), [framed(one) for one in messages])
    run.open(rate, _SECONDS, seed)
    run.close()
    drained(at)
    return run


def _joined(run: Watched, moments: list[Moments], ids: list[str]) -> np.ndarray[Any, Any]:
    """Milliseconds of each of :data:`PARTS`, call by call."""
    of_customer = defaultdict(list)
    for customer_id, *seen in moments:
        of_customer[customer_id].append(seen)
    rows = []
    for customer, meant, sent, answered in run.told:
        for seen in of_customer[ids[customer]]:
            if sent <= seen[0] and seen[-1] <= answered:
                stops = (meant, sent, *seen, answered)
                rows.append((*np.diff(stops), answered - meant))
                break
    return 1e3 * np.array(rows)


def _table(rate: float, parts: np.ndarray[Any, Any]) -> Table:
    whole = parts[:, -1]
    slowest = parts[whole >= np.quantile(whole, 1 - _SLOWEST)]
    table = Table(
        "ms", "median", "99 %", "mean", f"mean of the slowest {_SLOWEST:.0%}",
        title=f"{len(parts):,} calls, {rate:,.0f} a second",
    )  # fmt: skip
    for name, column, of_slowest in zip(PARTS, parts.T, slowest.T, strict=True):
        told = (np.median(column), np.quantile(column, 0.99), column.mean(), of_slowest.mean())
        table.add_row(name, *(f"{one:.2f}" for one in told))
    return table


def serve(report: str, words: list[str]) -> None:
    """Serve as ``rapport serve`` does, and write the moments of every decision in the end."""
    told: list[Moments] = []
    under_way: dict[int, list[float]] = {}
    decide, draft = Decider.decide, Decider._draft
    now = time.perf_counter

    async def decided(self: Decider, question: Any, *rest: Any) -> Any:
        seen = under_way[id(question)] = [now()]
        try:
            return await decide(self, question, *rest)
        finally:
            del under_way[id(question)]
            if len(seen) == 4:  # it was not given up
                told.append((question.customer_id, *seen, now()))

    def drafted(self: Decider, question: Any, *rest: Any) -> Steps[Any]:
        seen = under_way[id(question)]
        seen.append(now())
        return _timed(draft(self, question, *rest), seen)

    def _timed(steps: Steps[Any], seen: list[float]) -> Steps[Any]:
        seen.append(now())
        found = yield from steps
        seen.append(now())
        return found

    Decider.decide, Decider._draft = decided, drafted  # type: ignore[assignment,method-assign]
    sys.argv = ["rapport", "serve", *words]
    with suppress(SystemExit):  # the command's own end
        cli.main()
    Path(report).write_bytes(msgspec.msgpack.encode(told))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2], sys.argv[3:])
    else:
        main()
