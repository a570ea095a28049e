from __future__ import annotations

import asyncio

import pytest
import structlog

from features.duration import DAY
from features.partition import PARTITIONS
from features.record import LogId
from service import retention as retentions
from service.errors import StoreUnavailable
from service.retention import Retention
from tests.integration.serving import until

NOW = 1_800_000_000_000


class Streams:
    """Logs as lists of ids."""

    def __init__(self, number: int = 3, *ids: LogId) -> None:
        self.ids = {n: list[LogId]() for n in range(PARTITIONS)}
        self.ids[number] = list(ids)
        self.done: dict[int, LogId] = {}
        self.away = False

    def _keep(self, number: int, kept: list[LogId]) -> int:
        gone = len(self.ids[number]) - len(kept)
        self.ids[number] = kept
        return gone

    async def trim(self, number: int, before: LogId) -> int:
        return self._keep(number, [id for id in self.ids[number] if id >= before])

    async def trim_to(self, number: int, entries: int) -> int:
        return self._keep(number, self.ids[number][-entries:])

    async def exported(self) -> dict[int, LogId]:
        if self.away:
            raise StoreUnavailable("away")
        return self.done


def ids(*ages: int) -> list[LogId]:
    return [LogId(NOW - age, 0) for age in ages]


async def test_what_is_too_old_goes_and_is_counted_where_nothing_exports() -> None:
    log = Streams(3, *ids(9 * DAY, 8 * DAY, 7 * DAY, 1))
    kept = Retention(log, 7 * DAY, 256_000, exporting=False)
    assert await kept.sweep(NOW) == 2
    assert log.ids[3] == ids(7 * DAY, 1)
    assert kept.dropped == 2
    assert await kept.sweep(NOW) == 0
    assert kept.dropped == 2


async def test_no_more_than_so_many_are_kept_where_nothing_exports() -> None:
    log = Streams(3, *ids(*range(50, 0, -1)))
    kept = Retention(log, 7 * DAY, 10 * PARTITIONS, exporting=False)
    assert await kept.sweep(NOW) == 40
    assert log.ids[3] == ids(*range(10, 0, -1))


async def test_nothing_goes_before_it_is_exported_however_old_or_many() -> None:
    log = Streams(3, *ids(9 * DAY, 8 * DAY, 1))
    kept = Retention(log, 7 * DAY, PARTITIONS, exporting=True)
    assert await kept.sweep(NOW) == 0
    assert len(log.ids[3]) == 3
    log.done = {3: log.ids[3][0]}
    assert await kept.sweep(NOW) == 0
    assert ids(8 * DAY)[0] in log.ids[3]
    log.done = {3: log.ids[3][-1]}
    await kept.sweep(NOW)
    assert log.ids[3] == ids(1)
    assert kept.dropped == 0


async def test_what_somebody_else_exported_is_not_counted_as_lost() -> None:
    log = Streams(3, *ids(9 * DAY, 8 * DAY, 1))
    log.done = {3: log.ids[3][0]}
    kept = Retention(log, 7 * DAY, 256_000, exporting=False)
    assert await kept.sweep(NOW) == 1
    assert log.ids[3] == ids(1)


async def test_it_says_at_the_start_what_is_kept_and_what_to_do() -> None:
    with structlog.testing.capture_logs() as told:
        kept = Retention(Streams(), 7 * DAY, 5_000_000, exporting=False)
        kept.start()
        await kept.close()
    (line,) = told
    assert line["log_level"] == "warning"
    assert line["kept_for"] == "7 days"
    assert "--archive DIR" in line["remedy"]


async def test_it_says_nothing_where_an_exporter_runs() -> None:
    with structlog.testing.capture_logs() as told:
        kept = Retention(Streams(), 7 * DAY, 5_000_000, exporting=True)
        kept.start()
        await kept.close()
    assert told == []


async def test_it_goes_on_after_the_store_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retentions, "_EVERY_SECONDS", 0.005)
    log = Streams(3, LogId(1, 0))
    log.away = True
    kept = Retention(log, 7 * DAY, 256_000, exporting=False)
    kept.start()
    await asyncio.sleep(0.03)
    assert log.ids[3]
    log.away = False
    await until(lambda: not log.ids[3])
    await kept.close()
    assert kept.dropped == 1
