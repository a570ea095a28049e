"""The first calls after a start and after a swap: nobody may pay for what was not ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import grpc
import msgspec
import numpy as np

from rapport.v1 import admin_pb2, admin_pb2_grpc
from service import bundle as bundles
from service import registry
from service.business import Business
from service.embedded import EmbeddedStore
from service.redis_store import RedisStore
from tests.bench import stand as stands
from tests.bench.load import Job
from tests.bench.logbook import Logbook
from tests.bench.processes import drained
from tests.bench.stand import Stand

_FIRST: Final = 100
_LATER: Final = 400


class Firsts(msgspec.Struct):
    """Milliseconds, one number a repetition."""

    start: list[float]  # of the first call after a start
    start_worst: list[float]  # the slowest of the first hundred
    swap: list[float]
    swap_worst: list[float]
    later: list[float]  # median of the calls after them

    def ratio(self) -> float:
        """First over median later, of starts or swaps whichever is worse; medians."""
        later = float(np.median(self.later))
        return max(float(np.median(self.start)), float(np.median(self.swap))) / later

    def worst_ratio(self) -> float:
        """The same of the slowest of the first hundred."""
        worst = max(float(np.median(self.start_worst)), float(np.median(self.swap_worst)))
        return worst / float(np.median(self.later))


def measure(
    stand: Stand,
    store: EmbeddedStore,
    logbook: Logbook,
    times: int,
    show: Callable[[int, int], None],
) -> Firsts:
    """Start a server some times, and swap its bundle each time.

    Args:
        stand: Where.
        store: Of the customers.
        logbook: Of that store.
        times: How often.
        show: Told what is done, and of how much.
    """
    found = Firsts([], [], [], [], [])
    assert stand.work.other is not None
    asyncio.run(_publish(store.url, stand.work.other, stand.work.business))
    version = bundles.read(stand.work.other).manifest.version
    for turn in range(times):
        with stands.full(stand.work, store.url, "unix", "first") as server:
            job = Job("closed", server.address, stand.questions, "", seconds=60.0, seed=turn)
            first = _calls(stand, job, _FIRST)
            later = _calls(stand, msgspec.structs.replace(job, seed=100 + turn), _LATER)
            _activate(server.address, version)
            after = _calls(stand, msgspec.structs.replace(job, seed=200 + turn), _FIRST)
            drained(server.address)
        found.start.append(float(first[0]))
        found.start_worst.append(float(first.max()))
        found.swap.append(float(after[0]))
        found.swap_worst.append(float(after.max()))
        found.later.append(float(np.median(later)))
        logbook.take(2 * _FIRST + _LATER, 0)
        show(turn + 1, times)
    return found


def _calls(stand: Stand, job: Job, calls: int) -> np.ndarray:
    """Make so many calls one after the other; give their milliseconds."""
    done, latencies = stand.loader.run(msgspec.structs.replace(job, most=calls))
    assert done.calls == calls
    return latencies


async def _publish(url: str, bundle: Path, business: Business) -> None:
    """Keep a bundle in the store, as ``rapport publish`` does."""
    store = RedisStore(url)
    try:
        known, _ = await store.models()
        assert known is not None
        await registry.publish(store, bundles.read(bundle), business)
    finally:
        await store.close()


def _activate(address: str, version: str) -> None:
    with grpc.insecure_channel(address) as channel:
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        admin.ActivateModel(admin_pb2.ActivateModelRequest(version=version), timeout=60)
