from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from google.protobuf.struct_pb2 import Value

from features import definitions as declared
from features import profile as profiles
from features import record
from features.duration import HOUR
from features.partition import partition
from features.plan import Plan
from features.record import RECORD
from rapport.v1 import decision_pb2 as pb
from rapport.v1 import event_pb2, log_pb2
from service import callers, questions
from service.answers import Answers, timestamp
from service.budget import Budget
from service.business import load
from service.callers import Caller
from service.decide import Decider, World
from service.entries import Entries
from service.errors import StoreUnavailable
from service.leases import Leases
from service.models import Models
from service.redis_store import RedisStore
from service.store import Snapshot, Write
from training import archive, export, parity, publish, train
from training.archive import Entry
from training.dataset import Dataset
from training.labels import Learning
from training.parity import Parity

LOADED = load(Path(__file__).parents[2] / "config")
# The sample has no feature of the direction; with one, all that a request says can differ.
WAY = declared.Context(name="way", field="direction")
DEFINITIONS = msgspec.structs.replace(
    LOADED.definitions, features=[*LOADED.definitions.features, WAY]
)
BUSINESS = msgspec.structs.replace(LOADED, definitions=DEFINITIONS)
PLAN = Plan(BUSINESS.definitions, BUSINESS.vocabulary)


def models() -> Models:
    """Models that score actions, by no matter what, so that what they saw of each is logged."""
    rng = np.random.default_rng(1)
    rows, labels = rng.normal(size=(300, len(PLAN.columns("acceptance")))), rng.integers(0, 2, 300)
    data = Dataset(rows, labels, np.arange(300), ["c"] * 300, np.zeros(300, np.int64))
    names = [PLAN.names[i] for i in PLAN.columns("acceptance")]
    trained = train.acceptance(
        data, train.by_time(data.moments), names, [], Learning(3, 3), lambda done, of: None
    )
    sealed = publish.build(
        PLAN, BUSINESS, intent=None, acceptance=trained, cases=[], built_at=1, lineage={}
    )
    return Models(sealed, BUSINESS)


MODELS = models()
CALLER = Caller("test", frozenset({"decide"}))
CUSTOMERS = [f"customer-{n}" for n in range(6)]


def clock() -> int:
    return time.time_ns() // 1_000_000


class Bank:
    """A store with customers who do things, and a decider that asks what to do."""

    def __init__(self, store: RedisStore) -> None:
        self.store = store
        self.models: Models | None = MODELS
        leases = Leases(store, time.monotonic)
        world = World(store, lambda: self.models, dict, leases, clock, "0000", greedy=True)
        self.decider = Decider(BUSINESS, world)
        self.decisions: list[str] = []
        self._events = 0

    async def happen(self, rng: random.Random, customer: str) -> None:
        """Store some events, most of them new and some of them late, dated anywhere near now."""
        writes = []
        for _ in range(rng.randint(1, 5)):
            self._events += 1
            vocabulary = BUSINESS.vocabulary
            packed = record.pack(
                occurred_at=clock() - rng.choice([0, 0, 0, -50, 5, HOUR, 400 * HOUR]),
                hash=record.event_hash("test", f"{self._events}"),
                type=rng.choice(list(vocabulary.type_codes.values())),
                channel=rng.choice(list(vocabulary.channels.values())),
                intent=rng.choice([0, *vocabulary.intent_codes.values()]),
                action=rng.choice([0, *vocabulary.actions.values()]),
                outcome=rng.randint(0, 11),
                interaction=rng.randint(0, 5),
                agent=rng.randint(0, 5),
                direction=rng.randint(0, 3),
                value=rng.uniform(-500, 500),
                sentiment=rng.choice([None, rng.uniform(-1, 1)]),
            )
            entry = log_pb2.LogEntry(customer_id=customer, event=log_pb2.EventLogged(record=packed))
            writes.append((customer, Write(packed, rng.random() < 0.3, entry.SerializeToString())))
        await self.store.record(writes)

    async def tell(self, rng: random.Random, customer: str, ahead: int = 0) -> None:
        """Change the profile: now, as of some time ago, or by a clock that is fast."""
        moment = clock() + ahead - rng.choice([0, 0, HOUR, -20])
        told: dict[str, profiles.Value | None] = {
            "age": float(rng.randint(18, 90)), "digital": rng.random() < 0.5,
            "segment": rng.choice(["family", "senior", None]),
        }  # fmt: skip
        changed = log_pb2.ProfileChanged(updated_at=timestamp(moment))
        for name, value in told.items():
            changed.attributes[name].CopyFrom(written(value))
        entry = log_pb2.LogEntry(customer_id=customer, profile=changed).SerializeToString()
        id, profile = profiles.decode((await self.store.read(customer)).profile)
        new = profiles.encode(profile.changed(told, [], moment))
        await self.store.write_profile(customer, id, new, entry, moment)  # or somebody was faster

    async def decide(self, rng: random.Random, customer: str, seconds: float = 30.0) -> bytes:
        """Decide as the server does; give the log entry."""
        request = pb.DecideRequest(
            customer=event_pb2.CustomerKey(customer_id=customer),
            channel=rng.choice(["phone", "web", "chat"]),
            direction=rng.choice(list(event_pb2.Direction.values())),
        )
        if rng.random() < 0.5:
            request.context["wait_seconds"].number_value = rng.uniform(0, 600)
        _, question = questions.read(request, BUSINESS, CALLER, clock())
        decision = await self.decider.decide(
            question._replace(customer_id=customer), Budget(seconds, time.monotonic)
        )
        # The store reads the moment in an id; this replica's clock is a second fast.
        now = decision.answer.weighed.now + 1_000
        decision_id = f"{partition(customer):02x}{now:011x}{len(self.decisions):012x}"
        self.decisions.append(decision_id)
        response = Answers(BUSINESS).written(decision.answer, decision_id)
        return Entries(BUSINESS).written(
            decision.answer, request.SerializeToString(deterministic=True), response, "test"
        )

    async def keep(self, customer: str, entry: bytes) -> str:
        """Journal a decision; give its id."""
        decision_id = log_pb2.LogEntry.FromString(entry).decision.response.decision_id
        await self.store.journal([(customer, decision_id, b"", entry)])
        return decision_id


def written(value: profiles.Value | None) -> Value:
    if value is None:
        return Value(null_value=0)  # type: ignore[arg-type]
    if isinstance(value, bool):
        return Value(bool_value=value)
    return Value(string_value=value) if isinstance(value, str) else Value(number_value=value)


@pytest.fixture
async def bank(store_url: str) -> AsyncIterator[Bank]:
    callers.current.set(CALLER)
    store = RedisStore(store_url, tenant=f"test-{uuid.uuid4().hex}")
    yield Bank(store)
    await store.close()


async def compared(bank: Bank, folder: Path) -> Parity:
    await export.export(bank.store, folder)
    return parity.of_archive(folder, PLAN, BUSINESS)


async def lived(bank: Bank, customer: str = "anna") -> str:
    """A customer with a past, a decision, and a future; give the decision's id."""
    rng = random.Random(3)
    for _ in range(6):
        await bank.happen(rng, customer)
        await bank.tell(rng, customer)
    await asyncio.sleep(0.03)  # until the fast clock's moment has come too
    kept = await bank.keep(customer, await bank.decide(rng, customer))
    await bank.happen(rng, customer)
    await bank.tell(rng, customer)
    return kept


async def test_every_vector_is_equal_bit_for_bit_though_the_log_grew_meanwhile(
    bank: Bank, tmp_path: Path
) -> None:
    """Decisions wait for the log while events come in, so the order of the log is no help."""

    async def live(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(40):
            customer = rng.choice(CUSTOMERS)
            await bank.happen(rng, customer)
            if rng.random() < 0.3:
                await bank.tell(rng, customer)

    async def ask(seed: int) -> None:
        rng = random.Random(100 + seed)
        waiting = []
        for _ in range(40):
            customer = rng.choice(CUSTOMERS)
            waiting.append((customer, await bank.decide(rng, customer)))
            if len(waiting) == 5:
                for one in waiting:
                    await bank.keep(*one)
                waiting.clear()

    await asyncio.gather(*(live(n) for n in range(4)), *(ask(n) for n in range(4)))
    found = await compared(bank, tmp_path)
    assert found == Parity(checked=160, equal=160, differing=[])
    vectors = {
        log_pb2.LogEntry.FromString(one.entry).decision.vector
        for one in archive.read(tmp_path, ("decision",))
    }
    assert len(vectors) > 100  # they are not equal because they are all the same
    rows = [
        row.vector
        for one in archive.read(tmp_path, ("decision",))
        for row in log_pb2.LogEntry.FromString(one.entry).decision.action_vectors
    ]
    assert len(set(rows)) > 100


async def test_a_newcomer_and_a_store_that_is_away_are_recomputed_too(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(1)
    await bank.keep("nobody", await bank.decide(rng, "nobody"))
    await bank.happen(rng, "anna")

    async def away(customer: str) -> Snapshot:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(bank.store, "read", away)
        entry = await bank.decide(rng, "anna")
    assert not log_pb2.LogEntry.FromString(entry).decision.response.read.timeline
    await bank.keep("anna", entry)
    assert await compared(bank, tmp_path) == Parity(2, 2, [])


def altered(folder: Path, alter: Callable[[Entry], Entry]) -> int:
    """Rewrite an archive; give the number of entries that are others now."""
    changed = 0
    for path in archive.files(folder):
        number = int(path.parent.name.removeprefix("partition="))
        before = sorted(archive.read(folder, ("event", "profile", "decision", "erased"), number))
        after = [alter(one) for one in before]
        changed += sum(a != b for a, b in zip(before, after, strict=True))
        path.unlink()
        archive.write(folder, number, after)
    return changed


async def test_a_single_altered_record_is_found_and_the_decision_named(
    bank: Bank, tmp_path: Path
) -> None:
    named = await lived(bank)
    await bank.keep("ben", await bank.decide(random.Random(4), "ben"))
    assert await compared(bank, tmp_path) == Parity(2, 2, [])
    first = next(one for one in archive.read(tmp_path) if one.customer_id == "anna")

    def shift(one: Entry) -> Entry:
        if one != first or one.record is None:
            return one
        records = np.frombuffer(one.record, RECORD).copy()
        records["occurred_at"] -= 10 * 365 * 24 * HOUR  # since_first_event is another
        return one._replace(record=records.tobytes())

    assert altered(tmp_path, shift) == 1
    assert parity.of_archive(tmp_path, PLAN, BUSINESS) == Parity(2, 1, [named])


async def test_an_altered_profile_is_found(bank: Bank, tmp_path: Path) -> None:
    named = await lived(bank)
    await export.export(bank.store, tmp_path)

    def older(one: Entry) -> Entry:
        if one.kind != "profile":
            return one
        entry = log_pb2.LogEntry.FromString(one.entry)
        entry.profile.attributes["age"].number_value += 1
        return one._replace(entry=entry.SerializeToString())

    assert altered(tmp_path, older) >= 6
    assert parity.of_archive(tmp_path, PLAN, BUSINESS) == Parity(1, 0, [named])


async def test_the_last_bit_of_a_logged_vector_counts(bank: Bank, tmp_path: Path) -> None:
    named = await lived(bank)
    await export.export(bank.store, tmp_path)

    def nudged(one: Entry) -> Entry:
        if one.kind != "decision":
            return one
        entry = log_pb2.LogEntry.FromString(one.entry)
        vector = bytearray(entry.decision.vector)
        vector[0] ^= 1
        entry.decision.vector = bytes(vector)
        return one._replace(entry=entry.SerializeToString())

    assert altered(tmp_path, nudged) == 1
    assert parity.of_archive(tmp_path, PLAN, BUSINESS) == Parity(1, 0, [named])


async def test_the_last_bit_of_a_logged_row_of_an_action_counts(bank: Bank, tmp_path: Path) -> None:
    named = await lived(bank)
    await export.export(bank.store, tmp_path)

    def nudged(one: Entry) -> Entry:
        if one.kind != "decision":
            return one
        entry = log_pb2.LogEntry.FromString(one.entry)
        row = entry.decision.action_vectors[-1]
        row.vector = row.vector[:-8] + bytes([row.vector[-8] ^ 1]) + row.vector[-7:]
        return one._replace(entry=entry.SerializeToString())

    assert altered(tmp_path, nudged) == 1
    assert parity.of_archive(tmp_path, PLAN, BUSINESS) == Parity(1, 0, [named])


async def test_rows_of_actions_are_not_compared_across_catalogues(
    bank: Bank, tmp_path: Path
) -> None:
    await lived(bank)
    await export.export(bank.store, tmp_path)
    dearer = [msgspec.structs.replace(one, value=one.value + 1) for one in BUSINESS.actions]
    other = msgspec.structs.replace(BUSINESS, actions=dearer)
    assert other.digest != BUSINESS.digest
    assert parity.of_archive(tmp_path, PLAN, other) == Parity(1, 1, [])


async def test_what_a_fast_clock_dates_after_the_decision_is_not_seen_by_either(
    bank: Bank, tmp_path: Path
) -> None:
    rng = random.Random(1)
    await bank.decide(rng, "anna")
    await bank.tell(rng, "anna", ahead=3 * HOUR)
    entry = await bank.decide(rng, "anna")
    vector = np.frombuffer(log_pb2.LogEntry.FromString(entry).decision.vector)
    assert np.isnan(vector[PLAN.names.index("age")])
    await bank.keep("anna", entry)
    assert await compared(bank, tmp_path) == Parity(1, 1, [])


async def test_no_more_than_twenty_differing_decisions_are_named(
    bank: Bank, tmp_path: Path
) -> None:
    rng = random.Random(1)
    for _ in range(25):
        await bank.keep("anna", await bank.decide(rng, "anna"))
    await export.export(bank.store, tmp_path)

    def wrong(one: Entry) -> Entry:
        entry = log_pb2.LogEntry.FromString(one.entry)
        entry.decision.vector = b"\1" + entry.decision.vector[1:]
        return one._replace(entry=entry.SerializeToString())

    assert altered(tmp_path, wrong) == 25
    found = parity.of_archive(tmp_path, PLAN, BUSINESS)
    assert found == Parity(25, 0, bank.decisions[:20])


async def test_decisions_of_other_definitions_or_of_no_model_are_not_compared(
    bank: Bank, tmp_path: Path
) -> None:
    rng = random.Random(1)
    bank.models = None
    await bank.keep("anna", await bank.decide(rng, "anna"))
    bank.models = MODELS
    entry = log_pb2.LogEntry.FromString(await bank.decide(rng, "anna"))
    entry.decision.feature_digest = "of-another-kernel"
    await bank.keep("anna", entry.SerializeToString())
    await bank.keep("anna", await bank.decide(rng, "anna"))
    assert await compared(bank, tmp_path) == Parity(1, 1, [])


async def test_a_customer_who_was_forgotten_gives_no_false_alarm(
    bank: Bank, tmp_path: Path
) -> None:
    """Neither by a decision that was on its way to the log then, nor when they come back."""
    rng = random.Random(5)
    for _ in range(3):
        await bank.happen(rng, "anna")
        await bank.tell(rng, "anna")
    on_its_way = await bank.decide(rng, "anna")
    moment = clock() - 12_000  # long enough ago for decisions to be logged again
    erased = log_pb2.CustomerErased(erased_at=timestamp(moment))
    entry = log_pb2.LogEntry(customer_id="anna", erased=erased)
    await bank.store.forget("anna", moment, entry.SerializeToString())
    await bank.keep("anna", on_its_way)
    await asyncio.sleep(0.06)
    for _ in range(8):
        await bank.happen(rng, "anna")
    await bank.tell(rng, "anna")
    await bank.keep("anna", await bank.decide(rng, "anna"))
    assert await compared(bank, tmp_path) == Parity(1, 1, [])
