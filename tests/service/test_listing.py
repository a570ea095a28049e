from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.record import Records
from rapport.v1 import customer_pb2 as pb
from service import answers, listing
from service.checks import Checks
from service.errors import InvalidRequest
from tests.chain import NOW, VOCABULARY, Event, chained, events


def asked(**fields: object) -> listing.Wanted:
    checks = Checks()
    wanted = listing.wanted(checks, pb.GetTimelineRequest(**fields), VOCABULARY)  # type: ignore[arg-type]
    checks.finish()
    return wanted


def pages(records: Records, size: int) -> list[list[int]]:
    """Hashes of the events, page by page."""
    found, token = [], ""
    for _ in range(len(records) + 1):  # a token that leads back is no reason to go on for ever
        rows, token = listing.page(asked(page_size=size, page_token=token), records)
        found.append([int(one) for one in records[rows]["hash"]])
        if not token:
            break
    return found


@given(events(), st.integers(1, 7))
def test_pages_cover_every_event_once_newest_first(happened: list[Event], size: int) -> None:
    records = chained(happened)
    found = pages(records, size)
    assert [one for page in found for one in page] == records["hash"][::-1].tolist()
    assert all(len(page) == size for page in found[:-1])
    assert len(found[-1]) > 0 or not happened


def test_since_is_held_and_until_is_not() -> None:
    records = chained([Event(NOW - ago) for ago in (3, 2, 1, 0)])
    since, until = answers.timestamp(NOW - 2), answers.timestamp(NOW)
    rows, token = listing.page(asked(since=since, until=until), records)
    assert records[rows]["occurred_at"].tolist() == [NOW - 1, NOW - 2]
    assert token == ""


@pytest.mark.parametrize("token", ["x", "1-2", "1-2-3-4", "-"])
def test_a_token_that_no_answer_held_is_told(token: str) -> None:
    with pytest.raises(InvalidRequest, match="page_token"):
        asked(page_token=token)


def test_more_names_than_there_can_be_are_refused_before_one_is_looked_at() -> None:
    with pytest.raises(InvalidRequest, match="too many entries") as caught:
        asked(types=["nonsense"] * 65)
    assert len(caught.value.violations) == 1
    with pytest.raises(InvalidRequest) as caught:
        asked(types=["nonsense"] * 64)
    assert len(caught.value.violations) == 64
