"""An archive of customers in whom one harmless-looking attribute stands for a protected one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from features import record
from features.duration import DAY, HOUR
from features.partition import partition
from features.plan import Plan
from features.record import LogId
from features.vocabulary import Outcome
from rapport.v1 import decision_pb2, event_pb2, log_pb2
from service import answers
from service.answers import Answers
from service.business import Business, complete, load
from service.callers import EVERYBODY
from service.catalogue import Rule
from service.declared import StageRule, StageRules, Target
from service.entries import Entries
from service.inputs import Inputs, Known
from service.models import Models
from service.pipeline import Pipeline
from service.questions import read
from service.usual import described
from service.weighed import Reply
from training import archive, publish, replay, train
from training.archive import Entry
from training.dataset import Dataset
from training.labels import Learning
from training.train import Split

CONFIG: Final = Path(__file__).parents[2] / "config"
START: Final = 1_790_000_000_000
RULE: Final = Rule("screens_only", "customer.digital", "They would rather speak with somebody")


@cache
def bank(planted: bool = False) -> Business:
    """The sample bank without what separates its customers; perhaps with a proxy rule."""
    whole = load(CONFIG)
    rules = [StageRule(RULE, Target(issue="grow"))] if planted else []
    policies = msgspec.structs.replace(
        whole.policies,
        protected_attributes=["age"],
        value_tier_by="value_tier",
        segment_by=None,
        rules=StageRules(suitability=rules),
    )
    actions = [
        msgspec.structs.replace(
            one,
            eligibility=[],
            applicability=[],
            suitability=[],
            value=one.value * (8 if one.issue == "grow" else 1),  # offers are what it shows most
        )
        for one in whole.actions
    ]
    return complete(msgspec.structs.replace(whole, policies=policies, actions=actions))


def written(folder: Path, customers: int = 400, *, shuffled: bool = False, seed: int = 1) -> Path:
    """Write customers whose liking for screens goes with their age, or with nothing."""
    chance = random.Random(seed)
    entries: dict[int, list[Entry]] = {}
    for number in range(customers):
        customer = f"p{number:05d}"
        old = chance.random() < 0.4
        likes = chance.random() < (0.12 if old else 0.9)
        age = float(chance.randrange(60, 86) if old else chance.randrange(20, 60))
        if shuffled:
            age = float(chance.randrange(20, 86))
        own = [_profile(customer, chance, age, likes), *_events(customer, chance)]
        entries.setdefault(partition(customer), []).extend(own)
    for at, some in entries.items():
        archive.write(folder, at, sorted(some))
    return folder


def _profile(customer: str, chance: random.Random, age: float, likes: bool) -> Entry:
    changed = log_pb2.ProfileChanged(updated_at=answers.timestamp(START - DAY))
    changed.attributes["age"].number_value = age
    changed.attributes["digital"].bool_value = likes
    changed.attributes["products"].number_value = float(chance.randrange(1, 5))
    changed.attributes["value_tier"].string_value = chance.choice(["basic", "plus", "premium"])
    changed.consents.add(purpose="marketing", granted=chance.random() < 0.9)
    entry = log_pb2.LogEntry(customer_id=customer, profile=changed)
    return Entry.parse(LogId(START - DAY, int(customer[1:])), entry.SerializeToString())


def _events(customer: str, chance: random.Random) -> Iterator[Entry]:
    words = bank().vocabulary
    offers = [one.name for one in bank().actions if one.issue == "grow"]
    moment = START + chance.randrange(20 * DAY)
    for number in range(12):
        moment += chance.randrange(HOUR, 3 * DAY)
        kind = chance.choice(["contact_started", "contact_started", "page_viewed", "outcome"])
        action = chance.choice(offers) if kind == "outcome" else ""
        told = [(kind, action, int(Outcome.presented) if action else 0)]
        if action and chance.random() < 0.3:
            told.append((kind, action, int(Outcome.accepted)))
        for place, (type, name, outcome) in enumerate(told):
            id = f"{customer}-{number}-{place}"
            packed = record.pack(
                occurred_at=moment + place * 1_000,
                hash=record.event_hash("test", id),
                type=words.type_codes[type],
                channel=words.channels["phone" if kind == "contact_started" else "app"],
                direction=1,
                action=words.actions[name] if name else 0,
                outcome=outcome,
                continuation=kind == "contact_started" and chance.random() < 0.1,
            )
            logged = log_pb2.EventLogged(record=packed, event=event_pb2.Event(event_id=id))
            entry = log_pb2.LogEntry(customer_id=customer, event=logged)
            at = LogId(moment + place * 1_000, int(customer[1:]))
            yield Entry.parse(at, entry.SerializeToString())


def decided(folder: Path, business: Business, each: int = 2, seed: int = 3) -> Path:
    """Decide for everybody some time later, and log it as a server does."""
    chance = random.Random(seed)
    pipeline, writer, kept = Pipeline(business), Answers(business), Entries(business)
    entries: dict[int, list[Entry]] = {}
    for number, history in enumerate([*replay.histories(folder)]):
        profile_id = history.changes[-1][0]
        for time in range(each):
            clock = START + 90 * DAY + time * DAY + number
            request = decision_pb2.DecideRequest(
                customer=event_pb2.CustomerKey(customer_id=history.customer_id),
                channel="phone",
                assurance=decision_pb2.ASSURANCE_VERIFIED,
            )
            request.context["wait_seconds"].number_value = float(chance.randrange(600))
            _, question = read(request, business, EVERYBODY, clock)
            moments = history.records["occurred_at"]
            last = LogId(int(moments[-1]), int(history.customer_id[1:]))
            inputs = Inputs(
                question._replace(customer_id=history.customer_id),
                Known(
                    history.records, record.EMPTY, history.profile(clock), last, record.NEVER,
                    profile_id,
                ),
                clock,
                seed=chance.randrange(2**32),
            )  # fmt: skip
            weighed = pipeline.weigh(inputs, None)
            answer = pipeline.settle(weighed, [Reply()] * len(weighed.wants))
            response = writer.written(answer, f"{number:020x}{time:05x}")
            packed = kept.written(
                answer, request.SerializeToString(deterministic=True), response, "test"
            )
            id = LogId(clock, 1_000_000 + number)
            entries.setdefault(partition(history.customer_id), []).append(Entry.parse(id, packed))
    for at, some in entries.items():
        archive.write(folder, at, sorted(some))
    archive.keep(archive.configuration(folder, business.digest), business.written())
    return folder


def leaning(business: Business, feature: str = "digital", seed: int = 5) -> Models:
    """Models that believe offers are for those whose ``feature`` is 1."""
    plan = Plan(business.definitions, business.vocabulary)
    rng = np.random.default_rng(seed)
    size = 12_000
    told = plan.actions(described(business))
    actions = rng.integers(0, len(told), size)
    rows = np.full((size, len(plan.names)), np.nan)
    first = len(plan.customer_features)
    rows[:, first : first + told.shape[1]] = told[actions]
    rows[:, plan.names.index(feature)] = rng.random(size) < 0.6
    grows = np.array([one.issue == "grow" for one in business.actions])[actions]
    likes = rows[:, plan.names.index(feature)] == 1
    labels = (rng.random(size) < np.where(grows, np.where(likes, 0.6, 0.02), 0.2)).astype(np.int64)
    columns = plan.columns("acceptance")
    codes = np.array([business.vocabulary.actions[one.name] for one in business.actions])
    data = Dataset(
        rows[:, columns], labels, np.arange(size, dtype=np.int64), ["somebody"] * size,
        codes[actions],
    )  # fmt: skip
    third = np.arange(size)
    trained = train.acceptance(
        data,
        Split(third[:8_000], third[8_000:10_000], third[10_000:]),
        [plan.names[i] for i in columns],
        plan.categorical(),
        Learning(rounds=40),
        _quiet,
        business.vocabulary.actions,
    )
    bundle = publish.build(
        plan, business, intent=None, acceptance=trained, cases=[], built_at=1, lineage={}
    )
    return Models(bundle, business)


def _quiet(done: int, of: int) -> None:
    """Show nothing."""


def quiet(name: str, done: int, of: int) -> None:
    """Show nothing of a stage."""
