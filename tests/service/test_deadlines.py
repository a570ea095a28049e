"""Whoever waits for the store is answered by their deadline, and by nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from service.deadlines import Deadlines
from service.errors import StoreUnavailable
from service.reasons import Reason
from service.redis_client import settle
from tests.service.test_together import Timed, in_time_of

LATE = Reason("TIMELINE_LATE", "The store did not answer in time")


async def test_a_read_that_is_given_up_is_not_cancelled() -> None:
    released = asyncio.Event()
    done = []

    async def slow() -> int:
        await released.wait()
        done.append(True)
        return 1

    found = await Deadlines().in_time(slow(), 0.01)
    assert isinstance(found, Reason)
    assert found.code == "TIMELINE_LATE"
    released.set()
    await asyncio.sleep(0.01)
    assert done == [True]
    assert await Deadlines().in_time(slow(), 0.01) == 1


async def test_a_read_that_fails_says_why_and_other_errors_are_no_secret() -> None:
    async def away() -> int:
        raise StoreUnavailable("gone fishing")

    async def broken() -> int:
        raise ZeroDivisionError

    assert await Deadlines().in_time(away(), 1.0) == Reason("STORE_UNAVAILABLE", "gone fishing")
    with pytest.raises(ZeroDivisionError):
        await Deadlines().in_time(broken(), 1.0)


@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 0.01),  # seconds after the one before
            st.floats(0.0, 0.05),  # how long it may take
            st.one_of(st.none(), st.floats(0.0, 0.06)),  # how long it takes; None: for ever
            st.booleans(),  # whether whoever asks leaves half-way
        ),
        max_size=30,
    )
)
def test_each_is_answered_by_the_store_or_at_their_own_deadline(
    calls: list[tuple[float, float, float | None, bool]],
) -> None:
    loop, deadlines = Timed(), Deadlines()

    async def one(seconds: float, takes: float | None) -> None:
        asked = loop.time()
        reply: asyncio.Future[str] = loop.create_future()
        if takes is not None:
            loop.call_later(takes, settle, reply, "said")
        found = await deadlines.in_time(reply, seconds)
        took = loop.time() - asked
        if found == LATE:
            assert takes is None or takes >= seconds - 0.001
            assert seconds - 0.001 <= took <= seconds + 1e-6
        else:
            assert found == "said"
            assert took <= seconds + 1e-6

    async def main() -> None:
        tasks = []
        for after, seconds, takes, leaves in calls:
            await asyncio.sleep(after)
            task = asyncio.create_task(one(seconds, takes))
            if leaves:
                loop.call_later(seconds / 2, task.cancel)
            tasks.append(task)
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for (*_, leaves), end in zip(calls, ended, strict=True):
            assert end is None or (leaves and isinstance(end, asyncio.CancelledError)), end
        await asyncio.sleep(0.1)
        assert not deadlines._waiting
        assert deadlines._alarm is None

    in_time_of(loop, main())


def test_what_was_answered_is_not_kept_until_its_deadline() -> None:
    async def main() -> int:
        deadlines = Deadlines()
        for _ in range(100):
            reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            reply.set_result(1)
            await deadlines.in_time(reply, 10.0)
        return len(deadlines._waiting)

    assert asyncio.run(main()) == 1


@pytest.mark.parametrize("seconds", [(0.0, 0.0), (0.02, 0.0004), (0.0004, 0.02), (0.004, 0.003)])
def test_the_loop_that_serves_keeps_to_it_too(seconds: Sequence[float]) -> None:
    async def main() -> list[object]:
        loop, deadlines = asyncio.get_running_loop(), Deadlines()
        asked = [deadlines.in_time(loop.create_future(), one) for one in seconds]
        return await asyncio.wait_for(asyncio.gather(*asked), 1.0)

    assert uvloop.run(main()) == [LATE, LATE]
