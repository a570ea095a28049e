"""What the filter stages look at: one request, and what is known of its customer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from features.profile import Profile
from features.record import Records
from features.usage import Counts
from service.rules import Answers


class Circumstances(NamedTuple):
    """Everything that the filter stages look at."""

    channel: str
    direction: int
    assurance: int
    now: int  # milliseconds
    profile: Profile | None  # None: it could not be read; then only what needs no consent passes
    ledger: Records | None  # None: it could not be read; then only what nothing counts passes
    results: Answers  # of all conditions
    full_ceilings: frozenset[str] = frozenset()
    allow: Sequence[str] = ()
    block: Sequence[str] = ()
    interaction: int = 0  # hash of the contact that asks; 0: it stands alone
    counts: Counts | None = None  # of the ledger; None: not counted yet
