"""The connection to Redis or Valkey: scripts, one round trip for many, and errors as ours."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib import resources
from typing import Any, Final, NamedTuple

from redis._parsers import _AsyncHiredisParser
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

from service import redis_sentinel
from service.errors import ConfigurationError, StoreUnavailable
from service.redis_cluster import Cluster, is_cluster
from service.redis_command import Command
from service.redis_line import Line, Then, packed

_OURS: Final = (DataError, ClusterCrossSlotError)
"""Errors of redis-py that no other moment and no other server would cure: ours."""
_REFUSED: Final = frozenset({MovedError, AskError, TryAgainError, ClusterDownError})
"""What a node of a cluster says of a command that it did not run; another may, or it may later."""


def outage(error: Exception) -> Exception:
    """The error of the client as ours, but for those that are our own mistakes."""
    if isinstance(error, _OURS) or not isinstance(error, RedisError | OSError):
        return error
    ours = StoreUnavailable(f"the store did not answer: {error}; try again")
    ours.__cause__ = error
    return ours


class _Parser(_AsyncHiredisParser):
    """Tells the pool that a connection was closed while it was idle.

    The pool asks when it hands one out, before anything is sent, and connects again where this
    raises. What redis-py answers there it does not heed itself where it speaks RESP3 over TCP
    (redis-py #4252), and of a connection that was reset it knows nothing. Each connection that a
    restart of the store closed would cost a caller an error.
    """

    async def can_read(self) -> bool:
        """See redis-py.

        Raises:
            ConnectionResetError: The connection can no longer be used.
        """
        stream = self._stream
        if stream is not None and (stream.at_eof() or stream.exception() is not None):
            raise ConnectionResetError("the connection was closed while it was idle")
        return bool(await super().can_read())


_READS: Final = ("GET", "MGET")
Parts = Callable[[], tuple[Any, ...]]


class _Script(NamedTuple):
    text: str
    sha: str


class RedisClient:
    """One server or one cluster, one tenant, our scripts.

    Args:
        url: Such as ``redis://host:6379/0``, ``rediss://...``, ``unix:///path``,
            ``redis+cluster://host:6379,host2:6379`` or
            ``redis+sentinel://host:26379,host2:26379/service``.
        tenant: First part of every key's hash tag.
        timeout: Seconds to wait for a reply.
    """

    def __init__(self, url: str, tenant: str, timeout: float) -> None:
        connect: Any = Redis.from_url
        if is_cluster(url):
            connect = Cluster
        elif redis_sentinel.is_sentinel(url):
            connect = redis_sentinel.primary
        # The client types every reply as the union of all replies; ours are in the signatures.
        self._redis: Any = connect(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),  # a write sent twice would answer DUPLICATE
            parser_class=_Parser,
        )
        self.tenant = tenant
        self._scripts = dict(_scripts())
        self._line = None if is_cluster(url) else Line(self._redis.connection_pool, timeout)
        self._working: set[asyncio.Task[None]] = set()
        self._refused: dict[Hashable, list[tuple[Command, Then]]] = {}  # in this turn

    @property
    def _clustered(self) -> bool:
        """Whether a script may name keys of one hash slot only."""
        return self._line is None

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

    def _ask(self, key: str | bytes, command: bytes, then: Then, parts: Parts) -> None:
        """Send a packed command; ``then`` takes the reply or the error.

        All that is asked in one turn of the loop shares a round trip to each server.

        Args:
            key: One of the command's.
            command: See :func:`service.redis_line.packed`.
            then: See :data:`service.redis_line.Then`.
            parts: Gives what was packed, for a command that a node of a cluster did not run, or of
                which we do not know where it goes. :class:`service.redis_cluster.Cluster` does.
        """
        if self._line is not None:
            self._line.ask(command, then)
            return
        line = self._redis.line(key)
        if line is None:
            self._again(None, then, parts, None)
        else:
            line.ask(command, partial(self._answered, line, then, parts))

    def _answered(self, line: Line, then: Then, parts: Parts, reply: Any) -> None:
        if type(reply) in _REFUSED:
            self._again(line, then, parts, type(reply))
        else:
            then(reply)

    def _again(
        self, line: Line | None, then: Then, parts: Parts, why: type[Exception] | None
    ) -> None:
        """Let the cluster find out; what comes from one node in one turn for one reason together.

        Who waits for one node, or for a slot on the move, holds up nobody else so.
        """
        command = Command(parts(), {})
        group = (line, why, command.arguments[0] in _READS)
        if not self._refused:
            asyncio.get_running_loop().call_soon(self._start_again)
        self._refused.setdefault(group, []).append((command, then))

    def _start_again(self) -> None:
        refused, self._refused = self._refused, {}
        for group in refused.values():
            self._begin(self._carefully(group))

    async def _carefully(self, group: list[tuple[Command, Then]]) -> None:
        try:
            replies = await self._redis.run([command for command, _ in group])
        except Exception as error:  # noqa: BLE001  whatever it was, it is every asker's answer
            replies = [error] * len(group)
        for (_, then), reply in zip(group, replies, strict=True):
            then(reply)

    def _run(self, name: str, names: Sequence[str], arguments: Sequence[Any], then: Then) -> None:
        """Run a script once; ``then`` takes the reply or the error."""
        command = ("EVALSHA", self._scripts[name].sha, len(names), *names, *arguments)
        ran = partial(self._ran, name, names, arguments, then)
        self._ask(names[0], packed(*command), ran, lambda: command)

    def _ran(
        self, name: str, names: Sequence[str], arguments: Sequence[Any], then: Then, reply: Any
    ) -> None:
        """Pass a reply on; a script that the server lost is sent again, with its text.

        Whichever node that reaches knows it from then on.
        """
        if type(reply) is NoScriptError:
            command = ("EVAL", self._scripts[name].text, len(names), *names, *arguments)
            self._ask(names[0], packed(*command), then, lambda: command)
        else:
            then(reply)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something go on whatever becomes of those who wait for it."""
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    def flush(self) -> None:
        """Send what was asked in this turn now; see :class:`service.store.Store`."""
        if self._line is not None:  # each step of a decision asks
            self._line.flush()
            return
        for line in self._lines():
            line.flush()

    def _lines(self) -> Sequence[Line]:
        """The ways to all servers."""
        return self._redis.lines() if self._line is None else (self._line,)

    async def _drain(self) -> None:
        """Wait for what is in flight."""
        await asyncio.gather(*(line.drain() for line in self._lines()))
        while self._working or self._refused:
            await (asyncio.wait(self._working) if self._working else asyncio.sleep(0))

    async def close(self) -> None:
        """Wait for what is in flight and give the connections back."""
        await self._drain()
        if self._line is not None:
            await self._line.close()
        await self._redis.aclose()
        await redis_sentinel.close(self._redis)

    async def _call(
        self, name: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]
    ) -> list[Any]:
        """Run a script several times in one round trip; a failed call gives its exception."""
        if not calls:
            return []
        complete: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        answers = Answers(len(calls), partial(settle, complete))
        for number, (names, arguments) in enumerate(calls):
            self._run(name, names, arguments, partial(answers.take, number))
        for reply in (replies := await complete):
            if isinstance(reply, Exception) and outage(reply) is reply:
                raise reply
        return replies

    async def _call_one(self, name: str, names: list[str], arguments: list[Any]) -> Any:
        async with translated():
            reply = (await self._call(name, [(names, arguments)]))[0]
            if isinstance(reply, Exception):
                raise reply
            return reply


class Answers:
    """Collects the answers to several questions; the last one hands them all on, in order."""

    def __init__(self, count: int, then: Callable[[list[Any]], None]) -> None:
        self._replies: list[Any] = [None] * count
        self._missing = count
        self._then = then
        if not count:
            then(self._replies)

    def take(self, number: int, reply: Any) -> None:
        """Take one, or the error in its place."""
        self._replies[number] = reply
        self._missing -= 1
        if not self._missing:
            self._then(self._replies)


def settle(answer: asyncio.Future[Any], reply: Any) -> None:
    """Give a reply or an error to whoever still waits; see :func:`outage`."""
    if answer.done():
        return
    if isinstance(reply, Exception):
        answer.set_exception(outage(reply))
        answer.exception()  # an abandoned answer's error is nobody's business
    else:
        answer.set_result(reply)


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
