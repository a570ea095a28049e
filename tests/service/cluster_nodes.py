"""Servers that answer as nodes of a cluster would, as they are told, and a client of theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from service.redis_cluster import Cluster
from service.redis_command import slot


class Server:
    """A server that is asked for the map, notes every other command, and answers as told."""

    def __init__(self) -> None:
        self.port = 0
        self.seen: list[bytes] = []
        self.maps = 0
        self.connections = 0
        self.held = asyncio.Event()
        """What a command with "slow" for its key waits for."""
        self.slots: Callable[[], bytes] = self.all_slots
        self.answer: Callable[[list[bytes]], bytes | None] = lambda _: b"+OK\r\n"

    def all_slots(self) -> bytes:
        return self.slots_at(self.port)

    @staticmethod
    def slots_at(port: int) -> bytes:
        return b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readline():
                command = []
                for _ in range(int(head[1:])):
                    size = int((await reader.readline())[1:])
                    command.append((await reader.readexactly(size + 2))[:-2])
                if command[0] == b"CLIENT":
                    reply: bytes | None = b"+OK\r\n"
                elif command[0] == b"CLUSTER":
                    self.maps += 1
                    reply = self.slots()
                else:
                    self.seen.append(b" ".join(command))
                    if b"slow" in command:
                        await self.held.wait()
                    reply = self.answer(command)
                if reply is None:
                    break
                writer.write(reply)
        finally:
            self.connections -= 1
            writer.close()


@asynccontextmanager
async def server() -> AsyncIterator[Server]:
    one = Server()
    listening = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield one
        listening.close()


@asynccontextmanager
async def client(*seeds: Server) -> AsyncIterator[Any]:
    hosts = ",".join(f"127.0.0.1:{seed.port}" for seed in seeds)
    cluster = Cluster(f"redis+cluster://{hosts}?protocol=2", socket_timeout=1.0)
    try:
        yield cluster
    finally:
        await cluster.aclose()


def place(cluster: Any, key: str) -> tuple[str, int]:
    """Where a key is, as far as the client knows."""
    owner = cluster._nodes.owners[slot(key)]
    return owner.host, owner.port


async def settled(cluster: Cluster) -> None:
    """Wait for what it does in the background."""
    while cluster._running:
        await asyncio.wait(cluster._running)
