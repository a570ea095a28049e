"""One canonical line for each call, written by a thread so that a blocked output stalls nobody.

No attribute of a customer is ever logged; the id appears as a hash.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import logging
import os
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, MutableMapping
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any, Final, TextIO

import msgspec
import structlog

from service import threads

_CAPACITY: Final = 10_000
_TOGETHER: Final = 16  # lines; whoever waits for the interpreter gets it after so many
_LOOK_SECONDS: Final = 0.03

Event = MutableMapping[str, Any]
"""What a line tells."""


class Call(msgspec.Struct, frozen=True):
    """What the canonical line tells of a call, put into words by whoever writes it."""

    method: str
    status: str
    seconds: float
    caller: str
    request_id: str  # empty: nobody has heard one, and the line gets one of its own
    noted: dict[str, Any]
    at: int  # nanoseconds since 1970-01-01 UTC

    def complete(self) -> None:
        """Work out what was left for later, see :func:`note_later`."""
        later = self.noted.pop(_LATER, None)
        if later is not None:
            self.noted.update(later())

    def told(self) -> Event:
        """The line, level and time aside."""
        return {
            "event": "call",
            "method": self.method,
            "status": self.status,
            "ms": round(1e3 * self.seconds, 3),
            "caller": self.caller,
            "request_id": self.request_id or fresh_id(),
            **self.noted,
        }


def fresh_id() -> str:
    """An id that no other call has."""
    return f"{_chance.getrandbits(128):032x}"


_chance: Final = random.Random()  # noqa: S311  an id is no secret

_LATER: Final = ""  # the name of no field
_noted: ContextVar[dict[str, Any] | None] = ContextVar("noted", default=None)


def begin() -> dict[str, Any]:
    """Start collecting what the canonical line of this call will say."""
    fields: dict[str, Any] = {}
    _noted.set(fields)
    return fields


def note_later(told: Callable[[], Event]) -> None:
    """Add to the canonical line of the call that is being answered what nobody has to wait for."""
    noted = _noted.get()
    if noted is not None:
        noted[_LATER] = told


def note(**fields: Any) -> None:
    """Add to the canonical line of the call that is being answered."""
    noted = _noted.get()
    if noted is not None:
        noted.update(fields)


def masked(customer_id: str) -> str:
    """The hash under which a customer appears in the log."""
    return hashlib.blake2b(customer_id.encode(), digest_size=8, person=b"rapport").hexdigest()


class Hidden:
    """A customer of whom a line tells the hash alone, worked out where the line is worded."""

    __slots__ = ("_customer_id",)

    def __init__(self, customer_id: str) -> None:
        self._customer_id = customer_id

    def __repr__(self) -> str:
        return masked(self._customer_id)


def line(call: Call) -> None:
    """Write the line of a call, past structlog, whose steps take longer than all that it tells."""
    last = structlog.get_config()["processors"][-1]
    if isinstance(last, _Later):
        last.writer.msg(call)
    else:  # nobody has configured it, or a test listens
        structlog.get_logger().info(**call.told())


class Writer:
    """Writes lines that wait, some at a time; where too many wait, more are dropped and counted.

    Its thread looks by the clock and is never woken: handing the interpreter over for each line
    took a fifth of a server's time.
    """

    def __init__(self, output: TextIO, render: Callable[[Call | Event], str] | None = None) -> None:
        self._output = output
        self._descriptor = _own(output)
        self._render = render
        self._waiting: deque[str | Call | Event] = deque()
        self.dropped = 0
        self._told = 0  # of the dropped ones
        self.at_close = ExitStack()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        with threads.patient():
            self._thread.start()

    def msg(self, message: str | Call | Event) -> None:
        """Take a line, or what will be one: it is worded by whoever writes it."""
        if len(self._waiting) >= _CAPACITY:
            self.dropped += 1
        else:
            self._waiting.append(message)

    log = debug = info = warn = warning = error = critical = exception = msg

    def _run(self) -> None:
        ended = False
        while not ended:
            ended = self._end.wait(_LOOK_SECONDS)
            while self._waiting:
                some = list(itertools.islice(self._waiting, _TOGETHER))
                done = self._written("\n".join(map(self._worded, some)))
                for _ in some:  # they waited until now: what hangs fills the queue
                    self._waiting.popleft()
                self.dropped += 0 if done else len(some)
            self._tell_dropped()

    def _worded(self, told: str | Call | Event) -> str:
        return str(told) if isinstance(told, str) or self._render is None else self._render(told)

    def _written(self, lines: str) -> bool:
        try:
            if self._descriptor is None:
                self._output.write(f"{lines}\n")
                self._output.flush()
            else:
                rest = f"{lines}\n".encode(errors="backslashreplace")
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
        except (OSError, ValueError):  # nobody reads it any more
            return False
        return True

    def _tell_dropped(self) -> None:
        """Say how many lines are missing, once somebody reads again."""
        missing = self.dropped - self._told
        if missing:
            told = {"event": "lines dropped", "number": missing, "level": "warning"}
            if self._written(json.dumps(told)):
                self._told += missing

    def close(self, seconds: float = 2.0) -> None:
        """Write what is waiting, if that is possible in time."""
        self.at_close.close()
        self._end.set()
        self._thread.join(seconds)
        if self._descriptor is not None and not self._thread.is_alive():
            os.close(self._descriptor)  # one that hangs in it goes with the process
            self._descriptor = None


def _own(output: TextIO) -> int | None:
    """A descriptor of our own for a file; None where the output is none.

    Whoever writes to the file object holds its lock, and Python waits for that lock when it ends:
    for ever, where nobody reads.
    """
    try:
        return os.dup(output.fileno())
    except (OSError, ValueError):
        return None


class _Others(logging.Handler):
    """Takes what libraries log, which would else be written from the loop itself."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        told = structlog.get_logger().bind(logger=record.name)
        getattr(told, level, told.error)(record.getMessage(), exc_info=record.exc_info)


def configure(
    output: TextIO = sys.stderr, *, pretty: bool = False, worker: int | None = None
) -> Writer:
    """Send structlog's lines to ``output``: JSON, or coloured text for a person.

    Lines of libraries and Python's own warnings go the same way, until the writer closes.

    Args:
        output: Where they go.
        pretty: For a person.
        worker: Number of the worker that every line tells; None: there is one process alone.
    """
    common = {} if worker is None else {"worker": worker}
    render = _pretty() if pretty else _json

    def worded(told: Call | Event) -> str:
        if isinstance(told, Call):
            event, at = told.told(), told.at
            event["level"] = "info"
            event = {**common, **event} if common else event
        else:
            event, at = told, told["timestamp"]
        event["timestamp"] = _dated(at)
        return render(event)

    writer = Writer(output, worded)
    later = _Later(writer, common)
    others = _Others(logging.WARNING)
    logging.getLogger().addHandler(others)
    logging.captureWarnings(True)
    writer.at_close.callback(logging.getLogger().removeHandler, others)
    writer.at_close.callback(logging.captureWarnings, False)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _stamped,
            structlog.processors.format_exc_info,
            later,
        ],
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=False,
    )
    return writer


def _stamped(_: Any, __: str, event: Event) -> Event:
    event["timestamp"] = time.time_ns()
    return event


class _Later:
    """The last step of structlog's: it leaves the wording to the thread that writes."""

    def __init__(self, writer: Writer, common: dict[str, Any]) -> None:
        self.writer = writer
        self.common = common  # what every line tells

    def __call__(self, _: Any, __: str, event: Event) -> tuple[tuple[Event], dict[str, Any]]:
        return ({**self.common, **event},), {}


def _dated(at: int) -> str:
    seconds, rest = divmod(at, 1_000_000_000)
    return f"{_date(seconds)}.{rest // 1_000:06d}Z"


@functools.lru_cache(4)  # lines that are written together are of the same second
def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


_JSON: Final = msgspec.json.Encoder(enc_hook=repr)


def _json(event: Event) -> str:
    return _JSON.encode(event).decode()


def _pretty() -> Callable[[Event], str]:
    render = structlog.dev.ConsoleRenderer()
    return lambda event: render(None, "", event)
