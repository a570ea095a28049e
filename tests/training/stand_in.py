"""A server that stores like the real one, in memory, and fails as it is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from rapport.v1 import customer_pb2, customer_pb2_grpc, decision_pb2, decision_pb2_grpc, event_pb2

Status = decision_pb2.EventResult


class Server(decision_pb2_grpc.DecisionServiceServicer, customer_pb2_grpc.CustomerServiceServicer):
    """Stores events like the real one, and fails as it is told."""

    def __init__(self) -> None:
        self.target = ""
        self.stored: dict[str, event_pb2.Event] = {}
        self.log: list[str] = []
        self.profiles: dict[str, customer_pb2.Profile] = {}
        self.meanwhile: list[tuple[float, int]] = []  # what others tell of a profile, and of when
        self.tokens: set[Any] = set()
        self.fails: list[grpc.StatusCode] = []  # whole calls, first
        self.loses: Counter[str] = Counter()  # times that an event is answered UNAVAILABLE
        self.calls = self.busy = self.most_busy = self.largest = 0

    async def RecordEvents(
        self, request: decision_pb2.RecordEventsRequest, context: Any
    ) -> decision_pb2.RecordEventsResponse:
        self.calls += 1
        self.largest = max(self.largest, len(request.events))
        self.tokens |= {
            value for key, value in context.invocation_metadata() if key == "authorization"
        }
        if self.fails:
            await context.abort(self.fails.pop(0), "told to")
        self.busy += 1
        self.most_busy = max(self.busy, self.most_busy)
        await asyncio.sleep(0.002)
        self.busy -= 1
        return decision_pb2.RecordEventsResponse(results=map(self.store, request.events))

    def store(self, event: event_pb2.Event) -> decision_pb2.EventResult:
        if self.loses[event.event_id] > 0:
            self.loses[event.event_id] -= 1
            return Status(status=Status.STATUS_UNAVAILABLE)
        if event.skill == "bad":
            why = decision_pb2.Violation(
                field="events[3].skill", description="'bad' is bad; mend it"
            )
            return Status(status=Status.STATUS_INVALID, violation=why)
        if event.skill == "old":
            return Status(status=Status.STATUS_TOO_OLD_FOR_TIMELINE)
        if event.skill == "gone":
            return Status(status=Status.STATUS_ERASED)
        known = self.stored.setdefault(event.event_id, event)
        self.log.append(event.customer.customer_id)
        if known is event:
            return Status(status=Status.STATUS_STORED)
        same = known == event
        return Status(status=Status.STATUS_DUPLICATE if same else Status.STATUS_CONFLICT)

    async def GetProfile(
        self, request: customer_pb2.GetProfileRequest, context: Any
    ) -> customer_pb2.GetProfileResponse:
        return customer_pb2.GetProfileResponse(profile=self.profile(request.customer.customer_id))

    async def UpdateProfile(
        self, request: customer_pb2.UpdateProfileRequest, context: Any
    ) -> customer_pb2.UpdateProfileResponse:
        customer, value = request.customer.customer_id, request.attributes["income"]
        await asyncio.sleep(0.02 / (1 + abs(value.number_value)))  # an older one takes longer
        if value.number_value < 0:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "income below 0")
        if self.meanwhile:
            self.told(customer, *self.meanwhile.pop(0))
        if request.expected_version != self.profile(customer).version:
            await context.abort(grpc.StatusCode.ABORTED, "the profile changed")
        self.told(customer, value.number_value, request.updated_at.ToSeconds())
        return customer_pb2.UpdateProfileResponse(profile=self.profile(customer))

    def profile(self, customer: str) -> customer_pb2.Profile:
        return self.profiles.setdefault(customer, customer_pb2.Profile())

    def told(self, customer: str, income: float, second: int) -> None:
        self.log.append(f"{customer}={income:g}@{second}")
        profile = self.profile(customer)
        profile.version = f"{len(self.log)}-0"
        profile.attributes["income"].value.number_value = income
        profile.attributes["income"].updated_at.FromSeconds(second)


@asynccontextmanager
async def running() -> AsyncIterator[Server]:
    service = Server()  # type: ignore[abstract]
    server = grpc.aio.server()
    decision_pb2_grpc.add_DecisionServiceServicer_to_server(service, server)
    customer_pb2_grpc.add_CustomerServiceServicer_to_server(service, server)
    service.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield service
    finally:
        await server.stop(None)
