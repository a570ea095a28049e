from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from features import ledger, usage
from features.duration import DAY, HOUR, MINUTE
from features.record import EMPTY, RESERVED
from features.usage import Counting
from features.vocabulary import Outcome
from tests.chain import NOW, Event, chained, unique

ACTIONS = 5  # codes 0 to 4
SHOWN, CLICKED, REFUSED = int(Outcome.presented), int(Outcome.clicked), int(Outcome.rejected)


class Key(NamedTuple):
    """What is counted, spelled out."""

    counts: frozenset[tuple[int, int]]  # outcome and action
    channel: int = 0
    within: int = DAY
    after: int = 0  # 0: a limit
    lasts: int = 0


def compiled(keys: list[Key]) -> Counting:
    first, flat = [0], list[int]()
    for outcome in range(usage.OUTCOMES):
        for action in range(ACTIONS):
            flat += [n for n, key in enumerate(keys) if (outcome, action) in key.counts]
            first.append(len(flat))

    def column(values: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array(values, np.int64)

    return Counting(
        ACTIONS,
        column(first),
        column(flat),
        column([key.channel for key in keys]),
        column([key.within for key in keys]),
        column([key.after for key in keys]),
        column([key.lasts for key in keys]),
    )


def counted(events: list[Event], *keys: Key, now: int = NOW) -> tuple[list[int], list[int]]:
    found = usage.count(chained(events), now, compiled(list(keys)))
    return found.within.tolist(), found.until.tolist()


def slowly(events: list[Event], key: Key, now: int = NOW) -> tuple[int, int]:
    """What the ledger says of one key, straight from the words of the declarations."""
    moments: dict[
        tuple[object, ...], tuple[int, bool]
    ] = {}  # contact: (when, whether it is a reservation)
    for event in sorted(events, key=lambda one: ledger.order(one.packed())):
        outcome = event.outcome
        if outcome == RESERVED:
            if now >= event.at + 1000 * (event.value or 0.0):
                continue
            outcome = SHOWN
        here = key.channel in (0, event.code("channel"))
        if here and event.at <= now and (outcome, event.code("action")) in key.counts:
            contact = (
                event.interaction, event.code("action"), event.code("channel"), event.at // DAY
            )  # fmt: skip
            stands_alone = outcome != SHOWN or not event.interaction
            at = (len(moments),) if stands_alone else contact
            held = event.outcome == RESERVED
            if held or not moments.get(at, (0, False))[1]:
                moments[at] = (event.at, held)  # what is held of a contact, or else the newest
    told = sorted(moments.values())
    if not key.after:
        return sum(held or now - at < key.within for at, held in told), 0
    until = 0
    for n in range(key.after - 1, len(told)):
        last, first = told[n][0], told[n - key.after + 1][0]
        if last - first <= key.within:
            until = last + key.lasts
    return 0, until


AGES = st.one_of(
    st.sampled_from([0, 1, HOUR - 1, HOUR, HOUR + 1, DAY, 7 * DAY, -1, -HOUR]),
    st.integers(-HOUR, 9 * DAY),
)
LEDGERS = st.lists(
    st.builds(
        lambda age, channel, action, outcome, value, interaction: Event(
            NOW - age,
            "outcome",
            channel,
            action=action,
            outcome=outcome,
            value=value,
            interaction=interaction,
        ),
        AGES,
        st.integers(0, 3),
        st.sampled_from([0, 1, 2, 3, 4, 5, 60_000]),
        st.sampled_from([0, SHOWN, SHOWN, CLICKED, REFUSED, 11, 12, 200, RESERVED]),
        st.sampled_from([0.0, 1.0, 1.5, 60.0, 3_600.0, 90_000.0, 1_000_000.0]),
        st.sampled_from(["", "", "call", "chat"]),
    ),
    max_size=40,
).map(unique)
SPANS = st.sampled_from([1, MINUTE, HOUR, DAY, 3 * DAY, 7 * DAY])
KEYS = st.lists(
    st.builds(
        Key,
        st.frozensets(
            st.tuples(st.sampled_from([SHOWN, CLICKED, REFUSED, 11]), st.integers(0, 4)), max_size=9
        ),
        st.integers(0, 3),
        SPANS,
        st.integers(0, 5),
        SPANS,
    ),
    max_size=6,
)


@given(LEDGERS, KEYS)
@example([], [Key(frozenset({(SHOWN, 1)}))])
@example([Event(NOW, action=1, outcome=SHOWN)], [])
def test_a_ledger_is_counted_as_a_slow_count_counts_it(
    events: list[Event], keys: list[Key]
) -> None:
    within, until = counted(events, *keys)
    slow = [slowly(events, key) for key in keys]
    assert within == [one[0] for one in slow]
    assert until == [one[1] for one in slow]


@given(LEDGERS, KEYS)
def test_each_key_is_counted_as_if_it_stood_alone(events: list[Event], keys: list[Key]) -> None:
    within, until = counted(events, *keys)
    for n, key in enumerate(keys):
        assert counted(events, key) == ([within[n]], [until[n]])


ONE = Key(frozenset({(SHOWN, 1)}))


def test_an_empty_ledger_counts_nothing() -> None:
    found = usage.count(EMPTY, NOW, compiled([ONE, ONE._replace(after=1, lasts=DAY)]))
    assert found.within.tolist() == [0, 0]
    assert found.until.tolist() == [0, 0]


@pytest.mark.parametrize(("age", "counts"), [(-1, 0), (0, 1), (DAY - 1, 1), (DAY, 0)])
def test_a_window_holds_now_and_not_its_own_length_ago(age: int, counts: int) -> None:
    assert counted([Event(NOW - age, action=1, outcome=SHOWN)], ONE) == ([counts], [0])


@pytest.mark.parametrize(
    ("age", "seconds", "counts"),
    [
        (59_999, 60.0, 1),
        (60_000, 60.0, 0),
        (1_400, 1.5, 1),
        (1_500, 1.5, 0),
        (0, 0.0, 0),
        (2 * DAY, 200_000.0, 1),  # open, so it may be presented within the window yet
        (-1, 60.0, 0),
    ],
)
def test_a_reservation_counts_as_presented_until_its_time_is_up(
    age: int, seconds: float, counts: int
) -> None:
    held = Event(NOW - age, action=1, outcome=RESERVED, value=seconds)
    assert counted([held], ONE) == ([counts], [0])
    assert counted([held], Key(frozenset({(CLICKED, 1)}))) == ([0], [0])


def test_a_suppression_lasts_from_the_last_of_so_many_within_the_window() -> None:
    after_three = Key(frozenset({(REFUSED, 1)}), within=DAY, after=3, lasts=7 * DAY)

    def until(*ages: int) -> int:
        events = [Event(NOW - age, action=1, outcome=REFUSED) for age in ages]
        return counted(unique(events), after_three)[1][0]

    assert until(3 * HOUR, 2 * HOUR) == 0, "two are not three"
    assert until(3 * HOUR, 2 * HOUR, HOUR) == NOW - HOUR + 7 * DAY
    assert until(HOUR + DAY, 2 * HOUR, HOUR) == NOW - HOUR + 7 * DAY, "a day apart is within a day"
    assert until(HOUR + DAY + 1, 2 * HOUR, HOUR) == 0
    assert until(9 * DAY + 2, 9 * DAY + 1, 9 * DAY, 2 * HOUR, HOUR) == NOW - 2 * DAY
    assert until(3 * HOUR, 2 * HOUR, HOUR, -HOUR) == NOW - HOUR + 7 * DAY, "not what is to come"


def test_suppressions_of_different_lengths_do_not_mix_their_memories() -> None:
    of = frozenset({(REFUSED, 1)})
    keys = [Key(of, after=n, within=HOUR * (n - 1), lasts=DAY) for n in (2, 3, 5, 7)]
    events = unique([Event(NOW - HOUR * n, action=1, outcome=REFUSED) for n in range(6)])
    assert counted(events, *keys)[1] == [NOW + DAY, NOW + DAY, NOW + DAY, 0]


def test_suppressions_do_not_mix_what_was_refused_of_each() -> None:
    one, other = (Key(frozenset({(REFUSED, n)}), after=3, within=DAY, lasts=DAY) for n in (1, 2))
    ages = [(3 * DAY, 1), (3 * HOUR, 2), (2 * HOUR, 1), (HOUR, 1)]
    events = unique([Event(NOW - age, action=n, outcome=REFUSED) for age, n in ages])
    assert counted(events, one, other)[1] == [0, 0], "the first of its three was days ago"


def test_what_nobody_declared_counts_for_nothing() -> None:
    every = Key(frozenset((o, a) for o in range(usage.OUTCOMES) for a in range(ACTIONS)))
    strange = [
        Event(NOW, action=ACTIONS, outcome=SHOWN),
        Event(NOW, action=65_535, outcome=SHOWN),
        Event(NOW, action=1, outcome=usage.OUTCOMES),
        Event(NOW, action=1, outcome=254),
    ]
    assert counted(unique(strange), every) == ([0], [0])


def test_one_event_counts_once_for_every_key_that_names_it() -> None:
    keys = [ONE, ONE, Key(frozenset({(SHOWN, 1), (SHOWN, 2), (CLICKED, 1)}))]
    events = unique([Event(NOW, action=1, outcome=SHOWN), Event(NOW, action=2, outcome=SHOWN)])
    assert counted(events, *keys) == ([1, 1, 2], [0, 0, 0])


def test_a_channel_counts_what_happened_there() -> None:
    events = unique(
        [Event(NOW - n, channel=channel, action=1, outcome=SHOWN)
         for n, channel in enumerate([1, 1, 2, 0])]
    )  # fmt: skip
    keys = [ONE._replace(channel=channel) for channel in (0, 1, 2, 3)]
    assert counted(events, *keys)[0] == [4, 2, 1, 0]
