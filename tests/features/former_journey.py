"""The journey facts as they were read before events were words: the same to the bit."""

from __future__ import annotations

from typing import Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from features import duration
from features.definitions import JourneyWindows
from features.elementary import Floats
from features.journey import (
    FACTS,
    FAILED,
    HOPS,
    MOOD,
    MOOD_TREND,
    RELATIONSHIP,
    REPEAT_INTENT,
    REPEATS,
    SINCE_FAILED,
    STAGE,
    UNANSWERED,
    UNRESOLVED,
    Journey,
)
from features.kernels import Integers
from features.record import CONTINUATION, DIRECTION, NO_SENTIMENT, Records
from features.vocabulary import Direction, Outcome, Role, Vocabulary


class Lens(NamedTuple):
    """What the facts need of the configuration."""

    roles: Integers  # [type codes + 2]
    windows: Integers  # [6] milliseconds, in the order of JourneyWindows

    @classmethod
    def of(cls, vocabulary: Vocabulary, windows: JourneyWindows) -> Lens:
        """Compile the roles of the vocabulary's event types and the windows."""
        roles = np.zeros(max(vocabulary.type_codes.values()) + 2, np.int64)
        for kind in vocabulary.types.values():
            roles[kind.code] = Role[kind.role]
        spans = [
            duration.milliseconds(getattr(windows, field)) for field in windows.__struct_fields__
        ]
        return cls(roles, np.array(spans, np.int64))


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


@numba.njit(cache=True)
def _find(values: npt.NDArray[np.int64], count: int, wanted: int) -> int:
    for i in range(count):
        if values[i] == wanted:
            return i
    return -1


@numba.njit(cache=True)
def _read(  # noqa: PLR0915  as it was
    records: Records, now: int, lens: Lens, out: Floats, intents: Integers, contacts: Integers
) -> tuple[int, int, int]:
    """Fill ``out`` [facts] and the contacts by intent; give their number and two indexes."""
    n = records.shape[0]
    w_failed, w_repeat, w_hops = lens.windows[0], lens.windows[1], lens.windows[2]
    w_unresolved, w_mood, w_lapsed = lens.windows[3], lens.windows[4], lens.windows[5]
    out[:] = 0.0
    out[SINCE_FAILED] = out[MOOD] = out[MOOD_TREND] = np.nan
    # What later events told about an interaction, by its hash.
    told = np.empty(n, np.int64)
    told_intent = np.zeros(n, np.int64)
    told_contact = np.zeros(n, np.int64)  # 1: counted
    told_resolved = np.zeros(n, np.int64)
    told_unresolved = np.zeros(n, np.int64)
    told_answered = np.zeros(n, np.int64)
    tellings = 0
    resolved_intents = np.empty(n, np.int64)
    resolved = 0
    answered_alone = False
    firsts = np.full(n, -1, np.int64)
    different = 0
    newest_failure = -1
    worked = False
    hop_channel = 0
    moods = np.empty(n, np.int64)
    felt = 0
    positive = negative = signs = 0
    purchases = recent = before = 0
    oldest_age = newest_age = -1
    for i in range(n - 1, -1, -1):
        record = records[i]
        age = now - record.occurred_at
        if age < 0:
            continue
        if newest_age < 0:
            newest_age = age
        oldest_age = age
        role = lens.roles[min(record.type, lens.roles.shape[0] - 1)]
        way = record.flags & DIRECTION
        if age < _MONTH:
            recent += 1
        elif age < 2 * _MONTH:
            before += 1
        if role == _PURCHASE:
            purchases += 1

        at = -1
        if record.interaction != 0:
            at = _find(told, tellings, record.interaction)
            if at < 0:
                at = tellings
                told[at] = record.interaction
                tellings += 1
            if told_intent[at] == 0:
                told_intent[at] = record.intent
        made_good = role == _RESOLVED or record.outcome == _OUTCOME_RESOLVED
        if made_good:
            if at >= 0:
                told_resolved[at] = 1
            if record.intent != 0:
                resolved_intents[resolved] = record.intent
                resolved += 1
        if at >= 0 and role == _UNRESOLVED:
            told_unresolved[at] = 1

        if age < w_failed:
            if made_good or role == _COMPLETED:
                worked = True
            elif role == _FAILED and not worked:
                out[FAILED] += 1
                if newest_failure < 0:
                    newest_failure = i
                    out[SINCE_FAILED] = age / 1000.0

        transferred = record.flags & CONTINUATION != 0
        starts = role == _CONTACT and way != _OUTBOUND and not transferred
        if starts and (at < 0 or told_contact[at] == 0):
            if at >= 0:
                told_contact[at] = 1
            intent = record.intent
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
                over = age >= _LEFT_ALONE or (at >= 0 and told_unresolved[at] == 1)
                fine = at >= 0 and told_resolved[at] == 1
                if fine and intent != 0 and _find(resolved_intents, resolved, intent) < 0:
                    resolved_intents[resolved] = intent  # known from another event of the contact
                    resolved += 1
                fine = fine or (intent != 0 and _find(resolved_intents, resolved, intent) >= 0)
                if over and not fine:
                    out[UNRESOLVED] += 1

        if role == _ANSWER or made_good:
            if at >= 0:
                told_answered[at] = 1
            else:
                answered_alone = True
        elif role == _QUESTION and age < w_unresolved:
            answered = told_answered[at] == 1 if at >= 0 else answered_alone
            if not answered:
                out[UNANSWERED] += 1

        if age < w_hops and way == _INBOUND and record.channel != 0:
            if hop_channel != 0 and hop_channel != record.channel:  # noqa: PLR1714  numba
                out[HOPS] += 1
            hop_channel = record.channel

        if age < w_mood:
            if record.sentiment != NO_SENTIMENT:
                moods[felt] = record.sentiment
                felt += 1
                signs += 1
                positive += record.sentiment >= _STRONG
                negative += record.sentiment <= -_STRONG
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
    return different, newest_failure, firsts[best] if best >= 0 else -1


def read(records: Records, now: int, lens: Lens) -> Journey:
    """Read the facts off a timeline at a moment.

    Args:
        records: The timeline, in order. Events later than ``now`` are not seen.
        now: The moment, in milliseconds.
        lens: From :meth:`Lens.of`.
    """
    values = np.empty(len(FACTS))
    intents = np.empty(len(records), np.int64)
    contacts = np.empty(len(records), np.int64)
    different, failure, first = _read(records, now, lens, values, intents, contacts)
    by_intent = dict(zip(intents[:different].tolist(), contacts[:different].tolist(), strict=True))
    return Journey(values, by_intent, failure, first)
