"""One connection for many, against a server that answers what and when we tell it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import hiredis
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import DataError, MovedError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as NoReply

from service.redis_line import Line, _Wire, packed
from tests.integration.serving import until

TIMEOUT = 0.4


class Server:
    """Answers each command with its own last word, unless it is told otherwise."""

    def __init__(self) -> None:
        self.port = 0
        self.chunks: list[bytes] = []  # as they came in, handshakes aside
        self.seen: list[bytes] = []
        self.connections = 0
        self.open = asyncio.Event()
        self.open.set()
        self.says: dict[bytes, bytes] = {}  # by last word, in place of an echo; empty: hang up

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        commands = hiredis.Reader()
        try:
            while chunk := await reader.read(1 << 20):
                commands.feed(chunk)
                noted = False
                while (command := commands.gets()) is not False:
                    if command[0] in (b"CLIENT", b"HELLO"):
                        writer.write(b"-ERR unknown\r\n" if command[0] == b"HELLO" else b"+OK\r\n")
                        continue
                    if not noted:
                        self.chunks.append(chunk)
                        noted = True
                    self.seen.append(command[-1])
                    await self.open.wait()
                    said = self.says.get(
                        command[-1], b"$%d\r\n%b\r\n" % (len(command[-1]), command[-1])
                    )
                    if not said:
                        return
                    writer.write(said)
        except OSError:
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self.connections -= 1


@asynccontextmanager
async def running() -> AsyncIterator[Server]:
    one = Server()
    listening = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = listening.sockets[0].getsockname()[1]
    yield one
    one.open.set()
    listening.close()
    await until(lambda: not one.connections)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    async with running() as one:
        yield one


def _tell(told: asyncio.Future[Any], reply: Any) -> None:
    if not told.done():
        told.set_result(reply)


class Asker:
    """A line, and what it was told."""

    def __init__(self, port: int, timeout: float = TIMEOUT) -> None:
        options: Any = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        self.redis = Redis.from_url(f"redis://127.0.0.1:{port}?protocol=2", **options)
        self.failures = 0
        self.line = Line(self.redis.connection_pool, timeout, self._fail)

    def _fail(self) -> None:
        self.failures += 1

    def ask(self, word: str) -> asyncio.Future[Any]:
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.line.ask(packed("GET", word), partial(_tell, told))
        return told

    async def close(self) -> None:
        await self.line.close()
        await self.redis.aclose()


@pytest_asyncio.fixture
async def asker(server: Server) -> AsyncIterator[Asker]:
    one = Asker(server.port)
    yield one
    await one.close()


# In step


async def test_what_is_asked_in_one_turn_leaves_as_one_write(server: Server, asker: Asker) -> None:
    await asker.ask("first")
    server.chunks.clear()
    words = [f"w{n}" for n in range(50)]
    assert await asyncio.gather(*map(asker.ask, words)) == [w.encode() for w in words]
    assert len(server.chunks) == 1
    assert server.connections == 1


async def test_what_is_flushed_leaves_before_the_turn_ends_and_the_rest_with_its_end(
    server: Server, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asker.ask("first")
    server.chunks.clear()
    sent = []
    send = _Wire.send

    def noted(wire: _Wire, commands: list[bytes], askers: list[Any]) -> None:
        sent.append(len(commands))
        send(wire, commands, askers)

    monkeypatch.setattr(_Wire, "send", noted)
    asked = [asker.ask("a"), asker.ask("b")]
    asker.line.flush()
    assert sent == [2]
    asker.line.flush()
    asked.append(asker.ask("c"))
    assert sent == [2]
    assert await asyncio.gather(*asked) == [b"a", b"b", b"c"]
    assert sent == [2, 1]


async def test_a_flush_of_nothing_makes_no_connection(server: Server, asker: Asker) -> None:
    asker.line.flush()
    await asyncio.sleep(0.02)
    assert not server.connections


async def test_a_turn_does_not_wait_for_the_reply_to_the_one_before(
    server: Server, asker: Asker
) -> None:
    server.open.clear()
    first = asker.ask("a")
    await until(lambda: bool(server.seen))
    second = asker.ask("b")
    await asyncio.sleep(0.02)
    assert not first.done()
    server.open.set()
    assert [await first, await second] == [b"a", b"b"]


async def test_what_is_asked_before_there_is_a_connection_is_sent_in_order(
    server: Server, asker: Asker
) -> None:
    asked = []
    for n in range(20):
        asked.append(asker.ask(f"w{n}"))
        await asyncio.sleep(0)
    assert await asyncio.gather(*asked) == [f"w{n}".encode() for n in range(20)]
    assert server.connections == 1


@given(st.lists(st.sampled_from("gcpx"), min_size=1, max_size=40), st.integers())
@settings(max_examples=25, deadline=None)
def test_callers_that_leave_take_nobody_elses_reply(script: list[str], seed: int) -> None:
    """g: wait; c: cancelled; p: a pause; x: an error of the server in between."""

    dice = random.Random(seed)

    async def run() -> None:
        async with running() as server:
            asker = Asker(server.port)
            waiting: list[tuple[str, asyncio.Future[Any]]] = []
            for n, what in enumerate(script):
                if what == "p":
                    await asyncio.sleep(dice.choice([0, 0, 0.001]))
                    continue
                word = f"{what}{n}"
                if what == "x":
                    server.says[word.encode()] = b"-ERR no\r\n"
                told = asker.ask(word)
                if what == "c":
                    told.cancel()
                else:
                    waiting.append((word, told))
            for word, told in waiting:
                reply = await told
                failed = isinstance(reply, ResponseError)
                assert failed if word[0] == "x" else reply == word.encode()
            await asker.close()
        asked = [word for word in server.seen if word != b"PING"]
        assert len(asked) == sum(what != "p" for what in script), "all of them, each once"

    asyncio.run(run())


async def test_one_that_cannot_take_its_reply_leaves_the_others_in_step(
    server: Server, asker: Asker
) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
    before = asker.ask("a")
    asker.line.ask(packed("GET", "b"), _broken)
    after = asker.ask("c")
    assert [await before, await after] == [b"a", b"c"]
    assert [type(one["exception"]) for one in complaints] == [ZeroDivisionError]


def _broken(reply: object) -> None:
    raise ZeroDivisionError(reply)


async def test_replies_that_come_in_pieces_are_put_together(server: Server, asker: Asker) -> None:
    large = "x" * 3_000_000
    assert await asyncio.gather(*map(asker.ask, [large, "small"])) == [
        large.encode(),
        b"small",
    ]


async def test_news_that_nobody_asked_for_is_no_reply(server: Server, asker: Asker) -> None:
    server.says[b"a"] = b">2\r\n+invalidate\r\n+b\r\n$1\r\na\r\n"
    assert await asyncio.gather(*map(asker.ask, "ab")) == [b"a", b"b"]


async def test_errors_of_the_server_are_those_of_redis_py(server: Server, asker: Asker) -> None:
    server.says[b"a"] = b"-MOVED 12 127.0.0.1:7001\r\n"
    moved = await asker.ask("a")
    assert type(moved) is MovedError
    assert (moved.slot_id, moved.host, moved.port) == (12, "127.0.0.1", 7001)


# Failures


async def test_a_connection_that_breaks_fails_what_waits_and_nothing_is_sent_twice(
    server: Server, asker: Asker
) -> None:
    await asker.ask("before")
    server.says[b"b"] = b""
    replies = await asyncio.gather(*map(asker.ask, "abc"))
    assert replies[0] == b"a"
    assert [type(one) for one in replies[1:]] == [NoConnection] * 2
    assert server.seen == [b"before", b"a", b"b"]
    assert asker.failures == 1
    assert await asker.ask("d") == b"d", "on a connection of its own"


async def test_a_server_that_is_silent_is_given_up_in_time(server: Server, asker: Asker) -> None:
    await asker.ask("before")
    server.open.clear()
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with asyncio.timeout(10 * TIMEOUT):
        replies = await asyncio.gather(*map(asker.ask, "ab"))
    assert [type(one) for one in replies] == [NoReply] * 2
    assert 0.8 * TIMEOUT < loop.time() - start < 1.5 * TIMEOUT + 0.2
    server.open.set()
    assert await asker.ask("c") == b"c"


async def test_a_slow_server_that_goes_on_answering_is_not_given_up(
    server: Server, asker: Asker
) -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    while loop.time() - start < 3 * TIMEOUT:
        server.open.clear()
        asked = asker.ask("a")
        loop.call_later(TIMEOUT / 4, server.open.set)
        assert await asked == b"a"
    assert asker.failures == 0
    assert server.connections == 1


async def test_a_line_that_was_idle_for_long_is_not_late(server: Server, asker: Asker) -> None:
    await asker.ask("a")
    await asyncio.sleep(1.5 * TIMEOUT)
    server.open.clear()
    asked = asker.ask("b")
    await asyncio.sleep(TIMEOUT / 3)
    server.open.set()
    assert await asked == b"b"


async def test_a_server_that_is_not_there_is_an_error_for_everybody_who_asked(
    server: Server,
) -> None:
    gone = Asker(1)
    replies = await asyncio.gather(*map(gone.ask, "abc"))
    assert [isinstance(one, NoConnection | OSError) for one in replies] == [True] * 3
    assert gone.failures == 1
    assert isinstance(await gone.ask("d"), Exception)
    await gone.close()


async def test_a_primary_that_became_a_replica_is_left(server: Server, asker: Asker) -> None:
    server.says[b"a"] = b"-READONLY You can't write against a read only replica.\r\n"
    assert type(await asker.ask("a")) is ReadOnlyError
    server.says.clear()
    assert await asker.ask("b") == b"b"
    assert asker.failures == 1


async def test_a_reply_to_no_question_ends_the_connection(server: Server, asker: Asker) -> None:
    server.says[b"a"] = b"+OK\r\n+OK\r\n"
    assert await asker.ask("a") == b"OK"
    await asyncio.sleep(0.02)
    assert asker.failures == 1
    assert await asker.ask("b") == b"b"


async def test_nonsense_ends_the_connection(server: Server, asker: Asker) -> None:
    server.says[b"a"] = b"HTTP/1.1 400 Bad Request\r\n"
    assert isinstance(await asker.ask("a"), Exception)
    assert await asker.ask("b") == b"b"


async def test_closing_waits_for_what_is_asked(server: Server) -> None:
    asker = Asker(server.port)
    asked = [asker.ask("a"), asker.ask("b")]
    await asker.close()
    assert [one.result() for one in asked] == [b"a", b"b"]
    await until(lambda: not server.connections)


async def test_closing_a_line_that_nobody_used_connects_to_nobody(server: Server) -> None:
    asker = Asker(server.port)
    await asker.close()
    assert not server.seen
    assert not server.connections


# Commands


@given(
    st.lists(
        st.text(st.characters(codec="utf-8")) | st.binary() | st.integers() | st.floats(),
        min_size=1,
    )
)
def test_a_command_is_packed_as_redis_py_does(parts: list[str | bytes | int | float]) -> None:
    redis: Any = Redis()
    theirs = redis.connection_pool.make_connection().pack_command("SET", *parts)
    assert packed("SET", *parts) == b"".join(theirs)


@pytest.mark.parametrize("part", [None, [], object()])
def test_what_cannot_be_sent_is_said_and_not_sent(part: Any) -> None:
    with pytest.raises(DataError, match="SET"):
        packed("SET", part)
