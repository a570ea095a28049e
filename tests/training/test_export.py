from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from features import record
from features.partition import PARTITIONS, partition
from features.record import LogId
from rapport.v1 import log_pb2
from service.answers import timestamp
from service.redis_store import RedisStore
from service.retention import Retention
from service.store import STORED, Write
from tests.chain import NOW, Event
from training import archive, export, replay
from training.export import Exported


class Killed(BaseException):
    """The exporter ends here, whatever it would have liked to clean up."""


NAMES = ("event", "decision", "profile", "identity", "erased")


@pytest.fixture
async def log(store_url: str) -> AsyncIterator[RedisStore]:
    store = RedisStore(store_url, tenant=f"test-{uuid.uuid4().hex}")
    yield store
    await store.close()


def of_partition(number: int, count: int = 1) -> list[str]:
    """Customers who live in a partition."""
    found: list[str] = []
    index = 0
    while len(found) < count:
        if partition(f"c{index}") == number:
            found.append(f"c{index}")
        index += 1
    return found


EVERYWHERE = [of_partition(number)[0] for number in range(PARTITIONS)]


async def say(log: RedisStore, customers: list[str], name: str, at: int = NOW) -> None:
    """Store an event of each customer."""
    writes = []
    for customer in customers:
        packed = Event(at, id=f"{customer}/{name}").packed()
        entry = log_pb2.LogEntry(
            customer_id=customer, event=log_pb2.EventLogged(record=packed, caller=name)
        )
        writes.append((customer, Write(packed, False, entry.SerializeToString())))
    assert set(await log.record(writes)) == {STORED}


async def forget(log: RedisStore, customer: str, moment: int = NOW) -> None:
    erased = log_pb2.CustomerErased(erased_at=timestamp(moment))
    entry = log_pb2.LogEntry(customer_id=customer, erased=erased)
    await log.forget(customer, moment, entry.SerializeToString())


def held(folder: Path) -> list[tuple[str, str]]:
    """Customer and name of every entry of the archive, in order."""
    return [
        (one.customer_id, log_pb2.LogEntry.FromString(one.entry).event.caller or one.kind)
        for one in archive.read(folder, NAMES)
    ]


async def pages(log: RedisStore, number: int) -> list[tuple[LogId, bytes]]:
    return await log.log_page(number, record.NEVER, 10_000)


async def length(log: RedisStore) -> int:
    return (await log.status()).log_entries


async def test_all_partitions_are_exported_and_the_store_is_told_how_far(
    log: RedisStore, tmp_path: Path
) -> None:
    await say(log, EVERYWHERE, "first")
    shown: list[tuple[int, int]] = []
    done = await export.export(log, tmp_path, lambda parts, of: shown.append((parts, of)))
    assert done == Exported(entries=PARTITIONS, files=PARTITIONS, erased=0)
    assert held(tmp_path) == [(customer, "first") for customer in sorted(EVERYWHERE)]
    assert shown == [(n + 1, PARTITIONS) for n in range(PARTITIONS)]
    marks = await log.exported()
    assert marks == {n: archive.last(tmp_path, n) for n in range(PARTITIONS)}
    for number in (0, 1, 255):
        assert [id for id, _ in await pages(log, number)] == [marks[number]]


async def test_entries_are_kept_to_the_byte_under_their_ids(
    log: RedisStore, tmp_path: Path
) -> None:
    customer = of_partition(5)[0]
    for name in ("a", "b", "c"):
        await say(log, [customer], name)
    await export.export(log, tmp_path)
    assert [(one.id, one.entry) for one in archive.read(tmp_path)] == await pages(log, 5)


async def test_a_second_export_copies_only_what_is_new(log: RedisStore, tmp_path: Path) -> None:
    await say(log, EVERYWHERE[:10], "first")
    await export.export(log, tmp_path)
    assert await export.export(log, tmp_path) == Exported(0, 0, 0)
    await say(log, EVERYWHERE[3:5], "second")
    assert await export.export(log, tmp_path) == Exported(2, 2, 0)
    assert sorted(held(tmp_path)) == sorted(
        [(one, "first") for one in EVERYWHERE[:10]] + [(one, "second") for one in EVERYWHERE[3:5]]
    )


async def test_a_long_log_is_copied_page_by_page(
    log: RedisStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "PAGE", 4)
    customer = of_partition(5)[0]
    for name in range(9):
        await say(log, [customer], f"{name}")
    assert await export.export(log, tmp_path) == Exported(9, 3, 0)
    assert [name for _, name in held(tmp_path)] == [f"{name}" for name in range(9)]


@pytest.mark.parametrize("killed_at", ["mark_exported", "log_page"])
@pytest.mark.parametrize("survived", [0, 1, 2])
async def test_an_export_that_is_killed_and_resumed_loses_and_doubles_nothing(
    log: RedisStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    killed_at: str,
    survived: int,
) -> None:
    monkeypatch.setattr(export, "PAGE", 3)
    customers = of_partition(0, 3) + of_partition(1, 2)
    for name in ("a", "b", "c"):
        await say(log, customers, name)
    real = getattr(log, killed_at)
    calls = 0

    async def killed(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls > survived:
            raise Killed
        return await real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(log, killed_at, killed)
        with pytest.raises(Killed):
            await export.export(log, tmp_path)
    for number, mark in (await log.exported()).items():
        assert mark <= archive.last(tmp_path, number)  # never told more than is on disk
    await say(log, customers, "later")
    await export.export(log, tmp_path)
    assert sorted(held(tmp_path)) == sorted(
        (customer, name) for customer in customers for name in ("a", "b", "c", "later")
    )
    marks = await log.exported()
    assert {n: marks[n] for n in (0, 1)} == {n: archive.last(tmp_path, n) for n in (0, 1)}


async def test_the_store_is_told_only_once_the_file_is_whole(
    log: RedisStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise Killed

    await say(log, EVERYWHERE[:2], "first")
    with monkeypatch.context() as patched:
        patched.setattr(archive, "write", killed)
        with pytest.raises(Killed):
            await export.export(log, tmp_path)
    assert await log.exported() == {}
    assert await export.export(log, tmp_path) == Exported(2, 2, 0)


async def test_entries_that_arrive_during_an_export_are_in_this_one_or_the_next(
    log: RedisStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    customers = EVERYWHERE[::32]
    monkeypatch.setattr(export, "PAGE", 2)
    running = asyncio.Event()
    said = 0

    async def talk() -> None:
        nonlocal said
        while not running.is_set():
            await say(log, customers, f"{said:03d}")
            said += 1
            await asyncio.sleep(0.02)

    talking = asyncio.create_task(talk())
    first = await export.export(log, tmp_path)
    running.set()
    await talking
    second = await export.export(log, tmp_path)
    assert first.entries + second.entries == said * len(customers)
    assert said > 1
    assert held(tmp_path) == [
        (customer, f"{n:03d}") for customer in sorted(customers) for n in range(said)
    ]


async def test_a_forgotten_customer_leaves_the_files_written_before(
    log: RedisStore, tmp_path: Path
) -> None:
    anna, ben = of_partition(7, 2)
    await say(log, [anna, ben], "before")
    await export.export(log, tmp_path)
    await forget(log, anna)
    assert (await export.export(log, tmp_path)).erased == 1
    assert held(tmp_path) == sorted([(anna, "erased"), (ben, "before")])
    assert replay.erasures(tmp_path) == {anna: NOW}


async def test_a_customer_who_is_forgotten_and_comes_back_keeps_what_came_after(
    log: RedisStore, tmp_path: Path
) -> None:
    anna, ben = of_partition(7, 2)
    await say(log, [anna, ben], "before")
    await export.export(log, tmp_path)
    await forget(log, anna)
    await say(log, [anna], "after", NOW + 1)
    await export.export(log, tmp_path)
    assert sorted(held(tmp_path)) == sorted([(anna, "after"), (anna, "erased"), (ben, "before")])


async def test_an_event_and_its_erasure_in_one_page_leave_no_trace_of_the_event(
    log: RedisStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exporter read the page before the store had deleted what it forgets."""
    anna = of_partition(7)[0]
    await say(log, [anna], "before")
    stale = await pages(log, 7)
    await forget(log, anna)
    real = log.log_page

    async def early(number: int, after: LogId, count: int) -> list[tuple[LogId, bytes]]:
        page = await real(number, after, count)
        return stale + page if number == 7 and page else page

    monkeypatch.setattr(log, "log_page", early)
    await export.export(log, tmp_path)
    assert held(tmp_path) == [(anna, "erased")]


@pytest.mark.parametrize("step", ["write", "erase"])
async def test_an_export_killed_while_it_forgets_somebody_forgets_them_when_resumed(
    log: RedisStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    anna, ben = of_partition(7, 2)
    await say(log, [anna, ben], "before")
    await export.export(log, tmp_path)
    await forget(log, anna)
    real = getattr(archive, step)

    def killed(*arguments: object) -> None:
        if step == "write":  # killed just after the new file is whole
            real(*arguments)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(archive, step, killed)
        with pytest.raises(Killed):
            await export.export(log, tmp_path)
    await export.export(log, tmp_path)
    assert (anna, "before") not in held(tmp_path)
    assert (ben, "before") in held(tmp_path)


async def test_following_exports_once_more_when_told_to_stop(
    log: RedisStore, tmp_path: Path
) -> None:
    customer = of_partition(5)[0]
    stop, twice = asyncio.Event(), asyncio.Event()
    rounds: list[int] = []

    def told(done: Exported, seconds: float) -> None:
        assert seconds > 0
        rounds.append(done.entries)
        if len(rounds) == 2:
            twice.set()

    await say(log, [customer], "first")
    following = asyncio.create_task(export.follow(log, tmp_path, 0.01, stop, told))
    await twice.wait()
    assert rounds[0] == 1
    await say(log, [customer], "last")
    stop.set()
    await asyncio.wait_for(following, 10)
    assert sum(rounds) == 2
    assert [name for _, name in held(tmp_path)] == ["first", "last"]


async def test_retention_never_drops_what_is_not_exported_while_an_exporter_runs(
    log: RedisStore, tmp_path: Path
) -> None:
    old, unexported = of_partition(1)[0], of_partition(2)[0]
    await say(log, [old], "exported")
    await export.export(log, tmp_path)
    await say(log, [old, unexported], "new")
    keeper = Retention(log, age=0, entries=1, exporting=True)
    assert await keeper.sweep(2 * NOW) == 0
    assert keeper.dropped == 0
    left = [log_pb2.LogEntry.FromString(one).event.caller for _, one in await pages(log, 1)]
    assert left == ["new"]
    assert len(await pages(log, 2)) == 1
    await export.export(log, tmp_path)
    assert sorted(held(tmp_path)) == sorted([(old, "exported"), (old, "new"), (unexported, "new")])


async def test_retention_keeps_what_is_young_though_it_is_exported(
    log: RedisStore, tmp_path: Path
) -> None:
    await say(log, EVERYWHERE[:3], "young")
    await export.export(log, tmp_path)
    (id, _), *_ = await pages(log, 0)
    keeper = Retention(log, age=60_000, entries=10_000, exporting=True)
    await keeper.sweep(id.ms + 59_000)
    assert await length(log) == 3
    await keeper.sweep(id.ms + 120_000)
    assert await length(log) == 0


async def test_retention_counts_what_it_drops_by_age_where_nothing_exports(
    log: RedisStore, tmp_path: Path
) -> None:
    await say(log, EVERYWHERE[:3], "old")
    (id, _), *_ = await pages(log, 0)
    keeper = Retention(log, age=60_000, entries=256 * 100, exporting=False)
    assert await keeper.sweep(id.ms + 50_000) == 0
    assert await length(log) == 3
    assert await keeper.sweep(id.ms + 120_000) == 3
    assert await keeper.sweep(id.ms + 120_000) == 0
    assert keeper.dropped == 3
    assert await length(log) == 0


async def test_retention_counts_what_it_drops_by_number_where_nothing_exports(
    log: RedisStore, tmp_path: Path
) -> None:
    customers = of_partition(4, 5)
    await say(log, customers, "x")
    keeper = Retention(log, age=10**12, entries=2 * PARTITIONS, exporting=False)
    assert await keeper.sweep(NOW) == 3
    left = [log_pb2.LogEntry.FromString(one).customer_id for _, one in await pages(log, 4)]
    assert left == customers[3:]


async def test_what_somebody_exported_by_hand_is_not_counted_as_lost(
    log: RedisStore, tmp_path: Path
) -> None:
    customers = of_partition(4, 5)
    await say(log, customers[:3], "exported")
    await export.export(log, tmp_path)
    await say(log, customers[3:], "not")
    keeper = Retention(log, age=0, entries=10**9, exporting=False)
    assert await keeper.sweep(2 * NOW) == 2
    assert await length(log) == 0
