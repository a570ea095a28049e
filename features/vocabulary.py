"""Names and their stored codes: channels, event types, intents, actions, attributes. Pure.

Codes are written by hand in ``vocabulary.yaml`` and are append-only: a stored record holds codes,
so a code that changed its meaning would change the past. :meth:`Vocabulary.breaks` says what a new
version would break, and a server refuses to start on it.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import Final, Literal

import msgspec

from features import duration

MAX_CODE: Final = {
    "channels": 255,
    "types": 65_535,
    "intents": 65_535,
    "actions": 65_535,
    "groups": 65_535,
    "attributes": 65_535,
    "context": 65_535,
}


class Direction(enum.IntEnum):
    """Who took the first step; the codes are those of the API."""

    unspecified = 0
    inbound = 1
    outbound = 2
    internal = 3


class Outcome(enum.IntEnum):
    """What became of an action or contact; the codes are those of the API."""

    none = 0
    generated = 1
    presented = 2
    clicked = 3
    accepted = 4
    rejected = 5
    dismissed = 6
    overridden = 7
    no_response = 8
    converted = 9
    resolved = 10
    repeat_contact = 11


class Role(enum.IntEnum):
    """What an event type means for the journey, whatever a business calls it."""

    other = 0
    contact = 1  # a conversation with us begins
    self_service_failed = 2
    self_service_completed = 3
    resolved = 4  # a need was met
    unresolved = 5  # a contact ended without that
    question = 6
    answer = 7
    complaint = 8
    purchase = 9


class Type(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An event type."""

    code: int
    role: Literal[
        "other",
        "contact",
        "self_service_failed",
        "self_service_completed",
        "resolved",
        "unresolved",
        "question",
        "answer",
        "complaint",
        "purchase",
    ] = "other"


class Intent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A reason to be here, with the words an agent reads."""

    code: int
    title: str


class Attribute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A profile attribute or context value. A category lists its values with their codes."""

    code: int
    kind: Literal["number", "flag", "category"]
    values: dict[str, int] = {}
    stale_after: str | None = None

    def __post_init__(self) -> None:
        if (self.kind == "category") != bool(self.values):
            raise ValueError("`values` go with kind category, and only with it")
        if self.stale_after is not None:
            duration.milliseconds(self.stale_after)

    @property
    def stale_after_ms(self) -> int | None:
        """Milliseconds after which a value is stale; None: never."""
        return None if self.stale_after is None else duration.milliseconds(self.stale_after)


class Namespace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A kind of identifier and how its case and spacing are evened out.

    ``phone`` keeps digits and reads ``00`` as ``+``; a number without its country stays as it is.
    """

    normalise: Literal["exact", "lower", "digits", "phone"] = "exact"


class Vocabulary(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """All names of a business. Codes start at 1; 0 means absent."""

    channels: dict[str, int]
    types: dict[str, Type]
    intents: dict[str, Intent] = {}
    actions: dict[str, int] = {}
    groups: dict[str, int] = {}
    attributes: dict[str, Attribute] = {}
    context: dict[str, Attribute] = {}
    purposes: list[str] = []
    namespaces: dict[str, Namespace] = {}

    def __post_init__(self) -> None:
        for name in self.namespaces:
            if ":" in name:
                raise ValueError(f"namespaces.{name}: leave out the colon; it ends the name")
        for field, codes in self._codes().items():
            owner: dict[int, str] = {}
            for name, code in codes.items():
                if not 1 <= code <= MAX_CODE[field.split(".")[0]]:
                    raise ValueError(
                        f"{field}.{name}: code {code} is out of range; use 1 to "
                        f"{MAX_CODE[field.split('.')[0]]}"
                    )
                if code in owner:
                    raise ValueError(
                        f"{field}.{name}: code {code} is taken by {owner[code]!r}; "
                        f"the next free one is {max(codes.values()) + 1}"
                    )
                owner[code] = name

    def _codes(self) -> dict[str, Mapping[str, int]]:
        codes: dict[str, Mapping[str, int]] = {
            "channels": self.channels,
            "types": {name: kind.code for name, kind in self.types.items()},
            "intents": {name: intent.code for name, intent in self.intents.items()},
            "actions": self.actions,
            "groups": self.groups,
        }
        for field, attributes in (("attributes", self.attributes), ("context", self.context)):
            codes[field] = {name: attribute.code for name, attribute in attributes.items()}
            for name, attribute in attributes.items():
                if attribute.values:
                    codes[f"{field}.{name}.values"] = attribute.values
        return codes

    @cached_property
    def type_codes(self) -> Mapping[str, int]:
        """Code of each event type."""
        return self._codes()["types"]

    @cached_property
    def intent_codes(self) -> Mapping[str, int]:
        """Code of each intent."""
        return self._codes()["intents"]

    @cached_property
    def names(self) -> Mapping[str, Mapping[int, str]]:
        """Names by code, for ``channels``, ``types``, ``intents`` and ``actions``."""
        return {
            field: {code: name for name, code in codes.items()}
            for field, codes in self._codes().items()
        }

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that change when any name or code does."""
        written = msgspec.json.encode(self, order="sorted")
        return hashlib.blake2b(written, digest_size=8).hexdigest()

    def breaks(self, newer: Vocabulary) -> list[str]:
        """Say how ``newer`` would change the meaning of what this vocabulary has stored.

        Returns:
            One sentence for each name that went, or changed its code or kind; empty where all is
            well.
        """
        problems = []
        theirs = newer._codes()
        for field, codes in self._codes().items():
            for name, code in codes.items():
                now = theirs.get(field, {}).get(name)
                if now is None:
                    problems.append(f"{field}.{name} (code {code}) is gone; put it back")
                elif now != code:
                    problems.append(f"{field}.{name} was code {code} and is {now}; put it back")
        for name, declared in self.attributes.items():
            other = newer.attributes.get(name)
            if other is not None and other.kind != declared.kind:
                problems.append(
                    f"attributes.{name} was a {declared.kind} and is a {other.kind}; put it back, "
                    "and give the other a name of its own"
                )
        return problems
