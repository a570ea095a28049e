"""What each feature means, in plain Python over plain events: slow, and sharing no code.

Only the declarations are read; nothing of ``features.plan`` or ``features.kernels`` is used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from features import definitions as declared
from features.definitions import Where
from features.record import event_hash
from features.vocabulary import Direction, Outcome
from tests.chain import VOCABULARY, Event, float32

_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def span(written: str) -> int:
    """Milliseconds of a duration."""
    unit = written.lstrip("0123456789")
    return int(written.removesuffix(unit)) * _MS[unit]


def name(event: Event, field: str) -> str | None:
    """The name that an event has in a field; None where nobody declared its code."""
    if field == "direction":
        return Direction(event.direction).name
    if field == "outcome":
        return Outcome(event.outcome).name if event.outcome <= 11 else None
    held = getattr(event, field)
    if isinstance(held, str):
        return held
    known = {
        "type": VOCABULARY.type_codes,
        "channel": VOCABULARY.channels,
        "intent": VOCABULARY.intent_codes,
        "action": VOCABULARY.actions,
    }[field]
    return next((one for one, code in known.items() if code == held), None)


def passes(event: Event, where: Where) -> bool:
    """Whether a filter lets an event through."""
    for field in ("type", "channel", "intent", "action", "outcome", "direction"):
        wanted = getattr(where, field)
        if wanted is None:
            continue
        if name(event, field) not in ([wanted] if isinstance(wanted, str) else wanted):
            return False
    if where.role is not None:
        kind = name(event, "type")
        wanted = [where.role] if isinstance(where.role, str) else where.role
        return kind is not None and VOCABULARY.types[kind].role in wanted
    return True


def newest_first(events: Sequence[Event]) -> list[Event]:
    """The events in the order of the timeline, backwards."""
    return sorted(
        events, key=lambda e: (e.at, e.sequence, event_hash("test", e.id or repr(e))), reverse=True
    )


def measured(event: Event, field: str) -> float | None:
    """A measured field; None where the event has none."""
    if field == "value":
        return None if event.value is None else float32(event.value)
    if field == "duration":
        return None if event.duration is None else float(event.duration)
    return None if event.sentiment is None else event.sentiment / 100


def coded(event: Event, field: str) -> int:
    """The code of a field; 0 where the event has none."""
    if field in ("agent", "direction", "outcome"):
        return int(getattr(event, field))
    return event.code(field)


def known(event: Event, field: str) -> bool:
    """Whether an event's code in a field is none that a later vocabulary added."""
    codes = {
        "type": VOCABULARY.type_codes,
        "channel": VOCABULARY.channels,
        "intent": VOCABULARY.intent_codes,
        "action": VOCABULARY.actions,
        "outcome": Outcome.__members__,
        "direction": Direction.__members__,
    }
    return field == "agent" or coded(event, field) <= max(codes[field].values())


def feature(one: declared.Feature, events: Sequence[Event], now: int) -> float:
    """The value of a feature over events."""
    assert isinstance(one, declared.OverEvents)
    window = math.inf if one.window is None else span(one.window)
    seen = [event for event in newest_first(events) if 0 <= now - event.at < window]
    if isinstance(one, declared.Sequence):
        return _sequences(one, seen)
    seen = [event for event in seen if passes(event, one.where)]
    ages = [(now - event.at) / 1000 for event in seen]
    match one:
        case declared.Count():
            return len(seen)
        case declared.Sum(field=field):
            return sum(x for event in seen if (x := measured(event, field)) is not None)
        case declared.Mean(field=field):
            found = [x for event in seen if (x := measured(event, field)) is not None]
            return sum(found) / len(found) if found else math.nan
        case declared.Decayed(field=weighted, half_life=half_life):
            found = []
            for event in seen:
                x = 1.0 if weighted is None else measured(event, weighted)
                if x is not None:
                    found.append(x * 2.0 ** -((now - event.at) / span(half_life)))
            return math.fsum(found)
        case declared.SinceLast():
            return ages[0] if ages else math.nan
        case declared.SinceFirst():
            return ages[-1] if ages else math.nan
        case declared.Last(field=field, back=back):
            if len(seen) <= back:
                return math.nan
            if field in ("value", "duration", "sentiment"):
                found_or_none = measured(seen[back], field)
                return math.nan if found_or_none is None else found_or_none
            return coded(seen[back], field)
        case declared.Gap(back=back):
            return ages[back + 1] - ages[back] if len(ages) > back + 1 else math.nan
        case declared.Distinct(field=field):
            codes = {coded(event, field) for event in seen if known(event, field)}
            return len(codes - {0})
        case declared.Trend(window=within):
            newer = sum(now - event.at < span(within) / 2 for event in seen)
            return newer - (len(seen) - newer)
        case declared.Run(field=field):
            run = 0
            while run < len(seen) and coded(seen[run], field) == coded(seen[0], field):
                run += 1
            return run
    raise NotImplementedError(one)


def _sequences(one: declared.Sequence, seen: Sequence[Event]) -> int:
    """Whole runs through the steps, taking each step backwards at the first event that fits."""
    times = 0
    waiting = list(one.steps)
    for event in seen:
        if passes(event, waiting[-1]):
            waiting.pop()
        if not waiting:
            times += 1
            waiting = list(one.steps)
    return times
