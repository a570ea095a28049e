"""The connection to Redis or Valkey: scripts, one round trip for many, and errors as ours."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Coroutine, Hashable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib import resources
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    ClusterDownError,
    DataError,
    MovedError,
    NoScriptError,
    RedisError,
    TryAgainError,
)

from service.errors import ConfigurationError, StoreUnavailable
from service.redis_cluster import Cluster, is_cluster
from service.redis_line import Line, Then, packed

_OURS: Final = (DataError, ClusterCrossSlotError)
"""Errors of redis-py that no other moment and no other server would cure: ours."""
REFUSED: Final = frozenset({NoScriptError, MovedError, AskError, TryAgainError, ClusterDownError})
"""What a server says of a command that it did not run: it may be asked again, or another one."""


def outage(error: Exception) -> Exception:
    """The error of the client as ours, but for those that are our own mistakes."""
    if isinstance(error, _OURS) or not isinstance(error, RedisError | OSError):
        return error
    ours = StoreUnavailable(f"the store did not answer: {error}; try again")
    ours.__cause__ = error
    return ours


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
        self._the_line = None if is_cluster(url) else Line(self._redis.connection_pool, timeout)
        self._working: set[asyncio.Task[None]] = set()

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

    def _line(self, key: str | bytes) -> Line | None:
        """The way to the server that holds a key; None while we do not know which."""
        return self._redis.line(key) if self._the_line is None else self._the_line

    def _run(self, name: str, names: Sequence[str], arguments: Sequence[Any], then: Then) -> None:
        """Run a script once; ``then`` takes the reply or the error.

        All that is run or read in one turn of the loop shares a round trip to each server.
        """
        command = packed("EVALSHA", self._scripts[name].sha, len(names), *names, *arguments)
        line = self._line(names[0])
        again = partial(self._answered, name, names, arguments, then)
        if line is None:
            again(None, refused=True)
        else:
            line.ask(command, again)

    def _answered(
        self, name: str, names: Sequence[str], arguments: Sequence[Any], then: Then, reply: Any,
        refused: bool = False,
    ) -> None:  # fmt: skip
        """Pass a reply on; a call that a server did not run goes the careful way."""
        if refused or type(reply) in REFUSED:
            self._begin(self._repeat(name, (names, arguments), then))
        else:
            then(reply)

    async def _repeat(
        self, name: str, call: tuple[Sequence[str], Sequence[Any]], then: Then
    ) -> None:
        try:
            (reply,) = await self._carefully(name, [call])
        except Exception as error:  # noqa: BLE001  whatever it was, it is the asker's answer
            reply = error
        then(reply)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something go on whatever becomes of those who wait for it."""
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _drain(self) -> None:
        """Wait for what is in flight."""
        lines = self._redis.lines() if self._the_line is None else [self._the_line]
        await asyncio.gather(*(line.drain() for line in lines))
        while self._working:
            await asyncio.wait(self._working)

    async def close(self) -> None:
        """Wait for what is in flight and give the connections back."""
        await self._drain()
        if self._the_line is not None:
            await self._the_line.close()
        await self._redis.aclose()

    async def _call(
        self, name: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]
    ) -> list[Any]:
        """Run a script several times in one round trip; a failed call gives its exception."""
        if not calls:
            return []
        answers = _Answers(len(calls))
        for number, (names, arguments) in enumerate(calls):
            self._run(name, names, arguments, partial(answers.take, number))
        await answers.complete
        for reply in answers.replies:
            if isinstance(reply, Exception) and outage(reply) is reply:
                raise reply
        return answers.replies

    async def _carefully(
        self, name: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]
    ) -> list[Any]:
        """The same by redis-py, which follows slots that move and looks at every error.

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
        self, command: str, script: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]
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


class _Answers:
    """Collects the answers to several questions of one asker."""

    def __init__(self, count: int) -> None:
        self.replies: list[Any] = [None] * count
        self._missing = count
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self, number: int, reply: Any) -> None:
        """Take one; the last one wakes the asker, who may have left."""
        self.replies[number] = reply
        self._missing -= 1
        if not self._missing and not self.complete.done():
            self.complete.set_result(None)


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
        raise outage(error) from error
