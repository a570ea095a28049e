"""Rows to learn from: the vector of each labelled moment, by the kernel that serves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from features.elementary import Floats
from features.kernels import Integers
from features.plan import Context, Plan, rows_of
from features.record import DIRECTION
from features.timeline import LIMIT
from service.business import Business
from service.usual import described
from training import labels
from training.labels import AcceptanceTarget, IntentTarget
from training.replay import History, Profiles


class Dataset(NamedTuple):
    """Labelled moments, in no particular order."""

    rows: Floats  # [moments, features of the model]
    labels: Integers  # [moments]
    moments: Integers  # [moments] milliseconds
    customers: list[str]  # [moments]
    baseline: Integers  # [moments] what a naive forecast may look at: the newest event's type

    def where(self, chosen: np.ndarray) -> Dataset:
        """The moments that a mask or index chooses."""
        index = np.arange(len(self.labels))[chosen]
        return Dataset(
            self.rows[index],
            self.labels[index],
            self.moments[index],
            [self.customers[i] for i in index],
            self.baseline[index],
        )


Progress = Callable[[int], None]


def intent(
    target: IntentTarget, plan: Plan, histories: Iterable[History], progress: Progress
) -> Dataset:
    """Compute the vector at every moment of the intent model; the moment's event is seen."""
    columns = plan.columns("intent")
    rows, labelled, moments, customers, newest = [], [], [], [], []
    label_of = labels.Intents(target, plan.vocabulary)
    for history in histories:
        records, profile = history.records, Profiles(history)
        found = label_of(records)
        for i, label in zip(found.at.tolist(), found.label.tolist(), strict=True):
            now = int(records["occurred_at"][i])
            context = Context(int(records["channel"][i]), int(records["flags"][i]) & DIRECTION)
            view = records[max(0, i + 1 - LIMIT) : i + 1]
            vector = plan.customer(view, profile(now), context, now)
            rows.append(vector[columns])
            labelled.append(label)
            moments.append(now)
            newest.append(int(records["type"][i]))
        customers += [history.customer_id] * len(found.at)
        progress(1)
    return _dataset(rows, labelled, moments, customers, newest, len(columns))


def acceptance(
    target: AcceptanceTarget,
    plan: Plan,
    business: Business,
    histories: Iterable[History],
    progress: Progress,
    end: int | None = None,
) -> Dataset:
    """Compute customer x action rows at every presentation, from what was known before it.

    Args:
        target: Which presentations, and their labels.
        plan: Compiled definitions.
        business: For what the catalogue says of each action.
        histories: Customers.
        progress: Told 1 after each customer.
        end: Last moment of the log; see :class:`training.labels.Acceptances`.
    """
    columns = plan.columns("acceptance")
    catalogue = plan.actions(described(business))
    codes = [business.vocabulary.actions[action.name] for action in business.actions]
    row_of = {code: catalogue[row] for row, code in enumerate(codes)}
    candidates = {code: rows_of([code]) for code in codes}
    rows, labelled, moments, customers, newest = [], [], [], [], []
    label_of = labels.Acceptances(target, plan.vocabulary, labels.responses(business), end)
    for history in histories:
        records, profile = history.records, Profiles(history)
        found = label_of(records)
        for i, label in zip(found.at.tolist(), found.label.tolist(), strict=True):
            code = int(records["action"][i])
            if code not in row_of:
                continue  # an action that left the catalogue
            now = int(records["occurred_at"][i])
            context = Context(int(records["channel"][i]), int(records["flags"][i]) & DIRECTION)
            before = int(np.searchsorted(records["occurred_at"], now, side="left"))
            view = records[max(0, before - LIMIT) : before]
            vector = plan.customer(view, profile(now), context, now)
            pair = plan.pairs(view, now, candidates[code], 1)[0]
            rows.append(np.concatenate([vector, row_of[code], pair])[columns])
            labelled.append(label)
            moments.append(now)
            newest.append(code)
            customers.append(history.customer_id)
        progress(1)
    return _dataset(rows, labelled, moments, customers, newest, len(columns))


def _dataset(
    rows: list[Floats],
    labelled: list[int],
    moments: list[int],
    customers: list[str],
    newest: list[int],
    width: int,
) -> Dataset:
    return Dataset(
        np.array(rows, np.float64).reshape(len(rows), width),
        np.array(labelled, np.int64),
        np.array(moments, np.int64),
        customers,
        np.array(newest, np.int64),
    )
