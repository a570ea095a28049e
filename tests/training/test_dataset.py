from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.definitions import Definitions
from features.elementary import Floats
from features.plan import Context, Plan
from features.profile import Consent
from features.record import DIRECTION, LogId
from features.timeline import LIMIT, as_of
from features.vocabulary import Outcome
from rapport.v1 import log_pb2
from service.answers import timestamp
from service.business import Business
from service.catalogue import Action, Placement, Treatment
from service.declared import Policies
from service.models import Models
from tests.chain import NOW, VOCABULARY, Event, chained, events
from training import dataset, labels, publish
from training.dataset import Dataset
from training.labels import AcceptanceTarget, IntentTarget
from training.replay import History

DEFINITIONS = msgspec.convert(
    {
        "time_zone": "Europe/Amsterdam",
        "features": [
            {"name": "events", "op": "count"},
            {"name": "pages_1d", "op": "count", "where": {"type": "page"}, "window": "1d"},
            {"name": "worth", "op": "sum", "field": "value"},
            {"name": "calm", "op": "mean", "field": "sentiment", "window": "30d"},
            {"name": "fading", "op": "decayed", "half_life": "3d"},
            {"name": "since_contact", "op": "since_last", "where": {"role": "contact"}},
            {"name": "first_seen", "op": "since_first"},
            {"name": "last_type", "op": "last", "field": "type"},
            {"name": "code", "op": "action", "field": "code"},
            {"name": "gap", "op": "gap"},
            {"name": "shown", "op": "count", "where": {"outcome": "presented"}, "per_action": True},
            {"name": "channels", "op": "distinct", "field": "channel"},
            {"name": "trend", "op": "trend", "window": "10d"},
            {"name": "run", "op": "run", "field": "channel"},
            {"name": "price", "op": "action", "field": "value"},
            {"name": "last_said", "op": "last", "field": "outcome", "per_action": True},
            {"name": "age", "op": "profile", "attribute": "age"},
            {"name": "balance_age", "op": "profile", "attribute": "balance", "part": "age"},
            {"name": "balance_state", "op": "profile", "attribute": "balance", "part": "state"},
            {"name": "where", "op": "context", "field": "channel"},
            {"name": "way", "op": "context", "field": "direction"},
            {"name": "hour", "op": "clock", "field": "hour_of_day"},
            {"name": "failed", "op": "journey", "fact": "failed_self_service"},
            {"name": "relationship", "op": "journey", "fact": "relationship"},
        ],
        "models": {"intent": ["*"], "acceptance": ["[!w]*", "where"]},
    },
    Definitions,
)
BUSINESS = Business(
    vocabulary=VOCABULARY,
    definitions=DEFINITIONS,
    actions=[
        Action(name, name, "grow", "sales", value, [Treatment("only", ["here"])])
        for name, value in (("tablet", 30.0), ("discount", 10.0), ("callback", 0.0))
    ],
    placements={"here": Placement(["phone"])},
    policies=Policies(),
)
PLAN = Plan(DEFINITIONS, VOCABULARY)
MODELS = Models(
    publish.build(PLAN, BUSINESS, intent=None, acceptance=None, cases=[], built_at=NOW, lineage={}),
    BUSINESS,
)
INTENT = msgspec.convert(
    {"at": {"role": ["contact", "question", "complaint"]}, "label": "type", "of": {}}, IntentTarget
)
ACCEPTANCE = msgspec.convert(
    {
        "at": {"outcome": "presented"},
        "wanted": ["accepted"],
        "unwanted": ["rejected"],
        "within": "30d",
        "silence": "negative",
    },
    AcceptanceTarget,
)


def profile(at: int, age: float) -> tuple[LogId, log_pb2.ProfileChanged]:
    changed = log_pb2.ProfileChanged(
        updated_at=timestamp(at), consents=[log_pb2.ConsentChanged(purpose="marketing")]
    )
    changed.attributes["age"].number_value = age
    changed.attributes["balance"].number_value = 100 * age
    return LogId(at, 0), changed


def history(story: list[Event], told: list[tuple[int, float]]) -> History:
    changes = [profile(at, age) for at, age in told]
    return History("anna", chained(story, 10_000), changes)


def of_intent(one: History) -> Dataset:
    return dataset.intent(INTENT, PLAN, [one], lambda _: None)


def of_acceptance(one: History) -> Dataset:
    return dataset.acceptance(ACCEPTANCE, PLAN, BUSINESS, [one], lambda _: None)


def up_to(made: Dataset, moment: int) -> list[tuple[int, int, bytes]]:
    """Moments of the data up to one, each with its row and the naive forecast's input."""
    return sorted(
        (int(at), int(newest), row.tobytes())
        for at, newest, row in zip(made.moments, made.baseline, made.rows, strict=True)
        if at <= moment
    )


def shown(at: int, action: str = "discount", id: str = "") -> Event:
    return Event(
        at, "outcome", "phone", action=action, outcome=Outcome.presented, sequence=2, id=id
    )


# Every story ends with a moment of both kinds, so that no example is about nothing; what follows
# it keeps both labelled.
stories = events(25).map(
    lambda story: [
        *(one._replace(id=f"s{n}") for n, one in enumerate(story)),
        Event(NOW, "contact", "phone", id="moment", sequence=1),
        shown(NOW, id="shown"),
        Event(NOW + 1, "page", id="after"),
    ]
)
futures = events(10).map(
    lambda story: [
        one._replace(at=NOW + 1 + abs(one.at - NOW), id=f"f{n}") for n, one in enumerate(story)
    ]
)
ages = st.lists(st.tuples(st.integers(NOW - 10**9, NOW), st.floats(18, 99)), max_size=3)


@given(stories, futures, futures, ages, st.floats(18, 99))
def test_nothing_that_happens_later_changes_a_row(
    story: list[Event],
    one_future: list[Event],
    another: list[Event],
    told: list[tuple[int, float]],
    age: float,
) -> None:
    past = [event for event in story if event.at <= NOW]
    after = Event(NOW + 1, "page", id="after")
    first = history([*past, after, *one_future], told)
    second = history([*past, after, *another], [*told, (NOW + 1, age)])
    for make in (of_intent, of_acceptance):
        # Whether a moment is labelled may depend on what came later; its row may not.
        rows, others = up_to(make(first), NOW), up_to(make(second), NOW)
        assert rows
        assert set(rows) == set(others)


@given(stories, ages)
def test_the_newest_event_at_a_moment_of_intent_is_its_own(
    story: list[Event], told: list[tuple[int, float]]
) -> None:
    made = of_intent(history(story, told))
    last_type = PLAN.columns("intent").tolist().index(PLAN.names.index("last_type"))
    assert made.rows[:, last_type].tolist() == made.baseline.tolist()
    assert set(made.baseline.tolist()) <= {1, 6, 8}


@given(stories, ages)
def test_rows_of_intent_are_what_the_service_computes_at_the_moment(
    story: list[Event], told: list[tuple[int, float]]
) -> None:
    one = history(story, told)
    made = of_intent(one)
    columns = PLAN.columns("intent")
    found = labels.Intents(INTENT, VOCABULARY)(one.records)
    assert made.labels.tolist() == found.label.tolist() != []
    for row, at in zip(made.rows, found.at.tolist(), strict=True):
        record = one.records[at]
        view = one.records[: at + 1][-LIMIT:]  # the timeline when this event has just come in
        context = Context(int(record["channel"]), int(record["flags"]) & DIRECTION)
        now = int(record["occurred_at"])
        vector = MODELS.customer(view, one.profile(now), context, now)
        assert row.tobytes() == vector[columns].tobytes()


@given(stories, ages)
def test_rows_of_acceptance_are_what_the_service_computes_before_the_presentation(
    story: list[Event], told: list[tuple[int, float]]
) -> None:
    one = history(story, told)
    made = of_acceptance(one)
    columns = PLAN.columns("acceptance")
    row_of = {VOCABULARY.actions[one.name]: row for row, one in enumerate(BUSINESS.actions)}
    moments = [
        at
        for at in labels.Acceptances(ACCEPTANCE, VOCABULARY, labels.responses(BUSINESS))(
            one.records
        ).at.tolist()
        if int(one.records["action"][at]) in row_of
    ]
    assert moments
    for row, at in zip(made.rows, moments, strict=True):
        record = one.records[at]
        now = int(record["occurred_at"])
        view = as_of(one.records, now - 1)[-LIMIT:]  # strictly before
        context = Context(int(record["channel"]), int(record["flags"]) & DIRECTION)
        vector = MODELS.customer(view, one.profile(now), context, now)
        served = MODELS.row(MODELS.seen(vector, view, now), row_of[int(record["action"])])
        assert row.tobytes() == served[columns].tobytes()


def test_only_the_newest_events_are_seen_as_the_store_keeps_no_more() -> None:
    story = [Event(NOW + n, "page", id=f"{n}") for n in range(LIMIT + 100)]
    story += [Event(NOW + 1_000, "contact", id="c"), shown(NOW + 2_000, id="p")]
    story += [Event(NOW + 3_000, "page", id="z")]
    one = history(story, [])
    assert of_intent(one).rows[0, 0] == LIMIT
    assert of_acceptance(one).rows[0, 0] == LIMIT


def test_a_presentation_is_not_among_what_was_known_before_it() -> None:
    one = history([shown(NOW, id="a"), shown(NOW, "tablet", id="b"), shown(NOW + 5, id="c")], [])
    made = of_acceptance(one)
    names = [PLAN.names[i] for i in PLAN.columns("acceptance")]
    at = {name: names.index(name) for name in ("events", "shown", "code", "price")}
    rows = sorted(zip(made.moments.tolist(), made.rows.tolist(), strict=True))
    found = [[row[at[name]] for name in ("events", "shown", "code", "price")] for _, row in rows]
    assert sorted(found) == [[0, 0, 1, 10], [0, 0, 3, 30], [2, 1, 1, 10]]


def test_an_action_that_left_the_catalogue_is_no_row() -> None:
    made = of_acceptance(history([shown(NOW, "insurance", id="a"), shown(NOW, id="b")], []))
    assert made.baseline.tolist() == [VOCABULARY.actions["discount"]]


def test_a_profile_told_at_the_moment_is_known_and_one_told_later_is_not() -> None:
    story = [Event(NOW, "contact", id="a"), Event(NOW + 9, "page", id="b")]
    made = of_intent(history(story, [(NOW - 5, 30.0), (NOW, 31.0), (NOW + 1, 32.0)]))
    names = [PLAN.names[i] for i in PLAN.columns("intent")]
    assert made.rows[0, names.index("age")] == 31.0


def test_no_moments_give_no_rows_of_the_right_width() -> None:
    empty = history([Event(NOW, "page", id="a")], [])
    assert of_intent(empty).rows.shape == (0, len(PLAN.columns("intent")))
    assert of_acceptance(empty).rows.shape == (0, len(PLAN.columns("acceptance")))


def test_data_can_be_chosen_from_by_mask_or_index() -> None:
    story = [Event(NOW + n, "contact", value=float(n), id=f"{n}") for n in range(5)]
    made = of_intent(history([*story, Event(NOW + 9, "page", id="z")], []))
    by_mask = made.where(made.moments > NOW + 2)
    by_index = made.where(np.array([3, 4]))
    assert by_mask.moments.tolist() == by_index.moments.tolist() == [NOW + 3, NOW + 4]
    assert by_mask.customers == ["anna", "anna"]
    assert same(by_mask.rows, made.rows[3:])


def same(one: Floats, other: Floats) -> bool:
    return one.tobytes() == other.tobytes()


def test_every_customer_is_counted_as_progress() -> None:
    steps: list[int] = []
    stories = [history([Event(NOW, "page", id="a")], [])] * 3
    makers: list[Callable[[], Dataset]] = [
        lambda: dataset.intent(INTENT, PLAN, stories, steps.append),
        lambda: dataset.acceptance(ACCEPTANCE, PLAN, BUSINESS, stories, steps.append),
    ]
    for make in makers:
        steps.clear()
        make()
        assert sum(steps) == 3


def test_consents_are_no_feature_and_change_no_row() -> None:
    story = [Event(NOW, "contact", id="a"), Event(NOW + 9, "page", id="b")]
    one = history(story, [(NOW - 5, 30.0)])
    granted = profile(NOW - 5, 30.0)
    granted[1].consents[0].granted = True
    assert one.profile(NOW).consents == [Consent("marketing", "", False, NOW - 5)]
    other = one._replace(changes=[granted])
    assert same(of_intent(one).rows, of_intent(other).rows)
