"""Which nodes are known and asked for the map, against servers that answer what we tell them."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import (
    ClusterDownError,
    ConnectionError,  # noqa: A004
)

from service.redis_cluster import Cluster
from service.redis_command import slot
from tests.service.cluster_nodes import client, place, server, settled


def test_user_options_and_every_seed_are_taken_from_the_address() -> None:
    cluster = Cluster("rediss+cluster://ann:p%40ss@a:1,[::1]:2,b?ssl_cert_reqs=none")
    made = [node.client.connection_pool.connection_kwargs for node in cluster._nodes.known.values()]
    assert [(one["host"], one["port"]) for one in made] == [("a", 1), ("::1", 2), ("b", 6379)]
    assert {(one["username"], one["password"]) for one in made} == {("ann", "p@ss")}
    assert {one["ssl_cert_reqs"] for one in made} == {"none"}


@pytest.mark.parametrize("url", ["redis+cluster://", "redis+cluster:a", "redis+cluster:///0"])
def test_an_address_without_a_host_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"redis\+cluster://host:port"):
        Cluster(url)


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
        assert len(cluster._nodes.known) == 2


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
