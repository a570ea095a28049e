"""The nodes of a Redis Cluster, and the map of the slots that each of them owns.

The nodes of the address are asked for the map before the first command; whoever we know is asked
again when a slot has moved or a node has failed. Commands are sent elsewhere.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, cast

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import RedisError

from service.redis_command import SLOTS
from service.redis_line import Line

_BETWEEN_MAPS: Final = 0.1
_NO_REPLY: Final = 2.0
"""Seconds to wait for a reply where nobody says."""
_URL: Final = re.compile(r"(rediss?)\+cluster://(?:([^/?#]*)@)?([^/?#@]+)(.*)", re.DOTALL)


class Node:
    """A server and our connections to it."""

    def __init__(self, host: str, port: int, client: Any, line: Line) -> None:
        self.host, self.port, self.client, self.line = host, port, client, line
        self.failing = False  # the last call broke: it is asked for the map after the others
        self.retired = False  # the cluster no longer names it: closed with its last call
        self.calls = 0

    async def close_if_retired(self) -> None:
        """Give the connections back where the cluster no longer names it and no call is left."""
        if self.retired and not self.calls:
            await self.close()

    async def close(self) -> None:
        """Give the connections back."""
        await self.line.close()
        await self.client.aclose()


class Nodes:
    """The nodes that we know.

    Args:
        url: See :class:`service.redis_cluster.Cluster`.
        keep: Runs what goes on whatever becomes of those who wait for it.
        options: Of the connections to every node.

    Raises:
        ValueError: The address is of another form.
    """

    def __init__(
        self,
        url: str,
        keep: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        **options: Any,
    ) -> None:
        parts = _URL.fullmatch(url)
        if parts is None:
            raise ValueError("a cluster's address is redis+cluster://host:port,host2:port2")
        self._scheme, self._user, hosts, self._rest = parts.groups()
        self._keep = keep
        self._options = options
        self._timeout: float = options.get("socket_timeout", _NO_REPLY)
        self.known: dict[tuple[str, int], Node] = {}
        self._seeds = [self._seed(host) for host in hosts.split(",")]
        self.owners: list[Node | None] | None = None
        """The owner of each slot; None while nobody was asked."""
        self._mapping: asyncio.Task[None] | None = None
        self._mapped = -1.0  # moment of the loop at which the map was last asked for

    async def map(self) -> list[Node | None]:
        """The owner of each slot, as far as we know; asks where nobody did."""
        if self.owners is None:
            await asyncio.shield(self._ask())
        return cast("list[Node | None]", self.owners)

    def map_again(self, first: Node | None = None) -> None:
        """Ask for the map in the background; the caller goes on with what it was told."""
        now = asyncio.get_running_loop().time()
        if now - self._mapped >= _BETWEEN_MAPS:
            self._mapped = now
            self._ask(first)

    def moved(self, slot: int, node: Node) -> None:
        """Hear that a slot has another owner, who knows best where the others are."""
        if self.owners is not None:
            self.owners[slot] = node
        self.map_again(node)

    def _ask(self, first: Node | None = None) -> asyncio.Task[None]:
        if self._mapping is None or self._mapping.done():
            self._mapping = self._keep(self._ask_for_map(first))
        return self._mapping

    async def _ask_for_map(self, first: Node | None) -> None:
        known = sorted(self.known.values(), key=lambda node: node.failing)
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

    async def _adopt(self, source: Node, ranges: list[Any]) -> None:
        owners: list[Node | None] = [None] * SLOTS
        for start, end, (host, port, *_), *_ in ranges:
            node = self.at(host.decode() if host else source.host, port)
            owners[start : end + 1] = [node] * (end + 1 - start)
        self.owners = owners
        named = {*owners, *self._seeds}
        for at, node in list(self.known.items()):
            if node not in named:
                del self.known[at]
                node.retired = True
                await node.close_if_retired()

    def _failed(self, at: tuple[str, int]) -> None:
        """Hear that the line to a node broke: a replica may have taken over."""
        node = self.known.get(at)
        if node is not None:
            node.failing = True
            self.map_again()

    def _seed(self, host: str) -> Node:
        at = self._connect(host).connection_pool.connection_kwargs
        return self.at(at.get("host", "localhost"), at.get("port", 6379))

    def at(self, host: str, port: int) -> Node:
        """The node of an address, from now on one that we know."""
        node = self.known.get((host, port))
        if node is None:
            name = f"[{host}]" if ":" in host else host
            client = self._connect(f"{name}:{port}")
            line = Line(client.connection_pool, self._timeout, partial(self._failed, (host, port)))
            node = self.known[host, port] = Node(host, port, client, line)
        return node

    def _connect(self, host: str) -> Any:
        user = "" if self._user is None else f"{self._user}@"
        return Redis.from_url(f"{self._scheme}://{user}{host}{self._rest}", **self._options)

    async def close(self) -> None:
        """Give all connections back."""
        for node in self.known.values():
            await node.close()
