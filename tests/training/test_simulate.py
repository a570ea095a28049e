from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import duckdb
import msgspec
import numpy as np
import pytest

from features import record
from features.duration import DAY
from features.partition import partition
from features.vocabulary import Outcome
from rapport.v1 import event_pb2, log_pb2
from service.business import Business, load
from service.catalogue import Exploration
from service.errors import ConfigurationError, Precondition
from training import archive
from training.simulate import Simulated, numbered, simulate
from training.world import Incumbent, World

END = datetime.datetime(2026, 11, 20, tzinfo=datetime.UTC)
BUSINESS = load(Path(__file__).parents[2] / "config")


class Bank(NamedTuple):
    out: Path
    told: Simulated

    def entries(self, *kinds: str) -> list[archive.Entry]:
        return archive.read(self.out, kinds or ("event", "profile"))

    def events(self) -> Iterable[tuple[archive.Entry, event_pb2.Event]]:
        for entry in self.entries("event"):
            yield entry, log_pb2.LogEntry.FromString(entry.entry).event.event

    def decisions(self) -> Iterable[tuple[archive.Entry, log_pb2.DecisionLogged]]:
        for entry in self.entries("decision"):
            yield entry, log_pb2.LogEntry.FromString(entry.entry).decision

    def slots(self, presented: bool = True) -> list[tuple[str, str, float, float, bool]]:
        """Decision, action, selection probability, acceptance probability, accepted."""
        rows: list[tuple[str, str, float, float, bool]]
        with duckdb.connect() as db:
            rows = db.execute(
                "SELECT * EXCLUDE (shown) FROM (SELECT decision_id, unnest(actions), "
                "unnest(selection_probabilities), unnest(acceptance_probabilities), "
                "unnest(accepted), unnest(presented) AS shown FROM read_parquet($path)) "
                "WHERE shown OR NOT $presented",
                {"path": str(self.told.truth / "decisions.parquet"), "presented": presented},
            ).fetchall()
        return rows


def run(
    out: Path, *, customers: int, days: int, seed: int = 3, business: Business = BUSINESS
) -> Bank:
    told = simulate(
        business,
        out,
        customers=customers,
        days=days,
        seed=seed,
        end=END,
        progress=lambda _done, _total: None,
    )
    return Bank(out, told)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return run(tmp_path_factory.mktemp("bank"), customers=100, days=120)


def test_the_same_seed_gives_the_same_log_and_another_seed_does_not(tmp_path: Path) -> None:
    first, again, other = (
        run(tmp_path / name, customers=5, days=60, seed=seed).entries()
        for name, seed in (("first", 3), ("again", 3), ("other", 4))
    )
    assert first == again
    assert {entry.entry for entry in first}.isdisjoint(entry.entry for entry in other)


def test_a_larger_simulation_holds_the_smaller_one(tmp_path: Path) -> None:
    small = run(tmp_path / "small", customers=3, days=60).entries()
    large = run(tmp_path / "large", customers=6, days=60).entries()
    assert {entry.entry for entry in small} < {entry.entry for entry in large}


def test_a_log_is_never_mixed_with_another(bank: Bank) -> None:
    with pytest.raises(Precondition, match="holds a log already"):
        run(bank.out, customers=1, days=1, seed=4)


def test_a_business_without_a_needed_name_is_refused(tmp_path: Path) -> None:
    vocabulary = BUSINESS.vocabulary
    types = {name: kind for name, kind in vocabulary.types.items() if name != "login"}
    lacking = msgspec.structs.replace(
        BUSINESS, vocabulary=msgspec.structs.replace(vocabulary, types=types)
    )
    with pytest.raises(ConfigurationError, match="'login', which is not declared"):
        run(tmp_path, customers=1, days=1, business=lacking)


def test_records_hold_what_their_events_say_in_declared_codes(bank: Bank) -> None:
    vocabulary = BUSINESS.vocabulary
    for entry, event in bank.events():
        assert entry.record is not None
        kept = np.frombuffer(entry.record, record.RECORD)[0]
        assert kept["type"] == vocabulary.type_codes[event.type]
        assert kept["hash"] == record.event_hash(event.source, event.event_id)
        assert kept["interaction"] == record.interaction_hash(event.interaction_id)
        assert kept["agent"] == record.agent_hash(event.agent_id)
        for field, codes in (
            ("channel", vocabulary.channels),
            ("intent", vocabulary.intent_codes),
            ("action", vocabulary.actions),
        ):
            name = getattr(event, field)
            assert kept[field] == (codes[name] if name else 0)
        assert kept["outcome"] == event.outcome
        assert kept["flags"] & record.DIRECTION == event.direction
        assert kept["occurred_at"] == event.occurred_at.ToMilliseconds()
        assert kept["occurred_at"] < END.timestamp() * 1000


def test_profiles_tell_declared_attributes_and_values(bank: Bank) -> None:
    declared = BUSINESS.vocabulary.attributes
    for entry in bank.entries("profile"):
        changed = log_pb2.LogEntry.FromString(entry.entry).profile
        assert changed.attributes
        for name, value in changed.attributes.items():
            kind = {"number": "number_value", "flag": "bool_value", "category": "string_value"}
            assert value.WhichOneof("kind") == kind[declared[name].kind]
            if declared[name].kind == "category":
                assert value.string_value in declared[name].values
        assert {one.purpose for one in changed.consents} <= set(BUSINESS.vocabulary.purposes)


def test_ids_increase_within_a_partition_and_follow_the_events(bank: Bank) -> None:
    end = END.timestamp() * 1000
    partitions: dict[int, list[archive.Entry]] = {}
    for entry in sorted(bank.entries()):
        partitions.setdefault(partition(entry.customer_id), []).append(entry)
    for number, entries in partitions.items():
        ids = [entry.id for entry in entries]
        assert len(set(ids)) == len(ids)
        assert ids[-1].ms < end
        assert archive.last(bank.out, number) == ids[-1]
        for entry in entries:
            if entry.record is not None:
                occurred = int(np.frombuffer(entry.record, record.RECORD)["occurred_at"][0])
                assert occurred <= entry.id.ms


def test_entries_received_in_the_same_millisecond_are_numbered() -> None:
    entry = archive.Entry(record.NEVER, "c", "event", None, b"")
    ids = [one.id for one in numbered([(7, entry), (5, entry), (5, entry), (5, entry)])]
    assert ids == [(5, 0), (5, 1), (5, 2), (7, 0)]


def test_each_contact_ends_in_one_wrap_up_with_the_true_intent(bank: Bank) -> None:
    began: Counter[str] = Counter()
    ended: dict[str, list[str]] = {}
    for _, event in bank.events():
        if event.type == "contact_started":
            assert not event.intent
            began[event.interaction_id] += 1
        elif event.type in ("contact_resolved", "contact_unresolved"):
            ended.setdefault(event.interaction_id, []).append(event.intent)
    with duckdb.connect() as db:
        true: dict[str, list[str]] = {
            interaction: [intent]
            for interaction, intent in db.execute(
                "SELECT interaction_id, intent FROM read_parquet($path)",
                {"path": str(bank.told.truth / "contacts.parquet")},
            ).fetchall()
        }
    assert set(began.values()) == {1}
    assert ended.keys() == began.keys()
    assert ended == true
    assert len(true) == bank.told.contacts


def test_selection_probabilities_are_probabilities_and_slates_have_no_action_twice(
    bank: Bank,
) -> None:
    slots = bank.slots()
    assert all(0 < selection <= 1 for _, _, selection, _, _ in slots)
    assert len({(decision, action) for decision, action, *_ in slots}) == len(slots)


def test_actions_are_selected_as_often_as_their_selection_probabilities_say() -> None:
    world = World(BUSINESS, seed=3)
    eligible = np.zeros(len(world.actions), bool)
    shown = ("block_card", "gold_credit_card", "business_account")
    eligible[[world.actions.index(name) for name in shown]] = True
    topic = world.intents.index("block_card")
    incumbent = Incumbent(world, np.random.default_rng(5))
    draws = 6_000
    weights = np.zeros(len(world.actions))
    for _ in range(draws):
        slate, selection = incumbent.slate(eligible, topic, 1)
        weights[slate[0]] += 1 / selection[0]
    # No probability is under floor / 3, so the mean of an action's inverse weights is 1 give or
    # take at most 0.05; this is three times that.
    assert weights[eligible] / draws == pytest.approx(np.ones(3), abs=0.15)


def test_acceptance_agrees_with_its_true_probability(bank: Bank) -> None:
    slots = bank.slots()
    probability = np.array([slot[3] for slot in slots])
    accepted = np.array([slot[4] for slot in slots])
    for low, high in ((0.0, 1.0), (0.0, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 1.0)):
        inside = (probability >= low) & (probability < high)
        deviation = np.sqrt((probability * (1 - probability))[inside].sum())
        assert inside.sum() > 50
        assert abs(accepted[inside].sum() - probability[inside].sum()) < 3 * deviation


def test_the_log_tells_of_each_slate_what_the_truth_does(bank: Bank) -> None:
    presented, accepted = set(), set()
    for _, event in bank.events():
        if event.outcome == int(Outcome.presented):
            presented.add((event.decision_id, event.action))
        elif event.outcome == int(Outcome.accepted):
            accepted.add((event.decision_id, event.action))
    slots = bank.slots()
    # Only what the end cut off may be missing.
    truly = {(decision, action) for decision, action, *_ in slots}
    assert presented <= truly
    assert len(truly - presented) <= 3
    said_yes = {(decision, action) for decision, action, _, _, yes in slots if yes}
    assert accepted <= said_yes
    assert len(said_yes - accepted) <= 3


def test_every_action_has_a_true_probability_at_every_decision(bank: Bank) -> None:
    truth = np.load(bank.told.truth / "acceptance.npz")
    rows = {name: row for row, name in enumerate(truth["decision_id"])}
    columns = {name: column for column, name in enumerate(truth["action"])}
    assert truth["probability"].dtype == np.float32
    assert truth["probability"].shape == (bank.told.decisions, len(BUSINESS.actions))
    assert ((truth["probability"] > 0) & (truth["probability"] < 1)).all()
    for decision, action, _, acceptance, _ in bank.slots():
        at = rows[decision], columns[action]
        assert truth["eligible"][at]
        assert truth["probability"][at] == pytest.approx(acceptance, rel=1e-5)


def test_nearly_all_actions_are_presented_and_all_can_be(bank: Bank) -> None:
    shown = {action for _, action, *_ in bank.slots()}
    eligible = np.load(bank.told.truth / "acceptance.npz")["eligible"]
    assert eligible.any(axis=0).all()
    assert len(shown) >= 0.97 * len(BUSINESS.actions)


def test_sales_are_shown_only_with_consent(bank: Bank) -> None:
    with duckdb.connect() as db:
        refusers = {
            customer
            for (customer,) in db.execute(
                "SELECT customer_id FROM read_parquet($path) WHERE NOT marketing",
                {"path": str(bank.told.truth / "customers.parquet")},
            ).fetchall()
        }
    assert refusers
    for _, action, *_ in (slot for slot in bank.slots() if slot[0].split("-")[0] in refusers):
        assert BUSINESS.by_name[action].purpose != "marketing"


def test_the_log_says_what_was_drawn_and_how_likely_it_was(bank: Bank) -> None:
    truly: dict[str, list[tuple[str, float]]] = {}
    for decision, action, selection, *_ in bank.slots(presented=False):
        truly.setdefault(decision, []).append((action, selection))
    held_back = 0
    for _, logged in bank.decisions():
        (slate,) = logged.response.slates
        said = [(one.action, one.selection_probability) for one in slate.recommendations]
        assert said == truly.get(logged.response.decision_id, [])
        assert slate.held_back == (not said)
        conditional = float(np.prod([selection for _, selection in said]))
        chance = Incumbent.hold_back if slate.held_back else 1 - Incumbent.hold_back
        assert slate.selection_probability == pytest.approx(chance * conditional)
        held_back += slate.held_back
    spread = np.sqrt(bank.told.decisions * Incumbent.hold_back)
    assert abs(held_back - bank.told.decisions * Incumbent.hold_back) < 3 * spread


def test_a_decision_names_the_newest_entries_of_its_customer_before_it(bank: Bank) -> None:
    known = bank.entries()
    for entry, logged in bank.decisions():
        moment = logged.response.decided_at.ToMilliseconds()
        assert entry.id.ms == moment
        for kind, named in (
            ("event", logged.response.read.timeline), ("profile", logged.response.read.profile)
        ):  # fmt: skip
            before = [
                one.id for one in known
                if one.customer_id == entry.customer_id and one.kind == kind and one.id < entry.id
            ]  # fmt: skip
            assert named == (str(max(before)) if before else "")


def test_what_was_held_back_or_spared_was_not_presented(bank: Bank) -> None:
    shown = {(one.decision_id, one.action) for _, one in bank.events()
             if one.outcome == int(Outcome.presented)}  # fmt: skip
    drawn = {slot[:2] for slot in bank.slots(presented=False)}
    presented = {slot[:2] for slot in bank.slots()}
    assert shown <= presented
    spared = [slot for slot in bank.slots(presented=False) if slot[:2] not in presented]
    assert not any(accepted for *_, accepted in spared)
    assert presented < drawn
    assert 0.01 < 1 - len(presented) / len(drawn) < 0.2


def test_a_business_that_holds_back_more_is_obeyed(tmp_path: Path) -> None:
    placements = {
        name: msgspec.structs.replace(one, exploration=Exploration(hold_back=0.5))
        for name, one in BUSINESS.placements.items()
    }
    business = msgspec.structs.replace(BUSINESS, placements=placements)
    half = run(tmp_path, customers=20, days=120, business=business)
    held_back = [logged.response.slates[0].held_back for _, logged in half.decisions()]
    assert 0.4 < np.mean(held_back) < 0.6


def test_the_truth_knows_a_sale_that_adds_nothing_and_an_offer_that_harms(bank: Bank) -> None:
    truth = np.load(bank.told.truth / "uplift.npz")
    chances = np.load(bank.told.truth / "acceptance.npz")
    assert truth["decision_id"].tolist() == chances["decision_id"].tolist()
    actions = [BUSINESS.by_name[name] for name in truth["action"]]
    useless = [i for i, one in enumerate(actions)
               if one.issue == "grow" and not truth["converted"][:, i].any()]  # fmt: skip
    assert [actions[i].name for i in useless] == ["savings_round_up"]
    assert chances["probability"][:, useless].mean() > 0.1
    harmful = np.flatnonzero(truth["repeat_contact"].any(axis=0))
    assert [actions[i].name for i in harmful] == ["face_login"]
    harmed = truth["repeat_contact"][:, harmful] > 0
    assert 0.05 < harmed.mean() < 0.8  # some customers, and not all


def test_the_sale_that_adds_nothing_is_made_without_being_presented(bank: Bank) -> None:
    without = [one for _, one in bank.events()
               if one.outcome == int(Outcome.converted) and not one.decision_id]  # fmt: skip
    assert len(without) > 5
    for one in without:
        assert one.value == BUSINESS.by_name["savings_round_up"].value
        assert not one.action


def test_who_is_sent_back_to_us_comes_back(tmp_path: Path) -> None:
    """Of customers at a loss with screens, those who were shown the harmful offer."""
    few = [one for one in BUSINESS.actions if one.issue == "nurture" or not one.intents]
    business = msgspec.structs.replace(BUSINESS, actions=few)
    bank = run(tmp_path, customers=150, days=180, business=business)
    truth = np.load(bank.told.truth / "uplift.npz")
    column = truth["action"].tolist().index("face_login")
    at_risk = set(truth["decision_id"][truth["repeat_contact"][:, column] > 0].tolist())
    shown = {slot[0] for slot in bank.slots() if slot[1] == "face_login"}
    again: dict[str, list[int]] = {}
    for _, event in bank.events():
        if event.outcome == int(Outcome.repeat_contact):
            customer = event.event_id.split("-")[0]
            again.setdefault(customer, []).append(event.occurred_at.ToMilliseconds())

    def comes_back(chosen: set[str]) -> float:
        moments = [
            (entry.customer_id, logged.response.decided_at.ToMilliseconds())
            for entry, logged in bank.decisions() if logged.response.decision_id in chosen
        ]  # fmt: skip
        assert len(moments) > 20
        return float(np.mean([
            any(0 < at - moment < 7 * DAY for at in again.get(customer, []))
            for customer, moment in moments
        ]))  # fmt: skip

    assert comes_back(at_risk & shown) > comes_back(at_risk - shown) + 0.3
