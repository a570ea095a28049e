"""What became of an action finds its customer and changes the next answer."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import grpc
import pytest
from redis.asyncio import Redis

from features.duration import DAY, HOUR, MINUTE
from features.partition import partition
from features.record import RESERVED, LogId, decode, pack, reservation_hash
from rapport.v1 import customer_pb2, decision_pb2, event_pb2, log_pb2
from service import keys
from service.store import Hold
from tests.integration.serving import (
    Client,
    Status,
    business,
    codes,
    drops,
    event,
    flushed,
    moment,
    now,
    serving,
    shown,
    somebody,
    stamp,
    violations,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def offered(client: Client) -> tuple[str, decision_pb2.DecideResponse, str]:
    """A consenting customer, an answer for them, and an offer to grow that is part of it."""
    for _ in range(20):  # chance decides what is shown
        customer = somebody()
        await client.consent(customer)
        answer = await client.decide(customer, max_actions=20)
        grow = [name for name in shown(answer) if business().by_name[name].issue == "grow"]
        if grow:
            return customer, answer, grow[0]
    raise AssertionError("nothing was offered")


async def alone(client: Client, customer: str, action: str) -> decision_pb2.DecideResponse:
    """An answer of one action; chance may hold an answer back."""
    while (answer := await client.decide(customer, allow_actions=[action])).slates[0].held_back:
        pass
    assert shown(answer) == [action]
    return answer


@pytest.mark.parametrize("wait", [False, True])
async def test_an_outcome_finds_its_customer_by_the_decision_alone(
    client: Client, wait: bool
) -> None:
    customer, answer, action = await offered(client)
    if wait:
        await flushed(client)
    answered = await client.decisions.RecordOutcome(
        decision_pb2.RecordOutcomeRequest(
            decision_id=answer.decision_id,
            action=action,
            outcome=event_pb2.OUTCOME_ACCEPTED,
            value=12.5,
        )
    )
    assert answered.customer_id == customer
    assert answered.status == Status.STATUS_STORED
    (kept,) = (await client.timeline(customer)).events
    assert (kept.action, kept.outcome) == (action, event_pb2.OUTCOME_ACCEPTED)
    assert (kept.channel, kept.type, kept.value) == ("phone", "outcome", 12.5)


async def test_an_outcome_is_found_while_its_decision_waits_for_the_log(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = asyncio.Event()
    write = client.store.journal

    async def held(decisions: list[tuple[str, str, bytes, bytes]]) -> list[bool]:
        await released.wait()
        return await write(decisions)

    monkeypatch.setattr(client.store, "journal", held)
    customer, answer, action = await offered(client)
    try:
        assert client.server.journal.waiting(answer.decision_id)
        done = await client.outcome(answer.decision_id, action, event_pb2.OUTCOME_PRESENTED)
        assert done == Status.STATUS_STORED
        explained = await client.decisions.Explain(
            decision_pb2.ExplainRequest(decision_id=answer.decision_id, action=action)
        )
        assert [one.rank for one in explained.candidates if not one.dropped_by]
    finally:
        released.set()
    await flushed(client)
    assert (await client.timeline(customer)).total == 1


async def test_repeating_an_outcome_changes_nothing_and_says_so(client: Client) -> None:
    customer, answer, action = await offered(client)
    for wanted in (Status.STATUS_STORED, Status.STATUS_DUPLICATE):
        done = await client.outcome(answer.decision_id, action, event_pb2.OUTCOME_PRESENTED)
        assert done == wanted
    assert (await client.timeline(customer)).total == 1


async def test_the_callers_own_id_makes_outcomes_of_one_kind_different(client: Client) -> None:
    customer, answer, action = await offered(client)
    clicked = event_pb2.OUTCOME_CLICKED
    when = stamp(now() - 1_000)
    for id, wanted in (
        ("click-1", Status.STATUS_STORED),
        ("click-2", Status.STATUS_STORED),
        ("click-1", Status.STATUS_DUPLICATE),
    ):
        done = await client.outcome(
            answer.decision_id, action, clicked, event_id=id, occurred_at=when
        )
        assert done == wanted
    assert (await client.timeline(customer)).total == 2


async def test_repeating_an_outcome_with_an_id_and_no_time_is_a_duplicate_too(
    client: Client,
) -> None:
    _, answer, action = await offered(client)
    clicked = event_pb2.OUTCOME_CLICKED
    statuses = []
    for _ in range(2):
        statuses.append(
            await client.outcome(answer.decision_id, action, clicked, event_id="click-1")
        )
        await asyncio.sleep(0.01)
    assert statuses == [Status.STATUS_STORED, Status.STATUS_DUPLICATE]


def unknown(age: int = HOUR) -> str:
    """An id of a decision that nobody has taken."""
    return f"07{now() - age:011x}{uuid.uuid4().hex[:12]}"


async def orphans(client: Client, decision_id: str) -> list[log_pb2.OutcomeOrphaned]:
    async with Redis.from_url(client.url) as redis:
        found: Any = await redis.xrange(keys.decision_log(client.store.tenant, decision_id))
    entries = [log_pb2.LogEntry.FromString(fields[b"e"]) for _, fields in found]
    return [one.orphan for one in entries if one.orphan.decision_id == decision_id]


@pytest.mark.parametrize("age", [HOUR, 40 * DAY, 0])
async def test_an_outcome_of_an_unknown_decision_is_an_orphan_and_logged_once(
    client: Client, age: int
) -> None:
    decision_id = unknown(age)
    request = decision_pb2.RecordOutcomeRequest(
        decision_id=decision_id, action="callback", outcome=event_pb2.OUTCOME_ACCEPTED, value=3.0
    )
    for _ in range(2):
        answered = await client.decisions.RecordOutcome(request)
        assert answered.status == Status.STATUS_ORPHAN
        assert not answered.customer_id
    (logged,) = await orphans(client, decision_id)
    assert (logged.event.action, logged.event.value) == ("callback", 3.0)
    assert logged.caller == "local"
    assert not logged.event.HasField("customer")
    assert await client.outcome(decision_id, "callback", event_pb2.OUTCOME_REJECTED) == (
        Status.STATUS_ORPHAN
    )
    assert len(await orphans(client, decision_id)) == 2


@pytest.mark.parametrize("decision_id", ["0" * 25, "f" * 25])
async def test_an_id_that_no_server_gives_is_an_orphan_too(
    client: Client, decision_id: str
) -> None:
    done = await client.outcome(decision_id, "callback", event_pb2.OUTCOME_PRESENTED)
    assert done == Status.STATUS_ORPHAN


async def test_an_outcome_of_a_decision_that_is_forgotten_by_now_is_an_orphan(
    client: Client,
) -> None:
    customer, answer, action = await offered(client)
    await flushed(client)
    await client.customers.ForgetCustomer(customer_pb2.ForgetCustomerRequest(customer_id=customer))
    done = await client.outcome(answer.decision_id, action, event_pb2.OUTCOME_PRESENTED)
    assert done == Status.STATUS_ORPHAN
    assert (await client.timeline(customer)).total == 0


async def test_an_outcome_may_overtake_its_decision_on_the_way_from_another_server(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another server's journal is not ours: the store has to be asked again."""
    customer, answer, action = await offered(client)
    await flushed(client)
    asked = 0
    decided = client.store.decided

    async def late(decision_id: str) -> bytes | None:
        nonlocal asked
        asked += 1
        return None if asked < 3 else await decided(decision_id)

    monkeypatch.setattr(client.store, "decided", late)
    done = await client.outcome(answer.decision_id, action, event_pb2.OUTCOME_PRESENTED)
    assert (done, asked) == (Status.STATUS_STORED, 3)
    assert (await client.timeline(customer)).total == 1


async def test_an_outcome_at_another_server_waits_for_the_journal_of_the_first(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = client.store.journal

    async def slow(decisions: list[tuple[str, str, bytes, bytes]]) -> list[bool]:
        await asyncio.sleep(0.06)
        return await write(decisions)

    async with serving(client.url, tenant=client.store.tenant) as other:
        monkeypatch.setattr(client.store, "journal", slow)
        customer, answer, action = await offered(client)
        done = await other.outcome(answer.decision_id, action, event_pb2.OUTCOME_PRESENTED)
    assert done == Status.STATUS_STORED
    assert (await client.timeline(customer)).total == 1


async def test_only_a_young_decision_is_looked_for_again_and_not_for_long(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def never(decision_id: str) -> None:
        nonlocal asked
        asked += 1

    monkeypatch.setattr(client.store, "decided", never)
    for age, tries, seconds in ((0, 4, 2.0), (MINUTE, 1, 2.0)):
        asked, start = 0, time.monotonic()
        await client.outcome(unknown(age), "callback", event_pb2.OUTCOME_PRESENTED)
        assert asked == tries
        assert time.monotonic() - start < seconds
    asked = 0
    request = decision_pb2.RecordOutcomeRequest(
        decision_id=unknown(0), outcome=event_pb2.OUTCOME_RESOLVED
    )
    answered = await client.decisions.RecordOutcome(request, timeout=0.09)
    assert answered.status == Status.STATUS_ORPHAN
    assert asked < 4


async def reserved(client: Client, customer: str) -> set[int]:
    """Hashes of the reservations in a customer's ledger."""
    _, ledger = decode((await client.store.read(customer)).ledger)
    return {int(one["hash"]) for one in ledger if one["outcome"] == RESERVED}


async def reserve(client: Client, customer: str, decision_id: str, action: str) -> int:
    """Reserve an action as a decision does."""
    hash = reservation_hash(decision_id, action)
    packed = pack(
        occurred_at=now(),
        hash=hash,
        type=business().vocabulary.type_codes["outcome"],
        action=business().vocabulary.actions[action],
        outcome=RESERVED,
        value=3_600.0,
    )
    entry = log_pb2.LogEntry(
        customer_id=customer,
        reserved=log_pb2.ActionReserved(record=packed, decision_id=decision_id),
    )
    hold = Hold(packed, [], entry.SerializeToString())
    assert await client.store.reserve(customer, now(), [hold]) == [True]
    assert hash in await reserved(client, customer)
    return hash


@pytest.mark.parametrize(
    ("outcome", "ends"),
    [
        (event_pb2.OUTCOME_PRESENTED, True),
        (event_pb2.OUTCOME_OVERRIDDEN, True),
        (event_pb2.OUTCOME_CLICKED, False),
    ],
)
@pytest.mark.parametrize("call", ["RecordOutcome", "RecordEvents"])
async def test_a_reservation_ends_when_its_action_is_presented_or_overridden(
    client: Client, outcome: event_pb2.Outcome.ValueType, ends: bool, call: str
) -> None:
    customer, answer, action = await offered(client)
    hash = await reserve(client, customer, answer.decision_id, action)
    other = await reserve(client, customer, unknown(), action)
    if call == "RecordOutcome":
        await client.outcome(answer.decision_id, action, outcome)
    else:
        fields = {"action": action, "outcome": outcome, "decision_id": answer.decision_id}
        sent = event(customer, type="outcome", occurred_at=stamp(now()), **fields)
        await client.record(sent)
    left = await reserved(client, customer)
    assert (hash not in left) is ends
    assert other in left
    (told,) = [one.event for one in await client.log(customer) if one.HasField("event")]
    assert told.releases == (hash.to_bytes(8, "little") if ends else b"")


async def test_what_an_agent_presented_instead_is_recorded_as_presented(client: Client) -> None:
    customer, answer, action = await offered(client)
    request = decision_pb2.RecordOutcomeRequest(
        decision_id=answer.decision_id,
        action=action,
        outcome=event_pb2.OUTCOME_OVERRIDDEN,
        presented_instead="callback",
    )
    for wanted in (Status.STATUS_STORED, Status.STATUS_DUPLICATE):
        assert (await client.decisions.RecordOutcome(request)).status == wanted
    kept = (await client.timeline(customer)).events
    assert {(one.action, one.outcome) for one in kept} == {
        (action, event_pb2.OUTCOME_OVERRIDDEN),
        ("callback", event_pb2.OUTCOME_PRESENTED),
    }
    presented = event_pb2.OUTCOME_PRESENTED
    if "callback" in shown(answer):
        done = await client.outcome(answer.decision_id, "callback", presented)
        assert done == Status.STATUS_DUPLICATE
    assert (await client.timeline(customer)).total == 2


async def test_what_was_presented_instead_counts_for_its_contact_limit(client: Client) -> None:
    customer, answer, action = await offered(client)
    lending = business().by_name[action].group
    other = next(
        one.name for one in business().actions if one.issue == "grow" and one.group != lending
    )
    limit = next(one for one in business().policies.limits if one.name == "grow_each")
    for number in range(limit.at_most):
        done = await client.outcome(
            answer.decision_id,
            action,
            event_pb2.OUTCOME_OVERRIDDEN,
            event_id=str(number),
            presented_instead=other,
        )
        assert done == Status.STATUS_STORED
    after = await client.decide(customer, max_actions=20)
    (why,) = [one.reason.text for one in after.trace if one.action == other]
    assert "grow_each" in why


async def test_an_outcome_of_an_action_that_was_not_in_the_answer_is_refused(
    client: Client,
) -> None:
    customer = somebody()
    answer = await client.decide(customer, "ivr")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.outcome(answer.decision_id, "gold_credit_card", event_pb2.OUTCOME_ACCEPTED)
    found = violations(caught.value)
    assert "'gold_credit_card' was not in the answer" in found["action"]
    assert shown(answer)[0] in found["action"]
    assert (await client.timeline(customer)).total == 0


async def test_an_outcome_may_be_about_the_contact_as_a_whole(client: Client) -> None:
    customer, answer, _ = await offered(client)
    done = await client.outcome(answer.decision_id, "", event_pb2.OUTCOME_RESOLVED)
    assert done == Status.STATUS_STORED
    (kept,) = (await client.timeline(customer)).events
    assert not kept.action


async def test_presented_comes_before_accepted_though_both_are_of_the_decisions_moment(
    client: Client,
) -> None:
    customer, answer, action = await offered(client)
    await client.outcome(answer.decision_id, action, event_pb2.OUTCOME_ACCEPTED)
    await client.outcome(answer.decision_id, action, event_pb2.OUTCOME_PRESENTED)
    kept = (await client.timeline(customer)).events
    assert [one.outcome for one in kept] == [
        event_pb2.OUTCOME_ACCEPTED,
        event_pb2.OUTCOME_PRESENTED,
    ]
    assert {moment(one.occurred_at) for one in kept} == {moment(answer.decided_at)}


async def test_a_rejected_offer_is_gone_from_the_next_answer_and_the_trace_says_why(
    client: Client,
) -> None:
    customer, answer, action = await offered(client)
    await client.outcome(answer.decision_id, action, event_pb2.OUTCOME_REJECTED)
    after = await client.decide(customer, max_actions=20)
    assert action not in shown(after)
    assert drops(after)[action] == "CONTACT_LIMIT"
    (why,) = [one for one in after.trace if one.action == action]
    assert why.dropped_by == decision_pb2.STAGE_CONTACT_POLICY
    # What the answer before holds may have used up a limit on all of them, too.
    reasons = {one.action: [one.reason, *one.also] for one in after.trace}
    rejected = [
        name
        for name, told in reasons.items()
        if any("Rejected once within 30d" in one.text for one in told)
    ]
    assert rejected == [action]
    assert "RESERVATION_FAILED" not in codes(after), "what is held left room for what was drawn"


async def test_a_contact_limit_counts_what_was_presented_and_nothing_else(
    client: Client,
) -> None:
    *_, action = await offered(client)
    customer = somebody()  # to whom nothing else was shown, which would count for all that grows
    await client.consent(customer)
    answer = await alone(client, customer, action)
    limit = next(one for one in business().policies.limits if one.name == "grow_each")
    for number in range(limit.at_most + 2):
        for kind in (event_pb2.OUTCOME_GENERATED, event_pb2.OUTCOME_CLICKED):
            await client.outcome(answer.decision_id, action, kind, event_id=f"{kind}-{number}")
    presented = event_pb2.OUTCOME_PRESENTED
    await client.outcome(answer.decision_id, action, presented)
    for _ in range(limit.at_most - 1):
        # Each decision reserves what it shows, until it is presented.
        after = await alone(client, customer, action)
        await client.outcome(after.decision_id, action, presented)
    after = await client.decide(customer, allow_actions=[action])
    assert drops(after)[action] == "CONTACT_LIMIT"


async def test_a_contact_limit_forgets_what_its_window_has_left_behind(client: Client) -> None:
    customer = somebody()
    await client.consent(customer)
    action = "gold_credit_card"
    old, new = now() - 30 * DAY - HOUR, now() - 30 * DAY + HOUR
    fields = {"type": "outcome", "action": action, "outcome": event_pb2.OUTCOME_REJECTED}
    await client.record(event(customer, occurred_at=stamp(old), **fields))
    assert drops(await client.decide(customer))[action] != "CONTACT_LIMIT"
    await client.record(event(customer, occurred_at=stamp(new), **fields))
    assert drops(await client.decide(customer))[action] == "CONTACT_LIMIT"


async def test_more_events_than_a_timeline_holds_do_not_reopen_a_limit(client: Client) -> None:
    customer, answer, action = await offered(client)
    await client.outcome(answer.decision_id, action, event_pb2.OUTCOME_REJECTED)
    flood = [event(customer, occurred_at=stamp(now() + i)) for i in range(600)]
    assert set(await client.record(*flood)) == {Status.STATUS_STORED}
    timeline = await client.timeline(customer, types=["outcome"])
    assert (timeline.total, len(timeline.events)) == (512, 0)
    after = await client.decide(customer, max_actions=20)
    assert drops(after)[action] == "CONTACT_LIMIT"


async def test_an_outcome_finds_its_decision_after_the_log_was_trimmed(client: Client) -> None:
    customer, answer, action = await offered(client)
    await flushed(client)
    await client.store.trim(partition(customer), LogId(now() + HOUR, 0))
    assert await client.log(customer) == []
    done = await client.outcome(answer.decision_id, action, event_pb2.OUTCOME_ACCEPTED)
    assert done == Status.STATUS_STORED
    with pytest.raises(grpc.aio.AioRpcError, match="trimmed") as refused:
        await client.decisions.Explain(decision_pb2.ExplainRequest(decision_id=answer.decision_id))
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
