"""The test stand: reference work, stores with its customers, servers to compare, and the load."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from rapport.v1 import decision_pb2, event_pb2
from service.business import Business
from service.embedded import EmbeddedStore
from tests.bench import learn, load, reference, wire
from tests.bench.learn import DEFAULT, Kind
from tests.bench.people import People
from tests.bench.processes import WORK, Loader, Process, cores, loader, pin, socket_address

Show = Callable[[str, int, int], None]

WAYS: Final = ("unix", "tcp")
"""How callers reach the server and the server its store: unix sockets, or TCP on loopback."""


class Work(NamedTuple):
    """A reference business with models, as files."""

    business: Business
    config: Path
    published: Path  # the same, checked: what a server is given in production
    bundle: Path
    other: Path | None  # of other trees, to be swapped in


class Pair(NamedTuple):
    """The floor and the full server over one store."""

    way: str
    floor: Process
    full: Process
    store: EmbeddedStore


class Stand(NamedTuple):
    """Everything that measurements need."""

    work: Work
    people: People
    pairs: dict[str, Pair]
    loader: Loader
    questions: str  # file of requests, one for each customer


def work(
    show: Show, actions: int = reference.ACTIONS, kind: Kind = DEFAULT, *, other: bool = False
) -> Work:
    """Make a reference business and its models; what was trained before is not trained again."""
    config = WORK / "config" / str(actions)
    business = reference.business(actions, config)
    name = f"{actions}-{kind.trees}"
    shutil.rmtree(WORK / "bundles" / name, ignore_errors=True)
    bundle = learn.save(learn.bundle(business, show, kind), name)
    second = None
    if other:
        second = learn.save(learn.bundle(business, show, kind._replace(seed=2)), f"{name}-other")
    published = config.with_suffix(".json")
    published.write_bytes(business.written())
    return Work(business, config, published, bundle, second)


def question(customer_id: str) -> bytes:
    """A request that asks for a full decision."""
    return decision_pb2.DecideRequest(
        customer=event_pb2.CustomerKey(customer_id=customer_id),
        channel=reference.CHANNEL,
        placements=[reference.PLACEMENT],
        assurance=decision_pb2.ASSURANCE_VERIFIED,
    ).SerializeToString()


def questions(people: People, name: str) -> str:
    """Write a request for every customer; give the file."""
    at = WORK / f"{name}.questions"
    at.write_bytes(msgspec.msgpack.encode([question(one) for one in people.ids]))
    return str(at)


def address(way: str, name: str) -> str:
    """Where a server listens."""
    if way == "unix":
        return socket_address(f"{name}-{way}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def serve_words(work: Work, url: str, address: str) -> list[str]:
    """The command that serves, as an operator would give it."""
    return ["-m", "service.cli", "serve", "--config", str(work.published.resolve()), "--store", url,
            "--bundle", str(work.bundle.resolve()), "--listen", address]  # fmt: skip


def full(work: Work, url: str, way: str, name: str = "full") -> Process:
    """Start the server that decides."""
    at = address(way, name)
    return Process(f"{name}-{way}", serve_words(work, url, at), at, cores().server)


def _pair(work: Work, people: People, store: EmbeddedStore, way: str, held: ExitStack) -> Pair:
    """Start both servers; the floor answers with the bytes of a true answer."""
    complete = held.enter_context(full(work, store.url, way))
    answer = WORK / f"answer-{way}"
    answer.write_bytes(wire.call(complete.address, load.DECIDE, question(people.ids[0])))
    at = address(way, "floor")
    words = ["-m", "tests.bench.floor", at, store.url, str(answer)]
    return Pair(way, held.enter_context(Process(f"floor-{way}", words, at, cores().server)),
                complete, store)  # fmt: skip


@contextmanager
def stand(show: Show, ways: Sequence[str] = WAYS) -> Iterator[Stand]:
    """Put everything up; it ends with the block.

    Args:
        show: Told stage, what is done, and of how much.
        ways: Of :data:`WAYS`, those to measure.
    """
    WORK.mkdir(parents=True, exist_ok=True)
    made = work(show, other=True)
    people = People(made.business, time.time_ns() // 1_000_000)
    with ExitStack() as held:
        stores = {
            way: held.enter_context(EmbeddedStore(port=0 if way == "tcp" else None)) for way in ways
        }
        for store in stores.values():
            pin(store.pid, cores().others)
        people.fill(
            [store.url for store in stores.values()],
            lambda done, of: show(f"customers with {people.events} events", done, of),
        )
        pairs = {way: _pair(made, people, store, way, held) for way, store in stores.items()}
        yield Stand(made, people, pairs, held.enter_context(loader()), questions(people, "all"))
