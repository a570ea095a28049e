"""A customer's slow attributes and consents, with unknown, missing and stale kept apart. Pure.

Stored as the timeline's header followed by msgpack. An attribute that was never told is unknown;
one that was asked for and does not exist is missing; one that was told too long ago is stale.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from typing import Final

import msgspec

from features.record import HEADER, MAGIC, NEVER, LogId
from features.vocabulary import Attribute

Value = float | bool | str


class State(enum.IntEnum):
    """How far an attribute can be trusted; the number is the feature."""

    known = 0
    stale = 1
    missing = 2
    unknown = 3


class Told(msgspec.Struct, frozen=True, array_like=True, gc=False):  # holds nothing but values
    """An attribute as it was last written; the value None is missing."""

    value: Value | None
    updated_at: int


class Consent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A permission for a purpose, on one channel or (empty) on all that have none of their own."""

    purpose: str
    channel: str
    granted: bool
    updated_at: int


class Profile(msgspec.Struct, frozen=True):
    """Everything that is kept of a customer besides their events."""

    attributes: dict[str, Told] = {}
    consents: list[Consent] = []

    def state(self, name: str, declared: Attribute, now: int) -> State:
        """Say how far the attribute can be trusted at ``now`` (milliseconds)."""
        told = self.attributes.get(name)
        if told is None:
            return State.unknown
        if told.value is None:
            return State.missing
        limit = declared.stale_after_ms
        if limit is not None and now - told.updated_at > limit:
            return State.stale
        return State.known

    def granted(self, purpose: str, channel: str) -> bool:
        """Whether the customer consents. Nothing said means no; the channel's own entry wins."""
        here = anywhere = None
        for consent in self.consents:
            if consent.purpose != purpose:
                continue
            if consent.channel == channel:
                here = consent.granted
            elif not consent.channel:
                anywhere = consent.granted
        return bool(anywhere if here is None else here)

    @property
    def newest(self) -> int:
        """When the newest of it was told, in milliseconds; 0 for an empty one."""
        newest = 0  # every decision asks: a loop takes half as long as a list and max
        for told in self.attributes.values():
            if told.updated_at > newest:  # noqa: PLR1730  max() is a call
                newest = told.updated_at
        for said in self.consents:
            if said.updated_at > newest:  # noqa: PLR1730
                newest = said.updated_at
        return newest

    def as_of(self, moment: int) -> Profile:
        """What of this profile had been told by ``moment``; the values before are not kept."""
        if self.newest <= moment:
            return self
        attributes = {
            name: told for name, told in self.attributes.items() if told.updated_at <= moment
        }
        consents = [one for one in self.consents if one.updated_at <= moment]
        return Profile(attributes, consents)

    def changed(
        self, attributes: Mapping[str, Value | None], consents: list[Consent], now: int
    ) -> Profile:
        """This profile with some attributes and consents told at ``now``.

        What was told later stays: an import of history does not undo the present.
        """
        written = {
            name: Told(value, now)
            for name, value in attributes.items()
            if name not in self.attributes or self.attributes[name].updated_at <= now
        }
        said = {(one.purpose, one.channel): one for one in self.consents}
        for one in consents:
            before = said.get((one.purpose, one.channel))
            if before is None or before.updated_at <= one.updated_at:
                said[one.purpose, one.channel] = one
        return Profile(self.attributes | written, list(said.values()))


EMPTY: Final = Profile()

_HEADER: Final = HEADER.itemsize
_decode = msgspec.msgpack.Decoder(Profile).decode
_last = struct.Struct("<QQ").unpack_from


def decode(stored: bytes | None) -> tuple[LogId, Profile]:
    """Read a stored profile and the id of the last log entry folded into it.

    Raises:
        ValueError: The bytes are no profile.
    """
    if not stored:
        return NEVER, EMPTY
    if stored[:8] != MAGIC:
        raise ValueError(f"{len(stored)} bytes starting {stored[:8]!r} are no profile")
    try:
        profile = _decode(stored[_HEADER:])
    except msgspec.DecodeError as error:
        raise ValueError(f"the stored profile cannot be read: {error}") from error
    return tuple.__new__(LogId, _last(stored, 8)), profile


def encode(profile: Profile) -> bytes:
    """Write the part of what :func:`decode` reads that follows the header."""
    return msgspec.msgpack.encode(profile)


def number(value: Value | None, declared: Attribute) -> float:
    """An attribute's or context value's number for the models; NaN where it has none."""
    if value is None:
        return float("nan")
    if isinstance(value, str):
        return float(declared.values.get(value, 0))
    return float(value)
