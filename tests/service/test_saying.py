"""The answer that a kernel writes is the one that is written piece by piece, and protobuf's."""

from __future__ import annotations

import datetime
import math
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.duration import DAY
from features.profile import Profile, Told
from features.record import EMPTY
from rapport.v1 import decision_pb2 as pb
from service.answers import Answers
from service.business import Business
from service.catalogue import Exploration, Price, Validity
from service.declared import (
    ContextWeight,
    ControlGroups,
    Goal,
    IntentMatch,
    Lever,
    Ranking,
    Target,
    When,
)
from service.facts import LIKELY
from service.inputs import Inputs, Known
from service.layout import Layout
from service.models import Models
from service.pipeline import Pipeline
from service.printing import HEAD
from service.weighed import Reply, Weighed
from tests.chain import NOW, VOCABULARY, Event, chained, events, unique
from tests.integration.serving import business as bank
from tests.service import former_answers
from tests.service.test_answers import plainly, sold
from tests.service.test_choice import asked, models, pipeline, wide
from tests.service.test_pipeline import WILLING, Scoring, given_, shop, situations, thing


def alike(whole: Pipeline, weighed: Weighed, *, written: bool = True) -> pb.DecideResponse:
    """Check what is said of a decision in which nothing was refused."""
    answer = whole.settle(weighed, [Reply()] * len(weighed.wants))
    assert answer.as_drawn
    assert answer.rows == [one.row for slate in answer.slates for one in slate.shown]
    assert (weighed.choice.said is not None) == written
    found = Answers(whole.business).written(answer, "id")
    assert found == Answers(whole.business).written(plainly(answer), "id")
    built = former_answers.response(answer, "id", whole.business)
    assert found == built.SerializeToString(deterministic=True)
    return built


@settings(max_examples=200, deadline=None)
@given(asked())
def test_the_bank_says_what_it_said(of: tuple[str, Inputs, Models | None]) -> None:
    group, inputs, used = of
    alike(pipeline(group), pipeline(group).weigh(inputs, used))


@settings(max_examples=200, deadline=None)
@given(situations())
def test_any_shop_says_what_it_said(situation: tuple[Business, Inputs]) -> None:
    of, inputs = situation
    alike(Pipeline(of), Pipeline(of).weigh(inputs, None))


@pytest.mark.parametrize("actions", [63, 64, 65, 130])
def test_long_slates_of_wide_catalogues(actions: int) -> None:
    whole = Pipeline(wide(actions))
    inputs = given_("hint", "banner", known=Known(EMPTY, EMPTY, WILLING), max_actions=20)
    built = alike(whole, whole.weigh(inputs, None))
    assert [len(slate.recommendations) for slate in built.slates] == [20, 20]


# Reasons


_ALL = Target()


def spoken_for(by: Literal["acceptance", "uplift"] = "acceptance") -> Business:
    """A shop in which everything speaks for something."""

    def weight(name: str, when: When, factor: float, of: Target = _ALL) -> ContextWeight:
        return ContextWeight(name, when, of, factor, f"Because of {name}")

    weights = [
        weight("phone", When(channel="phone"), 1.5),
        weight("again", When(fact="failed_self_service"), 1.5, Target(group="care")),
        weight("the bill", When(intent="billing", at_least=0.4), 1.0),
        weight("something weak", When(channel="phone"), 0.5),
        weight("calm", When(fact="sentiment_trend", magnitude=-0.1), 4.0),
    ]
    once = Validity(datetime.date(2020, 1, 1), datetime.date(2020, 2, 1))
    levers = [
        Lever("spring", Target(), 1.2), Lever("past", Target(), 9.0, once),
        Lever("less", Target(), 0.9),
    ]  # fmt: skip
    intents = ["moving", "billing"]
    prices = [Price(-0.0, "Members", "customer.member"), Price(12.345)]
    return shop(
        [
            thing("a", 9.0, group="care", intents=intents, prior=0.2, prices=prices),
            thing("b", 1e-3, intents=["leaving"], prior=0.0),
            thing("c", 2e13, mandatory=True, parts=["d"], title="Ä" * 80),
            thing("d", 4.0, prior=0.9),
        ],
        {"max_actions": 4, "exploration": Exploration(0.1, 0.5, 0.2)},
        public_attributes=["member"],
        context_weights=weights,
        levers=levers,
        ranking={"service": Ranking(by)},
    )


class Saying(Scoring):
    """Stands for a bundle whose models say what a test says of intents too."""

    scores_intents = True

    def __init__(self, of: Pipeline, chances: Any, acceptance: Any, lifts: Any) -> None:
        super().__init__(np.array(acceptance), lifts, of._lens)
        names = list(VOCABULARY.intents)
        places = {name: place for place, name in enumerate(names)}
        rows = len(acceptance)
        self.layout = Layout(names, places, [2, 0, 1], 1, rows, rows, 0)
        self._chances = np.array(chances)

    def intents(self, vector: Any) -> Any:
        return self._chances


Lift = tuple[float, float, float]
lifted: st.SearchStrategy[Lift] = st.just((math.nan,) * 3) | st.tuples(*[st.floats(-1e6, 1e6)] * 3)
chances = st.floats(0, 1) | st.sampled_from([0.0, 0.245, 0.3, 0.305, 0.5, 0.995, 1.0])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(chances, min_size=3, max_size=3),
    st.lists(chances, min_size=4, max_size=4),
    st.none() | st.lists(lifted, min_size=4, max_size=4),
    events(20),
    st.integers(0, 2**64 - 1),
)
def test_everything_that_may_speak_for_an_action(
    intents: list[float], acceptance: list[float], lifts: list[Lift] | None,
    happened: list[Event], seed: int,
) -> None:  # fmt: skip
    whole = Pipeline(spoken_for(by="acceptance" if lifts is None else "uplift"))
    known = Known(chained(unique(happened)), EMPTY, WILLING)
    told = None if lifts is None else np.array(lifts)
    used: Any = Saying(whole, intents, acceptance, told)
    alike(whole, whole.weigh(given_(known=known, seed=seed, max_actions=4), used))


def test_all_of_these_were_met() -> None:
    whole = Pipeline(spoken_for())
    records = chained([Event(NOW - 1000, "failed", "ivr"), Event(NOW - 500, "page", sentiment=9)])
    used: Any = Saying(whole, [0.5, 0.5, 0.6], [0.9] * 4, None)
    asked = given_(known=Known(records, EMPTY, WILLING), max_actions=4, greedy=True)
    built = alike(whole, whole.weigh(asked, used))
    texts = {reason.text for one in built.slates[0].recommendations for reason in one.reasons}
    assert {
        "Because of phone", "Because of again", "Because of the bill", "Campaign spring",
        "They are here about 'Moves house' with 50% probability",
        "They are here about 'Thinks of leaving' with 60% probability",
        "4.5 times as likely to be accepted as usual (90%)", "Worth 18.00 when accepted",
        "It must be shown whenever it qualifies",
    } <= texts  # fmt: skip
    assert not texts & {"Because of something weak", "Campaign past", "Campaign less"}
    lifts = np.array([[2.0, 1.0, 3.125]] * 4)
    used = Saying(whole, [0.5, 0.5, 0.6], [0.9] * 4, lifts)
    whole = Pipeline(spoken_for(by="uplift"))
    built = alike(whole, whole.weigh(asked, used))
    texts = {reason.text for one in built.slates[0].recommendations for reason in one.reasons}
    assert "Brings 2.00 more than doing nothing (1.00 to 3.12)" in texts


def test_what_is_beyond_a_kernels_numbers_is_written_all_the_same() -> None:
    rich = {"value": Goal(worth=1e9)}
    whole = Pipeline(shop([thing("a", 5e8)], goals=rich))
    built = alike(whole, whole.weigh(given_(), None), written=False)
    assert built.slates[0].recommendations[0].reasons[0].text == f"Worth {1e18:.2f} when accepted"


@pytest.mark.parametrize(
    "lift", [(2.0**52, 1.0, 3.0), (2.0, -(2.0**52), 3.0), (2.0, 1.0, 2.0**52), (2e18, 1e18, 3e18)]
)
def test_an_uplift_beyond_a_kernels_numbers_is_written_all_the_same(lift: Lift) -> None:
    must = thing("a", mandatory=True)
    whole = Pipeline(shop([must], ranking={"service": Ranking("uplift")}))
    used: Any = Saying(whole, [0.1, 0.1, 0.1], [0.5], np.array([lift]))
    built = alike(whole, whole.weigh(given_(), used), written=False)
    text = "Brings {:.2f} more than doing nothing ({:.2f} to {:.2f})".format(*lift)
    assert built.slates[0].recommendations[0].reasons[1].text == text


def test_a_lift_beyond_a_kernels_numbers_is_written_all_the_same() -> None:
    whole = Pipeline(shop([thing("a", prior=1e-17)]))
    used: Any = Saying(whole, [0.1, 0.1, 0.1], [0.5], None)
    built = alike(whole, whole.weigh(given_(), used), written=False)
    text = f"{0.5 / 1e-17:.1f} times as likely to be accepted as usual (50%)"
    assert built.slates[0].recommendations[0].reasons[0].text == text


def said_of(built: pb.DecideResponse) -> list[str]:
    """Codes of the reasons for the one action that is shown."""
    (one,) = built.slates[0].recommendations
    return [reason.code for reason in one.reasons]


def test_an_action_for_which_everything_speaks_at_once() -> None:
    calm, spring = When(channel="phone"), Lever("spring", Target(), 1.2)
    weight = ContextWeight("phone", calm, Target(), 1.5, "They call")
    must = thing("a", prior=0.1, intents=["moving"], mandatory=True)
    whole = Pipeline(shop([must], context_weights=[weight], levers=[spring]))
    used: Any = Saying(whole, [0.1, 0.8, 0.1], [0.9], None)
    assert said_of(alike(whole, whole.weigh(given_(), used))) == [
        "MANDATORY", "LIKELY_ACCEPTED", "INTENT_MATCH", "CONTEXT_WEIGHT", "LEVER", "VALUE",
    ]  # fmt: skip


@pytest.mark.parametrize(("chance", "told"), [(0.5, True), (0.4999, False)])
def test_an_intent_speaks_for_an_action_from_where_it_does_not_weaken_it(
    chance: float, told: bool
) -> None:
    whole = Pipeline(shop([thing("a", intents=["moving"])], intent_match=IntentMatch(0.5, 1.5)))
    used: Any = Saying(whole, [0.1, chance, 0.1], [0.5], None)
    assert ("INTENT_MATCH" in said_of(alike(whole, whole.weigh(given_(), used)))) == told


@pytest.mark.parametrize(("chance", "told"), [(LIKELY, True), (LIKELY - 1e-9, False)])
def test_an_intent_is_why_they_are_here_from_when_it_is_likely(chance: float, told: bool) -> None:
    of = shop([thing("discount", intents=["moving"])])
    whole = Pipeline(msgspec.structs.replace(of, vocabulary=VOCABULARY))
    before = chained([Event(NOW - DAY, "contact", "phone", intent="moving")])
    used: Any = Saying(whole, [0.1, chance, 0.1], [0.5], None)
    asked = given_(known=Known(before, EMPTY, WILLING))
    built = alike(whole, whole.weigh(asked, used))
    assert ("INTENT_MATCH" in said_of(built)) == told
    assert ("repeat_contact" in {fact.kind for fact in built.facts}) == told


@pytest.mark.parametrize(("chance", "told"), [(0.6, True), (0.5999, False)])
def test_what_is_accepted_more_often_than_usual_is_told_from_where_it_is_notable(
    chance: float, told: bool
) -> None:
    whole = Pipeline(shop([thing("a", prior=0.5)]))
    used: Any = Saying(whole, [0.1, 0.1, 0.1], [chance], None)
    assert ("LIKELY_ACCEPTED" in said_of(alike(whole, whole.weigh(given_(), used)))) == told


def test_a_campaign_is_named_from_its_first_millisecond_to_its_last() -> None:
    once = Validity(datetime.date(2020, 1, 1), datetime.date(2020, 2, 1))
    whole = Pipeline(shop([thing("a")], levers=[Lever("spring", Target(), 1.2, once)]))
    first, last = once.milliseconds
    for now, named in ((first - 1, False), (first, True), (last, True), (last + 1, False)):
        built = alike(whole, whole.weigh(given_()._replace(clock=now), None))
        assert ("LEVER" in said_of(built)) == named


@pytest.mark.parametrize(("mood", "told"), [(20, True), (-20, True), (19, False), (-19, False)])
def test_a_change_of_mood_is_told_from_where_it_is_notable(mood: int, told: bool) -> None:
    whole = Pipeline(shop([thing("a")]))
    moods = [0, 0, mood, mood]
    felt = [Event(NOW - 1_000 * (9 - n), sentiment=one) for n, one in enumerate(moods)]
    known = Known(chained(unique(felt)), EMPTY, WILLING)
    built = alike(whole, whole.weigh(given_(known=known), None))
    assert ("sentiment_trend" in {fact.kind for fact in built.facts}) == told


def test_a_price_is_worded_for_whoever_pays_it() -> None:
    whole = Pipeline(sold())
    for locale in ("en", "nl", ""):
        alike(whole, whole.weigh(given_("hint", "banner", locale=locale), None))
    for member, amount in ((True, -4.5), (False, 8.0), (None, 8.0)):
        told = {} if member is None else {"member": Told(member, 0)}
        asked = given_(locale="en", known=Known(EMPTY, EMPTY, Profile(told, [])))
        (_, first, _) = alike(whole, whole.weigh(asked, None)).slates[0].recommendations
        assert first.price.amount == amount


def test_nothing_is_asked_for_and_nobody_is_shown_anything() -> None:
    whole = Pipeline(sold())
    empty = given_()._replace(question=given_().question._replace(placements=[]))
    alike(whole, whole.weigh(empty, None))
    held_out = Pipeline(shop([thing("a")], control=ControlGroups(hold_out=1.0)))
    built = alike(held_out, held_out.weigh(given_(), None))
    assert not built.slates[0].recommendations


# Facts


@settings(max_examples=400, deadline=None)
@given(events(40), st.integers(0, 3 * DAY))
def test_facts_are_those_that_are_told_in_python(happened: list[Event], later: int) -> None:
    of = msgspec.structs.replace(shop([thing("discount")]), vocabulary=VOCABULARY)
    whole = Pipeline(of)
    inputs = given_(known=Known(chained(unique(happened)), EMPTY, WILLING))
    weighed = whole.weigh(inputs._replace(clock=NOW + later), None)
    alike(whole, weighed)


@settings(max_examples=100, deadline=None)
@given(asked(), events(30))
def test_what_models_say_and_the_chain_shows_is_told_together(
    of: tuple[str, Inputs, Models | None], happened: list[Event]
) -> None:
    group, inputs, _ = of
    codes = list(bank().vocabulary.intent_codes.values())
    records = chained(unique(happened)).copy()
    records["intent"] = np.resize(codes[:2], len(records))
    records["channel"] = 1
    known = inputs.known._replace(records=records)
    alike(pipeline(group), pipeline(group).weigh(inputs._replace(known=known), models()))


@pytest.mark.parametrize("age", [1_001, 1_003, 59_999])  # in seconds, times 1000, the first is less
def test_the_last_failure_is_told_to_the_millisecond(age: int) -> None:
    whole = Pipeline(msgspec.structs.replace(shop([thing("discount")]), vocabulary=VOCABULARY))
    known = Known(chained([Event(NOW - age, "failed", "ivr")]), EMPTY, WILLING)
    built = alike(whole, whole.weigh(given_(known=known), None))
    assert built.facts[0].newest.ToMilliseconds() == NOW - age


@pytest.mark.parametrize("code", [6, 7, 65_535])
def test_contacts_about_what_nobody_declared_are_not_told(code: int) -> None:
    whole = Pipeline(msgspec.structs.replace(shop([thing("discount")]), vocabulary=VOCABULARY))
    past = [Event(NOW - n * DAY, "contact", "phone", intent=code) for n in (1, 2, 3)]
    built = alike(
        whole, whole.weigh(given_(known=Known(chained(unique(past)), EMPTY, WILLING)), None)
    )
    assert "repeat_contact" not in {fact.kind for fact in built.facts}


@pytest.mark.parametrize(
    ("channels", "words"),
    [(["ivr"], "ivr"), (["ivr", "web"], "ivr and web"), (["ivr", "web", "app"], "ivr, web and app"),
     (["ivr", 99, "web", 98], "ivr, web and an unknown channel")],
)  # fmt: skip
def test_channels_are_listed_oldest_first(channels: list[str | int], words: str) -> None:
    whole = Pipeline(msgspec.structs.replace(shop([thing("discount")]), vocabulary=VOCABULARY))
    failed = [Event(NOW - 1_000 * (9 - n), "failed", one) for n, one in enumerate(channels)]
    known = Known(chained(unique(failed)), EMPTY, WILLING)
    built = alike(whole, whole.weigh(given_(known=known), None))
    tries = "A try" if len(channels) == 1 else f"{len(channels)} tries"
    assert built.facts[0].text.startswith(f"{tries} at self-service on {words} failed")


def test_there_is_room_for_all_that_may_be_told() -> None:
    channels = {f"c{number}": number for number in range(1, 255)}
    words = msgspec.structs.replace(VOCABULARY, channels={"phone": 255, **channels})
    whole = Pipeline(msgspec.structs.replace(shop([thing("discount")]), vocabulary=words))
    failed = [Event(NOW - 1_000 * number, "failed", number) for number in channels.values()]
    records = chained(unique(failed))
    weighed = whole.weigh(given_(known=Known(records, EMPTY, WILLING)), None)
    assert len(weighed.sight.journey.failed_on) == len(channels)
    facts = pb.DecideResponse(facts=alike(whole, weighed).facts).SerializeToString()
    assert len(facts) + HEAD <= whole._chooser._pieces.most_told
