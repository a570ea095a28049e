"""The floor: the least that a server can do and still have read a customer.

grpc.aio + uvloop, one coalesced GET of a timeline, a fixed answer. Run as
``python -m tests.bench.floor ADDRESS STORE_URL ANSWER_FILE``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import uvloop
from redis.asyncio import Redis

from rapport.v1 import decision_pb2
from service import keys
from tests.bench.coalesce import Coalescer


async def serve(address: str, url: str, answer: bytes) -> None:
    """Answer every Decide with the same bytes after one read."""
    redis: Any = Redis.from_url(url)

    async def fetch(customers: Sequence[str]) -> list[bytes | None]:
        async with redis.pipeline(transaction=False) as pipeline:
            for customer in customers:
                pipeline.get(keys.timeline("main", customer))
            found: list[bytes | None] = await pipeline.execute()
            return found

    read = Coalescer(fetch)

    async def decide(request: decision_pb2.DecideRequest, _: Any) -> bytes:
        stored = await read(request.customer.customer_id)
        assert stored
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
    server.add_insecure_port(address)
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_bytes()))
