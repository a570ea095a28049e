"""A decision that is not what the slow reference says fails the bench, whatever it is in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from features.record import LogId
from rapport.v1 import decision_pb2, log_pb2
from service.bundle import Bundle
from service.business import Business
from service.embedded import EmbeddedStore
from tests.bench import learn, reference, stand, verify
from tests.bench.learn import Kind
from tests.bench.logbook import Logbook
from tests.bench.people import People
from tests.integration.serving import flushed, serving

CALLS = 60


class Ran:
    """A run of decisions about few customers, so that what is reserved counts."""

    def __init__(self, business: Business, bundle: Bundle, people: People, book: Logbook) -> None:
        self.business, self.bundle, self.people, self.book = business, bundle, people, book

    def check(self) -> verify.Verified:
        """Compute what the log held again."""
        return verify.check(
            self.book, self.business, self.bundle, self.people, lambda done, of: None
        )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learn, "WORK", folder)
        patch.setattr(learn, "_MOMENTS", 400)
        business = reference.business(20, folder / "config")
        bundle = learn.bundle(business, lambda name, done, of: None, Kind(20, intent_trees=2))
    people = People(business, time.time_ns() // 1_000_000, count=8, events=64)
    with EmbeddedStore() as store:
        people.fill([store.url], lambda done, of: None)
        book = Logbook(store.url)
        asyncio.run(decided(store.url, business, bundle, people))
        book.take(CALLS, CALLS)
        book.close()
    assert any(len(held) > 5 for held in book.reserved.values())
    return Ran(business, bundle, people, book)


async def decided(url: str, business: Business, bundle: Bundle, people: People) -> None:
    """Take decisions about everybody in turns."""
    async with serving(url, tenant="main", bundle=bundle, of=business, greedy=False) as client:
        for number in range(CALLS):
            request = stand.question(people.ids[number % len(people.ids)])
            asked = decision_pb2.DecideRequest.FromString(request)
            answer = await client.decisions.Decide(asked, timeout=20)
            assert answer.rung == decision_pb2.RUNG_FULL
        await flushed(client)


@pytest.fixture
def ran(run: Ran) -> Iterator[Ran]:
    sound = list(run.book.samples)
    yield run
    run.book.samples = sound


def test_decisions_of_a_run_come_out_alike(ran: Ran) -> None:
    found = ran.check()
    assert (found.decisions, found.recomputed) == (CALLS, CALLS)
    assert found.candidates > 15


def _moved(column: str) -> Callable[[log_pb2.DecisionLogged], None]:
    """Change one number of a column by a millionth."""

    def change(decision: log_pb2.DecisionLogged) -> None:
        placement = decision.deliberation.placements[0]
        values = np.frombuffer(getattr(placement, column), "<f8").copy()
        values[3] *= 1 + 1e-6
        setattr(placement, column, values.tobytes())

    return change


def _swap_ranks(decision: log_pb2.DecisionLogged) -> None:
    placement = decision.deliberation.placements[0]
    rows = np.frombuffer(placement.rows, "<u2").copy()
    rows[[4, 5]] = rows[[5, 4]]
    placement.rows = rows.tobytes()


def _drop_a_candidate(decision: log_pb2.DecisionLogged) -> None:
    placement = decision.deliberation.placements[0]
    placement.rows = placement.rows[:-2]


def _show_another(decision: log_pb2.DecisionLogged) -> None:
    slate = decision.response.slates[0].recommendations
    slate[0].action, slate[1].action = slate[1].action, slate[0].action


def _tell_another_chance(decision: log_pb2.DecisionLogged) -> None:
    decision.response.slates[0].recommendations[1].selection_probability *= 1 + 1e-6


def _tell_another_intent(decision: log_pb2.DecisionLogged) -> None:
    decision.response.intents[0].probability *= 1 + 1e-6


def _see_another_customer(decision: log_pb2.DecisionLogged) -> None:
    seen = np.frombuffer(decision.vector).copy()
    seen[0] += 1
    decision.vector = seen.tobytes()


def _say_another_reason(decision: log_pb2.DecisionLogged) -> None:
    decision.response.slates[0].recommendations[0].reasons[0].text += "!"


CHANGES: dict[str, Callable[[log_pb2.DecisionLogged], None]] = {
    "model of action_": _moved("model"),
    "acceptance of action_": _moved("acceptance"),
    "value of action_": _moved("value"),
    "context_weight of action_": _moved("context_weight"),
    "lever of action_": _moved("lever"),
    "priority of action_": _moved("priority"),
    "they differ from": _swap_ranks,
    "they differ from the end on": _drop_a_candidate,
    "drawn was": _show_another,
    "probability of action_": _tell_another_chance,
    "intent ": _tell_another_intent,
    "the vector of features": _see_another_customer,
    "reasons[0].text": _say_another_reason,  # found by replay alone
}
"""What the slow reference says of each change."""


def test_each_of_these_changes_to_one_decision_is_found(ran: Ran) -> None:
    sound = list(ran.book.samples)
    at = next(
        i for i, one in enumerate(sound) if len(one.decision.response.slates[0].recommendations) > 2
    )
    for said, change in CHANGES.items():
        entry = log_pb2.LogEntry.FromString(sound[at].written)
        change(entry.decision)
        ran.book.samples = [*sound[:2], sound[at]._replace(written=entry.SerializeToString())]
        with pytest.raises(SystemExit) as told:
            ran.check()
        assert "1 of 3 decisions come out differently" in str(told.value)
        assert said in str(told.value)


def test_what_was_reserved_before_counts(ran: Ran) -> None:
    """Without it, the ledger is not what the decision saw."""
    customer, held = max(ran.book.reserved.items(), key=lambda one: len(one[1]))
    last = max(
        (one for one in ran.book.samples if one.customer_id == customer),
        key=lambda one: LogId.parse(one.decision.response.read.ledger),
    )
    ran.book.samples = [last]
    assert ran.check().recomputed == 1
    person = verify.person(ran.people, ran.people.place[customer], held, last.decision)
    fewer = verify.person(ran.people, ran.people.place[customer], held[1:], last.decision)
    assert len(person.ledger) > len(fewer.ledger)


def test_a_log_that_lacks_a_decision_fails() -> None:
    with EmbeddedStore() as store:
        book = Logbook(store.url)
        with pytest.raises(SystemExit, match="holds 0 decisions of 1 that"):
            book.take(1, 1)
        book.close()
