"""CustomerService: messages to the domain and back, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

import grpc
import numpy as np
from google.protobuf import struct_pb2

from features import profile as profiles
from features.profile import Consent, Profile, Value
from features.record import CONTINUATION, DIRECTION, NO_DURATION, NO_SENTIMENT, LogId, decode
from rapport.v1 import customer_pb2 as pb
from rapport.v1 import customer_pb2_grpc, event_pb2, log_pb2
from service import answers, callers, identity, intake, logs
from service.background import Turn
from service.business import Business
from service.callers import Caller
from service.checks import Checks
from service.configuration import Configuration
from service.errors import Conflict, Precondition, Unreadable, Violation, invalid
from service.identity import News
from service.reading import union
from service.store import Store

T = TypeVar("T")

_PAGE: Final = 50
_MAX_PAGE: Final = 512
_MAX_CONSENTS: Final = 64
_MAX_PATHS: Final = 128
_MAX_NAMES: Final = 64
_TRIES: Final = 64  # of several writers at once, one gets through in every round

Context = grpc.aio.ServicerContext[Any, Any]


class Customers(customer_pb2_grpc.CustomerServiceServicer):
    """GetTimeline, GetProfile, UpdateProfile, LinkIdentity and ForgetCustomer."""

    def __init__(
        self, configuration: Configuration, store: Store, clock: Callable[[], int]
    ) -> None:
        self._configuration = configuration
        self._store = store
        self._clock = clock

    @property
    def _business(self) -> Business:
        return self._configuration.current.business

    async def _whom(self, checks: Checks, key: event_pb2.CustomerKey, *, link: bool = False) -> str:
        """The customer that a request is about, once the request is known to be right.

        Args:
            checks: What was found wrong so far.
            key: How the request names them.
            link: Whether something will be kept of them: then their identifier names them for good.
        """
        caller = callers.current.get()
        caller.need("profile")
        who = intake.customer(checks, key, self._business.vocabulary)
        checks.finish()
        if who.identifier is not None:
            found = (await self._store.resolve([who.identifier]))[0]
            customer = found or identity.newcomer(*who.identifier)
            if link and found is None:
                entry = intake.linked(who.identifier, customer, caller)
                customer = await self._store.link(*who.identifier, customer, entry)
        else:
            customer = who.customer_id or ""
        logs.note(customer=logs.masked(customer))
        return customer

    async def GetTimeline(
        self, request: pb.GetTimelineRequest, context: Context
    ) -> pb.GetTimelineResponse:
        """See the API."""
        checks = Checks()
        vocabulary = self._business.vocabulary
        size = request.page_size or _PAGE
        if size > _MAX_PAGE:
            checks.wrong("page_size", f"{size} is out of range; send 1 to {_MAX_PAGE}")
        callers.current.get().need("profile")
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
        before = _token(checks, request.page_token)
        customer = await self._whom(checks, request.customer)
        stored = await self._store.read(customer)
        every = [
            _read(decode, one) for one in (stored.timeline, *(m.timeline for m in stored.members))
        ]
        log_id, records = max(id for id, _ in every), union([one for _, one in every])
        chosen = np.ones(len(records), bool)
        if types:
            chosen &= np.isin(records["type"], types)
        if channels:
            chosen &= np.isin(records["channel"], channels)
        if request.HasField("since"):
            chosen &= records["occurred_at"] >= answers.milliseconds(request.since)
        if request.HasField("until"):
            chosen &= records["occurred_at"] < answers.milliseconds(request.until)
        kept = np.flatnonzero(chosen)[::-1]
        if before is not None:
            keys = [_key(records[i]) for i in kept]
            kept = kept[[i for i, key in enumerate(keys) if key < before]]
        page = kept[:size]
        events, turn = [], Turn()
        for i in page:
            events.append(self._event(records[i]))
            await turn.pause()
        return pb.GetTimelineResponse(
            events=events,
            next_page_token="" if len(kept) <= size else _written(_key(records[page[-1]])),
            total=len(records),
            log_id=answers.log_id(log_id),
        )

    def _event(self, record: Any) -> pb.TimelineEvent:
        names = self._business.vocabulary.names
        event = pb.TimelineEvent(
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
            event.value = float(record["value"])
        if record["duration"] != NO_DURATION:
            event.duration_seconds = int(record["duration"])
        if record["sentiment"] != NO_SENTIMENT:
            event.sentiment = int(record["sentiment"]) / 100
        return event

    async def GetProfile(
        self, request: pb.GetProfileRequest, context: Context
    ) -> pb.GetProfileResponse:
        """See the API."""
        customer = await self._whom(Checks(), request.customer)
        stored = await self._store.read(customer)
        id, profile = _read(profiles.decode, stored.profile)
        root = stored.customer_id or customer
        return pb.GetProfileResponse(profile=self._profile(root, id, profile))

    def _profile(self, customer: str, id: LogId, profile: Profile) -> pb.Profile:
        now = self._clock()
        built = pb.Profile(customer_id=customer, version=answers.log_id(id))
        for name, declared in self._business.vocabulary.attributes.items():
            state = profile.state(name, declared, now)
            attribute = pb.Attribute(state=int(state) + 1)  # type: ignore[arg-type]
            told = profile.attributes.get(name)
            if told is not None:
                attribute.updated_at.CopyFrom(answers.timestamp(told.updated_at))
                if told.value is not None:
                    attribute.value.CopyFrom(_value(told.value))
            built.attributes[name].CopyFrom(attribute)
        for one in profile.consents:
            built.consents.add(
                purpose=one.purpose,
                channel=one.channel,
                granted=one.granted,
                updated_at=answers.timestamp(one.updated_at),
            )
        return built

    async def UpdateProfile(
        self, request: pb.UpdateProfileRequest, context: Context
    ) -> pb.UpdateProfileResponse:
        """See the API."""
        caller = callers.current.get()
        caller.need("profile")
        checks = Checks()
        told = None
        if request.HasField("updated_at"):
            caller.need("import")
            now = self._clock()
            told = checks.moment("updated_at", request, "updated_at", now, past=True)
            told = None if told is None else min(told, now)  # no consent of tomorrow
        attributes, consents = self._changes(checks, request)
        customer = await self._whom(checks, request.customer, link=True)

        def said(id: LogId, profile: Profile) -> News:
            if request.expected_version and request.expected_version != answers.log_id(id):
                raise Conflict(
                    f"the profile is at version {answers.log_id(id) or 'none'}, not "
                    f"{request.expected_version[:64]}; read it and try again"
                )
            # What is said now wins, also over what another server's faster clock has dated.
            moment = max(self._clock(), profile.newest) if told is None else told
            dated = [Consent(c.purpose, c.channel, c.granted, moment) for c in consents]
            return News(moment, attributes, dated)

        return pb.UpdateProfileResponse(profile=await self._change(customer, said))

    async def _change(
        self, customer: str, said: Callable[[LogId, Profile], News | None]
    ) -> pb.Profile:
        """Change a profile by what is said in view of it, however many change it at once.

        Of a customer who was merged into another, also meanwhile, it is the root's profile.
        """
        for _ in range(_TRIES):
            stored = await self._store.read(customer)
            root = stored.customer_id or customer
            id, profile = _read(profiles.decode, stored.profile)
            news = said(id, profile)
            if news is None:
                return self._profile(root, id, profile)
            changed = profile.changed(news.attributes, news.consents, news.moment)
            entry = _changed(root, news, callers.current.get())
            written = await self._store.write_profile(
                root, id, profiles.encode(changed), entry, news.moment
            )
            if written is not None:
                return self._profile(root, written, changed)
        raise Conflict(f"the profile changed {_TRIES} times meanwhile; try again")

    def _changes(
        self, checks: Checks, request: pb.UpdateProfileRequest
    ) -> tuple[dict[str, Value | None], list[log_pb2.ConsentChanged]]:
        vocabulary = self._business.vocabulary
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
                consents = self._consents(checks, request)
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
        self, checks: Checks, request: pb.UpdateProfileRequest
    ) -> list[log_pb2.ConsentChanged]:
        vocabulary = self._business.vocabulary
        if len(request.consents) > _MAX_CONSENTS:
            checks.wrong(
                "consents", f"has {len(request.consents)} entries; at most {_MAX_CONSENTS}"
            )
            return []
        purposes = dict.fromkeys(vocabulary.purposes, 1)
        for i, one in enumerate(request.consents):
            checks.code(f"consents[{i}].purpose", one.purpose, purposes, required=True)
            checks.code(f"consents[{i}].channel", one.channel, vocabulary.channels)
        return [
            log_pb2.ConsentChanged(purpose=one.purpose, channel=one.channel, granted=one.granted)
            for one in request.consents
        ]

    async def LinkIdentity(
        self, request: pb.LinkIdentityRequest, context: Context
    ) -> pb.LinkIdentityResponse:
        """See the API."""
        caller = callers.current.get()
        caller.need("profile")
        checks = Checks()
        checks.text("customer_id", request.customer_id, required=True)
        named = request.identifier
        value = identity.normalise(self._business.vocabulary, named.namespace, named.value)
        if isinstance(value, Violation):
            checks.wrong(f"identifier.{value.field}", value.description)
        checks.finish()
        logs.note(customer=logs.masked(request.customer_id))
        who = named.namespace, str(value)
        root = await self._store.root(request.customer_id)
        found = (await self._store.resolve([who]))[0]
        if found is None:
            found = await self._store.link(*who, root, intake.linked(who, root, caller))
            if found == root:
                return await self._linked(who, root)
        stored = await self._store.read(found)
        other = stored.customer_id or found
        alone = found == other == identity.newcomer(*who) and not stored.members
        status = pb.LinkIdentityResponse.STATUS_ALREADY_LINKED
        if other != root and (request.merge or alone):
            status = pb.LinkIdentityResponse.STATUS_MERGED
            other = await self._merge(other, root)
        elif other != root:
            status = pb.LinkIdentityResponse.STATUS_AMBIGUOUS
        return pb.LinkIdentityResponse(status=status, customer_id=other)

    async def _linked(self, who: tuple[str, str], root: str) -> pb.LinkIdentityResponse:
        """Answer that an identifier names a customer from now on.

        What became of decisions that were taken by it is kept under the newcomer that it named.
        """
        newcomer, status = identity.newcomer(*who), pb.LinkIdentityResponse.STATUS_LINKED
        left = await self._store.read(newcomer)
        apart = newcomer != root and left.customer_id in ("", newcomer)
        if apart and (left.timeline or left.ledger or left.profile):
            status = pb.LinkIdentityResponse.STATUS_MERGED
            root = await self._merge(newcomer, root)
        return pb.LinkIdentityResponse(status=status, customer_id=root)

    async def _merge(self, customer: str, into: str) -> str:
        """Make two customers one person; give the root.

        The profile goes over first, until it no longer changes: once they are merged nobody reads
        that of a member, and a merge that failed is asked for again.
        """
        copied = None
        for _ in range(_TRIES):
            stored = await self._store.read(customer)
            if stored.profile == copied:
                break
            copied = stored.profile
            await self._fold(_read(profiles.decode, copied)[1], into)
        else:
            raise Conflict(f"the profile changed {_TRIES} times meanwhile; try again")
        await self._store.merge(customer, into, callers.current.get().name)
        return await self._store.root(into)

    async def _fold(self, told: Profile, into: str) -> None:
        """Tell a root what a member was told, each thing at its own moment, oldest first."""
        for moment in [one.moment for one in identity.news(told, profiles.EMPTY)]:

            def said(_: LogId, known: Profile, moment: int = moment) -> News | None:
                return next((n for n in identity.news(told, known) if n.moment == moment), None)

            # What was told before they were forgotten stays forgotten.
            with suppress(Precondition):
                await self._change(into, said)

    async def ForgetCustomer(
        self, request: pb.ForgetCustomerRequest, context: Context
    ) -> pb.ForgetCustomerResponse:
        """See the API."""
        caller = callers.current.get()
        caller.need("profile")
        checks = Checks()
        checks.text("customer_id", request.customer_id, required=True)
        checks.finish()
        logs.note(customer=logs.masked(request.customer_id))
        now = self._clock()
        erased = log_pb2.CustomerErased(erased_at=answers.timestamp(now), caller=caller.name)
        entry = log_pb2.LogEntry(customer_id=request.customer_id, erased=erased)
        events, entries = await self._store.forget(
            request.customer_id, now, entry.SerializeToString()
        )
        return pb.ForgetCustomerResponse(
            events=events, log_entries=entries, erased_at=answers.timestamp(now)
        )


def _read(decode: Callable[[bytes | None], T], stored: bytes | None) -> T:
    """Decode what is stored, or say that it cannot be read."""
    try:
        return decode(stored)
    except ValueError as error:
        raise Unreadable(f"{error}; restore it, or forget the customer") from error


def _changed(customer: str, news: News, caller: Caller) -> bytes:
    """The log entry of a change of a profile."""
    entry = log_pb2.LogEntry(
        customer_id=customer,
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
    return entry.SerializeToString()


def _value(value: Value | None) -> struct_pb2.Value:
    if value is None:
        return struct_pb2.Value(null_value=0)  # type: ignore[arg-type]
    if isinstance(value, bool):
        return struct_pb2.Value(bool_value=value)
    if isinstance(value, str):
        return struct_pb2.Value(string_value=value)
    return struct_pb2.Value(number_value=value)


_Key = tuple[int, int, int]


def _key(record: Any) -> _Key:
    return int(record["occurred_at"]), int(record["sequence"]), int(record["hash"])


def _written(key: _Key) -> str:
    return "-".join(f"{part:x}" for part in key)


def _token(checks: Checks, written: str) -> _Key | None:
    if not written:
        return None
    try:
        moment, sequence, hash = (int(part, 16) for part in written.split("-"))
    except ValueError:
        checks.wrong("page_token", f"{written[:64]!r} is none; send that of the answer before")
        return None
    return moment, sequence, hash
