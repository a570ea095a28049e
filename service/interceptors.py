"""Around every call: who calls, how long it took, what went wrong, one line in the log."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import structlog
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from service import callers, logs
from service.callers import Callers
from service.errors import InvalidRequest, RapportError
from service.metrics import Metrics

_OPEN = ("/grpc.health.", "/grpc.reflection.")

_MESSAGE = 600
_VIOLATION = 500
_VIOLATIONS = 2_400
"""Bytes of what an error tells. Trailers over 8 KB may not arrive at all, and encoding a byte of a
message may take three."""

Details = tuple[tuple[str, str | bytes], ...]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Edge(grpc.aio.ServerInterceptor):
    """Identifies callers, translates our errors, counts, and writes the canonical line."""

    def __init__(self, known: Callers, metrics: Metrics) -> None:
        self._known = known
        self._metrics = metrics
        self._log = structlog.get_logger()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wrap the handler of one of our own methods; health and reflection pass."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_OPEN):
            return handler
        behaviour: Any = handler.unary_unary
        if behaviour is None:
            return None  # streams would pass unchecked: none of ours is one, and none is served
        metadata = dict(handler_call_details.invocation_metadata or ())

        async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            return await self._answer(method, metadata, behaviour, request, context)

        return grpc.unary_unary_rpc_method_handler(
            answer,
            # Nothing that an unknown caller sends is parsed.
            request_deserializer=handler.request_deserializer if self._knows(metadata) else None,
            response_serializer=handler.response_serializer,
        )

    def _knows(self, metadata: dict[str, str | bytes]) -> bool:
        try:
            self._known.identify(str(metadata.get("authorization", "")))
        except RapportError:
            return False
        return True

    async def _answer(
        self,
        method: str,
        metadata: dict[str, str | bytes],
        behaviour: Callable[[Any, Any], Awaitable[Any]],
        request: Any,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> Any:
        start = time.perf_counter()
        noted = logs.begin()
        request_id = str(metadata.get("x-request-id") or uuid.uuid4().hex)[:128]
        code, caller = grpc.StatusCode.OK, "nobody"
        try:
            who = self._known.identify(str(metadata.get("authorization", "")))
            caller = who.name
            callers.current.set(who)
            if isinstance(request, Message):
                request.DiscardUnknownFields()  # no check covers them; they would be logged whole
            return await behaviour(request, context)
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
            self._log.error("unexpected", request_id=request_id, exc_info=True)
            await context.abort(code, f"internal error; quote request id {request_id}")
        finally:
            seconds, name = time.perf_counter() - start, method.rpartition("/")[2]
            self._metrics.call(name, code.name, seconds)
            if "rung" in noted:
                self._metrics.decision(noted["rung"])
            self._log.info(
                "call",
                method=name,
                status=code.name,
                ms=round(1e3 * seconds, 3),
                caller=caller,
                request_id=request_id,
                **noted,
            )


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
