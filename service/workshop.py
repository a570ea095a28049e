"""A process beside the server for what takes long, so that the loop never waits for it.

Bundles are compiled and verified there, configurations read and checked, contributions computed:
see ``service.work`` for all it can do. What it makes comes back as a :mod:`service.parcel`, whose
arrays this process maps. It is started by the first task, ends by itself once it has had none for a
while, and dies with its server. When it is killed, so is its task, and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import IO, Any, Final, TypeVar

from service import errors, parcel
from service.errors import RapportError, Unfinished

T = TypeVar("T")

_LONGEST: Final = 300.0  # seconds that a task may take
_LAST_WORDS: Final = 300  # characters of what it wrote before it died


class Workshop:
    """One process that does one task at a time, however many threads ask."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._words: IO[bytes] | None = None
        self._closed = False

    def start(self) -> None:
        """Start the process where there is none, and do not wait for it: importing takes a second.

        Raises:
            Unfinished: The workshop is closed.
        """
        with self._turn:
            self._started()

    async def do(
        self, task: str, *arguments: object, then: Callable[[Iterator[Any]], T]
    ) -> T:  # fmt: skip
        """Have a task done while the loop goes on.

        Args:
            task: Name of a function of ``service.work``.
            arguments: For it.
            then: Makes the result of the parts that come back, in a thread. Between two parts it
                lets the loop have its turn.

        Raises:
            Unfinished: The process was killed, or ended by itself, before it had finished.
            RapportError: Whatever the task raised.
        """
        return await asyncio.to_thread(lambda: then(self.ask(task, *arguments)))

    def ask(self, task: str, *arguments: object) -> Iterator[Any]:
        """Have a task done, and wait; see :meth:`do`. Gives the parts of the result."""
        with self._turn:
            try:
                parts = self._exchange(task, arguments)
            except _IdleEnd:  # it went home just when we came
                parts = self._exchange(task, arguments)
        failed = next(parts)
        if failed is not None:
            name, text = failed
            kind = getattr(errors, name, None)
            if isinstance(kind, type) and issubclass(kind, RapportError):
                raise kind(text)
            raise RuntimeError(f"{task}: {name}: {text}")
        return parts

    def _exchange(self, task: str, arguments: tuple[object, ...]) -> Iterator[Any]:
        channel = self._started()
        asked = parcel.pack([(task, arguments)])
        try:
            socket.send_fds(channel, [b"."], [asked])
            told, found, _, _ = socket.recv_fds(channel, 1, 1)
            if not told:
                raise EOFError  # noqa: TRY301  what a process that died leaves behind
        except (OSError, EOFError) as error:
            raise self._lost(task, error) from None
        finally:
            os.close(asked)
        return parcel.unpack(found[0])

    def _started(self) -> socket.socket:
        if self._closed:
            raise Unfinished("the server is stopping")
        if self._channel is not None and self._process is not None:
            if self._process.poll() is None:
                return self._channel
            self._forget()
        ours, theirs = socket.socketpair()
        self._words = tempfile.TemporaryFile()  # noqa: SIM115  a pipe that nobody reads would block
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "service.work", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._words,
                stderr=self._words,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a terminal's Ctrl-C is for the server, which drains
            )
        ours.settimeout(_LONGEST)
        self._channel = ours
        return ours

    def _lost(self, task: str, error: Exception) -> RapportError:
        """Say how the process ended before it had answered."""
        assert self._process is not None  # noqa: S101  it was started
        slow = isinstance(error, TimeoutError)
        if slow:
            self._process.kill()
        code = self._process.wait()
        words = self._last_words()
        self._forget()
        if code == 0 and not slow and not self._closed:
            return _IdleEnd()
        if slow:
            why = f"took over {_LONGEST:.0f} seconds and was stopped"
        elif code < 0:
            why = f"was ended by signal {-code}, perhaps for want of memory"
        else:
            why = f"ended with {code}"
        told = f" ({words})" if words else ""
        return Unfinished(f"the process that works on {task} {why}{told}; try again")

    def _last_words(self) -> str:
        if self._words is None:
            return ""
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:_LAST_WORDS] if lines else ""

    def _forget(self) -> None:
        for one in (self._channel, self._words):
            if one is not None:
                one.close()
        self._channel = self._words = None

    def close(self) -> None:
        """End the process, whatever it is doing; who waits for it gets ``Unfinished``."""
        self._closed = True
        if self._process is not None:
            self._process.kill()  # whoever waits for it lets go of the lock
        with self._turn:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            self._forget()


class _IdleEnd(RapportError):
    """The process had ended for want of work."""
