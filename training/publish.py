"""Make a bundle of trained models, and keep it as a folder or in the store."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from features import duration
from features.plan import Context, Plan
from features.profile import Profile, Value
from features.record import LogId, encode
from features.timeline import LIMIT, as_of
from features.vocabulary import Vocabulary
from service import VERSION, goldens
from service import bundle as bundles
from service.bundle import AcceptanceCalibration, Bundle, Calibration, IntentCalibration
from service.business import Business
from service.models import Models
from training.replay import History
from training.train import Trained
from training.uplift import Learnt

_GOLDEN_CASES = 12
_DAY = 1_700_000_000_000  # 14 November 2023, in milliseconds

Case = tuple[bytes, Profile, Context, int]


def build(
    plan: Plan,
    business: Business,
    *,
    intent: Trained | None,
    acceptance: Trained | None,
    uplift: Learnt | None = None,
    cases: Sequence[Case],
    built_at: int,
    lineage: Mapping[str, str],
) -> Bundle:
    """Seal models into a bundle whose golden cases they reproduce.

    Args:
        plan: The compiled definitions that they were trained on.
        business: Whose vocabulary and actions.
        intent: Absent where nothing was trained.
        acceptance: Absent where nothing was trained.
        uplift: Absent where it was not asked for; without bags where there was too little.
        cases: From :func:`golden_cases`.
        built_at: Milliseconds; part of the version.
        lineage: What they were trained on.
    """
    calibration = Calibration(
        intent.calibration
        if intent and isinstance(intent.calibration, IntentCalibration)
        else None,
        acceptance.calibration
        if acceptance and isinstance(acceptance.calibration, AcceptanceCalibration)
        else None,
        None if uplift is None else uplift.calibration,
    )
    files = {
        bundles.DEFINITIONS: msgspec.json.encode(plan.definitions, order="sorted"),
        bundles.VOCABULARY: msgspec.json.encode(plan.vocabulary, order="sorted"),
        bundles.CALIBRATION: msgspec.json.encode(calibration, order="sorted"),
        bundles.GOLDEN: msgspec.msgpack.encode([]),
    }
    metrics: dict[str, float] = {}
    for name, file, trained in (
        ("intent", bundles.INTENT, intent),
        ("acceptance", bundles.ACCEPTANCE, acceptance),
    ):
        if trained is not None:
            files[file] = trained.booster.model_to_string().encode()
            metrics |= {
                f"{name}.{metric}": value
                for metric, value in trained.metrics.items()
                if math.isfinite(value)  # a number that the test part could not tell is left out
            }

    if uplift is not None:
        metrics |= {
            f"uplift.{n}": value for n, value in uplift.metrics.items() if math.isfinite(value)
        }
        if uplift.bags:
            files[bundles.UPLIFT] = bundles.joined([bag.model_to_string() for bag in uplift.bags])

    def seal() -> Bundle:
        day = datetime.datetime.fromtimestamp(built_at / 1000, datetime.UTC)
        return bundles.seal(
            files,
            version=f"{day:%Y%m%d-%H%M%S}-{plan.digest[:6]}",
            built_at=built_at,
            code=VERSION,
            feature_digest=plan.digest,
            vocabulary_digest=plan.vocabulary.digest,
            metrics=metrics,
            lineage=lineage,
            notes=[] if uplift is None else [uplift.note],
        )

    # The cases are written by the very code that will have to reproduce them.
    files[bundles.GOLDEN] = msgspec.msgpack.encode(goldens.write(Models(seal(), business), cases))
    return seal()


def golden_cases(histories: Sequence[History], vocabulary: Vocabulary) -> list[Case]:
    """Choose moments of some customers, and a customer that nobody has seen, as golden cases.

    From those with the longest timelines to those with the shortest.

    A bundle travels, so a case identifies nobody: hashes are replaced, all times are shifted to
    one day, and the profile is made up. What happened in which order, and how far apart, is real.
    """
    cases: list[Case] = [(b"", Profile(), Context(), _DAY)]
    step = max(1, len(histories) // _GOLDEN_CASES)
    by_length = sorted(histories, key=lambda one: (-len(one.records), one.customer_id))
    for history in by_length[::step][:_GOLDEN_CASES]:
        if not len(history.records):
            continue
        moment = int(history.records["occurred_at"][len(history.records) // 2]) + 1_000
        records = as_of(history.records, moment)[-LIMIT:].copy()
        records["occurred_at"] += _DAY - moment
        records["hash"] = range(len(records))
        for field in ("interaction", "agent"):
            records[field] = _anonymous(records[field])
        context = Context(int(records["channel"][-1]), 1)
        case = len(cases)
        cases.append((encode(LogId(_DAY, 0), records), _anybody(vocabulary, case), context, _DAY))
    return cases


def _anybody(vocabulary: Vocabulary, number: int) -> Profile:
    """A profile that belongs to nobody, another one for each number."""
    told: dict[str, Value | None] = {}
    for place, (name, attribute) in enumerate(vocabulary.attributes.items()):
        if (place + number) % 4 == 0:
            continue  # never told
        match attribute.kind:
            case "number":
                told[name] = float(7 * number + place)
            case "flag":
                told[name] = (number + place) % 2 == 0
            case "category":
                told[name] = list(attribute.values)[number % len(attribute.values)]
    return Profile().changed(told, [], _DAY - number * duration.DAY)


def _anonymous(hashes: np.ndarray) -> np.ndarray:
    """Number hashes by size; equal ones stay equal, and 0, which is none, stays 0."""
    _, numbers = np.unique(np.append(0, hashes), return_inverse=True)
    return numbers[1:]


def save(bundle: Bundle, folder: Path) -> Path:
    """Write a bundle as a folder under its version; give the folder."""
    at = folder / bundle.manifest.version
    at.mkdir(parents=True, exist_ok=True)
    for name, data in bundle.files.items():
        (at / name).write_bytes(data)
    return at
