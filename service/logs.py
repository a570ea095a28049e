"""One canonical line for each call, written by a thread so that a blocked output stalls nobody.

No attribute of a customer is ever logged; the id appears as a hash.
"""

from __future__ import annotations

import hashlib
import json
import logging
import queue
import sys
import threading
from contextlib import ExitStack, suppress
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
        self._told = 0  # of the dropped ones
        self.at_close = ExitStack()
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
            if not self._written(line, flush=self._lines.empty()):
                self.dropped += 1
            elif self._lines.empty():
                self._tell_dropped()
        self._tell_dropped()

    def _written(self, line: str, *, flush: bool) -> bool:
        try:
            self._output.write(line + "\n")
            if flush:
                self._output.flush()
        except (OSError, ValueError):  # nobody reads it any more
            return False
        return True

    def _tell_dropped(self) -> None:
        """Say how many lines are missing, once somebody reads again."""
        missing = self.dropped - self._told
        if missing:
            told = {"event": "lines dropped", "number": missing, "level": "warning"}
            if self._written(json.dumps(told), flush=True):
                self._told += missing

    def close(self, seconds: float = 2.0) -> None:
        """Write what is waiting, if that is possible in time."""
        self.at_close.close()
        with suppress(queue.Full):
            self._lines.put(None, timeout=seconds)
        self._thread.join(seconds)


class _Others(logging.Handler):
    """Takes what libraries log, which would else be written from the loop itself."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        told = structlog.get_logger().bind(logger=record.name)
        getattr(told, level, told.error)(record.getMessage(), exc_info=record.exc_info)


def configure(output: TextIO = sys.stderr, *, pretty: bool = False) -> Writer:
    """Send structlog's lines to ``output``: JSON, or coloured text for a person.

    Lines of libraries and Python's own warnings go the same way, until the writer closes.
    """
    writer = Writer(output)
    others = _Others(logging.WARNING)
    logging.getLogger().addHandler(others)
    logging.captureWarnings(True)
    writer.at_close.callback(logging.getLogger().removeHandler, others)
    writer.at_close.callback(logging.captureWarnings, False)
    renderer: Any = (
        structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=False,
    )
    return writer
