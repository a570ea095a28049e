"""Closed-loop throughput and latency of Decide against the floor; ``make bench`` calls this.

The sample bank: 100 actions, 80 features, 30 intents, customers with 256 events that vary from call
to call. The server has one core, store and load share the other. Floor and full take turns, so a
noisy neighbour meets both; medians over the rounds are printed and written to ``build/bench.json``.
Absolute numbers are this machine's; the ratios are what counts.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import grpc
import uvloop
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from features import record
from features.record import LogId, encode
from features.timeline import fold
from rapport.v1 import decision_pb2, decision_pb2_grpc, event_pb2
from service import bundle, keys
from service.business import load
from service.embedded import EmbeddedStore
from training.progress import Bars

CONFIG: Final = Path("config")
WORK: Final = Path("build/bench")
CUSTOMERS: Final = 1_000
EVENTS: Final = 256
ROUNDS: Final = 7
SECONDS: Final = 2.0
IN_FLIGHT: Final = (1, 16)


def main() -> int:
    """Measure, print the table, write the numbers."""
    WORK.mkdir(parents=True, exist_ok=True)
    if not list(Path("build/bundles").glob("*/manifest.json")):
        for command in (["simulate", "--fresh"], ["train"]):
            subprocess.run([sys.executable, "-m", "service.cli", *command], check=True)
    bundle.read(Path("build/bundles"))
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[1:])
    with EmbeddedStore() as store:
        uvloop.run(fill(store.url))
        full = _start("full", cores[:1], ["-m", "service.cli", "serve", "--store", store.url,
                                          "--bundle", "build/bundles", "--listen"])  # fmt: skip
        answer = WORK / "answer"
        answer.write_bytes(uvloop.run(_answer(full[1])))
        floor = _start("floor", cores[:1], ["-m", "tests.bench.floor"], store.url, str(answer))
        try:
            found = _measure({"floor": floor[1], "full": full[1]})
        finally:
            for process, _ in (full, floor):
                process.send_signal(signal.SIGTERM)
                process.wait(20)
    Path("build/bench.json").write_text(json.dumps(found, indent=2) + "\n")
    Console().print(_table(found))
    return 0


async def fill(url: str) -> None:
    """Write timelines of the sample bank's own event types, all different."""
    vocabulary = load(CONFIG).vocabulary
    chance = random.Random(5)
    types = sorted(vocabulary.type_codes.values())
    now = time.time_ns() // 1_000_000
    redis = Redis.from_url(url)
    for number in range(CUSTOMERS):
        packed = [
            record.pack(
                occurred_at=now - chance.randrange(90 * 86_400_000),
                hash=chance.getrandbits(64),
                type=chance.choice(types),
                intent=chance.randrange(31),
                channel=chance.randrange(1, 10),
                direction=1,
                interaction=chance.getrandbits(32),
                action=chance.randrange(101) if chance.random() < 0.3 else 0,
                sentiment=chance.uniform(-1, 1) if chance.random() < 0.2 else None,
            )
            for _ in range(EVENTS)
        ]
        stored = encode(LogId(now, 0), fold(packed)[0])
        await redis.set(keys.timeline("main", f"c{number}"), stored)
    await redis.aclose()


def _start(
    name: str, cores: list[int], words: list[str], *after: str
) -> tuple[subprocess.Popen[bytes], str]:
    address = f"unix:{WORK.resolve()}/{name}-{os.getpid()}.sock"
    with (WORK / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *words, address, *after],
            stdout=log,
            stderr=log,
        )
    os.sched_setaffinity(process.pid, cores)
    deadline = time.monotonic() + 30
    with grpc.insecure_channel(address) as channel:
        while time.monotonic() < deadline:
            try:
                decision_pb2_grpc.DecisionServiceStub(channel).Decide(_question(0), timeout=2)
            except grpc.RpcError:
                time.sleep(0.1)
                continue
            return process, address
    process.kill()
    raise SystemExit(f"{name} did not start: {(WORK / f'{name}.log').read_text()[-1000:]}")


def _question(number: int) -> decision_pb2.DecideRequest:
    return decision_pb2.DecideRequest(
        customer=event_pb2.CustomerKey(customer_id=f"c{number % CUSTOMERS}"),
        channel="phone",
        placements=["agent_hint"],
        assurance=decision_pb2.ASSURANCE_VERIFIED,
    )


async def _answer(address: str) -> bytes:
    async with grpc.aio.insecure_channel(address) as channel:
        answer = await decision_pb2_grpc.DecisionServiceStub(channel).Decide(_question(1))
        assert answer.rung == decision_pb2.RUNG_FULL
        return bytes(answer.SerializeToString())


def _measure(addresses: dict[str, str]) -> dict[str, float]:
    rates: dict[str, list[float]] = {}
    latencies: dict[str, list[float]] = {}
    with Bars() as bars:
        for turn in range(ROUNDS):
            order = list(addresses.items())
            for name, address in order if turn % 2 == 0 else order[::-1]:
                for in_flight in IN_FLIGHT:
                    rate, median = uvloop.run(_load(address, in_flight, turn))
                    rates.setdefault(f"{name}_{in_flight}", []).append(rate)
                    latencies.setdefault(f"{name}_{in_flight}", []).append(median)
            bars("rounds of floor and full", turn + 1, ROUNDS)
    found = {f"{name}_per_second": statistics.median(all_) for name, all_ in rates.items()}
    found |= {f"{name}_p50_ms": statistics.median(all_) for name, all_ in latencies.items()}
    found["throughput_ratio_16"] = statistics.median(
        a / b for a, b in zip(rates["full_16"], rates["floor_16"], strict=True)
    )
    found["p50_ratio_1"] = statistics.median(
        a / b for a, b in zip(latencies["full_1"], latencies["floor_1"], strict=True)
    )
    return {name: round(value, 3) for name, value in found.items()}


async def _load(address: str, in_flight: int, seed: int) -> tuple[float, float]:
    """Call as fast as answers come; give calls a second and the median latency in ms."""
    took: list[float] = []
    chance = random.Random(seed)
    end = time.perf_counter() + SECONDS
    async with grpc.aio.insecure_channel(address) as channel:
        stub = decision_pb2_grpc.DecisionServiceStub(channel)

        async def work() -> None:
            while (start := time.perf_counter()) < end:
                answer = await stub.Decide(_question(chance.randrange(CUSTOMERS)), timeout=5)
                assert answer.slates
                took.append(1e3 * (time.perf_counter() - start))

        await asyncio.gather(*(work() for _ in range(in_flight)))
    return len(took) / SECONDS, statistics.median(took)


def _table(found: dict[str, float]) -> Table:
    table = Table(title="Decide against the floor, one core", title_justify="left")
    for name in ("", "floor", "full", "ratio"):
        table.add_column(name, justify="right" if name else "left")
    for in_flight in IN_FLIGHT:
        for unit, key in (("calls/s", "per_second"), ("p50 ms", "p50_ms")):
            floor, full = found[f"floor_{in_flight}_{key}"], found[f"full_{in_flight}_{key}"]
            label = f"{unit}, {in_flight} in flight"
            table.add_row(label, f"{floor:.2f}", f"{full:.2f}", f"{full / floor:.2f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
