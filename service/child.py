"""A worker as whoever keeps it sees it: what it says, what it is told, how it ends."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from typing import Final, Protocol

import structlog

from service import job as jobs
from service.job import Job, Report

_LINE: Final = 2**20


class Child(Protocol):
    """A running worker."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    def reports(self) -> AsyncIterator[Report]:
        """What it says, until it ends."""
        ...

    def tell(self, word: bytes) -> None:
        """Say a word to it, if it still listens."""
        ...

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        ...

    async def wait(self) -> int:
        """Wait for its end; give its exit code, negative for a signal."""
        ...


class Process:
    """A worker as a process of its own, in a session of its own: Ctrl-C is for us."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, job: Job) -> Process:
        """Start a fresh interpreter, and give it its job."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "service.worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            start_new_session=True, limit=_LINE,
        )  # fmt: skip
        self = cls(process)
        self.tell(jobs.written(job))
        return self

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def reports(self) -> AsyncIterator[Report]:
        """What it says, until it ends."""
        assert self._process.stdout is not None  # noqa: S101  it is a pipe
        async for line in self._process.stdout:
            try:
                yield jobs.report(line)
            except ValueError:
                structlog.get_logger().warning("worker said", line=line.decode(errors="replace"))

    def tell(self, word: bytes) -> None:
        """Say a word to it, if it still listens."""
        if self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(word)

    def leave(self) -> None:
        """Keep it no longer: it drains."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def wait(self) -> int:
        """Wait for its end; give its exit code, negative for a signal."""
        return await self._process.wait()
