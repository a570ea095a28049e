"""The load: a process of its own that calls as it is told, and checks every answer's status.

Closed-loop: so many calls are in flight all the time; says what a server can do. Open-loop: calls
start at random moments of a fixed rate (a Poisson process), answered or not, and a latency counts
from the moment that was *intended*, so that a stall is felt by everybody it kept waiting.

``python -m tests.bench.load`` reads a :class:`Job` a line and writes a :class:`Done` a line.
"""

from __future__ import annotations

import ctypes
import gc
import random
import select
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np

from rapport.v1 import decision_pb2
from tests.bench.wire import Connection, Method, framed

DECIDE: Final = "/rapport.v1.DecisionService/Decide"
RECORD: Final = "/rapport.v1.DecisionService/RecordEvents"
_PR_SET_TIMERSLACK: Final = 29
_CONNECTIONS: Final = 4  # callers hold few, long connections
_SAMPLES: Final = 200  # bodies decoded of a run
_SHOWN: Final = 5


class Job(msgspec.Struct, frozen=True):
    """What to call."""

    kind: Literal["closed", "open"]
    address: str
    messages: str  # file: msgpack list of serialised requests
    latencies: str  # file to write: float64 seconds of each call, in the order they ended
    path: str = DECIDE
    in_flight: int = 1  # closed: calls at a time
    rate: float = 0.0  # open: calls a second
    seconds: float = 1.0
    most: int = 0  # calls to make at most; 0: any number
    seed: int = 0
    in_order: bool = False  # messages one after the other, each once; else drawn at random
    slots: int = 3  # recommendations that an answer must hold; 0: answers of another kind
    degraded: bool = False  # whether a rung below full is fine


class Done(msgspec.Struct, frozen=True):
    """What came of it."""

    calls: int  # all that were made
    within: int  # those that ended before the time was up
    seconds: float
    failed: dict[str, int]  # calls by grpc-status, OK aside
    sampled: int  # answers that were decoded
    wrong: list[str]  # what was wrong with some of them
    sender_us: float  # CPU of this process a call
    behind_us: float  # open: 99 % of calls started less than this after they should have

    @property
    def per_second(self) -> float:
        """Throughput."""
        return self.within / self.seconds


class Run:
    """One job under way."""

    def __init__(self, job: Job, messages: Sequence[bytes]) -> None:
        self._messages = messages
        chance = np.random.default_rng(job.seed)
        self._order = (
            np.arange(len(messages)) if job.in_order else chance.permutation(len(messages))
        ).tolist()
        many = 1 if job.in_flight == 1 and job.kind == "closed" else _CONNECTIONS
        method = Method(job.path)
        self._connections = [Connection(job.address, method) for _ in range(many)]
        self._by_socket = {one.socket: one for one in self._connections}
        self._sockets = [one.socket for one in self._connections]
        self._due: list[dict[int, float]] = [{} for _ in self._connections]
        self._most = job.most or 2**62
        if job.in_order:
            self._most = min(self._most, len(messages))
        self.sent = 0
        self.took: list[float] = []
        self.failed: dict[str, int] = {}
        self.bodies: list[bytes] = []
        self.behind: list[float] = []
        self._every = 1

    def _send(self, number: int, due: float) -> None:
        """Take one more call on a connection."""
        connection = self._connections[number]
        at = self._order[self.sent % len(self._order)]
        keep = self.sent % self._every == 0 and len(self.bodies) < _SAMPLES
        self._due[number][connection.call(self._messages[at], keep=keep)] = due
        self.sent += 1

    def _collect(self, number: int, now: Callable[[], float]) -> int:
        """Read what a connection has; give how many calls ended."""
        ended = self._connections[number].receive()
        at = now()
        due = self._due[number]
        for stream, status, body in ended:
            self.took.append(at - due.pop(stream))
            if status != "0":
                self.failed[status] = self.failed.get(status, 0) + 1
            elif body:
                self.bodies.append(body)
        return len(ended)

    def closed(self, in_flight: int, seconds: float) -> int:
        """Keep so many calls in flight; give how many ended in time."""
        now = time.perf_counter
        number_of = {one: i for i, one in enumerate(self._sockets)}
        self._every = 7
        end = now() + seconds
        for k in range(in_flight):
            self._send(k % len(self._connections), now())
        for connection in self._connections:
            connection.flush()
        waiting, within = in_flight, 0
        while waiting:
            ready = select.select(self._sockets, [], [], 20.0)[0]
            if not ready:
                raise TimeoutError(f"{waiting} calls had no answer for 20 seconds")
            for one in ready:
                number = number_of[one]
                ended = self._collect(number, now)
                waiting -= ended
                at = now()
                if at < end:
                    within += ended
                    again = min(ended, self._most - self.sent)
                    for _ in range(again):
                        self._send(number, at)
                    waiting += again
                self._connections[number].flush()
        return within

    def open(self, rate: float, seconds: float, seed: int) -> int:
        """Start calls at the moments of a Poisson process; give how many ended."""
        now, chance = time.perf_counter, np.random.default_rng(seed + 1)
        count = max(1, min(round(rate * seconds), self._most))
        start = now() + 0.01
        moments = (start + np.cumsum(chance.exponential(1 / rate, count))).tolist()
        number_of = {one: i for i, one in enumerate(self._sockets)}
        self._every = max(1, count // _SAMPLES)
        at, waiting = 0, 0
        while at < count or waiting:
            while at < count and moments[at] <= (moment := now()):
                number = at % len(self._connections)
                self._send(number, moments[at])
                self._connections[number].flush()
                self.behind.append(moment - moments[at])
                at, waiting = at + 1, waiting + 1
            pause = 20.0 if at == count else max(0.0, moments[at] - now())
            ready = select.select(self._sockets, [], [], pause)[0]
            if at == count and not ready:
                raise TimeoutError(f"{waiting} calls had no answer for 20 seconds")
            for one in ready:
                number = number_of[one]
                waiting -= self._collect(number, now)
                self._connections[number].flush()
        return count

    def close(self) -> None:
        """End the connections."""
        for connection in self._connections:
            connection.close()


def run(job: Job, messages: Sequence[bytes]) -> Done:
    """Carry out a job.

    Args:
        job: What to do; its file of latencies is written.
        messages: As :func:`tests.bench.wire.framed` makes them.
    """
    running = Run(job, messages)
    before, start = time.process_time(), time.perf_counter()
    try:
        if job.kind == "closed":
            within = running.closed(job.in_flight, job.seconds)
            seconds = min(job.seconds, time.perf_counter() - start)
        else:
            within = running.open(job.rate, job.seconds, job.seed)
            seconds = time.perf_counter() - start
    finally:
        running.close()
    cpu = time.process_time() - before
    np.save(job.latencies, np.array(running.took))
    wrong = [text for body in running.bodies if (text := _mistake(job, body))]
    return Done(
        running.sent,
        within,
        seconds,
        running.failed,
        len(running.bodies),
        wrong[:_SHOWN],
        1e6 * cpu / max(1, running.sent),
        1e6 * float(np.quantile(running.behind, 0.99)) if running.behind else 0.0,
    )


def _mistake(job: Job, body: bytes) -> str:
    """What is wrong with an answer; empty: nothing."""
    if job.path == RECORD:
        stored = decision_pb2.EventResult.STATUS_STORED
        results = decision_pb2.RecordEventsResponse.FromString(body).results
        bad = [one for one in results if one.status != stored]
        return f"{len(bad)} of {len(results)} events were not stored: {bad[0]}" if bad else ""
    answer = decision_pb2.DecideResponse.FromString(body)
    if answer.rung != decision_pb2.RUNG_FULL and not job.degraded:
        return f"rung {decision_pb2.Rung.Name(answer.rung)}: {[*answer.advisories]}"
    if len(answer.slates) != 1:
        return f"{len(answer.slates)} slates"
    shown = answer.slates[0].recommendations
    if answer.slates[0].held_back:
        return ""
    if len(shown) != job.slots or not all(one.reasons for one in shown):
        return f"{len(shown)} actions, of which {sum(bool(one.reasons) for one in shown)} say why"
    return ""


def main() -> int:
    """Serve jobs until the input ends."""
    gc.disable()
    random.seed(0)
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)  # nanoseconds that a wait may be over
    read: dict[str, list[bytes]] = {}
    for line in sys.stdin:
        job = msgspec.json.decode(line, type=Job)
        if job.messages not in read:
            plain = msgspec.msgpack.decode(Path(job.messages).read_bytes(), type=list[bytes])
            read[job.messages] = [framed(one) for one in plain]
        done = run(job, read[job.messages])
        gc.collect()
        sys.stdout.write(msgspec.json.encode(done).decode() + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
