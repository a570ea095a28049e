from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from features.duration import DAY, HOUR, milliseconds
from features.profile import EMPTY as NO_PROFILE
from features.profile import Consent, Profile, Told
from features.record import RESERVED
from features.vocabulary import Direction, Outcome
from rapport.v1 import decision_pb2 as pb
from service.business import Business
from service.catalogue import ASSURANCE, Action, Validity
from service.causes import Cause
from service.circumstances import Circumstances
from service.declared import Ceiling, Limit, QuietHours, StageRule, StageRules, Suppression, Target
from service.policies import Policies
from tests.business import ACTIONS, AROUND, action, business, rule
from tests.chain import NOW, Event, chained, unique
from tests.service.circumstances import (
    MIDNIGHT,
    ONE_DAY,
    TODAY,
    causes,
    circumstances,
    codes,
    only,
    shown,
)


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


def test_one_showing_of_a_bundle_counts_once_for_all_of_its_parts_together() -> None:
    policies = Policies(business(BUNDLED, limits=[Limit("l", 2, "7d", per="customer")]))
    assert codes(policies, ledger=chained([shown(1, "insurance")])) == []


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
