"""The store on a real Redis Cluster whose slots move and whose nodes die.

The whole of ``test_store.py`` runs on a cluster at rest too, through the fixture ``store``.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from features import record
from features.record import NEVER, decode
from rapport.v1 import log_pb2
from service import keys
from service.errors import ConfigurationError, StoreUnavailable
from service.redis_cluster import Cluster
from service.redis_command import slot
from service.redis_store import RedisStore
from service.store import STORED, UNAVAILABLE, Snapshot, Write
from tests.integration.cluster import PRIMARIES, RunningCluster

NOW = time.time_ns() // 1_000_000
TIMEOUT = 1.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """A cluster that these tests may break, if they mend it again."""
    with RunningCluster(tmp_path_factory.mktemp("broken")) as cluster:
        yield cluster


@pytest.fixture
async def store(cluster: RunningCluster) -> AsyncIterator[RedisStore]:
    store = RedisStore(
        cluster.url, tenant=f"test-{uuid.uuid4().hex}", limit=10_000, timeout=TIMEOUT
    )
    yield store
    await store.close()


def write(customer: str, id: object) -> tuple[str, Write]:
    packed = record.pack(
        occurred_at=NOW,
        hash=record.event_hash("test", str(id)),
        sequence=0,
        type=1,
        action=0,
        outcome=0,
        value=0,
    )
    entry = log_pb2.LogEntry(customer_id=customer, event=log_pb2.EventLogged(record=packed))
    return customer, Write(packed, False, entry.SerializeToString())


def slot_of(store: RedisStore, customer: str) -> int:
    return slot(keys.timeline(store.tenant, customer))


def on_each_node(cluster: RunningCluster, store: RedisStore, count: int) -> list[list[str]]:
    """As many customers of each node."""
    owners = cluster.owners()
    found: list[list[str]] = [[] for _ in range(PRIMARIES)]
    for number in itertools.count():
        of_node = found[owners[slot_of(store, f"c{number}")]]
        if len(of_node) < count:
            of_node.append(f"c{number}")
        if all(len(names) == count for names in found):
            return found
    raise AssertionError


def hashes(snapshot: Snapshot) -> set[int]:
    found: list[int] = decode(snapshot.timeline)[1]["hash"].tolist()
    assert len(set(found)) == len(found), "an event twice in a timeline"
    return set(found)


def refused(store: RedisStore) -> Counter[str]:
    cluster: Cluster = store._redis
    return cluster.refused


# Slots and order


@given(
    names=st.lists(
        st.text("{}ab") | st.text() | st.from_regex(r"\A.{0,3}\{.{0,3}\}.{0,3}\Z"),
        min_size=1,
        max_size=50,
    )
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_key_is_in_the_slot_that_the_server_says(
    cluster: RunningCluster, names: list[str]
) -> None:
    with Redis(port=cluster.port(0)) as redis, redis.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.execute_command("CLUSTER KEYSLOT", name.encode("utf-8", "surrogatepass"))
        told = pipeline.execute()
    assert [slot(name.encode("utf-8", "surrogatepass")) for name in names] == told


async def test_replies_come_in_the_order_of_the_questions_whichever_nodes_they_are_of(
    cluster: RunningCluster, store: RedisStore
) -> None:
    names = [
        name for three in zip(*on_each_node(cluster, store, 100), strict=True) for name in three
    ]
    assert await store.record([write(name, name) for name in names[::2]]) == [STORED] * 150
    wanted = [{record.event_hash("test", name)} if name in names[::2] else set() for name in names]
    found = await asyncio.gather(*(store.read(name) for name in names))
    assert [hashes(snapshot) for snapshot in found] == wanted
    redis: Any = store._redis
    async with redis.pipeline() as pipeline:
        for name in names:
            pipeline.mget(keys.timeline(store.tenant, name), keys.profile(store.tenant, name))
        assert await pipeline.execute() == [[snapshot.timeline, None] for snapshot in found]
    assert not refused(store), "every command went to the right node at once"


async def test_scripts_that_one_node_lost_are_sent_to_it_again(
    cluster: RunningCluster, store: RedisStore
) -> None:
    names = [name for of_node in on_each_node(cluster, store, 5) for name in of_node]
    for round in range(3):
        cluster.ask(round, "SCRIPT FLUSH")
        events = [write(name, f"{round}-{name}") for name in names]
        assert await store.record(events) == [STORED] * len(names)
        cluster.ask(round, "SCRIPT FLUSH")
        for name in names:
            assert await store.write_profile(f"{round}-{name}", NEVER, b"", b"", NOW)
    assert not refused(store)


# Checks at start


async def test_one_primary_that_would_evict_customers_is_enough_to_refuse_the_cluster(
    cluster: RunningCluster, store: RedisStore
) -> None:
    await store.check()
    for number in range(PRIMARIES):
        cluster.ask(number, "CONFIG SET", "maxmemory-policy", "allkeys-lru")
        with pytest.raises(ConfigurationError, match=r"'allkeys-lru'.*noeviction"):
            await store.check()
        cluster.ask(number, "CONFIG SET", "maxmemory-policy", "noeviction")
    await store.check()


async def test_a_node_of_a_cluster_is_refused_as_a_single_server(cluster: RunningCluster) -> None:
    store = RedisStore(f"redis://127.0.0.1:{cluster.port(0)}")
    with pytest.raises(ConfigurationError, match=r"redis\+cluster://"):
        await store.check()
    await store.close()


async def test_a_seed_that_is_down_is_passed_over(cluster: RunningCluster) -> None:
    store = RedisStore(f"redis+cluster://127.0.0.1:1,127.0.0.1:{cluster.port(2)}")
    await store.check()
    assert (await store.status()).log_entries == 0
    await store.close()


async def test_a_cluster_of_which_nobody_answers_is_unavailable() -> None:
    store = RedisStore("redis+cluster://127.0.0.1:1,127.0.0.1:2")
    calls: list[Callable[[], Awaitable[object]]] = [
        store.check,
        store.status,
        store.models,
        lambda: store.read("ann"),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable, match="no node knows the cluster's slots"):
            await call()
    assert await store.record([write("ann", 1)]) == [UNAVAILABLE]
    await store.close()


# Slots that move


async def move(cluster: RunningCluster, moving: int, source: int, target: int) -> None:
    """Move a slot key by key, slowly enough for everybody to meet it half-way."""
    there = ("127.0.0.1", cluster.port(target), "", 0, 5_000, "KEYS")
    cluster.ask(target, "CLUSTER", "SETSLOT", moving, "IMPORTING", cluster.id(source))
    cluster.ask(source, "CLUSTER", "SETSLOT", moving, "MIGRATING", cluster.id(target))
    while some := cluster.ask(source, "CLUSTER", "GETKEYSINSLOT", moving, 3):
        cluster.ask(source, "MIGRATE", *there, *some)
        await asyncio.sleep(0.01)
    for number in (target, source, *range(PRIMARIES)):
        cluster.ask(number, "CLUSTER", "SETSLOT", moving, "NODE", cluster.id(target))
        await asyncio.sleep(0.02)


async def move_at_once(cluster: RunningCluster, moving: int, source: int, target: int) -> None:
    """Move a slot whole, as Valkey 9 can."""
    range_ = ("SLOTSRANGE", moving, moving, "NODE", cluster.id(target))
    cluster.ask(source, "CLUSTER", "MIGRATESLOTS", *range_)
    deadline = time.monotonic() + 10
    while cluster.owners()[moving] != target:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("way", "kinds"),
    [(move, {"ASK", "MOVED", "TRYAGAIN"}), (move_at_once, {"MOVED"})],
    ids=["key by key", "at once"],
)
async def test_a_slot_that_moves_under_readers_and_writers_loses_and_doubles_nothing(
    cluster: RunningCluster,
    store: RedisStore,
    way: Callable[[RunningCluster, int, int, int], Awaitable[None]],
    kinds: set[str],
) -> None:
    moving = slot_of(store, "ann")
    neighbours = [f"n{n}" for n in range(8_000) if slot_of(store, f"n{n}") == moving]
    names = [*neighbours[:20], *(f"elsewhere{n}" for n in range(10))]
    acknowledged: dict[str, set[int]] = {name: set() for name in names}
    everything_moved = asyncio.Event()
    tries, reads = Counter[int](), 0

    async def writes(own: list[str]) -> None:
        for n in itertools.count():
            events = [write(name, f"{name}-{n}") for name in own]
            while events:  # as a client does: what was not stored is sent again
                statuses = await store.record(events)
                tries.update(statuses)
                for (name, event), status in zip(events, statuses, strict=True):
                    if status == STORED:
                        (packed,) = np.frombuffer(event.record, record.RECORD)
                        acknowledged[name].add(int(packed["hash"]))
                events = [e for e, s in zip(events, statuses, strict=True) if s != STORED]
            if everything_moved.is_set():
                return
            await asyncio.sleep(0.002)

    async def reads_back() -> None:
        nonlocal reads
        while not everything_moved.is_set():
            before = {name: set(acknowledged[name]) for name in names}
            found = await asyncio.gather(*(store.read(name) for name in names))
            for name, snapshot in zip(names, found, strict=True):
                assert before[name] <= hashes(snapshot), "a read lost what was acknowledged"
            reads += 1
            await asyncio.sleep(0.001)

    async def moves() -> None:
        for _ in range(3):
            await asyncio.sleep(0.1)
            source = cluster.owners()[moving]
            await way(cluster, moving, source, (source + 1) % PRIMARIES)
        everything_moved.set()

    async with asyncio.TaskGroup() as group:
        for first in range(0, len(names), 5):
            group.create_task(writes(names[first : first + 5]))
        group.create_task(reads_back())
        group.create_task(moves())

    seen = refused(store)
    print(f"refused {dict(seen)}; statuses {dict(tries)}; {reads} rounds of reads")
    assert set(tries) <= {STORED, UNAVAILABLE}, "what was refused was not executed"
    assert set(seen) == kinds
    assert reads > 5
    for name in names:
        assert hashes(await store.read(name)) == acknowledged[name]
    logged = Counter[str]()
    for number in {int(keys.tag(store.tenant, name).split(":")[1][:-1]) for name in names}:
        for _, entry in await store.log_page(number, NEVER, 100_000):
            logged[log_pb2.LogEntry.FromString(entry).customer_id] += 1
    assert logged == {name: len(known) for name, known in acknowledged.items()}


async def test_a_customer_whose_keys_are_in_two_places_is_read_whole(
    cluster: RunningCluster, store: RedisStore
) -> None:
    await store.record([write("ann", 1)])
    assert await store.write_profile("ann", NEVER, b"profile", b"", NOW)
    whole = await store.read("ann")
    moving = slot_of(store, "ann")
    source = cluster.owners()[moving]
    target = (source + 1) % PRIMARIES
    cluster.ask(target, "CLUSTER", "SETSLOT", moving, "IMPORTING", cluster.id(source))
    cluster.ask(source, "CLUSTER", "SETSLOT", moving, "MIGRATING", cluster.id(target))
    there = ("127.0.0.1", cluster.port(target), keys.timeline(store.tenant, "ann"), 0, 5_000)
    cluster.ask(source, "MIGRATE", *there)
    for _ in range(3):
        assert await store.read("ann") == whole
    assert refused(store)["TRYAGAIN"] >= 3
    assert refused(store)["ASK"] >= 3 + 3, "of the timeline, and of the ledger that nobody wrote"
    start = time.monotonic()
    assert await store.record([write("ann", 2)]) == [UNAVAILABLE], "a script runs whole or not"
    assert 0.5 < time.monotonic() - start < 2, "after trying for a while"
    await move(cluster, moving, source, target)
    assert await store.read("ann") == whole
    assert await store.record([write("ann", 2)]) == [STORED]


# Nodes that die


async def test_a_dead_node_takes_only_its_own_customers_away_until_it_is_back(
    cluster: RunningCluster, store: RedisStore
) -> None:
    on_dead, *alive = on_each_node(cluster, store, 5)
    on_alive = [name for names in alive for name in names]
    everybody = [*on_dead, *on_alive]
    await store.record([write(name, "before") for name in everybody])
    before = {name: await store.read(name) for name in everybody}
    cluster.kill(0)

    async def read_all() -> list[Snapshot | BaseException]:
        start = time.monotonic()
        found = await asyncio.gather(*map(store.read, everybody), return_exceptions=True)
        assert time.monotonic() - start < TIMEOUT + 0.5
        return list(found)

    for _ in range(3):
        gone, there = (found := await read_all())[: len(on_dead)], found[len(on_dead) :]
        assert all(isinstance(one, StoreUnavailable) for one in gone)
        assert there == [before[name] for name in on_alive]
    statuses = await store.record([write(name, "meanwhile") for name in everybody])
    assert statuses == [UNAVAILABLE] * len(on_dead) + [STORED] * len(on_alive)
    calls: list[Callable[[], Awaitable[object]]] = [
        store.status,
        store.check,
        lambda: store.write_profile(on_dead[0], NEVER, b"", b"", NOW),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable):
            await call()
    cluster.start_again(0)
    assert [await store.read(name) for name in on_dead] == [before[name] for name in on_dead]
    statuses = await store.record([write(name, "meanwhile") for name in on_dead])
    assert statuses == [STORED] * len(on_dead)
    await store.check()


async def test_a_node_that_is_back_at_another_address_is_found(
    cluster: RunningCluster, store: RedisStore
) -> None:
    name = on_each_node(cluster, store, 1)[2][0]
    await store.record([write(name, 1)])
    before = await store.read(name)
    cluster.kill(2)
    cluster.start_again(2, 0)
    deadline = time.monotonic() + 5
    while True:  # the others hear of its address with its next message
        try:
            assert await store.read(name) == before
            break
        except StoreUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_a_replica_that_takes_over_is_found(tmp_path: Path) -> None:
    with RunningCluster(tmp_path) as cluster:
        store = RedisStore(cluster.url, timeout=TIMEOUT)
        name = on_each_node(cluster, store, 1)[0][0]
        replica = cluster.add_replica(0)
        await store.record([write(name, 1)])
        before = await store.read(name)
        assert cluster.ask(0, "WAIT", 1, 5_000) == 1
        cluster.kill(0)
        assert await store.record([write(name, 2)]) == [UNAVAILABLE]
        cluster.ask(replica, "CLUSTER", "FAILOVER", "TAKEOVER")
        deadline = time.monotonic() + 5
        while await store.record([write(name, 2)]) != [STORED]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert hashes(await store.read(name)) > hashes(before)
        await store.close()


async def test_a_node_that_hangs_holds_up_only_its_own_customers(
    cluster: RunningCluster, store: RedisStore
) -> None:
    (slow, *_), *alive = on_each_node(cluster, store, 5)
    await store.record([write(name, 1) for name in (slow, *alive[0], *alive[1])])
    os.kill(cluster.nodes[0].pid, signal.SIGSTOP)
    try:
        start = time.monotonic()
        hanging = store.read(slow)
        assert all(map(hashes, await asyncio.gather(*map(store.read, (*alive[0], *alive[1])))))
        assert time.monotonic() - start < TIMEOUT / 2, "asked in the same turn of the loop"
        with pytest.raises(StoreUnavailable):
            await hanging
        assert time.monotonic() - start < TIMEOUT + 0.5
    finally:
        os.kill(cluster.nodes[0].pid, signal.SIGCONT)
    assert hashes(await store.read(slow))


async def test_a_caller_that_gives_up_leaves_the_replies_of_others_in_step(
    cluster: RunningCluster, store: RedisStore
) -> None:
    names = [name for of_node in on_each_node(cluster, store, 20) for name in of_node]
    redis: Any = store._redis
    for name in names:
        await redis.set(keys.timeline(store.tenant, name), name)
    for turn in range(30):
        leaving = [
            asyncio.create_task(redis.get(keys.timeline(store.tenant, name))) for name in names
        ]
        for _ in range(turn % 6):
            await asyncio.sleep(0)
        for task in leaving[::2]:
            task.cancel()
        found = await asyncio.gather(*leaving, return_exceptions=True)
        assert found[1::2] == [name.encode() for name in names[1::2]]
    assert not refused(store)
