"""What somebody who means harm, or has a broken clock, tried once."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from features.duration import DAY, MINUTE
from rapport.v1 import customer_pb2, decision_pb2, event_pb2
from tests.integration.serving import (
    Client,
    Status,
    event,
    flushed,
    key,
    named,
    now,
    shown,
    somebody,
    stamp,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_withdrawal_wins_over_a_grant_that_is_dated_ahead(client: Client) -> None:
    customer = somebody()
    grant = customer_pb2.Consent(purpose="marketing", granted=True)
    await client.update(customer, consents=[grant], updated_at=stamp(now() + 4 * MINUTE))
    profile = await client.consent(customer, granted=False)
    assert [one.granted for one in profile.consents] == [False]


async def test_what_no_field_declares_is_not_kept(client: Client) -> None:
    customer = somebody()
    request = decision_pb2.DecideRequest(customer=key(customer), channel="phone")
    swollen = decision_pb2.DecideRequest.FromString(
        request.SerializeToString() + b"\xfa\x3f\x90\x4e" + b"x" * 10_000  # field 1,023
    )
    assert swollen.ByteSize() > 10_000
    await client.decisions.Decide(swollen, timeout=5)
    await flushed(client)
    entry = (await client.log(customer))[-1]
    assert entry.decision.request.ByteSize() < 100


async def test_nobody_takes_the_place_of_an_outcome_before_it_comes(client: Client) -> None:
    answer = await client.decide(somebody())
    action = shown(answer)[0]
    forged = event(
        somebody(),
        source=f"outcome/{answer.decision_id}",
        event_id=f"{action}/OUTCOME_PRESENTED",
    )
    assert await client.record(forged) == [Status.STATUS_INVALID]
    done = await client.outcome(answer.decision_id, action, event_pb2.OUTCOME_PRESENTED)
    assert done == Status.STATUS_STORED


async def test_an_outcome_does_not_lie_before_its_decision(client: Client) -> None:
    answer = await client.decide(somebody())
    with pytest.raises(grpc.aio.AioRpcError, match="before the decision"):
        await client.outcome(
            answer.decision_id,
            shown(answer)[0],
            event_pb2.OUTCOME_PRESENTED,
            occurred_at=stamp(now() - 29 * DAY),
        )


async def test_an_erased_event_sent_again_does_not_bring_the_identifier_back(
    client: Client,
) -> None:
    phone = f"+31{now()}"
    sent = event(named("phone", phone), event_id="once", occurred_at=stamp(now() - MINUTE))
    assert await client.record(sent) == [Status.STATUS_STORED]
    whose = (await client.customers.GetProfile(
        customer_pb2.GetProfileRequest(customer=named("phone", phone))
    )).profile.customer_id  # fmt: skip
    await client.customers.ForgetCustomer(customer_pb2.ForgetCustomerRequest(customer_id=whose))
    assert await client.record(sent) == [Status.STATUS_ERASED]
    assert [one.WhichOneof("entry") for one in await client.log(whose)] == ["erased"]
    assert await client.store.resolve([("phone", phone.removeprefix("+"))]) == [None]


async def test_what_is_told_by_an_identifier_ties_it_to_its_customer(client: Client) -> None:
    phone = f"+32{now()}"
    withdrawn = customer_pb2.UpdateProfileRequest(
        customer=named("phone", phone),
        consents=[customer_pb2.Consent(purpose="marketing", granted=False)],
    )
    customer = somebody()
    await client.consent(customer)
    await client.customers.UpdateProfile(withdrawn)
    linked = await client.customers.LinkIdentity(
        customer_pb2.LinkIdentityRequest(
            identifier=event_pb2.Identifier(namespace="phone", value=phone), customer_id=customer
        )
    )
    assert linked.status == customer_pb2.LinkIdentityResponse.STATUS_MERGED
    asked = customer_pb2.GetProfileRequest(customer=key(customer))
    found = (await client.customers.GetProfile(asked)).profile
    assert [one.granted for one in found.consents] == [False]


async def test_decisions_taken_while_a_customer_is_forgotten_are_not_kept(
    client: Client,
) -> None:
    customers = [somebody() for _ in range(20)]
    for customer in customers:
        await client.record(event(customer))

    async def rush(customer: str) -> None:
        forgotten = client.customers.ForgetCustomer(
            customer_pb2.ForgetCustomerRequest(customer_id=customer)
        )
        decisions = [client.decide(customer) for _ in range(4)]
        await asyncio.gather(*decisions, forgotten)

    await asyncio.gather(*(rush(customer) for customer in customers))
    await flushed(client)
    for customer in customers:
        kinds = [one.WhichOneof("entry") for one in await client.log(customer)]
        assert kinds == ["erased"]
