"""What an audit measures: one tally for each rate, with the segment of every row. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from features.kernels import Integers
from features.profile import Profile, Value
from service.business import Business
from service.catalogue import Action
from training.cases import Case
from training.effort import Happened
from training.rates import Mask, Tally
from training.recomputed import Recomputed
from training.replay import History, Profiles
from training.segments import Cut

Places = Mapping[str, Integers]
"""[rows] place of the segment among the labels of the cut, by attribute."""


class Measure(NamedTuple):
    """One rate."""

    name: str
    of: str
    tally: Tally
    segments: Places
    rows: Sequence[int] = ()  # actions any of which counts; empty: no decision makes it


def value(profile: Profile | None, name: str) -> Value | None:
    """An attribute's value; None where it is not known."""
    told = None if profile is None else profile.attributes.get(name)
    return None if told is None else told.value


def places(cut: Cut, people: Iterable[Profile | None]) -> Integers:
    """The segment of each of some people: [people]."""
    return np.array([cut.place(value(one, cut.attribute)) for one in people], np.int64)


def shown(
    decided: Sequence[Case], business: Business, again: Sequence[int], base: Recomputed | None
) -> Mask:
    """Which actions each decision showed: [decisions, actions]."""
    found = np.zeros((len(decided), len(business.actions)), bool)
    for number, one in enumerate(decided):
        for name in one.shown or ():
            if name in business.rows:
                found[number, business.rows[name]] = True
    if base is not None:
        for place, number in enumerate(again):
            if decided[number].shown is None:
                found[number] = base.shown[place]
    return found


def possible(decided: Sequence[Case], business: Business) -> Mask:
    """Which actions have a treatment for what was asked: [decisions, actions]."""
    known: dict[tuple[str, str], Mask] = {}
    rows = np.zeros((len(decided), len(business.actions)), bool)
    for number, one in enumerate(decided):
        for placement in one.placements:
            at = placement, one.channel
            if at not in known:
                known[at] = np.array([_shows(action, *at) for action in business.actions])
            rows[number] |= known[at]
    return rows


def _shows(action: Action, placement: str, channel: str) -> bool:
    return any(
        placement in one.placements and (not one.channels or channel in one.channels)
        for one in action.treatments
    )


def counted(business: Business) -> dict[tuple[str, str], tuple[int, ...]]:
    """The sets of actions whose showing is compared, by measure and name; none of them twice."""
    actions = list(enumerate(business.actions))
    named: dict[tuple[str, str], tuple[int, ...]] = {
        ("selection", one.name): (row,) for row, one in actions
    }
    conceding = tuple(
        row
        for row, one in actions
        if one.issue == "recover" or any(price.amount < 0 for price in one.prices)
    )
    if conceding:
        named["concessions", "recover or a negative price"] = conceding
    for kind in ("group", "issue"):
        for name in dict.fromkeys(getattr(one, kind) for _, one in actions):
            rows = tuple(row for row, one in actions if getattr(one, kind) == name)
            if rows not in named.values():
                named["selection", f"{kind} {name}"] = rows
    return named


def selection(
    business: Business, was: Mask, could: Mask, who: Integers, segments: Places
) -> Iterable[Measure]:
    """How often each action and each set of them is shown, of all decisions that could."""
    for (name, of), rows in counted(business).items():
        able = could[:, rows].any(axis=1)
        showed = was[:, rows].any(axis=1) & able
        tally = Tally(showed.astype(float), able.astype(float), who)
        yield Measure(name, of, tally, segments, rows)


def waits(decided: Sequence[Case], who: Integers, segments: Places) -> Iterable[Measure]:
    """How long customers had waited, where the caller told."""
    told = np.array([one.wait is not None for one in decided])
    if told.any():
        seconds = np.array([one.wait or 0.0 for one in decided])
        yield Measure("effort", "wait_seconds", Tally(seconds, told.astype(float), who), segments)


def effort(
    happened: Sequence[Happened],
    histories: Mapping[str, History],
    business: Business,
    numbers: Mapping[str, int],
    cuts: Sequence[Cut],
) -> Iterable[Measure]:
    """Acceptance and effort, with the segment that the customer was in at that moment."""
    profile_at = {name: Profiles(one) for name, one in histories.items()}
    people = [profile_at[one.customer_id](one.moment) for one in happened]
    segments = {cut.attribute: places(cut, people) for cut in cuts}
    who = np.array([numbers[one.customer_id] for one in happened], np.int64)
    was = np.array([one.happened for one in happened], float)
    could = np.array([one.possible for one in happened], float)
    kinds = np.array([one.what for one in happened], object)
    actions = {one.name: one for one in business.actions}
    of = {
        kind: np.array([getattr(actions.get(one.action), kind, "") for one in happened], object)
        for kind in ("issue", "group")
    }

    def measure(name: str, of: str, rows: Mask) -> Measure:
        tally = Tally(was[rows], could[rows], who[rows])
        return Measure(name, of, tally, {name: one[rows] for name, one in segments.items()})

    accepted = kinds == "accepted"
    if accepted.any():
        yield measure("acceptance", "all", accepted)
        for kind, names in of.items():
            for name in sorted(set(names[accepted].tolist()) - {""}):
                yield measure("acceptance", f"{kind} {name}", accepted & (names == name))
    for what in ("transfers", "repeats"):
        if (kinds == what).any():
            yield measure("effort", what, kinds == what)
