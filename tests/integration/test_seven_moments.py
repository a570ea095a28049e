"""Seven moments that every contact centre knows, over gRPC, on a real store, before and after.

The scenario is ``tests.moments``; docs/moments.md tells it to people.
"""

from __future__ import annotations

import difflib

import pytest
import pytest_asyncio

from features.journey import Relationship
from rapport.v1 import decision_pb2
from tests.integration.serving import business
from tests.moments import DOCUMENT, MOMENTS, PATIENCE, Moment, Played, Seen, document, learnt, play

SALES = {one.name for one in business().actions if one.issue == "grow"}
MARKETING = {one.name for one in business().actions if one.purpose == "marketing"}
SAVINGS = {name for name in SALES if business().by_name[name].group == "savings"}

by_name = pytest.mark.parametrize("moment", MOMENTS, ids=lambda one: one.name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def played() -> dict[str, Played]:
    """Every moment, played once."""
    return {one.moment.name: one for one in await play(MOMENTS, learnt())}


def codes(seen: Seen, actions: set[str]) -> set[str]:
    """Every reason that speaks against some actions; empty where none does."""
    told = [seen.told[one] for one in actions]
    return {reason.code for one in told for reason in (one.reason, *one.also)} - {""}


def reasons(seen: Seen, action: str) -> list[str]:
    return [one.text for one in seen.shown[action].reasons]


def test_a_failed_payment_is_put_right_before_anything_is_sold(played: dict[str, Played]) -> None:
    before, after = played["failed_payment"].seen
    assert set(before.shown) & SALES
    assert not before.of("recover")
    assert not set(after.shown) & SALES
    assert set(after.of("recover")) == set(after.shown)
    assert after.first.action == "finish_for_them"
    reason = "They just failed to help themselves. Put that right first."
    assert reason in reasons(after, "finish_for_them")
    assert after.facts["failed_self_service"].channels == ["ivr"]
    assert after.answer.intents[0].intent == "payment_failed"
    # Nothing forbids the sale: the moment does.
    was, now = (one.told["savings_flexible"] for one in (before, after))
    assert now.reason.code == "RANKED_LOWER"
    assert now.factors.context_weight < 0.1 * was.factors.context_weight
    assert now.factors.value == was.factors.value


def test_a_rejected_offer_is_not_repeated_and_two_end_its_group(played: dict[str, Played]) -> None:
    before, once, twice = played["rejected_offer"].seen
    assert "savings_flexible" in before.shown
    assert "savings_flexible" not in once.shown
    assert once.code("savings_flexible") == "CONTACT_LIMIT"
    assert "grow_refused" in once.told["savings_flexible"].reason.text
    others = SAVINGS - {"savings_flexible"}
    assert not codes(once, others) & {"CONTACT_LIMIT", "SUPPRESSED"}
    assert "savings_child" in once.shown
    # Twice no, and on another channel: the whole group is left alone, and nothing else is.
    assert twice.answer.slates[0].placement == "app_card"
    for one in SAVINGS:
        assert "SUPPRESSED" in codes(twice, {one})
    assert not codes(twice, SALES - SAVINGS) & {"CONTACT_LIMIT", "SUPPRESSED"}
    for seen in (before, once, twice):
        assert seen.first.action == "better_savings_rate"


def test_a_cap_that_the_app_has_used_up_holds_by_phone(played: dict[str, Played]) -> None:
    before, after = played["cap_elsewhere"].seen
    assert "savings_flexible" in before.shown
    assert "savings_flexible" not in after.shown
    assert after.code("savings_flexible") == "CONTACT_LIMIT"
    assert "Shown or held 3 times within 30d" in after.told["savings_flexible"].reason.text
    assert not codes(after, SAVINGS - {"savings_flexible"}) & {"CONTACT_LIMIT"}
    assert after.of("grow") == ["savings_child"]


def test_consent_withdrawn_in_a_call_ends_marketing_with_the_next_answer(
    played: dict[str, Played],
) -> None:
    before, after = played["consent_withdrawn"].seen
    assert set(before.shown) & MARKETING
    assert not set(after.shown) & MARKETING
    fitting = {one for one in MARKETING if before.told[one].rank}
    assert fitting
    assert {after.code(one) for one in fitting} == {"NO_CONSENT"}
    assert before.of("service") == after.of("service") == ["raise_limit", "open_for_abroad"]
    assert after.first.action in after.of("service")
    free = {one.name for one in business().actions if one.purpose is None}
    assert codes(before, free) - {"RANKED_LOWER", "GROUP_FULL"} == (
        codes(after, free) - {"RANKED_LOWER", "GROUP_FULL"}
    )


def test_love_and_hate_choose_words_and_spare_offers_and_change_no_price(
    played: dict[str, Played],
) -> None:
    before, after = played["love_hate"].seen
    assert "relationship" not in before.facts
    assert after.facts["relationship"].magnitude == Relationship.love_hate
    assert before.shown["apologise_and_own"].treatment.name == "talk"
    assert after.shown["apologise_and_own"].treatment.name == "talk_strained"
    assert before.first.action == "travel_insurance"
    assert after.first.action != "travel_insurance"
    was, now = (one.shown["travel_insurance"] for one in (before, after))
    assert now.factors.context_weight == pytest.approx(
        0.6 * 0.7 * was.factors.context_weight, rel=0.1
    )
    assert now.price == was.price
    assert now.price.amount > 0
    for seen in (before, after):
        # Both times it ranks last of the four; no declared weight of mood is among its reasons.
        assert list(seen.shown)[-1] == "skip_the_queue"
        assert not any(
            "relationship" in one or "mood" in one for one in reasons(seen, "skip_the_queue")
        )


def test_what_an_agent_presents_instead_counts_and_what_they_passed_over_does_not(
    played: dict[str, Played],
) -> None:
    hint, elsewhere, after = played["agent_overrides"].seen
    assert list(hint.shown) == ["better_savings_rate"]
    assert not hint.code("savings_flexible").startswith("CONTACT")
    # Held for the agent, it is not shown anywhere else meanwhile.
    assert elsewhere.code("better_savings_rate") == "CONTACT_LIMIT"
    assert elsewhere.first.action == "savings_flexible"
    # Passed over, it is free; presented instead, the other has been shown for the third time.
    assert list(after.shown) == ["better_savings_rate"]
    assert after.code("savings_flexible") == "CONTACT_LIMIT"
    assert "Shown or held 3 times within 30d" in after.told["savings_flexible"].reason.text


def test_with_the_store_down_service_is_left_in_time_and_all_comes_back_with_it(
    played: dict[str, Played],
) -> None:
    before, down, back = played["store_down"].seen
    assert down.seconds < PATIENCE
    assert down.answer.rung > decision_pb2.RUNG_FULL
    assert down.advisories == {"STORE_UNAVAILABLE"}
    assert down.shown
    assert {business().by_name[one].issue for one in down.shown} == {"service"}
    assert not any(business().by_name[one].purpose for one in down.shown)
    assert "CONSENT_UNREADABLE" in codes(down, MARKETING)
    assert not down.facts
    assert list(back.shown) == list(before.shown)
    assert back.answer.rung == before.answer.rung == decision_pb2.RUNG_FULL
    assert not back.answer.advisories
    assert set(back.facts) == set(before.facts)
    assert back.answer.read.events == before.answer.read.events
    assert back.answer.versions == before.answer.versions


@by_name
def test_every_row_tells_a_change_and_what_stays_is_the_same(
    played: dict[str, Played], moment: Moment
) -> None:
    seen = played[moment.name].seen
    for name, look in moment.changes.items():
        assert len({*map(look, seen)}) > 1, name
    for name, look in moment.stays.items():
        assert look(seen[0]) == look(seen[1]), name


@by_name
def test_what_changed_is_explained_in_three_voices(
    played: dict[str, Played], moment: Moment
) -> None:
    for place, action in moment.explained:
        seen = played[moment.name].seen[place]
        told = seen.told[action]
        assert (told.reason.code == "") == (action in seen.shown)
        assert told.voices.agent
        assert told.voices.customer
        assert told.reason.code in told.voices.auditor
        assert told.reason.code == "" or told.reason.code not in told.voices.customer


def test_the_document_tells_what_was_answered(played: dict[str, Played]) -> None:
    committed = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else ""
    drift = difflib.unified_diff(
        committed.splitlines(), document([*played.values()]).splitlines(), lineterm="", n=0
    )
    told = "\n".join(drift)
    assert not told, f"docs/moments.md has drifted; run 'python -m tests.moments --write':\n{told}"
