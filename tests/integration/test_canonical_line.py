"""One line a call, in which nobody is recognised."""

from __future__ import annotations

import asyncio
import io
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
import structlog
from google.protobuf import duration_pb2

from rapport.v1 import admin_pb2, customer_pb2, decision_pb2, event_pb2
from service import logs
from service.bundle import Bundle
from tests.integration.serving import (
    Client,
    event,
    key,
    named,
    serving,
    shown,
    somebody,
    until,
    value,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRETS = ("Zebra-77", "0612399881", "zebra@example.org", "914.25", "my card was stolen")


class Line(io.StringIO):
    """Keeps what is written, also when the log closes."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def written() -> AsyncIterator[Line]:
    output = Line()
    before = structlog.get_config()
    writer = logs.configure(output)
    yield output
    writer.close()
    structlog.configure(**before)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def logged(written: Line, url: str, bundle: Bundle) -> AsyncIterator[Client]:
    async with serving(url, bundle=bundle) as client:
        yield client


async def lines(written: Line, request_id: str) -> list[dict[str, Any]]:
    """The lines of a call, when its turn has come; more than one would follow at once."""
    await until(lambda: request_id in written.getvalue())
    await asyncio.sleep(0.08)
    read = [json.loads(one) for one in written.getvalue().splitlines()]
    return [one for one in read if one.get("request_id") == request_id]


CALLS: dict[str, tuple[str, Any, str]] = {
    "a decision": (
        "Decide",
        decision_pb2.DecideRequest(
            customer=key("Zebra-77"),
            channel="phone",
            agent_id="Zebra-77",
            utterance="my card was stolen",
            context={"wait_seconds": value(914.25)},
        ),
        "OK",
    ),
    "a decision by identifier": (
        "Decide",
        decision_pb2.DecideRequest(customer=named("phone", "0612399881"), channel="ivr"),
        "OK",
    ),
    "a wrong decision": (
        "Decide",
        decision_pb2.DecideRequest(customer=key("Zebra-77"), channel="Zebra-77"),
        "INVALID_ARGUMENT",
    ),
    "events": (
        "RecordEvents",
        decision_pb2.RecordEventsRequest(
            events=[
                event("Zebra-77", value=914.25, attributes={"note": "my card was stolen"}),
                event(named("email", "zebra@example.org")),
                event("Zebra-77", type="Zebra-77"),
            ]
        ),
        "OK",
    ),
    "an outcome of nothing": (
        "RecordOutcome",
        decision_pb2.RecordOutcomeRequest(decision_id="0" * 25, outcome=event_pb2.OUTCOME_ACCEPTED),
        "OK",
    ),
    "an explanation of nothing": (
        "Explain",
        decision_pb2.ExplainRequest(decision_id="0" * 25),
        "NOT_FOUND",
    ),
    "a timeline": ("GetTimeline", customer_pb2.GetTimelineRequest(customer=key("Zebra-77")), "OK"),
    "a profile": ("GetProfile", customer_pb2.GetProfileRequest(customer=key("Zebra-77")), "OK"),
    "a change": (
        "UpdateProfile",
        customer_pb2.UpdateProfileRequest(
            customer=key("Zebra-77"), attributes={"balance": value(914.25)}
        ),
        "OK",
    ),
    "a stale change": (
        "UpdateProfile",
        customer_pb2.UpdateProfileRequest(
            customer=key("Zebra-77"),
            attributes={"balance": value(914.25)},
            expected_version="1-1",
        ),
        "ABORTED",
    ),
    "a link": (
        "LinkIdentity",
        customer_pb2.LinkIdentityRequest(
            identifier=event_pb2.Identifier(namespace="email", value="zebra@example.org"),
            customer_id="Zebra-77",
        ),
        "OK",
    ),
    "a customer to forget": (
        "ForgetCustomer",
        customer_pb2.ForgetCustomerRequest(customer_id="Zebra-77"),
        "OK",
    ),
    "a list of models": ("ListModels", admin_pb2.ListModelsRequest(), "OK"),
    "a model of nobody": (
        "ActivateModel",
        admin_pb2.ActivateModelRequest(version="none"),
        "NOT_FOUND",
    ),
    "a status": ("GetStatus", admin_pb2.GetStatusRequest(), "OK"),
}


@pytest.mark.parametrize("call", CALLS)
async def test_there_is_one_line_a_call_and_nobody_is_recognised_in_it(
    logged: Client, written: Line, call: str
) -> None:
    method, request, status = CALLS[call]
    request_id = uuid.uuid4().hex
    stubs = (logged.decisions, logged.customers, logged.admin)
    stub = next(getattr(one, method) for one in stubs if hasattr(one, method))
    made: Any = stub(request, metadata=(("x-request-id", request_id),))
    assert (await made.code()).name == status
    if status != "OK":
        assert dict(await made.trailing_metadata())["x-request-id"] == request_id
    (line,) = await lines(written, request_id)
    assert line["event"] == "call"
    assert (line["method"], line["status"], line["caller"]) == (method, status, "local")
    assert 0 < line["ms"] < 10_000
    assert line["timestamp"]
    for secret in SECRETS:
        assert secret not in json.dumps(line)


async def test_a_customer_is_one_hash_throughout(logged: Client, written: Line) -> None:
    customer = somebody()
    ids = [uuid.uuid4().hex for _ in range(2)]
    request = decision_pb2.DecideRequest(customer=key(customer), channel="phone")
    await logged.decisions.Decide(request, metadata=(("x-request-id", ids[0]),))
    profile = customer_pb2.GetProfileRequest(customer=key(customer))
    await logged.customers.GetProfile(profile, metadata=(("x-request-id", ids[1]),))
    ((first,), (second,)) = [await lines(written, one) for one in ids]
    assert first["customer"] == second["customer"] == logs.masked(customer)
    assert first["rung"] == "RUNG_FULL"
    assert first["advisories"] == ["NEW_CUSTOMER"]


async def test_a_call_without_an_id_gets_one(logged: Client, written: Line) -> None:
    before = len(written.getvalue().splitlines())
    await logged.timeline(somebody())
    await until(lambda: len(written.getvalue().splitlines()) > before)
    line = json.loads(written.getvalue().splitlines()[-1])
    assert len(line["request_id"]) == 32


async def test_a_call_that_its_caller_gave_up_is_not_told_to_be_fine(
    logged: Client, written: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(names: object) -> list[str | None]:
        await asyncio.sleep(30)
        return []

    monkeypatch.setattr(logged.store, "resolve", never)
    request_id = uuid.uuid4().hex
    request = customer_pb2.GetProfileRequest(customer=named("phone", "1"))
    with pytest.raises(grpc.aio.AioRpcError):
        await logged.customers.GetProfile(
            request, timeout=0.05, metadata=(("x-request-id", request_id),)
        )
    (line,) = await lines(written, request_id)
    assert line["status"] == "CANCELLED"


async def test_an_unexpected_error_tells_the_caller_its_id_and_nothing_else(
    logged: Client, written: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(customer: str) -> None:
        raise RuntimeError("the plumbing")

    monkeypatch.setattr(logged.store, "read", broken)
    request_id = uuid.uuid4().hex
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await logged.customers.GetProfile(
            customer_pb2.GetProfileRequest(customer=key("Zebra-77")),
            metadata=(("x-request-id", request_id),),
        )
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert request_id in (caught.value.details() or "")
    assert "plumbing" not in (caught.value.details() or "")
    unexpected, call = await lines(written, request_id)
    assert (unexpected["event"], unexpected["level"]) == ("unexpected", "error")
    assert "RuntimeError: the plumbing" in unexpected["exception"]
    assert (call["event"], call["status"]) == ("call", "INTERNAL")


async def test_an_outcome_is_named_and_its_worth_is_not(logged: Client, written: Line) -> None:
    answer = await logged.decide(somebody())
    request_id = uuid.uuid4().hex
    await logged.decisions.RecordOutcome(
        decision_pb2.RecordOutcomeRequest(
            decision_id=answer.decision_id,
            action=shown(answer)[0],
            outcome=event_pb2.OUTCOME_CONVERTED,
            value=914.25,
        ),
        metadata=(("x-request-id", request_id),),
    )
    (line,) = await lines(written, request_id)
    assert (line["outcome"], line["stored"]) == ("OUTCOME_CONVERTED", "STATUS_STORED")
    assert "914.25" not in json.dumps(line)


async def test_nothing_that_was_said_of_a_contact_is_in_the_whole_log(
    logged: Client, written: Line
) -> None:
    await logged.record(
        event(
            "Zebra-77",
            agent_id="agent-zebra",
            interaction_id="zebra-call",
            duration=duration_pb2.Duration(seconds=4321),
        )
    )
    await asyncio.sleep(0.05)
    for secret in (*SECRETS, "agent-zebra", "zebra-call", "4321,"):
        assert secret not in written.getvalue()
