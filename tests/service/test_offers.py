from __future__ import annotations

from service.catalogue import Treatment
from service.offers import Offering
from tests.business import action, business


def test_only_actions_with_a_treatment_for_placement_and_channel_are_offered() -> None:
    told = Treatment("tell", ["hint"], ["phone"])
    warm = Treatment("warm", ["hint"], relationships=["friend"])
    actions = [
        action("discount", treatments=[told]), action("callback"),
        action("tablet", treatments=[warm]),
    ]  # fmt: skip
    offering = Offering(business(actions))

    def names(placement: str, channel: str, tone: str = "neutral") -> list[str]:
        offers = offering.of(placement, channel, "", tone)
        found = [one.name for row, one in enumerate(actions) if offers.actions >> row & 1]
        assert found == [
            one.name for one, how in zip(actions, offers.treatments, strict=True) if how
        ]
        return found

    assert names("hint", "phone") == ["discount", "callback"]
    assert names("hint", "phone", "friend") == ["discount", "callback", "tablet"]
    assert names("hint", "chat") == ["callback"]
    assert names("banner", "phone") == ["callback"]
    assert names("elsewhere", "phone") == []
    assert offering.of("hint", "phone", "", "").treatments[0] is told


def test_any_number_of_languages_is_answered() -> None:
    offering = Offering(business())
    for number in range(10_050):
        assert offering.of("hint", "phone", f"x-{number}", "").actions == 0b1111
    assert len(offering._offers) <= 10_000, "and what callers send does not fill the memory"
    assert ("hint", "phone", "x-10049", "") in offering._offers, "the newest are remembered"
