"""Where commands go and which are sent again, against servers that answer what we tell them."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import (
    ClusterCrossSlotError,
    ClusterDownError,
    ConnectionError,  # noqa: A004
    DataError,
    MovedError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from service.errors import StoreUnavailable
from service.redis_client import RedisClient, translated
from service.redis_cluster import is_cluster
from service.redis_command import slot
from tests.service.cluster_nodes import client, place, server

MOST = 8
"""Times that a command is sent at most."""


def test_an_address_tells_a_cluster_from_a_server() -> None:
    assert is_cluster("redis+cluster://a:1,b:2")
    assert is_cluster("rediss+cluster://a")
    assert not is_cluster("redis://a:1")
    assert not is_cluster("unix:///redis+cluster://")


# What is sent again, and what never


async def test_a_write_that_broke_off_is_never_sent_again() -> None:
    async with server() as one, client(one) as cluster:
        one.answer = lambda _: None
        with pytest.raises(ConnectionError):
            await cluster.set("a", 1)
        async with cluster.pipeline() as pipeline:
            pipeline.set("b", 1).set("c", 1)
            replies = await pipeline.execute(raise_on_error=False)
        assert [type(reply) for reply in replies] == [ConnectionError] * 2
        assert one.seen.count(b"SET a 1") == one.seen.count(b"SET b 1") == 1


async def test_a_write_that_timed_out_is_never_sent_again() -> None:
    async with server() as one, client(one) as cluster:
        one.answer = lambda _: b""
        with pytest.raises(RedisError, match="Timeout"):
            await cluster.set("a", 1)
        assert one.seen == [b"SET a 1"]


async def test_another_error_of_the_server_is_an_answer() -> None:
    async with server() as one, client(one) as cluster:
        one.answer = lambda _: b"-WRONGTYPE of this key\r\n"
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await cluster.set("a", 1)
        assert one.seen == [b"SET a 1"]


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (b"-TRYAGAIN keys are on the move\r\n", TryAgainError),
        (b"-CLUSTERDOWN the slot is nobody's\r\n", ClusterDownError),
        (b"-MOVED 15495 :%d\r\n", MovedError),
    ],
)
async def test_a_refusal_without_end_is_told_after_so_many_attempts(
    refusal: bytes, error: type[Exception]
) -> None:
    async with server() as one, client(one) as cluster:
        one.answer = lambda _: refusal.replace(b"%d", b"%d" % one.port)
        with pytest.raises(error):
            await cluster.set("a", 1)
        assert one.seen == [b"SET a 1"] * MOST


async def test_only_what_was_refused_is_sent_again() -> None:
    async with server() as old, server() as new, client(old) as cluster:
        moved = b"-MOVED %d 127.0.0.1:%d\r\n" % (slot("a"), new.port)
        old.answer = lambda command: moved if command[1] == b"a" else b"$3\r\nold\r\n"
        new.answer = lambda _: b"$3\r\nnew\r\n"
        new.slots = old.all_slots
        async with cluster.pipeline() as pipeline:
            pipeline.get("b").get("a").get("c")
            assert await pipeline.execute() == [b"old", b"new", b"old"]
        assert old.seen == [b"GET b", b"GET a", b"GET c"]
        assert new.seen == [b"GET a"]
        assert cluster.refused == {"MOVED": 1}


async def test_who_is_asked_is_asked_once() -> None:
    async with server() as old, server() as new, client(old) as cluster:
        old.answer = lambda _: b"-ASK %d 127.0.0.1:%d\r\n" % (slot("a"), new.port)
        await cluster.set("a", 1)
        await cluster.set("a", 2)
        assert old.seen == [b"SET a 1", b"SET a 2"]
        assert new.seen == [b"ASKING", b"SET a 1", b"ASKING", b"SET a 2"]
        assert place(cluster, "a") == ("127.0.0.1", old.port), "the slot is still where it was"


async def test_a_caller_that_leaves_does_not_take_its_write_along() -> None:
    async with server() as one, client(one) as cluster:
        await cluster.set("a", 1)
        leaving = asyncio.create_task(cluster.set("a", 2))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        await cluster.aclose()
        assert one.seen == [b"SET a 1", b"SET a 2"]


# Errors


@pytest.mark.parametrize(
    "error", [DataError("None is no value"), ClusterCrossSlotError(), TypeError(), KeyError("a")]
)
async def test_a_mistake_of_ours_is_not_called_an_outage(error: Exception) -> None:
    with pytest.raises(type(error)):
        async with translated():
            raise error


@pytest.mark.parametrize("error", [ConnectionError(), OSError(), ResponseError("LOADING")])
async def test_an_outage_is_called_one(error: Exception) -> None:
    with pytest.raises(StoreUnavailable):
        async with translated():
            raise error


async def test_an_argument_that_cannot_be_sent_is_not_called_an_outage() -> None:
    async with server() as one:
        for scheme in ("redis", "redis+cluster"):
            client = RedisClient(f"{scheme}://127.0.0.1:{one.port}?protocol=2", "main", 1.0)
            with pytest.raises(DataError):
                await client._call("swap", [(["key"], [None])])
            await client._redis.aclose()
        assert not one.seen
