"""What is done when workers start, end and drain, without any process."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from service import workers
from service.addresses import Held
from service.errors import ConfigurationError, RapportError
from service.job import LOOK, Changed, Job, Refused, Report, Serving, Settings
from service.metrics import Metrics
from service.pages import Page, PageServer, fetch
from service.workers import Supervisor
from tests.integration.serving import until

pids = itertools.count(100)


class Fake:
    """A worker that does what a test says."""

    def __init__(self, job: Job, code: int = 0) -> None:
        self.job, self.pid = job, next(pids)
        self.words: list[bytes] = []
        self.signals: list[signal.Signals] = []
        self.stubborn = False
        self._code = code
        self._said: asyncio.Queue[Report | None] = asyncio.Queue()

    def say(self, *reports: Report) -> Fake:
        for one in reports:
            self._said.put_nowait(one)
        return self

    def end(self, code: int) -> Fake:
        self._code = code
        self._said.put_nowait(None)
        return self

    async def reports(self) -> AsyncIterator[Report]:
        while (one := await self._said.get()) is not None:
            yield one

    def tell(self, word: bytes) -> None:
        self.words.append(word)

    def signal(self, number: signal.Signals) -> None:
        self.signals.append(number)
        if number == signal.SIGKILL:
            self.end(-9)
        elif not self.stubborn:
            self.end(0)

    async def wait(self) -> int:
        return self._code


Script = Callable[[Fake], object]


class World:
    """Starts fakes, counts seconds, and remembers."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.started: list[Fake] = []
        self.pauses: list[float] = []
        self.now = 0.0
        self.patient = False  # pauses take for ever
        self.may_start = asyncio.Event()
        self.may_start.set()

    async def start(self, job: Job) -> Fake:
        fake = Fake(job)
        self.started.append(fake)
        await self.may_start.wait()
        self.script(fake)
        return fake

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        await asyncio.sleep(60 if self.patient else 0)

    def of(self, number: int) -> list[Fake]:
        return [one for one in self.started if one.job.settings.number == number]


@asynccontextmanager
async def supervised(
    script: Script, count: int = 2, listen: str = "127.0.0.1:0", **settings: Any
) -> AsyncIterator[tuple[Supervisor, World, Awaitable[bool]]]:
    world = World(script)
    job = Job(Path("config"), "redis://store", Settings(**settings), Path("bundle"))
    with Held(listen, count) as held:
        supervisor = Supervisor(job, held, world.start, world.pause, lambda: world.now)
        running = asyncio.ensure_future(supervisor.run())
        try:
            yield supervisor, world, running
        finally:
            supervisor.stop()
            await asyncio.wait([running])


def serves(fake: Fake) -> None:
    fake.say(Serving())


async def test_the_others_follow_when_the_first_serves() -> None:
    async with supervised(lambda fake: None, count=3) as (supervisor, world, running):
        await until(lambda: len(world.started) == 1)
        await asyncio.sleep(0.05)
        assert len(world.started) == 1
        world.started[0].say(Serving())
        await until(lambda: len(world.started) == 3)
        assert [one.job.settings.number for one in world.started] == [0, 1, 2]
        assert [one.job.bundle for one in world.started] == [Path("bundle"), None, None]
        supervisor.stop()
        assert await running
        assert all(one.signals == [signal.SIGTERM] for one in world.started)


async def test_all_share_an_address_and_each_has_one_of_its_own() -> None:
    async with supervised(serves, connection_age=100.0) as (_, world, _):
        await until(lambda: len(world.started) == 2)
        one, two = (fake.job.settings for fake in world.started)
        assert one.listen == two.listen
        assert len({one.listen, one.own, two.own}) == 3
        assert len({one.worker, two.worker}) == 2
        assert one.connection_age != two.connection_age
        assert all(80 <= each.connection_age <= 120 for each in (one, two))


async def test_without_an_address_to_share_each_listens_on_its_own() -> None:
    async with supervised(serves, listen="unix:/nowhere/rapport") as (_, world, _):
        await until(lambda: len(world.started) == 2)
        settings = [fake.job.settings for fake in world.started]
        assert [one.listen for one in settings] == [
            "unix:/nowhere/rapport.0",
            "unix:/nowhere/rapport.1",
        ]
        assert [one.own for one in settings] == ["", ""]
        assert [one.connection_age for one in settings] == [0.0, 0.0]


async def test_a_worker_that_dies_is_replaced_under_another_id_and_said_so() -> None:
    with structlog.testing.capture_logs() as lines:
        async with supervised(serves) as (supervisor, world, running):
            await until(lambda: len(world.started) == 2)
            world.now += 5
            world.of(1)[0].end(-9)
            await until(lambda: len(world.of(1)) == 2)
            await until(lambda: any(one["event"] == "worker replaced" for one in lines))
            old, new = world.of(1)
            assert old.job.settings.own == new.job.settings.own
            assert old.job.settings.worker != new.job.settings.worker
            assert new.job.bundle is None
            assert len(world.of(0)) == 1, "the other one is left alone"
            supervisor.stop()
            assert await running
    (ended,) = (one for one in lines if one["event"] == "worker ended")
    assert ended["log_level"] == "error"
    assert {name: ended[name] for name in ("worker", "pid", "signal", "served_seconds")} == {
        "worker": 1,
        "pid": old.pid,
        "signal": "SIGKILL",
        "served_seconds": 5.0,
    }
    (replaced,) = (one for one in lines if one["event"] == "worker replaced")
    assert (replaced["pid"], replaced["before"]) == (new.pid, old.pid)


async def test_the_bundle_is_activated_once_also_when_the_first_worker_is_replaced() -> None:
    async with supervised(serves) as (_, world, _):
        await until(lambda: len(world.started) == 2)
        world.of(0)[0].end(1)
        await until(lambda: len(world.of(0)) == 2)
        assert [one.job.bundle for one in world.of(0)] == [Path("bundle"), None]


async def test_one_that_keeps_dying_is_tried_later_and_later_while_others_serve() -> None:
    def script(fake: Fake) -> None:
        if fake.job.settings.number:
            fake.end(1)
        else:
            fake.say(Serving())

    async with supervised(script) as (_, world, running):
        await until(lambda: len(world.pauses) >= 8)
        assert world.pauses[:8] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0]
        assert not asyncio.ensure_future(running).done()


async def test_one_that_is_refused_while_others_serve_is_told_and_tried_again() -> None:
    def script(fake: Fake) -> None:
        if fake.job.settings.number:
            fake.say(Refused("policies.yaml:3: it is wrong")).end(2)
        else:
            fake.say(Serving())

    with structlog.testing.capture_logs() as lines:
        async with supervised(script) as (supervisor, world, running):
            await until(lambda: len(world.of(1)) >= 3)
            supervisor.stop()
            await running
    told = [one for one in lines if one["event"] == "worker ended"]
    assert told[0]["error"] == "policies.yaml:3: it is wrong"
    assert told[0]["code"] == 2


async def test_a_refusal_of_the_first_ends_it_all_with_its_words() -> None:
    async with supervised(lambda one: one.say(Refused("line 3 is wrong")).end(2)) as (
        _,
        world,
        running,
    ):
        with pytest.raises(ConfigurationError, match=r"^line 3 is wrong$"):
            await running
        assert len(world.started) == 1


async def test_one_that_dies_before_it_serves_is_given_up_after_five_times() -> None:
    async with supervised(lambda fake: fake.end(-11)) as (_, world, running):
        with pytest.raises(RapportError, match=r"worker 0 ended 5 times .*SIGSEGV"):
            await running
        assert len(world.started) == 5
        assert world.pauses == [0.0, 0.5, 1.0, 2.0]


async def test_an_interpreter_that_cannot_be_started_is_told() -> None:
    def script(fake: Fake) -> None:
        raise BlockingIOError(11, "no more processes")

    async with supervised(script) as (_, _, running):
        with pytest.raises(ConfigurationError, match="no more processes"):
            await running


async def test_what_one_changed_is_told_to_the_others() -> None:
    async with supervised(serves, count=3) as (_, world, _):
        await until(lambda: len(world.started) == 3)
        world.started[1].say(Changed())
        await until(lambda: bool(world.started[0].words))
        assert [one.words for one in world.started] == [[LOOK], [], [LOOK]]


async def test_one_that_does_not_drain_is_killed_and_it_did_not_end_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "_DRAIN_SECONDS", 0.1)

    def script(fake: Fake) -> None:
        fake.stubborn = fake.job.settings.number == 1
        fake.say(Serving())

    with structlog.testing.capture_logs() as lines:
        async with supervised(script, grace=0.0) as (supervisor, world, running):
            await until(lambda: len(world.started) == 2)
            supervisor.stop()
            assert not await running
            assert world.of(0)[0].signals == [signal.SIGTERM]
            assert world.of(1)[0].signals == [signal.SIGTERM, signal.SIGKILL]
    assert [one["worker"] for one in lines if one["event"] == "worker killed"] == [1]


async def test_one_that_ends_badly_while_draining_is_no_good_end() -> None:
    def script(fake: Fake) -> None:
        fake.stubborn = True
        fake.say(Serving())

    async with supervised(script, count=1) as (supervisor, world, running):
        await until(lambda: len(world.started) == 1)
        supervisor.stop()
        await until(lambda: bool(world.started[0].signals))
        world.started[0].end(1)
        assert not await running


async def test_stopping_while_one_starts_waits_for_its_end() -> None:
    async with supervised(lambda fake: None) as (supervisor, world, running):
        await until(lambda: len(world.started) == 1)
        world.started[0].stubborn = True
        supervisor.stop()
        await until(lambda: bool(world.started[0].signals))
        world.started[0].end(-signal.SIGTERM)  # before it could listen to signals
        assert await running
        assert len(world.started) == 1


async def test_one_that_was_being_started_when_all_stop_is_stopped_too() -> None:
    async with supervised(serves, count=1) as (supervisor, world, running):
        world.may_start.clear()
        await until(lambda: len(world.started) == 1)
        supervisor.stop()
        await asyncio.sleep(0.05)
        assert world.started[0].signals == [], "it is not there yet"
        world.may_start.set()
        async with asyncio.timeout(5):
            assert await running
        assert world.started[0].signals == [signal.SIGTERM]


async def test_stopping_ends_a_pause() -> None:
    async with supervised(serves) as (supervisor, world, running):
        await until(lambda: len(world.started) == 2)
        world.patient = True
        world.of(1)[0].end(1)
        await until(lambda: bool(world.pauses))
        supervisor.stop()
        async with asyncio.timeout(5):
            assert await running
        assert len(world.of(1)) == 1


async def ready(at: str) -> bool:
    try:
        return (await fetch("/ready", at)).startswith("ready\n")
    except OSError as error:
        if "503" not in str(error):
            raise
        return False


async def test_it_is_ready_once_all_have_served_and_while_one_does(tmp_path: Path) -> None:
    at = f"unix:{tmp_path / 'pages'}"
    async with supervised(lambda fake: None, metrics=at) as (_, world, _):
        await until(lambda: len(world.started) == 1)
        assert not await ready(at)
        world.started[0].say(Serving())
        await until(lambda: len(world.started) == 2)
        assert not await ready(at), "the second does not serve yet"
        world.started[1].say(Serving())
        await until(lambda: ready(at))
        world.patient = True
        world.started[1].end(1)
        await until(lambda: bool(world.pauses))
        assert await ready(at), "one still serves"
        assert "worker 1: does not serve" in await fetch("/ready", at)
        world.started[0].end(1)
        await until(lambda: len(world.pauses) == 2)
        assert not await ready(at)
        assert await fetch("/live", at) == "live\n"


async def test_it_is_not_ready_while_it_drains(tmp_path: Path) -> None:
    at = f"unix:{tmp_path / 'pages'}"

    def script(fake: Fake) -> None:
        fake.stubborn = True
        fake.say(Serving())

    async with supervised(script, metrics=at) as (supervisor, world, running):
        await until(lambda: len(world.started) == 2)
        await until(lambda: ready(at))
        supervisor.stop()
        assert not await ready(at)
        for fake in world.started:
            fake.end(0)
        assert await running


async def test_a_worker_that_does_not_answer_for_its_page_is_told_as_down(tmp_path: Path) -> None:
    at = f"unix:{tmp_path / 'pages'}"
    async with supervised(serves, metrics=at) as (_, world, _):
        await until(lambda: len(world.started) == 2)
        page = world.started[0].job.settings.metrics
        assert page != world.started[1].job.settings.metrics
        server = PageServer({"/metrics": _page})
        await server.start(page)
        await until(lambda: ready(at))
        told = await fetch("/metrics", at)
        await server.close()
    assert 'rapport_worker_up{worker="0"} 1\n' in told
    assert 'rapport_worker_up{worker="1"} 0\n' in told
    assert 'rapport_calls_total{worker="0",method="Decide",status="OK"} 1\n' in told


async def _page() -> Page:
    metrics = Metrics(0)
    metrics.call("Decide", "OK", 0.001)
    return Page(metrics.page())
