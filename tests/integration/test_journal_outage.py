"""Every decision reaches the log once, whatever the store does meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from rapport.v1 import admin_pb2, event_pb2
from service import journal as journals
from service.embedded import EmbeddedStore
from service.journal import Journal
from tests.integration.serving import (
    Client,
    Status,
    codes,
    event,
    flushed,
    serving,
    shown,
    somebody,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def logged(client: Client, customers: list[str]) -> list[str]:
    """Ids of the decisions in the log of some customers, with repeats."""
    return [
        entry.decision.response.decision_id
        for customer in customers
        for entry in await client.log(customer)
        if entry.WhichOneof("entry") == "decision"
    ]


async def test_two_hundred_decisions_at_once_are_two_hundred_entries(client: Client) -> None:
    customers = [somebody() for _ in range(50)]
    answers = await asyncio.gather(
        *(client.decide(customers[i % 50], timeout=20) for i in range(200))
    )
    await flushed(client)
    found = await logged(client, customers)
    assert len(found) == 200
    assert Counter(found) == Counter(answer.decision_id for answer in answers)


async def test_an_entry_holds_what_an_exact_replay_needs(client: Client) -> None:
    customer = somebody()
    await client.record(event(customer))
    answer = await client.decide(customer, include_trace=False, include_features=True)
    await flushed(client)
    entry = (await client.log(customer))[-1].decision
    assert entry.request.channel == "phone"
    assert entry.response.decision_id == answer.decision_id
    assert entry.response.read == answer.read
    assert entry.response.versions == answer.versions
    assert entry.deliberation.causes
    assert [one.placement for one in entry.deliberation.placements] == ["agent_hint"]
    assert entry.inputs.seed
    assert entry.inputs.greedy
    assert not entry.response.trace
    assert not entry.response.HasField("features")
    assert entry.feature_digest == answer.features.digest
    assert len(entry.vector) == 8 * len(answer.features.values)
    assert entry.caller == "local"
    assert [one.action for one in entry.action_vectors] == shown(answer)


async def test_a_full_journal_is_said_in_the_answer_and_counted(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(url) as client:
        monkeypatch.setattr(client.server.journal, "_capacity", 0)
        customer = somebody()
        answer = await client.decide(customer)
        assert "UNJOURNALED" in codes(answer)
        assert shown(answer)
        status = await client.admin.GetStatus(admin_pb2.GetStatusRequest())
        assert (status.journal_pending, status.journal_dropped) == (0, 1)
        assert await logged(client, [customer]) == []


async def test_a_journal_outlives_its_store(tmp_path: Path) -> None:
    first = EmbeddedStore(tmp_path, port=0)
    customers = [somebody() for _ in range(20)]
    taken = []
    try:
        async with serving(first.url) as client:
            taken += [(await client.decide(one)).decision_id for one in customers]
            os.kill(first.pid, signal.SIGKILL)
            answers = [await client.decide(one) for one in customers]
            taken += [one.decision_id for one in answers]
            assert client.server.journal.pending >= 20
            # What waits is known already to who asks for it.
            with EmbeddedStore(tmp_path, port=first.port):
                await flushed(client)
                found = await logged(client, customers)
                assert Counter(found) == Counter(taken)
                done = await client.outcome(
                    taken[-1], shown(answers[-1])[0], event_pb2.OUTCOME_PRESENTED
                )
                assert done == Status.STATUS_STORED
                assert client.server.journal.dropped == 0
    finally:
        first.stop()


async def test_a_server_that_stops_writes_what_waits(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer, tenant = somebody(), uuid.uuid4().hex
    async with serving(url, tenant=tenant) as client:
        write = client.store.journal

        async def slow(decisions: Sequence[tuple[str, str, bytes, bytes]]) -> list[bool]:
            await asyncio.sleep(0.3)
            return await write(decisions)

        monkeypatch.setattr(client.store, "journal", slow)
        taken = (await client.decide(customer)).decision_id
        assert client.server.journal.pending == 1
    assert await logged(client, [customer]) == [taken]


async def test_a_server_that_stops_writes_what_waits_though_the_store_was_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "_SLOWEST_RETRY", 0.2)
    first = EmbeddedStore(tmp_path, port=0)
    customer, tenant = somebody(), uuid.uuid4().hex
    try:
        async with serving(first.url, tenant=tenant, grace=5.0) as client:
            os.kill(first.pid, signal.SIGKILL)
            taken = (await client.decide(customer)).decision_id
            closing = asyncio.create_task(client.server.journal.close(5.0))
            await asyncio.sleep(0.3)
            with EmbeddedStore(tmp_path, port=first.port):
                await closing
                assert await logged(client, [customer]) == [taken]
                assert client.server.journal.dropped == 0
    finally:
        first.stop()


async def test_what_cannot_be_written_before_the_end_is_counted(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, port=0)
    try:
        async with serving(store.url, grace=0.1) as client:
            os.kill(store.pid, signal.SIGKILL)
            await client.decide(somebody())
            journal: Journal = client.server.journal
            await journal.close(0.2)
            assert journal.dropped == 1
    finally:
        store.stop()
