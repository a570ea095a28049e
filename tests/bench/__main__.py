"""What a decision costs, against a floor in the same run; ``make bench`` calls this.

The floor is a server of the same kind that reads one key and answers with fixed bytes of the same
size. Both take turns on one core, store and load share another; what counts is full over floor,
round by round. See ``docs/bench.md`` for what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from rich.console import Console

from service import bundle as bundles
from tests.bench import firsts, growth, machine, recording, report, space, verify
from tests.bench.logbook import Logbook
from tests.bench.measure import BRIEF, QUICK, Scale, Turns
from tests.bench.processes import WORK, cores
from tests.bench.report import Found
from tests.bench.stand import WAYS, Pair, Stand, stand
from training.progress import Bars

BUILD = Path("build")


def main() -> int:
    """Measure, verify, print, write; 1 where the guard's bounds do not hold."""
    options = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    options.add_argument("--quick", action="store_true", help="the ratios alone, in about a minute")
    options.add_argument("--guard", action="store_true", help="fail where a ratio got much worse")
    asked = options.parse_args()
    start = time.monotonic()
    WORK.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else 132)
    if len(cores().server + cores().others) < 2 or cores().server == cores().others:
        console.print("One core only: server, store and load share it, and ratios look better.")
    os.sched_setaffinity(0, cores().others)
    found = _measured(quick=asked.quick)
    (BUILD / "bench.json").write_bytes(report.written(found))
    (BUILD / "bench.svg").write_text(report.curve(found))
    report.show(found, console)
    console.print(
        f"{(time.monotonic() - start) / 60:.1f} minutes; build/bench.json, build/bench.svg"
    )
    broken = report.missed(found) if asked.guard else []
    for sentence in broken:
        console.print(f"guard: {sentence}", style="red")
    return int(bool(broken))


def _measured(*, quick: bool) -> Found:
    """Everything that was asked for."""
    here = machine.here()
    with Bars() as bars, stand(bars, WAYS[:1] if quick else WAYS) as at:
        series, peaks, verified = {}, {}, {}
        books = {way: Logbook(pair.store.url) for way, pair in at.pairs.items()}
        for way, pair in at.pairs.items():
            scale = QUICK if quick else Scale() if way == WAYS[0] else BRIEF
            turns = _turns(at, pair, scale, books[way])
            peaks[way] = turns.run(
                lambda done, of, way=way: bars(f"rounds over {way}", done, of)  # type: ignore[misc]
            )
            series[way] = turns.series
            verified[way] = verify.check(
                books[way],
                at.work.business,
                bundles.read(at.work.bundle),
                at.people,
                lambda done, of: bars("decisions recomputed", done, of),
            )
        unix = at.pairs["unix"]
        memory = unix.full.memory()
        stages, cpu = growth.clocked(
            at.loader, at.work, unix.store.url, at.questions, 3.0 if quick else 6.0
        )
        books["unix"].take(stages.decisions, 0)
        found = Found(
            series,
            peaks,
            verified,
            stages,
            cpu,
            firsts.measure(
                at,
                unix.store,
                books["unix"],
                1 if quick else 5,
                lambda done, of: bars("starts and swaps", done, of),
            ),
            recording.measure(
                at, unix, 2 if quick else 7, lambda done, of: bars("batches recorded", done, of)
            ),
            memory,
            space.timelines(
                unix.store.url, at.people, lambda done, of: bars("lengths of timelines", done, of)
            ),
            [],
            here,
        )
        if not quick:
            found.curves += [
                growth.timelines(at, lambda done, of: bars("lengths of history", done, of)),
                growth.actions(at, bars),
                growth.trees(at, bars),
                growth.workers(at, lambda done, of: bars("numbers of workers", done, of)),
            ]
        return found


def _turns(at: Stand, pair: Pair, scale: Scale, book: Logbook) -> Turns:
    """Measurements of a pair, whose log is read after every round."""
    book.take(1, 0)  # the answer whose bytes the floor gives
    each = -(-scale.samples // scale.rounds)
    return Turns(at, pair, scale, lambda calls: book.take(calls, each))


if __name__ == "__main__":
    sys.exit(main())
