from __future__ import annotations

import numpy as np

from service.bundle import Golden
from service.catalogue import ISSUES
from service.models import Models
from service.usual import described
from tests.business import action, business
from tests.integration.serving import business as bank
from tests.service.bundled import matrix, seen


def test_an_action_is_described_in_numbers() -> None:
    first, *_ = described(business([action("tablet", issue="grow", group="sales", cost=2.0)]))
    assert first == {"code": 3, "issue": ISSUES.index("grow"), "group": 2, "value": 10, "cost": 2}
    assert np.isfinite(list(first.values())).all()


def test_each_row_holds_the_customer_and_its_own_action(
    models: Models, cases: list[Golden]
) -> None:
    records, _ = seen(cases[-1])
    vector = np.frombuffer(cases[-1].vector)
    rows = matrix(models, models.seen(vector, records, cases[-1].now))
    queueing = [row for row, one in enumerate(bank().actions) if one.queue_priority]
    others = np.delete(rows[:, : len(vector)], queueing, axis=0)
    assert np.array_equal(others, np.tile(vector, (len(others), 1)), equal_nan=True)
    code = models.plan.names.index("action_code")
    codes = [bank().vocabulary.actions[action.name] for action in bank().actions]
    assert rows[:, code].tolist() == codes


def test_how_the_customer_feels_does_not_move_them_ahead_in_a_queue(
    models: Models, cases: list[Golden]
) -> None:
    names = ["sentiment_mean_30d", "sentiment_last", "journey_relationship"]
    felt = [models.plan.names.index(name) for name in names]
    records, _ = seen(cases[0])
    calm, angry = (np.frombuffer(cases[0].vector).copy() for _ in range(2))
    calm[felt], angry[felt] = [1.0, 1.0, 2.0], [-1.0, -1.0, 3.0]
    queueing = np.array([one.queue_priority for one in bank().actions])
    calmly = matrix(models, models.seen(calm, records, cases[0].now))
    angrily = matrix(models, models.seen(angry, records, cases[0].now))
    assert queueing.any()
    assert np.array_equal(calmly[queueing], angrily[queueing], equal_nan=True)
    assert np.isnan(angrily[queueing][:, felt]).all()
    assert not np.array_equal(calmly[~queueing], angrily[~queueing], equal_nan=True)
