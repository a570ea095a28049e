"""The connection to Redis or Valkey: scripts, one round trip for many, and errors as ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import NoScriptError, RedisError

from service.errors import ConfigurationError, StoreUnavailable


class RedisClient:
    """One server, one tenant, our scripts.

    Args:
        url: Such as ``redis://host:6379/0``, ``rediss://...`` or ``unix:///path``.
        tenant: First part of every key's hash tag.
        timeout: Seconds to wait for a reply.
    """

    def __init__(self, url: str, tenant: str, timeout: float) -> None:
        # The client types every reply as the union of all replies; ours are in the signatures.
        self._redis: Any = Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),  # a write sent twice would answer DUPLICATE
        )
        self.tenant = tenant
        self._scripts: dict[str, AsyncScript] = {
            file.name.removesuffix(".lua"): self._redis.register_script(file.read_text("utf-8"))
            for file in resources.files("service").joinpath("lua").iterdir()
            if file.name.endswith(".lua")
        }

    async def check(self) -> None:
        """Refuse a store that would lose or mix up data.

        Raises:
            ConfigurationError: It evicts keys.
            StoreUnavailable: It does not answer.
        """
        async with translated():
            memory = await self._redis.info("memory")
        policy = memory.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            raise ConfigurationError(
                f"the store's maxmemory-policy is {policy!r}, which would drop customers' "
                "timelines; set it to 'noeviction'"
            )

    async def _call(self, name: str, calls: Sequence[tuple[list[str], list[Any]]]) -> list[Any]:
        """Run a script several times in one round trip; a failed call gives its exception.

        Only calls that the server says it did not run (NOSCRIPT, after a restart) are repeated.
        """
        script = self._scripts[name]
        replies: list[Any] = [None] * len(calls)
        waiting = list(range(len(calls)))
        for _ in range(2):
            try:
                async with self._redis.pipeline(transaction=False) as pipeline:
                    for i in waiting:
                        names, arguments = calls[i]
                        pipeline.evalsha(script.sha, len(names), *names, *arguments)
                    answers = await pipeline.execute(raise_on_error=False)
            except (RedisError, OSError) as error:
                answers = [error] * len(waiting)
            for i, answer in zip(waiting, answers, strict=True):
                replies[i] = answer
            waiting = [i for i in waiting if isinstance(replies[i], NoScriptError)]
            if not waiting:
                break
            try:
                await self._redis.script_load(script.script)
            except (RedisError, OSError):
                break
        return replies

    async def _call_one(self, name: str, names: list[str], arguments: list[Any]) -> Any:
        async with translated():
            reply = (await self._call(name, [(names, arguments)]))[0]
            if isinstance(reply, Exception):
                raise reply
            return reply


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Raise the errors of the client as ours."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreUnavailable(f"the store did not answer: {error}; try again") from error
