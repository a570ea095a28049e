"""``rapport serve --workers 2`` as it runs: who takes calls, who dies, who hears of a change."""

from __future__ import annotations

import asyncio
import collections
import json
import os
import re
import signal
import tempfile
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from redis import Redis

from rapport.v1 import admin_pb2, admin_pb2_grpc, decision_pb2, decision_pb2_grpc
from service import keys
from service.child import Process
from service.embedded import EmbeddedStore
from service.job import LOOK, Job, Serving, Settings
from tests.integration import processes
from tests.integration.processes import copied, process, refused
from tests.integration.serving import CONFIG, key, somebody, until

ROUND_ROBIN = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})


class Two:
    """Two workers of one store."""

    def __init__(self, process: processes.Process, config: Path) -> None:
        self.process, self.config = process, config
        told = process.line("workers")
        self.shared: str = told["shared"]
        self.own: list[str] = told["own"]
        self.pages: str = told.get("metrics", "")
        process.line("all workers serve", 60)

    def pids(self) -> dict[int, int]:
        """Process of each worker by its number."""
        started = [line for line in self.process.lines if line["event"] == "worker started"]
        return {line["worker"]: line["pid"] for line in started}

    def page(self, path: str = "/metrics") -> str:
        with urllib.request.urlopen(f"http://{self.pages}{path}", timeout=5) as answer:
            text: str = answer.read().decode()
        return text

    def samples(self, name: str, *labels: str) -> dict[int, float]:
        """What each worker says of a family, summed over the labels that are not given."""
        found: dict[int, float] = collections.defaultdict(float)
        for line in self.page().splitlines():
            match = re.fullmatch(rf'{name}{{worker="(\d+)"(.*)}} (\S+)', line)
            if match and all(one in match[2] for one in labels):
                found[int(match[1])] += float(match[3])
        return dict(found)

    def decided(self) -> dict[int, float]:
        return self.samples("rapport_calls_total", 'method="Decide"', 'status="OK"')


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    config = copied(tmp_path_factory.mktemp("config"))
    arguments = ("--config", str(config), "--workers", "2", "--metrics", "127.0.0.1:0")
    with process(*arguments) as running:
        yield Two(running, config)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 0


@asynccontextmanager
async def channel(*addresses: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel with connections of its own, calls going round all addresses."""
    hosts = ",".join(addresses)
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.service_config", ROUND_ROBIN)]
    async with grpc.aio.insecure_channel(
        hosts if hosts.startswith("unix:") else f"ipv4:{hosts}", options=options
    ) as one:
        yield one


async def decide(one: grpc.aio.Channel, seconds: float = 5) -> decision_pb2.DecideResponse:
    stub = decision_pb2_grpc.DecisionServiceStub(one)
    request = decision_pb2.DecideRequest(customer=key(somebody()), channel="phone")
    return await stub.Decide(request, timeout=seconds)


def worker(decision_id: str) -> str:
    """The digits of the worker in a decision's name."""
    return decision_id[13:17]


async def status(one: grpc.aio.Channel) -> admin_pb2.GetStatusResponse:
    return await admin_pb2_grpc.AdminServiceStub(one).GetStatus(admin_pb2.GetStatusRequest())


async def test_four_round_robin_channels_keep_both_workers_busy(two: Two) -> None:
    before = two.decided()
    async with AsyncExitStack() as opened:
        channels = [await opened.enter_async_context(channel(*two.own)) for _ in range(4)]
        for one in channels:
            await decide(one)
        await asyncio.sleep(0.3)  # both connections of each are there by now
        took = collections.Counter[str]()
        for _ in range(40):
            answers = await asyncio.gather(*(decide(one) for one in channels))
            took.update(worker(one.decision_id) for one in answers)
    assert took.total() == 160
    assert len(took) == 2
    assert max(took.values()) <= 0.6 * 160, took
    counted = {number: count - before.get(number, 0) for number, count in two.decided().items()}
    assert sum(counted.values()) == 164
    assert max(counted.values()) <= 0.6 * 164 + 4


async def test_what_the_shared_address_alone_does_with_four_channels(two: Two) -> None:
    """Reported, not bounded: the kernel throws a coin for each connection."""
    rounds, shares = 40, collections.Counter[int]()
    for _ in range(rounds):
        async with AsyncExitStack() as opened:
            channels = [await opened.enter_async_context(channel(two.shared)) for _ in range(4)]
            answers = await asyncio.gather(*(decide(one) for one in channels))
        took = collections.Counter(worker(one.decision_id) for one in answers)
        shares[max(took.values())] += 1
    assert shares.total() == rounds
    print(
        f"\nSO_REUSEPORT alone, four channels, two workers, {rounds} times: the busiest had "
        + ", ".join(f"{25 * most} % in {count}" for most, count in sorted(shares.items()))
    )


async def test_a_worker_that_is_killed_is_replaced_while_calls_go_on(two: Two) -> None:
    restarts = sum(two.samples("rapport_worker_restarts_total").values())
    old = two.pids()
    async with channel(two.own[1]) as one:
        before = worker((await decide(one)).decision_id)
    async with channel(*two.own) as one:
        os.kill(old[1], signal.SIGKILL)
        failed, names = 0, set[str]()
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                names.add(worker((await decide(one)).decision_id))
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
                failed += 1
                names.add(worker((await decide(one)).decision_id))  # the second try succeeds
            if len(names - {before}) == 2:
                break
            await asyncio.sleep(0.01)
        assert len(names - {before}) == 2, "the new one never took a call"
        assert failed <= 1
    # The new one may answer before the process that keeps it has read and said that it serves.
    replaced = await asyncio.to_thread(two.process.line, "worker replaced")
    ended = two.process.line("worker ended")
    assert (ended["worker"], ended["pid"], ended["signal"]) == (1, old[1], "SIGKILL")
    assert (replaced["worker"], replaced["before"]) == (1, old[1])
    assert two.pids() == {0: old[0], 1: replaced["pid"]}
    assert sum(two.samples("rapport_worker_restarts_total").values()) == restarts + 1
    assert two.page("/ready").startswith("ready")


async def test_the_page_tells_of_both_workers(two: Two) -> None:
    async with channel(two.own[0]) as first, channel(two.own[1]) as second:
        before = two.decided()
        for one, times in ((first, 3), (second, 5)):
            for _ in range(times):
                await decide(one)
    after = two.decided()
    assert {number: after[number] - before.get(number, 0) for number in after} == {0: 3, 1: 5}
    assert two.samples("rapport_worker_up") == {0: 1, 1: 1}
    lag = two.samples("rapport_loop_lag_seconds_count")
    await asyncio.sleep(0.3)
    later = two.samples("rapport_loop_lag_seconds_count")
    assert all(later[number] > lag[number] for number in (0, 1))
    assert all(held > 50e6 for held in two.samples("process_resident_memory_bytes").values())
    assert two.page("/live") == "live\n"
    await until(
        lambda: {line["worker"] for line in two.process.lines if line["event"] == "call"} == {0, 1}
    )


async def test_no_child_of_a_worker_could_hide_its_death(two: Two) -> None:
    for pid in two.pids().values():
        inputs, output, errors = (os.readlink(f"/proc/{pid}/fd/{one}") for one in range(3))
        assert inputs == os.devnull
        assert output == errors


async def test_a_configuration_that_one_was_told_to_reload_reaches_the_other(two: Two) -> None:
    path = two.config / "release.yaml"
    path.write_text(re.sub(r"(?m)^name: .*", f"name: '{uuid.uuid4().hex}'", path.read_text()))
    async with channel(two.own[0]) as first, channel(two.own[1]) as second:
        before = (await status(second)).versions.catalogue
        stub = admin_pb2_grpc.AdminServiceStub(first)
        told = await stub.ReloadConfiguration(admin_pb2.ReloadConfigurationRequest())
        assert told.versions.catalogue != before

        async def arrived() -> bool:
            return (await status(second)).versions.catalogue == told.versions.catalogue

        await until(arrived, 5)


async def test_all_drain_at_once_and_calls_in_flight_are_answered_and_logged() -> None:
    with tempfile.TemporaryDirectory(prefix="rapport-") as folder:
        data, at = Path(folder) / "data", Path(folder) / "serve"
        arguments = ("--config", str(CONFIG), "--workers", "2", "--data", str(data))
        with process(*arguments, "--listen", f"unix:{at}") as running:
            two = Two(running, CONFIG)
            assert "one listener" in two.shared
            assert two.own == [f"unix:{at}.0", f"unix:{at}.1"]
            answers = await drained(two)
            assert await asyncio.to_thread(running.ended, 30) == 0
            stopped = [line for line in running.lines if line["event"] == "stopped"]
            assert [one["lost_decisions"] for one in stopped] == [0, 0]
            assert {one["worker"] for one in stopped} == {0, 1}
        assert {code for one in answers for code in codes(one)} == {"TIMELINE_LATE"}
        assert len({worker(one.decision_id) for one in answers}) == 2
        with EmbeddedStore(data) as store, Redis(unix_socket_path=store.url[7:]) as redis:
            for one in answers:
                assert redis.exists(keys.decision("main", one.decision_id)), "it was not logged"


async def drained(two: Two) -> list[decision_pb2.DecideResponse]:
    """Stop both in the middle of a call, and give what they answered."""
    (store,) = two.process.children("valkey")
    async with channel(two.own[0]) as first, channel(two.own[1]) as second:
        await asyncio.gather(decide(first), decide(second))
        os.kill(store, signal.SIGSTOP)
        try:
            calls = [asyncio.ensure_future(decide(one, 1.5)) for one in (first, second)]
            await asyncio.sleep(0.2)
            two.process.process.send_signal(signal.SIGTERM)
            answers = await asyncio.gather(*calls)
        finally:
            os.kill(store, signal.SIGCONT)
        for one in (first, second):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await decide(one, 1)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    return answers


def codes(answer: decision_pb2.DecideResponse) -> list[str]:
    return [one.code for one in answer.advisories if one.code == "TIMELINE_LATE"]


async def test_a_worker_that_nobody_keeps_any_more_drains_and_ends(url: str) -> None:
    settings = Settings(listen="127.0.0.1:0", tenant=uuid.uuid4().hex, configuration=CONFIG)
    one = await Process.start(Job(CONFIG, url, settings))
    reports = one.reports()
    assert await anext(reports) == Serving()
    one.tell(LOOK)
    one.tell(b"anything else\n")
    one.leave()
    assert [said async for said in reports] == []
    assert await one.wait() == 0


def test_a_refused_configuration_ends_it_all_and_is_told_once(tmp_path: Path) -> None:
    path = copied(tmp_path) / "placements.yaml"
    path.write_text(path.read_text().replace("max_actions: 3", "max_actions: 300", 1))
    told = refused("--config", str(tmp_path), "--workers", "2")
    assert told.count("placements.yaml:") == 1
    assert "error: " in told
    assert "max_actions" in told
