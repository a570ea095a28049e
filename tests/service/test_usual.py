from __future__ import annotations

import numpy as np

from service.catalogue import ISSUES
from service.usual import described
from tests.business import action, business


def test_an_action_is_described_in_numbers() -> None:
    first, *_ = described(business([action("tablet", issue="grow", group="sales", cost=2.0)]))
    assert first == {"code": 3, "issue": ISSUES.index("grow"), "group": 2, "value": 10, "cost": 2}
    assert np.isfinite(list(first.values())).all()
