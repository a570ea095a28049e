"""What is known of a customer: read, corrected, paged through, forgotten."""

from __future__ import annotations

import asyncio
import uuid

import grpc
import pytest
from google.protobuf import field_mask_pb2
from redis.asyncio import Redis

from features.duration import DAY, HOUR, MINUTE
from features.partition import partition
from features.record import LogId
from rapport.v1 import customer_pb2, decision_pb2, event_pb2
from service import keys
from tests.integration.serving import (
    Client,
    Status,
    business,
    codes,
    event,
    flushed,
    key,
    moment,
    named,
    now,
    shown,
    somebody,
    stamp,
    value,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

Attribute = customer_pb2.Attribute


async def profile(client: Client, customer: str) -> customer_pb2.Profile:
    request = customer_pb2.GetProfileRequest(customer=key(customer))
    return (await client.customers.GetProfile(request)).profile


async def test_every_declared_attribute_of_a_newcomer_is_unknown(client: Client) -> None:
    found = await profile(client, somebody())
    assert set(found.attributes) == set(business().vocabulary.attributes)
    for attribute in found.attributes.values():
        assert attribute.state == Attribute.STATE_UNKNOWN
        assert not attribute.HasField("value")
        assert not attribute.HasField("updated_at")
    assert not found.version
    assert not found.consents


async def test_known_missing_stale_and_unknown_are_kept_apart(client: Client) -> None:
    customer = somebody()
    await client.update(customer, {"balance": 12.5}, updated_at=stamp(now() - 46 * DAY))
    await client.update(customer, {"age": 44.0, "has_mortgage": None, "segment": "family"})
    found = await profile(client, customer)
    states = {name: one.state for name, one in found.attributes.items()}
    assert states["age"] == states["segment"] == Attribute.STATE_KNOWN
    assert states["balance"] == Attribute.STATE_STALE
    assert states["has_mortgage"] == Attribute.STATE_MISSING
    assert states["products"] == Attribute.STATE_UNKNOWN
    assert found.attributes["balance"].value == value(12.5)
    assert not found.attributes["has_mortgage"].HasField("value")
    assert found.attributes["has_mortgage"].HasField("updated_at")
    answer = await client.decide(customer, include_features=True)
    seen = dict(zip(answer.features.names, answer.features.values, strict=True))
    assert (seen["age"], seen["balance"], seen["balance_state"]) == (44.0, 12.5, 1.0)


async def test_just_the_fields_that_the_mask_names_change(client: Client) -> None:
    customer = somebody()
    await client.update(customer, {"age": 30.0, "products": 2.0})
    changed = await client.update(
        customer,
        {"age": 31.0, "products": 3.0},
        consents=[customer_pb2.Consent(purpose="marketing", granted=True)],
        update_mask=field_mask_pb2.FieldMask(paths=["attributes.age", "attributes.digital"]),
    )
    assert changed.attributes["age"].value == value(31.0)
    assert changed.attributes["products"].value == value(2.0)
    assert changed.attributes["digital"].state == Attribute.STATE_MISSING
    assert not changed.consents
    assert changed == await profile(client, customer)


async def test_a_profile_that_has_changed_since_it_was_read_is_not_overwritten(
    client: Client,
) -> None:
    customer = somebody()
    first = await client.update(customer, {"age": 30.0})
    second = await client.update(customer, {"age": 31.0}, expected_version=first.version)
    assert second.version != first.version
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.update(customer, {"age": 32.0}, expected_version=first.version)
    assert caught.value.code() == grpc.StatusCode.ABORTED
    assert second.version in (caught.value.details() or "")
    assert (await profile(client, customer)).attributes["age"].value == value(31.0)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.update(somebody(), {"age": 32.0}, expected_version=first.version)
    assert caught.value.code() == grpc.StatusCode.ABORTED


async def test_many_changes_at_once_all_survive(client: Client) -> None:
    customer = somebody()
    attributes: dict[str, float | bool | str | None] = {
        "age": 50.0, "segment": "senior", "customer_since_days": 9.0, "value_tier": "plus",
        "has_mortgage": True, "balance": 7.0, "digital": False, "products": 4.0,
        "household": "couple", "in_arrears": None, "time_zone": "Europe/Amsterdam",
    }  # fmt: skip
    channels = list(business().vocabulary.channels)[:5]
    await asyncio.gather(
        *(client.update(customer, {name: one}) for name, one in attributes.items()),
        *(
            client.consent(customer, purpose=purpose, channel=channel)
            for purpose in ("marketing", "research")
            for channel in channels
        ),
    )
    found = await profile(client, customer)
    assert {
        name: None if one.state == Attribute.STATE_MISSING else one.value
        for name, one in found.attributes.items()
    } == {name: None if one is None else value(one) for name, one in attributes.items()}
    assert len(found.consents) == 10
    assert len(await client.log(customer)) == 21


async def test_history_does_not_undo_the_present(client: Client) -> None:
    customer = somebody()
    await client.update(customer, {"age": 40.0})
    await client.update(customer, {"age": 39.0}, updated_at=stamp(now() - DAY))
    assert (await profile(client, customer)).attributes["age"].value == value(40.0)


async def test_an_unreadable_profile_is_an_error_with_a_name(client: Client) -> None:
    customer = somebody()
    async with Redis.from_url(client.url) as redis:
        await redis.set(keys.profile(client.store.tenant, customer), b"nonsense")
        await redis.set(keys.timeline(client.store.tenant, customer), b"nonsense")
    for call in (
        client.customers.GetProfile(customer_pb2.GetProfileRequest(customer=key(customer))),
        client.update(customer, {"age": 1.0}),
        client.timeline(customer),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() == grpc.StatusCode.DATA_LOSS


async def pages(client: Client, customer: str, **fields: object) -> list[list[str]]:
    """Hashes of the events of every page."""
    found, token = [], ""
    while True:
        page = await client.timeline(customer, page_token=token, **fields)
        found.append([one.event_hash for one in page.events])
        token = page.next_page_token
        if not token:
            return found


@pytest.mark.parametrize("size", [1, 7, 25, 50, 512])
async def test_pages_cover_every_event_once_newest_first(client: Client, size: int) -> None:
    customer = somebody()
    start = now() - HOUR
    some = [event(customer, occurred_at=stamp(start + i // 3), sequence=i % 2) for i in range(50)]
    await client.record(*some)
    found = await pages(client, customer, page_size=size)
    flat = [one for page in found for one in page]
    assert len(flat) == len(set(flat)) == 50
    assert all(len(page) <= size for page in found)
    assert len(found) == -(-50 // size)
    whole = (await client.timeline(customer, page_size=512)).events
    assert flat == [one.event_hash for one in whole]
    order = [(moment(one.occurred_at), one.sequence, int(one.event_hash, 16)) for one in whole]
    assert order == sorted(order, reverse=True)


async def test_pages_miss_and_repeat_nothing_while_new_events_arrive(client: Client) -> None:
    customer = somebody()
    start = now() - DAY
    await client.record(*(event(customer, occurred_at=stamp(start + i)) for i in range(60)))
    old = {one.event_hash for one in (await client.timeline(customer, page_size=512)).events}
    seen, token = list[str](), ""
    for i in range(100):
        page = await client.timeline(customer, page_size=4, page_token=token)
        seen += [one.event_hash for one in page.events]
        token = page.next_page_token
        if not token:
            break
        await client.record(event(customer), event(customer, occurred_at=stamp(now() - i)))
    assert len(seen) == len(set(seen))
    assert set(seen) == old
    assert (await client.timeline(customer)).total > 60


async def test_a_page_size_of_nothing_is_fifty(client: Client) -> None:
    customer = somebody()
    await client.record(*(event(customer) for _ in range(51)))
    page = await client.timeline(customer)
    assert (len(page.events), page.total) == (50, 51)
    assert page.next_page_token


async def test_filters_choose_by_type_channel_and_time(client: Client) -> None:
    customer, noon = somebody(), now() - DAY
    some = [
        event(customer, type=type, channel=channel, occurred_at=stamp(noon + i * MINUTE))
        for i, (type, channel) in enumerate(
            (type, channel) for type in ("login", "payment") for channel in ("web", "app", "")
        )
    ]
    await client.record(*some)

    async def at(**fields: object) -> list[int]:
        found = await client.timeline(customer, **fields)
        assert found.total == 6
        return [(moment(one.occurred_at) - noon) // MINUTE for one in found.events]

    assert await at(types=["login"]) == [2, 1, 0]
    assert await at(channels=["app", "web"]) == [4, 3, 1, 0]
    assert await at(types=["payment"], channels=["web"]) == [3]
    assert await at(since=stamp(noon + 4 * MINUTE)) == [5, 4]
    assert await at(until=stamp(noon + 2 * MINUTE)) == [1, 0]
    assert await at(since=stamp(noon + MINUTE), until=stamp(noon + 3 * MINUTE)) == [2, 1]
    filtered = await pages(client, customer, types=["payment"], page_size=2)
    assert [len(page) for page in filtered] == [2, 1]


async def test_a_timeline_gives_back_what_was_recorded(client: Client) -> None:
    customer = somebody()
    sent = event(
        customer,
        type="contact_resolved",
        channel="chat",
        direction=event_pb2.DIRECTION_OUTBOUND,
        intent="block_card",
        action="callback",
        outcome=event_pb2.OUTCOME_CLICKED,
        value=0.1,
        sentiment=event_pb2.Sentiment(
            score=-0.25,
            subject=event_pb2.Sentiment.SUBJECT_CUSTOMER,
            modality=event_pb2.Sentiment.MODALITY_STATED,
            source="survey-2026",
            basis=event_pb2.Sentiment.BASIS_CONSENT,
        ),
        parent_interaction_id="before",
        sequence=7,
    )
    sent.duration.seconds = 90
    await client.record(sent)
    page = await client.timeline(customer)
    (kept,) = page.events
    assert kept.occurred_at == sent.occurred_at
    assert (kept.type, kept.channel, kept.direction) == (sent.type, sent.channel, sent.direction)
    assert (kept.intent, kept.action, kept.outcome) == (sent.intent, sent.action, sent.outcome)
    assert kept.value == pytest.approx(0.1, rel=1e-6)
    assert (kept.sentiment, kept.duration_seconds, kept.sequence) == (-0.25, 90, 7)
    assert kept.continuation
    assert page.log_id
    await client.record(event(customer))
    bare = (await client.timeline(customer)).events
    absent = next(one for one in bare if one.event_hash != kept.event_hash)
    for field in ("value", "sentiment", "duration_seconds"):
        assert not absent.HasField(field)


async def forget(client: Client, customer: str) -> customer_pb2.ForgetCustomerResponse:
    return await client.customers.ForgetCustomer(
        customer_pb2.ForgetCustomerRequest(customer_id=customer)
    )


async def held(client: Client, customer: str, *others: str) -> list[bytes]:
    """Keys of the store whose names or values hold the customer, the tombstone aside."""
    found = []
    async with Redis.from_url(client.url) as redis:
        async for name in redis.scan_iter(match=f"*{client.store.tenant}*", count=10_000):
            if name.startswith(b"ts1:"):
                continue
            held = name
            if await redis.type(name) == b"string":
                held += await redis.get(name)
            if any(one.encode() in held for one in (customer, *others)):
                found.append(name)
    return found


async def test_forgetting_removes_all_that_is_kept_of_a_customer(client: Client) -> None:
    customer, other, phone = somebody(), somebody(), f"0{uuid.uuid4().int % 10**9}"
    await client.customers.LinkIdentity(
        customer_pb2.LinkIdentityRequest(
            identifier=event_pb2.Identifier(namespace="phone", value=phone), customer_id=customer
        )
    )
    await client.record(*(event(customer) for _ in range(3)), event(other))
    await client.update(customer, {"age": 50.0})
    answer = await client.decide(customer)
    await client.outcome(answer.decision_id, shown(answer)[0], event_pb2.OUTCOME_PRESENTED)
    await flushed(client)
    reservations = sum(one.HasField("reserved") for one in await client.log(customer))
    # Timeline, ledger, profile, decision, identity, index.
    assert len(await held(client, customer)) == 6

    done = await forget(client, customer)
    assert done.events == 4
    assert done.log_entries == 7 + reservations
    assert abs(moment(done.erased_at) - now()) < 10_000
    assert await held(client, customer, answer.decision_id, phone) == []
    (left,) = await client.log(customer)
    assert left.WhichOneof("entry") == "erased"
    assert (await client.timeline(customer)).total == 0
    assert not (await profile(client, customer)).version
    assert (await client.timeline(other)).total == 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.decisions.Explain(decision_pb2.ExplainRequest(decision_id=answer.decision_id))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert "NEW_CUSTOMER" in codes(await client.decide(named("phone", phone), "ivr"))


async def test_forgetting_finds_links_and_decisions_though_the_log_was_trimmed(
    client: Client,
) -> None:
    customer, phone = somebody(), f"0{uuid.uuid4().int % 10**9}"
    await client.customers.LinkIdentity(
        customer_pb2.LinkIdentityRequest(
            identifier=event_pb2.Identifier(namespace="phone", value=phone), customer_id=customer
        )
    )
    taken = (await client.decide(customer)).decision_id
    await flushed(client)
    await client.store.trim(partition(customer), LogId(now() + HOUR, 0))
    assert await client.log(customer) == []
    await forget(client, customer)
    assert await held(client, customer) == []
    assert await client.store.decided(taken) is None


async def test_a_decision_on_its_way_to_the_log_is_forgotten_too(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = asyncio.Event()
    write = client.store.journal

    async def slow(decisions: list[tuple[str, str, bytes, bytes]]) -> list[bool]:
        await released.wait()
        return await write(decisions)

    monkeypatch.setattr(client.store, "journal", slow)
    customer = somebody()
    await client.record(event(customer))
    try:
        taken = await client.decide(customer)
        await asyncio.sleep(0.005)
        await forget(client, customer)
    finally:
        released.set()
    await flushed(client)
    assert [one.WhichOneof("entry") for one in await client.log(customer)] == ["erased"]
    assert await held(client, customer, taken.decision_id) == []


async def test_events_from_before_are_refused_and_later_ones_begin_anew(client: Client) -> None:
    customer = somebody()
    await client.record(event(customer))
    erased_at = moment((await forget(client, customer)).erased_at)
    late = event(customer, occurred_at=stamp(erased_at))
    assert await client.record(late) == [Status.STATUS_ERASED]
    new = event(customer, occurred_at=stamp(erased_at + 1))
    assert await client.record(new, late) == [Status.STATUS_STORED, Status.STATUS_ERASED]
    assert (await client.timeline(customer)).total == 1


async def test_a_change_of_the_profile_from_before_is_refused(client: Client) -> None:
    customer = somebody()
    await forget(client, customer)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.update(customer, {"age": 50.0}, updated_at=stamp(now() - DAY))
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    await asyncio.sleep(0.002)
    assert (await client.update(customer, {"age": 50.0})).version


async def test_forgetting_nobody_leaves_a_tombstone_and_counts_nothing(client: Client) -> None:
    done = await forget(client, somebody())
    assert (done.events, done.log_entries) == (0, 0)
