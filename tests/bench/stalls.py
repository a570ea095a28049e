"""What keeps the loop of a running server for over 2 ms, by cause.

``python -m tests.bench.stalls [SCENE ...]``: a server process of the sample bank, pinned to a core,
answers 60 calls a second at even intervals while one thing after another happens: bundles are
swapped, the configuration is read again, nobody reads its output, decisions are explained, events
and outcomes come in batches, customers are merged, the journal flushes what has piled up. Steps and
gaps are seen from inside (``tests.bench.watch``); latencies from outside, from the intended start.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import grpc
import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from rapport.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    customer_pb2,
    customer_pb2_grpc,
    decision_pb2,
    decision_pb2_grpc,
    event_pb2,
)
from service import bundle as bundles
from service import logs, registry
from service.bundle import Bundle
from service.business import load
from service.embedded import EmbeddedStore
from service.errors import BundleRefused
from service.interceptors import Edge
from service.job import Settings
from service.redis_store import RedisStore
from service.server import Server
from tests.bench.people import People
from tests.bench.watch import LIMIT_MS, Stall, Watch

WORK: Final = Path("build/bench")
BUNDLES: Final = Path("build/bundles")
SECONDS: Final = 4.0
CUSTOMERS: Final = 1_000
RATE: Final = 60
LATE_MS: Final = 50.0


class Scene(NamedTuple):
    """What happened while something was going on."""

    name: str
    start: float
    end: float
    times: int
    took: list[float]  # ms, from the intended start
    rungs: Counter[str]


class Caller:
    """Stubs, and what the scenes need to know."""

    def __init__(self, channel: grpc.aio.Channel, pipe: Pipe, config: Path) -> None:
        self.decisions = decision_pb2_grpc.DecisionServiceStub(channel)
        self.customers = customer_pb2_grpc.CustomerServiceStub(channel)
        self.admin = admin_pb2_grpc.AdminServiceStub(channel)
        self.pipe = pipe
        self.config = config
        self.versions = ("one", "two")
        self.chance = random.Random(4)
        self.recent: list[tuple[str, str]] = []  # decisions with an action of theirs
        self.turn = itertools.count()

    async def decide(self, **more: bool) -> decision_pb2.DecideResponse:
        customer = f"c{self.chance.randrange(CUSTOMERS)}"
        answer = await self.decisions.Decide(
            decision_pb2.DecideRequest(
                customer=event_pb2.CustomerKey(customer_id=customer),
                channel="phone",
                placements=["agent_hint"],
                assurance=decision_pb2.ASSURANCE_VERIFIED,
                **more,  # type: ignore[arg-type]
            ),
            timeout=1.0,
        )
        for slate in answer.slates:
            for shown in slate.recommendations[:1]:
                self.recent = [*self.recent[-200:], (answer.decision_id, shown.action)]
        return answer


class Pipe:
    """The reader of the server's output, who may stop reading."""

    def __init__(self, end: IO[bytes]) -> None:
        self._end = end
        self.reads = threading.Event()
        self.reads.set()
        self._kept = (WORK / "stalls.log").open("wb")
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while self.reads.wait() and (some := os.read(self._end.fileno(), 65_536)):
            self._kept.write(some)
            self._kept.flush()


async def quiet(_: Caller) -> None:
    """Nothing but decisions."""
    await asyncio.sleep(0.1)


async def swaps(caller: Caller) -> None:
    """Put another bundle in charge."""
    version = caller.versions[next(caller.turn) % 2]
    await caller.admin.ActivateModel(admin_pb2.ActivateModelRequest(version=version), timeout=20)


async def reloads(caller: Caller) -> None:
    """Change the configuration and have it read."""
    release = f"name: number {next(caller.turn)}\nauthor: a\napprover: b\n"
    (caller.config / "release.yaml").write_text(release)
    await caller.admin.ReloadConfiguration(admin_pb2.ReloadConfigurationRequest(), timeout=20)


async def blocked(caller: Caller) -> None:
    """Nobody reads what the server writes."""
    caller.pipe.reads.clear()
    await asyncio.sleep(0.1)


async def explained(caller: Caller) -> None:
    """Ask why."""
    caller.pipe.reads.set()
    await asyncio.sleep(0.05)
    if not caller.recent:
        return
    decision, action = caller.chance.choice(caller.recent)
    request = decision_pb2.ExplainRequest(decision_id=decision, action=action)
    request.include_contributions = next(caller.turn) % 2 == 0
    await caller.decisions.Explain(request, timeout=5)


async def traced(caller: Caller) -> None:
    """Decide, with everything that was compared."""
    await caller.decide(include_trace=True, include_features=True)
    await asyncio.sleep(0.02)


async def recorded(caller: Caller) -> None:
    """A batch of 100 events, and an outcome."""
    now = time.time_ns() // 1_000_000
    events = []
    for _ in range(100):
        one = event_pb2.Event(
            event_id=uuid.uuid4().hex,
            source="bench",
            customer=event_pb2.CustomerKey(customer_id=f"c{caller.chance.randrange(CUSTOMERS)}"),
            type="page_viewed",
            channel="web",
        )
        one.occurred_at.FromMilliseconds(now - caller.chance.randrange(3_600_000))
        events.append(one)
    await caller.decisions.RecordEvents(decision_pb2.RecordEventsRequest(events=events), timeout=10)
    if caller.recent:
        decision, action = caller.recent[-1]
        await caller.decisions.RecordOutcome(
            decision_pb2.RecordOutcomeRequest(
                decision_id=decision, action=action, outcome=event_pb2.OUTCOME_PRESENTED
            ),
            timeout=5,
        )
    await asyncio.sleep(0.05)


async def merged(caller: Caller) -> None:
    """Two customers with 256 events each turn out to be one."""
    number = next(caller.turn) % (CUSTOMERS // 2)
    value = f"+31{uuid.uuid4().int % 10**9:09d}"
    for who in (f"c{number}", f"c{CUSTOMERS - 1 - number}"):
        await caller.customers.LinkIdentity(
            customer_pb2.LinkIdentityRequest(
                identifier=event_pb2.Identifier(namespace="phone", value=value),
                customer_id=who,
                merge=True,
            ),
            timeout=10,
        )
    await caller.customers.GetTimeline(
        customer_pb2.GetTimelineRequest(customer=event_pb2.CustomerKey(customer_id=f"c{number}")),
        timeout=5,
    )
    await asyncio.sleep(0.05)


async def bursts(caller: Caller) -> None:
    """100 decisions at once: the journal has a full batch to write."""
    await asyncio.gather(*(caller.decide() for _ in range(100)), return_exceptions=True)
    await asyncio.sleep(0.3)


SCENES: Final[tuple[Callable[[Caller], Awaitable[None]], ...]] = (
    quiet, swaps, reloads, blocked, explained, traced, recorded, merged, bursts,
)  # fmt: skip


async def play(scene: Callable[[Caller], Awaitable[None]], caller: Caller) -> Scene:
    """Decide at even intervals while a scene goes on over and over."""
    start, took, rungs = time.monotonic(), [], Counter[str]()
    end = start + SECONDS
    times = 0

    async def call(due: float) -> None:
        try:
            answer = await caller.decide()
            rungs[decision_pb2.Rung.Name(answer.rung)] += 1
        except grpc.aio.AioRpcError as error:
            rungs[error.code().name] += 1
        took.append(1e3 * (time.monotonic() - due))

    async def act() -> None:
        nonlocal times
        while time.monotonic() < end:
            try:
                await scene(caller)
            except grpc.aio.AioRpcError as error:
                rungs[f"{scene.__name__}: {error.code().name}"] += 1
            times += 1

    acting = asyncio.create_task(act())
    calls = []
    for number in range(int(RATE * SECONDS)):
        due = start + number / RATE
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        calls.append(asyncio.create_task(call(due)))
    await asyncio.gather(*calls)
    await acting
    return Scene(scene.__name__, start, time.monotonic(), times, took, rungs)


def serve(url: str, address: str, config: str, output: str) -> None:
    """Serve under watch; write what was seen when it has drained."""
    watch = Watch()
    edge: Any = Edge
    wrapped = Edge._wrapped

    def named(self: Edge, method: str, handler: Any) -> Any:
        @functools.wraps(handler.unary_unary)  # with the mark of one that reads its requests itself
        async def called(request: Any, context: Any) -> Any:
            watch.call(method)
            return await handler.unary_unary(request, context)

        return wrapped(
            self,
            method,
            grpc.unary_unary_rpc_method_handler(
                called, handler.request_deserializer, handler.response_serializer
            ),
        )

    edge._wrapped = named

    async def run() -> None:
        watch.start()
        bank = load(Path(config))
        store = RedisStore(url, horizon=bank.ledger_window_ms, keep=bank.ledger_keep)
        server = Server(bank, store, Settings(listen=address, configuration=Path(config)))
        await server.start()
        await registry.publish(store, versioned("one"), bank)
        await registry.publish(store, versioned("two"), bank)
        await server.registry.activate("one")
        try:
            await server.until_signal()
        finally:
            await server.stop()

    writer = logs.configure()
    uvloop.run(run())
    writer.close()
    Path(output).write_bytes(watch.written())


def versioned(version: str) -> Bundle:
    """The newest bundle under another version."""
    newest = bundles.read(BUNDLES)
    manifest = newest.manifest
    return bundles.seal(
        {name: data for name, data in newest.files.items() if name != bundles.MANIFEST},
        version=version,
        built_at=manifest.built_at,
        code=manifest.code,
        feature_digest=manifest.feature_digest,
        vocabulary_digest=manifest.vocabulary_digest,
        metrics=manifest.metrics,
        lineage=manifest.lineage,
    )


@asynccontextmanager
async def served(url: str) -> AsyncIterator[tuple[Caller, Path]]:
    """A server process on a core of its own, with a caller."""
    config, output = WORK / f"config-{os.getpid()}", WORK / "stalls.json"
    shutil.rmtree(config, ignore_errors=True)
    shutil.copytree("config", config, ignore=shutil.ignore_patterns("examples"))
    address = f"unix:{WORK.resolve()}/stalls-{os.getpid()}.sock"
    cores = sorted(os.sched_getaffinity(0))
    process = await asyncio.to_thread(
        subprocess.Popen,
        [
            sys.executable,
            "-m",
            "tests.bench.stalls",
            "serve",
            url,
            address,
            str(config),
            str(output),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    os.sched_setaffinity(process.pid, cores[:1])
    assert process.stdout is not None
    pipe = Pipe(process.stdout)
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            caller = Caller(channel, pipe, config)
            end = time.monotonic() + 60
            while True:
                try:
                    if (await caller.decide()).rung == decision_pb2.RUNG_FULL:
                        break
                except grpc.aio.AioRpcError:
                    pass
                assert time.monotonic() < end, "it does not serve; see build/bench/stalls.log"
                assert process.poll() is None, "it ended; see build/bench/stalls.log"
                await asyncio.sleep(0.2)
            yield caller, output
    finally:
        pipe.reads.set()
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(process.wait, 30)
        except subprocess.TimeoutExpired:
            process.kill()
        shutil.rmtree(config, ignore_errors=True)


async def run(url: str, names: list[str]) -> tuple[list[Scene], list[Stall]]:
    """Play scenes one after another; give what was seen from outside and from inside."""
    people = People(load(Path("config")), time.time_ns() // 1_000_000, CUSTOMERS)
    await asyncio.to_thread(people.fill, [url], lambda done, of: None)
    scenes = []
    async with served(url) as (caller, output):
        await play(quiet, caller)  # the first calls are another matter
        for scene in SCENES:
            if not names or scene.__name__ in names:
                scenes.append(await play(scene, caller))
                await asyncio.sleep(0.5)
    return scenes, msgspec.json.decode(output.read_bytes(), type=list[Stall])


def outside(scenes: list[Scene]) -> Table:
    """Latencies, scene by scene."""
    table = Table(title=f"Seen from outside, {RATE} calls a second", title_justify="left")
    for column in ("while", "times", "p50 ms", "p99 ms", "worst ms", f"over {LATE_MS:.0f} ms",
                   "answers"):  # fmt: skip
        table.add_column(column, justify="right" if "ms" in column else "left")
    for scene in scenes:
        took = sorted(scene.took)
        table.add_row(
            scene.name, str(scene.times), f"{statistics.median(took):.1f}",
            f"{took[int(0.99 * len(took))]:.1f}", f"{took[-1]:.1f}",
            f"{100 * sum(one > LATE_MS for one in took) / len(took):.2f} %",
            ", ".join(f"{name.removeprefix('RUNG_')} {n}" for name, n in scene.rungs.items()),
        )  # fmt: skip
    return table


def steps(scenes: list[Scene], stalls: list[Stall]) -> Table:
    """Steps by the task that took them, scene by scene."""
    table = Table(
        title="Steps of a task over 2 ms, less what others had the core", title_justify="left"
    )
    for column in ("while", "task", "number", "median ms", "worst ms", "computed", "where"):
        table.add_column(column, justify="left" if column[:2] in ("wh", "ta") else "right")
    for scene in scenes:
        tasks: dict[str, list[Stall]] = {}
        for one in _of(scene, stalls, "step"):
            tasks.setdefault(one.what.partition(": ")[0], []).append(one)
        for task, some in sorted(tasks.items(), key=lambda pair: -len(pair[1])):
            worst = max(some, key=lambda one: one.own_ms)
            median = statistics.median(one.own_ms for one in some)
            table.add_row(
                scene.name, task, str(len(some)), f"{median:.1f}",
                f"{worst.own_ms:.1f}", f"{max(one.cpu_ms for one in some):.1f}",
                worst.what.partition(": ")[2],
            )  # fmt: skip
        table.add_section()
    return table


def gaps(scenes: list[Scene], stalls: list[Stall]) -> Table:
    """Late beats by who was in the way, scene by scene."""
    table = Table(title="Beats of the loop over 2 ms late, less what others had the core",
                  title_justify="left")  # fmt: skip
    for column in ("while", "beside the loop ran", "number", "median ms", "worst ms", "others' ms"):
        table.add_column(column, justify="left" if column[0] in "wb" else "right")
    for scene in scenes:
        causes: dict[str, list[Stall]] = {}
        for one in _of(scene, stalls, "gap"):
            beside = one.what.partition("beside: ")[2].partition(".")[0]
            causes.setdefault(beside or "nothing of ours", []).append(one)
        for cause, some in sorted(causes.items(), key=lambda pair: -len(pair[1])):
            late = sorted(one.own_ms for one in some)
            table.add_row(
                scene.name, cause, str(len(some)), f"{statistics.median(late):.1f}",
                f"{late[-1]:.1f}", f"{max(one.queued_ms for one in some):.1f}",
            )  # fmt: skip
        table.add_section()
    return table


def collections(scenes: list[Scene], stalls: list[Stall]) -> Table:
    """Full collections of cycles, scene by scene."""
    table = Table(title="Full collections", title_justify="left")
    for column in ("while", "number", "median ms", "worst ms"):
        table.add_column(column, justify="left" if column == "while" else "right")
    for scene in scenes:
        took = [
            one.ms for one in stalls
            if one.kind == "collection" and scene.start <= one.at <= scene.end
        ]  # fmt: skip
        if took:
            table.add_row(scene.name, str(len(took)), f"{statistics.median(took):.2f}",
                          f"{max(took):.2f}")  # fmt: skip
    return table


def _of(scene: Scene, stalls: list[Stall], kind: str) -> list[Stall]:
    return [
        one
        for one in stalls
        if one.kind == kind and scene.start <= one.at <= scene.end and one.own_ms > LIMIT_MS
    ]


def main() -> None:
    """Play, and print the tables."""
    try:
        bundles.read(BUNDLES)  # which the server will serve
    except BundleRefused as error:
        raise SystemExit(str(error)) from error
    WORK.mkdir(parents=True, exist_ok=True)
    cores = sorted(os.sched_getaffinity(0))
    with EmbeddedStore() as store:
        os.sched_setaffinity(0, cores[1:] or cores)
        scenes, stalls = uvloop.run(run(store.url, sys.argv[1:]))
    console = Console(width=150)
    console.print(outside(scenes))
    console.print(steps(scenes, stalls))
    console.print(gaps(scenes, stalls))
    console.print(collections(scenes, stalls))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:])
    else:
        main()
