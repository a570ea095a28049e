"""What may be offered to this customer, here and now: the filter stages as sets of actions. Pure.

Nothing here runs once for each action: what does not depend on the customer is worked out when the
configuration loads, and a decision only joins sets.
"""

from __future__ import annotations

import bisect
import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from features import duration, ledger, usage
from features.kernels import Integers
from features.profile import Profile
from features.record import RESERVED, Records
from features.usage import Counting, Counts
from features.vocabulary import Direction, Outcome
from rapport.v1 import decision_pb2 as pb
from service.business import Business
from service.catalogue import ASSURANCE, ISSUES, Action, Price, Treatment, treatment
from service.causes import Cause, Filtered, Rows, Rules, rows_of, union
from service.conditions import Conditions
from service.declared import Limit, Suppression, outcome_code
from service.rules import Answers, Unknown
from service.store import Cap

STAGES: Final = (
    (pb.STAGE_ELIGIBILITY, "eligibility"),
    (pb.STAGE_APPLICABILITY, "applicability"),
    (pb.STAGE_SUITABILITY, "suitability"),
)
_KEPT: Final = 10_000  # ways to ask; callers may send any locale
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Circumstances(NamedTuple):
    """Everything that the filter stages look at."""

    channel: str
    direction: int
    assurance: int
    now: int  # milliseconds
    profile: Profile | None  # None: it could not be read; then only what needs no consent passes
    ledger: Records | None  # None: it could not be read; then only what nothing counts passes
    results: Answers  # of all conditions
    full_ceilings: frozenset[str] = frozenset()
    allow: Sequence[str] = ()
    block: Sequence[str] = ()
    interaction: int = 0  # hash of the contact that asks; 0: it stands alone
    counts: Counts | None = None  # of the ledger; None: not counted yet


class Offers(NamedTuple):
    """What a placement could show on a channel."""

    actions: Rows
    treatments: Sequence[Treatment | None]  # by row


class Key(NamedTuple):
    """What a limit or a suppression counts for."""

    declared: Limit | Suppression
    holds_on: int  # code of the channel; 0: on every channel
    actions: Rows

    @property
    def room(self) -> int:
        """How many there may be before one more is too many."""
        one = self.declared
        if isinstance(one, Limit):
            return one.at_most - (one.outcome == "presented")
        return 2**62

    @property
    def within(self) -> int:
        """Its window in milliseconds."""
        return duration.milliseconds(self.declared.within)

    @property
    def shows(self) -> bool:
        """Whether it limits showing."""
        return isinstance(self.declared, Limit) and self.declared.outcome == "presented"


class Standing(NamedTuple):
    """What speaks against actions before anything is counted."""

    before: Sequence[Cause]  # what comes before the rules
    after: Sequence[Cause]  # what comes after the ledger
    dropped: Rows
    parting: Rows  # those of them whose bundles are dropped with them
    words: Integers  # both for a kernel, 64 rows a word


class Share(NamedTuple):
    """A limit on showing that more than one action may come up against."""

    name: str
    key: int  # among the counts
    holds_on: int  # code of the channel; 0: on every channel
    at_most: int
    within: int  # milliseconds
    rows: Rows  # showing one of them counts
    takes: int  # how many of them fit into one answer at most


class Policies:
    """The filter stages of one configuration.

    Args:
        business: Its conditions are checked.
    """

    def __init__(self, business: Business) -> None:
        self.business = business
        self.channels = business.vocabulary.channels
        self._all = (1 << len(business.actions)) - 1
        self._offers: dict[tuple[str, str, str, str], Offers] = {}
        self._standing: dict[tuple[object, ...], Standing] = {}
        self.conditions = Conditions(business)
        self._boundaries, self._invalid = self._validity()
        self._needs = {
            level: self._where(lambda one, level=level: ASSURANCE[one.assurance] > level)  # type: ignore[misc]
            for level in ASSURANCE.values()
        }
        self._purposes = {
            purpose: self._where(lambda one, purpose=purpose: one.purpose == purpose)  # type: ignore[misc]
            for purpose in business.vocabulary.purposes
        }
        self.rules = Rules(self._staged(), len(business.actions))
        self.conditions.compile(self.rules.drops())
        self.keys, self.counting = self._counted()
        self._room = np.array([key.room for key in self.keys], np.int64)
        self._counted_rows = rows_of(
            row
            for row in range(len(business.actions))
            if any(k.actions >> row & 1 for k in self.keys)
        )
        self._shown = [  # by row: an action with its parts
            rows_of([row, *(business.rows[part] for part in action.parts)])
            for row, action in enumerate(business.actions)
        ]
        self._caps_of = list(self._find_caps())
        self._asking = self._where(lambda one: any(price.when for price in one.prices))
        self._row_of_code = {
            business.vocabulary.actions[name]: row for name, row in business.rows.items()
        }
        self._quiet = [
            (quiet, self._where(quiet.target.covers)) for quiet in business.policies.quiet_hours
        ]
        self._ceilings = [
            (ceiling, self._where(ceiling.target.covers)) for ceiling in business.policies.ceilings
        ]
        self.bundles = [
            (row, rows_of(business.rows[part] for part in action.parts))
            for row, action in enumerate(business.actions)
            if action.parts
        ]
        self.shares = list(self._find_shares())
        self.zone = ZoneInfo(business.definitions.time_zone)

    def _where(self, holds: Callable[[Action], bool]) -> Rows:
        return rows_of(row for row, one in enumerate(self.business.actions) if holds(one))

    def _validity(self) -> tuple[list[int], list[Rows]]:
        """The moments at which validity changes, and what is not valid from each on."""
        spans = [action.valid.milliseconds for action in self.business.actions]
        moments = sorted({0, *(start for start, _ in spans), *(end + 1 for _, end in spans)})
        invalid = [
            rows_of(row for row, (start, end) in enumerate(spans) if not start <= moment <= end)
            for moment in moments
        ]
        return moments, invalid

    def _staged(self) -> Iterable[tuple[int, Cause]]:
        """Every rule with the actions that it is about, once for each way it turns out.

        In the order in which they are declared, the actions' own last.
        """
        business = self.business
        for stage, name in STAGES:
            found: dict[tuple[str, str, int], Rows] = {}
            rules = [
                (one.rule, row)
                for one in getattr(business.policies.rules, name)
                for row, action in enumerate(business.actions)
                if one.target.covers(action)
            ]
            rules += [
                (rule, row)
                for row, action in enumerate(business.actions)
                for rule in getattr(action, name)
            ]
            for rule, row in rules:
                at = (rule.name, rule.reason, self.conditions.place(rule.when, row))
                found[at] = found.get(at, 0) | 1 << row
            for (rule_name, reason, condition), actions in found.items():
                yield condition, Cause(stage, "RULE", reason, actions, rule_name)

    def _counted(self) -> tuple[list[Key], Counting]:
        """Compile limits and suppressions to keys."""
        business, vocabulary = self.business, self.business.vocabulary
        actions = max(vocabulary.actions.values(), default=0) + 1
        keys: list[Key] = []
        by_place: dict[int, list[int]] = {}
        declared: list[Limit | Suppression] = [
            *business.policies.limits,
            *business.policies.suppressions,
        ]
        for one in declared:
            own = vocabulary.channels[one.channel] if isinstance(one, Limit) and one.channel else 0
            every = one.per == "channel" and not own
            for channel in vocabulary.channels.values() if every else [own]:
                by_name: dict[str, int] = {}
                for row, action in enumerate(business.actions):
                    if not one.target.covers(action):
                        continue
                    name = _counted_for(one, action)
                    if name not in by_name:
                        by_name[name] = len(keys)
                        keys.append(Key(one, channel, 0))
                    number = by_name[name]
                    keys[number] = keys[number]._replace(actions=keys[number].actions | 1 << row)
                    place = outcome_code(one.outcome) * actions + vocabulary.actions[action.name]
                    by_place.setdefault(place, []).append(number)
        self._count_bundles(by_place, actions)
        first = np.zeros(usage.OUTCOMES * actions + 1, np.int64)
        flat: list[int] = []
        for place in range(usage.OUTCOMES * actions):
            flat += dict.fromkeys(by_place.get(place, ()))
            first[place + 1] = len(flat)
        return keys, Counting(
            actions,
            first,
            np.array(flat, np.int64),
            np.array([key.holds_on for key in keys], np.int64),
            np.array([key.within for key in keys], np.int64),
            np.array([_after(key.declared) for key in keys], np.int64),
            np.array([_lasts(key.declared) for key in keys], np.int64),
        )

    def _count_bundles(self, by_place: dict[int, list[int]], actions: int) -> None:
        """Showing a bundle counts for its parts too."""
        vocabulary = self.business.vocabulary
        for action in self.business.actions:
            for part in action.parts:
                for outcome in range(usage.OUTCOMES):
                    counts = by_place.get(outcome * actions + vocabulary.actions[part], [])
                    place = outcome * actions + vocabulary.actions[action.name]
                    by_place.setdefault(place, []).extend(counts)

    def offers(self, placement: str, channel: str, locale: str, relationship: str) -> Offers:
        """The actions that have a treatment for the placement and channel, in the fitting tone."""
        at = (placement, channel, locale, relationship)
        found = self._offers.get(at)
        if found is None:
            treatments = [treatment(action, *at) for action in self.business.actions]
            found = Offers(rows_of(row for row, one in enumerate(treatments) if one), treatments)
            if len(self._offers) >= _KEPT:
                self._offers.clear()
            self._offers[at] = found
        return found

    def filtered(self, at: Circumstances) -> Filtered:
        """All that speaks against any action whatever the placement, cause by cause.

        A decision needs the set alone and has it from :mod:`service.choosing`.
        """
        standing = self.standing(at)
        return self.explained(at, standing, limited=True)

    def explained(
        self, at: Circumstances, standing: Standing, *, limited: bool, dropped: Rows | None = None
    ) -> Filtered:
        """The causes behind what is dropped.

        Args:
            at: Everything that the filter stages look at.
            standing: Of the same.
            limited: Whether any limit or suppression may forbid something.
            dropped: All that is dropped, where that is known already.
        """
        after = [*(self._of_ledger(at) if limited else ()), *standing.after]
        if parted := self.parted([*standing.before, *after], at.results.dropped):
            after.append(parted)
        if dropped is None:
            dropped = at.results.dropped | union(standing.before) | union(after)
        return Filtered(dropped, standing.before, (self.rules, at.results), after)

    def instead(
        self,
        at: Circumstances,  # noqa: ARG002  for those who need it
        results: Callable[[], Answers],  # noqa: ARG002
    ) -> Filtered | None:
        """What is dropped in the place of what rules and limits say; None: they have their say.

        For those who want to know what a decision would be without one of its causes.

        Args:
            at: Everything that the filter stages look at, results aside.
            results: Gives these.
        """
        return None

    def standing(self, at: Circumstances) -> Standing:
        """What speaks against actions before anything is counted; for many requests the same."""
        usual = self._usual(at)
        asked, everybody = self._of_caller(at), self._of_everybody(at)
        if not asked and not everybody:
            return usual
        before = usual.before
        if asked:
            before = [*self._of_consent(at), *asked, *self._of_moment(at)]
        # Who asks for a bundle asks for its parts.
        parting = union(one for one in (*asked, *everybody) if one.code != "NOT_ALLOWED")
        dropped = usual.dropped | union(asked) | union(everybody)
        return self._stands(before, [*usual.after, *everybody], dropped, usual.parting | parting)

    def _stands(
        self, before: Sequence[Cause], after: Sequence[Cause], dropped: Rows, parting: Rows
    ) -> Standing:
        size = 8 * max(1, -(-len(self.business.actions) // 64))
        both = dropped.to_bytes(size, "little") + parting.to_bytes(size, "little")
        return Standing(before, after, dropped, parting, np.frombuffer(both, np.int64))

    def _usual(self, at: Circumstances) -> Standing:
        """What a request says that asks for no action by name."""
        refused = () if at.profile is None else tuple(
            purpose
            for purpose, actions in self._purposes.items()
            if actions and not at.profile.granted(purpose, at.channel)
        )  # fmt: skip
        validity = bisect.bisect_right(self._boundaries, at.now)
        unread = at.profile is None, at.ledger is None
        key = at.channel, at.assurance, validity, refused, unread
        found = self._standing.get(key)
        if found is None:
            before = [*self._of_consent(at), *self._of_moment(at)]
            after = list(self._of_unread(at))
            dropped = union(before) | union(after)
            found = self._stands(before, after, dropped, dropped)
            if len(self._standing) >= _KEPT:
                self._standing.clear()
            self._standing[key] = found
        return found

    def parted(self, causes: Iterable[Cause], dropped: Rows = 0) -> Cause | None:
        """What speaks against bundles of which a part is dropped; None: nothing does."""
        if not self.bundles:
            return None
        for cause in causes:
            if cause.code != "NOT_ALLOWED":  # who asks for a bundle asks for its parts
                dropped |= cause.actions
        parted = rows_of(row for row, parts in self.bundles if parts & dropped)
        return part_dropped(parted) if parted else None

    def _of_consent(self, at: Circumstances) -> Iterable[Cause]:
        for purpose, actions in self._purposes.items():
            if not actions:
                continue
            if at.profile is None:
                text = f"Consent for {purpose} could not be read"
                yield Cause(pb.STAGE_ELIGIBILITY, "CONSENT_UNREADABLE", text, actions, purpose)
            elif not at.profile.granted(purpose, at.channel):
                text = f"No consent for {purpose} on {at.channel}"
                yield Cause(pb.STAGE_ELIGIBILITY, "NO_CONSENT", text, actions, purpose)

    def _of_caller(self, at: Circumstances) -> Sequence[Cause]:
        found = []
        if at.allow:
            rows = self.business.rows
            others = self._all & ~rows_of(rows[name] for name in at.allow)
            text = "The caller asked for other actions"
            found.append(Cause(pb.STAGE_ELIGIBILITY, "NOT_ALLOWED", text, others))
        if at.block:
            blocked = rows_of(self.business.rows[name] for name in at.block)
            text = "The caller ruled it out"
            found.append(Cause(pb.STAGE_ELIGIBILITY, "BLOCKED", text, blocked))
        return found

    def _of_moment(self, at: Circumstances) -> Iterable[Cause]:
        """What is not valid now, needs another caller, or has a price for somebody else."""
        invalid = self._invalid[bisect.bisect_right(self._boundaries, at.now) - 1]
        if invalid:
            yield Cause(pb.STAGE_ELIGIBILITY, "NOT_VALID_NOW", "Outside its validity", invalid)
        for name, level in ASSURANCE.items():
            if at.assurance < level:
                needing = self._needs[level - 1] & ~self._needs[level]
                if needing:
                    text = f"Needs a caller who is {name}"
                    yield Cause(pb.STAGE_ELIGIBILITY, "ASSURANCE_TOO_LOW", text, needing, name)
        # Who cannot be read cannot be told a price that depends on who they are.
        if at.profile is None and self._asking:
            text = "What they would pay could not be read"
            yield Cause(pb.STAGE_ELIGIBILITY, "RULE_UNKNOWN", text, self._asking, "price")

    def _of_unread(self, at: Circumstances) -> Iterable[Cause]:
        if self.keys and at.ledger is None:
            text = "How often it was shown could not be read"
            yield Cause(pb.STAGE_CONTACT_POLICY, "LEDGER_UNREADABLE", text, self._counted_rows)

    def _of_ledger(self, at: Circumstances) -> Iterable[Cause]:
        if not self.keys or at.ledger is None:
            return
        counts = at.counts or usage.count(at.ledger, at.now, self.counting)
        used_up = (counts.within > self._room) | (counts.until > at.now)
        if not used_up.any():
            return
        channel = self.channels[at.channel]
        found: dict[int, tuple[Limit | Suppression, Rows]] = {}
        own = list(self.own(at)) if at.interaction else []
        for number in np.flatnonzero(used_up).tolist():
            key = self.keys[number]
            if key.holds_on in (0, channel):
                again = 0
                if own and key.shows and counts.within[number] - 1 <= self._room[number]:
                    again = rows_of(row for row, age in own if age < self.counting.within[number])
                _, actions = found.get(id(key.declared), (key.declared, 0))
                found[id(key.declared)] = key.declared, actions | key.actions & ~again
        for one, actions in found.values():
            yield over(one, actions)

    def counted(self, records: Records | None, now: int) -> Counts | None:
        """Count a ledger; None where there is none to read, or nothing to count."""
        if records is None or not self.keys:
            return None
        return usage.count(records, now, self.counting)

    def own(self, at: Circumstances) -> Iterable[tuple[int, float]]:
        """Rows that the interaction itself has shown or holds, with the age of that contact.

        Showing them again on the same day makes no new contact; what is held counts in every
        window.
        """
        assert at.ledger is not None  # noqa: S101  asked before
        channel = self.channels[at.channel]
        here = (at.ledger["interaction"] == at.interaction) & (at.ledger["channel"] == channel)
        if not here.any():
            return
        here &= ledger.presented(at.ledger, at.now) & (at.ledger["occurred_at"] <= at.now)
        here &= at.ledger["occurred_at"] // duration.DAY == at.now // duration.DAY
        for record in at.ledger[here]:
            row = self._row_of_code.get(int(record["action"]))
            if row is not None:
                held = int(record["outcome"]) == RESERVED
                yield row, 0.0 if held else float(at.now - record["occurred_at"])

    def _of_everybody(self, at: Circumstances) -> Sequence[Cause]:
        found = []
        for ceiling, actions in self._ceilings if at.full_ceilings else ():
            if ceiling.name in at.full_ceilings:
                what = "budget" if ceiling.volume is None else "volume"
                text = f"The {what} for everybody is used up (ceiling {ceiling.name})"
                stage = pb.STAGE_CONTACT_POLICY
                found.append(Cause(stage, "CEILING", text, actions, ceiling.name))
        local = None
        for quiet, actions in self._quiet:
            if at.channel not in quiet.channels or _direction(at.direction) not in quiet.directions:
                continue
            if local is None:
                local = datetime.datetime.fromtimestamp(at.now / 1000, self._clock_of(at.profile))
            if _quiet_at(local, quiet.start, quiet.until, quiet.days):
                text = f"It is {local:%H:%M} where they are (quiet hours {quiet.name})"
                stage = pb.STAGE_CONTACT_POLICY
                found.append(Cause(stage, "QUIET_HOURS", text, actions, quiet.name))
        return found

    def _clock_of(self, profile: Profile | None) -> ZoneInfo:
        """The customer's time zone, or the business's where it is not known."""
        by = self.business.policies.time_zone_by
        told = None if by is None or profile is None else profile.attributes.get(by)
        return _zone(told.value) if told and isinstance(told.value, str) else self.zone

    def caps(self, row: int, channel: str) -> list[Cap]:
        """What the store has to recheck before an action is shown; empty where nothing caps it."""
        here = self.channels[channel]
        return [cap for holds_on, cap in self._caps_of[row] if holds_on in (0, here)]

    def _find_caps(self) -> Iterable[list[tuple[int, Cap]]]:
        """For each action, the limits on showing it or any part of it."""
        counted: list[list[int]] = [[] for _ in self.keys]
        presented = int(Outcome.presented) * self.counting.actions
        for code in self.business.vocabulary.actions.values():
            first, last = self.counting.first[presented + code : presented + code + 2]
            for number in self.counting.keys[first:last]:
                counted[number].append(code)
        caps = [
            (
                key.actions,
                key.holds_on,
                Cap(
                    key.declared.at_most,
                    key.declared.within_ms,
                    key.holds_on,
                    np.array(codes, "<u2").tobytes(),
                ),
            )
            for key, codes in zip(self.keys, counted, strict=True)
            if isinstance(key.declared, Limit) and key.declared.outcome == "presented"
        ]
        for shown in self._shown:
            yield [(holds_on, cap) for actions, holds_on, cap in caps if actions & shown]

    def _find_shares(self) -> Iterable[Share]:
        """Limits on showing that cover more than one action, its bundles included."""
        for number, key in enumerate(self.keys):
            one = key.declared
            if not isinstance(one, Limit) or one.outcome != "presented":
                continue
            rows = key.actions | rows_of(row for row, parts in self.bundles if parts & key.actions)
            if rows.bit_count() > 1:
                # An action, its bundles, and bundles that share a part never stand side by side.
                takes = key.actions.bit_count()
                yield Share(one.name, number, key.holds_on, one.at_most, one.within_ms, rows, takes)

    def ceilings(self, row: int) -> list[str]:
        """Names of the ceilings that showing an action, and so its parts, uses up."""
        return [one.name for one, actions in self._ceilings if actions & self._shown[row]]

    def price(self, row: int, results: Sequence[bool | Unknown]) -> Price | None:
        """What a customer pays who meets a public condition; None where there is no price."""
        for place, price in self.conditions.prices[row]:
            if place is None or results[place] is True:
                return price
        return None


def over(one: Limit | Suppression, actions: Rows) -> Cause:
    """The cause of a limit or a suppression that is used up."""
    if isinstance(one, Limit):
        more = one.at_most if one.outcome == "presented" else one.at_most + 1
        often = "once" if more == 1 else f"{more} times"
        what = "Shown or held" if one.outcome == "presented" else one.outcome.capitalize()
        text = f"{what} {often} within {one.within} (limit {one.name})"
        return Cause(pb.STAGE_CONTACT_POLICY, "CONTACT_LIMIT", text, actions, one.name)
    often = "once" if one.after == 1 else f"{one.after} times within {one.within}"
    text = f"{one.outcome.capitalize()} {often}: left alone for {one.lasts} ({one.name})"
    return Cause(pb.STAGE_CONTACT_POLICY, "SUPPRESSED", text, actions, one.name)


def part_dropped(bundles: Rows) -> Cause:
    """The cause of bundles of which a part is dropped."""
    text = "A part of the bundle may not be offered"
    return Cause(pb.STAGE_SUITABILITY, "PART_DROPPED", text, bundles)


def _counted_for(one: Limit | Suppression, action: Action) -> str:
    match one.per:
        case "action":
            return action.name
        case "group":
            return action.group
        case "issue":
            return action.issue
        case "channel" | "customer":
            return ""


def _after(one: Limit | Suppression) -> int:
    return one.after if isinstance(one, Suppression) else 0


def _lasts(one: Limit | Suppression) -> int:
    return duration.milliseconds(one.lasts) if isinstance(one, Suppression) else 0


def _direction(code: int) -> str:
    return Direction(code).name


def _quiet_at(
    local: datetime.datetime, start: datetime.time, until: datetime.time, days: Sequence[str]
) -> bool:
    """Whether a moment is quiet; hours past midnight belong to the day on which they begin."""
    clock = local.time()
    if start <= until:
        return start <= clock < until and (not days or _DAYS[local.weekday()] in days)
    if clock >= start:
        return not days or _DAYS[local.weekday()] in days
    return clock < until and (not days or _DAYS[local.weekday() - 1] in days)


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def counted_outcomes(business: Business) -> frozenset[int]:
    """Outcomes that something counts: events with these go to the ledger."""
    declared: list[Limit | Suppression] = [
        *business.policies.limits,
        *business.policies.suppressions,
    ]
    return frozenset(outcome_code(one.outcome) for one in declared) | {int(Outcome.presented)}


def described(business: Business) -> list[Mapping[str, float]]:
    """What the catalogue says of each action, as numbers for the acceptance model."""
    vocabulary = business.vocabulary
    return [
        {
            "code": vocabulary.actions[action.name],
            "issue": ISSUES.index(action.issue),
            "group": vocabulary.groups[action.group],
            "value": action.value,
            "cost": action.cost,
        }
        for action in business.actions
    ]
