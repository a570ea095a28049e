"""What is read must not change by a bit: training and serving, and old bundles, depend on it."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features import definitions as declared
from features import journey
from features.definitions import Definitions, Feature, JourneyWindows
from features.duration import DAY
from features.plan import Context, Plan, rows_of
from features.profile import Profile, Told
from tests.chain import NOW, VOCABULARY, Event, chained, events
from tests.features import former_features, former_journey
from tests.features.test_kernels import MOMENTS, OPERATIONS, PAIRABLE

FACTS: tuple[Any, ...] = journey.FACTS
BESIDE: list[Feature] = [
    *(
        declared.Profile(name="", attribute=attribute, part=part)
        for attribute in VOCABULARY.attributes
        for part in ("value", "state", "age")
    ),
    *(declared.Context(name="", field=one) for one in ("channel", "direction", "wait", "tone")),
    *(
        declared.Clock(name="", field=one)
        for one in ("hour_of_day", "minute_of_day", "day_of_week")
    ),
    *(declared.Journey(name="", fact=fact) for fact in FACTS),
]
ONE = st.one_of(*OPERATIONS.values(), st.sampled_from(BESIDE))
PAIR = st.one_of(*PAIRABLE).map(lambda one: msgspec.structs.replace(one, per_action=True))
VALUES = st.one_of(
    st.none(), st.booleans(), st.floats(-1e9, 1e9), st.sampled_from(["home", "gone"])
)
PROFILES = st.dictionaries(
    st.sampled_from([*VOCABULARY.attributes, "other"]),
    st.builds(Told, VALUES, st.integers(NOW - 4 * DAY, NOW + DAY)),
).map(Profile)
CONTEXTS = st.builds(
    Context,
    st.integers(0, 9),
    st.integers(0, 3),
    st.dictionaries(st.sampled_from(["wait", "tone"]), VALUES.filter(lambda one: one is not None)),
)
ZONES = st.sampled_from(["UTC", "Europe/Amsterdam", "Asia/Kolkata", "America/St_Johns"])


def plan_of(features: list[Feature], zone: str = "UTC") -> Plan:
    named = [
        msgspec.structs.replace(feature, name=f"f{number}")
        for number, feature in enumerate(features)
    ]
    return Plan(Definitions(named, zone), VOCABULARY)


def test_every_feature_of_a_customer_or_a_pair_is_compared() -> None:
    compared = {*OPERATIONS, *(type(one) for one in BESIDE)}
    assert compared == set(get_args(Feature)) - {declared.Action}


@settings(max_examples=150)
@given(st.lists(ONE, min_size=1, max_size=90), events(60), PROFILES, CONTEXTS, MOMENTS, ZONES)
def test_the_features_of_a_customer_are_the_former_ones(
    features: list[Feature],
    happened: list[Event],
    profile: Profile,
    context: Context,
    now: int,
    zone: str,
) -> None:
    plan, records = plan_of(features, zone), chained(happened)
    former = former_features.customer(plan, records, profile, context, now)
    assert plan.customer(records, profile, context, now).tobytes() == former.tobytes()
    facts = journey.read(records, now, plan.lens)
    assert plan.customer(records, profile, context, now, facts).tobytes() == former.tobytes()


@settings(max_examples=150)
@given(
    st.lists(PAIR, min_size=1, max_size=70),
    events(60),
    st.lists(st.sampled_from([0, 1, 2, 3, 4, 6, 7, 65_535]), unique=True, max_size=8),
    MOMENTS,
)
def test_the_features_of_pairs_are_the_former_ones_and_the_touched_ones_tell_all(
    features: list[Feature], happened: list[Event], codes: list[int], now: int
) -> None:
    plan, records, rows = plan_of(features), chained(happened), rows_of(codes)
    former = former_features.pairs(plan, records, now, rows, len(codes))
    assert plan.pairs(records, now, rows, len(codes)).tobytes() == former.tobytes()
    at, values = plan.touched(records, now, rows, len(codes))
    scattered = np.tile(plan.pair_defaults, (len(codes), 1))
    scattered[at] = values
    assert scattered.tobytes() == former.tobytes()
    assert len(set(at.tolist())) == len(at), "a row is touched once"
    about = {event.code("action") for event in happened if event.at <= now}
    assert {codes[row] for row in at.tolist()} <= about, "and only if something happened with it"


@settings(max_examples=200)
@given(events(60), MOMENTS)
def test_the_journey_is_read_as_formerly(happened: list[Event], now: int) -> None:
    records, windows = chained(happened), JourneyWindows()
    found = journey.read(records, now, journey.Lens.of(VOCABULARY, windows))
    former = former_journey.read(records, now, former_journey.Lens.of(VOCABULARY, windows))
    assert found.values.tobytes() == former.values.tobytes()
    assert found[1:4] == former[1:4]
    assert list(found.contacts_by_intent) == list(former.contacts_by_intent)


def test_many_interactions_are_kept_apart() -> None:
    kinds = ("contact", "resolved", "contact", "question", "answer")
    intents = ("billing", 0, 0, "moving", 0)
    happened = [
        Event(
            NOW - n * 1000,
            kinds[n % 5],
            intent=intents[n % 5],
            interaction=f"call-{n // 2 % 97}",
            id=f"{n}",
        )
        for n in range(400)
    ]
    records, windows = chained(happened), JourneyWindows()
    found = journey.read(records, NOW, journey.Lens.of(VOCABULARY, windows))
    former = former_journey.read(records, NOW, former_journey.Lens.of(VOCABULARY, windows))
    assert len(records) == 400
    assert found.values.tobytes() == former.values.tobytes()
    assert found[1:4] == former[1:4]
