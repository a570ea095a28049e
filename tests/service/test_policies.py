from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.duration import DAY, HOUR, milliseconds
from features.ledger import presented
from features.profile import EMPTY as NO_PROFILE
from features.profile import Consent, Profile, Told
from features.record import EMPTY, RESERVED, Records
from features.vocabulary import Attribute, Direction, Outcome
from rapport.v1 import decision_pb2 as pb
from service.business import Business, complete, load
from service.catalogue import ASSURANCE, ISSUES, Action, Price, Treatment, Validity
from service.causes import Cause, rows_of
from service.declared import Ceiling, Limit, QuietHours, StageRule, StageRules, Suppression, Target
from service.policies import Circumstances, Policies, counted_outcomes, described
from service.rules import Unknown
from service.rules import Value as RuleValue
from service.store import Cap
from tests.business import ACTIONS, AROUND, action, business, rule
from tests.chain import NOW, VOCABULARY, Event, chained, unique

ROOT = Path(__file__).parents[2]
TODAY = datetime.datetime.fromtimestamp(NOW / 1000, datetime.UTC).date()
ONE_DAY = datetime.timedelta(days=1)
WILLING = Profile({}, [Consent("marketing", "", True, 0), Consent("profiling", "", True, 0)])
NOTHING: dict[str, dict[str, RuleValue]] = {
    "customer": {}, "context": {}, "journey": {}, "intent": {},
}  # fmt: skip


def shown(age: int, name: str | int = "discount", **fields: Any) -> Event:
    return Event(NOW - age, "outcome", action=name, **{"outcome": Outcome.presented, **fields})


def circumstances(policies: Policies, **given: Any) -> Circumstances:
    known: dict[str, Any] = {
        "channel": "phone", "direction": Direction.inbound, "assurance": 3, "now": NOW,
        "profile": WILLING, "ledger": EMPTY, **given,
    }  # fmt: skip
    values = {**NOTHING, **known.pop("values", {})}
    known["results"] = policies.conditions.evaluate(values)
    return Circumstances(**known)


def causes(policies: Policies, name: str = "discount", **given: Any) -> list[Cause]:
    """All that speaks against one action, the decisive cause first."""
    row = policies.business.rows[name]
    found = policies.filtered(circumstances(policies, **given)).causes
    return [cause for cause in found if cause.actions >> row & 1]


def codes(policies: Policies, name: str = "discount", **given: Any) -> list[str]:
    return [cause.code for cause in causes(policies, name, **given)]


def only(policies: Policies, name: str = "discount", **given: Any) -> Cause:
    (cause,) = causes(policies, name, **given)
    return cause


# Eligibility


def test_without_a_reason_against_it_an_action_passes() -> None:
    assert Policies(business()).filtered(circumstances(Policies(business()))).causes == []


MIDNIGHT = NOW // DAY * DAY


@pytest.mark.parametrize(
    ("valid", "first", "last"),
    [
        (Validity(), 0, 2**50),
        (Validity(TODAY, TODAY), MIDNIGHT, MIDNIGHT + DAY - 1),
        (Validity(TODAY + ONE_DAY), MIDNIGHT + DAY, 2**50),
        (Validity(until=TODAY - ONE_DAY), 0, MIDNIGHT - 1),
        (Validity(TODAY - ONE_DAY, TODAY + ONE_DAY), MIDNIGHT - DAY, MIDNIGHT + 2 * DAY - 1),
    ],
)
def test_an_action_is_offered_on_its_days_to_the_millisecond(
    valid: Validity, first: int, last: int
) -> None:
    others = [
        action("tablet", valid=Validity(TODAY)),
        action("callback", valid=Validity(until=TODAY)),
        action("insurance"),
    ]
    for policies in (
        Policies(business([action(valid=valid)])),
        Policies(business([others[0], action(valid=valid), *others[1:]])),
    ):
        for now, passes in ((first - 1, False), (first, True), (last, True), (last + 1, False)):
            if now < 0 or now > 2**50:
                continue
            found = causes(policies, now=now)
            assert (not found) is passes
            for cause in found:
                assert (cause.stage, cause.code) == (pb.STAGE_ELIGIBILITY, "NOT_VALID_NOW")
                assert cause.text == "Outside its validity"


@pytest.mark.parametrize("declared", ["none", "ani", "verified"])
@pytest.mark.parametrize("assurance", [1, 2, 3])
def test_the_caller_must_be_as_sure_as_the_action_asks(declared: Any, assurance: int) -> None:
    policies = Policies(business([action(assurance=declared), action("tablet")]))
    found = causes(policies, assurance=assurance)
    assert (not found) is (assurance >= ASSURANCE[declared])
    assert causes(policies, "tablet", assurance=assurance) == []
    for cause in found:
        assert (cause.stage, cause.code) == (pb.STAGE_ELIGIBILITY, "ASSURANCE_TOO_LOW")
        assert cause.text == f"Needs a caller who is {declared}"
        assert cause.name == declared


@pytest.mark.parametrize(
    ("consents", "phone", "chat"),
    [
        ([], ["NO_CONSENT"], ["NO_CONSENT"]),
        ([("marketing", "", True)], [], []),
        ([("profiling", "", True)], ["NO_CONSENT"], ["NO_CONSENT"]),
        ([("marketing", "phone", True)], [], ["NO_CONSENT"]),
        ([("marketing", "", True), ("marketing", "phone", False)], ["NO_CONSENT"], []),
    ],
)
def test_consent_is_asked_for_the_channel_at_hand(
    consents: list[tuple[str, str, bool]], phone: list[str], chat: list[str]
) -> None:
    policies = Policies(business())
    profile = Profile({}, [Consent(*one, 0) for one in consents])
    assert codes(policies, profile=profile, channel="phone") == phone
    assert codes(policies, profile=profile, channel="chat") == chat
    assert codes(policies, "callback", profile=profile) == [], "a service needs none"
    if phone:
        cause = only(policies, profile=profile)
        assert cause.text == "No consent for marketing on phone"
        assert cause.name == "marketing"


def test_without_the_profile_only_what_needs_no_consent_passes() -> None:
    policies = Policies(business())
    cause = only(policies, profile=None)
    assert (cause.stage, cause.code) == (pb.STAGE_ELIGIBILITY, "CONSENT_UNREADABLE")
    assert cause.text == "Consent for marketing could not be read"
    assert codes(policies, "callback", profile=None) == []
    assert codes(policies, profile=NO_PROFILE) == ["NO_CONSENT"], "an empty one was read"


def test_the_caller_may_ask_for_some_actions_and_rule_out_others() -> None:
    policies = Policies(business())
    asked: dict[str, Any] = {"allow": ["discount", "tablet"], "block": ["tablet", "insurance"]}
    assert {one.name: codes(policies, one.name, **asked) for one in ACTIONS} == {
        "discount": [],
        "callback": ["NOT_ALLOWED"],
        "tablet": ["BLOCKED"],
        "insurance": ["NOT_ALLOWED", "BLOCKED"],
    }
    assert only(policies, "callback", **asked).stage == pb.STAGE_ELIGIBILITY
    assert only(policies, "tablet", **asked).stage == pb.STAGE_ELIGIBILITY


# Rules


def test_a_rule_that_does_not_hold_gives_its_reason() -> None:
    policies = Policies(business([action(eligibility=[rule("customer.age >= 18.0", "adult")])]))
    assert causes(policies, values={"customer": {"age": 18.0}}) == []
    cause = only(policies, values={"customer": {"age": 17.0}})
    assert cause == Cause(pb.STAGE_ELIGIBILITY, "RULE", "It does not fit", 1, "adult")


def test_a_rule_that_cannot_be_evaluated_does_not_hold_and_says_why() -> None:
    policies = Policies(business([action(suitability=[rule("customer.age >= 18.0", "adult")])]))
    cause = only(policies, values={})
    assert (cause.stage, cause.code) == (pb.STAGE_SUITABILITY, "RULE_UNKNOWN")
    assert cause.name == "adult"
    assert cause.text == "Cannot tell, since customer.age is not known (rule adult)"


@pytest.mark.parametrize(
    ("target", "dropped"),
    [
        (Target(), {"discount", "callback", "tablet", "insurance"}),
        (Target(issue="grow"), {"discount", "tablet", "insurance"}),
        (Target(group="care"), {"callback", "insurance"}),
        (Target(action="tablet"), {"tablet"}),
        (Target(issue="grow", group="care"), {"insurance"}),
        (Target(action="tablet", group="care"), set()),
    ],
)
@pytest.mark.parametrize("stage", ["eligibility", "applicability", "suitability"])
def test_a_rule_is_about_the_issue_group_or_action_that_it_names(
    target: Target, dropped: set[str], stage: str
) -> None:
    staged = StageRules(**{stage: [StageRule(rule("context.channel == 'chat'"), target)]})
    policies = Policies(business(rules=staged))
    values: Any = {"context": {"channel": "phone"}}
    assert {one.name for one in ACTIONS if codes(policies, one.name, values=values)} == dropped
    for name in dropped:
        assert only(policies, name, values=values).stage == pb.Stage.Value(f"STAGE_{stage.upper()}")
    values = {"context": {"channel": "chat"}}
    assert policies.filtered(circumstances(policies, values=values)).causes == []


def test_one_rule_over_many_actions_is_one_cause_for_each_way_it_turns_out() -> None:
    staged = StageRules(suitability=[StageRule(rule("action.value < 20.0 || customer.member"))])
    policies = Policies(business(rules=staged))
    values: Any = {"customer": {"member": False}}
    (cause,) = policies.filtered(circumstances(policies, values=values)).causes
    assert cause.actions == rows_of([2, 3])


def test_rules_of_a_stage_come_as_they_are_declared_whatever_the_catalogue_begins_with() -> None:
    never = "customer.age < 0.0"
    staged = [
        StageRule(rule(never, "first"), Target(action="tablet")),
        StageRule(rule(never, "second")),
        StageRule(rule(never, "third"), Target(action="tablet")),
    ]
    actions = [
        action("discount", suitability=[rule(never, "own")]),
        action("tablet", suitability=[rule(never, "own"), rule(never, "last")]),
    ]
    for some in (actions, actions[::-1]):
        policies = Policies(business(some, rules=StageRules(suitability=staged)))
        found = causes(policies, "tablet", values={})
        assert [cause.name for cause in found] == ["first", "second", "third", "own", "last"]


# Limits


def test_without_the_ledger_only_what_nothing_counts_passes() -> None:
    policies = Policies(business(limits=[Limit("l", 3, "7d", issue="grow")]))
    cause = only(policies, ledger=None)
    assert (cause.stage, cause.code) == (pb.STAGE_CONTACT_POLICY, "LEDGER_UNREADABLE")
    assert codes(policies, "callback", ledger=None) == []
    assert codes(Policies(business()), ledger=None) == [], "nothing is counted"
    tired = Suppression("s", "rejected", 1, "7d", "7d", action="callback")
    policies = Policies(business(suppressions=[tired]))
    assert codes(policies, "callback", ledger=None) == ["LEDGER_UNREADABLE"]
    assert codes(policies, ledger=None) == []


@pytest.mark.parametrize("at_most", [0, 1, 2, 3])
@pytest.mark.parametrize("times", [0, 1, 2, 3])
def test_showing_it_once_more_must_not_exceed_a_limit(at_most: int, times: int) -> None:
    policies = Policies(business(limits=[Limit("weekly", at_most, "7d", action="discount")]))
    ledger = chained(unique([shown(HOUR * n) for n in range(times)]))
    found = causes(policies, ledger=ledger)
    assert (not found) is (times + 1 <= at_most)
    for cause in found:
        assert (cause.stage, cause.code) == (pb.STAGE_CONTACT_POLICY, "CONTACT_LIMIT")
        often = "once" if at_most == 1 else f"{at_most} times"
        assert cause.text == f"Shown or held {often} within 7d (limit weekly)"
        assert cause.name == "weekly"


@pytest.mark.parametrize(("times", "over"), [(0, []), (1, ["CONTACT_LIMIT"])])
def test_a_single_refusal_keeps_an_action_back(times: int, over: list[str]) -> None:
    policies = Policies(
        business(limits=[Limit("no", 0, "30d", outcome="rejected", action="discount")])
    )
    happened = [shown(HOUR * n) for n in range(9)]
    refused = [shown(DAY, outcome=Outcome.rejected) for _ in range(times)]
    ledger = chained(unique(happened + refused))
    assert codes(policies, ledger=ledger) == over
    if times:
        assert only(policies, ledger=ledger).text == "Rejected once within 30d (limit no)"


@pytest.mark.parametrize(
    ("age", "counts"), [(0, True), (7 * DAY - 1, True), (7 * DAY, False), (-HOUR, False)]
)
def test_a_window_slides(age: int, counts: bool) -> None:
    policies = Policies(business(limits=[Limit("l", 1, "7d")]))
    assert bool(codes(policies, ledger=chained([shown(age)]))) is counts


@pytest.mark.parametrize(
    ("per", "blocked"),
    [
        ("action", {"discount"}),
        ("group", {"discount", "tablet"}),
        ("issue", {"discount", "tablet", "insurance"}),
        ("customer", {"discount", "tablet", "insurance", "callback"}),
    ],
)
def test_a_limit_counts_per_action_group_issue_or_customer(per: Any, blocked: set[str]) -> None:
    policies = Policies(business(limits=[Limit("l", 1, "7d", per=per)]))
    ledger = chained([shown(HOUR, "discount")])
    assert {one.name for one in ACTIONS if codes(policies, one.name, ledger=ledger)} == blocked


def test_a_limit_counts_only_the_actions_that_it_covers() -> None:
    limit = Limit("l", 1, "7d", issue="grow", group="sales", per="customer")
    policies = Policies(business(limits=[limit]))
    others = chained(unique([shown(1, "insurance"), shown(2, "callback"), shown(3, 4)]))
    assert codes(policies, "discount", ledger=others) == []
    mine = chained([shown(1, "tablet")])
    assert codes(policies, "discount", ledger=mine) == ["CONTACT_LIMIT"]
    assert codes(policies, "insurance", ledger=mine) == []


def test_a_limit_on_a_channel_counts_what_happened_there_and_holds_there() -> None:
    policies = Policies(business(limits=[Limit("l", 1, "7d", channel="chat")]))
    there, elsewhere = chained([shown(1, channel="chat")]), chained([shown(1, channel="phone")])
    assert codes(policies, ledger=there, channel="chat") == ["CONTACT_LIMIT"]
    assert codes(policies, ledger=there, channel="phone") == []
    assert codes(policies, ledger=elsewhere, channel="chat") == []


def test_a_limit_per_channel_is_one_for_each() -> None:
    policies = Policies(business(limits=[Limit("l", 2, "7d", per="channel")]))
    ledger = chained(
        unique([shown(1, "tablet", channel="chat"), shown(2, channel="chat"),
                shown(3, channel="phone")])
    )  # fmt: skip
    assert codes(policies, ledger=ledger, channel="chat") == ["CONTACT_LIMIT"]
    assert codes(policies, "callback", ledger=ledger, channel="chat") == ["CONTACT_LIMIT"]
    assert codes(policies, ledger=ledger, channel="phone") == []


def test_the_first_limit_that_is_reached_is_told_first() -> None:
    limits = [Limit("wide", 9, "7d"), Limit("narrow", 1, "7d"), Limit("other", 1, "7d")]
    found = causes(Policies(business(limits=limits)), ledger=chained([shown(1)]))
    assert [cause.name for cause in found] == ["narrow", "other"]


def test_an_open_reservation_counts_as_presented() -> None:
    policies = Policies(business(limits=[Limit("l", 1, "1h")]))
    held = shown(2 * HOUR, outcome=RESERVED, value=7_201.0)
    assert codes(policies, ledger=chained([held])) == ["CONTACT_LIMIT"]
    assert codes(policies, ledger=chained([held]), now=NOW + 1_000) == []


def test_stages_come_in_their_order() -> None:
    gone = action(
        "discount", valid=Validity(until=TODAY - ONE_DAY), assurance="verified",
        purpose="marketing",
        eligibility=[rule("customer.age > 1.0", "e")],
        applicability=[rule("customer.age > 1.0", "a")],
        suitability=[rule("customer.age > 1.0", "s")],
    )  # fmt: skip
    policies = Policies(
        business(
            [gone, action("tablet")],
            limits=[Limit("l", 1, "7d", action="discount")],
            suppressions=[Suppression("u", "presented", 1, "7d", "7d", action="discount")],
            ceilings=[Ceiling("c", "day", volume=1, action="discount")],
            quiet_hours=[
                QuietHours("q", datetime.time(0), datetime.time(23, 59), ["phone"], ["inbound"],
                           issue="service")
            ],
        )
    )  # fmt: skip
    found = causes(
        policies, values={}, ledger=chained([shown(1)]), assurance=1, profile=NO_PROFILE,
        block=["discount"], allow=["tablet"], full_ceilings=frozenset(["c"]),
    )  # fmt: skip
    assert [(cause.code, cause.name) for cause in found] == [
        ("NO_CONSENT", "marketing"),
        ("NOT_ALLOWED", ""),
        ("BLOCKED", ""),
        ("NOT_VALID_NOW", ""),
        ("ASSURANCE_TOO_LOW", "verified"),
        ("RULE_UNKNOWN", "e"),
        ("RULE_UNKNOWN", "a"),
        ("RULE_UNKNOWN", "s"),
        ("CONTACT_LIMIT", "l"),
        ("SUPPRESSED", "u"),
        ("CEILING", "c"),
        ("QUIET_HOURS", "q"),
    ]
    stages = [cause.stage for cause in found]
    assert stages == sorted(stages)


def test_ten_thousand_other_events_do_not_reopen_a_cap() -> None:
    policies = Policies(business(limits=[Limit("l", 1, "30d", action="discount")]))
    others = [shown(n + 1, "tablet", outcome=Outcome.clicked) for n in range(10_000)]
    ledger = chained(unique([shown(29 * DAY), *others]), limit=20_000)
    assert len(ledger) == 10_001
    assert codes(policies, ledger=ledger) == ["CONTACT_LIMIT"]
    assert codes(policies, ledger=ledger[1:]) == []


def test_the_largest_code_of_an_action_is_counted_too() -> None:
    words = msgspec.structs.replace(VOCABULARY, actions={"discount": 65_535})
    one = business([action("discount")], limits=[Limit("l", 1, "7d")], vocabulary=words)
    policies = Policies(one)
    assert codes(policies, ledger=chained([shown(1, 65_535)])) == ["CONTACT_LIMIT"]
    assert codes(policies, ledger=chained([shown(1, 65_534)])) == []


# Suppressions, ceilings


def test_so_many_refusals_keep_an_action_back_for_a_while() -> None:
    tired = Suppression("tired", "rejected", 2, "3d", "10d", issue="grow", per="group")
    policies = Policies(business(suppressions=[tired]))
    refused = unique(
        [shown(9 * DAY, outcome=Outcome.rejected), shown(8 * DAY, "tablet", outcome=5)]
    )
    cause = only(policies, ledger=chained(refused))
    assert (cause.stage, cause.code, cause.name) == (pb.STAGE_CONTACT_POLICY, "SUPPRESSED", "tired")
    assert cause.text == "Rejected 2 times within 3d: left alone for 10d (tired)"
    assert codes(policies, "tablet", ledger=chained(refused)) == ["SUPPRESSED"]
    assert codes(policies, "insurance", ledger=chained(refused)) == [], "another group"
    assert codes(policies, ledger=chained(refused), now=NOW + 2 * DAY - 1) == ["SUPPRESSED"]
    assert codes(policies, ledger=chained(refused), now=NOW + 2 * DAY) == []
    assert codes(policies, ledger=chained(refused[:1])) == []


def test_a_single_one_that_suppresses_needs_no_window_in_words() -> None:
    once = Suppression("no", "rejected", 1, "1d", "30d")
    policies = Policies(business(suppressions=[once]))
    cause = only(policies, ledger=chained([shown(DAY, outcome=Outcome.rejected)]))
    assert cause.text == "Rejected once: left alone for 30d (no)"


def test_a_limit_and_a_suppression_of_the_same_name_are_two_causes() -> None:
    one = business(
        limits=[Limit("enough", 1, "7d", action="discount")],
        suppressions=[Suppression("enough", "rejected", 1, "7d", "7d", action="tablet")],
    )
    ledger = chained(unique([shown(1), shown(1, "tablet", outcome=Outcome.rejected)]))
    assert codes(Policies(one), "discount", ledger=ledger) == ["CONTACT_LIMIT"]
    assert codes(Policies(one), "tablet", ledger=ledger) == ["SUPPRESSED"]


def test_a_ceiling_that_is_full_drops_what_it_is_about() -> None:
    policies = Policies(
        business(
            ceilings=[
                Ceiling("many", "day", volume=9, issue="grow"),
                Ceiling("dear", "day", budget=9.0, action="tablet"),
                Ceiling("else", "day", volume=9),
            ]
        )
    )
    full = frozenset(["many", "dear"])
    assert codes(policies, full_ceilings=full) == ["CEILING"]
    assert codes(policies, "callback", full_ceilings=full) == []
    first, second = causes(policies, "tablet", full_ceilings=full)
    assert first.text == "The volume for everybody is used up (ceiling many)"
    assert second.text == "The budget for everybody is used up (ceiling dear)"
    assert [policies.ceilings(row) for row in range(4)] == [
        ["many", "else"], ["else"], ["many", "dear", "else"], ["many", "else"],
    ]  # fmt: skip


# Quiet hours


def moment(written: str, zone: str = "Europe/Amsterdam") -> int:
    """Milliseconds of a local time."""
    local = datetime.datetime.fromisoformat(written).replace(tzinfo=ZoneInfo(zone))
    return round(local.timestamp() * 1000)


def quiet(policies: Policies, now: int, **given: Any) -> bool:
    at: dict[str, Any] = {"direction": Direction.outbound, "now": now, **given}
    found = codes(policies, "callback", **at)
    assert found in ([], ["QUIET_HOURS"])
    return bool(found)


NIGHT = QuietHours("night", datetime.time(22), datetime.time(8), ["phone"])
NOON = QuietHours("noon", datetime.time(12), datetime.time(13), ["phone"])


@pytest.mark.parametrize(
    ("hours", "clock", "is_quiet"),
    [
        (NIGHT, "21:59:59.999", False),
        (NIGHT, "22:00", True),
        (NIGHT, "23:59:59.999", True),
        (NIGHT, "00:00", True),
        (NIGHT, "07:59:59.999", True),
        (NIGHT, "08:00", False),
        (NIGHT, "12:30", False),
        (NOON, "11:59:59.999", False),
        (NOON, "12:00", True),
        (NOON, "12:59:59.999", True),
        (NOON, "13:00", False),
        (NOON, "00:30", False),
    ],
)
def test_quiet_hours_run_past_midnight(hours: QuietHours, clock: str, is_quiet: bool) -> None:
    policies = Policies(business(quiet_hours=[hours], time_zone="Europe/Amsterdam"))
    assert quiet(policies, moment(f"2027-01-15T{clock}")) is is_quiet


def test_quiet_hours_are_those_of_their_channels_directions_and_actions() -> None:
    hours = msgspec.structs.replace(NIGHT, group="care")
    policies = Policies(business(quiet_hours=[hours], time_zone="Europe/Amsterdam"))
    now = moment("2027-01-15T23:30")
    assert quiet(policies, now)
    assert not quiet(policies, now, channel="chat")
    assert not quiet(policies, now, direction=Direction.inbound)
    assert not quiet(policies, now, direction=Direction.unspecified)
    assert codes(policies, "tablet", direction=Direction.outbound, now=now) == []
    both = msgspec.structs.replace(NIGHT, directions=["inbound", "outbound"])
    policies = Policies(business(quiet_hours=[both], time_zone="Europe/Amsterdam"))
    assert quiet(policies, now, direction=Direction.inbound)
    cause = only(policies, "tablet", now=now)
    assert cause.stage == pb.STAGE_CONTACT_POLICY
    assert cause.text == "It is 23:30 where they are (quiet hours night)"


@pytest.mark.parametrize(
    ("at", "is_quiet"),
    [
        ("2027-01-15T23:00", True),  # a Friday
        ("2027-01-16T07:00", True),  # Friday's night ends on Saturday
        ("2027-01-16T23:00", False),
        ("2027-01-17T07:00", False),
        ("2027-01-17T23:00", True),
        ("2027-01-18T07:00", True),
        ("2027-01-15T07:00", False),
    ],
)
def test_hours_past_midnight_belong_to_the_day_on_which_they_begin(at: str, is_quiet: bool) -> None:
    hours = msgspec.structs.replace(NIGHT, days=["fri", "sun"])
    policies = Policies(business(quiet_hours=[hours], time_zone="Europe/Amsterdam"))
    assert quiet(policies, moment(at)) is is_quiet


def living_in(zone: str | float | None) -> Profile:
    return Profile({"zone": Told(zone, 0)}, WILLING.consents)


def test_quiet_hours_go_by_the_clock_where_the_customer_is() -> None:
    policies = Policies(
        business(
            quiet_hours=[NIGHT], time_zone="Europe/Amsterdam", time_zone_by="zone",
            vocabulary=AROUND,
        )
    )  # fmt: skip
    now = moment("2027-01-15T12:00")  # 06:00 in New York, 16:30 in Kolkata
    assert not quiet(policies, now, profile=living_in("Europe/Amsterdam"))
    assert quiet(policies, now, profile=living_in("America/New_York"))
    assert not quiet(policies, now, profile=living_in("Asia/Kolkata"))
    half = moment("2027-01-15T17:30")  # 22:00 in Kolkata
    assert quiet(policies, half, profile=living_in("Asia/Kolkata"))
    assert not quiet(policies, half - 1, profile=living_in("Asia/Kolkata"))
    night = moment("2027-01-15T23:00")
    for unknown in (WILLING, None, living_in(None)):
        assert quiet(policies, night, profile=unknown), "the business's own clock then"
        assert not quiet(policies, now, profile=unknown)
    policies = Policies(business(quiet_hours=[NIGHT], vocabulary=AROUND))
    assert not quiet(policies, now, profile=living_in("America/New_York")), "nobody asked where"


@pytest.mark.parametrize(
    ("utc", "is_quiet"),
    [
        ("2027-03-28T05:59:59", True),  # 07:59:59; the clock jumped from 02:00 to 03:00
        ("2027-03-28T06:00:00", False),
        ("2027-03-27T06:59:59", True),
        ("2027-03-27T07:00:00", False),
        ("2027-03-28T19:59:59", False),
        ("2027-03-28T20:00:00", True),
        ("2027-10-31T06:59:59", True),  # 07:59:59; it went back from 03:00 to 02:00
        ("2027-10-31T07:00:00", False),
        ("2027-10-30T20:00:00", True),
        ("2027-10-31T20:59:59", False),
        ("2027-10-31T21:00:00", True),
    ],
)
def test_quiet_hours_keep_to_the_clock_when_it_changes(utc: str, is_quiet: bool) -> None:
    policies = Policies(business(quiet_hours=[NIGHT], time_zone="Europe/Amsterdam"))
    assert quiet(policies, moment(utc, "UTC")) is is_quiet


# Bundles


BOTH = action("insurance", issue="retain", group="sales", parts=["callback", "tablet"])
BUNDLED = (*ACTIONS[:3], BOTH)


def test_a_bundle_goes_with_any_of_its_parts() -> None:
    policies = Policies(business(BUNDLED))
    assert codes(policies, "insurance") == []
    assert codes(policies, "insurance", block=["discount"]) == []
    assert codes(policies, "insurance", block=["callback"]) == ["PART_DROPPED"]
    cause = only(policies, "insurance", block=["tablet"])
    assert cause.stage == pb.STAGE_SUITABILITY
    assert cause.text == "A part of the bundle may not be offered"
    assert codes(policies, "insurance", block=["tablet", "insurance"])[0] == "BLOCKED"
    assert codes(policies, "callback", block=["insurance"]) == [], "not the other way round"


def test_who_asks_for_a_bundle_alone_gets_it() -> None:
    policies = Policies(business(BUNDLED))
    assert codes(policies, "insurance", allow=["insurance"]) == []
    assert codes(policies, "callback", allow=["insurance"]) == ["NOT_ALLOWED"]
    assert codes(policies, "insurance", allow=["insurance"], block=["tablet"]) == ["PART_DROPPED"]


def test_showing_a_bundle_counts_for_its_parts() -> None:
    policies = Policies(business(BUNDLED, limits=[Limit("l", 1, "7d", action="callback")]))
    ledger = chained([shown(1, "insurance")])
    assert codes(policies, "callback", ledger=ledger) == ["CONTACT_LIMIT"]
    assert codes(policies, "insurance", ledger=ledger) == ["PART_DROPPED"]
    assert codes(policies, "tablet", ledger=ledger) == []
    ledger = chained([shown(1, "insurance", outcome=Outcome.rejected)])
    tired = Suppression("s", "rejected", 1, "1d", "1d", action="tablet")
    policies = Policies(business(BUNDLED, suppressions=[tired]))
    assert codes(policies, "tablet", ledger=ledger) == ["SUPPRESSED"]


def test_showing_a_bundle_uses_up_the_ceilings_of_its_parts() -> None:
    ceilings = [
        Ceiling("own", "day", volume=1, action="insurance"),
        Ceiling("part", "day", volume=1, action="callback"),
        Ceiling("else", "day", volume=1, action="discount"),
    ]
    policies = Policies(business(BUNDLED, ceilings=ceilings))
    assert policies.ceilings(3) == ["own", "part"]
    assert policies.ceilings(1) == ["part"]


def test_one_showing_of_a_bundle_counts_once_for_all_of_its_parts_together() -> None:
    policies = Policies(business(BUNDLED, limits=[Limit("l", 2, "7d", per="customer")]))
    assert codes(policies, ledger=chained([shown(1, "insurance")])) == []


# All of it, against a slow reference


RULES: Mapping[str, Callable[[Action, Mapping[str, Any]], bool | None]] = {
    "customer.age >= 18.0": lambda _, at: None if at["age"] is None else at["age"] >= 18,
    "action.value < 20.0": lambda one, _: one.value < 20,
    "has(customer.member) && customer.member": lambda _, at: bool(at["member"]),
    "action.group == 'sales' || context.channel == 'phone'": lambda one, at: (
        one.group == "sales" or at["channel"] == "phone"
    ),
    "action.issue != 'grow' || customer.age > 30.0": lambda one, at: (
        True if one.issue != "grow" else None if at["age"] is None else at["age"] > 30
    ),
    "has(action.purpose) && action.purpose == 'marketing'": lambda one, _: (
        one.purpose == "marketing"
    ),
}
"""Conditions, and what each says of an action; None: it cannot be evaluated."""

STAGED = ("eligibility", "applicability", "suitability")
NAMES = ("discount", "callback", "tablet", "insurance")
sometimes = st.sampled_from


def nothing_or(some: Sequence[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), st.sampled_from(some))


@cache
def _rules() -> st.SearchStrategy[list[Any]]:
    return st.lists(
        st.builds(rule, sometimes([*RULES]), sometimes("rst")),
        max_size=2,
        unique_by=lambda one: one.name,
    )


DATES = st.one_of(st.none(), st.integers(-2, 2).map(lambda days: TODAY + days * ONE_DAY))
VALID = st.tuples(DATES, DATES).map(
    lambda pair: Validity(*(sorted(pair) if None not in pair else pair))  # type: ignore[type-var]
)
OUTCOMES = ("presented", "rejected", "clicked")
PER: st.SearchStrategy[Any] = sometimes(["action", "group", "issue", "channel", "customer"])
WITHIN = sometimes(["1h", "1d", "7d"])
ABOUT: dict[str, Any] = {
    "action": nothing_or(NAMES[:2]),
    "group": nothing_or(["care", "sales"]),
    "issue": nothing_or(["grow", "service"]),
}
_HOURS = [datetime.time(0), datetime.time(6, 30), datetime.time(12), datetime.time(23)]
CLOCKS = sometimes([*itertools.permutations(_HOURS, 2)])
WAYS: st.SearchStrategy[Any] = sometimes([["inbound"], ["outbound"], ["inbound", "outbound"]])
DAYS: st.SearchStrategy[Any] = sometimes([[], ["mon", "fri"], ["sat", "sun", "tue"]])


@st.composite
def businesses(draw: st.DrawFn) -> Business:
    actions = [
        action(
            name,
            issue=draw(sometimes(["grow", "service"])),
            group=draw(sometimes(["care", "sales"])),
            value=draw(sometimes([10.0, 30.0])),
            purpose=draw(nothing_or(["marketing", "profiling"])),
            assurance=draw(sometimes([*ASSURANCE])),
            valid=draw(VALID),
            **{stage: draw(_rules()) for stage in STAGED},
        )
        for name in NAMES[: draw(st.integers(1, 3))]
    ]
    if len(actions) == 3 and draw(st.booleans()):
        actions.append(
            action("insurance", issue="grow", parts=draw(sometimes([["discount", "callback"],
                                                                    ["callback", "tablet"]])))
        )  # fmt: skip
    staged = {
        stage: [
            StageRule(one, Target(group=draw(ABOUT["group"]), issue=draw(ABOUT["issue"])))
            for one in draw(_rules())
        ]
        for stage in STAGED
    }
    channels = nothing_or(["phone", "web"])
    limits = [
        Limit(f"l{n}", draw(st.integers(0, 2)), draw(WITHIN), draw(sometimes(OUTCOMES)),
              channel=draw(channels), per=draw(PER),
              **{name: draw(some) for name, some in ABOUT.items()})
        for n in range(draw(st.integers(0, 2)))
    ]  # fmt: skip
    suppressions = [
        Suppression(f"s{n}", draw(sometimes(OUTCOMES)), draw(st.integers(1, 3)), draw(WITHIN),
                    draw(WITHIN), per=draw(PER),
                    **{name: draw(some) for name, some in ABOUT.items()})
        for n in range(draw(st.integers(0, 2)))
    ]  # fmt: skip
    ceilings = [
        Ceiling(f"c{n}", "day", volume=1, **{name: draw(some) for name, some in ABOUT.items()})
        for n in range(draw(st.integers(0, 2)))
    ]
    hours = [
        QuietHours(f"q{n}", start, until,
                   draw(sometimes([["phone"], ["web"], ["phone", "web"]])), draw(WAYS), draw(DAYS),
                   draw(ABOUT["group"]), draw(ABOUT["issue"]))
        for n, (start, until) in enumerate(draw(st.lists(CLOCKS, max_size=2)))
    ]  # fmt: skip
    return business(
        actions, vocabulary=AROUND, time_zone="Europe/Amsterdam", time_zone_by="zone",
        limits=limits, suppressions=suppressions, ceilings=ceilings, quiet_hours=hours,
        rules=StageRules(**staged),
    )  # fmt: skip


HAPPENED = st.lists(
    st.builds(
        lambda age, name, channel, outcome, held: shown(
            age, name, channel=channel, outcome=outcome, value=held
        ),
        st.one_of(st.integers(-DAY, 9 * DAY), sometimes([0, HOUR, DAY, 7 * DAY])),
        sometimes([*NAMES, *NAMES, 0, 4, 65_535]),
        sometimes(["phone", "web", 0]),
        sometimes([2, 2, 3, 5, RESERVED, 200]),
        sometimes([0.0, 60.0, 4_000.0, 1e6]),
    ),
    max_size=12,
).map(unique)
CONSENTS = st.lists(
    st.builds(
        Consent, sometimes(["marketing", "profiling"]), sometimes(["", "phone", "web"]),
        st.booleans(), st.just(0),
    ), max_size=4,
)  # fmt: skip
PROFILES = st.one_of(
    st.none(),
    st.builds(
        lambda told, consents: Profile({name: Told(v, 0) for name, v in told.items()}, consents),
        st.fixed_dictionaries(
            {},
            optional={
                "age": sometimes([None, 17.0, 18.0, 40.0]),
                "member": sometimes([True, False]),
                "zone": sometimes([*AROUND.attributes["zone"].values]),
            },
        ),
        CONSENTS,
    ),
)
MOMENTS = st.one_of(
    st.just(NOW),
    st.integers(NOW - 3 * DAY, NOW + 3 * DAY),
    st.integers(-2, 2).map(lambda days: MIDNIGHT + days * DAY),
    st.integers(-2, 2).map(lambda days: MIDNIGHT + days * DAY - 1),
)


def against(one: Business, name: str, at: Circumstances, events: list[Event]) -> list[Any]:
    """What speaks against an action, one declaration after the other."""
    found = own(one, one.by_name[name], at, events)
    parts = [own(one, one.by_name[part], at, events) for part in one.by_name[name].parts]
    if any(code != "NOT_ALLOWED" for part in parts for code, _ in part):
        found.append(("PART_DROPPED", ""))
    return found


def own(one: Business, about: Action, at: Circumstances, events: list[Event]) -> list[Any]:
    found: list[Any] = []
    if about.purpose is not None:
        if at.profile is None:
            found.append(("CONSENT_UNREADABLE", about.purpose))
        elif not consented(at.profile, about.purpose, at.channel):
            found.append(("NO_CONSENT", about.purpose))
    if at.allow and about.name not in at.allow:
        found.append(("NOT_ALLOWED", ""))
    if about.name in at.block:
        found.append(("BLOCKED", ""))
    day = datetime.datetime.fromtimestamp(at.now / 1000, datetime.UTC).date()
    if (about.valid.start and day < about.valid.start) or (
        about.valid.until and day > about.valid.until
    ):
        found.append(("NOT_VALID_NOW", ""))
    levels = ["", "none", "ani", "verified"]
    if at.assurance < levels.index(about.assurance):
        found.append(("ASSURANCE_TOO_LOW", about.assurance))
    found += ruled(one, about, at)
    policies = one.policies
    counts: list[Limit | Suppression] = [*policies.limits, *policies.suppressions]
    counts = [each for each in counts if each.target.covers(about)]
    if at.ledger is None and counts:
        found.append(("LEDGER_UNREADABLE", ""))
    elif at.ledger is not None:
        for each in counts:
            if isinstance(each, Limit) and over(one, each, about, at, events):
                found.append(("CONTACT_LIMIT", each.name))
            if isinstance(each, Suppression) and suppressed(one, each, about, at, events):
                found.append(("SUPPRESSED", each.name))
    for ceiling in policies.ceilings:
        if ceiling.target.covers(about) and ceiling.name in at.full_ceilings:
            found.append(("CEILING", ceiling.name))
    for hours in policies.quiet_hours:
        if hours.target.covers(about) and silent(one, hours, at):
            found.append(("QUIET_HOURS", hours.name))
    return found


def consented(profile: Profile, purpose: str, channel: str) -> bool:
    said = False
    for where in ("", channel):  # the channel's own last word wins
        for consent in profile.consents:
            if (consent.purpose, consent.channel) == (purpose, where):
                said = consent.granted
    return said


def ruled(one: Business, about: Action, at: Circumstances) -> list[Any]:
    told = {} if at.profile is None else {n: t.value for n, t in at.profile.attributes.items()}
    values = {"age": told.get("age"), "member": told.get("member"), "channel": at.channel}
    found: list[Any] = []
    for stage in STAGED:
        declared = [
            each.rule
            for each in getattr(one.policies.rules, stage)
            if each.target.covers(about)
        ]  # fmt: skip
        said = set()
        for each in [*declared, *getattr(about, stage)]:
            verdict = RULES[each.when](about, values)
            if verdict is None:
                said.add(("RULE_UNKNOWN", each.name))
            elif not verdict:
                said.add(("RULE", each.name))
        found += sorted(said)
    return found


def counted(
    one: Business, each: Limit | Suppression, about: Action, at: Circumstances, events: list[Event]
) -> list[tuple[int, bool]] | None:
    """Moments of what counts, and whether each is a reservation; None: it does not hold here."""
    channel: str | None = None
    if isinstance(each, Limit) and each.channel:
        channel = each.channel
    elif each.per == "channel":
        channel = at.channel
    if channel not in (None, at.channel):
        return None
    fields = {"action": "name", "group": "group", "issue": "issue"}
    moments = []
    for event in events:
        happened, held = event.outcome, event.outcome == RESERVED
        if held:
            if at.now >= event.at + 1000 * (event.value or 0):
                continue
            happened = Outcome.presented
        if event.at > at.now or happened != Outcome[each.outcome]:
            continue
        if channel is not None and event.channel != channel:
            continue
        stands_for = [
            other
            for other in one.actions
            if other.name == event.action or other.name in parts_of(one, event.action)
        ]
        if any(
            each.target.covers(other)
            and (each.per not in fields
                 or getattr(other, fields[each.per]) == getattr(about, fields[each.per]))
            for other in stands_for
        ):  # fmt: skip
            moments.append((event.at, held))
    return sorted(moments)


def parts_of(one: Business, name: str | int) -> list[str]:
    return one.by_name[name].parts if isinstance(name, str) and name in one.by_name else []


def over(
    one: Business, limit: Limit, about: Action, at: Circumstances, events: list[Event]
) -> bool:
    moments = counted(one, limit, about, at, events)
    if moments is None:
        return False
    count = sum(held or when > at.now - milliseconds(limit.within) for when, held in moments)
    return count + (limit.outcome == "presented") > limit.at_most


def suppressed(
    one: Business, each: Suppression, about: Action, at: Circumstances, events: list[Event]
) -> bool:
    moments = [when for when, _ in counted(one, each, about, at, events) or []]
    return any(
        last - first <= milliseconds(each.within) and at.now < last + milliseconds(each.lasts)
        for first, last in zip(moments, moments[each.after - 1 :], strict=False)
    )


def silent(one: Business, hours: QuietHours, at: Circumstances) -> bool:
    if at.channel not in hours.channels or Direction(at.direction).name not in hours.directions:
        return False
    told = None if at.profile is None else at.profile.attributes.get("zone")
    zone = one.definitions.time_zone if told is None else str(told.value)
    clock = datetime.datetime.fromtimestamp(at.now / 1000, ZoneInfo(zone)).replace(tzinfo=None)
    for day in (clock.date(), clock.date() - ONE_DAY):
        if hours.days and f"{day:%a}".lower() not in hours.days:
            continue
        begin = datetime.datetime.combine(day, hours.start)
        end = datetime.datetime.combine(day, hours.until)
        if end < begin:
            end += ONE_DAY
        if begin <= clock < end:
            return True
    return False


def told(found: list[Cause]) -> list[Any]:
    """The causes, with the rules of a stage in the order of their names."""
    order: list[Any] = []
    for stage, some in itertools.groupby(
        found, lambda cause: cause.stage if cause.code.startswith("RULE") else None
    ):
        named = [(cause.code, cause.name) for cause in some]
        order += named if stage is None else sorted(set(named))
    return order


@settings(max_examples=200)
@given(
    businesses(), HAPPENED, PROFILES, MOMENTS, sometimes(["phone", "web"]), st.integers(0, 3),
    st.integers(1, 3), st.lists(sometimes(NAMES), max_size=2),
    st.lists(sometimes(NAMES), max_size=3), st.frozensets(sometimes(["c0", "c1"])), st.booleans(),
)  # fmt: skip
def test_what_speaks_against_each_action_is_what_the_declarations_say(
    one: Business, events: list[Event], profile: Profile | None, now: int, channel: str,
    direction: int, assurance: int, block: list[str], allow: list[str], full: frozenset[str],
    lost: bool,
) -> None:  # fmt: skip
    policies = Policies(one)
    known = {} if profile is None else {n: t.value for n, t in profile.attributes.items()}
    at = circumstances(
        policies, channel=channel, direction=direction, assurance=assurance, now=now,
        profile=profile, ledger=None if lost else chained(events), full_ceilings=full,
        block=[name for name in block if name in one.by_name],
        allow=[name for name in allow if name in one.by_name],
        values={
            "customer": {name: value for name, value in known.items() if value is not None},
            "context": {"channel": channel},
        },
    )  # fmt: skip
    found = policies.filtered(at).causes
    for row, about in enumerate(one.actions):
        mine = [cause for cause in found if cause.actions >> row & 1]
        assert told(mine) == against(one, about.name, at, events)
    assert all(0 <= cause.actions < 1 << len(one.actions) for cause in found)


# What the store rechecks


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
    for row in range(len(one.actions)):
        caps = policies.caps(row, channel)
        assert refused(caps, ledger, NOW) is bool(dropped >> row & 1)


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
    policies = Policies(business(limits=limits))
    assert [(cap.at_most, cap.within, cap.channel, codes_of(cap))
            for cap in policies.caps(0, "phone")] == [
        (3, 7 * DAY, 0, [1]), (2, DAY, 0, [1, 3]), (9, DAY, 1, [1, 2, 3, 6]),
    ]  # fmt: skip
    assert [(cap.at_most, cap.channel, codes_of(cap)) for cap in policies.caps(1, "chat")] == [
        (1, 3, [1, 2, 3, 6]), (9, 3, [1, 2, 3, 6]),
    ]  # fmt: skip
    assert Policies(business()).caps(0, "phone") == [], "nothing caps it"


def test_a_bundle_is_capped_as_its_parts_are_and_counts_for_them() -> None:
    limits = [Limit("a", 3, "7d", action="callback"), Limit("b", 1, "7d", action="insurance")]
    policies = Policies(business(BUNDLED, limits=limits))
    assert [codes_of(cap) for cap in policies.caps(1, "phone")] == [[2, 6]]
    assert [codes_of(cap) for cap in policies.caps(3, "phone")] == [[2, 6], [6]]
    assert policies.caps(2, "phone") == []


# What is offered


def test_only_actions_with_a_treatment_for_placement_and_channel_are_offered() -> None:
    told = Treatment("tell", ["hint"], ["phone"])
    warm = Treatment("warm", ["hint"], relationships=["friend"])
    actions = [
        action("discount", treatments=[told]), action("callback"),
        action("tablet", treatments=[warm]),
    ]  # fmt: skip
    policies = Policies(business(actions))

    def names(placement: str, channel: str, tone: str = "neutral") -> list[str]:
        offers = policies.offers(placement, channel, "", tone)
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
    assert policies.offers("hint", "phone", "", "").treatments[0] is told


def test_any_number_of_languages_is_answered() -> None:
    policies = Policies(business())
    for number in range(10_050):
        assert policies.offers("hint", "phone", f"x-{number}", "").actions == 0b1111
    assert len(policies._offers) <= 10_000, "and what callers send does not fill the memory"
    assert ("hint", "phone", "x-10049", "") in policies._offers, "the newest are remembered"


def test_the_outcomes_that_anything_counts_go_to_the_ledger() -> None:
    assert counted_outcomes(business()) == {Outcome.presented}
    one = business(
        limits=[Limit("a", 0, "1d", outcome="rejected"), Limit("b", 0, "1d", outcome="accepted")],
        suppressions=[Suppression("s", "dismissed", 1, "1d", "1d")],
    )
    assert counted_outcomes(one) == {
        Outcome.presented, Outcome.rejected, Outcome.accepted, Outcome.dismissed,
    }  # fmt: skip


def test_an_action_is_described_in_numbers() -> None:
    first, *_ = described(business([action("tablet", issue="grow", group="sales", cost=2.0)]))
    assert first == {"code": 3, "issue": ISSUES.index("grow"), "group": 2, "value": 10, "cost": 2}
    assert np.isfinite(list(first.values())).all()


# Prices


MEMBERS = [
    Price(5.0, "Members over 60", "customer.member && customer.age > 60.0"),
    Price(7.0, "Members", "customer.member"),
    Price(9.0),
]
PRICED = business([action(prices=MEMBERS), action("callback")], public_attributes=["member", "age"])


@pytest.mark.parametrize(
    ("customer", "amount"),
    [
        ({"member": True, "age": 61.0}, 5.0),
        ({"member": True, "age": 60.0}, 7.0),
        ({"member": True}, 7.0),  # the first one cannot be evaluated, so it is not met
        ({"member": False, "age": 70.0}, 9.0),
        ({}, 9.0),
    ],
)
def test_the_first_price_whose_condition_is_met_counts(
    customer: dict[str, RuleValue], amount: float
) -> None:
    policies = Policies(PRICED)
    results = policies.conditions.evaluate({**NOTHING, "customer": customer})
    price = policies.price(0, results)
    assert price is not None
    assert price.amount == amount
    assert policies.price(1, results) is None, "it has no price"


def valued(declared: Mapping[str, Attribute]) -> dict[str, st.SearchStrategy[Any]]:
    return {
        name: st.booleans()
        if one.kind == "flag"
        else st.sampled_from([*one.values])
        if one.values
        else st.floats(-1e6, 1e6)
        for name, one in declared.items()
    }


@cache
def _priced() -> Mapping[str, tuple[Business, Policies]]:
    """The sample business, with prices where it has none, and a small one."""
    sample = load(ROOT / "config")
    public = dict.fromkeys([*sample.policies.public_attributes, "value_tier", "age"])
    own_prices = [
        Price(2.0, "Premium", "customer.value_tier == 'premium'"),
        Price(3.0, "Older", "customer.age > 50.0 && has(customer.value_tier)"),
        Price(4.0),
    ]
    sample = complete(
        msgspec.structs.replace(
            sample,
            actions=[
                one if one.prices else msgspec.structs.replace(one, prices=own_prices)
                for one in sample.actions
            ],
            policies=msgspec.structs.replace(sample.policies, public_attributes=[*public]),
        )
    )
    return {one: (found, Policies(found)) for one, found in (("sample", sample), ("small", PRICED))}


@pytest.mark.parametrize("name", ["sample", "small"])
@settings(max_examples=60)
@given(st.data())
def test_customers_who_agree_in_public_pay_the_same_whatever_else_differs(
    name: str, data: st.DataObject
) -> None:
    one, policies = _priced()[name]
    words, public = one.vocabulary, one.policies.public_attributes
    attributes = valued(words.attributes)
    shared = data.draw(
        st.fixed_dictionaries({}, optional={each: attributes.pop(each) for each in public})
    )

    def somebody() -> list[float | None]:
        contact = {
            "channel": sometimes([*words.channels]),
            "direction": sometimes(["inbound", "outbound"]),
            "assurance": sometimes([*ASSURANCE]),
            "agent_id": st.text(max_size=3), "skill": st.text(max_size=3),
            "queue": st.text(max_size=3), "locale": sometimes(["nl-NL", "en-GB"]),
            "hour_of_day": st.integers(0, 23), "day_of_week": st.integers(1, 7),
        }  # fmt: skip
        journey = {
            "failed_self_service": st.integers(0, 5), "repeat_contact": st.integers(0, 5),
            "channel_hops": st.integers(0, 5), "unresolved_contacts": st.integers(0, 5),
            "unanswered_question": st.integers(0, 5), "sentiment_trend": st.floats(-1, 1),
            "relationship": sometimes(["friend", "enemy", "love_hate", "neutral"]),
            "lifetime_stage": sometimes(["new", "lapsed"]),
        }  # fmt: skip
        intents = st.dictionaries(sometimes([*words.intents]), st.floats(0, 1), max_size=3)
        values: Any = {
            "customer": {
                **data.draw(st.fixed_dictionaries({}, optional=attributes)),
                **shared,
            },
            "context": data.draw(
                st.fixed_dictionaries({}, optional={**valued(words.context), **contact})
            ),
            "journey": data.draw(st.fixed_dictionaries({}, optional=journey)),
            "intent": {"name": "x", "probability": 0.5, "all": data.draw(intents)},
        }
        results = policies.conditions.evaluate(values)
        prices = [policies.price(row, results) for row in range(len(one.actions))]
        return [None if price is None else price.amount for price in prices]

    first = somebody()
    assert any(amount is not None for amount in first)
    assert somebody() == first


def test_unknown_results_are_no_prices_and_no_passes() -> None:
    policies = Policies(PRICED)
    assert policies.price(0, [Unknown("x"), Unknown("y")]) == MEMBERS[2]
