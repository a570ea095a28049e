"""Several servers of the bench's work in turns: what a change does, beside a floor in the same run.

``python -m tests.bench.versus before=../other now=.`` serves from two checkouts;
``python -m tests.bench.versus now=. less=.,NAME=VALUE`` from one with other environment variables.
Each checkout needs a ``.venv`` that is ready, or uses this one's. Servers share one core by turns,
in an order that changes; the table gives medians over the rounds, and the ratio to the first server
round by round.
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from tests.bench.load import Job
from tests.bench.processes import Process, cores, drained
from tests.bench.stand import Pair, Stand, address, serve_words, stand
from training.progress import Bars


class Measured(NamedTuple):
    """What one server did in one round."""

    per_second: float
    cpu_us: float
    p50: float  # milliseconds
    p99: float


class Way(NamedTuple):
    """How servers are called."""

    in_flight: int  # 0: open-loop
    rate: float

    def __str__(self) -> str:
        return f"{self.in_flight} in flight" if self.in_flight else f"{self.rate:,.0f}/s"

    def job(self, server: Process, questions: str, seconds: float, seed: int) -> Job:
        """What the load is told."""
        job = Job("closed", server.address, questions, "", seed=seed, seconds=seconds)
        if self.in_flight:
            return msgspec.structs.replace(job, in_flight=self.in_flight)
        return msgspec.structs.replace(job, kind="open", rate=self.rate)


def main() -> None:
    """Measure and print."""
    asked = _options()
    ways = [Way(int(one), 0.0) for one in asked.in_flight.split(",") if one]
    ways += [Way(0, float(one)) for one in asked.rates.split(",") if one]
    with Bars() as bars, ExitStack() as held:
        ready = held.enter_context(stand(bars, ("unix",)))
        (pair,) = ready.pairs.values()
        servers = {"floor": pair.floor}
        for one in asked.servers:
            name, server = _served(one, ready, pair)
            servers[name] = held.enter_context(server)
        found: dict[tuple[Way, str], list[Measured]] = {}
        for turn in range(-1, asked.rounds):  # the first warms everything up
            for way, name in _order(ways, list(servers), turn):
                measured = _measured(ready, servers[name], way, asked.seconds, turn + 1)
                if turn >= 0:
                    found.setdefault((way, name), []).append(measured)
            bars("rounds", turn + 1, asked.rounds)
    _show(found, ways, list(servers))


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(prog="python -m tests.bench.versus", description=__doc__)
    options.add_argument("servers", nargs="+", metavar="NAME=CHECKOUT[,VARIABLE=VALUE...]")
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    options.add_argument("--in-flight", default="1,16", help="closed-loop, such as 1,16")
    options.add_argument(
        "--rates", default="900", help="open-loop, calls a second, such as 500,900"
    )
    return options.parse_args()


def _served(told: str, ready: Stand, pair: Pair) -> tuple[str, Process]:
    """Start a server as it was described."""
    name, _, rest = told.partition("=")
    checkout, *variables = re.split(r",(?=\w+=)", rest)  # a value may have commas of its own
    at = address("unix", f"versus-{name}")
    words = serve_words(ready.work, pair.store.url, at)
    set_to = dict(one.split("=", 1) for one in variables)
    place = Path(checkout).resolve()
    return name, Process(f"versus-{name}", words, at, cores().server, place, set_to)


def _order(ways: list[Way], names: list[str], turn: int) -> Iterator[tuple[Way, str]]:
    """Who is measured after whom: each server is first as often as the others."""
    first = turn % len(names)
    for way in ways:
        for name in names[first:] + names[:first]:
            yield way, name


def _measured(ready: Stand, server: Process, way: Way, seconds: float, seed: int) -> Measured:
    before = server.cpu()
    done, latencies = ready.loader.run(way.job(server, ready.questions, seconds, seed))
    cpu = server.cpu() - before
    if not server.name.startswith("floor"):
        drained(server.address)
    p50, p99 = np.quantile(latencies, [0.5, 0.99])
    return Measured(done.per_second, 1e6 * cpu / done.calls, float(p50), float(p99))


def _show(found: dict[tuple[Way, str], list[Measured]], ways: list[Way], names: list[str]) -> None:
    table = Table("called", "server", "calls/s", "CPU us a call", "p50 ms", "p99 ms",
                  "p50 / floor", "p99 / floor",
                  f"CPU / {names[1]}", f"p99 / {names[1]}")  # fmt: skip
    for way in ways:
        for name in names:
            rounds = found[way, name]
            told = [statistics.median(column) for column in zip(*rounds, strict=True)]
            floor, first = found[way, names[0]], found[way, names[1]]
            table.add_row(
                str(way), name, f"{told[0]:,.0f}", f"{told[1]:,.0f}", f"{told[2]:.2f}",
                f"{told[3]:.2f}", _ratio(rounds, floor, "p50"), _ratio(rounds, floor, "p99"),
                _ratio(rounds, first, "cpu_us"), _ratio(rounds, first, "p99"),
            )  # fmt: skip
        table.add_section()
    Console(width=140).print(table)


def _ratio(rounds: list[Measured], others: list[Measured], what: str) -> str:
    """Median over the rounds of what one took for what another did."""
    pairs = zip(rounds, others, strict=True)
    return f"{statistics.median(getattr(a, what) / getattr(b, what) for a, b in pairs):.2f}"


if __name__ == "__main__":
    main()
