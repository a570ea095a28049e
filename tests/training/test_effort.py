from __future__ import annotations

from features.duration import DAY
from features.vocabulary import Outcome
from tests.business import business
from tests.chain import NOW, Event, chained
from training.effort import Effort, Happened
from training.replay import History


def of(*events: Event, end: int = NOW + 90 * DAY) -> list[Happened]:
    history = History("anna", chained(events), [])
    return list(Effort(business(), end).of([history]))


def totals(found: list[Happened], what: str) -> tuple[float, float]:
    own = [one for one in found if one.what == what]
    return sum(one.happened for one in own), sum(one.possible for one in own)


def test_a_continued_contact_is_a_transfer_and_no_contact_of_its_own() -> None:
    found = of(
        Event(NOW, "contact", "phone"),
        Event(NOW + 1_000, "contact", "phone", continues=True),
        Event(NOW + 2_000, "contact", "chat", continues=True),
        Event(NOW + 20 * DAY, "contact", "phone"),
    )
    assert totals(found, "transfers") == (2.0, 2.0)
    assert totals(found, "repeats") == (0.0, 2.0)


def test_a_contact_within_the_window_of_an_earlier_one_is_a_repeat() -> None:
    found = of(
        Event(NOW, "contact", "phone"),
        Event(NOW + 6 * DAY, "contact", "phone"),
        Event(NOW + 14 * DAY, "contact", "phone"),
    )
    assert totals(found, "repeats") == (1.0, 3.0)


def test_a_presentation_is_accepted_refused_or_met_with_silence() -> None:
    found = of(
        Event(NOW, "outcome", action="tablet", outcome=Outcome.presented),
        Event(NOW + 1, "outcome", action="tablet", outcome=Outcome.accepted),
        Event(NOW + 2, "outcome", action="insurance", outcome=Outcome.presented),
        Event(NOW + 3, "outcome", action="discount", outcome=Outcome.presented),
        Event(NOW + 4, "outcome", action="discount", outcome=Outcome.rejected),
    )
    accepted = {one.action: one.happened for one in found if one.what == "accepted"}
    assert accepted == {"tablet": 1.0, "insurance": 0.0, "discount": 0.0}


def test_what_may_still_be_answered_does_not_count() -> None:
    shown = Event(NOW, "outcome", action="tablet", outcome=Outcome.presented)
    assert of(shown, end=NOW + DAY) == []
    assert totals(of(shown), "accepted") == (0.0, 1.0)
