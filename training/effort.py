"""What happened to customers outside of the decisions: what they accepted, and how hard we made it.

Pure. Everything is read off the chain of events, so it covers what no decision led to as well.

accepted    presented actions that were accepted or converted within their response window
transfers   contacts that continue another one, for each contact that a customer began
repeats     contacts that a customer began within the repeat window of an earlier one, of all they
            began
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np

from features import duration
from features.definitions import Where
from features.record import CONTINUATION, Records
from features.vocabulary import Role
from service.business import Business
from training import labels
from training.labels import Acceptances, AcceptanceTarget
from training.replay import History

_TARGET: Final = AcceptanceTarget(
    Where(outcome="presented"), ["accepted", "converted"], ["rejected", "dismissed"]
)


class Happened(NamedTuple):
    """One thing that could have happened to a customer, and whether it did."""

    what: str  # accepted, transfers or repeats
    customer_id: str
    moment: int
    happened: float
    possible: float
    action: str = ""  # that was presented


class Effort:
    """Reads the chains of one business's customers.

    Args:
        business: Its roles, windows and catalogue.
        end: Last moment of the log, in milliseconds: what may still be answered does not count.
    """

    def __init__(self, business: Business, end: int) -> None:
        vocabulary = business.vocabulary
        self._accepted = Acceptances(_TARGET, vocabulary, labels.responses(business), end)
        self._names = {code: name for name, code in vocabulary.actions.items()}
        self._contacts = [
            kind.code for kind in vocabulary.types.values() if Role[kind.role] is Role.contact
        ]
        self._window = duration.milliseconds(business.definitions.journey.repeat_contact)

    def of(self, histories: Iterable[History]) -> Iterator[Happened]:
        """Everything that could have happened, customer by customer."""
        for history in histories:
            yield from self._answers(history)
            yield from self._effort(history)

    def _answers(self, history: History) -> Iterator[Happened]:
        records = history.records
        found = self._accepted(records)
        for at, label in zip(found.at.tolist(), found.label.tolist(), strict=True):
            action = self._names.get(int(records["action"][at]), "")
            moment = int(records["occurred_at"][at])
            yield Happened("accepted", history.customer_id, moment, label, 1.0, action)

    def _effort(self, history: History) -> Iterator[Happened]:
        records: Records = history.records
        contacts = records[np.isin(records["type"], self._contacts)]
        continued = (contacts["flags"] & CONTINUATION) > 0
        before = -(2**62)
        for moment, more in zip(contacts["occurred_at"].tolist(), continued.tolist(), strict=True):
            yield Happened("transfers", history.customer_id, moment, float(more), float(not more))
            if not more:
                again = moment - before <= self._window
                yield Happened("repeats", history.customer_id, moment, float(again), 1.0)
                before = moment
