"""What the written function loads is what the dictionaries of all values say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.journey import Relationship, Stage
from features.profile import Profile, Told
from service import variables
from service.declared import FACTS
from service.loader import loader
from service.rules import Checked, Program
from service.rules.tree import And, Call, Count, Field, Flag, Has, Node, Number, Text
from service.variables import Subject
from tests.chain import NOW, VOCABULARY

ENVIRONMENT = variables.environment(VOCABULARY)
TEXTS = ["phone", "inbound", "gold", "billing", "friend", "new", "none", ""]


def asked(root: str, name: str, kind: str) -> Sequence[Node]:
    """Ways in which a rule may ask for a field."""
    field, has = Field(root, name, kind), Has(root, name)
    match kind:
        case "number":
            return [Call("less", (field, Number("1.0"))), has]
        case "count":
            return [Call("less", (field, Count(1))), has]
        case "text":
            return [Call("equal", (field, Text(one))) for one in TEXTS] + [has]
        case "flag":
            return [field, has]
        case _:
            keyed = Call("lookup", (field, Text("billing")))
            inside = Call("in_map", (Text("moving"), field))
            return [Call("less", (keyed, Number("1.0"))), inside, has]


ASKED = [
    node
    for root in ("customer", "context", "journey", "intent")
    for name, kind in ENVIRONMENT.roots[root].items()
    for node in asked(root, name, kind)
]
FACT = {
    "relationship": st.sampled_from([float(one) for one in Relationship]),
    "lifetime_stage": st.sampled_from([float(one) for one in Stage]),
    "sentiment_trend": st.floats(-1, 1),
}
SUBJECTS: Any = st.builds(
    Subject,
    st.none()
    | st.builds(
        Profile,
        st.fixed_dictionaries(
            {},
            optional={
                "age": st.builds(Told, st.sampled_from([None, 0.5, 40, 2.0]), st.just(0)),
                "segment": st.builds(Told, st.sampled_from([None, *TEXTS]), st.just(0)),
                "member": st.builds(Told, st.none() | st.booleans(), st.just(0)),
            },
        ),
        st.just([]),
    ),
    st.fixed_dictionaries({}, optional={"wait": st.floats(0, 9), "tone": st.sampled_from(TEXTS)}),
    st.dictionaries(st.sampled_from(["agent_id", "skill", "queue"]), st.sampled_from(TEXTS)),
    st.sampled_from(TEXTS),
    st.sampled_from(["phone", "chat"]),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 2, 3]),
    st.integers(0, 4 * NOW),
    st.fixed_dictionaries(
        {},
        optional={
            name: FACT.get(name, st.sampled_from([0.0, 1.0, 7.0])) | st.just(float("nan"))
            for name in FACTS
        },
    ),
    st.lists(st.tuples(st.sampled_from(TEXTS), st.floats(0, 1)), max_size=3),
    st.just({}),
).map(lambda one: one._replace(chances=dict(one.intents)))  # fmt: skip


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(ASKED), min_size=1, max_size=8),
    SUBJECTS,
    st.sampled_from(["UTC", "Europe/Amsterdam", "Asia/Kathmandu", "America/St_Johns"]),
)
def test_it_loads_what_could_be_read(nodes: list[Node], subject: Subject, zone: str) -> None:
    where = ZoneInfo(zone)
    program = Program([Checked("", node, []) for node in nodes], ENVIRONMENT)
    values, states = loader(program, where)(subject)
    wanted, why = program.told(variables.known(subject, where))
    assert states == why
    assert values == wanted
    assert program.answers(values, states) == program.answers(wanted, why)


def test_nothing_else_is_read() -> None:
    class Guarded(dict[str, Any]):
        def get(self, name: str, default: Any = None) -> Any:
            assert name == "age"
            return super().get(name, default)

    rule = Checked(
        "", And((Flag(True), Call("less", (Field("customer", "age", "number"), Number("1.0"))))), []
    )
    program = Program([rule], ENVIRONMENT)
    profile = Profile(Guarded({"age": Told(0.5, 0), "segment": Told("gold", 0)}), [])
    subject: Any = Subject(profile, None, None, "", "", 0, 0, 0, None, None, None)  # type: ignore[arg-type]
    assert program.answers(*loader(program, ZoneInfo("UTC"))(subject)) == [True]


@pytest.mark.parametrize("moments", [2_000])
def test_the_clock_is_remembered_by_the_quarter_of_an_hour_and_not_for_ever(moments: int) -> None:
    zone = ZoneInfo("Asia/Kathmandu")  # 5:45 ahead
    program = Program(
        [Checked("", Call("equal", (Field("context", "hour_of_day", "count"), Count(1))), [])],
        ENVIRONMENT,
    )
    load = loader(program, zone)
    for step in range(moments):
        now = NOW + step * 15 * 60_000 + step % 900_000
        subject = Subject(None, {}, {}, "", "phone", 1, 1, now, {}, [], {})
        assert load(subject) == program.told(variables.known(subject, zone))
    clock = load.__globals__["clock"]
    assert len(clock._known) <= 1_000
