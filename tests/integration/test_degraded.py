"""With something missing there is still an answer, in time, and it says what was missing."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from rapport.v1 import admin_pb2, decision_pb2, event_pb2
from service import keys
from service.bundle import Bundle
from service.embedded import EmbeddedStore
from tests.integration.serving import (
    Client,
    Status,
    business,
    codes,
    drops,
    event,
    flushed,
    named,
    serving,
    shown,
    somebody,
    until,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

PURPOSELESS = {action.name for action in business().actions if action.purpose is None}


@pytest.fixture(scope="module")
def store() -> Iterator[EmbeddedStore]:
    """A store of this module's own, which it may stop."""
    with EmbeddedStore() as store:
        yield store


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(store: EmbeddedStore, bundle: Bundle) -> AsyncIterator[Client]:
    async with serving(store.url, bundle=bundle) as client:
        yield client


@contextmanager
def hanging(pid: int) -> Iterator[None]:
    """Stop a process without ending it."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def in_time(
    call: Callable[[], Awaitable[decision_pb2.DecideResponse]],
) -> decision_pb2.DecideResponse:
    """An answer before the deadline; cores are shared, so a tight one gets a few tries."""
    for _ in range(4):
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
    return await call()


async def spoil(client: Client, key: str, written: bytes) -> None:
    async with Redis.from_url(client.url) as redis:
        await redis.set(key, written)


async def customer_with_all(client: Client) -> str:
    customer = somebody()
    await client.record(event(customer), event(customer))
    await client.consent(customer)
    return customer


SPOILT = [b"nonsense", b"rapport1", b"rapport1" + bytes(16) + b"\xff\xff\xff", b"rapport0" * 8]


@pytest.mark.parametrize("written", SPOILT)
async def test_without_a_readable_profile_only_what_needs_no_consent_is_offered(
    client: Client, written: bytes
) -> None:
    customer = await customer_with_all(client)
    await spoil(client, keys.profile(client.store.tenant, customer), written)
    answer = await client.decide(customer, max_actions=20)
    assert "PROFILE_UNREADABLE" in codes(answer)
    assert answer.rung == decision_pb2.RUNG_FULL
    assert answer.read.events == 2
    assert shown(answer)
    assert set(shown(answer)) <= PURPOSELESS
    assert "CONSENT_UNREADABLE" in drops(answer).values()


@pytest.mark.parametrize("written", SPOILT)
async def test_without_a_readable_ledger_only_what_no_limit_covers_is_offered(
    client: Client, written: bytes
) -> None:
    customer = await customer_with_all(client)
    await spoil(client, keys.ledger(client.store.tenant, customer), written)
    answer = await client.decide(customer, max_actions=20)
    assert "LEDGER_UNREADABLE" in codes(answer)
    assert shown(answer)
    issues = {business().by_name[name].issue for name in shown(answer)}
    assert issues <= {"service", "recover"}
    assert "LEDGER_UNREADABLE" in drops(answer).values()


@pytest.mark.parametrize("written", SPOILT)
async def test_without_a_readable_timeline_the_answer_comes_from_the_rung_below(
    client: Client, written: bytes
) -> None:
    customer = await customer_with_all(client)
    await spoil(client, keys.timeline(client.store.tenant, customer), written)
    answer = await client.decide(customer, max_actions=20)
    assert answer.rung == decision_pb2.RUNG_WITHOUT_TIMELINE
    assert "TIMELINE_UNREADABLE" in codes(answer)
    assert "NEW_CUSTOMER" not in codes(answer)
    assert answer.intents
    assert not answer.facts
    assert not answer.read.timeline
    assert set(shown(answer)) - PURPOSELESS  # the profile was read


async def test_without_a_bundle_priors_rank_the_actions(url: str) -> None:
    async with serving(url) as bare:
        answer = await bare.decide(somebody())
        assert answer.rung == decision_pb2.RUNG_WITHOUT_MODELS
        assert "NO_MODEL" in codes(answer)
        assert not answer.versions.bundle
        assert not answer.intents
        for slate in answer.slates:
            for one in slate.recommendations:
                prior = business().by_name[one.action].prior
                assert one.factors.acceptance_probability == prior


async def test_an_utterance_that_nothing_reads_is_said_to_be_unread(client: Client) -> None:
    assert "UTTERANCE_NOT_READ" in codes(await client.decide(somebody(), utterance="my card"))


async def test_a_store_that_hangs_is_not_waited_for_past_the_deadline(
    served: Client, store: EmbeddedStore
) -> None:
    customer = await customer_with_all(served)
    await served.decide(customer)
    with hanging(store.pid):
        answer = await in_time(lambda: served.decide(customer, timeout=0.06))
    assert "TIMELINE_LATE" in codes(answer)
    assert answer.rung in (decision_pb2.RUNG_WITHOUT_TIMELINE, decision_pb2.RUNG_WITHOUT_MODELS)
    assert set(shown(answer)) <= PURPOSELESS
    assert shown(answer)
    await recovered(served, customer)


async def test_a_store_that_hangs_keeps_no_caller_who_named_an_identifier(
    served: Client, store: EmbeddedStore
) -> None:
    whom = named("phone", "0031 20 5551234")
    await served.record(event(whom))
    with hanging(store.pid):
        answer = await in_time(lambda: served.decide(whom, "ivr", timeout=0.1))
    assert "TIMELINE_LATE" in codes(answer)
    assert set(shown(answer)) <= PURPOSELESS
    assert shown(answer)

    async def known() -> bool:
        return (await served.decide(whom, "ivr")).read.events == 1

    await until(known)


async def test_a_call_without_a_deadline_has_that_of_the_server(
    served: Client, store: EmbeddedStore
) -> None:
    customer = await customer_with_all(served)
    with hanging(store.pid):
        start = time.perf_counter()
        answer = await served.decide(customer, timeout=None)
        took = time.perf_counter() - start
    assert took < 0.3
    assert "TIMELINE_LATE" in codes(answer)
    await recovered(served, customer)


async def test_many_callers_at_once_are_answered_in_time_while_the_store_hangs(
    served: Client, store: EmbeddedStore
) -> None:
    customers = [somebody() for _ in range(40)]
    with hanging(store.pid):
        answers = await asyncio.gather(*(served.decide(one, timeout=1.0) for one in customers))
    assert all("TIMELINE_LATE" in codes(one) for one in answers)
    await recovered(served, customers[0])


async def recovered(client: Client, customer: str) -> None:
    """Wait until decisions are full again and all of them are in the log."""

    async def full() -> bool:
        return (await client.decide(customer)).rung == decision_pb2.RUNG_FULL

    await until(full)
    await flushed(client)


async def test_a_store_that_is_killed_costs_no_answer_and_no_decision(
    tmp_path: Path, bundle: Bundle
) -> None:
    with EmbeddedStore(tmp_path, port=0) as first:
        async with serving(first.url, bundle=bundle) as client:
            customer = await customer_with_all(client)
            taken = [(await client.decide(customer)).decision_id]
            os.kill(first.pid, signal.SIGKILL)
            for timeout in (0.06, 0.25, 1.0):
                answer = await in_time(partial(client.decide, customer, timeout=timeout))
                assert "STORE_UNAVAILABLE" in codes(answer)
                assert set(shown(answer)) <= PURPOSELESS
                assert shown(answer)
                taken.append(answer.decision_id)
            whom = named("phone", "0031 20 5551234")
            answer = await client.decide(whom, "ivr", timeout=0.25)
            assert "STORE_UNAVAILABLE" in codes(answer)
            status = await client.admin.GetStatus(admin_pb2.GetStatusRequest())
            assert not status.store_reachable
            assert not status.HasField("store_latency_ms")
            assert status.journal_pending >= 4
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.timeline(customer)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            assert await client.record(event(customer)) == [Status.STATUS_UNAVAILABLE]
            done = await client.outcome(taken[-1], "", event_pb2.OUTCOME_RESOLVED)
            assert done == Status.STATUS_UNAVAILABLE

            with EmbeddedStore(tmp_path, port=first.port):
                await recovered(client, customer)
                assert (await client.timeline(customer)).total == 2
                logged = [one.decision.response.decision_id for one in await client.log(customer)]
                assert set(taken) <= set(logged)
                assert len(set(filter(None, logged))) == len([*filter(None, logged)])
                done = await client.outcome(taken[-1], "", event_pb2.OUTCOME_RESOLVED)
                assert done == Status.STATUS_STORED
                status = await client.admin.GetStatus(admin_pb2.GetStatusRequest())
                assert status.store_reachable
                assert (status.journal_pending, status.journal_dropped) == (0, 0)


async def test_a_deadline_of_a_millisecond_is_never_an_internal_error(client: Client) -> None:
    customer = await customer_with_all(client)
    for timeout in [0.001] * 20 + [0.002, 0.003, 0.004, 0.005] * 5:
        try:
            answer = await client.decide(customer, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
        else:
            assert shown(answer)
            if answer.rung == decision_pb2.RUNG_DEFAULTS:
                assert "OUT_OF_TIME" in codes(answer)
    assert shown(await client.decide(customer))
