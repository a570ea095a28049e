from __future__ import annotations

from typing import Any

import msgspec
import pytest

from features import definitions as declared
from features.definitions import Definitions, Feature, JourneyWindows, Models, Where, scope


def features(*written: dict[str, Any]) -> list[Feature]:
    """Definitions as they are read from a file."""
    return msgspec.convert(list(written), list[Feature])


BASE: dict[str, Any] = {
    "features": [
        {"op": "count", "name": "a", "where": {"type": ["x", "y"]}, "window": "7d"},
        {"op": "decayed", "name": "b", "half_life": "3d"},
        {"op": "last", "name": "c", "field": "channel", "back": 1},
        {"op": "sequence", "name": "d", "steps": [{"type": "x"}, {"type": "y"}]},
        {"op": "profile", "name": "e", "attribute": "age"},
        {"op": "action", "name": "f", "field": "value"},
        {"op": "count", "name": "g", "per_action": True},
    ],
    "time_zone": "UTC",
    "journey": {"channel_hops": "48h"},
    "models": {"intent": ["*"], "acceptance": ["*"]},
}


def changed(path: list[Any], value: object) -> dict[str, Any]:
    copy = msgspec.json.decode(msgspec.json.encode(BASE))
    at = copy
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return copy  # type: ignore[no-any-return]


def digest(written: dict[str, Any], kernel: str = "1") -> str:
    return msgspec.convert(written, Definitions).digest(kernel)


def test_the_digest_stays_when_definitions_are_written_and_read_again() -> None:
    read = msgspec.convert(BASE, Definitions)
    again = msgspec.json.decode(msgspec.json.encode(read), type=Definitions)
    assert again == read
    assert again.digest("1") == read.digest("1")


def test_the_digest_changes_with_anything_a_vector_depends_on() -> None:
    others = [
        changed(["features", 0, "name"], "z"),
        changed(["features", 0, "op"], "since_last"),
        changed(["features", 0, "window"], "8d"),
        changed(["features", 0, "where"], {"type": ["y", "x"]}),
        changed(["features", 0, "where"], {"channel": ["x", "y"]}),
        changed(["features", 0, "per_action"], True),
        changed(["features", 1, "half_life"], "4d"),
        changed(["features", 1, "field"], "value"),
        changed(["features", 2, "field"], "intent"),
        changed(["features", 2, "back"], 0),
        changed(["features", 3, "steps"], [{"type": "y"}, {"type": "x"}]),
        changed(["features", 4, "part"], "age"),
        changed(["features", 4, "attribute"], "income"),
        changed(["features", 5, "field"], "cost"),
        changed(["features"], BASE["features"][::-1]),
        changed(["features"], BASE["features"][:-1]),
        changed(["time_zone"], "Europe/Amsterdam"),
        changed(["journey", "channel_hops"], "24h"),
        changed(["journey", "lapsed_after"], "90d"),
        changed(["models", "intent"], ["a"]),
        changed(["models", "acceptance"], ["f"]),
    ]
    digests = [digest(BASE), digest(BASE, "2"), *map(digest, others)]
    assert len(set(digests)) == len(digests)
    assert all(len(one) == 16 for one in digests)


def test_a_name_that_is_declared_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="feature 'a' is declared twice"):
        Definitions([declared.Count(name="a"), declared.SinceLast(name="a")])


@pytest.mark.parametrize("model", ["intent", "acceptance"])
def test_a_pattern_that_matches_nothing_is_refused(model: str) -> None:
    with pytest.raises(ValueError, match=f"models.{model}: 'z_\\*' matches no feature"):
        Definitions([declared.Count(name="a")], models=Models(**{model: ("*", "z_*")}))


def test_models_see_what_their_patterns_choose_in_the_order_of_declaration() -> None:
    known = msgspec.convert(changed(["models"], {"intent": ["[ce]", "b"], "acceptance": ["*"]}),
                            Definitions)  # fmt: skip
    assert known.chosen("intent") == ["b", "c", "e"]
    assert known.chosen("acceptance") == list("abcdefg")


def test_the_intent_model_never_sees_an_action() -> None:
    known = msgspec.convert(BASE, Definitions)
    assert known.chosen("intent") == ["a", "b", "c", "d", "e"]
    assert [scope(one) for one in known.features] == ["customer"] * 5 + ["action", "pair"]


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ({"op": "count", "name": "a", "window": "soon"}, "no duration"),
        ({"op": "decayed", "name": "a", "half_life": "0d"}, "no duration"),
        ({"op": "trend", "name": "a"}, "window"),
        ({"op": "sum", "name": "a"}, "field"),
        ({"op": "sum", "name": "a", "field": "channel"}, "Invalid enum value 'channel'"),
        ({"op": "distinct", "name": "a", "field": "value"}, "Invalid enum value 'value'"),
        ({"op": "counts", "name": "a"}, "Invalid value 'counts'"),
        ({"op": "count", "name": "a", "wehre": {}}, "unknown field `wehre`"),
        ({"op": "count", "name": "a", "where": {"chanel": "x"}}, "unknown field `chanel`"),
        ({"op": "last", "name": "a", "field": "type", "back": -1}, "`int` >= 0"),
        ({"op": "gap", "name": "a", "back": -1}, "`int` >= 0"),
        ({"op": "sequence", "name": "a", "steps": [{}]}, "1 steps; a sequence has 2 to 8"),
        ({"op": "sequence", "name": "a", "steps": [{}] * 9}, "9 steps"),
        (
            {"op": "sequence", "name": "a", "steps": [{}, {}], "where": {"type": "x"}},
            "neither `where` nor `per_action`",
        ),
        (
            {"op": "sequence", "name": "a", "steps": [{}, {}], "per_action": True},
            "neither `where` nor `per_action`",
        ),
        ({"op": "journey", "name": "a", "fact": "mood"}, "Invalid enum value 'mood'"),
        ({"op": "clock", "name": "a", "field": "month"}, "Invalid enum value 'month'"),
    ],
)
def test_a_definition_that_makes_no_sense_is_refused(
    written: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=r".") as refused:
        features(written)
    assert complaint in str(refused.value)


def test_windows_of_the_journey_are_durations() -> None:
    with pytest.raises(ValueError, match="no duration"):
        JourneyWindows(channel_hops="2 days")


def test_a_window_is_told_in_milliseconds() -> None:
    assert declared.Count(name="a", window="2h").window_ms == 7_200_000
    assert declared.Count(name="a").window_ms is None
    assert Where() == declared.EVERY_EVENT
