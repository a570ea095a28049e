"""A real Redis Cluster of three primaries, each an embedded Valkey of its own."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from redis import Redis
from redis.asyncio import RedisCluster
from redis.exceptions import RedisError

from service.embedded import EmbeddedStore
from service.redis_command import SLOTS

PRIMARIES = 3
_FORMED_SECONDS = 15.0


class RunningCluster:
    """Three primaries that share the slots evenly and trust each other by the time this returns.

    Args:
        folder: Where the nodes keep what they know, so that one can be started again.
        options: More of the server's own options, for every node.
    """

    def __init__(self, folder: Path, options: dict[str, str] | None = None) -> None:
        self._folder = folder
        self._options = options or {}
        self._buses = [_free_port() for _ in range(PRIMARIES)]
        self.nodes: list[EmbeddedStore] = []
        try:
            for number in range(PRIMARIES):
                self.nodes.append(self._start(number, 0))
            self._form()
            self.await_ok()
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        """Address of the cluster, by two of its nodes."""
        return f"redis+cluster://127.0.0.1:{self.port(1)},127.0.0.1:{self.port(0)}"

    def port(self, number: int) -> int:
        port = self.nodes[number].port
        assert port is not None
        return port

    def _start(self, number: int, port: int) -> EmbeddedStore:
        return EmbeddedStore(
            self._folder / str(number),
            port,
            {
                "cluster-enabled": "yes",
                "cluster-port": str(self._buses[number]),  # 10,000 more may be too much for a port
                "cluster-require-full-coverage": "no",
                "repl-diskless-sync-delay": "0",
                **self._options,
            },
        )

    def _form(self) -> None:
        each = SLOTS // PRIMARIES + 1
        for number in range(PRIMARIES):
            last = min((number + 1) * each, SLOTS) - 1
            self.ask(number, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            self.ask(number, "CLUSTER", "ADDSLOTSRANGE", number * each, last)
            for other in range(number):
                self.ask(
                    number, "CLUSTER", "MEET", "127.0.0.1", self.port(other), self._buses[other]
                )

    def ask(self, number: int, *command: Any) -> Any:
        """Send a command to one node."""
        with Redis(port=self.port(number), decode_responses=True, protocol=2) as redis:
            return redis.execute_command(*command)

    def id(self, number: int) -> str:
        return str(self.ask(number, "CLUSTER", "MYID"))

    def await_ok(self) -> None:
        """Wait until every node knows who has each slot. Valkey takes two seconds after a start."""
        _await(lambda: all(self._is_ok(number) for number in range(PRIMARIES)))

    def _is_ok(self, number: int) -> bool:
        try:
            told = self.ask(number, "CLUSTER INFO")
        except (RedisError, OSError):
            return False
        return (told["cluster_state"], told["cluster_slots_ok"]) == ("ok", str(SLOTS))

    def add_replica(self, of: int) -> int:
        """Start a replica of a primary; give its number once it holds the same."""
        number = len(self.nodes)
        self._buses.append(_free_port())
        self.nodes.append(self._start(number, 0))
        self.ask(number, "CLUSTER", "MEET", "127.0.0.1", self.port(of), self._buses[of])
        primary = self.id(of)
        _await(lambda: primary in str(self.ask(number, "CLUSTER", "NODES")))
        self.ask(number, "CLUSTER", "REPLICATE", primary)
        _await(lambda: self.ask(number, "INFO", "replication")["master_link_status"] == "up")
        return number

    def owners(self) -> dict[int, int]:
        """Number of the node of every slot, as each node says of itself."""
        return {
            slot: number
            for number in range(PRIMARIES)
            for first, last, primary, *_ in self.ask(number, "CLUSTER", "SLOTS")
            if primary[1] == self.port(number)
            for slot in range(first, last + 1)
        }

    def kill(self, number: int) -> None:
        """End a node without a word, by the process id that it was started with."""
        os.kill(self.nodes[number].pid, signal.SIGKILL)
        os.waitid(os.P_PID, self.nodes[number].pid, os.WEXITED | os.WNOWAIT)

    def start_again(self, number: int, port: int | None = None) -> None:
        """Bring a killed node back with what it kept, on its port or on another (0: a free one).

        Not from a thread: the kernel ends a node with the thread that started it.
        """
        port = self.port(number) if port is None else port
        self.nodes[number].stop()
        self.nodes[number] = self._start(number, port)
        self.await_ok()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def __enter__(self) -> RunningCluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class Behind(RedisCluster):
    """The cluster as redis-py sees it, to look behind the store; every node is asked for INFO."""

    async def info(self, *sections: str, **_: Any) -> dict[str, Any]:  # type: ignore[override]
        """Statistics of commands, summed over the nodes."""
        told: dict[str, dict[str, Any]] = await super().info(
            *sections, target_nodes=RedisCluster.PRIMARIES
        )
        summed: dict[str, Any] = {}
        for of_node in told.values():
            for name, spent in of_node.items():
                into = summed.setdefault(name, {"calls": 0, "usec": 0})
                for what in into:
                    into[what] += spent[what]
        return summed

    async def delete(self, *keys: Any) -> Any:
        """Delete keys wherever they are."""
        return sum([await super(Behind, self).delete(key) for key in keys])


def behind(url: str) -> Any:
    """A client of redis-py for our address of a cluster."""
    return Behind.from_url(url.replace("+cluster", "").partition(",")[0])


def _await(formed: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _FORMED_SECONDS
    while not formed():
        assert time.monotonic() < deadline, "the cluster did not form"
        time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
