"""One connection for many callers: what is asked in one turn of the loop leaves as one write.

redis-py builds the connection: address, TLS, password, database, Sentinel. From then on the bytes
are ours, since its pipeline costs a caller who is alone several times what the answer does
(``python -m tests.bench.trips``). A question here is one command that is packed already and one
function that takes the reply; there is no task, no future and no lock for any of them.

Nothing that was sent is ever taken back, so replies stay in step with their questions whatever
their callers do. Nothing is sent twice either.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import hiredis
from redis.asyncio.connection import DefaultParser
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import DataError, InvalidResponse, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as NoReply

Then = Callable[[Any], None]
"""Takes a reply, or the error that came in its place: a ``RedisError`` or an ``OSError``. It must
not raise."""

_TICKS: Final = 8
"""Times within the timeout that a connection looks whether somebody waits for too long."""
_NOTHING: Final = object()
"""What the reader gives where a reply is not whole yet; a reply may be False or None."""


def packed(*command: str | bytes | int | float) -> bytes:
    """Write a command as the server reads it.

    Raises:
        DataError: A part of it is nothing that could be sent.
    """
    try:
        return hiredis.pack_command(command)  # type: ignore[no-any-return,arg-type]
    except (TypeError, hiredis.HiredisError) as error:
        raise DataError(f"{command[0]!r} has a part that cannot be sent: {error}") from error


class Line:
    """A way to one server, connected when it is first asked and again after every failure.

    Args:
        pool: Of redis-py; it makes the connections, which are not counted among its own.
        timeout: Seconds to wait for a reply. One that waits for longer ends the connection, and
            with it whatever else waits there: a server answers in order.
        failed: Is told when a connection breaks or cannot be made.
    """

    def __init__(
        self, pool: Any, timeout: float, failed: Callable[[], None] = lambda: None
    ) -> None:
        self._pool = pool
        self._timeout = timeout
        self._failed = failed
        self._wire: _Wire | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._commands: list[bytes] = []  # of this turn
        self._askers: list[Then] = []

    def ask(self, command: bytes, then: Then) -> None:
        """Send a packed command with all others of this turn; ``then`` is called once, later."""
        if not self._commands:
            asyncio.get_running_loop().call_soon(self.flush)
        self._commands.append(command)
        self._askers.append(then)

    def flush(self) -> None:
        """Send what was asked in this turn now, rather than when the turn ends.

        What is asked after that, still in this turn, leaves as a write of its own.
        """
        if not self._commands:
            return
        if self._wire is None:
            if self._connecting is None:
                self._connecting = asyncio.create_task(self._connect(), name="store line")
            return
        commands, self._commands = self._commands, []
        askers, self._askers = self._askers, []
        self._wire.send(commands, askers)

    async def _connect(self) -> None:
        try:
            connection = self._pool.make_connection()
            await connection.connect()
        except Exception as error:  # noqa: BLE001  whatever it was, it is every asker's answer
            askers, self._askers = self._askers, []
            self._commands.clear()
            known = isinstance(error, RedisError | OSError)
            self._failed()
            for then in askers:
                then(error if known else NoConnection(f"could not connect: {error!r}"))
            return
        finally:
            self._connecting = None
        self._wire = _Wire(connection, self._timeout, self._lost)
        self.flush()

    def _lost(self, wire: _Wire) -> None:
        """Use a connection no more."""
        if self._wire is wire:
            self._wire = None
            self._failed()

    async def drain(self) -> None:
        """Wait for every reply that is on its way; that takes no longer than the timeout."""
        if self._commands or (self._wire is not None and self._wire.waits):
            told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.ask(_PING, partial(_tell, told))  # the reply to it comes last
            await told

    async def close(self) -> None:
        """Wait for every reply and give the connection back."""
        await self.drain()
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()


_PING: Final = packed("PING")


def _tell(told: asyncio.Future[None], _: object) -> None:
    if not told.done():
        told.set_result(None)


class _Wire(asyncio.Protocol):
    """A connection from the moment that redis-py has set it up."""

    def __init__(self, connection: Any, timeout: float, lost: Callable[[_Wire], None]) -> None:
        self._connection = connection
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=DefaultParser.parse_error,
            notEnoughData=_NOTHING,
        )
        self._waiting: deque[Then] = deque()
        self._sent = 0
        self._seconds = timeout / _TICKS
        self._marks: deque[int] = deque(maxlen=_TICKS - 1)  # how much was sent by the last ticks
        self._tick: asyncio.TimerHandle | None = None
        self._closed: asyncio.Future[None] = self._loop.create_future()
        # Nothing is on its way: redis-py has read the reply to the last command of its own.
        self._transport: asyncio.Transport = connection._writer.transport
        self._transport.set_protocol(self)

    def send(self, commands: list[bytes], askers: list[Then]) -> None:
        """Write commands; each of the askers gets one reply, in order."""
        self._waiting.extend(askers)
        self._sent += len(askers)
        if self._tick is None:
            self._marks.clear()
            self._tick = self._loop.call_later(self._seconds, self._look)
        self._transport.write(commands[0] if len(commands) == 1 else b"".join(commands))

    @property
    def waits(self) -> bool:
        """Whether a reply is on its way."""
        return bool(self._waiting)

    def data_received(self, data: bytes) -> None:
        """Hand every reply to the one who waits for it."""
        gets, waiting = self._reader.gets, self._waiting
        try:
            self._reader.feed(data)
            while (reply := gets()) is not _NOTHING:
                if type(reply) is hiredis.PushNotification:
                    continue
                if type(reply) is ReadOnlyError:  # a replica by now: look for the primary
                    self._lost(self)
                    self._transport.close()
                if not waiting:
                    self._give_up(InvalidResponse(f"a reply to no question: {reply!r}"))
                    return
                then = waiting.popleft()
                try:
                    then(reply)
                except Exception as error:  # noqa: BLE001  of ours; the others stay in step
                    self._loop.call_exception_handler({"message": "a reply", "exception": error})
        except InvalidResponse as error:
            self._give_up(error)

    def _look(self) -> None:
        """Give up where somebody waits for a reply since so many ticks."""
        self._tick = None
        if not self._waiting:
            return
        answered = self._sent - len(self._waiting)
        if len(self._marks) == _TICKS - 1 and answered < self._marks[0]:
            self._give_up(NoReply(f"no reply in {self._seconds * _TICKS:g} s"))
            return
        self._marks.append(self._sent)
        self._tick = self._loop.call_later(self._seconds, self._look)

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio."""
        self._give_up(NoConnection(f"the connection was closed: {error or 'by the server'}"))
        self._connection._close()
        if not self._closed.done():
            self._closed.set_result(None)

    def _give_up(self, error: Exception) -> None:
        self._lost(self)
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        self._transport.abort()
        while self._waiting:
            self._waiting.popleft()(error)

    async def close(self) -> None:
        """Hang up."""
        self._transport.close()
        await self._closed
