"""What two compiled calls decide is what its steps decide one by one."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.duration import DAY, HOUR
from features.record import EMPTY, RESERVED, Records, interaction_hash
from features.vocabulary import Outcome
from service.business import Business
from service.catalogue import Exploration
from service.causes import rows_of
from service.chooser import Chooser
from service.declared import ControlGroups, Limit
from service.inputs import Inputs, Known, Question
from service.layout import Layout
from service.models import Models
from service.pipeline import Pipeline
from service.spans import Spans
from service.weighed import Weighed
from tests.bench.people import People
from tests.chain import NOW
from tests.integration.serving import business as bank
from tests.integration.serving import sealed
from tests.service import step_by_step
from tests.service.test_pipeline import WILLING, given_, shop
from tests.service.test_rooms import FOUR, crowded

_PEOPLE = 24
_CONTACT = "contact-1"


@cache
def tight(group: str = "") -> Business:
    """The sample bank, whose limits and control groups bite more often."""
    of = bank()
    limits = [
        msgspec.structs.replace(one, at_most=max(1, one.at_most // 2)) for one in of.policies.limits
    ]
    control = of.policies.control
    if group:
        control = msgspec.convert({group: 1.0}, ControlGroups)
    policies = msgspec.structs.replace(of.policies, limits=limits, control=control)
    return msgspec.structs.replace(of, policies=policies)


@cache
def pipeline(group: str = "") -> Pipeline:
    return Pipeline(tight(group))


@cache
def models() -> Models:
    return Models(sealed(), bank())


@cache
def people() -> People:
    return People(bank(), NOW, _PEOPLE, events=120)


def ledger(number: int, held: int, chance: np.random.Generator) -> Records:
    """What limits count of somebody, the last of it today, some of it only held."""
    records = people().ledger(number).copy()
    some = records[-min(len(records), 12) :]
    some["occurred_at"] = NOW - np.sort(chance.integers(1, 3 * HOUR, len(some)))[::-1]
    some["interaction"][::2] = interaction_hash(_CONTACT)
    some["channel"][::3] = bank().vocabulary.channels["phone"]
    some["outcome"][: len(some) // 2] = int(Outcome.presented)
    last = some[len(some) - min(held, len(some)) :]
    last["outcome"] = RESERVED
    last["value"] = chance.integers(0, 6 * 3600, len(last))
    return records


@st.composite
def asked(draw: st.DrawFn) -> tuple[str, Inputs, Models | None]:
    of = bank()
    number = draw(st.integers(0, _PEOPLE - 1))
    chance = np.random.default_rng(draw(st.integers(0, 2**32)))
    channel = draw(st.sampled_from(sorted({c for p in of.placements.values() for c in p.channels})))
    here = [name for name, one in of.placements.items() if channel in one.channels]
    names = [action.name for action in of.actions]
    question = Question(
        f"c{number}", channel, draw(st.integers(1, 3)),
        draw(st.lists(st.sampled_from(here), max_size=3, unique=True)), draw(st.integers(1, 3)),
        locale=draw(st.sampled_from(["", "nl"])),
        context=draw(st.sampled_from([{}, {"page_topic": "help"}])),
        interaction_id=draw(st.sampled_from(["", _CONTACT, "another"])),
        max_actions=draw(st.sampled_from([None, 1, 5, 20])),
        allow=draw(st.sampled_from([(), tuple(names[::2])])),
        block=draw(st.sampled_from([(), tuple(names[1::7])])),
    )  # fmt: skip
    known = Known(
        draw(st.sampled_from([people().timelines[number], EMPTY, None])),
        draw(st.sampled_from([ledger(number, draw(st.integers(0, 9)), chance), EMPTY, None])),
        draw(st.sampled_from([people().profile(number), None])),
    )
    prices = {name: draw(st.sampled_from([0.0, one.price, 7.5]))
              for name, one in of.policies.resources.items()}  # fmt: skip
    full = frozenset(draw(st.sets(st.sampled_from([c.name for c in of.policies.ceilings]))))
    inputs = Inputs(
        question, known, NOW, draw(st.integers(0, 2**64 - 1)), None, prices, full,
        draw(st.booleans()),
    )  # fmt: skip
    group = draw(st.sampled_from(["", "", "random", "probability_only", "no_model", "hold_out"]))
    return group, inputs, draw(st.sampled_from([models(), models(), None]))


def same(found: Weighed, plain: step_by_step.Decided) -> None:
    assert found.sight.intents == plain.intents
    assert list(found.intents) == list(plain.intents[:5])
    assert (b"" if found.vector is None else found.vector.tobytes()) == plain.vector
    assert found.results == plain.results
    assert found.filtered.dropped == plain.filtered.dropped
    assert list(found.causes) == list(plain.filtered.causes)
    assert list(found.rooms) == list(plain.rooms)
    assert len(found.weighings) == len(plain.steps)
    for weighing, step in zip(found.weighings, plain.steps, strict=True):
        for one, other in zip(weighing.ranked, step.ranked, strict=True):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                assert one.shape == other.shape
                assert one.tobytes() == other.tobytes()
        assert weighing.drawn == step.drawn
        for chosen in weighing.chosen:
            assert chosen.row == step.ranked.rows[chosen.place]
            assert chosen.factors == step.ranked.factors(chosen.place)


@settings(max_examples=150, deadline=None)
@given(asked())
def test_the_bank_decides_as_it_does_step_by_step(of: tuple[str, Inputs, Models | None]) -> None:
    group, inputs, used = of
    same(pipeline(group).weigh(inputs, used), step_by_step.decided(pipeline(group), inputs, used))


@settings(max_examples=300, deadline=None)
@given(crowded(), st.sampled_from([Exploration(), Exploration(0.1, 0.3, 0.2)]))
def test_a_shop_whose_limits_are_near_decides_as_it_does_step_by_step(
    situation: tuple[Business, Inputs], chance: Exploration
) -> None:
    of, inputs = situation
    placements = {
        name: msgspec.structs.replace(one, exploration=chance)
        for name, one in of.placements.items()
    }
    whole = Pipeline(msgspec.structs.replace(of, placements=placements))
    same(whole.weigh(inputs, None), step_by_step.decided(whole, inputs, None))


def test_all_that_may_speak_against_an_action_is_met_above() -> None:
    met: set[str] = set()
    left = 0
    for number in range(_PEOPLE):
        chance = np.random.default_rng(number)
        question = Question(f"c{number}", "phone", 1, [], 2, interaction_id=_CONTACT)
        here = [name for name, one in bank().placements.items() if "phone" in one.channels]
        known = Known(people().timelines[number], ledger(number, 4, chance),
                      people().profile(number))  # fmt: skip
        inputs = Inputs(question._replace(placements=here), known, NOW, number)
        weighed = pipeline().weigh(inputs, models())
        met |= {cause.code for cause in weighed.causes}
        left += len(weighed.rooms)
        same(weighed, step_by_step.decided(pipeline(), inputs, models()))
    assert {"RULE", "CONTACT_LIMIT", "SUPPRESSED", "ASSURANCE_TOO_LOW"} <= met
    assert left > 0, "no shared limit was near"


@pytest.mark.parametrize("actions", [63, 64, 65, 130])
def test_catalogues_of_more_than_one_word_are_chosen_from(actions: int) -> None:
    of = wide(actions)
    whole = Pipeline(of)
    codes = np.array([of.vocabulary.actions[one.name] for one in of.actions], np.uint16)
    seen = np.zeros(actions // 2, EMPTY.dtype)
    seen["action"], seen["outcome"], seen["occurred_at"] = codes[::2][: len(seen)], 2, NOW - DAY
    seen["hash"] = np.arange(len(seen))
    for seed in range(20):
        inputs = given_("hint", "banner", known=Known(EMPTY, seen, WILLING), seed=seed)
        weighed = whole.weigh(inputs, None)
        shown = {chosen.row for one in weighed.weighings for chosen in one.chosen}
        assert not rows_of(shown) & weighed.filtered.dropped
        same(weighed, step_by_step.decided(whole, inputs, None))
    assert weighed.filtered.dropped.bit_count() == len(seen)


def wide(actions: int) -> Business:
    """A shop of many actions, each of which may be shown once."""
    names = [f"a{number}" for number in range(actions)]
    some: list[Any] = [
        msgspec.structs.replace(FOUR[number % len(FOUR)], name=name, value=float(1 + number % 7))
        for number, name in enumerate(names)
    ]
    of = shop(some, {"max_actions": 5, "per_group": 20}, {"max_actions": 2})
    words = msgspec.structs.replace(
        of.vocabulary, actions={name: code for code, name in enumerate(names, 1)}
    )
    once = Limit("once", 1, "7d", per="action")
    policies = msgspec.structs.replace(of.policies, limits=[once])
    return msgspec.structs.replace(of, vocabulary=words, policies=policies)


def test_what_is_laid_out_for_some_models_stays_while_others_are_asked() -> None:
    of = Pipeline(bank())
    inputs = given_("agent_hint")._replace(
        question=Question("c1", "agent_desktop", 1, ["agent_hint"], 3)
    )
    some, others = models(), Models(sealed(), bank())
    plain = {id(used): step_by_step.decided(of, inputs, used) for used in (some, others, None)}
    laid_out: list[int] = []
    lay_out = Chooser._spans

    def counted(self: Chooser, layout: Layout) -> Spans:
        laid_out.append(id(layout))
        return lay_out(self, layout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Chooser, "_spans", counted)
        for _ in range(3):
            for used in (some, None, others):
                same(of.weigh(inputs, used), plain[id(used)])
        assert len(laid_out) == len(set(laid_out)) == 3
        for number in range(6):
            one = Models(sealed(), bank())
            same(of.weigh(inputs, one), plain[id(others)])
            assert len(laid_out) == 4 + number
    assert len(of._chooser._abouts) <= 4, "bundles that went leave nothing behind"
