from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from hypothesis import given

from features.duration import DAY
from features.ledger import presented
from features.record import RESERVED, Records
from service.business import Business
from service.caps import Caps
from service.catalogue import Validity
from service.declared import Ceiling, Limit
from service.limits import Limits
from service.policies import Policies
from service.store import Cap
from tests.business import AROUND, business
from tests.chain import NOW, Event, chained
from tests.service.circumstances import (
    circumstances,
)
from tests.service.test_policies import BUNDLED, HAPPENED, businesses, sometimes


def capping(one: Business) -> Caps:
    return Caps(one, Limits(one))


def test_showing_an_action_uses_up_every_ceiling_over_it() -> None:
    ceilings = [
        Ceiling("many", "day", volume=9, issue="grow"),
        Ceiling("dear", "day", budget=9.0, action="tablet"),
        Ceiling("else", "day", volume=9),
    ]
    caps = capping(business(ceilings=ceilings))
    assert [caps.ceilings(row) for row in range(4)] == [
        ["many", "else"], ["else"], ["many", "dear", "else"], ["many", "else"],
    ]  # fmt: skip


def test_showing_a_bundle_uses_up_the_ceilings_of_its_parts() -> None:
    ceilings = [
        Ceiling("own", "day", volume=1, action="insurance"),
        Ceiling("part", "day", volume=1, action="callback"),
        Ceiling("else", "day", volume=1, action="discount"),
    ]
    caps = capping(business(BUNDLED, ceilings=ceilings))
    assert caps.ceilings(3) == ["own", "part"]
    assert caps.ceilings(1) == ["part"]


def refused(caps: Sequence[Cap], ledger: Records, now: int) -> bool:
    """Whether a store that knows these caps would refuse to show one more."""
    seen = ledger[presented(ledger, now)]
    for cap in caps:
        listed = np.frombuffer(cap.actions, "<u2")
        count = 1
        for record in seen:
            counts = record["occurred_at"] > now - cap.within or record["outcome"] == RESERVED
            here = cap.channel in (0, record["channel"])
            count += bool(counts and here and record["action"] in listed)
        if count > cap.at_most:
            return True
    return False


@given(businesses(), HAPPENED, sometimes(["phone", "web", "chat"]))
def test_what_the_store_rechecks_is_what_the_filters_count(
    one: Business, events: list[Event], channel: str
) -> None:
    limits = [limit for limit in one.policies.limits if limit.outcome == "presented"]
    one = business(
        [msgspec.structs.replace(a, eligibility=[], applicability=[], suitability=[], purpose=None,
                                 valid=Validity()) for a in one.actions],
        limits=limits, vocabulary=AROUND,
    )  # fmt: skip
    policies = Policies(one)
    ledger = chained([event for event in events if event.at <= NOW])
    at = circumstances(policies, channel=channel, ledger=ledger)
    dropped = 0
    for cause in policies.filtered(at).causes:
        dropped |= cause.actions
    caps = Caps(one, policies.limits)
    for row in range(len(one.actions)):
        assert refused(caps.of(row, channel), ledger, NOW) is bool(dropped >> row & 1)


def codes_of(cap: Cap) -> list[int]:
    return [int(code) for code in np.frombuffer(cap.actions, "<u2")]


def test_a_cap_names_the_actions_that_count_and_where() -> None:
    limits = [
        Limit("a", 3, "7d", issue="grow"),
        Limit("b", 2, "1d", issue="grow", per="group"),
        Limit("c", 1, "1h", channel="chat", per="customer"),
        Limit("d", 9, "1d", per="channel"),
        Limit("e", 0, "1d", outcome="rejected"),
    ]
    caps = capping(business(limits=limits))
    assert [(cap.at_most, cap.within, cap.channel, codes_of(cap))
            for cap in caps.of(0, "phone")] == [
        (3, 7 * DAY, 0, [1]), (2, DAY, 0, [1, 3]), (9, DAY, 1, [1, 2, 3, 6]),
    ]  # fmt: skip
    assert [(cap.at_most, cap.channel, codes_of(cap)) for cap in caps.of(1, "chat")] == [
        (1, 3, [1, 2, 3, 6]), (9, 3, [1, 2, 3, 6]),
    ]  # fmt: skip
    assert capping(business()).of(0, "phone") == [], "nothing caps it"


def test_a_bundle_is_capped_as_its_parts_are_and_counts_for_them() -> None:
    limits = [Limit("a", 3, "7d", action="callback"), Limit("b", 1, "7d", action="insurance")]
    caps = capping(business(BUNDLED, limits=limits))
    assert [codes_of(cap) for cap in caps.of(1, "phone")] == [[2, 6]]
    assert [codes_of(cap) for cap in caps.of(3, "phone")] == [[2, 6], [6]]
    assert caps.of(2, "phone") == []
