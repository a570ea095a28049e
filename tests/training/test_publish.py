from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from features import kernels, record
from features.elementary import Floats
from features.plan import Context, Plan
from features.profile import Profile
from features.record import RECORD, decode
from service import bundle as bundles
from service.bundle import Bundle, Golden
from service.business import load
from service.errors import BundleRefused
from service.models import Models
from tests.chain import NOW
from training import publish, train
from training.dataset import Dataset
from training.labels import Learning
from training.replay import History
from training.train import Trained

BUSINESS = load(Path(__file__).parents[2] / "config")
PLAN = Plan(BUSINESS.definitions, BUSINESS.vocabulary)
LEARNING = Learning(8, 4)


def story(customer: str, seed: int, count: int = 40) -> History:
    """A customer with events whose hashes nobody else has."""
    rng = np.random.default_rng(seed)
    records = np.zeros(count, RECORD)
    records["occurred_at"] = np.sort(NOW - rng.integers(0, 10**9, count))
    for i in range(count):
        records[i]["hash"] = record.event_hash(customer, str(i))
    records["interaction"] = [
        record.interaction_hash(f"{customer}-{i // 3}") if i % 4 else 0 for i in range(count)
    ]
    records["agent"] = [record.agent_hash(f"{customer} {i % 3}") if i % 2 else 0
                        for i in range(count)]  # fmt: skip
    records["type"] = rng.choice(list(BUSINESS.vocabulary.type_codes.values()), count)
    records["intent"] = rng.choice([0, *BUSINESS.vocabulary.intent_codes.values()], count)
    records["action"] = rng.choice([0, *BUSINESS.vocabulary.actions.values()], count)
    records["channel"] = rng.choice(list(BUSINESS.vocabulary.channels.values()), count)
    records["outcome"] = rng.integers(0, 12, count)
    records["flags"] = rng.integers(0, 3, count)
    records["value"] = rng.normal(size=count)
    return History(customer, records, [])


HISTORIES = [story(f"customer-{n}", n) for n in range(30)]


def rows(model: str, count: int, rng: np.random.Generator) -> Floats:
    return rng.normal(size=(count, len(PLAN.columns(model))))


def data(model: str, labels: np.ndarray) -> Dataset:
    count = len(labels)
    made = rows(model, count, np.random.default_rng(2))
    made[:, 0] += labels
    return Dataset(made, labels, np.arange(count), ["c"] * count, np.zeros(count, np.int64))


@pytest.fixture(scope="module")
def intent() -> Trained:
    made = data("intent", np.random.default_rng(1).choice([1, 2, 5], 600))
    names = [PLAN.names[i] for i in PLAN.columns("intent")]
    return train.intent(
        made, train.by_time(made.moments), names, [], "intents", LEARNING, lambda a, b: None
    )


@pytest.fixture(scope="module")
def acceptance() -> Trained:
    made = data("acceptance", np.random.default_rng(1).integers(0, 2, 600))
    names = [PLAN.names[i] for i in PLAN.columns("acceptance")]
    return train.acceptance(
        made, train.by_time(made.moments), names, [], LEARNING, lambda a, b: None
    )


def built(intent: Trained | None = None, acceptance: Trained | None = None) -> Bundle:
    return publish.build(
        PLAN, BUSINESS, intent=intent, acceptance=acceptance,
        cases=publish.golden_cases(HISTORIES, BUSINESS.vocabulary), built_at=NOW,
        lineage={"events": "7"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def sealed(intent: Trained, acceptance: Trained) -> Bundle:
    return built(intent, acceptance)


def golden(sealed: Bundle) -> list[Golden]:
    return msgspec.msgpack.decode(sealed.files[bundles.GOLDEN], type=list[Golden])


def resealed(sealed: Bundle, files: dict[str, bytes]) -> Bundle:
    manifest = sealed.manifest
    return bundles.seal(
        {name: data for name, data in {**sealed.files, **files}.items()
         if name != bundles.MANIFEST},
        version=manifest.version, built_at=manifest.built_at, code=manifest.code,
        feature_digest=manifest.feature_digest, vocabulary_digest=manifest.vocabulary_digest,
        metrics=manifest.metrics, lineage=manifest.lineage,
    )  # fmt: skip


def test_a_bundle_survives_packing(sealed: Bundle) -> None:
    blob = bundles.pack(sealed)
    assert bundles.unpack(blob) == sealed
    assert bundles.pack(bundles.unpack(blob)) == blob


def test_a_bundle_survives_a_folder(sealed: Bundle, tmp_path: Path) -> None:
    at = publish.save(sealed, tmp_path / "bundles")
    assert at == tmp_path / "bundles" / sealed.manifest.version
    assert bundles.read(at) == sealed


def test_the_manifest_says_what_the_bundle_is(sealed: Bundle, intent: Trained) -> None:
    manifest = sealed.manifest
    assert manifest.built_at == NOW
    assert manifest.version == f"20270115-080000-{PLAN.digest[:6]}"
    assert manifest.feature_digest == PLAN.digest
    assert manifest.vocabulary_digest == BUSINESS.vocabulary.digest
    assert manifest.lineage == {"events": "7"}
    assert manifest.metrics["intent.accuracy"] == intent.metrics["accuracy"]
    assert "acceptance.auc" in manifest.metrics


def test_an_altered_byte_of_any_file_is_noticed(sealed: Bundle, tmp_path: Path) -> None:
    for name in sealed.manifest.files:
        at = publish.save(sealed, tmp_path / name)
        data = bytearray(sealed.files[name])
        data[len(data) // 2] ^= 1
        (at / name).write_bytes(data)
        with pytest.raises(BundleRefused, match=f"{name} of bundle .* was altered"):
            bundles.read(at)


def test_models_loaded_from_the_bundle_score_like_the_trained_ones(
    sealed: Bundle, intent: Trained, acceptance: Trained
) -> None:
    models = Models(bundles.unpack(bundles.pack(sealed)), BUSINESS)
    for history in HISTORIES[:5]:
        vector = models.customer(history.records, Profile(), Context(1, 1), NOW)
        row = vector[PLAN.columns("intent")].reshape(1, -1)
        scores = np.asarray(intent.booster.predict(row, raw_score=True))[0]
        divisor = intent.calibration.temperature  # type: ignore[union-attr]
        raised = np.exp(scores / divisor)
        assert np.allclose(models.intents(vector), raised / raised.sum(), rtol=1e-9)
        told = models.seen(vector, history.records, NOW)
        actions = np.stack([models.row(told, row) for row in range(len(models.names))])
        seen = np.asarray(
            acceptance.booster.predict(actions[:, PLAN.columns("acceptance")], raw_score=True)
        )
        platt = acceptance.calibration
        said = 1 / (1 + np.exp(-(seen * platt.slope + platt.offset)))  # type: ignore[union-attr]
        assert np.allclose(models.acceptance(told), said, rtol=1e-9)


@pytest.mark.parametrize("kind", ["intent", "acceptance", "none"])
def test_a_bundle_may_lack_a_model(kind: str, intent: Trained, acceptance: Trained) -> None:
    one = built(intent if kind == "intent" else None, acceptance if kind == "acceptance" else None)
    models = Models(bundles.unpack(bundles.pack(one)), BUSINESS)
    assert models.scores_intents == (kind == "intent")
    assert models.scores_acceptance == (kind == "acceptance")


def test_a_metric_that_is_not_a_number_is_left_out(acceptance: Trained) -> None:
    told = {"auc": float("nan"), "log_loss": 0.5}
    one = built(None, acceptance._replace(metrics=told))
    assert bundles.unpack(bundles.pack(one)).manifest.metrics == {"acceptance.log_loss": 0.5}


def test_golden_cases_are_a_dozen_customers_and_one_unknown(sealed: Bundle) -> None:
    cases = golden(sealed)
    assert len(cases) == 13
    assert [len(decode(case.timeline)[1]) for case in cases].count(0) == 1
    assert len({case.vector for case in cases}) == 13
    assert all(case.intents and case.acceptance for case in cases)


def test_golden_cases_identify_nobody(sealed: Bundle) -> None:
    """Neither by an event's id, nor an interaction's, nor an agent's."""
    known: dict[str, set[int]] = {
        field: set(np.concatenate([one.records[field] for one in HISTORIES]).tolist()) - {0}
        for field in ("hash", "interaction", "agent")
    }
    large = {field: {code for code in codes if code > 1_000} for field, codes in known.items()}
    for case in golden(sealed):
        _, records = decode(case.timeline)
        for field, codes in large.items():
            assert not codes & set(records[field].tolist()), field
        for field in ("hash", "interaction", "agent"):
            assert (records[field] < len(records) + 1).all()
        assert records["occurred_at"].max(initial=0) <= case.now == 1_700_000_000_000
    plain = sealed.files[bundles.GOLDEN]
    for history in HISTORIES:
        assert history.customer_id.encode() not in plain
        for hash in history.records["hash"]:
            assert hash.tobytes() not in plain


def test_golden_timelines_keep_their_order_and_who_belongs_together() -> None:
    for (stored, _, _, now), history in zip(
        publish.golden_cases(HISTORIES[:12], BUSINESS.vocabulary)[1:],
        sorted(HISTORIES[:12], key=lambda one: (-len(one.records), one.customer_id)),
        strict=True,
    ):
        _, records = decode(stored)
        theirs = history.records[: len(records)]
        shifted = theirs["occurred_at"] - records["occurred_at"]
        assert (shifted == shifted[0]).all()
        assert shifted[0] != 0
        assert now > records["occurred_at"].max()
        order = np.lexsort((records["hash"], records["sequence"], records["occurred_at"]))
        assert (order == np.arange(len(records))).all()
        for field in ("interaction", "agent"):
            ours, real = records[field], theirs[field]
            assert ((ours[:, None] == ours) == (real[:, None] == real)).all()
            assert ((ours == 0) == (real == 0)).all()


def test_customers_without_events_make_no_golden_case() -> None:
    empty = HISTORIES[0]._replace(records=HISTORIES[0].records[:0])
    assert len(publish.golden_cases([empty], BUSINESS.vocabulary)) == 1
    assert len(publish.golden_cases([], BUSINESS.vocabulary)) == 1


def test_golden_cases_leave_the_histories_as_they_are() -> None:
    before = HISTORIES[0].records.tobytes()
    publish.golden_cases(HISTORIES[:1], BUSINESS.vocabulary)
    assert HISTORIES[0].records.tobytes() == before


def test_a_bundle_built_with_another_kernel_is_refused(
    intent: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(kernels, "VERSION", kernels.VERSION + "x")
        other = publish.build(
            Plan(BUSINESS.definitions, BUSINESS.vocabulary), BUSINESS, intent=intent,
            acceptance=None, cases=[], built_at=NOW, lineage={},
        )  # fmt: skip
    with pytest.raises(BundleRefused, match="built on other definitions"):
        Models(other, BUSINESS)


def test_a_bundle_that_does_not_reproduce_its_golden_cases_is_refused(sealed: Bundle) -> None:
    for field in ("vector", "intents", "acceptance"):
        cases = golden(sealed)
        wrong = np.frombuffer(getattr(cases[3], field)).copy()
        wrong[np.flatnonzero(np.isfinite(wrong))[0]] += 1e-9
        cases[3] = msgspec.structs.replace(cases[3], **{field: wrong.tobytes()})
        forged = resealed(sealed, {bundles.GOLDEN: msgspec.msgpack.encode(cases)})
        with pytest.raises(BundleRefused, match=f"{field} of golden case 3 differs"):
            Models(forged, BUSINESS)


def test_the_same_models_give_the_same_bundle(intent: Trained, acceptance: Trained) -> None:
    assert bundles.pack(built(intent, acceptance)) == bundles.pack(built(intent, acceptance))


def test_golden_profiles_are_made_up_and_of_every_kind() -> None:
    cases = publish.golden_cases(HISTORIES, BUSINESS.vocabulary)[1:]
    profiles = [profile for _, profile, _, _ in cases]
    assert len({str(profile) for profile in profiles}) == len(profiles)
    told = {name for profile in profiles for name in profile.attributes}
    assert told == set(BUSINESS.vocabulary.attributes)
    assert all(len(profile.attributes) < len(told) for profile in profiles)
