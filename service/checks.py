"""Check what callers send, field by field; every complaint names field, value and remedy. Pure."""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from google.protobuf import struct_pb2, timestamp_pb2
from google.protobuf.message import DecodeError, Message

from features.duration import DAY, MINUTE
from features.profile import Value
from features.vocabulary import Attribute
from service.errors import InvalidRequest, Violation, invalid

SKEW: Final = 5 * MINUTE
"""How far ahead of ours a caller's clock may be."""

LATE: Final = 30 * DAY
"""How late an event may come in without scope `import`."""

EARLIEST: Final = 631_152_000_000  # 1990-01-01
SHORT: Final = 128
_HINTS: Final = 4
LONGEST_VALUE: Final = 256

M = TypeVar("M", bound=Message)


def parsed(sent: bytes, parse: Callable[[bytes], M]) -> M:
    """The message that was sent, without fields that no check covers: they would be logged whole.

    Raises:
        InvalidRequest: The bytes are no message of the kind.
    """
    try:
        request = parse(sent)
    except DecodeError as error:
        raise invalid("request", "is no message of this method; see the API") from error
    request.DiscardUnknownFields()
    return request


class Checks:
    """Collects violations of one message.

    Args:
        at: Path of the message, such as ``events[3].``; empty for the request itself.
    """

    def __init__(self, at: str = "") -> None:
        self._at = at
        self.violations: list[Violation] = []

    def wrong(self, field: str, description: str) -> None:
        """Note one wrong field."""
        self.violations.append(Violation(self._at + field, description))

    def _near(self, name: str, known: tuple[str, ...]) -> str | None:
        """The nearest known name, for the first few mistakes: looking for it takes a while."""
        return _nearest(name[:SHORT], known) if len(self.violations) < _HINTS else None

    def finish(self) -> None:
        """Raise what was collected.

        Raises:
            InvalidRequest: Something was.
        """
        if self.violations:
            raise InvalidRequest(self.violations)

    def text(self, field: str, value: str, *, required: bool = False, most: int = SHORT) -> str:
        """Check a free text; give it back."""
        if required and not value.strip():
            self.wrong(field, f"is absent; send 1 to {most} characters")
        elif len(value) > most:
            self.wrong(field, f"has {len(value)} characters; send at most {most}")
        elif "\x00" in value:
            self.wrong(field, "holds a NUL character; leave it out")
        return value

    def code(
        self, field: str, value: str, known: Mapping[str, int], *, required: bool = False
    ) -> int:
        """Check a declared name; give its code, 0 where it is absent or wrong."""
        if not value:
            if required:
                self.wrong(field, f"is absent; send one of: {_some(known)}")
            return 0
        if value not in known:
            near = self._near(value, tuple(known))
            hint = f"did you mean {near!r}?" if near else f"send one of: {_some(known)}"
            self.wrong(field, f"{value[:SHORT]!r} is not declared; {hint}")
            return 0
        return known[value]

    def enumerated(self, field: str, value: int, known: Iterable[int]) -> int:
        """Check an enum's number, which proto3 lets be anything."""
        if value not in known:
            self.wrong(field, f"{value} is no value of this enum; see the API")
            return 0
        return value

    def finite(self, field: str, value: float, least: float, most: float) -> float:
        """Check a number and its range."""
        if not math.isfinite(value):
            self.wrong(field, f"{value} is not finite; leave the field out where it is not known")
            return 0.0
        if not least <= value <= most:
            self.wrong(field, f"{value:g} is out of range; send {least:g} to {most:g}")
            return 0.0
        return value

    def moment(
        self, field: str, message: Any, name: str, now: int, *, past: bool, required: bool = True
    ) -> int | None:
        """Check a timestamp; give its milliseconds, None where it is absent or wrong.

        Args:
            field: Its path, for the complaint.
            message: That holds it.
            name: Of the field in the message.
            now: Milliseconds.
            past: Whether it may lie in the far past.
            required: Whether it must be there.
        """
        if not message.HasField(name):
            if required:
                self.wrong(field, "is absent; send when it happened")
            return None
        stamp: timestamp_pb2.Timestamp = getattr(message, name)
        if not 0 <= stamp.nanos < 1_000_000_000:
            self.wrong(field, f"has {stamp.nanos} nanos; send 0 to 999,999,999")
            return None
        ms = stamp.seconds * 1000 + stamp.nanos // 1_000_000
        if ms > now + SKEW:
            self.wrong(
                field,
                f"lies {(ms - now) / 1000:.0f} s in the future; "
                "check the clock and the unit (seconds since 1970)",
            )
            return None
        if ms < EARLIEST:
            self.wrong(
                field, f"{ms / 1000:.0f} s is before 1990; check the unit (seconds since 1970)"
            )
            return None
        if not past and ms < now - LATE:
            self.wrong(
                field,
                f"lies {(now - ms) / DAY:.0f} days in the past, more than {LATE // DAY}; "
                "only callers with scope 'import' may send older events",
            )
            return None
        return ms

    def value(
        self, field: str, value: struct_pb2.Value, declared: Attribute | None, known: Iterable[str]
    ) -> Value | None:
        """Check a declared attribute or context value; None where it is null or wrong."""
        if declared is None:
            names = tuple(known)
            near = self._near(field.rpartition(".")[2], names)
            hint = f"did you mean {near!r}?" if near else f"known: {_some(names)}"
            self.wrong(field, f"is not declared; {hint}")
            return None
        kind = value.WhichOneof("kind")
        if kind in (None, "null_value"):
            return None
        wanted = {"number": "number_value", "flag": "bool_value", "category": "string_value"}
        if kind != wanted[declared.kind]:
            self.wrong(
                field,
                f"is a {(kind or '').removesuffix('_value')}, and is declared as a "
                f"{declared.kind}; send {wanted[declared.kind]}",
            )
            return None
        if kind == "number_value":
            return self.finite(field, value.number_value, -1e15, 1e15)
        if kind == "bool_value":
            return value.bool_value
        self.code(field, value.string_value, declared.values, required=True)
        return value.string_value


@functools.lru_cache(1_024)  # a batch repeats its mistake, and a search takes half a millisecond
def _nearest(name: str, known: tuple[str, ...]) -> str | None:
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:12]) + (", ..." if len(listed) > 12 else "") or "none is declared"
