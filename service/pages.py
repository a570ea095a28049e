"""A few pages over plain HTTP: for Prometheus, and for whoever asks whether all is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from service import background
from service.addresses import Place, place
from service.errors import ConfigurationError

TEXT: Final = "text/plain; charset=utf-8"
METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"

_MOST_BYTES: Final = 8_192
_SECONDS: Final = 5.0


class Page(NamedTuple):
    """What is answered."""

    body: str
    status: HTTPStatus = HTTPStatus.OK
    kind: str = TEXT


Pages = Mapping[str, Callable[[], Awaitable[Page]]]
"""What answers a path."""


class PageServer:
    """Answers GET with a page, and closes the connection.

    Args:
        pages: By path.
    """

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[Any]] = set()

    async def start(self, written: str) -> str:
        """Listen; give the address, with the port that was free where 0 was asked for.

        Raises:
            ConfigurationError: The address is none, or is taken.
        """
        at = place(written, "--metrics")
        try:
            if at.path:
                self._server = await asyncio.start_unix_server(
                    self._serve, at.path, limit=_MOST_BYTES
                )
                return written
            self._server = await asyncio.start_server(
                self._serve, at.host.strip("[]"), at.port, limit=_MOST_BYTES
            )
        except OSError as error:
            raise ConfigurationError(
                f"--metrics {written}: {error.strerror}; choose a free address of this machine"
            ) from error
        return str(Place(at.host, self._server.sockets[0].getsockname()[1]))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        if serving is not None:
            self._open.add(serving)
            serving.add_done_callback(self._open.discard)
        try:
            await self._send(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(_SECONDS):
                page = await self._answer(reader)
                body = page.body.encode()
                head = (
                    f"HTTP/1.1 {page.status.value} {page.status.phrase}\r\n"
                    f"Content-Type: {page.kind}\r\nContent-Length: {len(body)}\r\n"
                    "Connection: close\r\n\r\n"
                )
                writer.write(head.encode() + body)
                await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader) -> Page:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return Page("too long\n", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        method, _, rest = head.decode("latin-1").partition(" ")
        if method != "GET":
            return Page("only GET\n", HTTPStatus.METHOD_NOT_ALLOWED)
        answer = self._pages.get(rest.split(" ")[0].split("?")[0])
        if answer is None:
            return Page(f"there is {', '.join(self._pages)}\n", HTTPStatus.NOT_FOUND)
        return await answer()

    async def close(self) -> None:
        """Stop listening, and hang up."""
        if self._server is not None:
            self._server.close()
            for one in list(self._open):
                await background.end(one)
            await self._server.wait_closed()


async def fetch(path: str, at: str, seconds: float = 1.0) -> str:
    """Read a page that a process of ours serves at a unix socket.

    Raises:
        OSError: Nobody answers, or with an error.
        TimeoutError: It takes longer.
    """
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_unix_connection(at.removeprefix("unix:"))
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
    if not head.startswith(b"HTTP/1.1 200 "):
        raise OSError(head.split(b"\r\n")[0].decode("latin-1") or "no answer")
    return body.decode()
