"""The floor: the least that a server can do and still have read a customer.

grpc.aio + uvloop, one coalesced GET of a timeline over the server's own line to the store, a fixed
answer. Run as
``python -m tests.bench.floor ADDRESS STORE_URL ANSWER_FILE``.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path
from typing import Any

import grpc
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from redis.asyncio import Redis

from rapport.v1 import decision_pb2
from service import keys
from service.redis_line import Line, packed


async def serve(address: str, url: str, answer: bytes) -> None:
    """Answer every Decide with the same bytes after one read."""
    redis: Any = Redis.from_url(url)
    line, loop = Line(redis.connection_pool, 5.0), asyncio.get_running_loop()

    async def decide(request: decision_pb2.DecideRequest, _: Any) -> bytes:
        found = loop.create_future()
        key = keys.timeline("main", request.customer.customer_id)
        line.ask(packed("GET", key), found.set_result)
        assert isinstance(await found, bytes)
        return answer

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                "rapport.v1.DecisionService",
                {
                    "Decide": grpc.unary_unary_rpc_method_handler(
                        decide,
                        request_deserializer=decision_pb2.DecideRequest.FromString,
                        response_serializer=bytes,
                    )
                },
            )
        ]
    )
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    server.add_insecure_port(address)
    await server.start()
    gc.collect()
    gc.freeze()  # as the server that it is compared with
    await health.set("", health_pb2.HealthCheckResponse.SERVING)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_bytes()))
