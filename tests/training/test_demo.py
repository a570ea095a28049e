from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from rapport.v1 import event_pb2
from service.business import load
from service.catalogue import ISSUES
from service.errors import StoreUnavailable
from training import demo
from training.stories import STORIES, Story

CONFIG = Path(__file__).parents[2] / "config"
BUSINESS = load(CONFIG)
each_story = pytest.mark.parametrize("story", STORIES, ids=[one.customer for one in STORIES])


@each_story
def test_the_events_of_a_story_are_declared(story: Story) -> None:
    vocabulary = BUSINESS.vocabulary
    for one in story.before:
        assert one.type in vocabulary.types
        assert one.channel in vocabulary.channels
        assert one.intent in ("", *vocabulary.intents)
        assert one.ago >= 0
        assert one.sentiment is None or -1 <= one.sentiment <= 1
        assert one.direction != event_pb2.DIRECTION_UNSPECIFIED


@each_story
def test_a_story_asks_for_what_the_configuration_has(story: Story) -> None:
    vocabulary = BUSINESS.vocabulary
    assert story.channel in BUSINESS.placements[story.placement].channels
    assert story.about in ("", *ISSUES)
    for name, value in story.profile.items():
        declared = vocabulary.attributes[name]
        kinds = {"number": (int, float), "flag": bool, "category": str}
        assert isinstance(value, kinds[declared.kind])  # type: ignore[arg-type]
        assert declared.kind != "category" or value in declared.values
    assert (story.said is None) == (story.then == "")


def test_stories_are_told_in_order_and_of_different_customers() -> None:
    assert len({story.customer for story in STORIES}) == len(STORIES)
    for story in STORIES:
        ages = [one.ago for one in story.before]
        assert ages == sorted(ages, reverse=True)


@pytest.mark.timeout(180)
def test_the_demo_shows_three_customers_and_what_their_answers_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_CUSTOMERS", 400)
    stale = tmp_path / "demo" / "bundles" / "old"
    stale.mkdir(parents=True)
    told = io.StringIO()
    demo.run(CONFIG, tmp_path / "demo", Console(file=told, width=200))
    text = told.getvalue()
    assert not stale.exists()
    for story in STORIES:
        assert story.title in text
    anna, ben, nobody = re.split("|".join(re.escape(one.title) for one in STORIES), text)[1:]
    # Anna: her failed tries are told, and weigh no longer once she says that it is solved.
    assert re.search(r"! .*failed", anna)
    assert answers(anna)[0] != answers(anna)[1]
    # Ben: what he refused is gone.
    assert "rejected" in ben
    refused = re.search(r"Why not '(.+)'\?  CONTACT_LIMIT", ben)
    assert refused is not None
    first, second = answers(ben)
    assert refused[1] in first
    assert refused[1] not in second
    assert "Never seen before" in nobody
    assert re.search(r"5 decisions over gRPC", text)
    assert re.search(r"acceptance AUC 0\.\d\d", text)


def answers(shown: str) -> list[str]:
    """The tables of the first and of the next answer."""
    first, second = re.split(r"The next answer", shown.split("The answer")[1])
    return [re.sub(r"\s+", " ", one.split("Why not")[0]) for one in (first, second)]


def test_a_server_that_does_not_start_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "work").mkdir()
    with pytest.raises(StoreUnavailable, match=r"did not start; it said:\n(.|\n)*no \*\.yaml"):
        demo._serve(tmp_path / "config", tmp_path / "no-bundle", tmp_path / "work")
