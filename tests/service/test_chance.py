from __future__ import annotations

import math
import secrets

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.elementary import Floats
from service.chance import Chance, Entropy

SEEDS = 40_000
FAR = 4.5  # standard deviations: about one test in 150,000 would fail for a fair generator


def slowly(seed: int, count: int) -> list[float]:
    """Splitmix64 as it was published, its seed hashed first, in whole numbers of Python."""
    word = 2**64 - 1

    def mixed(bits: int) -> int:
        bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 & word
        bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB & word
        return bits ^ (bits >> 31)

    state, found = mixed(seed & word), []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & word
        found.append((mixed(state) >> 11) / 2**53)
    return found


@given(st.integers(0, 2**64 - 1), st.integers(0, 30))
def test_the_numbers_are_those_of_the_publication(seed: int, count: int) -> None:
    assert Chance(seed).ahead(count).tolist() == slowly(seed, count)


def test_the_generator_is_the_published_one() -> None:
    """The first outputs for seed 1234567, as reference implementations print them."""
    state, found = 1234567, []
    for _ in range(3):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        found.append(state)
    told = [6457827717110365317, 3203168211198807973, 9817491932198370423]

    def mixed(bits: int) -> int:
        bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB % 2**64
        return bits ^ (bits >> 31)

    assert [mixed(one) for one in found] == told


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 5), max_size=5))
def test_looking_ahead_takes_nothing_and_pieces_add_up(seed: int, pieces: list[int]) -> None:
    chance = Chance(seed)
    found: list[float] = []
    for count in pieces:
        assert chance.ahead(count + 3)[:count].tolist() == chance.ahead(count).tolist()
        found += chance.ahead(count).tolist()
        chance.take(count)
    assert found == Chance(seed).ahead(sum(pieces)).tolist()
    assert chance.taken == sum(pieces)


@given(st.integers(0, 2**64 - 1))
def test_every_number_is_at_least_zero_and_below_one(seed: int) -> None:
    numbers = Chance(seed).ahead(100)
    assert (numbers >= 0).all()
    assert (numbers < 1).all()


# Over seeds: a fleet counts them, or draws them, and both must look like chance


@pytest.fixture(scope="module", params=[1, 2, 2**32, 0x9E3779B97F4A7C15])
def drawn(request: pytest.FixtureRequest) -> Floats:
    """The first four numbers of many seeds that are a step apart: [seeds, 4]."""
    return np.array([Chance(seed * request.param).ahead(4) for seed in range(SEEDS)])


def far(mean: float, expected: float, deviation: float, count: int) -> bool:
    return abs(mean - expected) > FAR * deviation / math.sqrt(count)


def test_each_number_is_uniform_over_neighbouring_seeds(drawn: Floats) -> None:
    cells = 100
    for numbers in drawn.T:
        seen = np.bincount((numbers * cells).astype(int), minlength=cells)
        square = float(((seen - SEEDS / cells) ** 2 / (SEEDS / cells)).sum())
        assert not far(square, cells - 1, math.sqrt(2 * (cells - 1)), 1)


def test_every_bit_is_as_often_set_as_not(drawn: Floats) -> None:
    for numbers in drawn.T:
        bits = (numbers * 2**53).astype(np.uint64)
        for bit in range(53):
            share = float((bits >> np.uint64(bit) & np.uint64(1)).mean())
            assert not far(share, 0.5, 0.5, SEEDS)


@pytest.mark.parametrize("apart", [1, 2, 3, 64, 1000])
def test_neighbouring_seeds_are_strangers(drawn: Floats, apart: int) -> None:
    """Neither of two seeds' numbers tells anything of the other's, place by place and crosswise."""
    centred = (drawn - 0.5) * math.sqrt(12)
    for mine in range(4):
        for other in range(4):
            products = centred[:-apart, mine] * centred[apart:, other]
            assert not far(float(products.mean()), 0.0, 1.0, len(products))


def test_the_numbers_of_a_seed_are_strangers_to_each_other(drawn: Floats) -> None:
    cells = 10
    for mine in range(4):
        for other in range(mine):
            pairs = (drawn[:, mine] * cells).astype(int) * cells + (drawn[:, other] * cells)
            seen = np.bincount(pairs.astype(int), minlength=cells**2)
            square = float(((seen - SEEDS / cells**2) ** 2 / (SEEDS / cells**2)).sum())
            freedom = cells**2 - 1
            assert not far(square, freedom, math.sqrt(2 * freedom), 1)


def test_seeds_of_one_bit_share_no_number() -> None:
    found = [one for bit in range(64) for one in Chance(1 << bit).ahead(100).tolist()]
    assert len(set(found)) == len(found)


def test_entropy_gives_no_byte_twice_and_as_many_as_are_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def counted(size: int) -> bytes:
        asked.append(size)
        return bytes((len(asked) * 7 + at) % 251 for at in range(size))

    monkeypatch.setattr(secrets, "token_bytes", counted)
    entropy = Entropy()
    given = [entropy.bytes(8 if turn % 2 else 4) for turn in range(500)]
    assert [len(one) for one in given] == [4, 8] * 250
    pieces = b"".join(
        bytes((number * 7 + at) % 251 for at in range(size)) for number, size in enumerate(asked, 1)
    )
    at = 0
    for one in given:  # in order, what did not suffice at an end left out
        found = pieces.find(one, at)
        assert found >= at
        at = found + len(one)


def test_two_deciders_do_not_share_their_entropy() -> None:
    assert Entropy().bytes(16) != Entropy().bytes(16)
