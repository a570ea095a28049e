"""Features that no event tells: profile, context and clock. Pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from features import definitions as declared
from features.clock import Clock
from features.elementary import Floats
from features.profile import Profile, State, Value
from features.vocabulary import Vocabulary

_NONE: Final = np.zeros(0)
_NONE.flags.writeable = False


class Context(NamedTuple):
    """What the caller says of the contact; codes from the vocabulary, 0 where absent."""

    channel: int = 0
    direction: int = 0
    values: Mapping[str, Value] = {}


class Beside:
    """The features of a customer that are neither over events nor journey facts.

    Args:
        features: All of the customer's; names are declared.
        vocabulary: What they name.
        zone: Of the clock.
    """

    def __init__(
        self, features: Sequence[declared.Feature], vocabulary: Vocabulary, zone: ZoneInfo
    ) -> None:
        beside = [
            one for one in features if not isinstance(one, declared.OverEvents | declared.Journey)
        ]
        self._clock = Clock(zone)
        self._format = f"<{len(beside)}d"  # a Struct cannot go to another process
        self._blank = [float("nan")] * len(beside)
        self._values: list[tuple[int, str, Mapping[str, int]]] = []
        self._states: list[tuple[int, str, int | None]] = []
        self._ages: list[tuple[int, str]] = []
        self._said: list[tuple[int, str, Mapping[str, int]]] = []
        self._contact: list[tuple[int, int]] = []  # 0: the channel, 1: the direction
        self._times: list[tuple[int, int]] = []  # with the place in a local time
        for at, one in enumerate(beside):
            match one:
                case declared.Profile(attribute=name, part="value"):
                    self._values.append((at, name, vocabulary.attributes[name].values))
                case declared.Profile(attribute=name, part="state"):
                    self._states.append((at, name, vocabulary.attributes[name].stale_after_ms))
                    self._blank[at] = float(State.unknown)
                case declared.Profile(attribute=name):
                    self._ages.append((at, name))
                case declared.Context(field="channel" | "direction" as field):
                    self._contact.append((at, int(field == "direction")))
                case declared.Context(field=name):
                    self._said.append((at, name, vocabulary.context[name].values))
                case declared.Clock(field=field):
                    fields = ("hour_of_day", "minute_of_day", "day_of_week")
                    self._times.append((at, fields.index(field)))

    def told(self, profile: Profile, context: Context, now: int) -> Floats:
        """One number for each of them, in the order they are declared; NaN where there is none.

        Args:
            profile: As known at ``now``.
            context: What the caller says.
            now: Milliseconds since 1970-01-01 UTC.
        """
        if not self._blank:
            return _NONE
        numbers: list[float] = self._blank.copy()
        attributes = profile.attributes
        for at, name, codes in self._values:
            told = attributes.get(name)
            if told is not None:
                value = told.value
                if value is not None:
                    numbers[at] = codes.get(value, 0) if isinstance(value, str) else value
        for at, name, stale_after in self._states:
            told = attributes.get(name)
            if told is None:
                continue
            if told.value is None:
                numbers[at] = State.missing
            else:
                stale = stale_after is not None and now - told.updated_at > stale_after
                numbers[at] = State.stale if stale else State.known
        for at, name in self._ages:
            told = attributes.get(name)
            if told is not None:
                numbers[at] = (now - told.updated_at) / 1000.0
        for at, name, codes in self._said:
            value = context.values.get(name)
            if value is not None:
                numbers[at] = codes.get(value, 0) if isinstance(value, str) else value
        contact = (context.channel, context.direction)
        for at, place in self._contact:
            numbers[at] = contact[place]
        if self._times:
            local = self._clock(now)
            for at, place in self._times:
                numbers[at] = local[place]
        return np.frombuffer(struct.pack(self._format, *numbers), np.float64)
