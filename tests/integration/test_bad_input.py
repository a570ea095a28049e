"""What callers get wrong is named: field, value and remedy; and the rest of a batch is kept."""

from __future__ import annotations

import math
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2, field_mask_pb2, struct_pb2, timestamp_pb2

from features.duration import DAY, HOUR, MINUTE
from rapport.v1 import admin_pb2, customer_pb2, decision_pb2, event_pb2
from tests.integration.serving import (
    Client,
    Status,
    event,
    key,
    named,
    now,
    somebody,
    stamp,
    value,
    violations,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = "x" * 100_000


async def refused(call: Any) -> dict[str, str]:
    """The violations of a call that has to be INVALID_ARGUMENT."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT, caught.value.details()
    found = violations(caught.value)
    assert found
    for field in found:
        assert field in (caught.value.details() or "")
    return found


DECIDE: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "an unknown channel": ({"channel": "phon"}, "channel", "'phon'", "did you mean 'phone'?"),
    "no channel": ({"channel": ""}, "channel", "is absent", "send one of: phone"),
    "no customer": ({"customer": None}, "customer", "is absent", "send customer_id or identifier"),
    "an empty customer id": ({"customer": key("")}, "customer.customer_id", "absent", "send 1 to"),
    "an over-long customer id": (
        {"customer": key("x" * 129)},
        "customer.customer_id",
        "129 characters",
        "send at most 128",
    ),
    "a customer id with a NUL": (
        {"customer": key("a\x00b")},
        "customer.customer_id",
        "NUL",
        "leave it out",
    ),
    "an unknown namespace": (
        {"customer": named("fax", "12")},
        "customer.identifier.namespace",
        "'fax'",
        "use one of: phone",
    ),
    "a phone number without a digit": (
        {"customer": named("phone", "none")},
        "customer.identifier.value",
        "'none'",
        "send a number",
    ),
    "an unknown placement": (
        {"placements": ["agent_hints"]},
        "placements[0]",
        "'agent_hints'",
        "did you mean 'agent_hint'?",
    ),
    "a placement twice": (
        {"placements": ["agent_hint", "agent_hint"]},
        "placements[1]",
        "'agent_hint'",
        "leave one out",
    ),
    "a placement of another channel": (
        {"placements": ["ivr_menu"]},
        "placements[0]",
        "not on channel 'phone'",
        "its channels: ivr",
    ),
    "nine placements": (
        {"placements": [f"p{i}" for i in range(9)]},
        "placements",
        "9 entries",
        "send at most 8",
    ),
    "a direction out of range": ({"direction": 77}, "direction", "77", "see the API"),
    "an assurance out of range": ({"assurance": -3}, "assurance", "-3", "see the API"),
    "no answers at all": ({"max_actions": 0}, "max_actions", "0", "send 1 to 20"),
    "too many answers": ({"max_actions": 21}, "max_actions", "21", "send 1 to 20"),
    "an over-long utterance": (
        {"utterance": "x" * 2001},
        "utterance",
        "2001 characters",
        "send at most 2000",
    ),
    "an over-long interaction id": (
        {"interaction_id": "x" * 129},
        "interaction_id",
        "129 characters",
        "send at most 128",
    ),
    "an over-long locale": ({"locale": "x" * 129}, "locale", "129", "send at most 128"),
    "an unknown context value": (
        {"context": {"wait_second": value(3.0)}},
        "context.wait_second",
        "is not declared",
        "did you mean 'wait_seconds'?",
    ),
    "a context value of the wrong type": (
        {"context": {"wait_seconds": value("long")}},
        "context.wait_seconds",
        "string",
        "send number_value",
    ),
    "a list as context value": (
        {"context": {"wait_seconds": struct_pb2.Value(list_value=struct_pb2.ListValue())}},
        "context.wait_seconds",
        "list",
        "send number_value",
    ),
    "a number for a flag": (
        {"context": {"authenticated": value(1.0)}},
        "context.authenticated",
        "number",
        "send bool_value",
    ),
    "an unknown category": (
        {"context": {"device": value("iod")}},
        "context.device",
        "'iod'",
        "did you mean 'ios'?",
    ),
    "NaN as context value": (
        {"context": {"wait_seconds": value(math.nan)}},
        "context.wait_seconds",
        "nan",
        "leave the field out",
    ),
    "infinity as context value": (
        {"context": {"wait_seconds": value(-math.inf)}},
        "context.wait_seconds",
        "-inf",
        "leave the field out",
    ),
    "an over-long context": (
        {"context": {f"c{i}": value(1.0) for i in range(65)}},
        "context",
        "65 entries",
        "send at most 64",
    ),
    "a moment in the future": (
        {"as_of": stamp(now() + HOUR)},
        "as_of",
        "in the future",
        "check the clock and the unit",
    ),
    "a moment before everything": (
        {"as_of": stamp(1_000)},
        "as_of",
        "1 s",
        "check the unit",
    ),
    "a moment with strange nanos": (
        {"as_of": timestamp_pb2.Timestamp(seconds=1_700_000_000, nanos=-1)},
        "as_of",
        "-1 nanos",
        "send 0 to 999,999,999",
    ),
}


@pytest.mark.parametrize("wrong", DECIDE)
async def test_decide_names_field_value_and_remedy_of(client: Client, wrong: str) -> None:
    fields, field, told, remedy = DECIDE[wrong]
    request = {"customer": key(somebody()), "channel": "phone", **fields}
    found = await refused(client.decisions.Decide(decision_pb2.DecideRequest(**request)))
    assert list(found) == [field]
    assert told in found[field]
    assert remedy in found[field]


async def test_an_empty_decide_is_told_all_that_it_lacks(client: Client) -> None:
    found = await refused(client.decisions.Decide(decision_pb2.DecideRequest()))
    assert set(found) == {"customer", "channel"}


Mood = event_pb2.Sentiment


def mood(**fields: Any) -> dict[str, Any]:
    """A good reading of sentiment, but for the fields that are given."""
    sound: dict[str, Any] = {
        "score": 0.5,
        "subject": Mood.SUBJECT_CUSTOMER,
        "modality": Mood.MODALITY_STATED,
        "source": "survey-2026",
        "basis": Mood.BASIS_CONSENT,
    }
    return {"sentiment": Mood(**{**sound, **fields})}


EVENT: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "an unknown type": ({"type": "page_view"}, "type", "'page_view'", "'page_viewed'?"),
    "no type": ({"type": ""}, "type", "is absent", "send one of"),
    "an unknown channel": ({"channel": "fax"}, "channel", "'fax'", "send one of: phone"),
    "an unknown intent": ({"intent": "block_cart"}, "intent", "'block_cart'", "'block_card'?"),
    "an unknown action": ({"action": "calback"}, "action", "'calback'", "'callback'?"),
    "no event id": ({"event_id": ""}, "event_id", "is absent", "send 1 to 128"),
    "an over-long event id": ({"event_id": "x" * 129}, "event_id", "129", "at most 128"),
    "an over-long source": ({"source": "x" * 65}, "source", "65", "at most 64"),
    "no customer": ({"customer": None}, "customer", "is absent", "send customer_id"),
    "no time": ({"occurred_at": None}, "occurred_at", "is absent", "send when it happened"),
    "a time in the future": (
        {"occurred_at": stamp(now() + 30 * MINUTE)},
        "occurred_at",
        "s in the future",
        "check the clock",
    ),
    "milliseconds for seconds": (
        {"occurred_at": timestamp_pb2.Timestamp(seconds=now())},
        "occurred_at",
        "in the future",
        "the unit (seconds since 1970)",
    ),
    "the far past": (
        {"occurred_at": timestamp_pb2.Timestamp(seconds=-62_135_596_800)},
        "occurred_at",
        "before 1990",
        "check the unit",
    ),
    "a time out of the range of times": (
        {"occurred_at": timestamp_pb2.Timestamp(seconds=2**63 - 1)},
        "occurred_at",
        "in the future",
        "check the clock",
    ),
    "nanos out of range": (
        {"occurred_at": timestamp_pb2.Timestamp(seconds=1, nanos=1_000_000_000)},
        "occurred_at",
        "1000000000 nanos",
        "send 0 to",
    ),
    "a receipt in the future": (
        {"received_at": stamp(now() + 30 * DAY)},
        "received_at",
        "in the future",
        "check the clock",
    ),
    "NaN": ({"value": math.nan}, "value", "nan", "leave the field out"),
    "infinity": ({"value": math.inf}, "value", "inf", "leave the field out"),
    "a value beyond belief": ({"value": 1e13}, "value", "1e+13", "send -1e+12 to 1e+12"),
    "a mood of NaN": (mood(score=math.nan), "sentiment.score", "nan", "leave the field out"),
    "a mood of two": (mood(score=2.0), "sentiment.score", "2", "send -1 to 1"),
    "a mood without a score": (mood(score=None), "sentiment.score", "absent", "send -1 to 1"),
    "a mood of nobody": (
        mood(subject=Mood.SUBJECT_UNSPECIFIED),
        "sentiment.subject",
        "is absent",
        "send whose mood it is",
    ),
    "an agent's mood": (
        mood(subject=Mood.SUBJECT_AGENT),
        "sentiment.subject",
        "Rapport keeps no emotions of employees",
        "leave `sentiment` out",
    ),
    "a mood read from nothing": (
        mood(modality=Mood.MODALITY_UNSPECIFIED),
        "sentiment.modality",
        "is absent",
        "send what it was read from",
    ),
    "a mood that nobody read": (mood(source=""), "sentiment.source", "absent", "send 1 to 64"),
    "a mood on a basis that is none": (mood(basis=9), "sentiment.basis", "9", "see the API"),
    "a negative duration": (
        {"duration": duration_pb2.Duration(seconds=-1)},
        "duration",
        "-1",
        "send 0 to 64800",
    ),
    "a duration of days": (
        {"duration": duration_pb2.Duration(seconds=86_400)},
        "duration",
        "86400",
        "send 0 to 64800",
    ),
    "a sequence over 16 bits": ({"sequence": 65_536}, "sequence", "65536", "count within"),
    "a direction out of range": ({"direction": 4}, "direction", "4", "see the API"),
    "an outcome out of range": ({"outcome": 99}, "outcome", "99", "see the API"),
    "too many attributes": (
        {"attributes": {str(i): "" for i in range(33)}},
        "attributes",
        "33 entries",
        "send at most 32",
    ),
    "an over-long attribute": (
        {"attributes": {"note": "x" * 257}},
        "attributes.note",
        "257 characters",
        "at most 256",
    ),
    "an over-long attribute name": (
        {"attributes": {"n" * 65: "x"}},
        f"attributes.{'n' * 32}",
        "65 characters",
        "at most 64",
    ),
    "an over-long agent": ({"agent_id": "x" * 129}, "agent_id", "129", "at most 128"),
}


async def test_every_bad_event_of_a_batch_is_named_and_nothing_else_is_lost(
    client: Client,
) -> None:
    customer = somebody()
    batch, wanted = [], []
    for wrong, told in EVENT.items():
        batch += [event(customer, **told[0]), event(customer)]
        wanted += [wrong, ""]
    answer = await client.decisions.RecordEvents(decision_pb2.RecordEventsRequest(events=batch))
    assert len(answer.results) == len(batch)
    for i, (result, wrong) in enumerate(zip(answer.results, wanted, strict=True)):
        if not wrong:
            assert result.status == Status.STATUS_STORED
            assert not result.HasField("violation")
            continue
        _, field, told_, remedy = EVENT[wrong]
        assert result.status == Status.STATUS_INVALID, wrong
        assert result.violation.field == f"events[{i}].{field}"
        assert told_ in result.violation.description
        assert remedy in result.violation.description
    assert (await client.timeline(customer)).total == len(EVENT)


@pytest.mark.parametrize("size", [0, 1_001, 10_000])
async def test_a_batch_of_a_wrong_size_is_refused_as_a_whole(client: Client, size: int) -> None:
    customer = somebody()
    one = event(customer)
    batch = decision_pb2.RecordEventsRequest(events=[one] * size)
    found = await refused(client.decisions.RecordEvents(batch))
    assert f"{size} entries" in found["events"]
    assert "send 1 to 1000" in found["events"]
    assert (await client.timeline(customer)).total == 0


async def test_a_batch_of_a_thousand_is_stored(client: Client) -> None:
    some = [somebody() for _ in range(10)]
    statuses = await client.record(*(event(some[i % 10]) for i in range(1_000)))
    assert statuses == [Status.STATUS_STORED] * 1_000
    assert {(await client.timeline(one)).total for one in some} == {100}


OTHERS: dict[str, tuple[str, Any, str, str]] = {
    "an outcome of no decision": (
        "RecordOutcome",
        decision_pb2.RecordOutcomeRequest(outcome=event_pb2.OUTCOME_ACCEPTED),
        "decision_id",
        "send that of a DecideResponse",
    ),
    "an outcome of a decision id that is none": (
        "RecordOutcome",
        decision_pb2.RecordOutcomeRequest(decision_id=LONG, outcome=event_pb2.OUTCOME_ACCEPTED),
        "decision_id",
        "send that of a DecideResponse",
    ),
    "no outcome": (
        "RecordOutcome",
        decision_pb2.RecordOutcomeRequest(decision_id="0" * 25),
        "outcome",
        "send what happened",
    ),
    "an outcome out of range": (
        "RecordOutcome",
        decision_pb2.RecordOutcomeRequest(decision_id="0" * 25, outcome=99),  # type: ignore[arg-type]
        "outcome",
        "send what happened",
    ),
    "another action than one that was not overridden": (
        "RecordOutcome",
        decision_pb2.RecordOutcomeRequest(
            decision_id="0" * 25,
            outcome=event_pb2.OUTCOME_REJECTED,
            presented_instead="callback",
        ),
        "presented_instead",
        "OUTCOME_OVERRIDDEN only; leave it out",
    ),
    "the same action instead": (
        "RecordOutcome",
        decision_pb2.RecordOutcomeRequest(
            decision_id="0" * 25,
            action="callback",
            outcome=event_pb2.OUTCOME_OVERRIDDEN,
            presented_instead="callback",
        ),
        "presented_instead",
        "send the other one",
    ),
    "an unknown action instead": (
        "RecordOutcome",
        decision_pb2.RecordOutcomeRequest(
            decision_id="0" * 25,
            outcome=event_pb2.OUTCOME_OVERRIDDEN,
            presented_instead="callbac",
        ),
        "presented_instead",
        "did you mean 'callback'?",
    ),
    "an orphan of an unknown action": (
        "RecordOutcome",
        decision_pb2.RecordOutcomeRequest(
            decision_id="0" * 25, action="callbac", outcome=event_pb2.OUTCOME_ACCEPTED
        ),
        "action",
        "did you mean 'callback'?",
    ),
    "an explanation of nothing": (
        "Explain",
        decision_pb2.ExplainRequest(),
        "decision_id",
        "send that of a DecideResponse",
    ),
    "contributions to no action": (
        "Explain",
        decision_pb2.ExplainRequest(decision_id="0" * 25, include_contributions=True),
        "action",
        "is absent",
    ),
    "a timeline of nobody": ("GetTimeline", customer_pb2.GetTimelineRequest(), "customer", "send"),
    "a page too large": (
        "GetTimeline",
        customer_pb2.GetTimelineRequest(customer=key("a"), page_size=513),
        "page_size",
        "send 1 to 512",
    ),
    "a page token that is none": (
        "GetTimeline",
        customer_pb2.GetTimelineRequest(customer=key("a"), page_token=LONG),
        "page_token",
        "send that of the answer before",
    ),
    "a filter on an unknown type": (
        "GetTimeline",
        customer_pb2.GetTimelineRequest(customer=key("a"), types=["login", "logn"]),
        "types[1]",
        "did you mean 'login'?",
    ),
    "a filter on an unknown channel": (
        "GetTimeline",
        customer_pb2.GetTimelineRequest(customer=key("a"), channels=["fax"]),
        "channels[0]",
        "send one of",
    ),
    "a profile of nobody": ("GetProfile", customer_pb2.GetProfileRequest(), "customer", "send"),
    "a change of nothing": (
        "UpdateProfile",
        customer_pb2.UpdateProfileRequest(customer=key("a")),
        "update_mask",
        "name a field",
    ),
    "a mask of an unknown field": (
        "UpdateProfile",
        customer_pb2.UpdateProfileRequest(
            customer=key("a"), update_mask=field_mask_pb2.FieldMask(paths=["atributes.age"])
        ),
        "update_mask.paths[0]",
        "send 'attributes.NAME' or 'consents'",
    ),
    "an unknown attribute": (
        "UpdateProfile",
        customer_pb2.UpdateProfileRequest(customer=key("a"), attributes={"agee": value(1.0)}),
        "attributes.agee",
        "did you mean 'age'?",
    ),
    "an attribute of the wrong type": (
        "UpdateProfile",
        customer_pb2.UpdateProfileRequest(customer=key("a"), attributes={"age": value("old")}),
        "attributes.age",
        "send number_value",
    ),
    "an attribute of NaN": (
        "UpdateProfile",
        customer_pb2.UpdateProfileRequest(customer=key("a"), attributes={"age": value(math.nan)}),
        "attributes.age",
        "leave the field out",
    ),
    "consent for an unknown purpose": (
        "UpdateProfile",
        customer_pb2.UpdateProfileRequest(
            customer=key("a"), consents=[customer_pb2.Consent(purpose="marketin", granted=True)]
        ),
        "consents[0].purpose",
        "did you mean 'marketing'?",
    ),
    "consent on an unknown channel": (
        "UpdateProfile",
        customer_pb2.UpdateProfileRequest(
            customer=key("a"),
            consents=[customer_pb2.Consent(purpose="marketing", channel="fax", granted=True)],
        ),
        "consents[0].channel",
        "send one of",
    ),
    "a link to nobody": (
        "LinkIdentity",
        customer_pb2.LinkIdentityRequest(
            identifier=event_pb2.Identifier(namespace="phone", value="1")
        ),
        "customer_id",
        "is absent",
    ),
    "a link of nothing": (
        "LinkIdentity",
        customer_pb2.LinkIdentityRequest(customer_id="a"),
        "identifier.namespace",
        "use one of",
    ),
    "nobody to forget": (
        "ForgetCustomer",
        customer_pb2.ForgetCustomerRequest(),
        "customer_id",
        "is absent; send 1 to 128",
    ),
    "an over-long customer to forget": (
        "ForgetCustomer",
        customer_pb2.ForgetCustomerRequest(customer_id="x" * 129),
        "customer_id",
        "send at most 128",
    ),
    "no bundle to activate": (
        "ActivateModel",
        admin_pb2.ActivateModelRequest(),
        "version",
        "send a published version, or rollback",
    ),
}


@pytest.mark.parametrize("wrong", OTHERS)
async def test_every_other_call_names_field_and_remedy_of(client: Client, wrong: str) -> None:
    method, request, field, remedy = OTHERS[wrong]
    stub = next(
        getattr(one, method)
        for one in (client.decisions, client.customers, client.admin)
        if hasattr(one, method)
    )
    found = await refused(stub(request))
    assert list(found) == [field]
    assert remedy in found[field]


async def test_an_explanation_names_an_action_that_its_catalogue_has_not(client: Client) -> None:
    decision_id = (await client.decide(somebody())).decision_id
    request = decision_pb2.ExplainRequest(decision_id=decision_id, action="callbac")
    found = await refused(client.decisions.Explain(request))
    assert "did you mean 'callback'?" in found["action"]


@pytest.mark.parametrize("letter", ["x", "\u20ac", "\U0001f600", "\n"])
async def test_a_flood_of_long_mistakes_still_arrives_as_an_answer(
    client: Client, letter: str
) -> None:
    """Trailers over 8 KB do not arrive at all, so what is wrong has to be told in less."""
    request = decision_pb2.DecideRequest(
        customer=named(letter * 10_000, "1"),
        channel=letter * 10_000,
        context={letter * 100 + str(i): value(letter * 1_000) for i in range(60)},
        placements=[letter * 1_000 + str(i) for i in range(8)],
    )
    found = await refused_in_part(client.decisions.Decide(request))
    assert "customer.identifier.namespace" in found
    assert "channel" in found


async def refused_in_part(call: Any) -> dict[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT, caught.value.details()
    trailing = caught.value.trailing_metadata() or ()
    assert sum(len(name) + len(data) for name, data in trailing) < 6_000
    return violations(caught.value)


async def test_an_unknown_bundle_with_an_endless_name_is_not_found(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.admin.ActivateModel(admin_pb2.ActivateModelRequest(version=LONG))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_bounds_of_a_timeline_may_be_any_timestamp(client: Client) -> None:
    customer = somebody()
    await client.record(event(customer))
    for seconds, found in ((-(2**62), 1), (2**62, 0)):
        since = timestamp_pb2.Timestamp(seconds=seconds)
        assert len((await client.timeline(customer, since=since)).events) == found
