"""One person who was several customers: one timeline, one profile, one memory to erase."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import grpc
import pytest
from google.protobuf import field_mask_pb2

from features.duration import DAY, HOUR
from features.profile import decode
from features.record import LogId
from rapport.v1 import customer_pb2, decision_pb2, event_pb2
from service import identity
from tests.integration.serving import (
    Client,
    Status,
    business,
    codes,
    drops,
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
from tests.integration.test_identity_calls import Link, number
from training import replay
from training.archive import Entry

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def link(
    client: Client, written: str, customer: str, *, merge: bool = False, namespace: str = "phone"
) -> tuple[int, str]:
    answer = await client.customers.LinkIdentity(
        customer_pb2.LinkIdentityRequest(
            identifier=event_pb2.Identifier(namespace=namespace, value=written),
            customer_id=customer,
            merge=merge,
        ),
        timeout=10,
    )
    return answer.status, answer.customer_id


def newcomer(written: str) -> str:
    """The customer that a phone number names while it is linked to nobody."""
    value = identity.normalise(business().vocabulary, "phone", written)
    return identity.newcomer("phone", str(value))


async def merged(client: Client) -> tuple[str, str, str]:
    """A customer with a member of one event each, and the number that named the member."""
    root, member, written = somebody(), somebody(), number()
    await client.record(event(root, occurred_at=stamp(now() - DAY)), event(member))
    await link(client, written, member)
    assert await link(client, written, root, merge=True) == (Link.STATUS_MERGED, root)
    return root, member, written


async def profile(client: Client, customer: str) -> customer_pb2.Profile:
    request = customer_pb2.GetProfileRequest(customer=key(customer))
    return (await client.customers.GetProfile(request)).profile


async def test_who_was_known_by_an_identifier_alone_is_merged_when_it_turns_out_whose_it_is(
    client: Client,
) -> None:
    customer, written = somebody(), number()
    await client.record(event(named("phone", written)), event(customer))
    assert await link(client, written, customer) == (Link.STATUS_MERGED, customer)
    assert await link(client, written, customer) == (Link.STATUS_ALREADY_LINKED, customer)
    for who in (customer, newcomer(written)):
        assert (await client.timeline(who)).total == 2
    await client.record(event(named("phone", written)))
    assert (await client.timeline(customer)).total == 3


async def test_a_newcomer_whom_others_were_merged_into_is_not_known_by_one_identifier_alone(
    client: Client,
) -> None:
    customer, other, first, second = somebody(), somebody(), number(), number()
    await client.record(event(named("phone", first)), event(named("phone", second)))
    assert await link(client, second, newcomer(first)) == (Link.STATUS_MERGED, newcomer(first))
    assert await link(client, first, customer) == (Link.STATUS_AMBIGUOUS, newcomer(first))
    assert await link(client, second, other) == (Link.STATUS_AMBIGUOUS, newcomer(first))
    assert (await client.timeline(customer)).total == 0


async def test_what_became_of_a_decision_by_an_identifier_is_found_once_it_is_linked(
    client: Client,
) -> None:
    """A decision links nobody, and yet its outcome is kept."""
    customer, written = somebody(), number()
    await client.record(event(customer))
    answer = await client.decide(named("phone", written), "ivr")
    await client.outcome(answer.decision_id, shown(answer)[0], event_pb2.OUTCOME_PRESENTED)
    assert await link(client, written, customer) == (Link.STATUS_MERGED, customer)
    assert (await client.timeline(customer)).total == 2


async def test_two_known_customers_are_merged_only_when_asked_for(client: Client) -> None:
    one, other, written = somebody(), somebody(), number()
    await client.record(event(one), event(other))
    await link(client, written, one)
    assert await link(client, written, other) == (Link.STATUS_AMBIGUOUS, one)
    assert (await client.timeline(other)).total == 1
    assert await link(client, written, other, merge=True) == (Link.STATUS_MERGED, other)
    assert (await client.timeline(other)).total == 2
    assert (await client.timeline(one)).total == 2
    answer = await client.decide(named("phone", written), "ivr")
    assert answer.read.events == 2


async def test_merging_again_changes_nothing(client: Client) -> None:
    root, member, written = await merged(client)
    logged = len(await client.log(root)), len(await client.log(member))
    for who in (root, member):
        for merge in (True, False):
            assert await link(client, written, who, merge=merge) == (
                Link.STATUS_ALREADY_LINKED,
                root,
            )
    assert (len(await client.log(root)), len(await client.log(member))) == logged


async def test_an_identifier_that_is_linked_to_a_member_names_the_root(client: Client) -> None:
    root, member, _ = await merged(client)
    written = number()
    assert await link(client, written, member) == (Link.STATUS_LINKED, root)
    await client.record(event(named("phone", written)))
    assert (await client.timeline(root)).total == 3


async def test_the_timeline_is_the_union_of_all_members_page_by_page(client: Client) -> None:
    root, member, written = somebody(), somebody(), number()
    start = now() - DAY
    await link(client, written, member)
    await client.record(*(event(root, occurred_at=stamp(start + 2 * i)) for i in range(300)))
    await client.record(*(event(member, occurred_at=stamp(start + 2 * i + 1)) for i in range(300)))
    twice = event(root, occurred_at=stamp(start + 1_000))
    again = event_pb2.Event()
    again.CopyFrom(twice)
    again.customer.customer_id = member
    assert await client.record(twice, again) == [Status.STATUS_STORED] * 2
    await link(client, written, root, merge=True)
    for who in (root, member):
        seen, token = list[customer_pb2.TimelineEvent](), ""
        while True:
            page = await client.timeline(who, page_size=100, page_token=token)
            assert page.total == 512
            assert page.log_id
            seen += page.events
            token = page.next_page_token
            if not token:
                break
        moments = [moment(one.occurred_at) for one in seen]
        assert len(moments) == len({one.event_hash for one in seen}) == 512
        assert moments == sorted(moments, reverse=True)
        assert moments[0] == start + 1_000
        assert moments[1:] == list(range(start + 599, start + 88, -1))


async def test_events_of_a_member_are_stored_known_and_refused_as_ever(client: Client) -> None:
    root, member, _ = await merged(client)
    new = event(member)
    assert await client.record(new) == [Status.STATUS_STORED]
    assert await client.record(new) == [Status.STATUS_DUPLICATE]
    new.type = "login"
    assert await client.record(new) == [Status.STATUS_CONFLICT]
    assert (await client.timeline(root)).total == 3


async def test_the_newest_of_two_profiles_is_told_with_its_own_date(client: Client) -> None:
    root, member, written = somebody(), somebody(), number()
    days = [now() - n * DAY for n in range(5)]
    await client.update(root, {"age": 40.0, "products": 1.0}, updated_at=stamp(days[3]))
    await client.update(member, {"age": 41.0}, updated_at=stamp(days[2]))
    await client.update(member, {"products": 9.0, "segment": "family"}, updated_at=stamp(days[4]))
    await client.consent(root)
    await client.consent(member, granted=False)
    await link(client, written, member)
    await link(client, written, root, merge=True)
    found = await profile(client, root)
    assert found == await profile(client, member)
    assert found.customer_id == root
    told = {
        name: (one.value, moment(one.updated_at))
        for name, one in found.attributes.items()
        if one.HasField("updated_at")
    }
    assert told == {
        "age": (value(41.0), days[2]),
        "products": (value(1.0), days[3]),
        "segment": (value("family"), days[4]),
    }
    assert [one.granted for one in found.consents] == [False]
    await replayed(client, root)


async def replayed(client: Client, customer: str) -> None:
    """See that folding the log gives the stored profile."""
    stored = decode((await client.store.read(customer)).profile)
    entries = [
        Entry.parse(stored[0], one.SerializeToString()) for one in await client.log(customer)
    ]
    _, seen = replay.seen(entries, stored[0], stored[0])
    assert seen.attributes == stored[1].attributes
    assert sorted(seen.consents, key=repr) == sorted(stored[1].consents, key=repr)


async def test_a_profile_of_a_member_is_changed_at_the_root(client: Client) -> None:
    root, member, written = await merged(client)
    first = await client.update(member, {"age": 30.0})
    assert first.customer_id == root
    second = await client.update(root, {"products": 2.0}, expected_version=first.version)
    assert await profile(client, member) == second
    answer = await client.customers.UpdateProfile(
        customer_pb2.UpdateProfileRequest(
            customer=named("phone", written),
            attributes={"age": value(31.0)},
            update_mask=field_mask_pb2.FieldMask(paths=["attributes.age"]),
        )
    )
    assert (await profile(client, root)).attributes["age"].value == value(31.0)
    assert answer.profile.attributes["products"].value == value(2.0)
    await replayed(client, root)


async def test_changes_of_a_profile_during_a_merge_are_not_lost(client: Client) -> None:
    root, member, written = somebody(), somebody(), number()
    await link(client, written, member)
    names = ["age", "balance", "products", "customer_since_days"]
    channels = list(business().vocabulary.channels)[:4]
    for name in names:
        await client.update(member, {name: 1.0})
    await asyncio.gather(
        link(client, written, root, merge=True),
        *(client.consent(root, channel=one) for one in channels),
        *(client.consent(root, purpose="research", channel=one) for one in channels),
    )
    found = await profile(client, member)
    assert {name for name in names if found.attributes[name].HasField("value")} == set(names)
    assert len(found.consents) == 8
    await replayed(client, root)


async def test_what_is_told_while_a_profile_is_copied_is_copied_too(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, member, written = somebody(), somebody(), number()
    await client.update(member, {"age": 50.0})
    await link(client, written, member)
    write, told = client.store.write_profile, False

    async def interrupted(customer: str, *rest: Any) -> LogId | None:
        nonlocal told
        if customer == root and not told:
            told = True
            await client.update(member, {"products": 5.0})
        return await write(customer, *rest)

    monkeypatch.setattr(client.store, "write_profile", interrupted)
    assert await link(client, written, root, merge=True) == (Link.STATUS_MERGED, root)
    assert told
    found = (await profile(client, root)).attributes
    assert (found["age"].value, found["products"].value) == (value(50.0), value(5.0))


async def test_a_merge_that_failed_half_way_is_finished_by_asking_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, member, written = somebody(), somebody(), number()
    await client.update(member, {"age": 50.0})
    await client.record(event(member))
    await link(client, written, member)
    with monkeypatch.context() as patch:

        async def broken(*_: str) -> bool:
            raise OSError("unplugged")

        patch.setattr(client.store, "merge", broken)
        with pytest.raises(grpc.aio.AioRpcError):
            await link(client, written, root, merge=True)
    assert (await client.timeline(root)).total == 0
    assert await link(client, written, root, merge=True) == (Link.STATUS_MERGED, root)
    assert (await profile(client, root)).attributes["age"].value == value(50.0)
    assert (await client.timeline(root)).total == 1


async def test_merging_each_into_the_other_at_once_gives_one_person_with_everything(
    client: Client,
) -> None:
    for _ in range(5):
        one, other, first, second = somebody(), somebody(), number(), number()
        await client.record(event(one), event(other))
        await client.update(one, {"age": 1.0})
        await client.update(other, {"products": 2.0})
        await link(client, first, one)
        await link(client, second, other)
        answers = await asyncio.gather(
            link(client, first, other, merge=True),
            link(client, second, one, merge=True),
            link(client, first, other, merge=True),
            link(client, second, one, merge=True),
        )
        assert {status for status, _ in answers} <= {
            Link.STATUS_MERGED,
            Link.STATUS_ALREADY_LINKED,
        }
        (root,) = {await client.store.root(who) for who in (one, other)}
        assert {who for _, who in answers} == {root}
        for who in (one, other):
            assert (await client.timeline(who)).total == 2
            told = (await profile(client, who)).attributes
            assert (told["age"].value, told["products"].value) == (value(1.0), value(2.0))
        await replayed(client, root)


async def test_a_ring_of_merges_gives_one_person(client: Client) -> None:
    some = [somebody() for _ in range(4)]
    numbers = [number() for _ in some]
    for who, written in zip(some, numbers, strict=True):
        await client.record(event(who))
        await link(client, written, who)
    await asyncio.gather(
        *(link(client, numbers[i], some[(i + 1) % 4], merge=True) for i in range(4))
    )
    assert len({await client.store.root(who) for who in some}) == 1
    for who in some:
        assert (await client.timeline(who)).total == 4


async def test_outcomes_of_a_member_count_for_the_whole_person(client: Client) -> None:
    root, member, written = somebody(), somebody(), number()
    await client.consent(member)
    answer = await client.decide(member, max_actions=20)
    refused = next(one for one in shown(answer) if business().by_name[one].issue == "grow")
    await flushed(client)
    await link(client, written, member)
    await link(client, written, root, merge=True)
    answered = await client.decisions.RecordOutcome(
        decision_pb2.RecordOutcomeRequest(
            decision_id=answer.decision_id, action=refused, outcome=event_pb2.OUTCOME_REJECTED
        )
    )
    assert answered.status == Status.STATUS_STORED
    (kept,) = (await client.timeline(root)).events
    assert kept.action == refused
    for who in (root, member):
        assert drops(await client.decide(who, max_actions=20))[refused] == "CONTACT_LIMIT"


async def test_forgetting_anyone_of_a_person_forgets_them_all(client: Client) -> None:
    for which in range(2):
        root, member, written = await merged(client)
        await client.update(member, {"age": 50.0})
        some = [root, member]
        done = await client.customers.ForgetCustomer(
            customer_pb2.ForgetCustomerRequest(customer_id=some[which])
        )
        assert done.events == 2
        for who in some:
            assert (await client.timeline(who)).total == 0
            assert not (await profile(client, who)).version
            kinds = [one.WhichOneof("entry") for one in await client.log(who)]
            assert kinds == ["erased"]
            late = event(who, occurred_at=stamp(now() - HOUR))
            assert await client.record(late) == [Status.STATUS_ERASED]
        assert "NEW_CUSTOMER" in codes(await client.decide(named("phone", written), "ivr"))


async def test_what_a_member_was_told_before_the_root_was_forgotten_stays_forgotten(
    client: Client,
) -> None:
    root, member, written = somebody(), somebody(), number()
    await client.update(member, {"age": 30.0})
    await client.customers.ForgetCustomer(customer_pb2.ForgetCustomerRequest(customer_id=root))
    await asyncio.sleep(0.002)
    await client.update(member, {"products": 3.0})
    await link(client, written, member)
    assert await link(client, written, root, merge=True) == (Link.STATUS_MERGED, root)
    told = (await profile(client, root)).attributes
    assert told["products"].value == value(3.0)
    assert not told["age"].HasField("value")


async def test_merges_links_events_and_changes_at_once_lose_nothing(client: Client) -> None:
    some = [somebody() for _ in range(3)]
    numbers = [number() for _ in some]
    for who, written in zip(some, numbers, strict=True):
        await link(client, written, who)
    links, events, consents = [], [], []
    for (who, written), other in itertools.product(zip(some, numbers, strict=True), some):
        links.append(link(client, written, other, merge=True))
        events += [client.record(event(who)), client.record(event(named("phone", written)))]
        consents.append(client.consent(other))
    _, statuses, _ = await asyncio.gather(
        asyncio.gather(*links), asyncio.gather(*events), asyncio.gather(*consents)
    )
    assert statuses == [[Status.STATUS_STORED]] * 18
    root = await client.store.root(some[0])
    assert {await client.store.root(one) for one in some} == {root}
    assert (await client.timeline(some[2])).total == 18
    assert [one.granted for one in (await profile(client, some[1])).consents] == [True]
