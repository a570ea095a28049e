from __future__ import annotations

import functools
import math
import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.elementary import Floats
from service import exploration
from service.catalogue import Exploration
from service.causes import rows_of
from service.chance import Chance
from service.drawing import traits
from service.exploration import Candidates, Drawn, Fate, Shape, draw
from service.rooms import Room

# A slow reference: it knows what the design says and nothing of the code


class One(NamedTuple):
    """A candidate as a person would write it down."""

    name: str
    priority: float
    group: str = "g"
    mandatory: bool = False
    parts: tuple[str, ...] = ()


class Slots(NamedTuple):
    """What a placement takes."""

    slots: int
    per_group: int = 20
    nothing: float = 0.0
    rooms: tuple[tuple[Collection[str], int], ...] = ()  # names that share so many places


Slate = tuple[bool, tuple[str, ...]]
"""Whether it was held back, and what stands in it, from the top."""


def _fits(one: One, above: Sequence[One], elsewhere: Sequence[One], slots: Slots) -> bool:
    if one in above or one in elsewhere:
        return False
    if not one.mandatory and one.priority <= slots.nothing:
        return False
    if any(one.name in other.parts or other.name in one.parts for other in [*above, *elsewhere]):
        return False
    for names, places in slots.rooms:
        taken = sum(other.name in names for other in [*above, *elsewhere])
        if one.name in names and taken >= places:
            return False
    return sum(other.group == one.group for other in above) < slots.per_group


def chances(fitting: Sequence[One], how: Exploration) -> list[float]:
    """Probability of each of those that fit, best first, to come next."""
    if how.temperature:
        best = max(one.priority for one in fitting)
        powers = [math.exp(one.priority / (how.temperature * best)) for one in fitting]
    else:
        powers = [1.0, *[0.0] * (len(fitting) - 1)]
    total = math.fsum(powers)
    return [(1 - how.floor) * one / total + how.floor / len(fitting) for one in powers]


def slates(
    candidates: Sequence[One], slots: Slots, how: Exploration, elsewhere: Sequence[One] = ()
) -> dict[Slate, float]:
    """Every slate that can be drawn, with its probability.

    Args:
        candidates: Best first.
        slots: What the placement takes.
        how: What is left to chance.
        elsewhere: What other placements of the answer show.
    """
    first: list[One] = []
    for one in candidates:
        if one.mandatory and len(first) < slots.slots and _fits(one, first, elsewhere, slots):
            first.append(one)

    def below(above: list[One], so_far: float) -> Iterator[tuple[tuple[str, ...], float]]:
        fitting = [one for one in candidates if _fits(one, above, elsewhere, slots)]
        if len(above) >= slots.slots or not fitting:
            yield tuple(one.name for one in above), so_far
            return
        for one, chance in zip(fitting, chances(fitting, how), strict=True):
            if chance > 0:
                yield from below([*above, one], so_far * chance)

    found: dict[Slate, float] = {}
    if how.hold_back:
        found[True, tuple(one.name for one in first)] = how.hold_back
    for names, probability in below(first, 1 - how.hold_back):
        assert (False, names) not in found
        found[False, names] = probability
    return found


def too_far(seen: Mapping[Any, int], expected: Mapping[Any, float], numbers: int) -> bool:
    """Whether counts differ from what was expected by more than one chance in ten thousand.

    Pearson's chi-square, its bound by Wilson and Hilferty (1931). Every cell must be expected at
    least 50 times, and nothing may be seen that is not expected.
    """
    assert abs(math.fsum(expected.values()) - 1) < 1e-12
    assert min(expected.values()) * numbers >= 50, "draw more"
    assert set(seen) <= set(expected)
    square = math.fsum(
        (seen.get(cell, 0) - numbers * p) ** 2 / (numbers * p) for cell, p in expected.items()
    )
    freedom = len(expected) - 1
    if not freedom:
        return False
    at = 2 / (9 * freedom)
    bound = freedom * (1 - at + 3.719 * math.sqrt(at)) ** 3
    return square > bound


def test_the_test_itself_tells_a_fair_die_from_a_loaded_one() -> None:
    die = dict.fromkeys(range(6), 1 / 6)
    chance = random.Random(1)
    fair = Counter(chance.randrange(6) for _ in range(6_000))
    assert not too_far(fair, die, 6_000)
    assert too_far(fair + Counter({5: 200}) - Counter({0: 200}), die, 6_000)


# The code under test, asked in the words of the reference


@functools.lru_cache(maxsize=64)
def given_to(
    ones: tuple[One, ...], elsewhere: tuple[One, ...], slots: Slots
) -> tuple[Candidates, Shape]:
    """Candidates and the shape of a slate as the pipeline gives them."""
    everybody = [*ones, *(one for one in elsewhere if one not in ones)]
    rows = {one.name: 3 * row + 1 for row, one in enumerate(reversed(everybody))}  # any, but unique
    kinds = {rows[one.name]: one for one in everybody}
    catalogue = [kinds.get(row, One("", 0.0)) for row in range(3 * len(everybody) + 1)]
    packed = traits(
        [one.group for one in catalogue],
        [one.mandatory for one in catalogue],
        [
            rows_of(
                rows[other.name]
                for other in everybody
                if one.name and (other.name in one.parts or one.name in other.parts)
            )
            for one in catalogue
        ],
    )
    return Candidates(
        np.array([rows[one.name] for one in ones], np.int64),
        np.array([one.priority for one in ones]),
        packed,
    ), Shape(
        slots.slots,
        slots.per_group,
        slots.nothing,
        rows_of(rows[one.name] for one in elsewhere),
        [
            Room("some", rows_of(rows[one.name] for one in everybody if one.name in names), places)
            for names, places in slots.rooms
        ],
    )


class Case(NamedTuple):
    """Something to draw from."""

    ones: tuple[One, ...]
    slots: Slots
    how: Exploration
    elsewhere: tuple[One, ...] = ()

    def ask(self, chance: Chance, *, held_out: bool = False) -> Drawn:
        """Draw once."""
        candidates, shape = given_to(self.ones, self.elsewhere, self.slots)
        return draw(candidates, shape, self.how, chance, held_out=held_out)

    def named(self, drawn: Drawn) -> Slate:
        """What was drawn, in names."""
        return drawn.held_back, tuple(self.ones[slot.place].name for slot in drawn.slots)


FIVE = (One("a", 9.0), One("b", 7.0), One("c", 6.0), One("d", 4.0), One("e", 2.0))
GROUPED = (
    One("a", 9.0, "x"), One("b", 7.0, "x"), One("c", 6.0, "y"), One("d", 4.0, "x"),
    One("e", 2.0, "y"),
)  # fmt: skip
BUNDLED = (
    One("a", 9.0), One("b", 7.0, parts=("c", "e")), One("c", 6.0), One("d", 4.0), One("e", 2.0),
)  # fmt: skip
MUST = (
    One("a", 9.0), One("b", 7.0), One("c", 6.0, mandatory=True), One("d", 4.0),
    One("e", 0.0, mandatory=True),
)  # fmt: skip
WARM = Exploration(hold_back=0.1, temperature=0.7, floor=0.25)

CASES = {
    "two slots": Case(FIVE, Slots(2), WARM),
    "three slots": Case(FIVE, Slots(3), Exploration(temperature=1.5, floor=0.1, hold_back=0.3)),
    "more slots than candidates": Case(FIVE, Slots(6), Exploration(temperature=5.0, floor=0.5)),
    "one slot, half of the time nothing": Case(FIVE, Slots(1), Exploration(0.5, 0.3, 0.1)),
    "only a floor": Case(FIVE, Slots(2), Exploration(floor=0.4)),
    "only a temperature": Case(FIVE, Slots(2), Exploration(temperature=0.8)),
    "all is chance": Case(FIVE, Slots(3), Exploration(floor=1.0)),
    "only a hold-back": Case(FIVE, Slots(3), Exploration(hold_back=0.05)),
    "one of a group": Case(GROUPED, Slots(3, per_group=1), WARM),
    "two of a group": Case(GROUPED, Slots(3, per_group=2), WARM),
    "a bundle": Case(BUNDLED, Slots(3), WARM),
    "two that must be shown": Case(MUST, Slots(3), WARM),
    "more that must be shown than fit": Case(MUST, Slots(1), WARM),
    "one that must be shown fills its group": Case(
        (One("m", 1.0, "x", mandatory=True), *GROUPED), Slots(3, per_group=1), WARM
    ),
    "doing nothing is worth something": Case(FIVE, Slots(2), WARM),
    "some are shown elsewhere": Case(BUNDLED, Slots(2), WARM, elsewhere=BUNDLED[2:3]),
    "its bundle is shown elsewhere": Case(BUNDLED, Slots(2), WARM, elsewhere=BUNDLED[1:2]),
    "one place that three share": Case(FIVE, Slots(3, rooms=(("abd", 1),)), WARM),
    "two limits that overlap": Case(FIVE, Slots(4, rooms=(("abc", 2), ("bcde", 2))), WARM),
    "a limit that everybody shares": Case(FIVE, Slots(3, rooms=(("abcde", 2),)), WARM),
    "no place is left": Case(FIVE, Slots(3, rooms=(("ac", 0),)), WARM),
    "what must be shown takes the last place": Case(MUST, Slots(3, rooms=(("ace", 1),)), WARM),
    "another placement took a place": Case(
        FIVE, Slots(2, rooms=(("abcz", 2),)), WARM, elsewhere=(One("z", 8.0, "z"),)
    ),
    "everything at once, and limits": Case(
        (
            One("a", 9.0, "x"), One("b", 7.0, "x", parts=("d", "z")), One("c", 6.0, "y"),
            One("m", 5.0, "y", mandatory=True), One("d", 4.0, "z"), One("e", 0.5, "z"),
            One("f", 3.0, "v"), One("g", 2.5, "w"),
        ),
        Slots(4, per_group=1, nothing=1.0, rooms=(("mad", 2), ("zfg", 2))), WARM,
        elsewhere=(One("z", 8.0, "z"),),
    ),
    "everything at once": Case(
        (
            One("a", 9.0, "x"), One("b", 7.0, "x", parts=("d", "z")), One("c", 6.0, "y"),
            One("m", 5.0, "y", mandatory=True), One("d", 4.0, "z"), One("e", 0.5, "z"),
        ),
        Slots(3, per_group=1, nothing=1.0), WARM, elsewhere=(One("z", 8.0, "z"),),
    ),
}  # fmt: skip
CASES["doing nothing is worth something"] = CASES["two slots"]._replace(slots=Slots(2, nothing=4.0))


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_every_slate_comes_as_often_as_the_slow_reference_says_and_is_logged_so(
    case: Case,
) -> None:
    expected = slates(case.ones, case.slots, case.how, case.elsewhere)
    numbers = max(1_000, math.ceil(50.01 / min(expected.values())))
    seen: Counter[Slate] = Counter()
    for seed in range(numbers):
        drawn = case.ask(Chance(seed))
        name = case.named(drawn)
        if not seen[name]:
            assert drawn.probability == pytest.approx(expected[name], rel=1e-12)
        seen[name] += 1
    assert not too_far(seen, expected, numbers)


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_the_probability_of_a_slot_is_conditional_and_their_product_is_the_slates(
    case: Case,
) -> None:
    expected = slates(case.ones, case.slots, case.how, case.elsewhere)

    def so_far(names: tuple[str, ...]) -> float:
        return math.fsum(
            p for (back, one), p in expected.items() if not back and one[: len(names)] == names
        )

    for seed in range(200):
        drawn = case.ask(Chance(seed))
        back, names = case.named(drawn)
        if back:
            assert drawn.probability == case.how.hold_back
            assert all(slot.probability == 1 for slot in drawn.slots), "mandatory, every one"
            continue
        for at, slot in enumerate(drawn.slots):
            conditional = so_far(names[: at + 1]) / so_far(names[:at])
            assert slot.probability == pytest.approx(conditional, rel=1e-12)
        product = math.prod(slot.probability for slot in drawn.slots)
        assert drawn.probability == pytest.approx((1 - case.how.hold_back) * product, rel=1e-12)


class Begins(Chance):
    """Chance whose first numbers are told."""

    first: tuple[float, ...] = ()

    def ahead(self, count: int) -> Floats:
        numbers = super().ahead(count)
        told = self.first[self.taken : self.taken + count]
        numbers[: len(told)] = told
        return numbers


def begins(seed: int, *first: float) -> Begins:
    chance = Begins(seed)
    chance.first = first
    return chance


@pytest.mark.parametrize("first", [0, 7, 99])
def test_of_a_hundred_the_second_slot_depends_on_the_first_as_it_should(first: int) -> None:
    ones = tuple(One(f"a{n}", 100.0 - n, group=f"g{n % 10}") for n in range(100))
    case = Case(ones, Slots(2, per_group=1), Exploration(temperature=2.0, floor=0.5))
    above = chances(ones, case.how)
    told = math.fsum(above[:first]) + above[first] / 2
    fitting = [one for one in ones if one.group != ones[first].group]
    assert len(fitting) == 90
    below = dict(zip((one.name for one in fitting), chances(fitting, case.how), strict=True))
    numbers = math.ceil(50.01 / min(below.values()))
    seen: Counter[str] = Counter()
    for seed in range(numbers):
        drawn = case.ask(begins(seed, told))
        _, (one, two) = case.named(drawn)
        assert one == ones[first].name
        assert drawn.slots[0].probability == pytest.approx(above[first], rel=1e-12)
        assert drawn.slots[1].probability == pytest.approx(below[two], rel=1e-12)
        seen[two] += 1
    assert not too_far(seen, below, numbers)


def test_a_temperature_means_the_same_whatever_the_currency() -> None:
    how = Exploration(temperature=0.3)
    cents = tuple(one._replace(priority=100 * one.priority) for one in FIVE)
    few, many = Case(FIVE, Slots(3), how), Case(cents, Slots(3), how)
    for seed in range(100):
        one, other = few.ask(Chance(seed)), many.ask(Chance(seed))
        assert few.named(one) == many.named(other)
        assert one.probability == pytest.approx(other.probability)


def test_a_clear_winner_leaves_no_junk_to_the_slots_below() -> None:
    """The temperature is in units of the best that still fits, slot by slot."""
    case = CASES["only a temperature"]
    drawn = case.ask(begins(0, 0.0, 0.0))
    left = FIVE[1:]
    soft = [math.exp(one.priority / (0.8 * left[0].priority)) for one in left]
    assert case.named(drawn) == (False, ("a", "b"))
    assert drawn.slots[1].probability == pytest.approx(soft[0] / sum(soft))


# What leaves nothing to chance


@pytest.mark.parametrize("seed", range(5))
def test_without_temperature_and_floor_the_best_is_certain_and_takes_no_number(seed: int) -> None:
    chance = begins(seed)
    case = CASES["two slots"]._replace(how=exploration.GREEDY)
    drawn = case.ask(chance)
    assert case.named(drawn) == (False, ("a", "b"))
    assert [slot.probability for slot in drawn.slots] == [1, 1]
    assert drawn.probability == 1
    assert chance.taken == 0


def test_one_number_is_taken_for_the_hold_back_and_one_for_each_drawn_slot() -> None:
    for name, numbers in {
        "two slots": 3, "all is chance": 3, "only a hold-back": 1, "two that must be shown": 2,
        "more that must be shown than fit": 1, "more slots than candidates": 5,
    }.items():  # fmt: skip
        chance = begins(1, 0.99)
        CASES[name].ask(chance)
        assert chance.taken == numbers, name
    chance = begins(1, 0.0)
    assert CASES["two slots"].ask(chance).held_back
    assert chance.taken == 1


def test_the_same_seed_draws_alike_and_others_do_not() -> None:
    case = CASES["three slots"]
    assert len({case.named(case.ask(Chance(7))) for _ in range(20)}) == 1
    assert len({case.named(case.ask(Chance(seed))) for seed in range(200)}) > 30


def test_a_number_just_below_one_takes_the_last_that_fits() -> None:
    case = Case(FIVE, Slots(1), Exploration(temperature=1.0))
    assert case.named(case.ask(begins(0, math.nextafter(1, 0))))[1] == ("e",)
    assert case.named(case.ask(begins(0, 0.0)))[1] == ("a",)


def test_nobody_to_draw_from_is_an_empty_slate() -> None:
    for how in (exploration.GREEDY, exploration.UNIFORM, Exploration(temperature=1.0)):
        assert Case((), Slots(3), how).ask(Chance(1)) == Drawn([], False, 1.0, b"")
    nobody = (One("a", 0.0), One("b", -2.0))
    drawn = Case(nobody, Slots(3), exploration.UNIFORM).ask(Chance(1))
    assert drawn == Drawn([], False, 1.0, bytes([Fate.below_nothing] * 2))


def test_who_is_held_out_gets_what_is_mandatory_and_nothing_else() -> None:
    chance = begins(1)
    case = CASES["two that must be shown"]
    drawn = case.ask(chance, held_out=True)
    assert case.named(drawn) == (False, ("c", "e"))
    assert (drawn.probability, chance.taken) == (1, 0)
    assert [fate.name for fate in drawn.fates] == [
        "held_out", "held_out", "shown", "held_out", "shown",
    ]  # fmt: skip


def test_what_is_mandatory_is_never_held_back() -> None:
    case = CASES["two that must be shown"]
    drawn = case.ask(begins(1, 0.0))
    assert case.named(drawn) == (True, ("c", "e"))
    assert drawn.probability == WARM.hold_back
    assert [fate.name for fate in drawn.fates] == [
        "held_back", "held_back", "shown", "held_back", "shown",
    ]  # fmt: skip


# What became of everybody


def fates(case: Case, chance: Chance | None = None) -> dict[str, str]:
    drawn = case.ask(chance or exploration.NO_CHANCE)
    assert len(drawn.fates) == len(case.ones)
    return {one.name: fate.name for one, fate in zip(case.ones, drawn.fates, strict=True)}


def test_each_fate_is_told_where_it_is_met() -> None:
    greedy = exploration.GREEDY
    below = CASES["doing nothing is worth something"]._replace(how=greedy)
    assert fates(below) == {
        "a": "shown", "b": "shown", "c": "ranked_lower", "d": "below_nothing",
        "e": "below_nothing",
    }  # fmt: skip
    assert fates(CASES["one of a group"]._replace(how=greedy)) == {
        "a": "shown", "b": "group_full", "c": "shown", "d": "group_full", "e": "group_full",
    }  # fmt: skip
    assert fates(CASES["a bundle"]._replace(how=greedy)) == {
        "a": "shown", "b": "shown", "c": "bundled", "d": "shown", "e": "bundled",
    }  # fmt: skip
    assert fates(CASES["some are shown elsewhere"]._replace(how=greedy)) == {
        "a": "shown", "b": "bundled", "c": "elsewhere", "d": "shown", "e": "ranked_lower",
    }  # fmt: skip
    assert fates(CASES["its bundle is shown elsewhere"]._replace(how=greedy)) == {
        "a": "shown", "b": "elsewhere", "c": "bundled", "d": "shown", "e": "bundled",
    }  # fmt: skip


def test_what_chance_passed_over_is_told_from_what_would_not_have_been_shown_anyway() -> None:
    last = math.nextafter(1, 0)
    case = CASES["only a temperature"]
    assert fates(case, begins(0, last, last)) == {
        "a": "not_drawn", "b": "not_drawn", "c": "ranked_lower", "d": "shown", "e": "shown",
    }  # fmt: skip
    assert fates(case, begins(0, 0.0, last)) == {
        "a": "shown", "b": "not_drawn", "c": "ranked_lower", "d": "ranked_lower", "e": "shown",
    }  # fmt: skip


def test_the_codes_of_fates_are_what_the_log_holds() -> None:
    assert [fate.name for fate in sorted(Fate)] == [
        "shown", "below_nothing", "elsewhere", "group_full", "bundled", "ranked_lower",
        "not_drawn", "held_back", "held_out", "limit_full",
    ]  # fmt: skip
    assert [int(fate) for fate in sorted(Fate)] == list(range(10))


# Whatever there is to draw from


@st.composite
def cases(draw: st.DrawFn) -> Case:
    count = draw(st.integers(0, 6))
    names = [f"a{n}" for n in range(count)]
    priorities = sorted(draw(st.lists(st.integers(-1, 8), min_size=count, max_size=count)))
    ones = [
        One(
            name,
            priority / 2,
            draw(st.sampled_from("xyz")),
            mandatory=draw(st.integers(0, 4)) == 0,
        )
        for name, priority in zip(names, reversed(priorities), strict=True)
    ]
    for at in draw(st.sets(st.sampled_from(range(count)), max_size=2)) if count else ():
        parts = draw(st.sets(st.sampled_from([*names, "z"]), min_size=2, max_size=3)) - {names[at]}
        if not any(one.parts for one in ones if one.name in parts):
            ones[at] = ones[at]._replace(parts=tuple(sorted(parts)), mandatory=False)
    elsewhere = (One("z", 5.0, "x"), *ones[:1])[: draw(st.integers(0, 2))]
    sharing = st.sets(st.sampled_from([*names, "z"]), min_size=1).map(lambda found: (*found,))
    rooms = draw(st.lists(st.tuples(sharing, st.integers(0, 3)), max_size=2))
    return Case(
        tuple(ones),
        Slots(
            draw(st.integers(1, 4)),
            draw(st.integers(1, 3)),
            draw(st.sampled_from([0.0, 1.0])),
            tuple(rooms),
        ),
        Exploration(
            draw(st.sampled_from([0.0, 0.2])),
            draw(st.sampled_from([0.0, 0.4, 2.0])),
            draw(st.sampled_from([0.0, 0.3, 1.0])),
        ),
        elsewhere,
    )


@given(cases(), st.integers(0, 2**64 - 1))
def test_whatever_is_drawn_is_a_slate_of_the_reference_with_its_probability(
    case: Case, seed: int
) -> None:
    expected = slates(case.ones, case.slots, case.how, case.elsewhere)
    assert math.fsum(expected.values()) == pytest.approx(1, rel=1e-12)
    drawn = case.ask(Chance(seed))
    assert drawn.probability == pytest.approx(expected[case.named(drawn)], rel=1e-9)
    assert case.ask(Chance(seed)) == drawn
    shown = {slot.place for slot in drawn.slots}
    assert len(shown) == len(drawn.slots) <= case.slots.slots
    assert {place for place, fate in enumerate(drawn.fates) if fate is Fate.shown} == shown
    for names, places in case.slots.rooms:
        before = sum(one.name in names for one in case.elsewhere)
        more = sum(case.ones[place].name in names for place in shown)
        assert before + more <= max(before, places)


@given(cases(), st.integers(0, 2**64 - 1))
def test_every_fate_is_true(case: Case, seed: int) -> None:
    drawn = case.ask(Chance(seed))
    shown = [case.ones[slot.place] for slot in drawn.slots]
    plain = slates(case.ones, case.slots, exploration.GREEDY, case.elsewhere)
    (_, greedy), = plain  # fmt: skip
    for one, fate in zip(case.ones, drawn.fates, strict=True):
        room = len(shown) < case.slots.slots
        fits = _fits(one, shown, case.elsewhere, case.slots)
        match fate:
            case Fate.shown:
                assert one in shown
            case Fate.below_nothing:
                assert one.priority <= case.slots.nothing
                assert not one.mandatory
            case Fate.elsewhere:
                assert one in case.elsewhere
            case Fate.group_full:
                same = sum(other.group == one.group for other in shown)
                assert same >= case.slots.per_group
            case Fate.limit_full:
                assert any(
                    one.name in names
                    and sum(o.name in names for o in [*shown, *case.elsewhere]) >= places
                    for names, places in case.slots.rooms
                )
            case Fate.bundled:
                beside = [*shown, *case.elsewhere]
                assert any(one.name in o.parts or o.name in one.parts for o in beside)
            case Fate.ranked_lower:
                assert fits
                assert not room
                assert one.name not in greedy or case.how == exploration.GREEDY
            case Fate.not_drawn:
                assert one.name in greedy
                assert one not in shown
            case Fate.held_back:
                assert drawn.held_back
                assert fits
            case Fate.held_out:
                pytest.fail("nobody is held out here")
