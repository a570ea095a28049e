"""From an archive to a bundle: replay, label, split, train, calibrate, seal."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from features.plan import Plan
from service import config
from service.bundle import Bundle
from service.business import Business
from service.usual import described
from training import archive, dataset, decisions, publish, replay, slates, train, uplift
from training.dataset import Dataset
from training.labels import IntentTarget, Targets, UpliftTarget
from training.replay import History
from training.train import Split, Trained
from training.uplift import Learnt

Splitter = Callable[[Dataset], Split]


class Stage(Protocol):
    """Shows how far a stage is; told the stage's name, what is done, and of how much."""

    def __call__(self, name: str, done: int, of: int) -> None:
        """Show it."""
        ...


def by_time(data: Dataset) -> Split:
    """Split by time; see :func:`training.train.by_time`."""
    return train.by_time(data.moments)


def fit(
    folder: Path,
    business: Business,
    targets: Targets,
    show: Stage,
    *,
    intent_split: Splitter = by_time,
    acceptance_split: Splitter = by_time,
) -> Bundle:
    """Learn what ``training.yaml`` declares from an archive, and seal it.

    Raises:
        FileNotFoundError: The archive is empty.
        ValueError: There is too little to learn from; the message says of what.
    """
    plan = Plan(business.definitions, business.vocabulary)
    show("read the archive", 0, 1)
    histories = list(replay.histories(folder, erased=replay.erasures(folder)))
    show("read the archive", 1, 1)
    intent = acceptance = lifted = None
    if targets.intent is not None:
        intent = _intent(targets.intent, plan, histories, show, intent_split)
    if targets.acceptance is not None:
        acceptance = _acceptance(targets, plan, business, histories, show, acceptance_split)
    if targets.uplift is not None:
        lifted = _uplift(targets.uplift, plan, business, folder, histories, show)
    show("write golden cases", 0, 1)
    sealed = publish.build(
        plan,
        business,
        intent=intent,
        acceptance=acceptance,
        uplift=lifted,
        cases=publish.golden_cases(histories, business.vocabulary),
        built_at=time.time_ns() // 1_000_000,
        lineage=_lineage(folder, histories),
    )
    show("write golden cases", 1, 1)
    return sealed


def _intent(
    target: IntentTarget, plan: Plan, histories: list[History], show: Stage, split: Splitter
) -> Trained:
    done = _Counter("replay contacts", len(histories), show)
    data = dataset.intent(target, plan, histories, done)
    columns = plan.columns("intent")
    return train.intent(
        data,
        split(data),
        [plan.names[i] for i in columns],
        plan.categorical(),
        "intents" if target.label == "intent" else "types",
        target.learning,
        lambda rounds, of: show("train the intent model", rounds, of),
    )


def _acceptance(
    targets: Targets,
    plan: Plan,
    business: Business,
    histories: list[History],
    show: Stage,
    split: Splitter,
) -> Trained:
    target = targets.acceptance
    assert target is not None  # noqa: S101  asked by the caller
    done = _Counter("replay presentations", len(histories), show)
    newest = [int(one.records["occurred_at"][-1]) for one in histories if len(one.records)]
    data = dataset.acceptance(target, plan, business, histories, done, max(newest, default=None))
    columns = plan.columns("acceptance")
    return train.acceptance(
        data,
        split(data),
        [plan.names[i] for i in columns],
        plan.categorical(),
        target.learning,
        lambda rounds, of: show("train the acceptance model", rounds, of),
        business.vocabulary.actions,
    )


def _uplift(
    target: UpliftTarget,
    plan: Plan,
    business: Business,
    folder: Path,
    histories: list[History],
    show: Stage,
) -> Learnt:
    done = _Counter("replay decisions", len(histories), show)
    drawn = decisions.drawn(folder, plan, business.vocabulary, replay.erasures(folder))
    return uplift.learn(
        slates.of(drawn, target, plan, business, histories, done),
        plan,
        plan.actions(described(business)),
        [action.name for action in business.actions],
        [business.vocabulary.actions[action.name] for action in business.actions],
        target,
        lambda bags, of: show("train the uplift model", bags, of),
    )


class _Counter:
    """Counts steps and shows every hundredth."""

    def __init__(self, name: str, of: int, show: Stage) -> None:
        self._name, self._of, self._show = name, of, show
        self._done = 0

    def __call__(self, steps: int) -> None:
        self._done += steps
        if self._done % 100 == 0 or self._done == self._of:
            self._show(self._name, self._done, self._of)


def _lineage(folder: Path, histories: list[History]) -> dict[str, str]:
    files = archive.files(folder)
    spans = [archive.span(path) for path in files]
    return {
        "files": str(len(files)),
        "from": str(min(first for first, _ in spans)),
        "to": str(max(last for _, last in spans)),
        "customers": str(len(histories)),
        "events": str(sum(len(one.records) for one in histories)),
    }


def targets(folder: Path) -> Targets:
    """Read ``training.yaml`` of a configuration folder."""
    return config.load(folder / "training.yaml", Targets)
