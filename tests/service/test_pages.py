from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import pytest

from service.errors import ConfigurationError
from service.pages import Page, PageServer, fetch


async def _fine() -> Page:
    return Page("all is well: ä\n")


async def _away() -> Page:
    return Page("away\n", HTTPStatus.SERVICE_UNAVAILABLE)


async def _stuck() -> Page:
    await asyncio.sleep(60)
    return Page("")


@asynccontextmanager
async def serving(written: str) -> AsyncIterator[str]:
    server = PageServer({"/fine": _fine, "/away": _away, "/stuck": _stuck})
    at = await server.start(written)
    try:
        yield at
    finally:
        await server.close()


async def asked(at: str, request: bytes) -> tuple[str, str]:
    """The first line of an answer, and its body."""
    host, _, port = at.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    if body:
        assert f"Content-Length: {len(body)}" in head.decode()
    return head.decode().split("\r\n")[0], body.decode()


async def test_a_page_is_served_at_a_free_port() -> None:
    async with serving("127.0.0.1:0") as at:
        assert not at.endswith(":0")
        for path in (b"/fine", b"/fine?with=a&query"):
            line, body = await asked(at, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert line == "HTTP/1.1 200 OK"
            assert body == "all is well: ä\n"
        line, body = await asked(at, b"GET /away HTTP/1.1\r\n\r\n")
        assert line == "HTTP/1.1 503 Service Unavailable"
        assert body == "away\n"


async def test_whatever_else_is_asked_is_refused() -> None:
    async with serving("127.0.0.1:0") as at:
        line, body = await asked(at, b"GET /else HTTP/1.1\r\n\r\n")
        assert line == "HTTP/1.1 404 Not Found"
        assert "/fine" in body
        assert (await asked(at, b"POST /fine HTTP/1.1\r\n\r\n"))[0].split()[1] == "405"
        long = b"GET /fine HTTP/1.1\r\nx: " + b"y" * 20_000 + b"\r\n\r\n"
        assert (await asked(at, long))[0].split()[1:2] in (["431"], [])
        assert (await asked(at, b"GET /fine HTTP/1.1\r\n\r\n"))[0].split()[1] == "200"


async def test_who_hangs_up_disturbs_nobody() -> None:
    async with serving("127.0.0.1:0") as at:
        host, _, port = at.rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /fi")
        writer.close()
        assert (await asked(at, b"GET /fine HTTP/1.1\r\n\r\n"))[0].split()[1] == "200"


async def test_the_end_hangs_up_on_who_waits() -> None:
    async with serving("127.0.0.1:0") as at:
        host, _, port = at.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /stuck HTTP/1.1\r\n\r\n")
        await asyncio.sleep(0.05)
    async with asyncio.timeout(1):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_a_process_of_ours_is_asked_at_its_socket(tmp_path: Path) -> None:
    async with serving(f"unix:{tmp_path / 'page'}") as at:
        assert await fetch("/fine", at) == "all is well: ä\n"
        with pytest.raises(OSError, match="503"):
            await fetch("/away", at)
        with pytest.raises(TimeoutError):
            await fetch("/stuck", at, 0.05)
    with pytest.raises(OSError, match=r"."):
        await fetch("/fine", at)


async def test_a_taken_address_is_told_with_its_option() -> None:
    async with serving("127.0.0.1:0") as at:
        with pytest.raises(ConfigurationError, match=f"--metrics {at}: .*choose a free"):
            await PageServer({}).start(at)
    with pytest.raises(ConfigurationError, match="--metrics here: write HOST:PORT"):
        await PageServer({}).start("here")
