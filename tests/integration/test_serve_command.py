"""``rapport serve`` as a process: it starts, drains, exports, or says what keeps it from that."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf import struct_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rapport.v1 import decision_pb2, decision_pb2_grpc, event_pb2, log_pb2
from service.bundle import Bundle
from service.configuration import claim
from service.redis_store import RedisStore
from tests.integration.processes import Process, alive, copied, process, refused
from tests.integration.serving import CONFIG, business, event, key, shown, somebody, until, value
from training import archive, publish

HEALTH = health_pb2.HealthCheckResponse


async def test_a_server_drains_on_sigterm_and_leaves_its_log_as_parquet(
    tmp_path: Path, bundle: Bundle
) -> None:
    out = tmp_path / "archive"
    at = publish.save(bundle, tmp_path / "bundles")
    arguments = ("--config", str(CONFIG), "--archive", str(out), "--bundle", str(at))
    with process(*arguments, "--data", str(tmp_path / "data")) as server:
        port = server.line("serving")["port"]
        (store,) = server.children("valkey")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            taken = await drained(server, store, channel)
        await until(lambda: server.process.poll() is not None, 30)
        assert server.process.returncode == 0
        assert not alive(store)
        assert server.line("stopped")["lost_decisions"] == 0

    entries = [
        log_pb2.LogEntry.FromString(one.entry) for one in archive.read(out, ("event", "decision"))
    ]
    kinds = [one.WhichOneof("entry") for one in entries]
    assert kinds.count("event") == 3
    logged = {one.decision.response.decision_id for one in entries} - {""}
    assert logged == set(taken)

    told = parity(out)
    assert f"{len(taken)} of {len(taken)} vectors are equal bit for bit" in told


def parity(folder: Path) -> str:
    """What ``rapport parity`` says of an archive."""
    command = [sys.executable, "-m", "service.cli", "parity", "--config", str(CONFIG)]
    done = subprocess.run(
        [*command, "--archive", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def drained(server: Process, store: int, channel: grpc.aio.Channel) -> list[str]:
    """Use a server, end it in the middle of a call, and give the decisions it took."""
    decisions = decision_pb2_grpc.DecisionServiceStub(channel)
    health = health_pb2_grpc.HealthStub(channel)
    customer = somebody()
    await decisions.RecordEvents(
        decision_pb2.RecordEventsRequest(events=[event(customer), event(customer)])
    )
    context = {
        "wait_seconds": value(12.0),
        "device": value(None),
        "authenticated": struct_pb2.Value(),
    }
    request = decision_pb2.DecideRequest(customer=key(customer), channel="phone", context=context)
    first = await decisions.Decide(request, timeout=5)
    assert first.rung == decision_pb2.RUNG_FULL
    presented = decision_pb2.RecordOutcomeRequest(
        decision_id=first.decision_id,
        action=shown(first)[0],
        outcome=event_pb2.OUTCOME_PRESENTED,
    )
    await decisions.RecordOutcome(presented)
    second = await decisions.Decide(request, timeout=5)
    await asyncio.sleep(0.2)  # the log has both by now

    watching = health.Watch(health_pb2.HealthCheckRequest())
    assert (await watching.read()).status == HEALTH.SERVING
    os.kill(store, signal.SIGSTOP)
    try:
        in_flight = asyncio.ensure_future(decisions.Decide(request, timeout=1.5))
        await asyncio.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            assert (await watching.read()).status == HEALTH.NOT_SERVING
        watching.cancel()
        third = await in_flight
    finally:
        os.kill(store, signal.SIGCONT)
    assert "TIMELINE_LATE" in {one.code for one in third.advisories}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await decisions.Decide(request, timeout=2)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    return [one.decision_id for one in (first, second, third)]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A copy of the sample configuration to spoil."""
    return copied(tmp_path)


async def test_a_changed_code_of_the_vocabulary_keeps_a_server_from_starting(
    url: str, config: Path
) -> None:
    store = RedisStore(url, tenant="claimed")
    await claim(store, business().vocabulary)
    await store.close()
    path = config / "vocabulary.yaml"
    text = path.read_text()
    path.write_text(text.replace("branch: 9\n", "branch: 10\n", 1))
    told = refused("--config", str(config), "--store", url, "--tenant", "claimed")
    assert "vocabulary.yaml does not fit what the store holds" in told
    assert "branch" in told
    assert "9" in told
    assert "10" in told


def test_a_wrong_configuration_is_told_with_its_file_and_line(config: Path) -> None:
    path = config / "placements.yaml"
    lines = path.read_text().splitlines()
    line = next(i for i, one in enumerate(lines) if "max_actions" in one)
    lines[line] = lines[line].replace("max_actions: 3", "max_actions: 300")
    path.write_text("\n".join(lines))
    told = refused("--config", str(config))
    assert f"placements.yaml:{line + 1}:" in told
    assert "max_actions" in told


def test_a_server_for_other_machines_needs_to_know_its_callers() -> None:
    told = refused("--config", str(CONFIG), "--listen", "0.0.0.0:0")
    assert "--callers FILE" in told


async def test_the_store_dies_with_a_server_that_is_killed() -> None:
    with process("--config", str(CONFIG)) as server:
        server.line("serving")
        (store,) = server.children("valkey")
        assert alive(store)
        server.process.kill()
        assert server.process.wait(10) == -signal.SIGKILL, "it had no time to end the store"
        await until(lambda: not alive(store))
        assert not alive(store)


async def test_a_second_server_on_one_address_says_that_it_is_taken(url: str) -> None:
    async with somebody_else() as port:
        told = refused("--config", str(CONFIG), "--store", url, "--listen", f"127.0.0.1:{port}")
    assert f"--listen 127.0.0.1:{port}" in told
    assert "choose a free address" in told


@asynccontextmanager
async def somebody_else() -> AsyncIterator[int]:
    """A port that is taken."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(None)
