"""Around every call: who calls, how long it took, what went wrong, one line in the log."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import grpc
import structlog
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from service import callers, logs
from service.callers import Callers
from service.errors import InvalidRequest, RapportError, invalid
from service.metrics import Metrics

_MESSAGE = 600
_VIOLATION = 500
_VIOLATIONS = 2_400
"""Bytes of what an error tells. Trailers over 8 KB may not arrive at all, and encoding a byte of a
message may take three."""

Details = tuple[tuple[str, str | bytes], ...]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Edge:
    """Identifies callers, translates our errors, counts, and writes the canonical line.

    It stands where a servicer registers its methods, ``add_...Servicer_to_server(servicer, edge)``,
    and wraps each once: an interceptor would be asked anew for every call.

    Args:
        server: Serves the wrapped methods; health and reflection register there themselves.
        known: Callers.
        metrics: Where calls are counted.
    """

    def __init__(self, server: grpc.aio.Server, known: Callers, metrics: Metrics) -> None:
        self._server = server
        self._known = known
        self._metrics = metrics

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Registered methods are all that is served: these would pass unchecked."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Handler]) -> None:
        """Serve the methods of one service; streams are not: none of ours is one."""
        wrapped = {
            name: self._wrapped(name, handler)
            for name, handler in handlers.items()
            if handler.unary_unary is not None
        }
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(service, wrapped)]
        )
        self._server.add_registered_method_handlers(service, wrapped)

    def _wrapped(self, name: str, handler: Handler) -> Handler:
        behaviour: Any = handler.unary_unary
        parse = handler.request_deserializer

        async def answer(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            return await self._answer(name, parse, behaviour, request, context)

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=None,  # nothing that an unknown caller sends is parsed
            response_serializer=_written(handler.response_serializer),
        )

    async def _answer(
        self,
        name: str,
        parse: Callable[[bytes], Any] | None,
        behaviour: Callable[[Any, Any], Awaitable[Any]],
        sent: bytes,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> Any:
        start = time.perf_counter()
        noted = logs.begin()
        metadata = dict(context.invocation_metadata() or ())
        request_id = str(metadata.get("x-request-id") or os.urandom(16).hex())[:128]
        code, caller = grpc.StatusCode.OK, "nobody"
        try:
            who = self._known.identify(str(metadata.get("authorization", "")))
            caller = who.name
            callers.current.set(who)
            return await behaviour(_parsed(sent, parse), context)
        except RapportError as error:
            code = error.status
            noted["error"] = type(error).__name__
            trailing: Details = (("x-request-id", request_id), *_details(error))
            await context.abort(code, _cut(str(error), _MESSAGE), trailing)
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED  # the caller hung up, or its deadline is over
            raise
        except Exception as error:
            if isinstance(error, grpc.aio.AbortError):
                raise
            code = grpc.StatusCode.INTERNAL
            structlog.get_logger().error("unexpected", request_id=request_id, exc_info=True)
            await context.abort(code, f"internal error; quote request id {request_id}")
        finally:
            seconds = time.perf_counter() - start
            self._metrics.call(name, code.name, seconds)
            if "rung" in noted:
                self._metrics.decision(noted["rung"])
            logs.line(
                {
                    "event": "call",
                    "method": name,
                    "status": code.name,
                    "ms": round(1e3 * seconds, 3),
                    "caller": caller,
                    "request_id": request_id,
                    **noted,
                }
            )


def _parsed(sent: bytes, parse: Callable[[bytes], Any] | None) -> Any:
    """The message that was sent, without fields that no check covers: they would be logged whole.

    Raises:
        InvalidRequest: The bytes are no message of the kind.
    """
    if parse is None:
        return sent
    try:
        request = parse(sent)
    except DecodeError as error:
        raise invalid("request", "is no message of this method; see the API") from error
    request.DiscardUnknownFields()
    return request


def _written(write: Callable[[Any], bytes] | None) -> Callable[[Any], bytes] | None:
    """How an answer becomes bytes, where the method has not written it already."""
    if write is None:
        return None
    return lambda answer: answer if type(answer) is bytes else write(answer)


def _details(error: RapportError) -> Details:
    """The error as ``google.rpc.Status``, with a BadRequest for as many wrong fields as fit."""
    status = status_pb2.Status(code=error.status.value[0], message=_cut(str(error), _MESSAGE))
    if isinstance(error, InvalidRequest):
        bad = error_details_pb2.BadRequest()
        for field, description in error.violations:
            one = error_details_pb2.BadRequest.FieldViolation(
                field=_cut(field, _VIOLATION // 4), description=_cut(description, _VIOLATION)
            )
            if bad.ByteSize() + one.ByteSize() > _VIOLATIONS:
                break
            bad.field_violations.append(one)
        packed = any_pb2.Any()
        packed.Pack(bad)
        status.details.append(packed)
    return (("grpc-status-details-bin", status.SerializeToString()),)


def _cut(text: str, most: int) -> str:
    """A text of at most so many bytes."""
    written = text.encode()
    return text if len(written) <= most else written[: most - 3].decode(errors="ignore") + "..."
