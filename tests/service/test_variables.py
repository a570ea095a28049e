from __future__ import annotations

import math
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.journey import Relationship, Stage
from features.profile import Consent, Profile, Told
from features.vocabulary import Direction
from service import variables
from service.declared import FACTS
from service.rules import Kind
from tests.business import action
from tests.chain import NOW, VOCABULARY

ENVIRONMENT = variables.environment(VOCABULARY)
KINDS: dict[Kind, Any] = {
    "number": float, "count": int, "flag": bool, "text": str, "numbers": dict, "texts": list,
}  # fmt: skip


def fits(root: str, values: Any) -> bool:
    """Whether conditions may read these values: declared, and of their kind."""
    for name, value in values.items():
        kind = ENVIRONMENT.kind(root, name)
        assert kind is not None, f"{root}.{name} is not declared"
        assert type(value) is KINDS[kind], f"{root}.{name} is {value!r} and no {kind}"
    return True


def of_context(now: int = NOW, **given: Any) -> Any:
    known: dict[str, Any] = {
        "context": {}, "contact": {}, "channel": "phone", "direction": 1, "assurance": 1,
        "now": now, "zone": ZoneInfo("UTC"), **given,
    }  # fmt: skip
    return variables.of_context(known.pop("context"), known.pop("contact"), **known)


def test_conditions_may_read_what_the_business_declares_by_its_kind() -> None:
    assert ENVIRONMENT.roots["customer"] == {
        "age": "number", "balance": "number", "segment": "text", "member": "flag",
    }  # fmt: skip
    assert ENVIRONMENT.kind("context", "wait") == "number"
    assert ENVIRONMENT.kind("context", "tone") == "text"
    assert ENVIRONMENT.kind("context", "channel") == "text"
    assert set(ENVIRONMENT.roots["journey"]) == set(FACTS)
    assert set(ENVIRONMENT.roots) == {"customer", "context", "journey", "intent", "action"}


def test_what_the_catalogue_says_of_an_action_is_constant() -> None:
    one = action(purpose="marketing", intents=["billing"], cost=1.0)
    assert variables.of_action(one) == {
        "name": "discount", "issue": "service", "group": "care", "purpose": "marketing",
        "value": 10.0, "cost": 1.0, "prior": 0.1, "intents": ["billing"], "queue_priority": False,
    }  # fmt: skip
    assert fits("action", variables.of_action(one))
    assert set(variables.of_action(one)) == set(ENVIRONMENT.roots["action"])
    assert "purpose" not in variables.of_action(action()), "a service needs none"


def test_of_a_customer_only_what_is_known_is_there_however_old() -> None:
    profile = Profile(
        {"age": Told(40, 0), "member": Told(True, 0), "segment": Told("home", 0),
         "balance": Told(None, NOW)},
        [Consent("marketing", "", True, 0)],
    )  # fmt: skip
    found = variables.of_customer(profile)
    assert found == {"age": 40.0, "member": True, "segment": "home"}
    assert fits("customer", found), "a whole number is a number, and a flag is none"
    assert variables.of_customer(None) == {}
    assert variables.of_customer(Profile({}, [])) == {}


def test_of_a_contact_what_was_sent_is_there_with_channel_direction_and_assurance() -> None:
    found = of_context(
        context={"wait": 3, "tone": "calm"},
        contact={"agent_id": "a7", "skill": "", "queue": "cards", "locale": ""},
        direction=Direction.outbound, assurance=3, channel="chat",
    )  # fmt: skip
    assert fits("context", found)
    assert found == {
        "wait": 3.0, "tone": "calm", "agent_id": "a7", "queue": "cards", "channel": "chat",
        "direction": "outbound", "assurance": "verified",
        "hour_of_day": 8, "day_of_week": 5,
    }  # fmt: skip


@pytest.mark.parametrize(("level", "name"), [(1, "none"), (2, "ani"), (3, "verified")])
def test_assurance_goes_by_its_name(level: int, name: str) -> None:
    assert of_context(assurance=level)["assurance"] == name


@pytest.mark.parametrize(
    ("zone", "hour", "day"),
    [("UTC", 8, 5), ("Europe/Amsterdam", 9, 5), ("Pacific/Auckland", 21, 5),
     ("America/Los_Angeles", 0, 5), ("Pacific/Honolulu", 22, 4)],
)  # fmt: skip
def test_the_clock_is_that_of_the_business(zone: str, hour: int, day: int) -> None:
    found = of_context(zone=ZoneInfo(zone))
    assert (found["hour_of_day"], found["day_of_week"]) == (hour, day)


def test_sunday_is_the_seventh_day() -> None:
    assert of_context(1_799_539_200_000)["day_of_week"] == 7  # 2027-01-10


FACT = st.one_of(st.just(math.nan), st.integers(0, 3).map(float))


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(FACTS, FACT)))
def test_journey_facts_are_read_by_their_kinds_and_absent_where_there_are_none(
    facts: dict[str, float],
) -> None:
    found = variables.of_journey(facts)
    assert fits("journey", found)
    assert set(found) == {name for name, magnitude in facts.items() if not math.isnan(magnitude)}


def test_relationship_and_stage_go_by_their_names() -> None:
    for relationship in Relationship:
        found = variables.of_journey({"relationship": float(relationship)})
        assert found == {"relationship": relationship.name}
    for stage in Stage:
        found = variables.of_journey({"lifetime_stage": float(stage)})
        assert found == {"lifetime_stage": stage.name}
    assert variables.of_journey({"sentiment_trend": -0.5, "channel_hops": 2.0}) == {
        "sentiment_trend": -0.5, "channel_hops": 2,
    }  # fmt: skip


def test_the_likeliest_intent_is_named_and_all_are_there() -> None:
    found = variables.of_intents([("billing", 0.6), ("moving", 0.3)])
    assert found == {
        "name": "billing", "probability": 0.6, "all": {"billing": 0.6, "moving": 0.3},
    }  # fmt: skip
    assert fits("intent", found)
    assert variables.of_intents([]) == {}
