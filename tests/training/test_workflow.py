from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec
import numpy as np
import pytest

from features import record
from features.duration import DAY
from features.plan import Context, Plan
from features.record import LogId
from features.timeline import LIMIT
from features.vocabulary import Outcome
from rapport.v1 import log_pb2
from service import bundle as bundles
from service.answers import timestamp
from service.bundle import Bundle
from service.business import Business, load
from service.catalogue import Exploration
from service.errors import ConfigurationError
from service.models import Models
from training import archive, evaluate, replay, simulate, workflow
from training.archive import Entry
from training.dataset import Dataset
from training.labels import Learning, OutcomeName, Targets
from training.train import Split

CONFIG = Path(__file__).parents[2] / "config"
BUSINESS = load(CONFIG)
DECLARED = workflow.targets(CONFIG)
assert DECLARED.intent is not None
# Thirty intents times a few rounds are trees enough for what is tested here.
TARGETS = Targets(
    msgspec.structs.replace(DECLARED.intent, learning=Learning(5, 5)),
    DECLARED.acceptance,
    DECLARED.uplift,
)
END = datetime.datetime(2026, 11, 20, tzinfo=datetime.UTC)
INTENT_METRICS = {"accuracy", "top3", "log_loss", "calibration_error", "bigram_accuracy", "classes",
                  "trees", "train_rows", "validation_rows", "test_rows"}  # fmt: skip
ACCEPTANCE_METRICS = {"auc", "calibration_error", "log_loss", "base_rate", "mean_probability",
                      "trees", "train_rows", "validation_rows", "test_rows"}  # fmt: skip
UPLIFT_METRICS = {"slates", "held_back", "test_slates", "clip"}  # of too few to learn from


def simulated(
    folder: Path, customers: int, seed: int, business: Business = BUSINESS
) -> simulate.Simulated:
    return simulate.simulate(
        business, folder, customers=customers, days=180, seed=seed, end=END,
        progress=lambda done, of: None,
    )  # fmt: skip


def quiet(name: str, done: int, of: int) -> None:
    pass


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    simulated(folder, 100, 3)
    return folder


@pytest.fixture(scope="module")
def fitted(small: Path) -> Bundle:
    return workflow.fit(small, BUSINESS, TARGETS, quiet)


def test_an_archive_becomes_a_bundle_that_a_server_accepts(fitted: Bundle) -> None:
    models = Models(bundles.unpack(bundles.pack(fitted)), BUSINESS)
    assert models.scores_intents
    assert models.scores_acceptance


def test_the_report_is_complete_and_finite(fitted: Bundle) -> None:
    metrics = fitted.manifest.metrics
    assert set(metrics) == {f"intent.{name}" for name in INTENT_METRICS} | {
        f"acceptance.{name}" for name in ACCEPTANCE_METRICS
    } | {f"uplift.{name}" for name in UPLIFT_METRICS}
    assert all(np.isfinite(value) for value in metrics.values())


def test_the_lineage_is_the_range_of_the_log(fitted: Bundle, small: Path) -> None:
    entries = archive.read(small, ("event", "profile"))
    ids = [one.id for one in entries]
    assert fitted.manifest.lineage == {
        "files": str(len(archive.files(small))),
        "from": str(min(ids)),
        "to": str(max(ids)),
        "customers": "100",
        "events": str(sum(one.kind == "event" for one in entries)),
    }


def test_ids_are_compared_as_numbers(tmp_path: Path) -> None:
    def entry(ms: int, sequence: int) -> Entry:
        return Entry(LogId(ms, sequence), "anna", "event", b"", b"x")

    archive.write(tmp_path, 1, [entry(900, 0), entry(1_000, 9)])
    archive.write(tmp_path, 2, [entry(1_000, 0), entry(1_000, 10)])
    lineage = workflow._lineage(tmp_path, [])
    assert (lineage["from"], lineage["to"]) == ("900-0", "1000-10")


def test_two_fits_of_one_archive_give_the_same_models(fitted: Bundle, small: Path) -> None:
    again = workflow.fit(small, BUSINESS, TARGETS, quiet)
    changing = {bundles.MANIFEST}
    assert {n: d for n, d in again.files.items() if n not in changing} == {
        n: d for n, d in fitted.files.items() if n not in changing
    }
    assert again.manifest.metrics == fitted.manifest.metrics


def test_every_stage_is_shown_and_ends_where_it_is_done(small: Path) -> None:
    shown: list[tuple[str, int, int]] = []
    workflow.fit(small, BUSINESS, TARGETS, lambda *one: shown.append(one))
    stages = list(dict.fromkeys(name for name, _, _ in shown))
    assert stages == ["read the archive", "replay contacts", "train the intent model",
                      "replay presentations", "train the acceptance model",
                      "replay decisions", "train the uplift model",
                      "write golden cases"]  # fmt: skip
    for stage in stages:
        _, done, of = [one for one in shown if one[0] == stage][-1]
        assert done == of > 0


def test_what_is_not_declared_is_not_learnt(small: Path) -> None:
    only = workflow.fit(small, BUSINESS, Targets(acceptance=TARGETS.acceptance), quiet)
    assert bundles.INTENT not in only.files
    assert bundles.ACCEPTANCE in only.files
    assert not any(name.startswith("intent.") for name in only.manifest.metrics)
    assert not any(name.startswith("uplift.") for name in only.manifest.metrics)
    assert only.manifest.notes == []
    nothing = workflow.fit(small, BUSINESS, Targets(), quiet)
    assert Models(nothing, BUSINESS).scores_intents is False


def test_the_split_can_be_another(small: Path) -> None:
    def by_customer(data: Dataset) -> Split:
        part = np.array([int(customer[1:]) % 10 for customer in data.customers])
        return Split(
            np.flatnonzero(part < 6), np.flatnonzero((part >= 6) & (part < 8)),
            np.flatnonzero(part >= 8),
        )  # fmt: skip

    targets = Targets(acceptance=TARGETS.acceptance)
    metrics = workflow.fit(
        small, BUSINESS, targets, quiet, acceptance_split=by_customer
    ).manifest.metrics
    by_time = workflow.fit(small, BUSINESS, targets, quiet).manifest.metrics
    assert metrics["acceptance.test_rows"] != by_time["acceptance.test_rows"]
    rows = ("acceptance.train_rows", "acceptance.validation_rows", "acceptance.test_rows")
    assert sum(metrics[name] for name in rows) == sum(by_time[name] for name in rows)


def test_an_empty_archive_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="export or simulate first"):
        workflow.fit(tmp_path, BUSINESS, TARGETS, quiet)


def test_too_small_an_archive_says_what_is_lacking(tmp_path: Path) -> None:
    packed = record.pack(occurred_at=1, hash=1, type=1)
    archive.write(tmp_path, 1, [Entry(LogId(1, 0), "anna", "event", packed, b"")])
    with pytest.raises(ValueError, match="0 moments and 0 intents; at least two are needed"):
        workflow.fit(tmp_path, BUSINESS, TARGETS, quiet)


def test_a_forgotten_customer_is_not_learnt_from(small: Path, tmp_path: Path) -> None:
    """Though their entries have not left the archive yet."""
    entries = archive.read(small, ("event", "profile"))
    gone = {one.customer_id for one in entries[:2_000]}
    last = max(one.id for one in entries).ms
    for number, customer in enumerate(sorted(gone)):
        erased = log_pb2.CustomerErased(erased_at=timestamp(last))
        entry = log_pb2.LogEntry(customer_id=customer, erased=erased).SerializeToString()
        entries.append(Entry(LogId(last + 1, number), customer, "erased", None, entry))
    archive.write(tmp_path, 0, sorted(entries))
    histories = list(replay.histories(tmp_path, erased=replay.erasures(tmp_path)))
    for one in histories:
        assert (len(one.records) == 0) == (one.customer_id in gone)
        assert bool(one.changes) == (one.customer_id not in gone)
    assert TARGETS.acceptance is not None
    targets = Targets(acceptance=msgspec.structs.replace(TARGETS.acceptance, within="14d"))
    kept = workflow.fit(tmp_path, BUSINESS, targets, quiet).manifest
    all_ = workflow.fit(small, BUSINESS, targets, quiet).manifest
    records = {
        who: np.concatenate([
            np.frombuffer(one.record, record.RECORD)
            for one in entries if one.record and one.customer_id == who
        ])
        for who in {one.customer_id for one in entries if one.record}
    }  # fmt: skip

    def presented(customers: set[str]) -> int:
        """Presentations of these customers whose window had ended by their last event."""
        events = np.concatenate([records[who] for who in customers])
        ripe = events["occurred_at"] <= events["occurred_at"].max() - 14 * DAY
        return int((ripe & (events["outcome"] == Outcome.presented)).sum())

    def rows(manifest: bundles.Manifest) -> float:
        parts = ("train", "validation", "test")
        return sum(manifest.metrics[f"acceptance.{part}_rows"] for part in parts)

    assert rows(all_) == presented(set(records))
    assert rows(kept) == presented(set(records) - gone)


def test_targets_are_read_with_their_place_in_every_error(tmp_path: Path) -> None:
    (tmp_path / "training.yaml").write_text("intent:\n  at: {}\n  label: colour\n")
    with pytest.raises(ConfigurationError, match=r"training\.yaml.*label"):
        workflow.targets(tmp_path)
    for folder in (CONFIG, CONFIG / "examples" / "bpi2012"):
        assert isinstance(workflow.targets(folder), Targets)


class Judged(msgspec.Struct):
    """What a model said of actions really presented, and the truth."""

    said: list[float]
    truth: list[float]
    accepted: list[int]


def newcomer(customer: str) -> bool:
    """Whether a customer is among those that the model is judged by."""
    return int(customer[1:]) % 5 == 0


def without_newcomers(data: Dataset) -> Split:
    """Learn from the others, calibrate on every seventh of them."""
    part = np.array([7 if newcomer(name) else int(name[1:]) % 7 for name in data.customers])
    return Split(*(np.flatnonzero(mask) for mask in (part < 6, part == 6, part == 7)))


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """A model that is asked about customers whom it did not learn from."""
    folder = tmp_path_factory.mktemp("bank")
    told = simulated(folder, 500, 3)
    sealed = workflow.fit(
        folder, BUSINESS, Targets(acceptance=TARGETS.acceptance), quiet,
        acceptance_split=without_newcomers,
    )  # fmt: skip
    models = Models(sealed, BUSINESS)
    histories = {one.customer_id: one for one in replay.histories(folder)}
    order = {action.name: row for row, action in enumerate(BUSINESS.actions)}
    judged = Judged([], [], [])
    with duckdb.connect() as db:
        decisions = db.execute(
            "SELECT customer_id, ms, channel, actions, acceptance_probabilities, presented, "
            "accepted FROM read_parquet($path)",
            {"path": str(told.truth / "decisions.parquet")},
        ).fetchall()
    for customer, ms, channel, actions, truth, presented, accepted in decisions:
        if not newcomer(customer):
            continue
        history = histories[customer]
        before = int(np.searchsorted(history.records["occurred_at"], ms, side="left"))
        view = history.records[max(0, before - LIMIT) : before]
        context = Context(BUSINESS.vocabulary.channels[channel], 1)
        vector = models.customer(view, history.profile(ms), context, ms)
        chances = models.acceptance(models.seen(vector, view, ms))
        for action, true, shown, yes in zip(actions, truth, presented, accepted, strict=True):
            if shown:
                judged.said.append(float(chances[order[action]]))
                judged.truth.append(true)
                judged.accepted.append(int(yes))
    return judged


def test_the_model_tells_which_customers_it_never_saw_will_accept(judged: Judged) -> None:
    said, accepted = np.array(judged.said), np.array(judged.accepted)
    assert len(said) > 1_000
    best = evaluate.auc(np.array(judged.truth), accepted)
    found = evaluate.auc(said, accepted)
    assert found > 0.65
    assert found > 0.5 + 0.4 * (best - 0.5)


def test_its_probabilities_are_the_true_ones_on_the_whole(judged: Judged) -> None:
    said, truth = np.array(judged.said), np.array(judged.truth)
    assert said.mean() == pytest.approx(truth.mean(), abs=0.03)
    assert np.corrcoef(said, truth)[0, 1] > 0.4
    # Against the truth itself there is no noise of coin flips in the calibration error.
    gaps = [
        abs(said[part].mean() - truth[part].mean()) for part in np.array_split(np.argsort(said), 10)
    ]
    assert np.mean(gaps) < 0.03


def test_too_few_held_back_slates_are_told_and_no_model_is_made_up(fitted: Bundle) -> None:
    assert bundles.UPLIFT not in fitted.files
    assert not Models(fitted, BUSINESS).scores_uplift
    (note,) = fitted.manifest.notes
    held_back = fitted.manifest.metrics["uplift.held_back"]
    assert 0 < held_back < 200
    assert f"not enough data. {held_back:.0f} slates were held back, 200 are needed" in note


# A bank of few actions that holds back three slates in ten. All its sales are worth the same, so
# that the likeliest to be accepted ranks first among them.
FEW = ("savings_round_up", "travel_card", "virtual_card", "face_login", "help_centre",
       "message_us", "callback")  # fmt: skip
SMALL_BANK = msgspec.structs.replace(
    BUSINESS,
    actions=[
        msgspec.structs.replace(one, value=40.0 if one.issue == "grow" else one.value)
        for one in BUSINESS.actions
        if one.name in FEW
    ],
    placements={
        name: msgspec.structs.replace(one, exploration=Exploration(hold_back=0.3))
        for name, one in BUSINESS.placements.items()
    },
)


class Lifted(NamedTuple):
    """Means over decisions by phone and chat: what a model says of each action, and the truth."""

    acceptance: dict[str, float]
    uplift: dict[str, tuple[float, float, float]]
    converted: dict[str, float]
    repeat_contact: dict[str, float]
    note: str


def lift(folder: Path, reward: dict[OutcomeName, Any]) -> Lifted:
    """Learn the uplift of a reward, and ask it about some of the decisions."""
    assert DECLARED.uplift is not None
    target = msgspec.structs.replace(DECLARED.uplift, reward=reward)
    sealed = workflow.fit(folder, SMALL_BANK, Targets(None, DECLARED.acceptance, target), quiet)
    models = Models(sealed, SMALL_BANK)
    histories = {one.customer_id: one for one in replay.histories(folder)}
    truth = np.load(folder / "truth" / "uplift.npz")
    row_of = {name: row for row, name in enumerate(truth["decision_id"].tolist())}
    with duckdb.connect() as db:
        asked = db.execute(
            "SELECT decision_id, customer_id, ms, channel FROM read_parquet($path) "
            "WHERE channel IN ('phone', 'chat') ORDER BY hash(decision_id) LIMIT 300",
            {"path": str(folder / "truth" / "decisions.parquet")},
        ).fetchall()
    said, chances, rows = [], [], []
    for decision, customer, ms, channel in asked:
        history = histories[customer]
        before = int(np.searchsorted(history.records["occurred_at"], ms, side="left"))
        view = history.records[max(0, before - LIMIT) : before]
        context = Context(BUSINESS.vocabulary.channels[channel], 1)
        vector = models.customer(view, history.profile(ms), context, ms)
        scored = models.seen(vector, view, ms)
        lifts = models.uplift(scored)
        assert lifts is not None
        said.append(lifts)
        chances.append(models.acceptance(scored))
        rows.append(row_of[decision])

    def named(values: Any) -> dict[str, Any]:
        return dict(zip(models.names, values, strict=True))

    return Lifted(
        named(np.mean(chances, axis=0).tolist()),
        named(map(tuple, np.mean(said, axis=0).tolist())),
        named(truth["converted"][rows].mean(axis=0).tolist()),
        named(truth["repeat_contact"][rows].mean(axis=0).tolist()),
        sealed.manifest.notes[0],
    )


@pytest.fixture(scope="module")
def small_bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    simulated(folder, 600, 3, SMALL_BANK)
    return folder


def test_acceptance_picks_the_sale_that_is_made_anyway_and_uplift_does_not(
    small_bank: Path,
) -> None:
    found = lift(small_bank, {"converted": "value"})
    sales = [one.name for one in SMALL_BANK.actions if one.issue == "grow"]
    assert found.converted["savings_round_up"] == 0.0
    assert max(sales, key=found.acceptance.__getitem__) == "savings_round_up"
    assert max(sales, key=lambda name: found.uplift[name][0]) != "savings_round_up"
    for name in sales:
        _, low, high = found.uplift[name]
        assert low < found.converted[name] < high, name
    assert "help" in found.note


def test_the_action_that_harms_some_is_seen_to_harm(small_bank: Path) -> None:
    found = lift(small_bank, {"repeat_contact": -10.0})
    assert found.repeat_contact["face_login"] > 0.1
    mean, low, high = found.uplift["face_login"]
    # What the truth counts is the first time that they come back; some come more often.
    assert low < -10 * found.repeat_contact["face_login"] < high
    assert mean == min(one[0] for one in found.uplift.values())


def test_the_plan_of_the_configuration_is_the_bundles(fitted: Bundle) -> None:
    plan = Plan(BUSINESS.definitions, BUSINESS.vocabulary)
    assert fitted.manifest.feature_digest == plan.digest
