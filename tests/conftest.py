"""A real store for the tests that need one: ours, a cluster, that of REDIS_URL, a container."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import settings
from redis.asyncio import Redis

from service.embedded import EmbeddedStore
from service.redis_cluster import is_cluster
from service.redis_store import RedisStore
from tests.integration.cluster import RunningCluster, behind

# The first call of a kernel compiles it, and cores are shared: a slow example is no finding.
settings.register_profile("rapport", deadline=None, print_blob=True)
settings.load_profile("rapport")


@pytest.fixture(scope="session", params=["embedded", "cluster", "REDIS_URL", "container"])
def store_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Address of a running store, once for each kind there is."""
    if request.param == "embedded":
        with EmbeddedStore() as store:
            yield store.url
    elif request.param == "cluster":
        with RunningCluster(tmp_path_factory.mktemp("cluster")) as cluster:
            yield cluster.url
    elif request.param == "REDIS_URL":
        url = os.environ.get("REDIS_URL")
        if not url:
            pytest.skip("REDIS_URL is not set")
        yield url
    else:
        yield from _container()


def _container() -> Iterator[str]:
    _skip_without_engine()
    redis = pytest.importorskip("testcontainers.redis", reason="testcontainers is not installed")
    try:
        container = redis.RedisContainer("valkey/valkey:8-alpine").start()
    except Exception as error:  # noqa: BLE001  no image, no network: whatever it is, no container
        pytest.skip(f"the container did not start: {error}")
    with container:
        yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"


def _skip_without_engine() -> None:
    """Skip where no Docker engine answers. Its client would ask too, and leak the socket."""
    at = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not at.startswith("unix://"):
        return
    with socket.socket(socket.AF_UNIX) as engine:
        try:
            engine.connect(at.removeprefix("unix://"))
        except OSError as error:
            pytest.skip(f"no Docker engine answers at {at}: {error}")


@pytest.fixture
async def redis(store_url: str) -> AsyncIterator[Any]:
    """The bare server or cluster, to look behind the store."""
    async with behind(store_url) if is_cluster(store_url) else Redis.from_url(store_url) as client:
        yield client


@pytest.fixture
async def store(store_url: str, redis: Any) -> AsyncIterator[RedisStore]:
    """A store of a tenant of its own, so that tests never see each other; limit 8."""
    tenant = f"test-{uuid.uuid4().hex}"
    store = RedisStore(store_url, tenant=tenant, limit=8)
    yield store
    await store.close()
    keys = [key async for key in redis.scan_iter(match=f"*{tenant}*", count=10_000)]
    if keys:
        await redis.delete(*keys)
