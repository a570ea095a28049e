"""RecordEvents against the script that it calls, called bare: what checking and packing cost.

Both store the same kind of batches, 100 events each, of customers with 256 events. The server has
its core and four batches in flight; the bare script gets one pipeline a batch from a client on the
server's core, its arguments packed before the clock starts.
"""

from __future__ import annotations

import os
import random
import re
import statistics
import time
import uuid
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, Final

import msgspec
from google.protobuf import timestamp_pb2
from redis import Redis

from features.record import encode
from features.timeline import LIMIT
from rapport.v1 import decision_pb2, event_pb2
from service import intake, keys
from service.business import Business
from service.callers import EVERYBODY
from service.intake import Taken
from service.limits import counted_outcomes
from service.store import BATCH
from tests.bench.load import RECORD, Job
from tests.bench.people import TENANT, People
from tests.bench.processes import WORK, cores
from tests.bench.stand import Pair, Stand

SPREADS: Final = (1, 10, 100)
"""Customers that the events of a batch are about."""

_EVENTS: Final = 100
_BATCHES: Final = 50
_CUSTOMERS: Final = 100
_IN_FLIGHT: Final = 4
_TTL: Final = 400 * 86_400_000
_INCLUDE: Final = re.compile(r"^-- include (\w+)\n", re.MULTILINE)


class Recorded(msgspec.Struct):
    """Events a second by customers in a batch, one number a round."""

    served: dict[str, list[float]]
    bare: dict[str, list[float]]

    def ratio(self, spread: int) -> float:
        """Served over bare, median of the rounds."""
        pairs = zip(self.served[str(spread)], self.bare[str(spread)], strict=True)
        return statistics.median(one / other for one, other in pairs)

    def worst(self) -> float:
        """The ratio of the spread that costs most."""
        return min(self.ratio(spread) for spread in SPREADS)


def measure(stand: Stand, pair: Pair, rounds: int, show: Callable[[int, int], None]) -> Recorded:
    """Take turns; what is stored is forgotten before each."""
    redis: Any = Redis.from_url(pair.store.url)
    names = [str(spread) for spread in SPREADS]
    found = Recorded({name: [] for name in names}, {name: [] for name in names})
    chance = random.Random(8)
    for turn in range(rounds):
        for spread in SPREADS:
            ways = [_served, _bare]
            for way in ways if turn % 2 == 0 else ways[::-1]:
                customers = [f"r{turn}-{spread}-{way.__name__}-{i}" for i in range(_CUSTOMERS)]
                _begin(redis, stand.people, customers)
                batches = _batches(stand.work.business, customers, spread, chance)
                per_second = _EVENTS * way(stand, pair, redis, batches)
                (found.served if way is _served else found.bare)[str(spread)].append(per_second)
                _forget(redis, customers)
        show(turn + 1, rounds)
    redis.close()
    return found


def _begin(redis: Any, people: People, customers: Sequence[str]) -> None:
    """Give everybody a past."""
    with redis.pipeline(transaction=False) as pipeline:
        for number, customer in enumerate(customers):
            past = encode(people.read, people.timelines[number])
            pipeline.set(keys.timeline(TENANT, customer), past)
            ledger = encode(people.read, people.ledger(number))
            pipeline.set(keys.ledger(TENANT, customer), ledger)
        pipeline.execute()


def _forget(redis: Any, customers: Sequence[str]) -> None:
    with redis.pipeline(transaction=False) as pipeline:
        for customer in customers:
            pipeline.delete(keys.timeline(TENANT, customer), keys.ledger(TENANT, customer))
        for stream in keys.logs(TENANT):
            pipeline.xtrim(stream, maxlen=0, approximate=False)
        pipeline.execute()


def _batches(
    business: Business, customers: Sequence[str], spread: int, chance: random.Random
) -> list[list[event_pb2.Event]]:
    """Batches of events that nobody has stored yet, in the order of time."""
    now = time.time_ns() // 1_000_000 - 60_000
    vocabulary = business.vocabulary
    types, channels = list(vocabulary.types), list(vocabulary.channels)
    intents, actions = list(vocabulary.intents), list(vocabulary.actions)
    found = []
    for number in range(_BATCHES):
        batch = []
        for i in range(_EVENTS):
            moment = now + number * _EVENTS + i
            outcome = chance.random() < 0.1
            batch.append(
                event_pb2.Event(
                    event_id=uuid.uuid4().hex,
                    customer=event_pb2.CustomerKey(
                        customer_id=customers[(number * spread + i % spread) % len(customers)]
                    ),
                    occurred_at=timestamp_pb2.Timestamp(
                        seconds=moment // 1000, nanos=moment % 1000 * 1_000_000
                    ),
                    type=chance.choice(types),
                    channel=chance.choice(channels),
                    intent=chance.choice(intents),
                    action=chance.choice(actions) if outcome else "",
                    outcome=event_pb2.OUTCOME_PRESENTED
                    if outcome
                    else event_pb2.OUTCOME_UNSPECIFIED,
                    interaction_id=f"i{number}",
                    value=chance.uniform(1, 90),
                )
            )
        found.append(batch)
    return found


def _served(
    stand: Stand, pair: Pair, _: Any, batches: Sequence[Sequence[event_pb2.Event]]
) -> float:
    """Batches a second through the server."""
    at = WORK / f"batches-{uuid.uuid4().hex}"
    written = [
        decision_pb2.RecordEventsRequest(events=batch).SerializeToString() for batch in batches
    ]
    at.write_bytes(msgspec.msgpack.encode(written))
    job = Job("closed", pair.full.address, str(at), "", RECORD, _IN_FLIGHT, seconds=60.0,
              in_order=True)  # fmt: skip
    done, _latencies = stand.loader.run(job)
    at.unlink()
    return done.calls / done.seconds


def _bare(
    stand: Stand, pair: Pair, redis: Any, batches: Sequence[Sequence[event_pb2.Event]]
) -> float:
    """Batches a second through nothing but pipelines of the script."""
    sha = redis.script_load(_script())
    asked = [_calls(stand.work.business, batch) for batch in batches]
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores().server)
    start = time.perf_counter()
    for calls in asked:
        with redis.pipeline(transaction=False) as pipeline:
            for names, arguments in calls:
                pipeline.evalsha(sha, len(names), *names, *arguments)
            replies = pipeline.execute()
        assert all(status == 1 for _, statuses, _ in replies for status in statuses)
    took = time.perf_counter() - start
    os.sched_setaffinity(0, mine)
    return len(batches) / took


def _calls(
    business: Business, batch: Sequence[event_pb2.Event]
) -> list[tuple[list[str], list[Any]]]:
    """Keys and arguments of the script's calls for a batch, as the store makes them."""
    now, counted = time.time_ns() // 1_000_000, counted_outcomes(business)
    of_customer: dict[str, list[Taken]] = {}
    for event in batch:
        taken = intake.take(event, "", business.vocabulary, counted, EVERYBODY, now)
        assert isinstance(taken, Taken)
        of_customer.setdefault(event.customer.customer_id, []).append(taken)
    calls = []
    for customer, events in of_customer.items():
        names = [
            keys.timeline(TENANT, customer),
            keys.ledger(TENANT, customer),
            keys.log_of(TENANT, customer),
            keys.tombstone(TENANT, customer),
            keys.moved(TENANT, customer),
        ]
        for first in range(0, len(events), BATCH):
            arguments: list[Any] = [
                LIMIT, _TTL, business.ledger_window_ms, business.ledger_keep, ""
            ]  # fmt: skip
            for one in events[first : first + BATCH]:
                write = one.write
                flag = b"1" if write.counted else b"0"
                arguments += [write.record, flag, write.entry, write.releases]
            calls.append((names, arguments))
    return calls


def _script() -> str:
    """The text of ``record.lua`` with what it includes."""
    folder = resources.files("service").joinpath("lua")
    return _INCLUDE.sub(
        lambda line: folder.joinpath(f"{line[1]}.lua").read_text("utf-8"),
        folder.joinpath("record.lua").read_text("utf-8"),
    )
