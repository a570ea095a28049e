"""Redis Cluster behind the surface of one server: commands go to the node that holds their key.

The cluster client of redis-py refuses EVALSHA and MGET in a pipeline, so we split by node
ourselves. A command is sent again only where a node says that it did not run it. Where a connection
breaks nobody knows, and the command gives its error.
"""

from __future__ import annotations

import asyncio
import re
from binascii import crc_hqx
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar, cast

from redis.asyncio import Redis
from redis.commands.core import AsyncCoreCommands
from redis.exceptions import (
    AskError,
    ClusterDownError,
    DataError,
    MovedError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as NoConnection

from service.redis_line import Line

Reply = TypeVar("Reply")

SLOTS: Final = 16_384
_ATTEMPTS: Final = 8
_PAUSE: Final = 0.005
"""Seconds before the second attempt; doubled each time, so a refused command gives up after 0.6."""
_BETWEEN_MAPS: Final = 0.1
_NO_REPLY: Final = 2.0
"""Seconds to wait for a reply where nobody says."""
_URL: Final = re.compile(r"(rediss?)\+cluster://(?:([^/?#]*)@)?([^/?#@]+)(.*)", re.DOTALL)

_SCRIPTS: Final = frozenset({"EVAL", "EVALSHA"})
_KEYED: Final = frozenset(
    {
        *("DEL", "EXISTS", "EXPIRE", "PERSIST", "PEXPIRE", "PTTL", "TTL", "TYPE", "UNLINK"),
        *("APPEND", "GET", "GETDEL", "GETEX", "GETRANGE", "INCR", "INCRBY", "MGET", "SET"),
        *("SETEX", "SETNX", "SETRANGE", "PSETEX", "STRLEN"),
        *("HDEL", "HEXISTS", "HGET", "HGETALL", "HINCRBY", "HKEYS", "HLEN", "HMGET", "HSET"),
        *("HSETNX", "HVALS", "SADD", "SCARD", "SISMEMBER", "SMEMBERS", "SMISMEMBER", "SREM"),
        *("XADD", "XDEL", "XLEN", "XRANGE", "XREVRANGE", "XTRIM"),
        *("ZADD", "ZCARD", "ZCOUNT", "ZINCRBY", "ZMSCORE", "ZRANGE", "ZRANGEBYSCORE", "ZRANK"),
        *("ZREM", "ZREMRANGEBYRANK", "ZREMRANGEBYSCORE", "ZREVRANGE", "ZSCORE"),
    }
)
"""Commands whose first argument is a key. One that is not here is refused: a guess at its key would
send it to any node."""


def is_cluster(url: str) -> bool:
    """Whether an address is that of a cluster: ``redis+cluster://`` or ``rediss+cluster://``."""
    return url.startswith(("redis+cluster:", "rediss+cluster:"))


def slot(key: str | bytes) -> int:
    """Hash slot of a key: CRC16/XMODEM of its hash tag (Redis Cluster specification)."""
    hashed = key.encode() if isinstance(key, str) else key
    start = hashed.find(b"{")
    end = hashed.find(b"}", start + 1)
    if 0 <= start < end - 1:  # an empty tag is none
        hashed = hashed[start + 1 : end]
    return crc_hqx(hashed, 0) % SLOTS


class Command(NamedTuple):
    """One command as redis-py builds it."""

    arguments: tuple[Any, ...]
    options: dict[str, Any]

    @property
    def slot(self) -> int:
        """Slot of the first key; the server refuses a command whose keys are of several slots.

        Raises:
            DataError: We do not know where its key stands, or it has none.
        """
        name = self.arguments[0]
        at = 3 if name in _SCRIPTS else 1
        if len(self.arguments) <= at or not (name in _KEYED or name in _SCRIPTS):
            raise DataError(f"{name}: its key is not known; see service.redis_cluster._KEYED")
        return slot(self.arguments[at])


class _Node:
    """A server and our connections to it."""

    def __init__(self, host: str, port: int, client: Any, line: Line) -> None:
        self.host, self.port, self.client, self.line = host, port, client, line
        self.failing = False  # the last call broke: it is asked for the map after the others
        self.retired = False  # the cluster no longer names it: closed with its last call
        self.calls = 0


class _Commands(AsyncCoreCommands):
    """The commands of redis-py, each as a call of ``execute_command``."""

    _event_dispatcher: Any = None  # its protocol of a client has one


class Cluster(_Commands):
    """A Redis Cluster: single commands, pipelines, and what its nodes refuse, sent again.

    Args:
        url: Such as ``redis+cluster://user:password@host:6379,host2:6379?option=value``; the nodes
            named are asked for the others. ``rediss+cluster`` is with TLS.
        options: Of the connections to every node.

    Raises:
        ValueError: The address is of another form.
    """

    def __init__(self, url: str, **options: Any) -> None:
        parts = _URL.fullmatch(url)
        if parts is None:
            raise ValueError("a cluster's address is redis+cluster://host:port,host2:port2")
        self._scheme, self._user, hosts, self._rest = parts.groups()
        self._options = options
        self._timeout: float = options.get("socket_timeout", _NO_REPLY)
        self._nodes: dict[tuple[str, int], _Node] = {}
        self._seeds = [self._seed(host) for host in hosts.split(",")]
        self._owners: list[_Node | None] | None = None
        self._mapping: asyncio.Task[None] | None = None
        self._mapped = -1.0  # moment of the loop at which the map was last asked for
        self._running: set[asyncio.Task[Any]] = set()
        self.refused: Counter[str] = Counter()
        """How often a node refused a command, by the reason it gave."""

    # What redis-py calls

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        """Run one command on the node that holds its key."""
        (reply,) = await self.run([Command(arguments, options)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def pipeline(self, transaction: bool = False) -> Pipeline:
        """Collect commands for one round trip to each node."""
        if transaction:
            raise DataError("a pipeline of several nodes is no transaction")
        return Pipeline(self)

    def ping(self, **kwargs: Any) -> Any:
        """Wait for an answer of every primary."""
        return self._ping(**kwargs)

    async def _ping(self, **options: Any) -> bool:
        answers = await asyncio.gather(*(one.ping(**options) for one in await self.primaries()))
        return all(answers)

    async def aclose(self) -> None:
        """Wait for what is in flight and give the connections back."""
        while self._running:
            await asyncio.wait(self._running)
        for node in self._nodes.values():
            await node.line.close()
            await node.client.aclose()

    # What the store's client asks besides

    async def primaries(self) -> list[Any]:
        """Clients of all primaries.

        Raises:
            ClusterDownError: A part of the slots has none.
        """
        owners = await self._map()
        if None in owners:
            raise ClusterDownError(f"slot {owners.index(None)} is served by no node")
        return [node.client for node in dict.fromkeys(owners) if node]

    def line(self, key: str | bytes) -> Line | None:
        """The way to the node of a key; None while the map is not known.

        A command goes there once. What the node refuses is for :meth:`run`.
        """
        node = self._owners and self._owners[slot(key)]
        return node.line if node else None

    def lines(self) -> list[Line]:
        """The ways to all nodes."""
        return [node.line for node in self._nodes.values()]

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands, each on its node; give replies or errors in their order.

        Who is cancelled leaves; the commands stay, so no connection is left between a command and
        its reply, and no write is given up half-way.
        """
        return await asyncio.shield(self._keep(self._run(commands)))

    # Sending

    async def _run(self, commands: Sequence[Command]) -> list[Any]:
        replies: list[Any] = [None] * len(commands)
        slots = [command.slot for command in commands]
        waiting: Iterable[int] = range(len(commands))
        asked: dict[int, _Node] = {}  # commands that go to another node than their slot's, once
        for attempt in range(_ATTEMPTS):
            owners = await self._map()
            of_node: dict[_Node, list[int]] = {}
            for i in waiting:
                node = asked.get(i) or owners[slots[i]]
                if node is None:
                    replies[i] = ClusterDownError(f"slot {slots[i]} is served by no node")
                else:
                    of_node.setdefault(node, []).append(i)
            trips = [
                self._exchange(node, [(commands[i], i in asked) for i in indexes])
                for node, indexes in of_node.items()
            ]  # one is the rule, and needs no task of its own
            answered = [await trips[0]] if len(trips) == 1 else await asyncio.gather(*trips)
            told_by: dict[int, _Node] = {}
            for (node, indexes), answers in zip(of_node.items(), answered, strict=True):
                for i, answer in zip(indexes, answers, strict=True):
                    replies[i], told_by[i] = answer, node
            waiting, asked, wait = await self._refusals(commands, waiting, replies, told_by)
            if not waiting or attempt == _ATTEMPTS - 1:
                break
            if wait or attempt > 1:  # nodes that point at each other have yet to hear the news
                await asyncio.sleep(_PAUSE * 2**attempt)
        return replies

    async def _refusals(
        self,
        commands: Sequence[Command],
        sent: Iterable[int],
        replies: list[Any],
        told_by: dict[int, _Node],
    ) -> tuple[list[int], dict[int, _Node], bool]:
        """Commands to send again, where some of them go once, and whether time may help them."""
        again: list[int] = []
        asked: dict[int, _Node] = {}
        wait = False
        for i in sent:
            reply = replies[i]
            if isinstance(reply, MovedError):  # is an AskError too
                self.refused["MOVED"] += 1
                node = self._node(reply.host or told_by[i].host, reply.port)
                if self._owners is not None:
                    self._owners[reply.slot_id] = node
                self._map_again(node)
            elif isinstance(reply, AskError):
                self.refused["ASK"] += 1
                asked[i] = self._node(reply.host or told_by[i].host, reply.port)
            elif isinstance(reply, TryAgainError):
                self.refused["TRYAGAIN"] += 1
                if commands[i].arguments[0] == "MGET":
                    replies[i] = await self._one_by_one(commands[i])
                    continue
                wait = True
            elif isinstance(reply, ClusterDownError):
                self.refused["CLUSTERDOWN"] += 1
                self._map_again()
                wait = True
            else:
                continue
            again.append(i)
        return again, asked, wait

    async def _one_by_one(self, read: Command) -> Any:
        """Read the keys of a slot on the move, of which some are here and some there."""
        found = await self._run([Command(("GET", key), {}) for key in read.arguments[1:]])
        return next((one for one in found if isinstance(one, Exception)), found)

    async def _exchange(self, node: _Node, commands: list[tuple[Command, bool]]) -> list[Any]:
        """One round trip to a node; its error is the reply of every command."""
        node.calls += 1
        try:
            async with node.client.pipeline(transaction=False) as pipeline:
                wanted = []
                for command, asking in commands:
                    if asking:
                        pipeline.execute_command("ASKING")
                    wanted.append(len(pipeline))
                    pipeline.execute_command(*command.arguments, **command.options)
                answers = await pipeline.execute(raise_on_error=False)
        except DataError:
            raise  # an argument that is no bytes: ours, and nothing was sent
        except (RedisError, OSError) as error:
            node.failing = True
            self._map_again()  # a replica may have taken over
            return [error] * len(commands)
        finally:
            node.calls -= 1
            await self._close_if_retired(node)
        node.failing = False
        return [answers[at] for at in wanted]

    def _keep(self, work: Coroutine[Any, Any, Reply]) -> asyncio.Task[Reply]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # of an abandoned call: nobody's business

    # The map

    async def _map(self) -> list[_Node | None]:
        """The owner of each slot, as far as we know."""
        if self._owners is None:
            await asyncio.shield(self._ask())
        return cast("list[_Node | None]", self._owners)

    def _map_again(self, first: _Node | None = None) -> None:
        """Ask for the map in the background; the caller goes on with what it was told."""
        now = asyncio.get_running_loop().time()
        if now - self._mapped >= _BETWEEN_MAPS:
            self._mapped = now
            self._ask(first)

    def _ask(self, first: _Node | None = None) -> asyncio.Task[None]:
        if self._mapping is None or self._mapping.done():
            self._mapping = self._keep(self._ask_for_map(first))
        return self._mapping

    async def _ask_for_map(self, first: _Node | None) -> None:
        known = sorted(self._nodes.values(), key=lambda node: node.failing)
        last: Exception | None = None
        for node in dict.fromkeys([*([first] if first else []), *known, *self._seeds]):
            try:
                ranges = await node.client.execute_command("CLUSTER SLOTS")
            except (RedisError, OSError) as error:
                node.failing, last = True, error
                continue
            if ranges:  # else it was taken out of the cluster
                await self._adopt(node, ranges)
                return
        raise NoConnection(f"no node knows the cluster's slots: {last or 'none is assigned'}")

    async def _adopt(self, source: _Node, ranges: list[Any]) -> None:
        owners: list[_Node | None] = [None] * SLOTS
        for start, end, (host, port, *_), *_ in ranges:
            node = self._node(host.decode() if host else source.host, port)
            owners[start : end + 1] = [node] * (end + 1 - start)
        self._owners = owners
        named = {*owners, *self._seeds}
        for at, node in list(self._nodes.items()):
            if node not in named:
                del self._nodes[at]
                node.retired = True
                await self._close_if_retired(node)

    @staticmethod
    async def _close_if_retired(node: _Node) -> None:
        if node.retired and not node.calls:
            await node.line.close()
            await node.client.aclose()

    def _failed(self, at: tuple[str, int]) -> None:
        """Hear that the line to a node broke: a replica may have taken over."""
        node = self._nodes.get(at)
        if node is not None:
            node.failing = True
            self._map_again()

    def _seed(self, host: str) -> _Node:
        at = self._connect(host).connection_pool.connection_kwargs
        return self._node(at.get("host", "localhost"), at.get("port", 6379))

    def _node(self, host: str, port: int) -> _Node:
        node = self._nodes.get((host, port))
        if node is None:
            name = f"[{host}]" if ":" in host else host
            client = self._connect(f"{name}:{port}")
            line = Line(client.connection_pool, self._timeout, partial(self._failed, (host, port)))
            node = self._nodes[host, port] = _Node(host, port, client, line)
        return node

    def _connect(self, host: str) -> Any:
        user = "" if self._user is None else f"{self._user}@"
        return Redis.from_url(f"{self._scheme}://{user}{host}{self._rest}", **self._options)


class Pipeline(_Commands):
    """Commands that wait to be sent together."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._commands: list[Command] = []

    def execute_command(self, *arguments: Any, **options: Any) -> Self:
        """Take a command."""
        self._commands.append(Command(arguments, options))
        return self

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send everything; give the replies in order.

        Raises:
            RedisError: The first that a command met, unless errors are wanted among the replies.
            OSError: Likewise.
        """
        commands, self._commands = self._commands, []
        replies = await self._cluster.run(commands)
        for reply in replies if raise_on_error else ():
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._commands.clear()
