from __future__ import annotations

from collections import Counter

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rapport.v1 import customer_pb2, event_pb2
from service.errors import Denied, RapportError, StoreUnavailable
from tests.training.stand_in import running
from training import sender
from training.mapper import Mapped, Refused
from training.sender import Sent, send


def numbered(number: int) -> list[Mapped | Refused]:
    return [
        Mapped(
            at + 2,
            event_pb2.Event(
                event_id=str(at), customer=event_pb2.CustomerKey(customer_id=f"c{at % 7}")
            ),
            None,
        )
        for at in range(number)
    ]


def earning(*incomes: tuple[float, int]) -> list[Mapped]:
    """Rows of one customer, each with an income and the second it was told at."""
    rows = []
    for at, (income, second) in enumerate(incomes):
        event = event_pb2.Event(event_id=str(at))
        event.customer.customer_id = "ann"
        event.occurred_at.FromSeconds(second)
        told = customer_pb2.UpdateProfileRequest(
            customer=event.customer, updated_at=event.occurred_at
        )
        told.attributes["income"].number_value = income
        rows.append(Mapped(at + 2, event, told))
    return rows


async def test_all_rows_arrive_once_in_batches_with_the_token() -> None:
    told: list[tuple[int, int | None]] = []
    async with running() as server:
        rows = numbered(1_000)
        sent = await send(
            server.target,
            iter(rows),
            token="secret",  # noqa: S106
            batch=90,
            progress=lambda *done: told.append(done),
            total=1_000,
        )
        assert sent == Sent(rows=1_000, stored=1_000)
        assert len(server.stored) == 1_000
        assert server.tokens == {"Bearer secret"}
        assert server.largest == 90
        assert 1 < server.most_busy <= 8
        assert sorted(told)[-1] == (1_000, 1_000)
        again = await send(server.target, rows)
        assert again == Sent(rows=1_000, duplicate=1_000)


async def test_what_is_unavailable_is_sent_again_and_nothing_else() -> None:
    async with running() as server:
        server.fails = [grpc.StatusCode.UNAVAILABLE] * 2
        server.loses = Counter({"3": 3, "4": 1, "77": 2})
        sent = await send(server.target, numbered(100), batch=50)
        assert sent == Sent(rows=100, stored=100)
        assert len(server.log) == 100


async def test_each_status_is_counted_and_refusals_are_told_by_line() -> None:
    async with running() as server:
        told: list[Refused] = []
        rows = numbered(6)
        for at, skill in enumerate(("", "bad", "old", "gone")):
            rows[at].event.skill = skill  # type: ignore[union-attr]
        server.stored["4"] = event_pb2.Event(event_id="4")
        rows.append(Refused(9, "who", "", "customer_id is empty"))
        sent = await send(server.target, rows, refused=told.append)
        assert sent == Sent(
            rows=7, unmapped=1, stored=2, conflict=1, too_old=1, invalid=1, erased=1
        )
        assert sent.refused == len(told) == 4
        by_line = {row.line: row for row in told}
        assert by_line[3] == Refused(3, "skill", "bad", "'bad' is bad; mend it")
        assert "forgotten" in by_line[5].reason
        assert "another content" in by_line[6].reason


@pytest.mark.parametrize("batch", [1, 100])
async def test_a_profile_is_told_before_its_events_in_order_and_at_their_times(batch: int) -> None:
    async with running() as server:
        told: list[Refused] = []
        rows = earning((1.0, 10), (2.0, 20), (-1.0, 30), (3.0, 40))
        sent = await send(server.target, rows, batch=batch, refused=told.append)
        assert (sent.profiles, sent.stored) == (3, 4)
        assert [one for one in server.log if "=" in one] == ["ann=1@10", "ann=2@20", "ann=3@40"]
        assert server.log[0] == "ann=1@10"
        assert [(row.line, row.column, row.value) for row in told] == [
            (4, "profile", "{'income': -1.0}")
        ]


@given(
    incomes=st.lists(st.tuples(st.sampled_from([1.0, 2.0]), st.integers(1, 4)), max_size=6),
    done=st.integers(0, 6),
    batch=st.integers(1, 3),
)
@settings(max_examples=25, deadline=None)
async def test_a_run_again_ends_in_the_same_state(
    incomes: list[tuple[float, int]], done: int, batch: int
) -> None:
    async with running() as once, running() as twice:
        await send(once.target, earning(*incomes), batch=batch)
        await send(twice.target, earning(*incomes)[:done], batch=batch)
        await send(twice.target, earning(*incomes), batch=batch)
        state = [
            {customer: profile.attributes["income"] for customer, profile in one.profiles.items()}
            for one in (once, twice)
        ]
        assert state[0] == state[1]


async def test_a_run_again_changes_nothing() -> None:
    async with running() as server:
        rows = earning((1.0, 10), (2.0, 20), (1.0, 30))
        await send(server.target, rows)
        before = [one for one in server.log if "=" in one]
        assert await send(server.target, rows) == Sent(rows=3, duplicate=3)
        assert [one for one in server.log if "=" in one] == before


async def test_of_two_values_at_the_same_time_the_later_row_holds() -> None:
    async with running() as server:
        for _ in range(2):
            await send(server.target, earning((1.0, 10), (2.0, 10)))
            assert server.profiles["ann"].attributes["income"].value.number_value == 2.0


async def test_what_a_profile_was_told_later_stays() -> None:
    async with running() as server:
        server.told("ann", 9.0, 15)
        sent = await send(server.target, earning((1.0, 10), (2.0, 20)))
        assert sent.profiles == 1
        assert [one for one in server.log if "=" in one] == ["ann=9@15", "ann=2@20"]


@pytest.mark.parametrize(
    ("others", "log"),
    [
        ((8.0, 5), ["ann=8@5", "ann=1@10", "ann=2@20"]),
        ((9.0, 15), ["ann=9@15", "ann=2@20"]),
        ((9.0, 50), ["ann=9@50"]),
    ],
)
async def test_what_others_tell_a_profile_meanwhile_counts_as_any_telling(
    others: tuple[float, int], log: list[str]
) -> None:
    async with running() as server:
        server.meanwhile = [others]
        server.told("ann", 7.0, 1)
        sent = await send(server.target, earning((1.0, 10), (2.0, 20)))
        assert (sent.profiles, sent.refused) == (len(log) - 1, 0)
        assert [one for one in server.log if "=" in one] == ["ann=7@1", *log]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, Denied),
        (grpc.StatusCode.INVALID_ARGUMENT, RapportError),
    ],
)
async def test_a_call_that_is_refused_ends_the_run(
    status: grpc.StatusCode, error: type[RapportError]
) -> None:
    async with running() as server:
        server.fails = [status] * 20
        with pytest.raises(error, match=f"{status.name}: told to"):
            await send(server.target, numbered(10), batch=1)
        assert not server.stored


async def test_patience_ends_and_says_that_a_new_run_doubles_nothing() -> None:
    async with running() as server:
        server.loses = Counter({"3": 1_000_000})
        with pytest.raises(StoreUnavailable, match="nothing is stored twice"):
            await send(server.target, numbered(10), patience=0.2)
        assert len(server.stored) == 9
        server.loses.clear()
        assert await send(server.target, numbered(10)) == Sent(rows=10, stored=1, duplicate=9)


def test_waits_double_up_to_five_seconds() -> None:
    pauses = sender._pauses()
    assert [next(pauses) for _ in range(9)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
