"""CustomerService: messages to the domain and back, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from features.profile import Consent, Profile
from features.profile import decode as decode_profile
from features.record import LogId, decode
from rapport.v1 import customer_pb2 as pb
from rapport.v1 import customer_pb2_grpc, event_pb2, log_pb2
from service import answers, callers, identity, intake, listing, logs, profiles
from service.background import Turn
from service.business import Business
from service.checks import Checks
from service.configuration import Configuration
from service.errors import Conflict, Violation
from service.identity import News
from service.persons import Persons
from service.profiles import Kept
from service.reading import needed, union
from service.store import Store

Context = grpc.aio.ServicerContext[Any, Any]


class Customers(customer_pb2_grpc.CustomerServiceServicer):
    """GetTimeline, GetProfile, UpdateProfile, LinkIdentity and ForgetCustomer."""

    def __init__(
        self, configuration: Configuration, store: Store, clock: Callable[[], int]
    ) -> None:
        self._configuration = configuration
        self._store = store
        self._persons = Persons(store)
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
        callers.current.get().need("profile")
        checks = Checks()
        asked = listing.wanted(checks, request, self._business.vocabulary)
        customer = await self._whom(checks, request.customer)
        stored = await self._store.read(customer)
        every = [
            needed(decode, one) for one in (stored.timeline, *(m.timeline for m in stored.members))
        ]
        log_id, records = max(id for id, _ in every), union([one for _, one in every])
        rows, token = listing.page(asked, records)
        events, turn = [], Turn()
        for row in rows:
            events.append(listing.event(records[row], self._business.vocabulary))
            await turn.pause()
        return pb.GetTimelineResponse(
            events=events,
            next_page_token=token,
            total=len(records),
            log_id=answers.log_id(log_id),
        )

    async def GetProfile(
        self, request: pb.GetProfileRequest, context: Context
    ) -> pb.GetProfileResponse:
        """See the API."""
        customer = await self._whom(Checks(), request.customer)
        stored = await self._store.read(customer)
        id, profile = needed(decode_profile, stored.profile)
        kept = Kept(stored.customer_id or customer, id, profile)
        return pb.GetProfileResponse(profile=self._told(kept))

    def _told(self, kept: Kept) -> pb.Profile:
        return profiles.told(kept, self._business.vocabulary, self._clock())

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
        attributes, consents = profiles.changes(checks, request, self._business.vocabulary)
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

        kept = await self._persons.change(customer, said, caller)
        return pb.UpdateProfileResponse(profile=self._told(kept))

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
                merged = await self._persons.merge_newcomer(who, root, caller)
                status = pb.LinkIdentityResponse.STATUS_LINKED
                if merged is not None:
                    status, root = pb.LinkIdentityResponse.STATUS_MERGED, merged
                return pb.LinkIdentityResponse(status=status, customer_id=root)
        stored = await self._store.read(found)
        other = stored.customer_id or found
        alone = found == other == identity.newcomer(*who) and not stored.members
        status = pb.LinkIdentityResponse.STATUS_ALREADY_LINKED
        if other != root and (request.merge or alone):
            status = pb.LinkIdentityResponse.STATUS_MERGED
            other = await self._persons.merge(other, root, caller)
        elif other != root:
            status = pb.LinkIdentityResponse.STATUS_AMBIGUOUS
        return pb.LinkIdentityResponse(status=status, customer_id=other)

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
