"""Redis Cluster behind the surface of one server: commands go to the node that holds their key.

The cluster client of redis-py refuses EVALSHA and MGET in a pipeline, so we split by node
ourselves. A command is sent again only where a node says that it did not run it. Where a connection
breaks nobody knows, and the command gives its error.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Final, TypeVar

from redis.exceptions import (
    AskError,
    ClusterDownError,
    DataError,
    MovedError,
    RedisError,
    TryAgainError,
)

from service.redis_command import Command, slot
from service.redis_line import Line
from service.redis_nodes import Node, Nodes
from service.redis_pipeline import Commands, Pipeline

Reply = TypeVar("Reply")

_ATTEMPTS: Final = 8
_PAUSE: Final = 0.005
"""Seconds before the second attempt; doubled each time, so a refused command gives up after 0.6."""


def is_cluster(url: str) -> bool:
    """Whether an address is that of a cluster: ``redis+cluster://`` or ``rediss+cluster://``."""
    return url.startswith(("redis+cluster:", "rediss+cluster:"))


class Cluster(Commands):
    """A Redis Cluster: single commands, pipelines, and what its nodes refuse, sent again.

    Args:
        url: Such as ``redis+cluster://user:password@host:6379,host2:6379?option=value``; the nodes
            named are asked for the others. ``rediss+cluster`` is with TLS.
        options: Of the connections to every node.

    Raises:
        ValueError: The address is of another form.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._nodes = Nodes(url, self._keep, **options)
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
        return Pipeline(self.run)

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
        await self._nodes.close()

    # What the store's client asks besides

    async def primaries(self) -> list[Any]:
        """Clients of all primaries.

        Raises:
            ClusterDownError: A part of the slots has none.
        """
        owners = await self._nodes.map()
        if None in owners:
            raise ClusterDownError(f"slot {owners.index(None)} is served by no node")
        return [node.client for node in dict.fromkeys(owners) if node]

    def line(self, key: str | bytes) -> Line | None:
        """The way to the node of a key; None while the map is not known.

        A command goes there once. What the node refuses is for :meth:`run`.
        """
        owners = self._nodes.owners
        node = owners and owners[slot(key)]
        return node.line if node else None

    def lines(self) -> list[Line]:
        """The ways to all nodes."""
        return [node.line for node in self._nodes.known.values()]

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
        asked: dict[int, Node] = {}  # commands that go to another node than their slot's, once
        for attempt in range(_ATTEMPTS):
            owners = await self._nodes.map()
            of_node: dict[Node, list[int]] = {}
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
            told_by: dict[int, Node] = {}
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
        told_by: dict[int, Node],
    ) -> tuple[list[int], dict[int, Node], bool]:
        """Commands to send again, where some of them go once, and whether time may help them."""
        again: list[int] = []
        asked: dict[int, Node] = {}
        wait = False
        for i in sent:
            reply = replies[i]
            if isinstance(reply, MovedError):  # is an AskError too
                self.refused["MOVED"] += 1
                node = self._nodes.at(reply.host or told_by[i].host, reply.port)
                self._nodes.moved(reply.slot_id, node)
            elif isinstance(reply, AskError):
                self.refused["ASK"] += 1
                asked[i] = self._nodes.at(reply.host or told_by[i].host, reply.port)
            elif isinstance(reply, TryAgainError):
                self.refused["TRYAGAIN"] += 1
                if commands[i].arguments[0] == "MGET":
                    replies[i] = await self._one_by_one(commands[i])
                    continue
                wait = True
            elif isinstance(reply, ClusterDownError):
                self.refused["CLUSTERDOWN"] += 1
                self._nodes.map_again()
                wait = True
            else:
                continue
            again.append(i)
        return again, asked, wait

    async def _one_by_one(self, read: Command) -> Any:
        """Read the keys of a slot on the move, of which some are here and some there."""
        found = await self._run([Command(("GET", key), {}) for key in read.arguments[1:]])
        return next((one for one in found if isinstance(one, Exception)), found)

    async def _exchange(self, node: Node, commands: list[tuple[Command, bool]]) -> list[Any]:
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
            self._nodes.map_again()  # a replica may have taken over
            return [error] * len(commands)
        finally:
            node.calls -= 1
            await node.close_if_retired()
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
