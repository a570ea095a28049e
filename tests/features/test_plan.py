from __future__ import annotations

import datetime
import math
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import definitions as declared
from features import journey
from features.definitions import Definitions, Feature, Where
from features.duration import DAY, HOUR
from features.plan import Context, Plan, rows_of
from features.profile import EMPTY as NO_PROFILE
from features.profile import Profile, Told
from features.record import EMPTY
from tests.chain import NOW, VOCABULARY, Event, chained, unique


def vector(
    *features: Feature,
    profile: Profile = NO_PROFILE,
    context: Context = Context(),  # noqa: B008  immutable
    now: int = NOW,
    time_zone: str = "UTC",
    happened: tuple[Event, ...] = (),
) -> list[float]:
    plan = Plan(Definitions(list(features), time_zone), VOCABULARY)
    return [float(x) for x in plan.customer(chained(happened), profile, context, now)]


WRONG = [
    (Where(type="contct"), "type 'contct' is not declared; did you mean 'contact'?"),
    (Where(role="complain"), "role 'complain' is not declared; did you mean 'complaint'?"),
    (Where(channel=["web", "fone"]), "channel 'fone' is not declared; did you mean 'phone'?"),
    (Where(intent="biling"), "intent 'biling' is not declared; did you mean 'billing'?"),
    (Where(action="Discount"), "action 'Discount' is not declared; did you mean 'discount'?"),
    (Where(outcome="presentd"), "outcome 'presentd' is not declared; did you mean 'presented'?"),
    (Where(direction="inbond"), "direction 'inbond' is not declared; did you mean 'inbound'?"),
    (Where(channel="zzz"), "channel 'zzz' is not declared; known: phone, ivr, chat, web, app"),
]


@pytest.mark.parametrize(("where", "complaint"), WRONG)
def test_an_unknown_name_is_told_with_its_feature_and_the_nearest_name(
    where: Where, complaint: str
) -> None:
    fine = declared.Count(name="fine")
    for feature in (
        declared.Count(name="mine", where=where),
        declared.Count(name="mine", where=where, per_action=True),
        declared.Sequence(name="mine", steps=[Where(), where]),
    ):
        with pytest.raises(ValueError, match="is not declared") as refused:
            Plan(Definitions([fine, feature]), VOCABULARY)
        assert str(refused.value) == f"feature 'mine': {complaint}"


def test_an_unknown_attribute_or_context_value_is_told_likewise() -> None:
    with pytest.raises(ValueError, match=r"feature 'a': attribute 'agge' .* mean 'age'"):
        vector(declared.Profile(name="a", attribute="agge"))
    with pytest.raises(ValueError, match=r"feature 'c': context 'weit' .* mean 'wait'"):
        vector(declared.Context(name="c", field="weit"))


@pytest.mark.parametrize("zone", ["Europe/Amsterdamn", "", "../etc/passwd", "America", "a\0b"])
def test_an_unknown_time_zone_is_told(zone: str) -> None:
    with pytest.raises(ValueError, match=r"time_zone: .* such as 'Europe/Amsterdam'"):
        vector(declared.Count(name="a"), time_zone=zone)


PARTS: tuple[Feature, ...] = tuple(
    declared.Profile(name=f"{attribute}-{part}", attribute=attribute, part=part)
    for attribute in ("balance", "segment", "member")
    for part in ("value", "state", "age")
)
N = math.nan


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ({}, [N, 3, N, N, 3, N, N, 3, N]),
        (
            {"balance": Told(12.5, NOW), "segment": Told("office", NOW), "member": Told(True, NOW)},
            [12.5, 0, 0, 2, 0, 0, 1, 0, 0],
        ),
        (
            {"balance": Told(None, NOW - 1000), "segment": Told("gone", NOW - 1000)},
            [N, 2, 1, 0, 0, 1, N, 3, N],
        ),
        ({"balance": Told(1.0, NOW - 3 * DAY)}, [1, 1, 3 * 86_400, N, 3, N, N, 3, N]),
    ],
)
def test_a_profile_has_a_value_a_state_and_an_age(
    told: dict[str, Told], wanted: list[float]
) -> None:
    assert vector(*PARTS, profile=Profile(told)) == pytest.approx(wanted, nan_ok=True)


def test_what_the_caller_says_is_a_feature() -> None:
    features = [
        declared.Context(name=field, field=field)
        for field in ("channel", "direction", "wait", "tone")
    ]
    said = Context(7, 2, {"wait": 30.0, "tone": "angry"})
    assert vector(*features, context=said) == [7, 2, 30, 2]
    assert vector(*features) == pytest.approx([0, 0, N, N], nan_ok=True)


ZONES = st.sampled_from(["UTC", "Europe/Amsterdam", "Asia/Kolkata", "America/St_Johns"])


@given(st.integers(0, 4_000_000_000_000), ZONES)
def test_the_clock_is_local(now: int, zone: str) -> None:
    fields: list[Any] = ["hour_of_day", "minute_of_day", "day_of_week"]
    features = [declared.Clock(name=field, field=field) for field in fields]
    since = datetime.timedelta(milliseconds=now)
    local = (datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + since).astimezone(ZoneInfo(zone))
    assert vector(*features, now=now, time_zone=zone) == [
        local.hour,
        local.hour * 60 + local.minute,
        local.weekday(),
    ]


def test_every_journey_fact_is_a_feature() -> None:
    happened = unique([Event(NOW - HOUR, "failed", "ivr"), Event(NOW - 1, "complaint", "phone")])
    facts: tuple[Any, ...] = journey.FACTS
    features = [declared.Journey(name=fact, fact=fact) for fact in facts]
    lens = journey.Lens.of(VOCABULARY, declared.JourneyWindows())
    wanted = journey.read(chained(happened), NOW, lens).values
    assert vector(*features, happened=tuple(happened)) == pytest.approx(
        wanted.tolist(), nan_ok=True
    )
    assert wanted[0] == 1


def test_facts_that_are_known_already_are_not_read_again() -> None:
    plan = Plan(Definitions([declared.Journey(name="a", fact="channel_hops")]), VOCABULARY)
    facts = journey.Journey(np.arange(11.0), {}, -1, -1)
    assert plan.customer(EMPTY, NO_PROFILE, Context(), NOW, facts).tolist() == [4]


EVERY: list[Feature] = [
    declared.Action(name="action_code", field="code"),
    declared.Count(name="shown", where=Where(outcome="presented"), per_action=True),
    declared.Last(name="last_channel", field="channel"),
    declared.Context(name="channel", field="channel"),
    declared.Action(name="action_value", field="value"),
    declared.Profile(name="segment", attribute="segment"),
    declared.Profile(name="segment_state", attribute="segment", part="state"),
    declared.Profile(name="balance", attribute="balance"),
    declared.Context(name="tone", field="tone"),
    declared.Context(name="wait", field="wait"),
    declared.Journey(name="relationship", fact="relationship"),
    declared.Journey(name="hops", fact="channel_hops"),
    declared.Last(name="last_mood", field="sentiment"),
    declared.Last(name="last_outcome", field="outcome", per_action=True),
]


def test_the_vector_is_the_customer_then_the_action_then_the_pair() -> None:
    plan = Plan(Definitions(EVERY), VOCABULARY)
    assert plan.names[-4:] == ["action_code", "action_value", "shown", "last_outcome"]
    assert plan.names[:3] == ["last_channel", "channel", "segment"]
    assert len(plan.names) == len(EVERY)


def test_a_model_sees_the_columns_that_were_chosen_for_it() -> None:
    models = declared.Models(("last_*", "action_*", "wait"), ("action_*", "shown"))
    plan = Plan(Definitions(EVERY, models=models), VOCABULARY)
    seen = {m: [plan.names[i] for i in plan.columns(m)] for m in ("intent", "acceptance")}
    assert seen == {
        "intent": ["last_channel", "wait", "last_mood"],
        "acceptance": ["action_code", "action_value", "shown"],
    }


def test_numbers_that_are_codes_are_told_apart_from_amounts() -> None:
    assert Plan(Definitions(EVERY), VOCABULARY).categorical() == [
        "action_code", "last_channel", "channel", "segment", "tone", "relationship", "last_outcome",
    ]  # fmt: skip


def test_what_the_catalogue_says_of_actions_is_laid_out_in_rows() -> None:
    plan = Plan(Definitions(EVERY), VOCABULARY)
    rows = plan.actions([{"code": 1, "value": 10.5, "cost": 3}, {"code": 2, "value": 7, "cost": 0}])
    assert rows.tolist() == [[1, 10.5], [2, 7]]
    assert plan.actions([]).shape == (0, 2)


@given(st.lists(st.integers(1, 65_535), unique=True, max_size=10), st.integers(0, 70_000))
def test_each_code_has_its_row_and_every_other_code_has_none(codes: list[int], other: int) -> None:
    rows = rows_of(codes)
    found = int(rows[min(other, len(rows) - 1)])
    assert found == (codes.index(other) if other in codes else -1)
    assert [int(rows[code]) for code in codes] == list(range(len(codes)))


def test_a_plan_without_features_over_events_is_a_plan() -> None:
    assert vector(declared.Clock(name="hour", field="hour_of_day"), now=0) == [0]
    assert vector(declared.Action(name="code", field="code")) == []


def test_the_digest_of_a_plan_is_that_of_its_definitions_and_kernel() -> None:
    definitions = Definitions(EVERY)
    assert Plan(definitions, VOCABULARY).digest == definitions.digest("1")
    other = msgspec.structs.replace(definitions, time_zone="Europe/Amsterdam")
    assert Plan(other, VOCABULARY).digest != Plan(definitions, VOCABULARY).digest
