"""A timeline page by page: what a caller asks to see of it, and how an event is told. Pure."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.record import CONTINUATION, DIRECTION, NO_DURATION, NO_SENTIMENT, Records
from features.vocabulary import Vocabulary
from rapport.v1 import customer_pb2 as pb
from service import answers
from service.checks import Checks
from service.errors import invalid

_PAGE: Final = 50
_MAX_PAGE: Final = 512
_MAX_NAMES: Final = 64

Place = tuple[int, int, int]
"""Where an event stands in its timeline: the order of a timeline's set."""


class Wanted(NamedTuple):
    """What is asked for."""

    types: list[int]  # codes; none is all of them
    channels: list[int]
    since: int | None  # milliseconds, held
    until: int | None  # not held
    before: Place | None  # the last event of the page before
    size: int


def wanted(checks: Checks, request: pb.GetTimelineRequest, vocabulary: Vocabulary) -> Wanted:
    """Read a request.

    Raises:
        InvalidRequest: It names too many types or channels to look at each.
    """
    size = request.page_size or _PAGE
    if size > _MAX_PAGE:
        checks.wrong("page_size", f"{size} is out of range; send 1 to {_MAX_PAGE}")
    for field in ("types", "channels"):
        if len(getattr(request, field)) > _MAX_NAMES:
            raise invalid(field, f"has too many entries; send at most {_MAX_NAMES}")
    types = [
        checks.code(f"types[{i}]", name, vocabulary.type_codes, required=True)
        for i, name in enumerate(request.types)
    ]
    channels = [
        checks.code(f"channels[{i}]", name, vocabulary.channels, required=True)
        for i, name in enumerate(request.channels)
    ]
    return Wanted(
        types,
        channels,
        answers.milliseconds(request.since) if request.HasField("since") else None,
        answers.milliseconds(request.until) if request.HasField("until") else None,
        _place(checks, request.page_token),
        size,
    )


def page(asked: Wanted, records: Records) -> tuple[NDArray[np.intp], str]:
    """Rows of the events of a page, newest first, and the token of the next; empty for none."""
    chosen = np.ones(len(records), bool)
    if asked.types:
        chosen &= np.isin(records["type"], asked.types)
    if asked.channels:
        chosen &= np.isin(records["channel"], asked.channels)
    if asked.since is not None:
        chosen &= records["occurred_at"] >= asked.since
    if asked.until is not None:
        chosen &= records["occurred_at"] < asked.until
    kept = np.flatnonzero(chosen)[::-1]
    if asked.before is not None:
        places = [_place_of(records[i]) for i in kept]
        kept = kept[[i for i, place in enumerate(places) if place < asked.before]]
    rows = kept[: asked.size]
    return rows, "" if len(kept) <= asked.size else _token(_place_of(records[rows[-1]]))


def event(record: Any, vocabulary: Vocabulary) -> pb.TimelineEvent:
    """An event as the API tells it."""
    names = vocabulary.names
    told = pb.TimelineEvent(
        event_hash=f"{int(record['hash']):016x}",
        occurred_at=answers.timestamp(int(record["occurred_at"])),
        sequence=int(record["sequence"]),
        type=names["types"].get(int(record["type"]), ""),
        channel=names["channels"].get(int(record["channel"]), ""),
        direction=int(record["flags"]) & DIRECTION,  # type: ignore[arg-type]
        intent=names["intents"].get(int(record["intent"]), ""),
        action=names["actions"].get(int(record["action"]), ""),
        outcome=int(record["outcome"]),  # type: ignore[arg-type]
        continuation=bool(int(record["flags"]) & CONTINUATION),
    )
    if not np.isnan(record["value"]):
        told.value = float(record["value"])
    if record["duration"] != NO_DURATION:
        told.duration_seconds = int(record["duration"])
    if record["sentiment"] != NO_SENTIMENT:
        told.sentiment = int(record["sentiment"]) / 100
    return told


def _place_of(record: Any) -> Place:
    return int(record["occurred_at"]), int(record["sequence"]), int(record["hash"])


def _token(place: Place) -> str:
    return "-".join(f"{part:x}" for part in place)


def _place(checks: Checks, token: str) -> Place | None:
    if not token:
        return None
    try:
        moment, sequence, hash = (int(part, 16) for part in token.split("-"))
    except ValueError:
        checks.wrong("page_token", f"{token[:64]!r} is none; send that of the answer before")
        return None
    return moment, sequence, hash
