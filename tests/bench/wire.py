"""Unary gRPC calls as raw HTTP/2 frames on a blocking socket: next to no CPU of the sender.

gRPC's own clients cost as much as the server that is measured. This one sends frames that were
built before, and still does what a client must: it keeps to the flow control, answers pings and
settings, and reads the ``grpc-status`` of every call.
"""

from __future__ import annotations

import socket
import struct
from typing import Final, NamedTuple

from tests.bench.hpack import Decoder, indexed, literal

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_HEAD: Final = struct.Struct(">HBBBI")  # length in two parts, type, flags, stream
_LARGEST: Final = 2**31 - 1
_WINDOW_AT_START: Final = 65_535
_ENOUGH: Final = 2**30  # bytes received before the server's window is filled up again
_FRAME: Final = 16_384  # bytes of a frame that every receiver takes
_TIMEOUT: Final = 20.0  # seconds


class Answered(NamedTuple):
    """The end of a call."""

    stream: int
    status: str  # of grpc-status; "reset" where the stream was reset
    body: bytes  # empty where it was not asked for; without gRPC's prefix


class Method:
    """A method as the frames that call it begin, and how its messages follow.

    Args:
        path: Such as ``/rapport.v1.DecisionService/Decide``.
        timeout: What callers allow, as gRPC writes it, such as ``5S``.
    """

    def __init__(self, path: str, timeout: str = "20S") -> None:
        added = [
            (":path", path),
            (":authority", "bench"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "rapport-bench"),
            ("grpc-timeout", timeout),
        ]
        fixed = indexed(3) + indexed(6)  # :method POST, :scheme http
        # Pseudo-headers come first. Later calls name the entries that the first one added.
        self.first = fixed + b"".join(literal(*one) for one in added)
        self.later = fixed + b"".join(indexed(61 + len(added) - i) for i in range(len(added)))


def framed(message: bytes) -> bytes:
    """A message with gRPC's prefix, ready to be sent by :meth:`Connection.call`."""
    framed = b"\0" + len(message).to_bytes(4, "big") + message
    if len(framed) > _WINDOW_AT_START:
        raise ValueError(f"{len(message)} bytes are more than one stream may send at once")
    return framed


class Connection:
    """One HTTP/2 connection with calls of one method.

    Args:
        address: ``unix:/path`` or ``host:port``.
        method: All its calls are of.

    Raises:
        OSError: Nobody listens there.
    """

    def __init__(self, address: str, method: Method) -> None:
        if address.startswith("unix:"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(_TIMEOUT)
            self.socket.connect(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            self.socket = socket.create_connection((host, int(port)), _TIMEOUT)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._method = method
        self._block = method.first
        self._headers = Decoder()
        self._next = 1
        self._window = _WINDOW_AT_START  # bytes that the server still takes of us
        self._waiting: list[tuple[bytes, int]] = []  # for the window: frames, bytes that count
        self._out: list[bytes] = []
        self._rest = b""
        self._received = 0
        self._bodies: dict[int, list[bytes]] = {}
        self.open = set[int]()  # streams of calls that have not ended
        settings = struct.pack(">HI", 4, _LARGEST)  # window of every stream
        self._out.append(
            _PREFACE
            + _frame(_SETTINGS, 0, 0, settings)
            + _frame(_WINDOW, 0, 0, (_LARGEST - _WINDOW_AT_START).to_bytes(4, "big"))
        )
        self.flush()

    def call(self, message: bytes, *, keep: bool = False) -> int:
        """Take a call to be sent by :meth:`flush`; give its stream.

        Args:
            message: From :func:`framed`.
            keep: Whether the body of the answer is wanted.
        """
        stream, self._next = self._next, self._next + 2
        block = self._block
        self._block = self._method.later
        if keep:
            self._bodies[stream] = []
        self.open.add(stream)
        head = _HEAD.pack(0, len(block), _HEADERS, _END_HEADERS, stream) + block
        size = len(message)
        if size <= _FRAME:
            sent = head + _HEAD.pack(size >> 8, size & 0xFF, _DATA, _END_STREAM, stream) + message
        else:
            sent = head + _split(message, stream)
        if self._waiting or size > self._window:
            self._waiting.append((sent, size))
        else:
            self._window -= size
            self._out.append(sent)
        return stream

    def flush(self) -> None:
        """Send what is waiting to be sent."""
        if self._out:
            out = b"".join(self._out)
            self._out.clear()
            self.socket.sendall(out)

    def receive(self) -> list[Answered]:
        """Read what has come, at least something; give the calls that ended.

        Raises:
            ConnectionError: The server ended the connection, or said that it will.
        """
        came = self.socket.recv(1 << 20)
        if not came:
            raise ConnectionError("the server ended the connection")
        data = self._rest + came if self._rest else came
        at, end = 0, len(data)
        ended: list[Answered] = []
        while end - at >= 9:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
            length = high << 8 | low
            if end - at - 9 < length:
                break
            at += 9
            if kind == _DATA:
                if stream in self._bodies:
                    self._bodies[stream].append(_unpadded(data[at : at + length], flags))
                self._received += length
                if self._received > _ENOUGH:
                    more = self._received.to_bytes(4, "big")
                    self._out.append(_frame(_WINDOW, 0, 0, more))
                    self._received = 0
                if flags & _END_STREAM:
                    ended.append(self._ended(stream, "no trailers"))
            elif kind == _HEADERS:
                if not flags & _END_HEADERS or flags & (_PADDED | _PRIORITY):
                    raise ConnectionError(f"headers with flags {flags:#x} are not read here")
                headers = self._headers(data[at : at + length])
                if flags & _END_STREAM:
                    ended.append(self._ended(stream, headers.get("grpc-status", "none")))
            else:
                self._control(kind, flags, stream, data[at : at + length], ended)
            at += length
        self._rest = data[at:] if at < end else b""
        return ended

    def _control(
        self, kind: int, flags: int, stream: int, payload: bytes, ended: list[Answered]
    ) -> None:
        """Frames that carry no answer."""
        match kind:
            case 3 if stream in self.open:  # a server may still reset what it has answered
                ended.append(self._ended(stream, f"reset {int.from_bytes(payload, 'big')}"))
            case 4 if not flags & _ACK:
                for number, value in struct.iter_unpack(">HI", payload):
                    if number == 4 and value < _WINDOW_AT_START:
                        raise ConnectionError(f"streams may send {value} bytes only")
                self._out.append(_frame(_SETTINGS, _ACK, 0, b""))
                self.flush()
            case 6 if not flags & _ACK:
                self._out.append(_frame(_PING, _ACK, 0, payload))
                self.flush()
            case 7:
                raise ConnectionError(f"the server goes away: {payload[4:]!r}")
            case 8 if stream == 0:
                self._window += int.from_bytes(payload, "big")
                while self._waiting and self._waiting[0][1] <= self._window:
                    frames, size = self._waiting.pop(0)
                    self._window -= size
                    self._out.append(frames)
                self.flush()
            case 9:
                raise ConnectionError("continued headers are not read here")

    def _ended(self, stream: int, status: str) -> Answered:
        self.open.discard(stream)
        kept = self._bodies.pop(stream, None)
        body = b"" if kept is None else b"".join(kept)[5:]
        return Answered(stream, status, body)

    def close(self) -> None:
        """End the connection."""
        self.socket.close()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    size = len(payload)
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def _split(message: bytes, stream: int) -> bytes:
    """A long message as several frames."""
    parts = [message[at : at + _FRAME] for at in range(0, len(message), _FRAME)]
    last = len(parts) - 1
    return b"".join(
        _frame(_DATA, _END_STREAM if i == last else 0, stream, part) for i, part in enumerate(parts)
    )


def _unpadded(payload: bytes, flags: int) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & _PADDED else payload


def call(address: str, path: str, message: bytes) -> bytes:
    """Make one call on a connection of its own; give the body of its answer.

    Raises:
        ConnectionError: It did not end with OK.
    """
    connection = Connection(address, Method(path))
    try:
        connection.call(framed(message), keep=True)
        connection.flush()
        while True:
            for one in connection.receive():
                if one.status != "0":
                    raise ConnectionError(f"{path} ended with grpc-status {one.status}")
                return one.body
    finally:
        connection.close()
