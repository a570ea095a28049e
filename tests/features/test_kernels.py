"""Every operation against the slow oracle, over whatever timelines hypothesis can think of."""

from __future__ import annotations

import math
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from features import definitions as declared
from features.definitions import Definitions, Feature, Where
from features.duration import DAY, HOUR, MINUTE
from features.plan import Context, Plan, rows_of
from features.profile import EMPTY as NO_PROFILE
from features.vocabulary import Direction, Outcome, Role
from tests.chain import NOW, VOCABULARY, Event, chained, events, float32, unique
from tests.features import oracle

WINDOWS = st.sampled_from([None, "1ms", "1h", "24h", "1d", "7d", "30d", "36500d"])
CODED = st.sampled_from(["type", "channel", "intent", "action", "outcome", "direction", "agent"])
MEASURED = st.sampled_from(["value", "duration", "sentiment"])
BACK = st.integers(0, 4)


def names(known: Any) -> st.SearchStrategy[Any]:
    choices = sorted(known)
    return st.one_of(
        st.none(),
        st.none(),
        st.sampled_from(choices),
        st.lists(st.sampled_from(choices), min_size=1, max_size=4, unique=True),
    )


WHERE = st.builds(
    Where,
    type=names(VOCABULARY.types),
    role=names(Role.__members__),
    channel=names(VOCABULARY.channels),
    intent=names(VOCABULARY.intents),
    action=names(VOCABULARY.actions),
    outcome=names(Outcome.__members__),
    direction=names(Direction.__members__),
)
WIDE = st.one_of(st.just(Where()), st.builds(Where, type=names(VOCABULARY.types)), WHERE)
SHARED: dict[str, Any] = {"name": st.just(""), "where": WIDE, "window": WINDOWS}
OPERATIONS: dict[type, st.SearchStrategy[Any]] = {
    declared.Count: st.builds(declared.Count, **SHARED),
    declared.Sum: st.builds(declared.Sum, **SHARED, field=MEASURED),
    declared.Mean: st.builds(declared.Mean, **SHARED, field=MEASURED),
    declared.Decayed: st.builds(
        declared.Decayed,
        **SHARED,
        half_life=st.sampled_from(["1h", "3d", "90d"]),
        field=st.one_of(st.none(), MEASURED),
    ),
    declared.SinceLast: st.builds(declared.SinceLast, **SHARED),
    declared.SinceFirst: st.builds(declared.SinceFirst, **SHARED),
    declared.Last: st.builds(declared.Last, **SHARED, field=st.one_of(CODED, MEASURED), back=BACK),
    declared.Gap: st.builds(declared.Gap, **SHARED, back=BACK),
    declared.Distinct: st.builds(declared.Distinct, **SHARED, field=CODED),
    declared.Trend: st.builds(
        declared.Trend, **{**SHARED, "window": st.sampled_from(["1ms", "1h", "7d", "30d"])}
    ),
    declared.Run: st.builds(declared.Run, **SHARED, field=CODED),
    declared.Sequence: st.builds(
        declared.Sequence,
        name=st.just(""),
        window=WINDOWS,
        steps=st.lists(WIDE, min_size=2, max_size=8),
    ),
}
PAIRABLE = [one for kind, one in OPERATIONS.items() if kind is not declared.Sequence]
MOMENTS = st.one_of(st.just(NOW), st.integers(NOW - 10 * DAY, NOW + 10 * DAY))


def plan_of(features: list[Feature]) -> Plan:
    """A plan of features, each with a name of its own."""
    named = [
        msgspec.structs.replace(feature, name=f"f{number}")
        for number, feature in enumerate(features)
    ]
    return Plan(Definitions(named), VOCABULARY)


def customer(features: list[Feature], happened: list[Event], now: int) -> list[float]:
    plan = plan_of(features)
    vector = plan.customer(chained(happened), NO_PROFILE, Context(), now)
    assert vector.dtype == np.float64
    return [float(x) for x in vector]


def differing(features: list[Feature], happened: list[Event], now: int) -> list[str]:
    """Features that are not what the slow oracle says, each with what it is."""
    both = zip(features, customer(features, happened, now), strict=True)
    return list(filter(None, (differs(one, computed, happened, now) for one, computed in both)))


def differs(feature: Feature, computed: float, happened: list[Event], now: int) -> str:
    wanted = oracle.feature(feature, happened, now)
    if isinstance(feature, declared.Decayed | declared.Sum | declared.Mean | declared.Gap):
        scale = sum(abs(event.value or 0) + (event.duration or 0) + 1 for event in happened)
        fine = math.isclose(computed, wanted, rel_tol=1e-12, abs_tol=1e-12 * scale)
    else:
        fine = computed == wanted
    if fine or (math.isnan(computed) and math.isnan(wanted)):
        return ""
    return f"{feature}: computed {computed}, and it is {wanted}"


def test_every_operation_over_events_is_tested() -> None:
    over_events = {kind for kind in get_args(Feature) if issubclass(kind, declared.OverEvents)}
    assert over_events == set(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda kind: kind.__name__.lower())
@given(data=st.data(), happened=events(), now=MOMENTS)
@settings(max_examples=80)
def test_an_operation_gives_what_the_slow_oracle_gives(
    operation: type, data: st.DataObject, happened: list[Event], now: int
) -> None:
    features = data.draw(st.lists(OPERATIONS[operation], min_size=1, max_size=4))
    assert differing(features, happened, now) == []


@given(st.lists(st.one_of(*OPERATIONS.values()), min_size=65, max_size=140), events(), MOMENTS)
@settings(max_examples=30)
def test_more_features_than_fit_one_word_do_not_disturb_one_another(
    features: list[Feature], happened: list[Event], now: int
) -> None:
    assert differing(features, happened, now) == []


@given(
    st.lists(st.one_of(*PAIRABLE), min_size=1, max_size=70),
    events(60),
    MOMENTS,
    st.permutations([1, 2, 3, 6]),
)
@settings(max_examples=60)
def test_pair_features_are_customer_features_over_that_actions_events_alone(
    features: list[Feature], happened: list[Event], now: int, codes: list[int]
) -> None:
    paired = plan_of([msgspec.structs.replace(one, per_action=True) for one in features])
    table = paired.pairs(chained(happened), now, rows_of(codes), len(codes))
    assert table.shape == (len(codes), len(features))
    for row, code in zip(table, codes, strict=True):
        about = [event for event in happened if event.code("action") == code]
        alone = np.array(customer(features, about, now))
        assert row.tobytes() == alone.tobytes(), "to the last bit"


def test_an_action_without_a_row_counts_for_nobody() -> None:
    plan = plan_of([declared.Count(name="", per_action=True)])
    happened = unique([Event(NOW - 1, action=a) for a in ("discount", "tablet", 0, 4, 65_535)])
    table = plan.pairs(chained(happened), NOW, rows_of([3]), 1)
    assert table.tolist() == [[1.0]]
    assert plan.pairs(chained(happened), NOW, rows_of([]), 0).shape == (0, 1)


@given(st.lists(st.one_of(*OPERATIONS.values()), min_size=1, max_size=12), events(), MOMENTS)
@settings(max_examples=60)
def test_what_has_not_happened_yet_is_not_seen(
    features: list[Feature], happened: list[Event], now: int
) -> None:
    past = [event for event in happened if event.at <= now]
    assert np.array_equal(
        customer(features, happened, now), customer(features, past, now), equal_nan=True
    )


@given(
    st.lists(st.one_of(*OPERATIONS.values()), min_size=1, max_size=12),
    events(),
    st.integers(1, 400 * DAY),
)
@settings(max_examples=80)
def test_moving_now_alone_changes_only_windows_and_times(
    features: list[Feature], happened: list[Event], later: int
) -> None:
    past = [event for event in happened if event.at <= NOW]
    before = customer(features, past, NOW)
    after = customer(features, past, NOW + later)
    for feature, then, now in zip(features, before, after, strict=True):
        assert isinstance(feature, declared.OverEvents)
        if isinstance(feature, declared.SinceLast | declared.SinceFirst) and feature.window is None:
            assert math.isnan(then) == math.isnan(now)
            assert math.isnan(now) or now == pytest.approx(then + later / 1000)
        elif isinstance(feature, declared.Decayed) or feature.window is not None:
            continue
        elif isinstance(feature, declared.Gap):
            assert now == pytest.approx(then, nan_ok=True)
        else:
            assert now == then or (math.isnan(now) and math.isnan(then)), feature


@given(WHERE)
def test_codes_beyond_the_vocabulary_pass_only_open_filters(where: Where) -> None:
    strange = Event(NOW - 1, type=60_000, channel=250, intent=60_000, action=60_000, outcome=250)
    coded = [where.type, where.role, where.channel, where.intent, where.action, where.outcome]
    opened = all(one is None for one in coded) and (
        where.direction is None
        or "inbound" in ([where.direction] if isinstance(where.direction, str) else where.direction)
    )
    assert customer([declared.Count(name="", where=where)], [strange], NOW) == [float(opened)]


@pytest.mark.parametrize(
    ("field", "known"),
    [
        ("type", VOCABULARY.types),
        ("role", Role.__members__),
        ("channel", VOCABULARY.channels),
        ("intent", VOCABULARY.intents),
        ("action", VOCABULARY.actions),
        ("outcome", Outcome.__members__),
    ],
)
def test_a_code_beyond_the_vocabulary_is_none_of_its_names(field: str, known: Any) -> None:
    for code in (13, 250):
        strange = Event(NOW - 1, type=code, channel=code, intent=code, action=code, outcome=code)
        features = [declared.Count(name="", where=Where(**{field: name})) for name in known]
        assert not any(customer([*features], [strange], NOW))


@pytest.mark.parametrize("field", ["type", "channel", "intent", "action", "outcome"])
def test_whether_an_unknown_code_is_distinct_does_not_depend_on_other_features(field: Any) -> None:
    happened = [Event(NOW - 1, type=40, channel=40, intent=40, action=40, outcome=40)]
    feature = declared.Distinct(name="", field=field)
    agents = declared.Distinct(name="", field="agent")
    assert customer([feature], happened, NOW)[0] == customer([feature, agents], happened, NOW)[0]


@example(DAY - 1, 1.0)
@example(DAY, 0.0)
@example(0, 1.0)
@example(-1, 0.0)
@given(st.integers(-HOUR, 3 * DAY), st.none())
def test_a_window_holds_its_start_and_not_its_end(age: int, count: float | None) -> None:
    happened = [Event(NOW - age)]
    computed = customer([declared.Count(name="", window="1d")], happened, NOW)
    assert computed == [float(0 <= age < DAY) if count is None else count]


def test_a_story_by_hand() -> None:
    happened = unique(
        [
            Event(NOW - 9 * DAY, "page", "web", intent="moving", value=10),
            Event(NOW - 3 * HOUR, "page", "web", intent="billing", value=2.5),
            Event(NOW - 2 * HOUR, "failed", "app", intent="billing", duration=30),
            Event(NOW - 5 * MINUTE, "contact", "phone", intent="billing", sentiment=-50),
        ]
    )
    features: dict[str, Feature] = {
        "count": declared.Count(name=""),
        "count today": declared.Count(name="", window="24h"),
        "pages": declared.Count(name="", where=Where(type="page")),
        "digital": declared.Count(name="", where=Where(channel=["web", "app"])),
        "sum": declared.Sum(name="", field="value"),
        "mean": declared.Mean(name="", field="value"),
        "mean sentiment": declared.Mean(name="", field="sentiment"),
        "mean duration of pages": declared.Mean(
            name="", field="duration", where=Where(type="page")
        ),
        "decayed": declared.Decayed(name="", half_life="1h", where=Where(type="failed")),
        "since last": declared.SinceLast(name=""),
        "since first": declared.SinceFirst(name=""),
        "since complaint": declared.SinceLast(name="", where=Where(role="complaint")),
        "last channel": declared.Last(name="", field="channel"),
        "channel before": declared.Last(name="", field="channel", back=1),
        "last value": declared.Last(name="", field="value"),
        "gap": declared.Gap(name=""),
        "channels": declared.Distinct(name="", field="channel"),
        "trend": declared.Trend(name="", window="4h"),
        "run": declared.Run(name="", field="intent"),
        "tried then called": declared.Sequence(
            name="", steps=[Where(role="self_service_failed"), Where(role="contact")]
        ),
        "called then tried": declared.Sequence(
            name="", steps=[Where(role="contact"), Where(role="self_service_failed")]
        ),
    }
    computed = dict(zip(features, customer(list(features.values()), happened, NOW), strict=True))
    wanted = {
        "count": 4, "count today": 3, "pages": 2, "digital": 3, "sum": 12.5, "mean": 6.25,
        "mean sentiment": -0.5, "mean duration of pages": math.nan, "decayed": 0.25,
        "since last": 300, "since first": 9 * 86_400, "since complaint": math.nan,
        "last channel": 1, "channel before": 7, "last value": math.nan, "gap": 115 * 60,
        "channels": 3, "trend": -1, "run": 3, "tried then called": 1, "called then tried": 0,
    }  # fmt: skip
    assert computed == pytest.approx(wanted, nan_ok=True, rel=1e-15)


def test_one_event_is_one_step_of_a_sequence() -> None:
    twice = declared.Sequence(name="", steps=[Where(type="page"), Where(type="page")])
    for pages, times in ((0, 0), (1, 0), (2, 1), (3, 1), (4, 2)):
        happened = unique([Event(NOW - n) for n in range(pages)])
        assert customer([twice], happened, NOW) == [times]


def test_a_halved_weight_is_half() -> None:
    feature = declared.Decayed(name="", half_life="3d", field="value")
    value = float32(3.7)
    for halvings in range(5):
        happened = [Event(NOW - 3 * DAY * halvings, value=value)]
        assert customer([feature], happened, NOW)[0] == pytest.approx(
            value / 2**halvings, rel=1e-15
        )
