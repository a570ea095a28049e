"""The loop against the slate that it replaced, which did one candidate after another in Python."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.elementary import Floats, softmax
from service import exploration
from service.catalogue import Exploration
from service.causes import Rows, rows_of
from service.chance import Chance
from service.drawing import traits
from service.exploration import Candidates, Fate, Shape, Slot
from service.rooms import Room, full


class Plain(NamedTuple):
    """Candidates, one entry each."""

    rows: Sequence[int]
    priorities: Floats
    groups: Sequence[str]
    mandatory: Sequence[bool]
    excludes: Sequence[Rows]


class Numbers:
    """Numbers one by one, and how many were taken."""

    def __init__(self, seed: int, skipped: int) -> None:
        self._numbers = iter(Chance(seed).ahead(skipped + 100)[skipped:].tolist())
        self.taken = 0

    def random(self) -> float:
        self.taken += 1
        return float(next(self._numbers))


class Slow(NamedTuple):
    """What came out, in the words of the old code."""

    slots: Sequence[Slot]
    held_back: bool
    probability: float
    fates: Sequence[Fate]


def slowly(
    candidates: Plain, shape: Shape, how: Exploration, chance: Numbers, held_out: bool
) -> Slow:
    slate = _Slate(candidates, shape)
    if held_out:
        return slate.closed(Fate.held_out)
    probability = 1.0
    if how.hold_back:
        if chance.random() < how.hold_back:
            return slate.closed(Fate.held_back, probability=how.hold_back)
        probability -= how.hold_back
    if not how.temperature and not how.floor:
        slate.fill()
        return slate.closed(Fate.ranked_lower, probability=probability)
    while slate.room and slate.fitting:
        chances = _chances(candidates.priorities[slate.fitting], how)
        at = _drawn(chances, chance.random())
        probability *= float(chances[at])
        slate.show(slate.fitting[at], float(chances[at]))
    best_slate = _Slate(candidates, shape)
    best_slate.fill()
    greedy = {slot.place for slot in best_slate.slots}
    return slate.closed(Fate.ranked_lower, probability=probability, greedy=greedy)


def _chances(priorities: Floats, how: Exploration) -> Floats:
    best = float(priorities.max())
    if how.temperature * best > 0:
        with np.errstate(over="ignore"):  # below nothing, in units of next to nothing
            soft = softmax(priorities / (how.temperature * best))
    else:
        soft = np.zeros(len(priorities))
        soft[0] = 1.0
    return (1.0 - how.floor) * soft + how.floor / len(priorities)


def _drawn(chances: Floats, number: float) -> int:
    total = 0.0
    for place, one in enumerate(chances.tolist()):
        total += one
        if number < total:
            return place
    return len(chances) - 1


class _Slate:
    """A slate that is being filled; it begins with what is mandatory."""

    def __init__(self, candidates: Plain, shape: Shape) -> None:
        self._candidates = candidates
        self._shape = shape
        self._shown: Rows = 0
        self._excluded: Rows = 0
        self._groups: dict[str, int] = {}
        self._full = full(shape.rooms, shape.taken)
        self.slots: list[Slot] = []
        everything = range(len(candidates.rows))
        self.fitting = [place for place in everything if self._unfit(place) is None]
        for place in [place for place in self.fitting if candidates.mandatory[place]]:
            if self.room and place in self.fitting:
                self.show(place, 1.0)

    @property
    def room(self) -> int:
        return self._shape.slots - len(self.slots)

    def show(self, place: int, probability: float) -> None:
        row, group = self._candidates.rows[place], self._candidates.groups[place]
        self._shown |= 1 << row
        self._excluded |= self._candidates.excludes[place]
        self._groups[group] = self._groups.get(group, 0) + 1
        self.slots.append(Slot(place, probability))
        if self._shape.rooms:
            self._full = full(self._shape.rooms, self._shape.taken | self._shown)
        self.fitting = [one for one in self.fitting if self._unfit(one) is None]
        if place in self.fitting:
            self.fitting.remove(place)

    def fill(self) -> None:
        while self.room and self.fitting:
            self.show(self.fitting[0], 1.0)

    def _unfit(self, place: int) -> Fate | None:
        row, shape = self._candidates.rows[place], self._shape
        mandatory = self._candidates.mandatory[place]
        if not mandatory and not self._candidates.priorities[place] > shape.nothing:
            return Fate.below_nothing
        if shape.taken >> row & 1:
            return Fate.elsewhere
        excludes = self._candidates.excludes[place]
        if self._excluded >> row & 1 or excludes & (self._shown | shape.taken):
            return Fate.bundled
        if self._groups.get(self._candidates.groups[place], 0) >= shape.per_group:
            return Fate.group_full
        if self._full >> row & 1:
            return Fate.limit_full
        return None

    def closed(self, fate: Fate, *, probability: float = 1.0, greedy: Container[int] = ()) -> Slow:
        fates = []
        for place, row in enumerate(self._candidates.rows):
            if self._shown >> row & 1:
                fates.append(Fate.shown)
            elif place in greedy:
                fates.append(Fate.not_drawn)
            else:
                fates.append(self._unfit(place) or fate)
        return Slow(self.slots, fate is Fate.held_back, probability, fates)


class Case(NamedTuple):
    """Something to draw from, in both forms."""

    plain: Plain
    columns: Candidates
    shape: Shape
    how: Exploration
    held_out: bool


PRIORITIES = st.one_of(
    st.floats(-5.0, 50.0),
    st.integers(-1, 5).map(float),
    st.sampled_from([float("nan"), 1e15, 5e-324, 1e-322]),
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    actions = draw(st.integers(1, 40))
    groups = [draw(st.sampled_from("vwxyz")) for _ in range(actions)]
    mandatory = [draw(st.integers(0, 9)) == 0 for _ in range(actions)]
    some = st.integers(0, actions - 1)
    excludes = [0] * actions
    for one, other in draw(st.lists(st.tuples(some, some), max_size=8)):
        if one != other:
            excludes[one] |= 1 << other
            excludes[other] |= 1 << one
    rows = draw(st.lists(some, unique=True))
    priorities = [draw(PRIORITIES) for _ in rows]
    priorities.sort(key=lambda one: np.inf if np.isnan(one) else -one)
    sets = st.sets(some).map(rows_of)
    rooms = [Room("r", draw(sets), draw(st.integers(0, 3))) for _ in range(draw(st.integers(0, 3)))]
    shape = Shape(
        draw(st.integers(1, 6)),
        draw(st.integers(1, 3)),
        draw(st.sampled_from([0.0, 1.0, -3.0])),
        draw(st.one_of(st.just(0), sets)),
        draw(st.sampled_from([rooms, []])),
    )
    how = Exploration(
        draw(st.sampled_from([0.0, 0.2])),
        draw(st.sampled_from([0.0, 0.001, 0.03, 0.4, 2.0])),
        draw(st.sampled_from([0.0, 0.01, 0.3, 1.0])),
    )
    numbers = np.array(priorities, np.float64)
    plain = Plain(
        rows,
        numbers,
        [groups[row] for row in rows],
        [mandatory[row] for row in rows],
        [excludes[row] for row in rows],
    )
    columns = Candidates(np.array(rows, np.int64), numbers, traits(groups, mandatory, excludes))
    return Case(plain, columns, shape, how, draw(st.integers(0, 9)) == 0)


@settings(max_examples=1_500, deadline=None)
@given(cases(), st.integers(0, 2**64 - 1), st.integers(0, 3))
def test_the_loop_draws_what_one_candidate_after_another_would(
    case: Case, seed: int, skipped: int
) -> None:
    chance, numbers = Chance(seed), Numbers(seed, skipped)
    chance.take(skipped)
    fast = exploration.draw(case.columns, case.shape, case.how, chance, held_out=case.held_out)
    slow = slowly(case.plain, case.shape, case.how, numbers, case.held_out)
    assert fast.slots == slow.slots, "probabilities too, to the last bit"
    assert fast.fates == slow.fates
    assert (fast.held_back, fast.probability) == (slow.held_back, slow.probability)
    assert chance.taken == skipped + numbers.taken


def test_a_thousand_candidates_are_drawn_alike() -> None:
    dice = np.random.default_rng(7)
    actions = 1_000
    groups = [f"g{n % 7}" for n in range(actions)]
    mandatory = [n in (400, 900) for n in range(actions)]
    excludes = [rows_of([n ^ 1]) if n < 200 else 0 for n in range(actions)]
    packed = traits(groups, mandatory, excludes)
    shown = 0
    for seed in range(40):
        rows = dice.permutation(actions)
        priorities = -np.sort(-dice.gamma(1.0, 5.0, actions))
        order = rows.tolist()
        plain = Plain(
            order,
            priorities,
            [groups[row] for row in order],
            [mandatory[row] for row in order],
            [excludes[row] for row in order],
        )
        shape = Shape(9, 2, 0.5, rows_of(order[:3]), [Room("r", (1 << 500) - 1, 4)])
        how = Exploration(0.05, 0.2, 0.05)
        fast = exploration.draw(Candidates(rows, priorities, packed), shape, how, Chance(seed))
        slow = slowly(plain, shape, how, Numbers(seed, 0), held_out=False)
        assert (fast.slots, fast.fates) == (slow.slots, slow.fates)
        assert fast.probability == slow.probability
        shown += len(fast.slots)
    assert shown > 200


def test_the_codes_in_the_loop_are_those_of_the_fates() -> None:
    from service import drawing  # noqa: PLC0415

    for fate in Fate:
        assert getattr(drawing, fate.name.upper()) == fate
