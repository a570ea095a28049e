"""Send mapped rows to a running server, and count what became of them.

Nothing is stored twice: every event has an id of its own, and no profile goes back to what was
told earlier than what the server knows, so a run that was killed can be run again.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import grpc
import msgspec
from google.protobuf.json_format import MessageToDict

from rapport.v1 import customer_pb2, customer_pb2_grpc, decision_pb2, decision_pb2_grpc
from service.errors import Conflict, Denied, RapportError, StoreUnavailable, Unauthenticated
from training.mapper import Mapped, Refused

Progressed = Callable[[int, int | None], None]
"""Told after each batch how many rows are done, and of how many, where that is known."""

_Status = decision_pb2.EventResult
_COUNTED: Final = {
    _Status.STATUS_STORED: "stored",
    _Status.STATUS_DUPLICATE: "duplicate",
    _Status.STATUS_CONFLICT: "conflict",
    _Status.STATUS_TOO_OLD_FOR_TIMELINE: "too_old",
    _Status.STATUS_INVALID: "invalid",
    _Status.STATUS_ERASED: "erased",
}
_REFUSALS: Final = {
    "conflict": "is known with another content; give it another id, or another `source`",
    "erased": "occurred before its customer was forgotten; leave the row out",
    "invalid": "is refused by the server",
}
_TRY_AGAIN: Final = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_ERRORS: Final[dict[grpc.StatusCode, type[RapportError]]] = {
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: Denied,
    grpc.StatusCode.ABORTED: Conflict,
}
_TIMEOUT: Final = 30.0  # seconds a call


class Sent(msgspec.Struct):
    """What became of the rows, by number."""

    rows: int = 0
    unmapped: int = 0
    stored: int = 0
    duplicate: int = 0
    conflict: int = 0
    too_old: int = 0
    invalid: int = 0
    erased: int = 0
    profiles: int = 0  # changes that were accepted

    @property
    def refused(self) -> int:
        """Rows that are in no log because of what they say."""
        return self.unmapped + self.conflict + self.invalid + self.erased


async def send(
    target: str,
    rows: Iterable[Mapped | Refused],
    *,
    token: str | None = None,
    batch: int = 500,
    in_flight: int = 8,
    progress: Progressed | None = None,
    refused: Callable[[Refused], None] | None = None,
    total: int | None = None,
    patience: float = 60.0,
    credentials: grpc.ChannelCredentials | None = None,
) -> Sent:
    """Send rows to a server; what it could not store for now is sent again.

    A profile changes before the events of the batch that tells of it, in the order of the rows. It
    is told as of the row's own time, and keeps what it was told of any later one.

    Args:
        target: ``host:port``.
        rows: From :func:`events`; taken as they are needed.
        token: Goes along as ``authorization: Bearer TOKEN``.
        batch: Events a call, 1 to 1,000.
        in_flight: Calls at the same time.
        progress: Told after each batch how many rows are done, of ``total``.
        refused: Told each row that was refused, here or by the server.
        total: How many rows there will be, where that is known.
        patience: Seconds to try again while nothing at all is stored.
        credentials: Of a TLS channel; without them the channel is plain.

    Raises:
        StoreUnavailable: Patience ran out. Run it again: nothing is doubled.
        Unauthenticated: The token is not known.
        Denied: The token lacks a scope: record, import, or profile where the mapping has one.
        RapportError: The server refused a whole call.
    """
    channel = (
        grpc.aio.insecure_channel(target)
        if credentials is None
        else grpc.aio.secure_channel(target, credentials)
    )
    async with channel:
        sender = _Sender(channel, iter(rows), token, patience, refused or (lambda _: None))

        async def work() -> None:
            while await sender.batch(batch):
                if progress is not None:
                    progress(sender.sent.rows, total)

        workers = [asyncio.create_task(work()) for _ in range(in_flight)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
    return sender.sent


class _Sender:
    """What the calls in flight share."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        rows: Iterator[Mapped | Refused],
        token: str | None,
        patience: float,
        refused: Callable[[Refused], None],
    ) -> None:
        self.sent = Sent()
        self._rows = rows
        self._refused = refused
        self._decisions = decision_pb2_grpc.DecisionServiceStub(channel)
        self._customers = customer_pb2_grpc.CustomerServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._patience = patience
        self._stored_at = time.monotonic()
        self._turn = asyncio.Lock()

    async def batch(self, size: int) -> bool:
        """Take the next rows and see them stored; False where there are none."""
        async with self._turn:  # profiles change in the order of the rows
            taken = list(itertools.islice(self._rows, size))
            mapped = [row for row in taken if isinstance(row, Mapped)]
            self._stored_at = time.monotonic()
            await self._update(mapped)
        for row in taken:
            if isinstance(row, Refused):
                self.sent.unmapped += 1
                self._refused(row)
        await self._record(mapped)
        self.sent.rows += len(taken)
        return bool(taken)

    async def _record(self, rows: list[Mapped]) -> None:
        pauses = _pauses()
        while rows:
            request = decision_pb2.RecordEventsRequest(events=[row.event for row in rows])
            response = await self._call(self._decisions.RecordEvents, request)
            again = []
            for row, result in zip(rows, response.results, strict=True):
                if result.status == _Status.STATUS_UNAVAILABLE:
                    again.append(row)
                else:
                    self._count(row, result)
            if len(again) < len(rows):
                self._stored_at = time.monotonic()
                pauses = _pauses()
            rows = again
            if rows:
                await self._wait(next(pauses), "the store does not answer")

    def _count(self, row: Mapped, result: decision_pb2.EventResult) -> None:
        status = _COUNTED.get(result.status, "invalid")
        setattr(self.sent, status, getattr(self.sent, status) + 1)
        if status in _REFUSALS:
            why = result.violation
            field = why.field.rpartition("].")[2] or "event_id"
            value = str(getattr(row.event, field, ""))
            reason = why.description or f"{row.event.event_id!r} {_REFUSALS[status]}"
            self._refused(Refused(row.line, field, value, reason))

    async def _update(self, rows: list[Mapped]) -> None:
        """Tell the profiles what rows say of them: in order, 50 customers at the same time."""
        news: dict[str, list[Mapped]] = {}
        for row in rows:
            if row.profile is not None:
                news.setdefault(row.event.customer.customer_id, []).append(row)
        several = list(news.values())
        for at in range(0, len(several), 50):
            await asyncio.gather(*map(self._tell, several[at : at + 50]))

    async def _tell(self, rows: list[Mapped]) -> None:
        for row in rows:
            if row.profile is None:
                continue
            try:
                await self._change(row.profile)
            except _RefusedCall as error:
                told = {name: MessageToDict(one) for name, one in row.profile.attributes.items()}
                self._refused(Refused(row.line, "profile", str(told), str(error)))

    async def _change(self, told: customer_pb2.UpdateProfileRequest) -> None:
        """Change a profile, unless it knows as much already; read it anew if it changed since."""
        asked = customer_pb2.GetProfileRequest(customer=told.customer)
        for pause in _pauses():
            known = (await self._call(self._customers.GetProfile, asked)).profile
            request = _unknown(told, known)
            if not request.attributes:
                return
            try:
                await self._call(self._customers.UpdateProfile, request)
            except Conflict as error:
                await self._wait(pause, str(error))
            else:
                self.sent.profiles += 1
                return

    async def _call(self, method: Any, request: Any) -> Any:
        for pause in _pauses():
            try:
                return await method(request, metadata=self._metadata, timeout=_TIMEOUT)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _TRY_AGAIN:
                    kind = _ERRORS.get(error.code(), _RefusedCall)
                    raise kind(f"{error.code().name}: {error.details()}") from error
                why = f"{error.code().name}: {error.details()}"
            await self._wait(pause, why)
        raise AssertionError

    async def _wait(self, pause: float, why: str) -> None:
        if time.monotonic() - self._stored_at > self._patience:
            raise StoreUnavailable(
                f"nothing was stored for {self._patience:g} s: {why}; "
                "see to the server and run again, nothing is stored twice"
            )
        await asyncio.sleep(pause)


class _RefusedCall(RapportError):
    """The server refused a whole call."""


def _unknown(
    told: customer_pb2.UpdateProfileRequest, known: customer_pb2.Profile
) -> customer_pb2.UpdateProfileRequest:
    """What of a change the profile does not have already, and has not been told of later."""
    request = customer_pb2.UpdateProfileRequest(
        customer=told.customer, updated_at=told.updated_at, expected_version=known.version
    )
    at = told.updated_at.ToMilliseconds()
    for name, value in told.attributes.items():
        if name in known.attributes:
            before = known.attributes[name]
            since = before.updated_at.ToMilliseconds() if before.HasField("updated_at") else -1
            if since > at or (since == at and before.value == value):
                continue
        request.attributes[name].CopyFrom(value)
    return request


def _pauses() -> Iterator[float]:
    """Seconds to wait before each new try: 0.05, doubled up to 5."""
    return (min(5.0, 0.05 * 2**tried) for tried in itertools.count())
