"""Merged customers on a real store: one ledger for all of them, whenever whatever stops."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features import profile as profiles
from features import record
from features.duration import DAY, HOUR
from features.profile import Profile
from features.record import NEVER, RESERVED, decode
from rapport.v1 import log_pb2
from service import keys, redis_line
from service.errors import Conflict, StoreUnavailable, Unreadable
from service.redis_cluster import Cluster
from service.redis_store import RedisStore
from service.store import (
    CONFLICT,
    DUPLICATE,
    ERASED,
    STORED,
    TOO_OLD,
    Cap,
    Snapshot,
)
from tests.integration.test_reservations import (
    DISMISSED,
    OVERRIDDEN,
    PRESENTED,
    codes,
    entries,
    event,
    folded,
    hash_of,
    hold,
    stored,
    used,
)

NOW = time.time_ns() // 1_000_000
on_a_store = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
numbers = itertools.count()
TWICE = Cap(2, DAY, 0, codes(1, 2))


def people(count: int) -> list[str]:
    """Customers that nobody has met, of different partitions."""
    number = next(numbers)
    return [f"{name}-{number}" for name in "abcdefgh"[:count]]


def gone(customer: str) -> bytes:
    return log_pb2.LogEntry(
        customer_id=customer, erased=log_pb2.CustomerErased(caller="x")
    ).SerializeToString()


class Stopped(Exception):
    """Where a merge was made to stop."""


class Stopping(RedisStore):
    """A store whose merges die after the fence."""

    stopping = True

    async def _adopt(self, *args: Any, **kwargs: Any) -> None:
        if self.stopping:
            raise Stopped
        await super()._adopt(*args, **kwargs)


@pytest.fixture
async def stopping(store: RedisStore, store_url: str) -> Any:
    other = Stopping(store_url, tenant=store.tenant, limit=8)
    yield other
    await other.close()


async def half_merged(stopping: Stopping, one: str, other: str) -> None:
    stopping.stopping = True
    with pytest.raises(Stopped):
        await stopping.merge(one, other, "test")


async def test_a_merged_customer_is_read_as_the_root_with_the_timelines_of_all(
    store: RedisStore,
) -> None:
    a, b, c = people(3)
    for name in (a, b):
        await store.record([event(name, NOW, name), event(name, NOW, f"{name}!", PRESENTED)])
    await store.write_profile(b, NEVER, profiles.encode(Profile()), gone(b), NOW)
    before = {name: await store.read(name) for name in (a, b, c)}
    assert all(one.customer_id == name and not one.members for name, one in before.items())
    assert await store.merge(a, b, "test")
    for name in (a, b):
        found = await store.read(name)
        assert found.customer_id == b == await store.root(name)
        assert found.timeline == before[b].timeline
        assert found.profile == before[b].profile is not None
        assert list(found.members) == [(a, before[a].timeline)]
        assert not found.unfinished
        hashes = decode(found.ledger)[1]["hash"].tolist()
        assert sorted(hashes) == sorted([hash_of(f"{a}!"), hash_of(f"{b}!")])
    assert await store.read(c) == before[c]
    assert await store.root(c) == c


async def test_whoever_is_one_already_is_not_merged_again(store: RedisStore, redis: Any) -> None:
    a, b = people(2)
    assert not await store.merge(a, a, "test")
    assert await store.merge(a, b, "test")
    assert not await store.merge(a, b, "test")
    assert not await store.merge(b, a, "test")
    kinds = [entry.kind for _, entry in await entries(store, redis, a)]
    assert kinds == ["merged"]
    kinds = [entry.kind for _, entry in await entries(store, redis, b)]
    assert kinds == ["adopted"]


@pytest.mark.parametrize("count", [3, 12])  # few are looked for one by one
async def test_what_two_have_both_counted_is_counted_once(store: RedisStore, count: int) -> None:
    a, b = people(2)
    await store.record(
        [event(name, NOW + n, n, PRESENTED) for name in (a, b) for n in range(count)]
    )
    alone = (await store.read(b)).ledger
    assert await store.merge(a, b, "test")
    assert (await stored(store, b)).tobytes() == decode(alone)[1].tobytes()
    assert len(await stored(store, b)) == count


async def test_a_chain_of_merges_ends_at_one_root_a_hop_away(store: RedisStore, redis: Any) -> None:
    names = people(6)
    for number, name in enumerate(names):
        await store.record([event(name, NOW + number, name, PRESENTED)])
    for one, other in itertools.pairwise(names):
        assert await store.merge(one, other, "test")
    root = names[-1]
    for name in names:
        found = await store.read(name)
        assert found.customer_id == root
        assert sorted(member for member, _ in found.members) == names[:-1]
        assert len(decode(found.ledger)[1]) == 6
    for name in names[:-1]:
        assert await redis.get(keys.moved(store.tenant, name)) == root.encode()


async def test_two_merges_that_cross_leave_one_root(store: RedisStore, store_url: str) -> None:
    others = [RedisStore(store_url, tenant=store.tenant) for _ in range(3)]
    for round in range(10):
        names = people(4)
        pairs = list(itertools.permutations(names, 2)) * 2
        random.Random(round).shuffle(pairs)
        merged = await asyncio.gather(
            *(others[n % 3].merge(one, other, "test") for n, (one, other) in enumerate(pairs))
        )
        assert merged.count(True) == 3
        snapshots = [await store.read(name) for name in names]
        (root,) = {one.customer_id for one in snapshots}
        for snapshot in snapshots:
            assert sorted([root, *(name for name, _ in snapshot.members)]) == names
            assert not snapshot.unfinished
    for one in others:
        await one.close()


async def test_a_merge_that_died_half_way_says_so_and_is_finished_by_calling_again(
    store: RedisStore, stopping: Stopping, redis: Any
) -> None:
    a, b = people(2)
    await store.record([event(a, NOW, 1, PRESENTED), event(b, NOW, 2, PRESENTED)])
    await half_merged(stopping, a, b)
    found = await store.read(a)
    assert (found.customer_id, found.unfinished) == (b, True)
    assert [name for name, _ in found.members] == [a], "their timeline counts at once"
    assert len(decode(found.ledger)[1]) == 1
    assert await store.reserve(a, NOW, [hold(a, NOW, 3, [])]) == [False]
    assert await store.merge(a, b, "test")
    found = await store.read(a)
    assert not found.unfinished
    assert len(decode(found.ledger)[1]) == 2
    assert not await store.merge(a, b, "test")


async def test_a_chain_of_half_merges_is_finished_whole(
    store: RedisStore, stopping: Stopping
) -> None:
    a, b, c, d = people(4)
    for number, name in enumerate((a, b, c, d)):
        await store.record([event(name, NOW + number, name, PRESENTED)])
    await half_merged(stopping, a, b)
    stopping.stopping = False
    assert await stopping.merge(b, c, "test"), "which knows nothing of the one before"
    assert (await store.read(a)).unfinished
    assert not (await store.read(b)).unfinished
    assert await store.merge(d, a, "test")
    for name in (a, b, c, d):
        found = await store.read(name)
        assert (found.customer_id, found.unfinished) == (c, False)
        assert len(decode(found.ledger)[1]) == 4
        assert sorted(member for member, _ in found.members) == sorted([a, b, d])


@pytest.mark.parametrize("step", ["fence", "adopt", "unlock"])
async def test_a_reply_that_is_lost_does_no_harm(
    store: RedisStore, store_url: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = people(2)
    await store.record([event(a, NOW, a, PRESENTED), event(b, NOW, b, PRESENTED)])
    losing = RedisStore(store_url, tenant=store.tenant)
    call = losing._call

    async def lost(name: str, calls: Any) -> list[Any]:
        replies = await call(name, calls)
        return [OSError("lost")] * len(replies) if name == step else replies

    with monkeypatch.context() as patched:
        patched.setattr(losing, "_call", lost)
        try:
            await losing.merge(a, b, "test")
        except StoreUnavailable:
            assert step != "unlock"
    await losing.merge(a, b, "test")
    found = await store.read(a)
    assert (found.customer_id, found.unfinished) == (b, False)
    assert len(decode(found.ledger)[1]) == 2
    await losing.close()


async def test_a_lock_that_expired_lets_nothing_through(
    store: RedisStore, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = people(2)
    tries = 0
    fenced = store._fenced

    async def slow(*args: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:  # meanwhile the lock expires, and somebody merges the other way round
            await redis.delete(keys.lock(store.tenant, a), keys.lock(store.tenant, b)) if (
                keys.tag(store.tenant, a) == keys.tag(store.tenant, b)
            ) else [await redis.delete(keys.lock(store.tenant, one)) for one in (a, b)]
            assert await store.merge(b, a, "other")
        return await fenced(*args)

    monkeypatch.setattr(store, "_fenced", slow)
    assert not await store.merge(a, b, "test")
    assert await store.root(a) == await store.root(b) == a


async def test_a_lock_of_somebody_who_died_expires(store: RedisStore, redis: Any) -> None:
    a, b = people(2)
    await redis.set(keys.lock(store.tenant, a), "somebody", px=300)
    assert await store.merge(a, b, "test")
    for name in (a, b):
        assert await redis.get(keys.lock(store.tenant, name)) is None


async def test_a_lock_that_never_ends_is_a_conflict(
    store: RedisStore, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = people(2)
    monkeypatch.setattr("service.redis_merge._PATIENCE_SECONDS", 0.1)
    await redis.set(keys.lock(store.tenant, b), "somebody")
    with pytest.raises(Conflict, match="merged or forgotten"):
        await store.merge(a, b, "test")
    assert await redis.get(keys.lock(store.tenant, a)) is None
    assert await redis.get(keys.lock(store.tenant, b)) == b"somebody"


async def test_a_circle_is_said_and_not_followed_for_ever(store: RedisStore, redis: Any) -> None:
    a, b = people(2)
    await redis.set(keys.moved(store.tenant, a), b)
    await redis.set(keys.moved(store.tenant, b), a)
    for call in (store.read, store.root):
        with pytest.raises(Unreadable, match="circle"):
            await call(a)


# What is stored of a member afterwards


async def test_a_members_event_is_in_their_timeline_and_in_the_ledger_of_the_root(
    store: RedisStore, redis: Any
) -> None:
    a, b = people(2)
    await store.reserve(a, NOW, [hold(a, NOW, "held", [TWICE])])
    await store.merge(a, b, "test")
    before, own_ledger = await store.read(a), await redis.get(keys.ledger(store.tenant, a))
    click = event(a, NOW, "click")
    shown = event(a, NOW, "shown", PRESENTED, releases="held")
    assert await store.record([click, shown]) == [STORED, STORED]
    assert await store.record([click, shown]) == [DUPLICATE, DUPLICATE]
    assert (await stored(store, b))["hash"].tolist() == [hash_of("shown")]
    assert await redis.get(keys.ledger(store.tenant, a)) == own_ledger
    found = await store.read(a)
    assert found.timeline == before.timeline
    assert len(decode(found.members[0].timeline)[1]) == 2
    own = [entry.kind for _, entry in await entries(store, redis, a)]
    assert own == ["reserved", "merged", "event", "event"]
    assert [e.kind for _, e in await entries(store, redis, b)] == ["adopted", "adopted"]
    assert (await stored(store, b)).tobytes() == (await folded(store, redis, b)).tobytes()


async def test_an_outcome_that_is_not_counted_ends_a_members_reservation_too(
    store: RedisStore, redis: Any
) -> None:
    a, b, c = people(3)
    for n, name in enumerate((a, b)):
        await store.reserve(name, NOW, [hold(name, NOW, n, [TWICE])])
    await store.merge(a, b, "test")
    await store.merge(b, c, "test")
    assert await store.reserve(c, NOW, [hold(c, NOW, 2, [TWICE])]) == [False]
    assert await store.record([event(a, NOW, "no", OVERRIDDEN, releases=0)]) == [STORED]
    assert await store.record([event(c, NOW, "nor", OVERRIDDEN, releases=1)]) == [STORED]
    assert not len(await stored(store, c))
    assert not len(await folded(store, redis, c))


async def test_statuses_of_a_member_are_those_of_anybody(store: RedisStore) -> None:
    a, b, alone = people(3)
    first = [("e", 0, PRESENTED), ("f", 1, 0), ("k", -50, PRESENTED)]
    then = [
        ("e", 0, PRESENTED), ("e", 5, PRESENTED), ("f", 1, PRESENTED), ("f", 1, 0),
        ("g", 2, PRESENTED), ("g", 2, PRESENTED), ("g", 3, PRESENTED),
        *((n, 9, 0) for n in "1234567"),
        ("old", -60, PRESENTED), ("old", -60, PRESENTED), ("older", -70, 0),
        ("old", -61, PRESENTED),
    ]  # fmt: skip
    last = [("old", -60, PRESENTED), ("k", -50, PRESENTED), ("k", -51, PRESENTED), ("z", 20, 0)]
    for name in (a, alone):
        await store.record([event(name, NOW + at, id, outcome) for id, at, outcome in first])
    await store.merge(a, b, "test")
    for some in (then, last, last):
        statuses = [
            await store.record([event(name, NOW + at, id, outcome) for id, at, outcome in some])
            for name in (a, alone)
        ]
        assert statuses[0] == statuses[1]
    assert {TOO_OLD, CONFLICT, DUPLICATE, STORED} <= {
        *(await store.record([event(alone, NOW - 90, "q", PRESENTED)])), *statuses[0], STORED
    }  # fmt: skip
    own = (await store.read(a)).members[0].timeline
    assert decode(own)[1].tobytes() == decode((await store.read(alone)).timeline)[1].tobytes()
    mine, theirs = await stored(store, b), await stored(store, alone)
    assert mine.tobytes() == theirs[theirs["hash"] != hash_of("q")].tobytes()


async def test_who_writes_to_a_half_merged_customer_finishes_the_merge(
    store: RedisStore, stopping: Stopping, redis: Any
) -> None:
    a, b = people(2)
    await store.reserve(a, NOW, [hold(a, NOW, "held", [TWICE])])
    await half_merged(stopping, a, b)
    assert await store.record([event(a, NOW, "click")]) == [STORED]
    assert (await store.read(a)).unfinished, "which does not concern the ledger"
    sent = event(a, NOW, "shown", PRESENTED, releases="held")
    assert await store.record([sent]) == [STORED]
    assert not (await store.read(a)).unfinished
    assert (await stored(store, b))["hash"].tolist() == [hash_of("shown")]
    assert (await stored(store, b)).tobytes() == (await folded(store, redis, b)).tobytes()


@pytest.mark.parametrize("outcome", [PRESENTED, OVERRIDDEN])
async def test_a_members_write_that_stopped_half_way_is_the_same_when_sent_again(
    store: RedisStore, redis: Any, monkeypatch: pytest.MonkeyPatch, outcome: int
) -> None:
    a, b = people(2)
    await store.reserve(a, NOW, [hold(a, NOW, "held", [])])
    await store.merge(a, b, "test")
    sent = event(a, NOW, "end", outcome, releases="held")
    call = store._call
    calls = 0

    async def once(name: str, some: Any) -> list[Any]:
        nonlocal calls
        calls += name == "record"
        return await call(name, some) if calls != 2 else [OSError("lost")]

    with monkeypatch.context() as patched:
        patched.setattr(store, "_call", once)
        assert await store.record([sent]) == [6], "unavailable"
    assert len((await store.read(a)).members[0].timeline or b"") == 0
    assert await store.record([sent]) == [STORED]
    expected = [hash_of("end")] if outcome == PRESENTED else []
    assert (await stored(store, b))["hash"].tolist() == expected
    assert (await stored(store, b)).tobytes() == (await folded(store, redis, b)).tobytes()


async def test_a_profile_of_a_member_is_not_written(store: RedisStore) -> None:
    a, b = people(2)
    await store.merge(a, b, "test")
    assert await store.write_profile(a, NEVER, b"", gone(a), NOW) is None
    assert await store.write_profile(b, NEVER, b"", gone(b), NOW) is not None


# All at once


@given(
    happened=st.lists(
        st.one_of(
            st.tuples(st.just("merge"), st.integers(0, 3), st.integers(0, 3)),
            st.tuples(st.just("half"), st.integers(0, 3), st.integers(0, 3)),
            st.tuples(st.just("reserve"), st.integers(0, 3), st.integers(0, 9)),
            st.tuples(st.just("shown"), st.integers(0, 3), st.integers(0, 9)),
            st.tuples(st.just("overridden"), st.integers(0, 3), st.integers(0, 9)),
            st.tuples(st.just("dismissed"), st.integers(0, 3), st.integers(10, 14)),
        ),
        min_size=1,
        max_size=14,
    ),
    width=st.sampled_from([1, 1, 4, 14]),
)
@on_a_store
async def test_whatever_the_order_every_counted_event_is_in_the_ledger_once_and_the_log_says_so(
    store: RedisStore, stopping: Stopping, redis: Any,
    happened: list[tuple[str, int, int]], width: int,
) -> None:  # fmt: skip
    names = people(4)
    sent: dict[int, set[str]] = {}  # hash of a counted event, and of whom it was sent

    async def one(kind: str, who: int, what: int) -> None:
        name = names[who]
        if kind == "merge":
            await store.merge(name, names[what], "test")
        elif kind == "half":
            stopping.stopping = True
            with contextlib.suppress(Stopped):
                await stopping.merge(name, names[what], "test")
        elif kind == "reserve":
            await store.reserve(name, NOW + HOUR, [hold(name, NOW + HOUR, f"r{what}", [TWICE])])
        else:
            outcome = {"shown": PRESENTED, "overridden": OVERRIDDEN, "dismissed": DISMISSED}[kind]
            freed = f"r{what}" if kind != "dismissed" else None
            id = f"{kind}{what}"
            if outcome != OVERRIDDEN:
                sent.setdefault(hash_of(id), set()).add(name)
            await store.record([event(name, NOW + HOUR, id, outcome, releases=freed)] * 2)

    for first in range(0, len(happened), width):
        await asyncio.gather(*(one(*what) for what in happened[first : first + width]))
    for name in names:  # whatever died half-way
        while (found := await store.read(name)).unfinished:
            await store.merge(name, found.customer_id, "test")
    for hash, whose in sent.items():
        roots = {await store.root(name) for name in whose}
        for root in roots:
            assert (await stored(store, root))["hash"].tolist().count(hash) == 1
    for root in {await store.root(name) for name in names}:
        records = await stored(store, root)
        assert records.tobytes() == (await folded(store, redis, root)).tobytes()
        shown = set(records["hash"].tolist())
        for what in range(10):
            whose = sent.get(hash_of(f"shown{what}"), set())
            if hash_of(f"r{what}") in shown and width == 1 and whose:
                # Reserved again after it was shown, or of somebody else at the time.
                assert ("reserve", what) in {(kind, n) for kind, _, n in happened}


@pytest.mark.parametrize("round", range(15))
async def test_after_a_merge_has_returned_nothing_is_granted_past_the_cap_of_both(
    store: RedisStore, redis: Any, round: int
) -> None:
    dice = random.Random(round)
    a, b = people(2)
    merged_at: list[int] = []
    granted: list[tuple[str, bool]] = []
    ids = itertools.count()

    async def race() -> None:
        for _ in range(dice.randrange(6)):
            await asyncio.sleep(0.0003 * dice.random())
            name, id = dice.choice([a, b]), next(ids)
            one = hold(name, NOW + HOUR, f"{a}{id}", [TWICE])
            (yes,) = await store.reserve(name, NOW + HOUR, [one])
            granted.append((name, yes))
            if yes and dice.random() < 0.5:
                sent = event(name, NOW + HOUR, f"e{a}{id}", PRESENTED, releases=f"{a}{id}")
                await store.record([sent])

    async def merge() -> None:
        await asyncio.sleep(0.001 * dice.random())
        await store.merge(a, b, "test")
        merged_at.append(used(await stored(store, a), NOW + HOUR, TWICE))

    await asyncio.gather(merge(), *(race() for _ in range(8)))
    records = await stored(store, b)
    final = used(records, NOW + HOUR, TWICE)
    assert final <= max(TWICE.at_most, merged_at[0])
    assert final == sum(yes for _, yes in granted), "nothing was lost"
    asked = [hold(b, NOW + HOUR, f"late{a}{n}", [TWICE]) for n in range(3)]
    room = max(0, TWICE.at_most - final)
    assert (await store.reserve(b, NOW + HOUR, asked)).count(True) == room
    assert (await store.reserve(a, NOW + HOUR, asked)).count(True) == 0
    records = await stored(store, b)
    assert records.tobytes() == (await folded(store, redis, b)).tobytes()
    assert set(records["outcome"]) <= {PRESENTED, RESERVED}


# Reading


async def test_who_never_merged_is_read_in_one_round_trip(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(store._redis, Cluster):
        pytest.skip("one for each node")
    a, b, c = people(3)
    await store.merge(a, b, "test")
    trips = 0
    send = redis_line._Wire.send

    def counted(wire: Any, *sent: Any) -> None:
        nonlocal trips
        trips += 1
        send(wire, *sent)

    monkeypatch.setattr(redis_line._Wire, "send", counted)
    # A server takes 16 KB of questions at a time, and may answer those before it takes the rest.
    for names, expected in (([c], 1), ([b], 2), ([a], 3), ([a, b, c] * 15, 3)):
        trips = 0
        await asyncio.gather(*(store.read(name) for name in names))
        assert trips == expected


async def test_a_read_that_nobody_waits_for_any_more_does_no_harm(store: RedisStore) -> None:
    a, b = people(2)
    await store.merge(a, b, "test")
    for name in (a, b):
        left = asyncio.ensure_future(store.read(name))
        await asyncio.sleep(0)
        left.cancel()
        assert (await store.read(name)).customer_id == b


# Forgetting


@pytest.mark.parametrize("named", [0, 1, 2])
async def test_forgetting_one_forgets_all_that_are_the_same_person(
    store: RedisStore, redis: Any, named: int
) -> None:
    names = people(3)
    for name in names:
        await store.record([event(name, NOW - n, f"{name}{n}", PRESENTED) for n in range(3)])
        await store.link("email", name, name, gone(name))
    await store.merge(names[0], names[1], "test")
    await store.merge(names[1], names[2], "test")
    assert await store.forget(names[named], NOW, gone(names[named])) == (9, 9 + 3 + 4)
    assert await store.resolve([("email", name) for name in names]) == [None] * 3
    for name in names:
        assert await store.read(name) == Snapshot(None, None, None, name)
        (left,) = await entries(store, redis, name)
        assert left[1].kind == "erased"
        assert await store.record([event(name, NOW, f"late{name}", PRESENTED)]) == [ERASED]
    left_over = [key async for key in redis.scan_iter(match=f"*{store.tenant}*", count=10_000)]
    assert sorted(left_over) == sorted(
        {keys.tombstone(store.tenant, name).encode() for name in names}
        | {keys.log_of(store.tenant, name).encode() for name in names}
    )


async def test_who_forgets_again_after_a_failure_finds_whoever_is_left(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, c = people(3)
    for name in (a, b, c):
        await store.record([event(name, NOW, name)])
    await store.merge(a, c, "test")
    await store.merge(b, c, "test")
    call, calls = store._call, 0

    async def failing(name: str, some: Any) -> list[Any]:
        nonlocal calls
        calls += name == "forget"
        return await call(name, some) if name != "forget" or calls == 1 else [OSError("lost")]

    with monkeypatch.context() as patched:
        patched.setattr(store, "_call", failing)
        with pytest.raises(StoreUnavailable):
            await store.forget(a, NOW, gone(a))
    assert (await store.read(a)).customer_id == c, "they are still one"
    await store.forget(a, NOW, gone(a))
    for name in (a, b, c):
        assert (await store.read(name)) == Snapshot(None, None, None, name)


async def test_forgetting_and_merging_at_once_leaves_nobody_half_forgotten(
    store: RedisStore,
) -> None:
    for round in range(15):
        dice = random.Random(round)
        a, b = people(2)
        await store.record([event(name, NOW, name, PRESENTED) for name in (a, b)])

        async def later(call: Any, seconds: float) -> None:
            await asyncio.sleep(seconds)
            await call

        await asyncio.gather(
            later(store.merge(a, b, "test"), 0.002 * dice.random()),
            later(store.forget(b, NOW, gone(b)), 0.002 * dice.random()),
            later(store.record([event(a, NOW, f"more{a}", PRESENTED)]), 0.002 * dice.random()),
        )
        found = await store.read(a)
        assert not found.unfinished
        assert found.customer_id in (a, b)
        if found.customer_id == a:  # merged before: forgotten with the other
            assert found == Snapshot(None, None, None, a)
        else:  # merged after: they are themselves, and the other is gone
            assert [name for name, _ in found.members] == [a]
            assert found.timeline is None


async def test_members_are_stored_so_that_any_name_can_be(store: RedisStore, redis: Any) -> None:
    odd, root = f"a\n,{{}}\"' ü {next(numbers)}", f"root{next(numbers)}"
    await store.merge(odd, root, "test")
    packed = await redis.get(keys.members(store.tenant, root))
    assert msgspec.msgpack.decode(packed) == [odd]
    assert await store.record([event(odd, NOW, odd, PRESENTED)]) == [STORED]
    assert len(await stored(store, root)) == 1
    assert record.SIZE == 40
