"""Answers keep their deadline while all is swapped and nobody reads what the server writes."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import grpc
import pytest

from rapport.v1 import admin_pb2, admin_pb2_grpc, decision_pb2, decision_pb2_grpc
from service import registry
from service.bundle import Bundle
from service.redis_store import RedisStore
from tests.integration.serving import CONFIG, business, codes, key
from tests.integration.test_bundles_live import resealed

SWAPS: Final = 100
RATE: Final = 50  # calls a second
QUIET_SECONDS: Final = 3.0
LONGEST: Final = 60.0  # seconds, on a machine that others keep busy
ALLOWED: Final = 0.001
_OUT_OF_TIME: Final = {"OUT_OF_TIME", "MODELS_SKIPPED", "TIMELINE_LATE"}


class Told(NamedTuple):
    """What became of the calls of a while."""

    took: list[float]  # seconds
    late: Counter[str]  # those that missed the deadline or a rung for want of time


class Serving:
    """A server process, and what it is asked."""

    def __init__(self, channel: grpc.aio.Channel, config: Path) -> None:
        self.decisions = decision_pb2_grpc.DecisionServiceStub(channel)
        self.admin = admin_pb2_grpc.AdminServiceStub(channel)
        self.config = config
        self.number = 0

    async def decide(self, deadline: float) -> decision_pb2.DecideResponse:
        self.number += 1
        return await self.decisions.Decide(
            decision_pb2.DecideRequest(
                customer=key(f"c{self.number % 500}"),
                channel="phone",
                placements=["agent_hint"],
                assurance=decision_pb2.ASSURANCE_VERIFIED,
            ),
            timeout=deadline,
        )

    async def asked(self, deadline: float, until: asyncio.Event, seconds: float) -> Told:
        """Decide at even intervals, whatever becomes of the calls before."""
        told = Told([], Counter())

        async def one(due: float) -> None:
            try:
                answer = await self.decide(deadline)
                if answer.rung != decision_pb2.RUNG_FULL:
                    told.late.update(_OUT_OF_TIME & set(codes(answer)))
            except grpc.aio.AioRpcError as error:
                told.late[error.code().name] += 1
            told.took.append(time.perf_counter() - due)

        start, calls = time.perf_counter(), []
        for turn in range(int(seconds * RATE)):
            if until.is_set():
                break
            due = start + turn / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            calls.append(asyncio.create_task(one(due)))
        await asyncio.gather(*calls)
        return told

    async def swap(self, version: str) -> None:
        answer = await self.admin.ActivateModel(
            admin_pb2.ActivateModelRequest(version=version), timeout=LONGEST
        )
        assert answer.active.version == version

    async def reload(self) -> None:
        """Change the configuration and have it read."""
        (self.config / "release.yaml").write_text("name: other\nauthor: a\napprover: b\n")
        answer = await self.admin.ReloadConfiguration(
            admin_pb2.ReloadConfigurationRequest(), timeout=LONGEST
        )
        assert answer.versions.catalogue


@asynccontextmanager
async def served(url: str, tenant: str, folder: Path) -> AsyncIterator[Serving]:
    """The command itself; nobody reads its output once it serves."""
    config = folder / "config"
    shutil.copytree(CONFIG, config, ignore=shutil.ignore_patterns("examples"))
    address = f"unix:{folder}/s"
    command = [sys.executable, "-m", "service.cli", "serve", "--listen", address, "--store", url,
               "--tenant", tenant, "--config", str(config)]  # fmt: skip
    process = await asyncio.to_thread(
        subprocess.Popen, command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            serving, end = Serving(channel, config), time.monotonic() + LONGEST
            while True:
                try:
                    await serving.decide(1.0)
                    break
                except grpc.aio.AioRpcError:
                    assert process.poll() is None, process.stdout.read()[-2_000:]
                    assert time.monotonic() < end, "it does not serve"
                    await asyncio.sleep(0.1)
            yield serving
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0, "it drains though nobody reads"
        assert len(process.stdout.read()) > 60_000, "a pipe holds less: it was blocked"
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_hardly_an_answer_is_late_while_all_is_swapped_and_nobody_reads_the_log(
    url: str, bundle: Bundle
) -> None:
    """Late against the same server left alone, in the same run: others use this machine too."""
    tenant = f"late-{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder:
        store = RedisStore(url, tenant=tenant, timeout=30)
        for version in ("one", "two"):
            await registry.publish(store, resealed(bundle, version), business())
        await store.close()
        async with served(url, tenant, Path(folder)) as serving:
            await serving.swap("one")
            never = asyncio.Event()
            await serving.asked(1.0, never, 1.0)  # the first calls are another matter
            quiet = await serving.asked(5.0, never, QUIET_SECONDS)
            deadline = max(0.25, 4 * max(quiet.took))

            done = asyncio.Event()
            asking = asyncio.create_task(serving.asked(deadline, done, LONGEST))
            start = time.monotonic()
            for number in range(SWAPS):
                await serving.swap(("two", "one")[number % 2])
                if number == SWAPS // 2:
                    await serving.reload()
            swapping = time.monotonic() - start
            await asyncio.sleep(max(0.0, 1.0 / ALLOWED / RATE - swapping))
            done.set()
            told = await asking
            versions = (await serving.decide(5.0)).versions

    assert versions.bundle == "one"
    allowed = math.ceil(ALLOWED * len(told.took))
    text = (
        f"{told.late} of {len(told.took)} calls were late with a deadline of {deadline:.3f} s; "
        f"worst {max(told.took):.3f} s, left alone {max(quiet.took):.3f} s"
    )
    print(f"{SWAPS} swaps took {swapping:.1f} s; {text}")
    assert told.late.total() <= allowed, text
