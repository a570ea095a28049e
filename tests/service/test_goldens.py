from __future__ import annotations

import msgspec
import numpy as np
import pytest

from features.profile import EMPTY
from service import bundle as bundles
from service import goldens
from service.bundle import Golden
from service.errors import BundleRefused
from service.models import Models
from tests.integration.serving import business, sealed
from tests.integration.test_bundles_live import resealed
from tests.service.bundled import seen


def test_a_bundle_gives_its_golden_answers_to_the_bit(models: Models, cases: list[Golden]) -> None:
    assert len(cases) > 5
    assert any(len(case.timeline) > 1_000 for case in cases)
    for case in cases:
        records, context = seen(case)
        profile = msgspec.msgpack.decode(case.profile, type=type(EMPTY))
        vector = models.customer(records, profile, context, case.now)
        assert vector.tobytes() == case.vector
        assert np.array_equal(models.intents(vector), np.frombuffer(case.intents))


def test_goldens_are_written_by_what_reproduces_them(models: Models, cases: list[Golden]) -> None:
    case = cases[-1]
    _, context = seen(case)
    profile = msgspec.msgpack.decode(case.profile, type=type(EMPTY))
    (written,) = goldens.write(models, [(case.timeline, profile, context, case.now)])
    assert written == case


@pytest.mark.parametrize("field", ["vector", "intents", "acceptance"])
def test_another_answer_than_the_golden_one_is_refused(cases: list[Golden], field: str) -> None:
    number = len(cases) - 1
    data = np.frombuffer(getattr(cases[number], field)).copy()
    data[0] = 0.5 if field != "vector" else data[0] + 1
    spoilt = [*cases[:-1], msgspec.structs.replace(cases[number], **{field: data.tobytes()})]
    bundle = resealed(sealed(), "bad", **{bundles.GOLDEN: msgspec.msgpack.encode(spoilt)})
    with pytest.raises(BundleRefused, match=f"{field} of golden case {number} differs"):
        Models(bundle, business())


def test_calibration_changed_behind_the_golden_answers_is_refused() -> None:
    calibration = msgspec.json.decode(sealed().files[bundles.CALIBRATION])
    calibration["acceptance"]["offset"] += 1e-6
    spoilt = {bundles.CALIBRATION: msgspec.json.encode(calibration)}
    with pytest.raises(BundleRefused, match="does not give its own answers here"):
        Models(resealed(sealed(), "bad", **spoilt), business())


def test_golden_cases_of_older_bundles_are_read(cases: list[Golden]) -> None:
    older = [list(msgspec.structs.astuple(case))[:9] for case in cases]
    bundle = resealed(sealed(), "old", **{bundles.GOLDEN: msgspec.msgpack.encode(older)})
    assert Models(bundle, business()).scores_acceptance
