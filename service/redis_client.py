"""The connection to Redis or Valkey: scripts, one round trip for many, and errors as ours."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ClusterCrossSlotError, DataError, NoScriptError, RedisError

from service.errors import ConfigurationError, StoreUnavailable
from service.redis_cluster import Cluster, is_cluster

_OURS: Final = (DataError, ClusterCrossSlotError)
"""Errors of redis-py that no other moment and no other server would cure: ours."""


class _Script(NamedTuple):
    text: str
    sha: str


class RedisClient:
    """One server or one cluster, one tenant, our scripts.

    Args:
        url: Such as ``redis://host:6379/0``, ``rediss://...``, ``unix:///path`` or
            ``redis+cluster://host:6379,host2:6379``.
        tenant: First part of every key's hash tag.
        timeout: Seconds to wait for a reply.
    """

    def __init__(self, url: str, tenant: str, timeout: float) -> None:
        connect: Any = Cluster if is_cluster(url) else Redis.from_url
        # The client types every reply as the union of all replies; ours are in the signatures.
        self._redis: Any = connect(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),  # a write sent twice would answer DUPLICATE
        )
        self.tenant = tenant
        self._scripts = dict(_scripts())

    async def check(self) -> None:
        """Refuse a store that would lose or mix up data.

        Raises:
            ConfigurationError: It evicts keys, or it is a cluster and the address says otherwise.
            StoreUnavailable: It does not answer.
        """
        clustered = isinstance(self._redis, Cluster)
        async with translated():
            servers = await self._redis.primaries() if clustered else [self._redis]
            told = await asyncio.gather(*(server.info() for server in servers))
        for server in told:
            if server.get("cluster_enabled") and not clustered:
                raise ConfigurationError(
                    "the store is a node of a Redis Cluster; write its address as "
                    "redis+cluster://host:port"
                )
            policy = server.get("maxmemory_policy", "noeviction")
            if policy != "noeviction":
                raise ConfigurationError(
                    f"the store's maxmemory-policy is {policy!r}, which would drop customers' "
                    "timelines; set it to 'noeviction'"
                )

    def _place(self, key: str) -> Hashable:
        """What tells apart the servers that keys are on: a round trip goes to one of them."""
        return self._redis.place(key) if isinstance(self._redis, Cluster) else None

    async def _call(self, name: str, calls: Sequence[tuple[list[str], list[Any]]]) -> list[Any]:
        """Run a script several times in one round trip; a failed call gives its exception.

        Only calls that the server says it did not run (NOSCRIPT, after a restart) are repeated.
        They bring the script along, and so whichever node they reach knows it from then on.
        """
        script = self._scripts[name]
        replies = await self._evaluate("evalsha", script.sha, calls)
        lost = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if lost:
            again = await self._evaluate("eval", script.text, [calls[i] for i in lost])
            for i, reply in zip(lost, again, strict=True):
                replies[i] = reply
        return replies

    async def _evaluate(
        self, command: str, script: str, calls: Sequence[tuple[list[str], list[Any]]]
    ) -> list[Any]:
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for names, arguments in calls:
                    getattr(pipeline, command)(script, len(names), *names, *arguments)
                replies: list[Any] = await pipeline.execute(raise_on_error=False)
        except _OURS:
            raise
        except (RedisError, OSError) as error:
            return [error] * len(calls)
        for reply in replies:
            if isinstance(reply, _OURS):
                raise reply
        return replies

    async def _call_one(self, name: str, names: list[str], arguments: list[Any]) -> Any:
        async with translated():
            reply = (await self._call(name, [(names, arguments)]))[0]
            if isinstance(reply, Exception):
                raise reply
            return reply


_INCLUDE: Final = re.compile(r"^-- include (\w+)\n", re.MULTILINE)


def _scripts() -> list[tuple[str, _Script]]:
    """Every script of ours by its name; a line ``-- include NAME`` stands for another file."""
    folder = resources.files("service").joinpath("lua")
    found = []
    for file in folder.iterdir():
        name, _, kind = file.name.rpartition(".")
        if kind == "lua" and not name.startswith("_"):
            text = _INCLUDE.sub(
                lambda line: folder.joinpath(f"{line[1]}.lua").read_text("utf-8"),
                file.read_text("utf-8"),
            )
            sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            found.append((name, _Script(text, sha)))
    return found


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Raise the errors of the client as ours, but for those that are our own mistakes."""
    try:
        yield
    except _OURS:
        raise
    except (RedisError, OSError) as error:
        raise StoreUnavailable(f"the store did not answer: {error}; try again") from error
