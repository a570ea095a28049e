"""All that a decision depends on, configuration and models aside. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from features.profile import Profile, Value
from features.record import NEVER, LogId, Records
from service.reasons import Reason


class Question(NamedTuple):
    """What the caller asks; all names are declared and all numbers in range."""

    customer_id: str
    channel: str
    direction: int
    placements: Sequence[str]
    assurance: int = 1
    locale: str = ""
    utterance: str = ""
    context: Mapping[str, Value] = {}
    contact: Mapping[str, str] = {}  # agent_id, skill, queue
    interaction_id: str = ""
    max_actions: int | None = None
    as_of: int | None = None  # milliseconds
    allow: Sequence[str] = ()
    block: Sequence[str] = ()
    hold_for: int | None = None  # milliseconds
    dry_run: bool = False
    seed: int | None = None

    @property
    def recorded(self) -> bool:
        """Whether anything of the decision is kept."""
        return self.as_of is None and not self.dry_run


class MemberKnown(NamedTuple):
    """State of the timeline of a customer who was merged into this one."""

    customer_id: str
    timeline_id: LogId


class Known(NamedTuple):
    """What the store told of the customer; None for what could not be read."""

    records: Records | None
    ledger: Records | None
    profile: Profile | None
    timeline_id: LogId = NEVER
    ledger_id: LogId = NEVER
    profile_id: LogId = NEVER
    members: Sequence[MemberKnown] = ()
    unread: Reason | None = None  # why nothing could be read in time; None: it could
    unreadable: Sequence[Reason] = ()  # parts that were read and made no sense


class Inputs(NamedTuple):
    """All that a decision depends on, configuration and models aside."""

    question: Question
    known: Known
    clock: int  # milliseconds
    seed: int
    unscored: Reason | None = None  # why the models may not score; None: they may
    prices: Mapping[str, float] = {}  # shadow prices by resource
    full_ceilings: frozenset[str] = frozenset()
    greedy: bool = False  # the server was told to leave nothing to chance
