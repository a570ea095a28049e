from __future__ import annotations

from typing import Any

import msgspec
import pytest

from features.duration import DAY
from features.vocabulary import Attribute, Direction, Outcome, Vocabulary
from rapport.v1 import event_pb2
from tests.chain import VOCABULARY


def changed(**fields: Any) -> Vocabulary:
    return msgspec.structs.replace(VOCABULARY, **fields)


def test_the_same_vocabulary_breaks_nothing() -> None:
    assert VOCABULARY.breaks(VOCABULARY) == []


def test_adding_names_breaks_nothing() -> None:
    newer = changed(
        channels={**VOCABULARY.channels, "letter": 9},
        attributes={**VOCABULARY.attributes, "pets": Attribute(9, "number")},
    )
    assert VOCABULARY.breaks(newer) == []
    assert newer.breaks(VOCABULARY), "and taking them away again does"


@pytest.mark.parametrize("field", ["channels", "types", "intents", "actions", "groups",
                                   "attributes", "context"])  # fmt: skip
def test_taking_a_name_away_is_told_with_its_code(field: str) -> None:
    names = dict(getattr(VOCABULARY, field))
    name, gone = names.popitem()
    code = gone if isinstance(gone, int) else gone.code
    assert VOCABULARY.breaks(changed(**{field: names})) == (
        [f"{field}.{name} (code {code}) is gone; put it back"]
        if not getattr(gone, "values", None)
        else [
            f"{field}.{name} (code {code}) is gone; put it back",
            *(
                f"{field}.{name}.values.{value} (code {of}) is gone; put it back"
                for value, of in gone.values.items()
            ),
        ]
    )


@pytest.mark.parametrize("code", [5, 6, 8, 200])
def test_another_code_for_a_name_is_told_with_both(code: int) -> None:
    newer = changed(channels={**VOCABULARY.channels, "app": code})
    assert VOCABULARY.breaks(newer) == [f"channels.app was code 7 and is {code}; put it back"]


def test_another_code_for_a_value_of_a_category_is_told() -> None:
    attributes = {
        **VOCABULARY.attributes,
        "segment": Attribute(3, "category", {"home": 1, "office": 4}),
    }
    assert VOCABULARY.breaks(changed(attributes=attributes)) == [
        "attributes.segment.values.office was code 2 and is 4; put it back"
    ]


def test_two_names_with_one_code_are_refused_with_the_next_free_one() -> None:
    with pytest.raises(ValueError, match="taken by 'b'; the next free one is 8") as refused:
        Vocabulary(channels={"a": 7, "b": 2, "c": 2}, types={})
    assert str(refused.value).startswith("channels.c: code 2 ")


def test_two_values_of_a_category_with_one_code_are_refused() -> None:
    with pytest.raises(ValueError, match=r"attributes.x.values.b: code 1 is taken by 'a'"):
        changed(attributes={"x": Attribute(1, "category", {"a": 1, "b": 1})})


@pytest.mark.parametrize(("field", "code"), [("channels", 0), ("channels", 256), ("channels", -1),
                                             ("actions", 65_536), ("groups", 0)])  # fmt: skip
def test_a_code_that_the_record_cannot_hold_is_refused(field: str, code: int) -> None:
    with pytest.raises(ValueError, match=f"{field}.x: code {code} is out of range"):
        changed(**{field: {"x": code}})


@pytest.mark.parametrize(
    ("kind", "values"), [("category", {}), ("number", {"a": 1}), ("flag", {"a": 1})]
)
def test_values_go_with_categories_and_only_with_them(kind: Any, values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="kind category"):
        Attribute(1, kind, values)


def test_staleness_is_read_as_a_duration() -> None:
    assert Attribute(1, "number", stale_after="2d").stale_after_ms == 2 * DAY
    assert Attribute(1, "number").stale_after_ms is None
    with pytest.raises(ValueError, match="no duration"):
        Attribute(1, "number", stale_after="soon")


def test_the_digest_changes_with_any_name_or_code_and_with_nothing_else() -> None:
    again = msgspec.json.decode(msgspec.json.encode(VOCABULARY), type=Vocabulary)
    assert again.digest == VOCABULARY.digest
    reordered = changed(channels=dict(reversed(VOCABULARY.channels.items())))
    assert reordered.digest == VOCABULARY.digest
    others = [
        changed(channels={**VOCABULARY.channels, "letter": 9}),
        changed(actions={**VOCABULARY.actions, "discount": 9}),
        changed(types={**VOCABULARY.types, "page": msgspec.structs.replace(
            VOCABULARY.types["page"], role="answer")}),
        changed(purposes=["marketing"]),
    ]  # fmt: skip
    assert len({VOCABULARY.digest, *(other.digest for other in others)}) == 1 + len(others)


def test_names_can_be_looked_up_by_code() -> None:
    assert VOCABULARY.names["channels"][7] == "app"
    assert VOCABULARY.names["types"][2] == "failed"
    assert VOCABULARY.names["intents"][5] == "leaving"


def test_directions_and_outcomes_have_the_codes_of_the_api() -> None:
    ours = {f"OUTCOME_{one.name.upper()}": int(one) for one in Outcome}
    ours["OUTCOME_UNSPECIFIED"] = ours.pop("OUTCOME_NONE")
    assert ours == dict(event_pb2.Outcome.items())
    assert {f"DIRECTION_{one.name.upper()}": int(one) for one in Direction} == dict(
        event_pb2.Direction.items()
    )
