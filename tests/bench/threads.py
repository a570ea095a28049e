"""What it costs that gRPC's threads take the core from the event loop, and what it saves if not.

``python -m tests.bench.threads`` serves the bench's work, floor and full, and sets the threads of
each server by turns to the usual policy and to the *batch* one, see :mod:`service.threads`. It
takes about a minute.
"""

from __future__ import annotations

import os
import statistics
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.bench.load import Job
from tests.bench.processes import Process, drained
from tests.bench.stand import Pair, Stand, stand

_ROUNDS: Final = 5
_SECONDS: Final = 0.8
_POLICIES: Final = {"as they come": os.SCHED_OTHER, "patient": os.SCHED_BATCH}


def main() -> None:
    """Measure and print."""
    console = Console()
    with stand(lambda stage, done, of: None, ("unix",)) as ready:
        (pair,) = ready.pairs.values()
        found = _measured(ready, pair)
    table = Table("server", "its threads", "in flight", "CPU us a call", "calls/s", "p50 ms")
    for (name, policy, in_flight), rows in found.items():
        told = [statistics.median(column) for column in zip(*rows, strict=True)]
        table.add_row(name, policy, str(in_flight), f"{told[0]:,.0f}", f"{told[1]:,.0f}",
                      f"{told[2]:.2f}")  # fmt: skip
    console.print(table)


def _measured(
    ready: Stand, pair: Pair
) -> dict[tuple[str, str, int], list[tuple[float, float, float]]]:
    found: dict[tuple[str, str, int], list[tuple[float, float, float]]] = {}
    servers = {"floor": pair.floor, "full": pair.full}
    for seed in range(-1, _ROUNDS):  # the first warms everything up
        for name, server in servers.items():
            for policy, number in _POLICIES.items():
                _set(server, number)
                for in_flight in (1, 16):
                    job = Job("closed", server.address, ready.questions, "", seed=seed + 1,
                              in_flight=in_flight, seconds=_SECONDS)  # fmt: skip
                    before = server.cpu()
                    done, latencies = ready.loader.run(job)
                    if name == "full":
                        drained(server.address)
                    cpu = 1e6 * (server.cpu() - before) / done.calls
                    if seed >= 0:
                        row = cpu, done.per_second, float(np.median(latencies))
                        found.setdefault((name, policy, in_flight), []).append(row)
    return found


def _set(server: Process, policy: int) -> None:
    """Set the policy of all threads of a process but its first, which runs the loop."""
    for thread in Path(f"/proc/{server.pid}/task").iterdir():
        if int(thread.name) != server.pid:
            os.sched_setscheduler(int(thread.name), policy, os.sched_param(0))


if __name__ == "__main__":
    main()
