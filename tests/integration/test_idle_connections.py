"""Pooled connections that the store closed while nobody used them cost no caller an error."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any, Final

import pytest
from redis import Redis

from service import keys
from service.embedded import EmbeddedStore
from service.redis_command import slot
from service.redis_store import RedisStore
from tests.integration.cluster import RunningCluster
from tests.integration.test_sentinel import until, watched

CALLERS: Final = 6
TIMEOUT: Final = 1.0
PAUSE: Final = 0.05
"""Seconds in which the loop hears what became of its connections while a test held it up."""

unread = pytest.mark.parametrize(
    "unread", [False, True], ids=["what was sent was read", "something was not"]
)
"""A server that dies before it has read everything resets a connection; else it ends it."""


async def ask(store: RedisStore) -> None:
    """Call at once, over as many connections of the pool."""
    await asyncio.gather(*(store.models() for _ in range(CALLERS)))


def kill(pid: int, client: Any, unread: bool) -> None:
    """End the server of a client whose connections are all idle."""
    idle = client.connection_pool._available_connections
    assert len(idle) >= CALLERS
    os.kill(pid, signal.SIGSTOP)
    for connection in idle if unread else ():
        connection._writer.write(b"PING\r\n")
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def asked(port: int) -> int:
    """How often a server was asked what :func:`ask` asks."""
    with Redis(port=port, protocol=2) as redis:
        told: Any = redis.info("commandstats")
    return int(told["cmdstat_hvals"]["calls"])


@unread
async def test_a_store_that_was_started_again_costs_nobody_an_error(
    tmp_path: Path, unread: bool
) -> None:
    with EmbeddedStore(tmp_path, port=0) as first:
        store = RedisStore(first.url, timeout=TIMEOUT)
        await ask(store)
        kill(first.pid, store._redis, unread)
    with EmbeddedStore(tmp_path, port=first.port) as second:
        await asyncio.sleep(PAUSE)
        await ask(store)
        assert second.port
        assert asked(second.port) == CALLERS, "each once"
        await store.close()


@unread
async def test_nor_does_a_primary_behind_sentinels(tmp_path: Path, unread: bool) -> None:
    with EmbeddedStore(tmp_path / "store", port=0) as first:
        assert first.port
        with watched(tmp_path, first.port) as sentinel:
            await until(sentinel, flags="master")
            store = RedisStore(f"redis+sentinel://127.0.0.1:{sentinel}/bank", timeout=TIMEOUT)
            await ask(store)
            kill(first.pid, store._redis, unread)
            first.stop()
            with EmbeddedStore(tmp_path / "store", port=first.port):
                await asyncio.sleep(PAUSE)
                await until(sentinel, flags="master")
                await ask(store)
                assert asked(first.port) == CALLERS, "each once"
                await store.close()


@unread
async def test_nor_does_a_node_of_a_cluster(tmp_path: Path, unread: bool) -> None:
    with RunningCluster(tmp_path) as cluster:
        store = RedisStore(cluster.url, timeout=TIMEOUT)
        await ask(store)
        number = cluster.owners()[slot(keys.models(store.tenant))]
        node = store._redis._nodes.known["127.0.0.1", cluster.port(number)]
        kill(cluster.nodes[number].pid, node.client, unread)
        cluster.start_again(number)
        await asyncio.sleep(PAUSE)
        await ask(store)
        assert asked(cluster.port(number)) == CALLERS, "each once"
        await store.close()
