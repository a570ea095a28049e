"""The store behind a real Sentinel, whose primary dies and comes back as a replica."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from features import record
from features.record import decode
from service.embedded import _LAUNCH, EmbeddedStore, _binary
from service.errors import StoreUnavailable
from service.redis_sentinel import is_sentinel, primary
from service.redis_store import RedisStore
from service.store import STORED, UNAVAILABLE, Write

NOW = time.time_ns() // 1_000_000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def watched(folder: Path, port: int) -> Iterator[int]:
    """A Sentinel that watches a primary; gives its port."""
    own = free_port()
    settings = folder / "sentinel.conf"
    settings.write_text(
        f"port {own}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor bank 127.0.0.1 {port} 1\n"
        "sentinel down-after-milliseconds bank 400\n"
        "sentinel failover-timeout bank 2000\n"
    )
    command = [str(_binary()), str(settings), "--sentinel"]
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), *command]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield own
        finally:
            process.terminate()


def write(customer: str, id: str) -> tuple[str, Write]:
    packed = record.pack(occurred_at=NOW, hash=record.event_hash("test", id), type=1)
    return customer, Write(packed, False, b"entry")


async def until(sentinel: int, **wanted: Any) -> None:
    """Wait until the Sentinel says so of the service."""
    with Redis(port=sentinel, protocol=2) as redis:
        for _ in range(400):
            try:
                told: Any = redis.sentinel_master("bank")
            except (OSError, RedisError):  # it starts
                told = {}
            if all(told.get(name) == value for name, value in wanted.items()):
                return
            await asyncio.sleep(0.05)
    raise AssertionError(told)


async def test_a_replica_that_sentinels_make_the_primary_is_found(tmp_path: Path) -> None:
    with EmbeddedStore(port=0) as first, EmbeddedStore(port=0) as second:
        assert first.port
        assert second.port
        with Redis(port=second.port) as redis:
            redis.replicaof("127.0.0.1", first.port)
        with watched(tmp_path, first.port) as sentinel:
            await until(sentinel, **{"num-slaves": 1})
            url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel}/bank/0"
            store = RedisStore(url, timeout=0.5)
            await store.check()
            assert await store.record([write("ann", "1")]) == [STORED]
            before = await store.read("ann")
            with Redis(port=first.port) as redis:
                redis.wait(1, 5_000)
            os.kill(first.pid, signal.SIGKILL)
            assert await store.record([write("ann", "2")]) == [UNAVAILABLE]
            deadline = time.monotonic() + 20
            while await store.record([write("ann", "2")]) != [STORED]:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            after = await store.read("ann")
            assert len(decode(after.timeline)[1]) == 1 + len(decode(before.timeline)[1])
            await until(sentinel, port=second.port)
            await store.status()
            await store.close()


async def test_a_service_that_no_sentinel_knows_is_unavailable(tmp_path: Path) -> None:
    with EmbeddedStore(port=0) as one:
        assert one.port
        with watched(tmp_path, one.port) as sentinel:
            await until(sentinel, port=one.port)
            store = RedisStore(f"redis+sentinel://127.0.0.1:{sentinel}/shop", timeout=0.5)
            with pytest.raises(StoreUnavailable, match="shop"):
                await store.read("ann")
            with pytest.raises(StoreUnavailable):
                await store.status()
            await store.close()


def test_an_address_names_sentinels_service_and_options() -> None:
    assert is_sentinel("redis+sentinel://a/b")
    assert not is_sentinel("redis://a/b")
    client: Any = primary(
        "rediss+sentinel://ann:p%40ss@a:1,[::1]:2,b/bank/3"
        "?ssl_cert_reqs=none&sentinel_password=other&client_name=x",
        socket_timeout=1.5,
    )
    pool = client.connection_pool
    kept = pool.connection_kwargs
    assert pool.service_name == "bank"
    assert (kept["db"], kept["username"], kept["password"]) == (3, "ann", "p@ss")
    assert (kept["ssl_cert_reqs"], kept["socket_timeout"], kept["client_name"]) == (
        "none",
        1.5,
        "x",
    )
    asked = [one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels]
    assert [(one["host"], one["port"]) for one in asked] == [("a", 1), ("::1", 2), ("b", 26379)]
    assert {(one["password"], one["ssl_cert_reqs"]) for one in asked} == {("other", "none")}
    assert not any("username" in one and one["username"] for one in asked)


@pytest.mark.parametrize(
    "url", ["redis+sentinel://a", "redis+sentinel://a:1/", "redis+sentinel:a/b"]
)
def test_an_address_without_a_service_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="service"):
        primary(url)
