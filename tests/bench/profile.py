"""Where a decision's microseconds go, step by step; ``make profile`` calls this.

The same server with clocks that ``make bench`` has, on the same work, alone: half a minute from a
change to its effect. What no clock is around is told as what remains of the CPU of a call.
"""

from __future__ import annotations

import os
import sys

from rich.console import Console

from tests.bench import growth, report
from tests.bench.processes import cores
from tests.bench.stand import WAYS, stand
from training.progress import Bars

SECONDS = 6.0


def main() -> int:
    """Measure and print the table."""
    os.sched_setaffinity(0, cores().others)
    with Bars() as bars, stand(bars, WAYS[:1]) as at:
        url = at.pairs["unix"].store.url
        stages, cpu = growth.clocked(at.loader, at.work, url, at.questions, SECONDS)
    Console().print(report.steps(stages, cpu))
    return 0


if __name__ == "__main__":
    sys.exit(main())
