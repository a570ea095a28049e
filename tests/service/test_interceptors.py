from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
import pytest_asyncio
import structlog
from google.rpc import status_pb2

from service import callers, logs
from service.afterwards import Afterwards
from service.callers import Callers
from service.errors import Conflict, InvalidRequest, NotFound, StoreUnavailable, Violation, invalid
from service.interceptors import Edge
from service.metrics import Metrics
from tests.integration.serving import callers_file, token, until, violations

AFTERWARDS: Final = Afterwards()

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Odd:
    """A service whose one method does what the request says."""

    def __init__(self) -> None:
        self.raises: dict[bytes, Exception] = {
            b"invalid": invalid("channel", "'fax' is not declared; send phone"),
            b"many": InvalidRequest(
                [Violation(f"field{i}", "is wrong " * 20) for i in range(1_000)]
            ),
            b"long": invalid("f" * 10_000, "\U0001f600" * 10_000),
            b"missing": NotFound("x" * 100_000),
            b"conflict": Conflict("somebody was faster"),
            b"away": StoreUnavailable("try again"),
            b"bug": ZeroDivisionError("the plumbing"),
        }

    async def answer(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        logs.note(noted=request.decode())
        if request == b"abort":
            await context.abort(grpc.StatusCode.DATA_LOSS, "by hand")
        if request == b"slow":
            await asyncio.sleep(30)
        if request in self.raises:
            raise self.raises[request]
        return callers.current.get().name.encode()

    def handlers(self) -> dict[str, Any]:
        async def stream(requests: Any, context: Any) -> Any:
            async for one in requests:
                yield one

        return {
            "Do": grpc.unary_unary_rpc_method_handler(self.answer),
            "Flow": grpc.stream_stream_rpc_method_handler(stream),
        }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channel(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[grpc.aio.Channel]:
    path: Path = callers_file(tmp_path_factory.mktemp("callers"), {"ivr": ["decide"]})
    server = grpc.aio.server()
    edge, handlers = Edge(server, Callers(path), Metrics(), AFTERWARDS), Odd().handlers()
    edge.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("odd.Service", handlers)]  # serves nothing
    )
    edge.add_registered_method_handlers("odd.Service", handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


async def do(channel: grpc.aio.Channel, request: bytes, **options: Any) -> bytes:
    options = {"metadata": token("ivr"), "timeout": 5, **options}
    call: Any = channel.unary_unary("/odd.Service/Do")
    found: bytes = await call(request, **options)
    return found


async def failed(
    channel: grpc.aio.Channel, request: bytes, **options: Any
) -> tuple[grpc.aio.AioRpcError, dict[str, Any]]:
    """The error of a call, and its line."""
    with lines() as told:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await do(channel, request, **options)
        await until(lambda: any(one["event"] == "call" for one in told))
    return caught.value, dict(told[-1])


@contextmanager
def lines() -> Iterator[list[Any]]:
    """The lines of calls that begin in the block."""
    AFTERWARDS.finish()
    with structlog.testing.capture_logs() as told:
        yield told


async def test_a_caller_is_known_to_the_method_and_to_the_line(channel: grpc.aio.Channel) -> None:
    metadata = (*token("ivr"), ("x-request-id", "abc"))
    with lines() as told:
        assert await do(channel, b"fine", metadata=metadata) == b"ivr"
        await until(lambda: bool(told))
    (line,) = told
    assert (line["method"], line["status"], line["caller"]) == ("Do", "OK", "ivr")
    assert (line["noted"], line["request_id"]) == ("fine", "abc")


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"invalid", grpc.StatusCode.INVALID_ARGUMENT),
        (b"missing", grpc.StatusCode.NOT_FOUND),
        (b"conflict", grpc.StatusCode.ABORTED),
        (b"away", grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_each_of_our_errors_has_its_code(
    channel: grpc.aio.Channel, request_: bytes, code: grpc.StatusCode
) -> None:
    error, line = await failed(channel, request_)
    assert error.code() == code
    assert line["status"] == code.name
    trailing = dict(error.trailing_metadata() or ())
    assert trailing["x-request-id"] == line["request_id"]
    status = status_pb2.Status.FromString(bytes(trailing["grpc-status-details-bin"]))
    assert (status.code, status.message) == (code.value[0], error.details())


async def test_a_wrong_field_is_named_in_the_details(channel: grpc.aio.Channel) -> None:
    error, line = await failed(channel, b"invalid")
    assert violations(error) == {"channel": "'fax' is not declared; send phone"}
    assert line["error"] == "InvalidRequest"


@pytest.mark.parametrize(("request_", "least"), [(b"many", 5), (b"long", 1)])
async def test_as_many_wrong_fields_are_named_as_arrive(
    channel: grpc.aio.Channel, request_: bytes, least: int
) -> None:
    error, _ = await failed(channel, request_)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert least <= len(violations(error)) < 30
    assert (error.details() or "").endswith("...")


async def test_an_endless_message_is_cut(channel: grpc.aio.Channel) -> None:
    error, _ = await failed(channel, b"missing")
    assert len(error.details() or "") == 600


async def test_a_bug_tells_the_caller_nothing_but_the_id(channel: grpc.aio.Channel) -> None:
    error, line = await failed(channel, b"bug", metadata=(*token("ivr"), ("x-request-id", "abc")))
    assert error.code() == grpc.StatusCode.INTERNAL
    assert error.details() == "internal error; quote request id abc"
    assert line["status"] == "INTERNAL"


async def test_an_abort_by_hand_passes(channel: grpc.aio.Channel) -> None:
    error, _ = await failed(channel, b"abort")
    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "by hand")


async def test_a_call_that_was_given_up_is_told_so(channel: grpc.aio.Channel) -> None:
    error, line = await failed(channel, b"slow", timeout=0.05)
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert line["status"] == "CANCELLED"


async def test_nobody_known_does_not_reach_the_method(channel: grpc.aio.Channel) -> None:
    error, line = await failed(channel, b"fine", metadata=())
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED
    assert line["caller"] == "nobody"
    assert "noted" not in line


async def test_an_unknown_method_is_unimplemented(channel: grpc.aio.Channel) -> None:
    other: Any = channel.unary_unary("/odd.Service/Other")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await other(b"")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_a_stream_of_our_own_would_not_slip_past_the_callers(
    channel: grpc.aio.Channel,
) -> None:
    """Only health and reflection are open, and callers of streams are not checked."""

    refused = asyncio.Event()

    async def one() -> AsyncIterator[bytes]:
        await refused.wait()  # what is sent into a stream that is refused may fail by itself
        yield b"hello"

    flow: Any = channel.stream_stream("/odd.Service/Flow")
    call = flow(one())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    refused.set()
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
