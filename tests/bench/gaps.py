"""How often a core is taken away, by neighbours on the machine or by the system.

``python -m tests.bench.gaps [SECONDS]`` reads the clock over and over on the core where the bench's
server would be, and tells the moments that are missing. Nothing else should run meanwhile.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Final

from tests.bench.processes import cores

_SHORTEST_MS: Final = 0.1
_SECONDS: Final = 10.0
_SHOWN: Final = 8


def gaps(seconds: float) -> list[float]:
    """Milliseconds of each time that the core was away, shortest first."""
    now = time.perf_counter
    last = now()
    end, found = last + seconds, []
    while last < end:
        at = now()
        if 1e3 * (at - last) > _SHORTEST_MS:
            found.append(1e3 * (at - last))
        last = at
    return sorted(found)


def main() -> None:
    """Measure and print."""
    os.sched_setaffinity(0, cores().server)
    seconds = float(sys.argv[1]) if sys.argv[1:] else _SECONDS
    found = gaps(seconds)
    longest = ", ".join(f"{one:.1f}" for one in found[-_SHOWN:])
    print(f"away {len(found)} times, {sum(found):.1f} ms in {seconds:g} s; the longest: {longest}")


if __name__ == "__main__":
    main()
