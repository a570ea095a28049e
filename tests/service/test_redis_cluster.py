"""Where commands go and which are sent again, against servers that answer what we tell them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

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
from service.redis_cluster import Cluster, Command, is_cluster, slot

MOST = 8
"""Times that a command is sent at most."""


class Server:
    """A server that is asked for the map, notes every other command, and answers as told."""

    def __init__(self) -> None:
        self.port = 0
        self.seen: list[bytes] = []
        self.maps = 0
        self.connections = 0
        self.held = asyncio.Event()
        """What a command with "slow" for its key waits for."""
        self.slots: Callable[[], bytes] = self.all_slots
        self.answer: Callable[[list[bytes]], bytes | None] = lambda _: b"+OK\r\n"

    def all_slots(self) -> bytes:
        return self.slots_at(self.port)

    @staticmethod
    def slots_at(port: int) -> bytes:
        return b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readline():
                command = []
                for _ in range(int(head[1:])):
                    size = int((await reader.readline())[1:])
                    command.append((await reader.readexactly(size + 2))[:-2])
                if command[0] == b"CLIENT":
                    reply: bytes | None = b"+OK\r\n"
                elif command[0] == b"CLUSTER":
                    self.maps += 1
                    reply = self.slots()
                else:
                    self.seen.append(b" ".join(command))
                    if b"slow" in command:
                        await self.held.wait()
                    reply = self.answer(command)
                if reply is None:
                    break
                writer.write(reply)
        finally:
            self.connections -= 1
            writer.close()


@asynccontextmanager
async def server() -> AsyncIterator[Server]:
    one = Server()
    listening = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield one
        listening.close()


@asynccontextmanager
async def client(*seeds: Server) -> AsyncIterator[Any]:
    hosts = ",".join(f"127.0.0.1:{seed.port}" for seed in seeds)
    cluster = Cluster(f"redis+cluster://{hosts}?protocol=2", socket_timeout=1.0)
    try:
        yield cluster
    finally:
        await cluster.aclose()


def place(cluster: Any, key: str) -> tuple[str, int]:
    """Where a key is, as far as the client knows."""
    owner = cluster._owners[slot(key)]
    return owner.host, owner.port


async def settled(cluster: Cluster) -> None:
    """Wait for what it does in the background."""
    while cluster._running:
        await asyncio.wait(cluster._running)


# Slots and addresses


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        ("123456789", "123456789"),
        ("{user1000}.following", "user1000"),
        ("foo{}{bar}", "foo{}{bar}"),
        ("foo{{bar}}zap", "{bar"),
        ("foo{bar}{zap}", "bar"),
        ("}{a}", "a"),
        ("{a", "{a"),
        ("a}", "a}"),
        ("{}", "{}"),
        ("", ""),
    ],
)
def test_the_slot_is_that_of_the_hash_tag(key: str, hashed: str) -> None:
    assert slot(key) == slot(hashed) == slot(key.encode())
    assert slot("123456789") == 0x31C3, "the check value of CRC16/XMODEM"


def test_the_key_of_a_script_comes_after_the_number_of_keys() -> None:
    assert Command(("EVALSHA", "sha", 1, "key", "argument"), {}).slot == slot("key")
    assert Command(("MGET", "{tag}a", "{tag}b"), {}).slot == slot("tag")


@pytest.mark.parametrize("arguments", [("EVALSHA", "sha", 0), ("PING",), ("SCAN", 0), ("GET",)])
def test_a_command_whose_key_is_not_known_is_refused(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(DataError, match=str(arguments[0])):
        _ = Command(arguments, {}).slot


def test_an_address_tells_a_cluster_from_a_server() -> None:
    assert is_cluster("redis+cluster://a:1,b:2")
    assert is_cluster("rediss+cluster://a")
    assert not is_cluster("redis://a:1")
    assert not is_cluster("unix:///redis+cluster://")


def test_user_options_and_every_seed_are_taken_from_the_address() -> None:
    cluster = Cluster("rediss+cluster://ann:p%40ss@a:1,[::1]:2,b?ssl_cert_reqs=none")
    made = [node.client.connection_pool.connection_kwargs for node in cluster._nodes.values()]
    assert [(one["host"], one["port"]) for one in made] == [("a", 1), ("::1", 2), ("b", 6379)]
    assert {(one["username"], one["password"]) for one in made} == {("ann", "p@ss")}
    assert {one["ssl_cert_reqs"] for one in made} == {"none"}


@pytest.mark.parametrize("url", ["redis+cluster://", "redis+cluster:a", "redis+cluster:///0"])
def test_an_address_without_a_host_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"redis\+cluster://host:port"):
        Cluster(url)


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


async def test_one_slot_that_moved_brings_the_news_of_the_others() -> None:
    async with server() as old, server() as new, client(old) as cluster:
        old.answer = lambda _: b"-MOVED %d 127.0.0.1:%d\r\n" % (slot("a"), new.port)
        await cluster.set("a", 1)
        await settled(cluster)
        assert (old.maps, new.maps) == (1, 1), "who has the slot knows best"
        await cluster.set("b", 1)
        assert new.seen == [b"SET a 1", b"SET b 1"]
        assert place(cluster, "b") == ("127.0.0.1", new.port)


async def test_a_node_that_the_cluster_no_longer_names_is_left_after_its_last_call() -> None:
    async with server() as seed, server() as old, server() as new, client(seed) as cluster:
        seed.slots = old.all_slots
        slow = asyncio.create_task(cluster.get("slow"))
        while not old.seen:  # noqa: ASYNC110  the other side of a socket
            await asyncio.sleep(0.001)
        old.answer = lambda command: (
            b"$4\r\ndone\r\n"
            if command[1] == b"slow"
            else b"-MOVED %d 127.0.0.1:%d\r\n" % (slot(command[1]), new.port)
        )
        assert await cluster.set("a", 1)
        while place(cluster, "slow") != ("127.0.0.1", new.port):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert old.connections > 0
        old.held.set()
        assert await slow == b"done"
        async with asyncio.timeout(1):
            while old.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert len(cluster._nodes) == 2


async def test_who_is_asked_is_asked_once() -> None:
    async with server() as old, server() as new, client(old) as cluster:
        old.answer = lambda _: b"-ASK %d 127.0.0.1:%d\r\n" % (slot("a"), new.port)
        await cluster.set("a", 1)
        await cluster.set("a", 2)
        assert old.seen == [b"SET a 1", b"SET a 2"]
        assert new.seen == [b"ASKING", b"SET a 1", b"ASKING", b"SET a 2"]
        assert place(cluster, "a") == ("127.0.0.1", old.port), "the slot is still where it was"


async def test_after_an_error_the_others_are_asked_who_took_over() -> None:
    async with server() as dead, server() as replica, client(dead, replica) as cluster:
        dead.answer = lambda _: None
        with pytest.raises(ConnectionError):
            await cluster.set("a", 1)
        await settled(cluster)
        assert replica.maps == 1
        assert await cluster.set("a", 2)
        assert replica.seen == [b"SET a 2"]


async def test_an_outage_does_not_make_a_flood_of_questions_for_the_map() -> None:
    async with server() as one, client(one) as cluster:
        one.answer = lambda _: None
        for _ in range(20):
            with pytest.raises(ConnectionError):
                await cluster.set("a", 1)
        assert one.maps <= 3


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


async def test_a_slot_without_a_node_is_an_error_of_its_commands_alone() -> None:
    async with server() as one, client(one) as cluster:
        half = one.all_slots().replace(b":16383", b":%d" % (slot("a") - 1))
        one.slots = lambda: half
        assert slot("b") < slot("a")
        async with cluster.pipeline() as pipeline:
            replies = await pipeline.set("a", 1).set("b", 1).execute(raise_on_error=False)
        assert isinstance(replies[0], ClusterDownError)
        assert replies[1] is True
        assert one.seen == [b"SET b 1"]
        with pytest.raises(ClusterDownError, match=str(slot("a"))):
            await cluster.primaries()


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
