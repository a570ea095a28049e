"""A server in this process, a client for it, and what both are made of."""

from __future__ import annotations

import asyncio
import atexit
import datetime
import functools
import gc
import hashlib
import json
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import msgspec
from google.protobuf import struct_pb2, timestamp_pb2
from google.rpc import error_details_pb2, status_pb2
from redis.asyncio import Redis

from features.duration import HOUR
from rapport.v1 import (
    admin_pb2_grpc,
    customer_pb2,
    customer_pb2_grpc,
    decision_pb2,
    decision_pb2_grpc,
    event_pb2,
    log_pb2,
)
from service import keys
from service.bundle import Bundle
from service.business import Business, load
from service.declared import ControlGroups
from service.job import Settings
from service.redis_store import RedisStore
from service.server import Server
from service.workshop import Workshop
from training import simulate, workflow

CONFIG = Path(__file__).parents[2] / "config"

Status = decision_pb2.EventResult

_SETTINGS = {"listen": "127.0.0.1:0", "grace": 2.0, "greedy": True}


@functools.cache
def business() -> Business:
    """The sample bank, nobody in a control group: customers of tests are made up as they go."""
    bank = load(CONFIG)
    policies = msgspec.structs.replace(bank.policies, control=ControlGroups())
    return msgspec.structs.replace(bank, policies=policies)


@functools.cache
def sealed() -> Bundle:
    """A bundle of tiny models for the sample bank."""
    with tempfile.TemporaryDirectory() as folder:
        simulate.simulate(
            business(),
            Path(folder),
            customers=80,
            days=60,
            seed=1,
            end=datetime.datetime.now(datetime.UTC),
            progress=lambda done, of: None,
        )
        return workflow.fit(
            Path(folder), business(), workflow.targets(CONFIG), lambda name, done, of: None
        )


@functools.cache
def workshop() -> Workshop:
    """One for all servers of these tests: it takes a second to start."""
    shared = Workshop()
    atexit.register(shared.close)
    atexit.register(gc.unfreeze)  # what was made to stay, so that it ends in order
    return shared


async def until(done: Callable[[], bool | Awaitable[bool]], seconds: float = 5.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while True:
        found = done()
        if found if isinstance(found, bool) else await found:
            return
        assert time.monotonic() < end, "it never came"
        await asyncio.sleep(0.005)


async def flushed(client: Client, seconds: float = 10.0) -> None:
    """Wait until every decision is in the log."""
    await until(lambda: not client.server.journal.pending, seconds)


def now() -> int:
    return time.time_ns() // 1_000_000


def stamp(ms: int) -> timestamp_pb2.Timestamp:
    return timestamp_pb2.Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


def moment(written: timestamp_pb2.Timestamp) -> int:
    return written.seconds * 1000 + written.nanos // 1_000_000


def somebody() -> str:
    """A customer that nobody has heard of."""
    return f"somebody-{uuid.uuid4().hex}"


def key(customer: str) -> event_pb2.CustomerKey:
    return event_pb2.CustomerKey(customer_id=customer)


def named(namespace: str, value: str) -> event_pb2.CustomerKey:
    return event_pb2.CustomerKey(identifier=event_pb2.Identifier(namespace=namespace, value=value))


def event(whom: str | event_pb2.CustomerKey, **fields: Any) -> event_pb2.Event:
    """A good event of an hour ago, but for the fields that are given."""
    sound = {
        "event_id": uuid.uuid4().hex,
        "source": "test",
        "customer": key(whom) if isinstance(whom, str) else whom,
        "occurred_at": stamp(now() - HOUR),
        "type": "page_viewed",
        "channel": "web",
    }
    return event_pb2.Event(**{**sound, **fields})


def value(plain: float | bool | str | None) -> struct_pb2.Value:
    if plain is None:
        return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
    if isinstance(plain, bool):
        return struct_pb2.Value(bool_value=plain)
    if isinstance(plain, str):
        return struct_pb2.Value(string_value=plain)
    return struct_pb2.Value(number_value=plain)


def violations(error: grpc.aio.AioRpcError) -> dict[str, str]:
    """The field violations in the details of an error, as any client decodes them."""
    trailing = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(bytes(trailing["grpc-status-details-bin"]))
    assert status.code == error.code().value[0]
    bad = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(bad)
    return {one.field: one.description for one in bad.field_violations}


def codes(answer: decision_pb2.DecideResponse) -> list[str]:
    """Codes of the advisories."""
    return [one.code for one in answer.advisories]


def shown(answer: decision_pb2.DecideResponse) -> list[str]:
    """All actions of an answer."""
    return [one.action for slate in answer.slates for one in slate.recommendations]


def drops(answer: decision_pb2.DecideResponse) -> dict[str, str]:
    """Why each action of the trace is not in the answer; empty for those that are."""
    return {one.action: one.reason.code for one in answer.trace}


def callers_file(folder: Path, scopes: Mapping[str, Iterable[str]]) -> Path:
    """A file of callers whose tokens are ``NAME-token``."""
    declared = {
        name: {
            "token_sha256": hashlib.sha256(f"{name}-token".encode()).hexdigest(),
            "scopes": list(some),
            "sources": ["test"],
        }
        for name, some in scopes.items()
    }
    path = folder / "callers.yaml"
    path.write_text(json.dumps({"callers": declared}))
    return path


class Client:
    """The stubs of a server, with the server itself for looking inside."""

    def __init__(self, server: Server, store: RedisStore, url: str, target: str) -> None:
        self.server, self.store, self.url, self.target = server, store, url, target
        self.channel = grpc.aio.insecure_channel(target)
        self.decisions = decision_pb2_grpc.DecisionServiceStub(self.channel)
        self.customers = customer_pb2_grpc.CustomerServiceStub(self.channel)
        self.admin = admin_pb2_grpc.AdminServiceStub(self.channel)

    async def decide(
        self, customer: str | event_pb2.CustomerKey, channel: str = "phone", **fields: Any
    ) -> decision_pb2.DecideResponse:
        whom = key(customer) if isinstance(customer, str) else customer
        timeout = fields.pop("timeout", 5)
        fields = {"assurance": decision_pb2.ASSURANCE_VERIFIED, "include_trace": True, **fields}
        request = decision_pb2.DecideRequest(customer=whom, channel=channel, **fields)
        return await self.decisions.Decide(request, timeout=timeout)

    async def record(self, *events: event_pb2.Event) -> list[int]:
        answer = await self.decisions.RecordEvents(
            decision_pb2.RecordEventsRequest(events=events), timeout=10
        )
        return [one.status for one in answer.results]

    async def outcome(self, decision_id: str, action: str, outcome: int, **fields: Any) -> int:
        answer = await self.decisions.RecordOutcome(
            decision_pb2.RecordOutcomeRequest(
                decision_id=decision_id,
                action=action,
                outcome=outcome,  # type: ignore[arg-type]
                **fields,
            ),
            timeout=5,
        )
        return answer.status

    async def update(
        self, customer: str, attributes: Mapping[str, Any] | None = None, **fields: Any
    ) -> customer_pb2.Profile:
        told = {name: value(plain) for name, plain in (attributes or {}).items()}
        answer = await self.customers.UpdateProfile(
            customer_pb2.UpdateProfileRequest(customer=key(customer), attributes=told, **fields),
            timeout=10,
        )
        return answer.profile

    async def consent(
        self, customer: str, granted: bool = True, purpose: str = "marketing", channel: str = ""
    ) -> customer_pb2.Profile:
        return await self.update(
            customer,
            consents=[customer_pb2.Consent(purpose=purpose, channel=channel, granted=granted)],
        )

    async def timeline(self, customer: str, **fields: Any) -> customer_pb2.GetTimelineResponse:
        return await self.customers.GetTimeline(
            customer_pb2.GetTimelineRequest(customer=key(customer), **fields), timeout=5
        )

    async def log(self, customer: str) -> list[log_pb2.LogEntry]:
        """What the store's log holds of a customer, oldest first."""
        stream = keys.log_of(self.store.tenant, customer)
        async with Redis.from_url(self.url) as redis:
            found: Any = await redis.xrange(stream)
        entries = [log_pb2.LogEntry.FromString(fields[b"e"]) for _, fields in found]
        return [one for one in entries if one.customer_id == customer]


def token(name: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {name}-token"),)


@asynccontextmanager
async def serving(
    url: str,
    *,
    tenant: str | None = None,
    bundle: Bundle | None = None,
    of: Business | None = None,
    changed: Callable[[], None] = lambda: None,
    **settings: Any,
) -> AsyncIterator[Client]:
    """Serve on a free port of loopback; each server has a tenant of its own unless it is named.

    Nothing is left to chance unless ``greedy=False`` is passed.
    """
    tenant = tenant or uuid.uuid4().hex
    known = of or business()
    store = RedisStore(url, tenant=tenant, horizon=known.ledger_window_ms, keep=known.ledger_keep)
    server = Server(
        known,
        store,
        Settings(**{**_SETTINGS, "tenant": tenant, **settings}),
        changed,
        workshop(),
    )
    thresholds = gc.get_threshold()
    await server.start()
    client = Client(server, store, url, f"127.0.0.1:{server.port}")
    try:
        if bundle is not None:
            await server.registry.adopt(bundle)
        yield client
    finally:
        await client.channel.close()
        await server.stop()
        gc.unfreeze()  # a server freezes what it loaded; this process goes on
        gc.set_threshold(*thresholds)
