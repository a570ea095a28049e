"""How cost grows: with the timeline, the catalogue, the trees and the workers."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
import numpy as np

from service.embedded import EmbeddedStore
from tests.bench import reference, stand
from tests.bench.learn import DEFAULT, TREES, Kind
from tests.bench.load import Job
from tests.bench.people import EVENTS, People
from tests.bench.processes import WORK, Loader, Process, cores, drained, pin
from tests.bench.staged import Report
from tests.bench.stand import Show, Stand, Work

TIMELINES: Final = (16, 64, 256, 512)
ACTIONS: Final = (10, 100, 1_000)
FORESTS: Final = (100, 300, 1_000)
WORKERS: Final = (1, 2)

_CUSTOMERS: Final = 2_000
_SECONDS: Final = 1.5


class Point(msgspec.Struct):
    """What a decision costs at one size."""

    size: int
    cpu_us: float  # of the server, a call, 16 in flight
    per_second: float  # 16 in flight
    p50_ms: float  # 1 in flight
    scored_us: float = 0.0  # median of scoring all actions, inside the server; 0: not looked at


class Curve(msgspec.Struct):
    """Cost by size."""

    what: str
    points: list[Point]
    skipped: str = ""  # why there is nothing


@contextmanager
def furnished(work: Work, events: int = EVENTS) -> Iterator[tuple[EmbeddedStore, str]]:
    """A store with customers of its own, and the file of requests about them."""
    people = People(work.business, time.time_ns() // 1_000_000, _CUSTOMERS, events)
    with EmbeddedStore() as store:
        pin(store.pid, cores().others)
        people.fill([store.url], lambda done, of: None)
        yield store, stand.questions(people, "growth")


def point(loader: Loader, server: Process, questions: str, size: int) -> Point:
    """Measure a server that was just started."""
    job = Job("closed", server.address, questions, "", in_flight=16, seconds=0.5)
    loader.run(job)
    drained(server.address)
    before = server.cpu()
    done, _ = loader.run(msgspec.structs.replace(job, seconds=_SECONDS, seed=1))
    drained(server.address)
    cpu = 1e6 * (server.cpu() - before) / done.calls
    one = msgspec.structs.replace(job, in_flight=1, seconds=_SECONDS / 2, seed=2)
    _, latencies = loader.run(one)
    drained(server.address)
    return Point(size, cpu, done.per_second, float(np.median(latencies)))


def clocked(
    loader: Loader, work: Work, url: str, questions: str, seconds: float
) -> tuple[Report, float]:
    """Serve with clocks around the steps.

    Returns:
        What they showed, and the CPU microseconds of a call, clocks included.
    """
    address = stand.address("unix", "staged")
    written = WORK / "staged.json"
    words = ["-m", "tests.bench.staged", str(written), str(len(work.business.actions)),
             str(work.bundle), "--config", str(work.config), "--store", url,
             "--listen", address]  # fmt: skip
    with Process("staged", words, address, cores().server) as server:
        job = Job("closed", address, questions, "", in_flight=16, seconds=seconds)
        before = server.cpu()
        done, _ = loader.run(job)
        drained(address)
        cpu = 1e6 * (server.cpu() - before) / done.calls
    report = msgspec.json.decode(written.read_bytes(), type=Report)
    return report, cpu - report.spent_us / max(1, report.decisions)


def timelines(at: Stand, show: Callable[[int, int], None]) -> Curve:
    """Longer and shorter histories, the same server each time anew."""
    points = []
    for done, events in enumerate(TIMELINES, 1):
        with (
            furnished(at.work, events) as (store, questions),
            stand.full(at.work, store.url, "unix", "growth") as server,
        ):
            points.append(point(at.loader, server, questions, events))
        show(done, len(TIMELINES))
    return Curve("events in the timeline", points)


def actions(at: Stand, show: Show) -> Curve:
    """Larger and smaller catalogues."""
    return Curve("actions", [_variant(at, show, size, DEFAULT, size) for size in ACTIONS])


def trees(at: Stand, show: Show) -> Curve:
    """Larger and smaller acceptance models."""
    size = reference.ACTIONS
    return Curve("trees", [_variant(at, show, size, Kind(trees), trees) for trees in FORESTS])


def _variant(at: Stand, show: Show, catalogue: int, kind: Kind, size: int) -> Point:
    known = (catalogue, kind.trees) == (reference.ACTIONS, TREES)
    work = at.work if known else stand.work(show, catalogue, kind)
    with furnished(work) as (store, questions):
        with stand.full(work, store.url, "unix", "growth") as server:
            found = point(at.loader, server, questions, size)
        report, _ = clocked(at.loader, work, store.url, questions, _SECONDS)
    found.scored_us = float(np.median(report.scored_us))
    return found


def workers(at: Stand, show: Callable[[int, int], None]) -> Curve:
    """More processes behind one address."""
    what = "workers"
    told = subprocess.run(
        [sys.executable, "-m", "service.cli", "serve", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    if "--workers" not in told.stdout:
        return Curve(what, [], "rapport serve has no --workers yet")
    if len({*cores().server, *cores().others}) < max(WORKERS):
        return Curve(what, [], f"{max(WORKERS)} workers need as many cores")
    points = []
    for done, count in enumerate(WORKERS, 1):
        with furnished(at.work) as (store, questions):
            address = stand.address("tcp", "workers")
            words = stand.serve_words(at.work, store.url, address)
            words += ["--workers", str(count)]
            both = [*cores().server, *cores().others][:count]
            with Process("workers", words, address, both) as server:
                points.append(point(at.loader, server, questions, count))
        show(done, len(WORKERS))
    return Curve(what, points)
