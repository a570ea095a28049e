"""Keeps several workers serving: starts them, replaces the dead, drains them all.

Holds no model, no store and no gRPC. Workers are started fresh: gRPC and fork do not mix.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from service import job as jobs
from service.addresses import Held
from service.child import Child
from service.errors import ConfigurationError, RapportError
from service.job import Changed, Job, Refused, Serving
from service.metrics import Reading, Sheet, joined
from service.pages import METRICS, Page, PageServer, fetch
from service.restarts import MOST_BARREN, Restarts

CONNECTION_AGE: Final = "5m"
"""How long a connection lasts where several serve and nothing else is asked for."""

_JITTER: Final = 0.2
_DRAIN_SECONDS: Final = 5.0


class _Slot:
    """The place of one worker, whoever fills it."""

    def __init__(self, number: int, own: str, page: str) -> None:
        self.number, self.own, self.page = number, own, page
        self.child: Child | None = None
        self.serving = False
        self.answered = False  # when its page was last asked for
        self.restarts = 0
        self.sheet = Sheet(number)
        self.sheet.add(
            Reading("rapport_worker_up", "Whether the worker answers.", lambda: self.answered),
            Reading("rapport_worker_restarts_total", "Replacements.", lambda: self.restarts),
        )


class _End(NamedTuple):
    """How a worker ended."""

    pid: int
    code: int
    served: float  # seconds; 0: it never did
    refused: str = ""

    @property
    def how(self) -> dict[str, int | str]:
        if self.code < 0:
            return {"signal": signal.Signals(-self.code).name}
        return {"code": self.code}


class Supervisor:
    """Several workers of one job.

    The first one starts alone: it checks the configuration, claims the vocabulary and activates the
    bundle, and what is wrong is told once. The others follow when it serves.

    Args:
        job: What all do; its ``metrics`` is the address of the pages of all.
        held: Their addresses.
        start: Starts one.
        pause: Waits so many seconds.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        job: Job,
        held: Held,
        start: Callable[[Job], Awaitable[Child]],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._job, self._held, self._start = job, held, start
        self._pause, self._clock = pause, clock
        self._scratch = tempfile.TemporaryDirectory(prefix="rapport-")
        sockets = Path(self._scratch.name)
        self._slots = [
            _Slot(number, own, f"unix:{sockets / str(number)}" if job.settings.metrics else "")
            for number, own in enumerate(held.own)
        ]
        self._ids = _ids(secrets.randbelow(2**16))
        self._first = asyncio.Event()
        self._stop = asyncio.Event()
        self._complete = False
        self._pages = PageServer({"/metrics": self._page, "/ready": self._ready, "/live": _live})
        self._log = structlog.get_logger()

    async def run(self) -> bool:
        """Keep them until SIGTERM or SIGINT, then drain; give whether all ended well.

        Raises:
            ConfigurationError: The pages' address is taken, or no worker serves and one says why it
                can't.
            RapportError: No worker came to serve, several times.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        metrics = self._job.settings.metrics
        self._log.info(
            "workers",
            shared=self._held.shared or "none: a unix socket has one listener",
            own=list(self._held.own),
            **({"metrics": await self._pages.start(metrics)} if metrics else {}),
        )
        stopping = asyncio.create_task(self._stop.wait())
        keepers = [asyncio.create_task(self._keep(slot)) for slot in self._slots]
        try:
            await asyncio.wait((stopping, *keepers), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._drain(keepers)
            stopping.cancel()
            await self._pages.close()
            self._scratch.cleanup()
        ended = [keeper.result() for keeper in keepers]  # all: any may say why there is no hope
        return all(ended)

    def stop(self) -> None:
        """Begin to drain."""
        self._stop.set()

    async def _keep(self, slot: _Slot) -> bool:
        """Keep one place filled until it is time to stop; give whether its last worker ended well.

        Raises:
            RapportError: There is no hope.
        """
        restarts = Restarts()
        if slot is not self._slots[0]:
            await self._unless_stopped(self._first.wait())
        before = 0
        while not self._stop.is_set():
            end = await self._fill(slot, before)
            if self._stop.is_set():
                return end.code == 0 or (not end.served and end.code == -signal.SIGTERM)
            again = restarts.ended(end.served)
            others = any(one.serving for one in self._slots)
            if restarts.hopeless(refused=bool(end.refused), others=others):
                if end.refused:
                    raise ConfigurationError(end.refused)
                raise RapportError(
                    f"worker {slot.number} ended {MOST_BARREN} times before it served, the last "
                    f"time with {end.how}; what it said is above"
                )
            self._log.error(
                "worker ended", worker=slot.number, pid=end.pid, **end.how,
                served_seconds=round(end.served, 3), again_in_seconds=again,
                **({"error": end.refused} if end.refused else {}),
            )  # fmt: skip
            before = end.pid
            await self._unless_stopped(self._pause(again))
            slot.restarts += 1
        return True

    async def _fill(self, slot: _Slot, before: int) -> _End:
        """Run one worker in a place, from start to end."""
        try:
            child = slot.child = await self._start(self._job_of(slot))
        except OSError as error:  # no memory, no process: others serve on
            return _End(0, 1, 0.0, str(error))
        self._log.info("worker started", worker=slot.number, pid=child.pid, own=slot.own)
        served_at: float | None = None
        refused = ""
        if self._stop.is_set():
            child.signal(signal.SIGTERM)
        try:
            async for report in child.reports():
                match report:
                    case Serving():
                        served_at = self._clock()
                        self._serves(slot, child.pid, before)
                    case Refused(why):
                        refused = why
                    case Changed():
                        for other in self._slots:
                            if other.child is not None and other is not slot:
                                other.child.tell(jobs.LOOK)
            code = await child.wait()
        finally:
            slot.serving = slot.answered = False
            slot.child = None
        served = 0.0 if served_at is None else max(self._clock() - served_at, 1e-9)
        return _End(child.pid, code, served, refused)

    def _serves(self, slot: _Slot, pid: int, before: int) -> None:
        slot.serving = True
        if before:
            self._log.info("worker replaced", worker=slot.number, pid=pid, before=before)
        self._first.set()
        if not self._complete and all(one.serving for one in self._slots):
            self._complete = True
            self._log.info("all workers serve", workers=len(self._slots))

    def _job_of(self, slot: _Slot) -> Job:
        settings, shared = self._job.settings, self._held.shared
        jitter = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311  no secret
        return Job(
            self._job.config,
            self._job.url,
            settings._replace(
                listen=shared or slot.own,
                own=slot.own if shared else "",
                connection_age=settings.connection_age * jitter,
                metrics=slot.page,
                number=slot.number,
                worker=next(self._ids),
            ),
            # Once: later, an operator may have put another in charge.
            None if self._first.is_set() else self._job.bundle,
        )

    async def _unless_stopped(self, waiting: Awaitable[object]) -> None:
        """Wait for something, or until it is time to stop."""
        either = (asyncio.ensure_future(waiting), asyncio.ensure_future(self._stop.wait()))
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        for one in either:
            one.cancel()

    async def _drain(self, keepers: list[asyncio.Task[bool]]) -> None:
        """Let all end, and kill who does not."""
        self._stop.set()
        self._log.info("draining workers")
        for slot in self._slots:
            if slot.child is not None:
                slot.child.signal(signal.SIGTERM)
        # Calls in flight and the journal get the grace each; the rest is a moment.
        _, late = await asyncio.wait(keepers, timeout=2 * self._job.settings.grace + _DRAIN_SECONDS)
        for slot in self._slots:
            if slot.child is not None:
                self._log.error("worker killed", worker=slot.number, pid=slot.child.pid)
                slot.child.signal(signal.SIGKILL)
        if late:
            await asyncio.wait(late)

    async def _page(self) -> Page:
        """What all count and measure."""
        asked = [slot for slot in self._slots if slot.serving]
        found = await asyncio.gather(
            *(fetch("/metrics", slot.page) for slot in asked), return_exceptions=True
        )
        for slot, page in zip(asked, found, strict=True):
            slot.answered = isinstance(page, str)
        pages = [page for page in found if isinstance(page, str)]
        return Page(joined([*(one.sheet.page() for one in self._slots), *pages]), kind=METRICS)

    async def _ready(self) -> Page:
        """Ready once all have served, and as long as one does; not while they drain."""
        lines = "".join(
            f"worker {one.number}: {'serves' if one.serving else 'does not serve'}\n"
            for one in self._slots
        )
        serving = self._complete and any(one.serving for one in self._slots)
        if serving and not self._stop.is_set():
            return Page(f"ready\n{lines}")
        return Page(f"not ready\n{lines}", HTTPStatus.SERVICE_UNAVAILABLE)


async def _live() -> Page:
    return Page("live\n")


def _ids(first: int) -> Iterator[str]:
    """Four hexadecimal digits for each worker; none comes twice before all have come."""
    return (f"{(first + number) % 2**16:04x}" for number in itertools.count())
