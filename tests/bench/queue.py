"""What the 99th percentile of a server on one core can be, if it does nothing but its work.

``python -m tests.bench.queue CALLS_A_SECOND FULL_US FLOOR_US`` simulates calls that come at random
to a core that is never taken away and spends the same on each call, FULL_US or FLOOR_US of CPU:
some of it before the customer is read, some after, some once the answer has left. It says what this
last part does to those who wait, first come first served and done when nobody is there.
"""

from __future__ import annotations

import argparse
import heapq
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table

_CALLS: Final = 100_000
_READ_SECONDS: Final = 60e-6  # of the store, when the core is free for others
_PARTS: Final = (0.5, 0.5)  # before the customer is read, and after, of what is before the answer
_LAST: Final = len(_PARTS)


def p99(rate: float, cost: float, behind: float, *, last: bool) -> float:
    """Simulate; give milliseconds.

    Args:
        rate: Calls a second.
        cost: CPU seconds of a call.
        behind: Share of it that comes once the answer has left.
        last: Whether that waits until nobody is there.
    """
    took = [cost * (1 - behind) * share for share in _PARTS] + [cost * behind]
    moments = np.cumsum(np.random.default_rng(1).exponential(1 / rate, _CALLS)).tolist()
    coming = [(moment, number, 0) for number, moment in enumerate(moments)]  # sorted: a heap
    ready: list[tuple[bool, int, int, int]] = []
    now, order, latencies = 0.0, 0, []
    while coming or ready:
        if not ready:
            now = max(now, coming[0][0])
        while coming and coming[0][0] <= now:
            _, number, part = heapq.heappop(coming)
            order += 1
            heapq.heappush(ready, (last and part == _LAST, order, number, part))
        _, _, number, part = heapq.heappop(ready)
        now += took[part]
        if part + 1 < _LAST:
            heapq.heappush(coming, (now + _READ_SECONDS, number, part + 1))
        elif part + 1 == _LAST:
            latencies.append(now - moments[number])
            if behind:
                heapq.heappush(coming, (now, number, _LAST))
    return 1e3 * float(np.quantile(latencies, 0.99))


def main() -> None:
    """Simulate and print."""
    options = argparse.ArgumentParser(prog="python -m tests.bench.queue", description=__doc__)
    options.add_argument("rate", type=float, help="calls a second")
    options.add_argument("full", type=float, help="CPU us of a decision")
    options.add_argument("floor", type=float, help="CPU us of an empty call")
    options.add_argument("--behind", type=float, default=0.1, help="share behind the answer")
    asked = options.parse_args()
    floor = p99(asked.rate, asked.floor / 1e6, 0.0, last=False)
    table = Table("core", "busy", "p99 ms", "/ floor", title=f"{asked.rate:,.0f} calls a second")
    for name, cost, behind, last in (
        ("floor", asked.floor, 0.0, False),
        ("full, first come first served", asked.full, asked.behind, False),
        (f"full, {asked.behind:.0%} of it when nobody is there", asked.full, asked.behind, True),
    ):
        found = p99(asked.rate, cost / 1e6, behind, last=last)
        table.add_row(
            name, f"{asked.rate * cost / 1e6:.0%}", f"{found:.2f}", f"{found / floor:.2f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
