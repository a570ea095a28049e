"""One canonical line for each call, written by a thread so that a blocked output stalls nobody.

No attribute of a customer is ever logged; the id appears as a hash.
"""

from __future__ import annotations

import hashlib
import queue
import sys
import threading
from collections.abc import MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final, TextIO

import structlog

_CAPACITY: Final = 10_000

_noted: ContextVar[dict[str, Any] | None] = ContextVar("noted", default=None)


def begin() -> dict[str, Any]:
    """Start collecting what the canonical line of this call will say."""
    fields: dict[str, Any] = {}
    _noted.set(fields)
    return fields


def note(**fields: Any) -> None:
    """Add to the canonical line of the call that is being answered."""
    noted = _noted.get()
    if noted is not None:
        noted.update(fields)


def masked(customer_id: str) -> str:
    """The hash under which a customer appears in the log."""
    return hashlib.blake2b(customer_id.encode(), digest_size=8, person=b"rapport").hexdigest()


class Writer:
    """Writes lines from a bounded queue; when it is full, lines are dropped and counted."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._lines: queue.Queue[str | None] = queue.Queue(_CAPACITY)
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def msg(self, message: str) -> None:
        """Take a line."""
        try:
            self._lines.put_nowait(message)
        except queue.Full:
            self.dropped += 1

    log = debug = info = warn = warning = error = critical = exception = msg

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._output.write(line + "\n")
                if self._lines.empty():
                    self._output.flush()
            except (OSError, ValueError):  # nobody reads it any more
                self.dropped += 1

    def close(self, seconds: float = 2.0) -> None:
        """Write what is waiting, if that is possible in time."""
        with suppress(queue.Full):
            self._lines.put(None, timeout=seconds)
        self._thread.join(seconds)


def configure(
    output: TextIO = sys.stderr, *, pretty: bool = False, worker: int | None = None
) -> Writer:
    """Send structlog's lines to ``output``: JSON, or coloured text for a person.

    Args:
        output: Where they go.
        pretty: For a person.
        worker: Number of the worker that every line tells; None: there is one process alone.
    """
    writer = Writer(output)
    renderer: Any = (
        structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            *([] if worker is None else [_telling(worker)]),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=False,
    )
    return writer


def _telling(worker: int) -> Any:
    def tell(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {"worker": worker, **event}

    return tell
