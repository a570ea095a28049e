"""What may be offered to whom, and how sure the caller has to be of who that is."""

from __future__ import annotations

import pytest

from rapport.v1 import customer_pb2, decision_pb2
from tests.integration.serving import Client, business, drops, shown, somebody

pytestmark = pytest.mark.asyncio(loop_scope="module")

PURPOSELESS = {action.name for action in business().actions if action.purpose is None}
SALES = {action.name for action in business().actions if action.purpose == "marketing"}


async def test_without_consent_only_what_needs_none_is_offered(client: Client) -> None:
    answer = await client.decide(somebody(), max_actions=20)
    assert shown(answer)
    assert set(shown(answer)) <= PURPOSELESS
    dropped = drops(answer)
    assert {dropped[name] for name in SALES if name in dropped} <= {"NO_CONSENT", "NOT_VALID_NOW"}


async def test_with_consent_sales_are_offered_until_it_is_withdrawn(client: Client) -> None:
    customer = somebody()
    await client.consent(customer)
    before = await client.decide(customer, max_actions=20)
    assert set(shown(before)) & SALES
    await client.consent(customer, granted=False)
    after = await client.decide(customer, max_actions=20)
    assert shown(after)
    assert set(shown(after)) <= PURPOSELESS


async def test_consent_for_another_purpose_is_none_for_this_one(client: Client) -> None:
    customer = somebody()
    await client.consent(customer, purpose="research")
    assert not set(shown(await client.decide(customer, max_actions=20))) & SALES


async def test_what_was_said_of_a_channel_wins_over_what_was_said_of_all(client: Client) -> None:
    customer = somebody()
    await client.consent(customer)
    await client.consent(customer, granted=False, channel="phone")
    assert not set(shown(await client.decide(customer, "phone", max_actions=20))) & SALES
    assert set(shown(await client.decide(customer, "chat", max_actions=20))) & SALES


async def test_consent_and_withdrawal_are_both_in_the_log(client: Client) -> None:
    customer = somebody()
    await client.consent(customer)
    await client.consent(customer, granted=False)
    said = [one.profile.consents[0].granted for one in await client.log(customer)]
    assert said == [True, False]
    profile = await client.customers.GetProfile(
        customer_pb2.GetProfileRequest(customer={"customer_id": customer})  # type: ignore[arg-type]
    )
    assert [one.granted for one in profile.profile.consents] == [False]


@pytest.mark.parametrize(
    "assurance", [decision_pb2.ASSURANCE_UNSPECIFIED, decision_pb2.ASSURANCE_NONE]
)
async def test_a_caller_who_was_not_checked_gets_nothing_that_needs_a_checked_one(
    client: Client, assurance: decision_pb2.Assurance.ValueType
) -> None:
    customer = somebody()
    await client.consent(customer)
    answer = await client.decide(customer, assurance=assurance, max_actions=20)
    for name in shown(answer):
        assert business().by_name[name].assurance == "none"
    needing = {action.name for action in business().actions if action.assurance != "none"}
    told = [one for one in answer.trace if one.action in needing]
    assert told
    for one in told:
        assert "ASSURANCE_TOO_LOW" in {one.reason.code, *(other.code for other in one.also)}


async def test_the_number_alone_is_enough_for_some_and_not_for_all(client: Client) -> None:
    customer = somebody()
    await client.consent(customer)
    ani = decision_pb2.ASSURANCE_ANI
    dropped = drops(await client.decide(customer, assurance=ani, max_actions=20))
    needs = {action.name: action.assurance for action in business().actions}
    low = {needs[name] for name, why in dropped.items() if why == "ASSURANCE_TOO_LOW"}
    assert low == {"verified"}


async def test_a_verified_caller_gets_what_needs_one(client: Client) -> None:
    customer = somebody()
    await client.consent(customer)
    answer = await client.decide(customer, max_actions=20)
    assert "ASSURANCE_TOO_LOW" not in drops(answer).values()
    assert any(business().by_name[name].assurance == "verified" for name in shown(answer))


async def test_a_placement_for_verified_people_stays_empty_for_others(client: Client) -> None:
    customer = somebody()
    ani = decision_pb2.ASSURANCE_ANI
    (slate,) = (await client.decide(customer, "app", assurance=ani)).slates
    assert not slate.recommendations
    (slate,) = (await client.decide(customer, "app")).slates
    assert slate.recommendations


async def test_no_action_is_shown_twice_in_an_answer_and_ranks_count_from_one(
    client: Client,
) -> None:
    customer = somebody()
    await client.consent(customer)
    answer = await client.decide(customer, max_actions=20)
    assert len(set(shown(answer))) == len(shown(answer))
    for slate in answer.slates:
        assert [one.rank for one in slate.recommendations] == list(
            range(1, len(slate.recommendations) + 1)
        )
        priorities = [one.factors.priority for one in slate.recommendations]
        assert priorities == sorted(priorities, reverse=True)
        for one in slate.recommendations:
            f = one.factors
            product = f.acceptance_probability * f.value * f.context_weight * f.lever
            assert f.priority == pytest.approx(product)
            assert one.treatment.text
            assert one.reasons
