"""The formulas of what the store holds say what the store says."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from features import profile as profiles
from features.duration import DAY
from features.profile import Consent, Profile, Told
from features.record import NEVER, RESERVED, pack
from service import keys
from service.embedded import EmbeddedStore
from service.redis_store import RedisStore
from service.store import Cap, Hold, Write
from tests.bench import reference, space
from tests.bench.people import TENANT, People

NOW = time.time_ns() // 1_000_000


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with EmbeddedStore() as store:
        yield store.url


@pytest.fixture
async def store(url: str) -> AsyncIterator[RedisStore]:
    opened = RedisStore(url, tenant=TENANT)
    yield opened
    await opened.close()


@pytest.fixture
def redis(url: str) -> Iterator[Any]:
    client: Any = Redis.from_url(url)
    yield client
    client.flushall()
    client.close()


def near(formula: float) -> Any:
    """Within the classes of the allocator, which lie up to a quarter apart, and a few words."""
    return pytest.approx(formula, rel=0.25, abs=40)


@pytest.mark.parametrize("events", [1, 7, 100, 512])
async def test_a_timeline(store: RedisStore, redis: Any, events: int) -> None:
    writes = [
        Write(pack(occurred_at=NOW - 9_000 + i, hash=i + 1, type=1), False, b"entry")
        for i in range(events)
    ]
    assert set(await store.record([("somebody", one) for one in writes])) == {1}
    held = redis.memory_usage(keys.timeline(TENANT, "somebody"))
    assert held == near(space.ledger(events))


@pytest.mark.parametrize("records", [1, 7, 60])
async def test_a_ledger(store: RedisStore, redis: Any, records: int) -> None:
    for i in range(records):
        held = pack(
            occurred_at=NOW - records + i, hash=i + 1, type=1, action=1 + i, outcome=RESERVED,
            value=3_600.0,
        )  # fmt: skip
        cap = Cap(1_000, DAY, 0, (1 + i).to_bytes(2, "little"))
        assert await store.reserve("somebody", NOW, [Hold(held, [cap], b"entry")]) == [True]
    held = redis.memory_usage(keys.ledger(TENANT, "somebody"))
    assert held == near(space.ledger(records))


@pytest.mark.parametrize("attributes", [1, 11, 40])
async def test_a_profile(store: RedisStore, redis: Any, attributes: int) -> None:
    told = {f"attribute_{i}": Told(float(i), NOW) for i in range(attributes)}
    packed = profiles.encode(Profile(told, [Consent("marketing", "", True, NOW)]))
    assert await store.write_profile("somebody", NEVER, packed, b"entry", NOW) is not None
    held = redis.memory_usage(keys.profile(TENANT, "somebody"))
    assert held == near(space.profile(len(packed)))


@pytest.mark.parametrize("count", [3, 20])
async def test_identifiers(store: RedisStore, redis: Any, count: int) -> None:
    values = [f"+316{i:08d}" for i in range(count)]
    for value in values:
        await store.link("phone", value, "somebody", b"entry")
    held = redis.memory_usage(keys.index(TENANT, "somebody"))
    held += sum(redis.memory_usage(keys.identity(TENANT, "phone", value)) for value in values)
    assert held / count == near(space.identity(len("phone:" + values[0])))


@pytest.mark.parametrize("size", [60, 200, 10_000])
async def test_the_log(store: RedisStore, redis: Any, size: int) -> None:
    writes = [
        Write(pack(occurred_at=NOW - 9_000 + i, hash=i + 1, type=1), False, b"e" * size)
        for i in range(400)
    ]
    await store.record([("somebody", one) for one in writes])
    held = redis.memory_usage(keys.log_of(TENANT, "somebody"), samples=0)
    assert held == near(space.log(len(writes), size))


@pytest.mark.parametrize("summary", [60, 120])
async def test_what_outcomes_find_a_decision_by(
    store: RedisStore, redis: Any, summary: int
) -> None:
    names = [f"00{NOW:011x}abcd{i:08x}" for i in range(20)]
    await store.journal([("somebody", name, b"s" * summary, b"entry") for name in names])
    held = redis.memory_usage(keys.index(TENANT, "somebody"))
    held += sum(redis.memory_usage(keys.decision(TENANT, name)) for name in names)
    assert held / len(names) == near(space.decision(summary))


def test_an_event_takes_at_most_80_bytes_on_average(url: str, tmp_path: Path) -> None:
    people = People(reference.business(10, tmp_path), NOW, count=2)
    told: list[int] = []
    found = space.timelines(url, people, lambda done, of: told.append(done))
    assert found.per_event <= 80
    assert found.full_per_event <= found.per_event <= found.worst_per_event
    assert found.worst_length == 1
    assert told[-1] == 512
