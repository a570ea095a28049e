"""A logged decision is computed again to the last byte, whatever was written around it."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

from features.partition import PARTITIONS
from features.record import LogId
from rapport.v1 import customer_pb2, decision_pb2, event_pb2, log_pb2
from service.budget import Budget
from service.decide import Decider
from service.models import Models
from service.reasons import Reason
from service.store import Hold, Snapshot
from tests.integration.serving import (
    Client,
    event,
    flushed,
    key,
    named,
    now,
    sealed,
    serving,
    somebody,
    stamp,
    value,
)
from training import export
from training.past import Sources

DECISIONS = 1_000
CUSTOMERS = 40
HURRIES = (
    *(None for _ in range(18)),
    Reason("MODELS_SKIPPED", "No time was left for the models"),
    Reason("OUT_OF_TIME", "No time was left to compute anything"),
)
CHANNELS = ("agent_desktop", "ivr", "chat", "web", "app", "email")
TYPES = ("page_viewed", "login", "payment", "self_service_failed", "contact_started", "search")


async def writes(client: Client, chance: random.Random, customers: list[str]) -> None:
    """Events, late ones among them, profiles, outcomes and merges, for ever."""
    while True:
        customer = chance.choice(customers)
        ago = chance.choice((0, 1_000, 3_600_000, 86_400_000 * 20))
        await client.decisions.RecordEvents(
            decision_pb2.RecordEventsRequest(
                events=[
                    event(
                        customer,
                        type=chance.choice(TYPES),
                        occurred_at=stamp(now() - ago - chance.randrange(1_000)),
                        channel="web",
                    )
                    for _ in range(chance.randrange(1, 6))
                ]
            )
        )
        if chance.random() < 0.2:
            await client.customers.UpdateProfile(
                customer_pb2.UpdateProfileRequest(
                    customer=key(customer),
                    attributes={"age": value(float(chance.randrange(18, 90)))},
                    consents=[
                        customer_pb2.Consent(purpose="marketing", granted=chance.random() < 0.8)
                    ],
                )
            )
        if chance.random() < 0.03:
            phone = f"+31 6 {chance.randrange(10**8):08d}"
            await client.decisions.RecordEvents(
                decision_pb2.RecordEventsRequest(events=[event(named("phone", phone))])
            )
            await client.customers.LinkIdentity(
                customer_pb2.LinkIdentityRequest(
                    identifier=event_pb2.Identifier(namespace="phone", value=phone),
                    customer_id=customer,
                )
            )
        await asyncio.sleep(0)


async def decides(client: Client, chance: random.Random, customers: list[str], count: int) -> None:
    """Decisions of every kind, each followed by outcomes of what it showed."""
    for _ in range(count):
        channel = chance.choice(CHANNELS)
        answer = await client.decisions.Decide(
            decision_pb2.DecideRequest(
                customer=key(chance.choice(customers)),
                channel=channel,
                assurance=decision_pb2.ASSURANCE_VERIFIED,
                interaction_id=uuid.uuid4().hex if chance.random() < 0.5 else "",
                context={"wait_seconds": value(float(chance.randrange(600)))},
            ),
            timeout=chance.choice((30.0, 30.0, 0.25)),  # the store is slower than the last
        )
        for slate in answer.slates:
            for one in slate.recommendations:
                if chance.random() < 0.5:
                    await client.decisions.RecordOutcome(
                        decision_pb2.RecordOutcomeRequest(
                            decision_id=answer.decision_id,
                            action=one.action,
                            outcome=chance.choice(
                                (
                                    event_pb2.OUTCOME_PRESENTED,
                                    event_pb2.OUTCOME_ACCEPTED,
                                    event_pb2.OUTCOME_REJECTED,
                                    event_pb2.OUTCOME_OVERRIDDEN,
                                )
                            ),
                        )
                    )


@pytest.mark.timeout(240)
async def test_a_thousand_decisions_under_concurrent_writes_merges_and_late_inputs_come_out_alike(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    customers = [somebody() for _ in range(CUSTOMERS)]
    async with serving(url, bundle=sealed(), greedy=False) as client:
        chance = random.Random(7)
        read, reserve = client.store.read, client.store.reserve
        corrupt = set(customers[:3])

        async def late_now_and_then(customer: str) -> Snapshot:
            snapshot = await read(customer)
            if chance.random() < 0.05:
                await asyncio.sleep(0.2)
            if snapshot.customer_id in corrupt and chance.random() < 0.3:
                return snapshot._replace(ledger=b"nonsense")
            return snapshot

        def hurried_now_and_then(
            decider: Decider, budget: Budget, models: Models | None
        ) -> Reason | None:
            return chance.choice(HURRIES)

        async def beaten_now_and_then(
            customer: str, now: int, holds: Sequence[Hold], read_at: LogId | None
        ) -> list[bool]:
            if chance.random() < 0.05:  # as if another decision had taken the last place
                return [False] * len(holds)
            return await reserve(customer, now, holds, read_at)

        monkeypatch.setattr(client.store, "read", late_now_and_then)
        monkeypatch.setattr(client.store, "reserve", beaten_now_and_then)
        monkeypatch.setattr(Decider, "_unscored", hurried_now_and_then)
        writing = [
            asyncio.create_task(writes(client, random.Random(seed), customers)) for seed in range(3)
        ]
        share = DECISIONS // 8
        await asyncio.gather(
            *(decides(client, random.Random(100 + i), customers, share) for i in range(8))
        )
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)
        monkeypatch.undo()
        await flushed(client)
        await export.export(client.store, tmp_path)

    sources = Sources(tmp_path, None)
    entries = [one for number in range(PARTITIONS) for one in await sources.decisions(number)]
    again = [await sources.of(entry) for entry in entries]
    logged = [log_pb2.LogEntry.FromString(entry.entry).decision for entry in entries]
    assert len(entries) == DECISIONS
    assert [(one.decision_id, one.differences) for one in again if not one.same] == []
    # What the test is about did happen.
    assert any(one.response.read.members for one in logged)
    assert any(one.inputs.HasField("unread") for one in logged)
    assert any(one.inputs.unreadable for one in logged)
    assert any(not reply.reserved for one in logged for reply in one.inputs.reservations)
    assert any(reply.reserved for one in logged for reply in one.inputs.reservations)
    assert len({one.response.rung for one in logged}) == 4
