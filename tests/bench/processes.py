"""The processes of a bench: started, pinned to a core, looked at from outside, ended."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

import grpc
import msgspec
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from features.elementary import Floats
from rapport.v1 import admin_pb2, admin_pb2_grpc
from tests.bench.load import Done, Job

WORK: Final = Path("build/bench")
_START_SECONDS: Final = 120.0
_DRAIN_SECONDS: Final = 60.0


class Cores(NamedTuple):
    """Where what runs: the server alone, store and load beside it."""

    server: list[int]
    others: list[int]


@functools.cache  # this process takes its own place among the others later on
def cores() -> Cores:
    """The first core for the server, the second for store and load; all, where there is one."""
    mine = sorted(os.sched_getaffinity(0))
    return Cores(mine[:1], mine[1:2] or mine)


class Memory(NamedTuple):
    """What a process holds, in MiB."""

    resident: float
    proportional: float  # its share of what it shares; NaN where the kernel does not say


class Process:
    """A server under measurement.

    Args:
        name: Of its log file.
        words: What to run, after the interpreter.
        address: Where it will listen.
        on: Cores that it may use.
        place: The checkout that it is run in.
        variables: Added to its environment.

    Raises:
        SystemExit: It did not start; the message ends with its last words.
    """

    def __init__(
        self,
        name: str,
        words: Sequence[str],
        address: str,
        on: Sequence[int],
        place: Path = Path(),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.address = name, address
        self._log = WORK / f"{name}.log"
        environment = {**os.environ, "PYTHONPATH": _python_path(place), **(variables or {})}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=place,
                env=environment,
            )
        pin(self._process.pid, on)  # threads to come inherit it
        self._await_serving()

    def _await_serving(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        with grpc.insecure_channel(self.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            while time.monotonic() < deadline and self._process.poll() is None:
                try:
                    answer = health.Check(health_pb2.HealthCheckRequest(), timeout=1)
                except grpc.RpcError:
                    time.sleep(0.05)
                    continue
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
        self._process.kill()
        raise SystemExit(f"{self.name} did not start: {self.last_words}")

    @property
    def last_words(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-1_500:]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def cpu(self) -> float:
        """Seconds of CPU that it and the processes it keeps have used."""
        return sum(map(cpu_of, _with_children(self._process.pid)))

    def memory(self) -> Memory:
        """What it holds now."""
        at = Path(f"/proc/{self._process.pid}")
        resident = _kilobytes(at / "status", "VmRSS:") / 1024
        rollup = at / "smaps_rollup"
        return Memory(resident, _kilobytes(rollup, "Pss:") / 1024 if rollup.exists() else np.nan)

    def stop(self) -> None:
        """Let it drain and end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _python_path(place: Path) -> str:
    """What makes an interpreter that has this checkout installed import from another."""
    return os.pathsep.join([str(place.resolve()), str(place.resolve() / "proto")])


def pin(pid: int, on: Sequence[int]) -> None:
    """Give a process, with the threads that it has by now, some cores."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), on)


def _with_children(pid: int) -> Iterator[int]:
    """A process, those it started, and those that they started."""
    yield pid
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            yield from _with_children(int(child))


def cpu_of(pid: int) -> float:
    """Seconds of CPU that all threads of a process have used."""
    # The clock of another process: clock_getcpuclockid(3) makes its number so.
    return time.clock_gettime((~pid << 3) | 2)


def _kilobytes(path: Path, name: str) -> float:
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return float(line.split()[1])
    return float("nan")


def drained(address: str) -> float:
    """Wait until a server has written every decision to the log; give the seconds that it took.

    Raises:
        SystemExit: It lost some, or takes too long.
    """
    start = time.monotonic()
    with grpc.insecure_channel(address) as channel:
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        while True:
            status = admin.GetStatus(admin_pb2.GetStatusRequest(), timeout=10)
            if status.journal_dropped:
                raise SystemExit(f"the server lost {status.journal_dropped} decisions")
            if not status.journal_pending:
                return time.monotonic() - start
            if time.monotonic() - start > _DRAIN_SECONDS:
                raise SystemExit(f"{status.journal_pending} decisions still wait for the log")
            time.sleep(0.05)


class Loader:
    """The load's process, which takes one job after the other.

    Args:
        on: Cores that it may use.
    """

    def __init__(self, on: Sequence[int]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        pin(self._process.pid, on)
        self._latencies = WORK / "latencies.npy"

    def run(self, job: Job) -> tuple[Done, Floats]:
        """Carry out a job.

        Returns:
            What came of it, and the milliseconds of each call in the order they ended.

        Raises:
            SystemExit: A call failed, or an answer was not what it should be.
        """
        job = msgspec.structs.replace(job, latencies=str(self._latencies))
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(job).decode() + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the load's process ended during {job}")
        done = msgspec.json.decode(line, type=Done)
        if done.failed or done.wrong or not done.sampled:
            raise SystemExit(
                f"{job.address}: of {done.calls} calls {done.failed} failed; of {done.sampled} "
                f"answers that were decoded these were wrong: {done.wrong}"
            )
        return done, np.load(self._latencies) * 1e3

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def loader() -> Iterator[Loader]:
    """A load's process beside the store."""
    process = Loader(cores().others)
    try:
        yield process
    finally:
        process.stop()


def socket_address(name: str) -> str:
    """A unix socket of our own for a server."""
    return f"unix:{WORK.resolve()}/{name}-{os.getpid()}.sock"
