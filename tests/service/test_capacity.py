from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from service import capacity
from service.capacity import Prices
from service.declared import Resource
from service.errors import StoreUnavailable
from service.store import Store

DECLARED = {"agents": Resource("minute", 2.0), "slots": Resource("slot")}


class Board:
    """A store on which prices are written."""

    def __init__(self) -> None:
        self.written: dict[str, float] = {}
        self.down = False
        self.asked = 0

    async def prices(self) -> dict[str, float]:
        self.asked += 1
        if self.down:
            raise StoreUnavailable("away")
        return dict(self.written)


def prices(board: Board, declared: Any = DECLARED) -> Prices:
    return Prices(cast(Store, board), declared)


async def until(holds: Any) -> None:
    async with asyncio.timeout(5):
        while True:
            if holds():
                return
            await asyncio.sleep(0.001)


def test_declared_prices_hold_until_others_are_set() -> None:
    assert prices(Board()).current == {"agents": 2.0, "slots": 0.0}


async def test_what_is_set_counts_for_what_is_declared() -> None:
    board = Board()
    board.written = {"agents": 5.0, "rockets": 9.0}
    known = prices(board)
    await known.refresh()
    assert known.current == {"agents": 5.0, "slots": 0.0}
    board.written = {"slots": 0.5}
    await known.refresh()
    assert known.current == {"agents": 2.0, "slots": 0.5}


async def test_another_configuration_keeps_what_is_set() -> None:
    board = Board()
    board.written = {"agents": 5.0, "rockets": 9.0}
    known = prices(board)
    await known.refresh()
    known.declare({"agents": Resource("minute", 1.0), "rockets": Resource("one"),
                   "new": Resource("one", 3.0)})  # fmt: skip
    assert known.current == {"agents": 5.0, "rockets": 9.0, "new": 3.0}
    known.declare({})
    assert known.current == {}


async def test_prices_are_followed_and_the_last_known_hold_while_the_store_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capacity, "_POLL_SECONDS", 0.001)
    board = Board()
    board.written = {"agents": 5.0}
    known = prices(board)
    await known.start()
    assert known.current["agents"] == 5.0
    board.written = {"agents": 6.0}
    await until(lambda: known.current["agents"] == 6.0)
    board.down, board.asked = True, 0
    await until(lambda: board.asked > 2)
    assert known.current["agents"] == 6.0
    board.down, board.written = False, {"agents": 7.0}
    await until(lambda: known.current["agents"] == 7.0)
    await known.close()
    board.asked = 0
    await asyncio.sleep(0.01)
    assert board.asked == 0, "nobody asks any more"


async def test_a_server_does_not_start_without_having_read_them() -> None:
    board = Board()
    board.down = True
    with pytest.raises(StoreUnavailable):
        await prices(board).start()
