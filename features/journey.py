"""What the chain of events shows that no single event does. Pure.

One pass from the newest event back. Each fact is a feature and, in ``service.facts``, a sentence.

=========================  ========================================================================
failed_self_service        failed tries since anything last worked (a completed self-service or a
                           resolved need), within its window
since_failed_self_service  seconds since the newest of them; NaN where there is none
repeat_contacts            contacts for the one intent that brought the customer most often, across
                           channels, within its window; a transfer continues a contact and is none
repeat_intent              code of that intent; 0 where no contact has a known one
channel_hops               changes of channel from one inbound event to the next
unresolved_contacts        contacts that ended without resolution, or were left for over an hour,
                           and that no later resolution of the same contact or intent made good
unanswered_questions       questions without a later answer or resolution in the same interaction
sentiment                  mean of the newest three moods; NaN where there is none
sentiment_trend            mean mood of the newer half less that of the older half; NaN under two
relationship               :class:`Relationship`, from the moods and complaints in the window
lifetime_stage             :class:`Stage`, from purchases and activity
=========================  ========================================================================
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from features import duration, fields
from features.definitions import JourneyWindows
from features.elementary import Floats
from features.fields import Integers
from features.record import CONTINUATION, DIRECTION, NO_SENTIMENT, Records
from features.vocabulary import Direction, Outcome, Role, Vocabulary

FACTS: Final = (
    "failed_self_service",
    "since_failed_self_service",
    "repeat_contacts",
    "repeat_intent",
    "channel_hops",
    "unresolved_contacts",
    "unanswered_questions",
    "sentiment",
    "sentiment_trend",
    "relationship",
    "lifetime_stage",
)
FAILED, SINCE_FAILED, REPEATS, REPEAT_INTENT, HOPS, UNRESOLVED = 0, 1, 2, 3, 4, 5
UNANSWERED, MOOD, MOOD_TREND, RELATIONSHIP, STAGE = 6, 7, 8, 9, 10


class Relationship(enum.IntEnum):
    """How the customer feels about us over time."""

    unknown = 0  # under three signs
    neutral = 1
    friend = 2
    enemy = 3
    love_hate = 4


class Stage(enum.IntEnum):
    """Where the customer is in their life with us."""

    unknown = 0  # no events
    prospect = 1  # never bought
    new = 2  # first event under 90 days ago
    growing = 3  # this month over half as busy again as the month before
    mature = 4
    at_risk = 5  # this month under half as busy as the month before
    lapsed = 6  # nothing happened for a long time


class Journey(NamedTuple):
    """The facts of one timeline at one moment."""

    values: Floats  # one for each of FACTS
    contacts_by_intent: dict[int, int]  # contacts in the repeat window, by code of their intent
    newest_failure: int  # index of the newest failed self-service; -1: none
    repeat_first: int  # index of the oldest contact for the repeated intent; -1: none
    failed_on: Sequence[int] = ()  # codes of the channels of failed self-service, newest first

    def value(self, fact: str) -> float:
        """Value of one of FACTS."""
        return float(self.values[FACTS.index(fact)])


class Lens(NamedTuple):
    """What the facts need of the configuration."""

    words: Integers  # the windows in milliseconds, as JourneyWindows has them; then roles by code

    @classmethod
    def of(cls, vocabulary: Vocabulary, windows: JourneyWindows) -> Lens:
        """Compile the roles of the vocabulary's event types and the windows."""
        roles = np.zeros(max(vocabulary.type_codes.values()) + 2, np.int64)
        for kind in vocabulary.types.values():
            roles[kind.code] = Role[kind.role]
        spans = [
            duration.milliseconds(getattr(windows, field)) for field in windows.__struct_fields__
        ]
        return cls(np.concatenate([np.array(spans, np.int64), roles]))


_WINDOWS: Final = len(JourneyWindows.__struct_fields__)
_FACTS: Final = len(FACTS)
_HEAD: Final = 4
"""Numbers before the lists."""
_CONTACT: Final = int(Role.contact)
_FAILED: Final = int(Role.self_service_failed)
_COMPLETED: Final = int(Role.self_service_completed)
_RESOLVED: Final = int(Role.resolved)
_UNRESOLVED: Final = int(Role.unresolved)
_QUESTION: Final = int(Role.question)
_ANSWER: Final = int(Role.answer)
_COMPLAINT: Final = int(Role.complaint)
_PURCHASE: Final = int(Role.purchase)
_INBOUND: Final = int(Direction.inbound)
_OUTBOUND: Final = int(Direction.outbound)
_OUTCOME_RESOLVED: Final = int(Outcome.resolved)

_LEFT_ALONE: Final = duration.HOUR
_MONTH: Final = 30 * duration.DAY
_NEW: Final = 90 * duration.DAY
_STRONG: Final = 30  # hundredths of sentiment

_TOLD_CONTACT, _TOLD_RESOLVED, _TOLD_UNRESOLVED, _TOLD_ANSWERED = 1, 2, 4, 8


@numba.njit(cache=True)
def _find(values: Integers, count: int, wanted: int) -> int:
    for i in range(count):
        if values[i] == wanted:
            return i
    return -1


@numba.njit(cache=True)
def _place(table: npt.NDArray[np.int32], told: Integers, wanted: int) -> int:
    """Where an interaction is in the table, or could be put: an empty place holds 0."""
    mask = table.shape[0] - 1
    at = ((wanted * 2_654_435_761) >> 16) & mask
    while table[at] != 0 and told[table[at] - 1] != wanted:
        at = (at + 1) & mask
    return int(at)


@numba.njit(cache=True)
def read_into(words: Integers, now: int, lens: Integers, out: Floats, numbers: Integers) -> int:
    """Read the facts off a timeline inside a kernel; see :func:`read`.

    Args:
        words: The timeline, see :func:`features.fields.words`.
        now: The moment, in milliseconds.
        lens: Words of a :class:`Lens`.
        out: [facts], overwritten.
        numbers: [:func:`room`], of which the beginning is overwritten with the number of intents,
            two indexes and the number of channels, and then the intents, the contacts about each,
            and the channels of failed tries.

    Returns:
        How many numbers there are.
    """
    n = words.shape[0] // fields.WORDS
    w_failed, w_repeat, w_hops = lens[0], lens[1], lens[2]
    w_unresolved, w_mood, w_lapsed = lens[3], lens[4], lens[5]
    roles = lens[_WINDOWS:]
    intents, contacts = np.empty(n, np.int64), np.empty(n, np.int64)
    channels = np.empty(n, np.int64)
    out[:] = 0.0
    out[SINCE_FAILED] = out[MOOD] = out[MOOD_TREND] = np.nan
    # What later events told about an interaction, by its hash.
    size = 8
    while size < 2 * n:
        size *= 2
    table = np.zeros(size, np.int32)
    told = np.empty(n, np.int64)
    told_intent = np.empty(n, np.int64)
    told_of = np.empty(n, np.int64)  # bits
    tellings = 0
    resolved_intents = np.empty(n, np.int64)
    resolved = 0
    answered_alone = False
    firsts = np.empty(n, np.int64)
    different = 0
    failed_on = 0
    newest_failure = -1
    worked = False
    hop_channel = 0
    moods = np.empty(n, np.int64)
    felt = 0
    positive = negative = signs = 0
    purchases = recent = before = 0
    oldest_age = newest_age = -1
    for i in range(n - 1, -1, -1):
        age = now - fields.occurred_at(words, i)
        if age < 0:
            continue
        if newest_age < 0:
            newest_age = age
        oldest_age = age
        role = roles[min(fields.type(words, i), roles.shape[0] - 1)]
        flags, channel = fields.flags(words, i), fields.channel(words, i)
        way, known_intent = flags & DIRECTION, fields.intent(words, i)
        if age < _MONTH:
            recent += 1
        elif age < 2 * _MONTH:
            before += 1
        if role == _PURCHASE:
            purchases += 1

        at = -1
        interaction = fields.interaction(words, i)
        if interaction != 0:
            free = _place(table, told, interaction)
            at = table[free] - 1
            if at < 0:
                at = tellings
                told[at] = interaction
                told_intent[at] = told_of[at] = 0
                tellings += 1
                table[free] = tellings
            if told_intent[at] == 0:
                told_intent[at] = known_intent
        made_good = role == _RESOLVED or fields.outcome(words, i) == _OUTCOME_RESOLVED
        if made_good:
            if at >= 0:
                told_of[at] |= _TOLD_RESOLVED
            if known_intent != 0:
                resolved_intents[resolved] = known_intent
                resolved += 1
        if at >= 0 and role == _UNRESOLVED:
            told_of[at] |= _TOLD_UNRESOLVED

        if age < w_failed:
            if made_good or role == _COMPLETED:
                worked = True
            elif role == _FAILED and not worked:
                out[FAILED] += 1
                if _find(channels, failed_on, channel) < 0:
                    channels[failed_on] = channel
                    failed_on += 1
                if newest_failure < 0:
                    newest_failure = i
                    out[SINCE_FAILED] = age / 1000.0

        transferred = flags & CONTINUATION != 0
        starts = role == _CONTACT and way != _OUTBOUND and not transferred
        if starts and (at < 0 or told_of[at] & _TOLD_CONTACT == 0):
            if at >= 0:
                told_of[at] |= _TOLD_CONTACT
            intent = known_intent
            if intent == 0 and at >= 0:
                intent = told_intent[at]
            if age < w_repeat and intent != 0:
                found = _find(intents, different, intent)
                if found < 0:
                    found = different
                    intents[found] = intent
                    contacts[found] = 0
                    different += 1
                contacts[found] += 1
                firsts[found] = i
            if age < w_unresolved:
                over = age >= _LEFT_ALONE or (at >= 0 and told_of[at] & _TOLD_UNRESOLVED != 0)
                fine = at >= 0 and told_of[at] & _TOLD_RESOLVED != 0
                if fine and intent != 0 and _find(resolved_intents, resolved, intent) < 0:
                    resolved_intents[resolved] = intent  # known from another event of the contact
                    resolved += 1
                fine = fine or (intent != 0 and _find(resolved_intents, resolved, intent) >= 0)
                if over and not fine:
                    out[UNRESOLVED] += 1

        if role == _ANSWER or made_good:
            if at >= 0:
                told_of[at] |= _TOLD_ANSWERED
            else:
                answered_alone = True
        elif role == _QUESTION and age < w_unresolved:
            answered = told_of[at] & _TOLD_ANSWERED != 0 if at >= 0 else answered_alone
            if not answered:
                out[UNANSWERED] += 1

        if age < w_hops and way == _INBOUND and channel != 0:
            if hop_channel != 0 and hop_channel != channel:  # noqa: PLR1714  numba
                out[HOPS] += 1
            hop_channel = channel

        if age < w_mood:
            mood = fields.sentiment(words, i)
            if mood != NO_SENTIMENT:
                moods[felt] = mood
                felt += 1
                signs += 1
                positive += mood >= _STRONG
                negative += mood <= -_STRONG
            elif role == _COMPLAINT:
                signs += 1
                negative += 1

    best = -1
    for j in range(different):
        if best < 0 or contacts[j] > contacts[best]:
            best = j
    if best >= 0:
        out[REPEATS] = contacts[best]
        out[REPEAT_INTENT] = intents[best]
    if felt > 0:
        out[MOOD] = moods[: min(felt, 3)].sum() / (100.0 * min(felt, 3))
    if felt > 1:
        half = felt // 2
        newer = moods[:half].sum() / half
        older = moods[half:felt].sum() / (felt - half)
        out[MOOD_TREND] = (newer - older) / 100.0
    if signs >= 3:
        loves, hates = 4 * positive >= signs, 4 * negative >= signs
        if loves and hates:
            out[RELATIONSHIP] = 4
        elif 5 * positive >= 2 * signs:
            out[RELATIONSHIP] = 2
        elif 5 * negative >= 2 * signs:
            out[RELATIONSHIP] = 3
        else:
            out[RELATIONSHIP] = 1
    if newest_age >= 0:
        if newest_age >= w_lapsed:
            out[STAGE] = 6
        elif purchases == 0:
            out[STAGE] = 1
        elif oldest_age < _NEW:
            out[STAGE] = 2
        elif 2 * recent < before:
            out[STAGE] = 5
        elif 2 * recent > 3 * before:
            out[STAGE] = 3
        else:
            out[STAGE] = 4
    numbers[0], numbers[1], numbers[3] = different, newest_failure, failed_on
    numbers[2] = firsts[best] if best >= 0 else -1
    at = _HEAD
    for listed, count in ((intents, different), (contacts, different), (channels, failed_on)):
        numbers[at : at + count] = listed[:count]
        at += count
    return at


def read(records: Records, now: int, lens: Lens) -> Journey:
    """Read the facts off a timeline at a moment.

    Args:
        records: The timeline, in order. Events later than ``now`` are not seen.
        now: The moment, in milliseconds.
        lens: From :meth:`Lens.of`.
    """
    values = np.empty(_FACTS)
    numbers = np.empty(room(len(records)), np.int64)
    end = read_into(fields.words(records), now, lens.words, values, numbers)
    return told(values, numbers[:end].tolist())


def room(events: int) -> int:
    """How many numbers :func:`read_into` may write of a timeline of so many events."""
    return _HEAD + 3 * events


def told(values: Floats, numbers: Sequence[int]) -> Journey:
    """What :func:`read_into` wrote, as facts."""
    different, failure, first, _, *lists = numbers
    by_intent = dict(zip(lists[:different], lists[different : 2 * different], strict=True))
    return Journey(values, by_intent, failure, first, lists[2 * different :])
