from __future__ import annotations

import gc
from collections import Counter

import pytest

from service.heap import Sweeper


def test_one_sweep_in_ten_is_of_older_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was in use at a sweep and left a cycle later is found by another."""
    swept: list[int] = []
    monkeypatch.setattr(gc, "collect", swept.append)
    sweeper = Sweeper()
    for _ in range(1_000):
        sweeper.sweep()
    assert Counter(swept) == {0: 900, 1: 90, 2: 10}
    assert swept[:10] == [0] * 9 + [1]
