"""Newcomers, identifiers, and whom they lead to."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from rapport.v1 import customer_pb2, decision_pb2, event_pb2
from tests.integration.serving import (
    Client,
    Status,
    business,
    codes,
    event,
    named,
    shown,
    somebody,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

Link = customer_pb2.LinkIdentityResponse


def number() -> str:
    """A phone number of nobody's."""
    return f"+31 {uuid.uuid4().int % 10**9:09d}"


async def link(client: Client, namespace: str, written: str, customer: str) -> tuple[int, str]:
    answer = await client.customers.LinkIdentity(
        customer_pb2.LinkIdentityRequest(
            identifier=event_pb2.Identifier(namespace=namespace, value=written),
            customer_id=customer,
        )
    )
    return answer.status, answer.customer_id


async def test_a_customer_never_seen_before_is_answered_from_what_is_usual_and_told_so(
    client: Client,
) -> None:
    answer = await client.decide(somebody())
    assert "NEW_CUSTOMER" in codes(answer)
    assert answer.read.events == 0
    assert not answer.read.timeline
    assert len(shown(answer)) == 3
    assert all(business().by_name[name].purpose is None for name in shown(answer))


async def test_a_customer_with_an_event_is_not_told_to_be_new(client: Client) -> None:
    customer = somebody()
    await client.record(event(customer))
    answer = await client.decide(customer)
    assert "NEW_CUSTOMER" not in codes(answer)
    assert answer.read.events == 1
    assert answer.read.timeline


async def test_an_identifier_of_nobody_is_answered_as_a_newcomer(client: Client) -> None:
    answer = await client.decide(named("phone", number()), "ivr")
    assert "NEW_CUSTOMER" in codes(answer)
    assert shown(answer)


async def test_events_recorded_by_an_identifier_are_seen_by_a_decision_by_that_identifier(
    client: Client,
) -> None:
    written = number()
    assert (
        await client.record(event(named("phone", written)), event(named("phone", written)))
        == [Status.STATUS_STORED] * 2
    )
    spelt = written.replace(" ", "-").replace("+", "00 ")
    answer = await client.decide(named("phone", spelt), "ivr")
    assert answer.read.events == 2


async def test_an_identifier_leads_to_the_customer_it_is_linked_to(client: Client) -> None:
    customer, written = somebody(), f"  {uuid.uuid4().hex.upper()}@Example.org "
    await client.record(event(customer))
    assert await link(client, "email", written, customer) == (Link.STATUS_LINKED, customer)
    answer = await client.decide(named("email", written.strip().lower()), "chat")
    assert answer.read.events == 1
    assert await client.record(event(named("email", written))) == [Status.STATUS_STORED]
    assert (await client.timeline(customer)).total == 2


async def test_linking_again_changes_nothing_and_says_so(client: Client) -> None:
    customer, written = somebody(), number()
    await link(client, "phone", written, customer)
    logged = len(await client.log(customer))
    assert await link(client, "phone", written, customer) == (Link.STATUS_ALREADY_LINKED, customer)
    assert len(await client.log(customer)) == logged


async def test_an_identifier_of_somebody_else_is_ambiguous_and_stays_theirs(
    client: Client,
) -> None:
    first, second, written = somebody(), somebody(), number()
    await link(client, "phone", written, first)
    assert await link(client, "phone", written, second) == (Link.STATUS_AMBIGUOUS, first)
    await client.record(event(named("phone", written)))
    assert (await client.timeline(first)).total == 1
    assert (await client.timeline(second)).total == 0


async def test_of_many_who_link_an_identifier_at_once_one_is_told_that_it_did(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    customers, written = [somebody() for _ in range(8)], number()
    all_asked = asyncio.Barrier(8)

    async def resolve(names: list[tuple[str, str]]) -> list[str | None]:
        await all_asked.wait()
        return [None]

    with monkeypatch.context() as patch:
        patch.setattr(client.store, "resolve", resolve)
        answers = await asyncio.gather(*(link(client, "phone", written, one) for one in customers))
    statuses = sorted(status for status, _ in answers)
    assert statuses == [Link.STATUS_LINKED] + [Link.STATUS_AMBIGUOUS] * 7
    (winner,) = {customer for _, customer in answers}
    assert await link(client, "phone", written, winner) == (Link.STATUS_ALREADY_LINKED, winner)


async def test_the_same_value_in_two_namespaces_names_two_customers(client: Client) -> None:
    first, second, written = somebody(), somebody(), uuid.uuid4().hex
    assert (await link(client, "email", written, first))[0] == Link.STATUS_LINKED
    assert (await link(client, "account", written, second))[0] == Link.STATUS_LINKED


async def test_one_batch_may_be_about_many_customers_and_identifiers(client: Client) -> None:
    customer, written = somebody(), number()
    batch = [
        event(customer, event_id="1"),
        event(named("phone", written), event_id="1"),
        event(customer, event_id="2"),
        event(named("phone", written), event_id="1", type="login"),
        event(customer, event_id="1", type="login"),
    ]
    batch[2].CopyFrom(batch[0])
    assert await client.record(*batch) == [
        Status.STATUS_STORED,
        Status.STATUS_STORED,
        Status.STATUS_DUPLICATE,
        Status.STATUS_CONFLICT,
        Status.STATUS_CONFLICT,
    ]


async def test_events_by_identifier_are_logged_under_their_customer(client: Client) -> None:
    customer, written = somebody(), number()
    await link(client, "phone", written, customer)
    await client.record(event(named("phone", written), event_id="known"))
    kinds = [one.WhichOneof("entry") for one in await client.log(customer)]
    assert kinds == ["identity", "event"]


async def test_an_outcome_finds_a_customer_that_was_named_by_identifier(client: Client) -> None:
    answer = await client.decide(named("phone", number()), "ivr")
    action = shown(answer)[0]
    answered = await client.decisions.RecordOutcome(
        decision_pb2.RecordOutcomeRequest(
            decision_id=answer.decision_id,
            action=action,
            outcome=event_pb2.OUTCOME_PRESENTED,
        )
    )
    assert (await client.timeline(answered.customer_id)).total == 1
