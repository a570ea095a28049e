"""Emotions: a customer's on a lawful basis, or none; an agent's never."""

from __future__ import annotations

import io
import json
import struct
import uuid
from typing import Any

import pytest
import structlog
from redis.asyncio import Redis

from rapport.v1 import decision_pb2, event_pb2
from service import logs
from tests.integration.serving import Client, Status, event, somebody, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

Mood = event_pb2.Sentiment


def mood(**fields: Any) -> event_pb2.Sentiment:
    """A reading that may be kept, but for the fields that are given."""
    sound: dict[str, Any] = {
        "score": -0.75,
        "subject": Mood.SUBJECT_CUSTOMER,
        "modality": Mood.MODALITY_VOICE,
        "source": "voice-2026",
        "basis": Mood.BASIS_CONSENT,
    }
    return Mood(**{**sound, **fields})


async def holding(client: Client, text: bytes) -> list[bytes]:
    """Keys of the store that hold some bytes anywhere."""
    found = []
    async with Redis.from_url(client.url) as redis:
        async for name in redis.scan_iter(match=f"*{client.store.tenant}*", count=10_000):
            kind = await redis.type(name)
            held: Any = b""
            if kind == b"stream":
                entries: Any = await redis.xrange(name)
                held = b"".join(fields[b"e"] for _, fields in entries)
            elif kind == b"string":
                held = await redis.get(name)
            if text in held:
                found.append(name)
    return found


async def test_a_reading_on_a_lawful_basis_is_kept_with_where_it_is_from(client: Client) -> None:
    customer = somebody()
    assert await client.record(event(customer, sentiment=mood())) == [Status.STATUS_STORED]
    (kept,) = (await client.timeline(customer)).events
    assert kept.sentiment == -0.75
    (entry,) = await client.log(customer)
    assert entry.event.event.sentiment == mood()
    assert not entry.event.sentiment_dropped


@pytest.mark.parametrize("kind", ["event", "outcome"])
async def test_a_reading_without_a_basis_is_dropped_everywhere_and_nothing_else_is(
    client: Client, kind: str
) -> None:
    customer, source = somebody(), f"voice-{uuid.uuid4().hex}"
    fields: dict[str, Any] = {"value": 3.0}
    if kind == "outcome":
        fields |= {"type": "outcome", "action": "callback", "outcome": event_pb2.OUTCOME_PRESENTED}
    reading = mood(source=source, basis=Mood.BASIS_UNSPECIFIED)
    sent = event(customer, sentiment=reading, **fields)
    assert await client.record(sent) == [Status.STATUS_STORED]
    (kept,) = (await client.timeline(customer)).events
    assert not kept.HasField("sentiment")
    assert kept.value == 3.0
    (entry,) = await client.log(customer)
    assert not entry.event.event.HasField("sentiment")
    assert entry.event.sentiment_dropped == "no basis was stated"
    assert await holding(client, source.encode()) == []
    # Without its reading it is the same event.
    sent.ClearField("sentiment")
    assert await client.record(sent) == [Status.STATUS_DUPLICATE]


async def test_an_agents_mood_is_refused_and_leaves_no_trace(client: Client) -> None:
    customer, id = somebody(), uuid.uuid4().hex
    for basis in Mood.Basis.values():
        sent = event(
            customer,
            event_id=id,
            agent_id="agent-7",
            sentiment=mood(subject=Mood.SUBJECT_AGENT, basis=basis),
        )
        answer = await client.decisions.RecordEvents(
            decision_pb2.RecordEventsRequest(events=[sent, event(customer)])
        )
        assert [one.status for one in answer.results] == [
            Status.STATUS_INVALID,
            Status.STATUS_STORED,
        ]
        wrong = answer.results[0].violation
        assert wrong.field == "events[0].sentiment.subject"
        assert "Rapport keeps no emotions of employees" in wrong.description
    assert await holding(client, id.encode()) == []


async def test_what_an_older_client_sends_as_sentiment_is_not_kept(client: Client) -> None:
    """It was a plain number in field 14, of nobody knows whom."""
    customer, score = somebody(), struct.pack("<d", -0.8671875)
    written = event(customer).SerializeToString() + b"\x71" + score
    old = event_pb2.Event.FromString(written)
    assert score in old.SerializeToString()
    assert await client.record(old) == [Status.STATUS_STORED]
    assert await holding(client, score) == []


async def test_the_canonical_line_counts_what_was_dropped(client: Client) -> None:
    output, before = io.StringIO(), structlog.get_config()
    output.close = lambda: None  # type: ignore[method-assign]
    writer = logs.configure(output)
    try:
        request_id, customer = uuid.uuid4().hex, somebody()
        without = mood(basis=Mood.BASIS_UNSPECIFIED)
        some = [None, without, mood(), without, mood(subject=Mood.SUBJECT_AGENT)]
        await client.decisions.RecordEvents(
            decision_pb2.RecordEventsRequest(
                events=[event(customer, sentiment=reading) for reading in some]
            ),
            metadata=(("x-request-id", request_id),),
        )
        await until(lambda: request_id in output.getvalue())
    finally:
        writer.close()
        structlog.configure(**before)
    lines = [json.loads(one) for one in output.getvalue().splitlines()]
    (line,) = [one for one in lines if one.get("request_id") == request_id]
    assert (line["events"], line["refused"], line["sentiments_dropped"]) == (5, 1, 2)
    assert "voice-2026" not in json.dumps(line)
