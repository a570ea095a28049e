"""What the store's log says of a run: how many decisions it took, and some of them to look into."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from redis import Redis

from features.record import LogId
from rapport.v1 import log_pb2
from service import keys
from tests.bench.people import TENANT

_PAGE: Final = 2_000


class Reserved(NamedTuple):
    """A reservation in the log."""

    id: LogId
    record: bytes


class Logged(NamedTuple):
    """A decision in the log."""

    id: LogId
    customer_id: str
    written: bytes  # the LogEntry

    @property
    def decision(self) -> log_pb2.DecisionLogged:
        """What was logged."""
        return log_pb2.LogEntry.FromString(self.written).decision


class Logbook:
    """Reads a store's log, run by run, and empties it: a long bench must not fill the machine.

    Args:
        url: The store.
    """

    def __init__(self, url: str) -> None:
        self._redis: Any = Redis.from_url(url)
        self.decisions = 0  # in all runs
        self.samples: list[Logged] = []
        self.reserved: dict[str, list[Reserved]] = {}  # by customer, in the order of the log
        self._chance = np.random.default_rng(9)

    def take(self, calls: int, samples: int) -> None:
        """Read what came since the last time, keep some decisions of it, and empty the log.

        Args:
            calls: Decisions that were answered in that time.
            samples: How many to keep.

        Raises:
            SystemExit: The log holds more or fewer decisions than there were calls.
        """
        found: list[Logged] = []
        for number in range(256):
            for id, written in self._entries(keys.log(TENANT, number)):
                entry = log_pb2.LogEntry.FromString(written)
                kind = entry.WhichOneof("entry")
                if kind == "decision":
                    found.append(Logged(id, entry.customer_id, written))
                elif kind == "reserved":
                    held = Reserved(id, entry.reserved.record)
                    self.reserved.setdefault(entry.customer_id, []).append(held)
            self._redis.xtrim(keys.log(TENANT, number), maxlen=0, approximate=False)
        if len(found) != calls:
            raise SystemExit(f"the log holds {len(found):,} decisions of {calls:,} that were taken")
        self.decisions += len(found)
        chosen = self._chance.permutation(len(found))[:samples]
        self.samples += [found[i] for i in chosen]

    def _entries(self, stream: str) -> Iterator[tuple[LogId, bytes]]:
        after = "-"
        while page := self._redis.xrange(stream, after, "+", count=_PAGE):
            for id, fields in page:
                yield LogId.parse(id.decode()), fields[keys.LOG_FIELD.encode()]
            after = f"({page[-1][0].decode()}"

    def close(self) -> None:
        """Give the connection back."""
        self._redis.close()
