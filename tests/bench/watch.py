"""Watches the loop of a running server, and says what kept it.

A *step* is what one task did without letting go of the loop. A *gap* is the time by which a beat of
the loop came late, whatever was in the way: a step, several short ones, another thread that held
the interpreter, or another process that had the core (which the kernel tells, and which is noise).
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
from collections.abc import Coroutine, Generator
from pathlib import Path
from types import FrameType
from typing import Any, Final

import msgspec

LIMIT_MS: Final = 2.0
_BEAT: Final = 0.001
_OWN: Final = ("/service/", "/features/", "/training/")
_IDLE: Final = ("recv_fds", "wait", "_run", "get", "_worker", "_look", "select", "read", "write")


class Stall(msgspec.Struct):
    """Something that took over 2 ms on the loop."""

    kind: str  # step, gap or collection
    at: float  # seconds of the monotonic clock, when it ended
    ms: float
    cpu_ms: float  # that the loop's own thread computed
    queued_ms: float  # that it was ready and another had the core: noise
    what: str

    @property
    def own_ms(self) -> float:
        """What it computed, and waited for another thread of ours."""
        return self.ms - self.queued_ms


class Watch:
    """Beats on the loop and looks at it from a thread while a beat is late."""

    def __init__(self) -> None:
        self.stalls: list[Stall] = []
        self._main = threading.main_thread().ident
        self._due = self._last = time.perf_counter()
        self._cpu = time.thread_time()
        self._waits = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
        self._queued = self.queue()
        self._seen = ""
        self._step_seen = ""
        self._running: _Timed | None = None
        self._collecting = 0.0

    def start(self) -> None:
        """Begin; on the loop's own thread."""
        loop = asyncio.get_running_loop()
        loop.set_task_factory(self._task)
        gc.callbacks.append(self._collected)
        threading.Thread(target=self._look, name="watch", daemon=True).start()
        self._beat(loop)

    def written(self) -> bytes:
        """All that was seen."""
        return msgspec.json.encode(self.stalls)

    def queue(self) -> float:
        """Milliseconds for which the loop's thread was ready and another had the core."""
        return int(os.pread(self._waits, 64, 0).split()[1]) / 1e6

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        now, cpu, queued = time.perf_counter(), time.thread_time(), self.queue()
        late = 1e3 * (now - self._due)
        if late > LIMIT_MS:
            computed, waited = 1e3 * (cpu - self._cpu), queued - self._queued
            what = self._seen or "not seen"
            self.stalls.append(Stall("gap", time.monotonic(), late, computed, waited, what))
        self._seen = ""
        self._cpu, self._queued = cpu, queued
        self._due = now + _BEAT
        loop.call_later(_BEAT, self._beat, loop)

    def _collected(self, phase: str, told: dict[str, int]) -> None:
        """Time the collector, which holds the interpreter whichever thread it runs in."""
        if phase == "start":
            self._collecting = time.thread_time()
            return
        took = 1e3 * (time.thread_time() - self._collecting)
        if told["generation"] == 2:
            what = f"generation {told['generation']} in {threading.current_thread().name}"
            self.stalls.append(Stall("collection", time.monotonic(), took, took, 0.0, what))

    def _task(
        self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any
    ) -> asyncio.Task[Any]:
        return asyncio.Task(_Timed(coro, self), loop=loop, **options)

    def step(self, name: str, ms: float, cpu_ms: float, queued_ms: float) -> None:
        """Take note of a long step."""
        what = f"{name}: {self._step_seen}" if self._step_seen else name
        self.stalls.append(Stall("step", time.monotonic(), ms, cpu_ms, queued_ms, what))

    def stepped(self, by: _Timed) -> None:
        """A step begins: what was seen belongs to others."""
        self._running = by
        self._step_seen = ""

    def call(self, method: str) -> None:
        """The task that runs answers a call of this method."""
        if self._running is not None:
            self._running.name = method

    def _look(self) -> None:
        own = threading.get_ident()
        while True:
            time.sleep(_BEAT)
            late = 1e3 * (time.perf_counter() - self._due)
            if late < LIMIT_MS:
                continue
            frames = sys._current_frames()
            told = _told(frames[self._main]) if self._main in frames else ""
            others = [
                _told(frame)
                for ident, frame in frames.items()
                if ident not in (own, self._main) and frame.f_code.co_name not in _IDLE
            ]
            if told:
                self._step_seen = told
            self._seen = " | beside: ".join([told or "loop", *filter(None, others[:1])])


def _told(frame: FrameType | None) -> str:
    """The innermost function of ours, and what it called."""
    inner = frame
    while frame is not None:
        name = frame.f_code.co_filename
        if any(part in name for part in _OWN) and "/tests/" not in name:
            module = Path(name).stem
            called = "" if inner is frame or inner is None else f" > {inner.f_code.co_name}"
            return f"{module}.{frame.f_code.co_qualname}:{frame.f_lineno}{called}"
        frame = frame.f_back
    return ""


class _Timed(Coroutine[Any, Any, Any]):
    """A coroutine whose steps are timed."""

    def __init__(self, coro: Any, watch: Watch) -> None:
        self._coro = coro
        self._watch = watch
        self.name = str(getattr(coro, "__qualname__", type(coro).__name__))

    def send(self, value: Any) -> Any:
        return self._timed(self._coro.send, value)

    def throw(self, *error: Any) -> Any:
        return self._timed(self._coro.throw, *error)

    def close(self) -> None:
        self._coro.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coro.__await__()  # type: ignore[no-any-return]

    def _timed(self, step: Any, *values: Any) -> Any:
        self._watch.stepped(self)
        start, cpu, queued = time.perf_counter(), time.thread_time(), self._watch.queue()
        try:
            return step(*values)
        finally:
            took = 1e3 * (time.perf_counter() - start)
            if took > LIMIT_MS:
                computed = 1e3 * (time.thread_time() - cpu)
                self._watch.step(self.name, took, computed, self._watch.queue() - queued)
