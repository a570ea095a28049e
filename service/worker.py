"""One process that serves: alone, or as one of several that ``service.workers`` keeps.

A kept one reads its job and then words from standard input, and reports on standard output. When
standard input closes, whoever kept it is gone, and it drains.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Awaitable, Callable
from typing import IO

import structlog
import uvloop

from service import bundle as bundles
from service import job as jobs
from service import logs
from service.business import Business, load
from service.errors import RapportError
from service.job import Job, Report
from service.redis_store import RedisStore
from service.server import Server


async def serve(
    business: Business,
    job: Job,
    report: Callable[[Report], None] = lambda _: None,
    told: Callable[[Server], Awaitable[None]] | None = None,
) -> None:
    """Serve until a signal comes, or until ``told`` returns, then drain.

    Args:
        business: The configuration that the job names, read.
        job: What to do.
        report: Hears when it serves, and what others should look at.
        told: Listens to whoever keeps this process; None: nobody does.
    """
    server = Server(
        business,
        RedisStore(
            job.url,
            tenant=job.settings.tenant,
            horizon=business.ledger_window_ms,
            keep=business.ledger_keep,
            decisions=business.response_window_ms,
        ),
        job.settings,
        lambda: report(jobs.Changed()),
    )
    structlog.get_logger().info("store", url=_masked(job.url))
    await server.start(None if job.bundle is None else bundles.read(job.bundle))
    report(jobs.Serving())
    ends = [asyncio.ensure_future(server.until_signal())]
    if told is not None:
        ends.append(asyncio.ensure_future(told(server)))
    try:
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in done:
            end.result()
    finally:
        for end in ends:
            end.cancel()
        await server.stop()


def _masked(url: str) -> str:
    """A store's address without the password."""
    return re.sub(r"//[^/@]*@", "//***@", url)


async def words(server: Server, pipe: IO[bytes]) -> None:
    """Do what standard input says, until it closes."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    while word := await reader.readline():
        if word == jobs.LOOK:
            server.look()
    structlog.get_logger().error("nobody keeps this worker any more")


def _private() -> tuple[int, int]:
    """Standard input and output, taken away from everybody else in this process.

    A child of ours that held the output would hide our death; what anybody prints is no report.
    """
    private = os.dup(0), os.dup(1)  # neither goes on to a child
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return private


def main() -> int:
    """Serve the job that standard input brings; give the exit code."""
    told, heard = _private()

    def report(message: Report) -> None:
        os.write(heard, jobs.written(message))

    pipe = os.fdopen(told, "rb", buffering=0)  # the loop reads on, and closes it
    job = jobs.job(pipe.readline())
    writer = logs.configure(pretty=sys.stderr.isatty(), worker=job.settings.number)
    try:
        uvloop.run(serve(load(job.config), job, report, lambda server: words(server, pipe)))
    except (RapportError, FileNotFoundError, ValueError) as error:
        report(jobs.Refused(str(error)))
        return 2
    finally:
        writer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
