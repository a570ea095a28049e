"""Profiles as messages: what a caller asks to change, what is answered and what is logged. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from google.protobuf import struct_pb2

from features.profile import Profile, Value
from features.record import LogId
from features.vocabulary import Vocabulary
from rapport.v1 import customer_pb2 as pb
from rapport.v1 import log_pb2
from service import answers
from service.callers import Caller
from service.checks import Checks
from service.identity import News

_MAX_CONSENTS: Final = 64
_MAX_PATHS: Final = 128


class Kept(NamedTuple):
    """A profile as the store keeps it."""

    customer_id: str  # the root, where customers were merged
    id: LogId  # its version
    profile: Profile


def told(kept: Kept, vocabulary: Vocabulary, now: int) -> pb.Profile:
    """A profile as the API tells it: every declared attribute, also where nothing is known."""
    profile = kept.profile
    built = pb.Profile(customer_id=kept.customer_id, version=answers.log_id(kept.id))
    for name, declared in vocabulary.attributes.items():
        state = profile.state(name, declared, now)
        attribute = pb.Attribute(state=int(state) + 1)  # type: ignore[arg-type]
        known = profile.attributes.get(name)
        if known is not None:
            attribute.updated_at.CopyFrom(answers.timestamp(known.updated_at))
            if known.value is not None:
                attribute.value.CopyFrom(_value(known.value))
        built.attributes[name].CopyFrom(attribute)
    for one in profile.consents:
        built.consents.add(
            purpose=one.purpose,
            channel=one.channel,
            granted=one.granted,
            updated_at=answers.timestamp(one.updated_at),
        )
    return built


def changes(
    checks: Checks, request: pb.UpdateProfileRequest, vocabulary: Vocabulary
) -> tuple[dict[str, Value | None], list[log_pb2.ConsentChanged]]:
    """Attributes and consents that a request is to change, as its mask says or as it sets them."""
    named = [f"attributes.{name}" for name in request.attributes]
    named += ["consents"] if request.consents else []
    paths = list(request.update_mask.paths) if request.HasField("update_mask") else named
    if not paths:
        checks.wrong("update_mask", "is absent and nothing is to change; name a field")
    if len(paths) > _MAX_PATHS:
        checks.wrong("update_mask", f"has {len(paths)} paths; send at most {_MAX_PATHS}")
        paths = []
    attributes: dict[str, Value | None] = {}
    consents: list[log_pb2.ConsentChanged] = []
    for i, path in enumerate(dict.fromkeys(paths)):
        kind, _, name = path.partition(".")
        if path == "consents":
            consents = _consents(checks, request, vocabulary)
        elif kind == "attributes" and name:
            sent = request.attributes.get(name, struct_pb2.Value(null_value=0))  # type: ignore[arg-type]
            declared = vocabulary.attributes.get(name)
            attributes[name] = checks.value(path[:80], sent, declared, vocabulary.attributes)
        else:
            checks.wrong(
                f"update_mask.paths[{i}]",
                f"{path[:80]!r} is no field; send 'attributes.NAME' or 'consents'",
            )
    return attributes, consents


def _consents(
    checks: Checks, request: pb.UpdateProfileRequest, vocabulary: Vocabulary
) -> list[log_pb2.ConsentChanged]:
    if len(request.consents) > _MAX_CONSENTS:
        checks.wrong("consents", f"has {len(request.consents)} entries; at most {_MAX_CONSENTS}")
        return []
    purposes = dict.fromkeys(vocabulary.purposes, 1)
    for i, one in enumerate(request.consents):
        checks.code(f"consents[{i}].purpose", one.purpose, purposes, required=True)
        checks.code(f"consents[{i}].channel", one.channel, vocabulary.channels)
    return [
        log_pb2.ConsentChanged(purpose=one.purpose, channel=one.channel, granted=one.granted)
        for one in request.consents
    ]


def entry(customer_id: str, news: News, caller: Caller) -> bytes:
    """The log entry of a change."""
    written = log_pb2.LogEntry(
        customer_id=customer_id,
        profile=log_pb2.ProfileChanged(
            attributes={name: _value(value) for name, value in news.attributes.items()},
            consents=[
                log_pb2.ConsentChanged(purpose=c.purpose, channel=c.channel, granted=c.granted)
                for c in news.consents
            ],
            updated_at=answers.timestamp(news.moment),
            caller=caller.name,
        ),
    )
    return written.SerializeToString()


def _value(value: Value | None) -> struct_pb2.Value:
    if value is None:
        return struct_pb2.Value(null_value=0)  # type: ignore[arg-type]
    if isinstance(value, bool):
        return struct_pb2.Value(bool_value=value)
    if isinstance(value, str):
        return struct_pb2.Value(string_value=value)
    return struct_pb2.Value(number_value=value)
