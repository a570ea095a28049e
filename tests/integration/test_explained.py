"""Explain: one reason for each placement and action, and what each feature added."""

from __future__ import annotations

import math
from collections import Counter

import grpc
import pytest

from rapport.v1 import decision_pb2
from service import registry, trace
from service.bundle import Bundle
from tests.integration.serving import (
    Client,
    business,
    event,
    serving,
    shown,
    somebody,
)
from tests.integration.test_bundles_live import activate, resealed

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def explain(
    client: Client, decision_id: str, action: str = "", contributions: bool = False
) -> decision_pb2.ExplainResponse:
    return await client.decisions.Explain(
        decision_pb2.ExplainRequest(
            decision_id=decision_id, action=action, include_contributions=contributions
        )
    )


async def consenting(client: Client) -> str:
    customer = somebody()
    await client.record(event(customer), event(customer, type="login", channel="app"))
    await client.consent(customer)
    return customer


@pytest.mark.parametrize("channel", ["phone", "ivr", "web", "email"])
async def test_there_is_one_reason_for_each_placement_and_action(
    client: Client, channel: str
) -> None:
    answer = await client.decide(await consenting(client), channel)
    explained = await explain(client, answer.decision_id)
    counted = Counter((one.placement, one.action) for one in explained.candidates)
    assert set(counted.values()) == {1}
    placements = [slate.placement for slate in answer.slates]
    assert set(counted) == {(p, a.name) for p in placements for a in business().actions}
    for one in explained.candidates:
        if one.dropped_by:
            assert one.reason.code
            assert one.reason.text
        else:
            assert one.action in shown(answer)
            assert not one.HasField("reason")
    assert {one.action for one in explained.candidates if not one.dropped_by} == set(shown(answer))
    assert (explained.rung, explained.decided_at) == (answer.rung, answer.decided_at)
    assert explained.versions == answer.versions


async def test_the_trace_of_an_answer_says_what_explain_says(client: Client) -> None:
    answer = await client.decide(await consenting(client))
    explained = await explain(client, answer.decision_id)
    told = {one.action: one for one in explained.candidates}
    assert answer.trace
    for one in answer.trace:
        if one.action == trace.DO_NOTHING:
            assert one.action not in told, "it is no action of the catalogue"
            continue
        explained_one = told[one.action]
        assert explained_one.voices.agent
        explained_one.ClearField("voices")
        explained_one.ClearField("change")
        assert explained_one == one


async def test_an_action_without_a_treatment_is_told_to_have_none(client: Client) -> None:
    answer = await client.decide(somebody(), "ivr")
    (one,) = (await explain(client, answer.decision_id, "gold_credit_card")).candidates
    assert one.reason.code == "NO_TREATMENT"
    assert one.dropped_by == decision_pb2.STAGE_ELIGIBILITY


async def test_what_lost_to_better_ones_is_told_how_many(client: Client) -> None:
    answer = await client.decide(await consenting(client), max_actions=1)
    explained = await explain(client, answer.decision_id)
    ranked = sorted((one.rank, one) for one in explained.candidates if one.rank)
    assert [rank for rank, _ in ranked] == list(range(1, len(ranked) + 1))
    second = ranked[1][1]
    assert (second.dropped_by, second.reason.code) == (
        decision_pb2.STAGE_ARBITRATION,
        "RANKED_LOWER",
    )
    assert second.reason.text == "1 other action ranks higher"
    assert ranked[2][1].reason.text == "2 other actions rank higher"


async def test_what_outranks_a_shown_one_is_told_that_its_group_was_full(client: Client) -> None:
    answer = await client.decide(await consenting(client), max_actions=20)
    explained = await explain(client, answer.decision_id)
    groups = {action.name: action.group for action in business().actions}
    lowest = max(one.rank for one in explained.candidates if not one.dropped_by)
    passed_over = [one for one in explained.candidates if one.dropped_by and 0 < one.rank < lowest]
    assert passed_over
    for one in passed_over:
        assert one.reason.code in ("GROUP_FULL", "BUNDLED", "LIMIT_FULL"), one
        if one.reason.code == "BUNDLED":
            continue
        assert Counter(groups[name] for name in shown(answer))[groups[one.action]] == 2


async def test_what_no_time_was_left_for_is_not_told_to_lack_a_treatment(client: Client) -> None:
    """On the lowest rung only the defaults of a placement are candidates."""
    customer = await consenting(client)
    answer = None
    for _ in range(50):
        try:
            answer = await client.decide(customer, timeout=0.0021)
        except grpc.aio.AioRpcError:
            continue
        if answer.rung == decision_pb2.RUNG_DEFAULTS:
            break
    if answer is None or answer.rung != decision_pb2.RUNG_DEFAULTS:
        pytest.skip("no deadline was just short enough on this machine")
    explained = await explain(client, answer.decision_id)
    assert "NO_TREATMENT" not in {one.reason.code for one in explained.candidates}


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


async def test_contributions_add_up_to_the_logged_acceptance(client: Client) -> None:
    answer = await client.decide(await consenting(client))
    checked = 0
    for slate in answer.slates:
        for one in slate.recommendations:
            explained = await explain(client, answer.decision_id, one.action, contributions=True)
            assert len(explained.candidates) == 1
            parts = [part.log_odds for part in explained.contributions]
            assert len(parts) == len({part.feature for part in explained.contributions})
            assert explained.contributions[-1].feature == "base"
            assert [abs(p) for p in parts[:-1]] == sorted(map(abs, parts[:-1]), reverse=True)
            assert any(parts[:-1])
            assert abs(logit(one.factors.model_probability) - math.fsum(parts)) < 1e-9
            checked += 1
    assert checked == 3


async def test_contributions_name_the_value_that_the_model_saw(client: Client) -> None:
    answer = await client.decide(await consenting(client), include_features=True)
    action = shown(answer)[0]
    explained = await explain(client, answer.decision_id, action, contributions=True)
    seen = {one.feature: one.value for one in explained.contributions}
    assert seen["action_code"] == business().vocabulary.actions[action]
    for name, one in zip(answer.features.names, answer.features.values, strict=True):
        assert seen[name] == one or (math.isnan(seen[name]) and math.isnan(one))


async def test_contributions_to_what_was_not_shown_cannot_be_told(client: Client) -> None:
    answer = await client.decide(somebody(), "ivr")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await explain(client, answer.decision_id, "gold_credit_card", contributions=True)
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "'gold_credit_card' was not logged" in (caught.value.details() or "")


async def test_contributions_by_a_bundle_that_left_cannot_be_told(url: str, bundle: Bundle) -> None:
    async with serving(url, bundle=bundle) as client:
        answer = await client.decide(somebody(), "ivr")
        await registry.publish(client.store, resealed(bundle, "second"), business())
        await activate(client, "second")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await explain(client, answer.decision_id, shown(answer)[0], contributions=True)
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert bundle.manifest.version in (caught.value.details() or "")
        assert (await explain(client, answer.decision_id)).versions == answer.versions


async def test_an_unknown_decision_is_not_found(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await explain(client, "0" * 25)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_every_reason_comes_in_three_voices_with_what_would_have_to_change(
    client: Client,
) -> None:
    answer = await client.decide(await consenting(client), assurance=1)
    explained = await explain(client, answer.decision_id)
    rules = {rule.name for action in business().actions for rule in action.eligibility}
    for one in explained.candidates:
        assert one.voices.agent
        assert one.voices.auditor
        assert one.voices.customer
        assert one.action not in one.voices.customer
        assert not any(name in one.voices.customer for name in rules)
        assert one.HasField("change") == bool(one.reason.code)
        if one.dropped_by and not one.rank:
            assert list(one.change.factors) == [one.reason.code, *(r.code for r in one.also)]
    lost = [one for one in explained.candidates if one.reason.code == "RANKED_LOWER"]
    assert all(one.change.to > getattr(one.change, "from") for one in lost if one.change.factors)
