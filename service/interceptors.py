"""Around every call: who calls, how long it took, what went wrong, one line in the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

import grpc
import structlog
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from service import callers, logs
from service.afterwards import Afterwards
from service.callers import Callers
from service.checks import parsed
from service.errors import InvalidRequest, RapportError
from service.metrics import Metrics

_MESSAGE = 600
_VIOLATION = 500
_VIOLATIONS = 2_400
"""Bytes of what an error tells. Trailers over 8 KB may not arrive at all, and encoding a byte of a
message may take three."""

Details = tuple[tuple[str, str | bytes], ...]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


Method = TypeVar("Method", bound=Callable[..., Any])


def reads(method: Method) -> Method:
    """Let a method of a servicer have its requests as they were sent: it reads them itself."""
    vars(method)["reads"] = True
    return method


def _reads(method: Any) -> bool:
    return getattr(method, "reads", False) is True


class Unregistered:
    """Where a servicer of somebody else's registers its methods; they are served by name alone.

    grpc.aio waits for the next call of each registered method, with a task of its own, and goes
    over all of these tasks at every call of any: with all methods registered, that takes as long as
    a decision's answer does. What is not registered is found by its name in a dictionary.

    Args:
        server: Serves the methods.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Handler]) -> None:
        """Nothing more: generic handlers have all of them."""


class Edge:
    """Identifies callers, translates our errors, counts, and writes the canonical line.

    It stands where a servicer registers its methods, ``add_...Servicer_to_server(servicer, edge)``,
    and wraps each once: an interceptor would be asked anew for every call.

    Args:
        server: Serves the wrapped methods by name, see :class:`Unregistered`.
        known: Callers.
        metrics: Where calls are counted.
        afterwards: When they are, and their lines are written: no answer waits for that.
    """

    def __init__(
        self, server: grpc.aio.Server, known: Callers, metrics: Metrics, afterwards: Afterwards
    ) -> None:
        self._server = server
        self._known = known
        self._metrics = metrics
        self._afterwards = afterwards

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

    def _wrapped(self, name: str, handler: Handler) -> Handler:
        return grpc.unary_unary_rpc_method_handler(
            _Method(name, handler, self._known, self._metrics, self._afterwards).answer,
            request_deserializer=None,  # nothing that an unknown caller sends is parsed
            response_serializer=None,  # what is answered is written already
        )


class _Method:
    """One method with all that is around it."""

    def __init__(
        self, name: str, handler: Handler, known: Callers, metrics: Metrics, afterwards: Afterwards
    ) -> None:
        self._name = name
        self._behaviour: Any = handler.unary_unary
        self._parse = None if _reads(self._behaviour) else handler.request_deserializer
        self._write = handler.response_serializer
        self._known = known
        self._metrics = metrics
        self._afterwards = afterwards

    async def answer(self, sent: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        """Answer a call with the bytes of its response."""
        start = time.perf_counter()
        noted = logs.begin()
        request_id = authorization = ""
        for key, value in context.invocation_metadata() or ():
            if key == "x-request-id":
                request_id = str(value)[:128]
            elif key == "authorization":
                authorization = str(value)
        status, caller = "OK", "nobody"
        self._afterwards.begin()
        try:
            who = self._known.identify(authorization)
            caller = who.name
            callers.current.set(who)
            request = sent if self._parse is None else parsed(sent, self._parse)
            answer = await self._behaviour(request, context)
            # A decision is written by the method itself: building it first takes too long.
            return answer if type(answer) is bytes or self._write is None else self._write(answer)
        except RapportError as error:
            status = error.status.name
            noted["error"] = type(error).__name__
            request_id = request_id or logs.fresh_id()
            trailing: Details = (("x-request-id", request_id), *_details(error))
            await context.abort(error.status, _cut(str(error), _MESSAGE), trailing)
        except asyncio.CancelledError:
            status = "CANCELLED"  # the caller hung up, or its deadline is over
            raise
        except Exception as error:
            if isinstance(error, grpc.aio.AbortError):
                raise
            status = "INTERNAL"
            request_id = request_id or logs.fresh_id()
            structlog.get_logger().error("unexpected", request_id=request_id, exc_info=True)
            internal = grpc.StatusCode.INTERNAL
            await context.abort(internal, f"internal error; quote request id {request_id}")
        finally:
            seconds, at = time.perf_counter() - start, time.time_ns()
            call = logs.Call(self._name, status, seconds, caller, request_id, noted, at)
            self._afterwards.add(partial(self._tell, call))
            self._afterwards.end()

    def _tell(self, call: logs.Call) -> None:
        """Count a call, and write its line."""
        call.complete()
        self._metrics.call(self._name, call.status, call.seconds)
        if "rung" in call.noted:
            self._metrics.decision(call.noted["rung"])
        logs.line(call)


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
