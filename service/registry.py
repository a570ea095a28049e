"""Which bundle is in charge: published ones, the pointer to the active one, and the swap."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Final

import msgspec
import structlog

from features.elementary import Floats
from service import background
from service import bundle as bundles
from service.bundle import Bundle, Manifest
from service.business import Business
from service.errors import (
    BundleRefused,
    Conflict,
    NotFound,
    Precondition,
    StoreUnavailable,
    Unfinished,
)
from service.models import Models
from service.store import Store
from service.workshop import Workshop

_POLL_SECONDS: Final = 2.0
_AGAIN_SECONDS: Final = 60.0


class Pointer(msgspec.Struct, frozen=True):
    """What is in charge, and what was before."""

    active: str
    previous: str = ""


class Registry:
    """The models that serve now, kept in step with what the store says is active.

    Args:
        store: Where bundles are.
        business: Whose actions they score.
        workshop: Where they are compiled and verified.
    """

    def __init__(self, store: Store, business: Business, workshop: Workshop) -> None:
        self._store = store
        self._business = business
        self._workshop = workshop
        self._again = 0.0  # seconds of the monotonic clock, before which a failure stands
        self._models: Models | None = None
        self._task: asyncio.Task[None] | None = None
        self.refused = ""

    @property
    def models(self) -> Models | None:
        """The models in charge; None before the first bundle."""
        return self._models

    async def start(self) -> None:
        """Load what is active, and follow the pointer from then on."""
        await self._follow()
        self._task = asyncio.create_task(self._run(), name="registry")

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            try:
                await self._follow()
            except StoreUnavailable as error:
                structlog.get_logger().warning("models not checked", error=str(error))
            except Exception as error:  # noqa: BLE001  the next look may find better
                self.refused = f"the pointer: {error}"
                structlog.get_logger().exception("models not checked")

    async def _follow(self) -> None:
        """Load the active bundle where it is another than ours; keep ours if it is refused."""
        written, _ = await self._store.models()
        if written is None:
            return
        version = msgspec.json.decode(written, type=Pointer).active
        if self._models is not None and self._models.manifest.version == version:
            return
        if self.refused.startswith(f"{version}: ") and time.monotonic() < self._again:
            return
        try:
            self._swap(await self._load(version))
        except (BundleRefused, NotFound, Unfinished) as error:
            self.refused = f"{version}: {error}"
            cut_off = isinstance(error, Unfinished)
            self._again = time.monotonic() + _AGAIN_SECONDS if cut_off else math.inf
            structlog.get_logger().error("bundle refused", version=version, error=str(error))

    def _swap(self, models: Models) -> None:
        self._models = models
        self.refused = ""
        structlog.get_logger().info("bundle active", version=models.manifest.version)

    async def _load(self, version: str) -> Models:
        while True:
            business = self._business
            models = await self._fitted(version, business)
            if business is self._business:
                return models
            # Another configuration took over meanwhile: what was loaded fits the old catalogue.

    async def fitted(self, business: Business) -> Models | None:
        """The models in charge, fitted to another configuration; None where none is.

        Raises:
            BundleRefused: They do not fit it.
        """
        while (before := self._models) is not None:
            models = await self._fitted(before.manifest.version, business)
            if before is self._models:
                return models
            # Another bundle took over meanwhile.
        return None

    def serve(self, business: Business, models: Models | None) -> None:
        """Take over another configuration, with the models that were fitted to it."""
        self._business = business
        if models is not None:
            self._swap(models)

    async def _fitted(self, version: str, business: Business) -> Models:
        blob, written = await self._blob(version), business.written()
        models = await self._workshop.do("models", blob, written, then=Models.of_parts)
        if models.manifest.version != version:
            raise BundleRefused(
                f"what is kept as bundle {version!r} says that it is "
                f"{models.manifest.version!r}; publish it again"
            )
        return models

    async def _blob(self, version: str) -> bytes:
        blob = await self._store.bundle(version)
        if blob is None:
            raise NotFound(f"bundle {version!r} is not published; see ListModels")
        return blob

    async def contributions(self, models: Models, row: Floats) -> list[tuple[str, float, float]]:
        """What each feature added to a row's log-odds; see :meth:`Models.contributions`.

        Raises:
            NotFound: The bundle is not kept any more.
            Unfinished: The process that computes it was ended.
        """
        written, known = self._business.written(), row.tobytes()
        found = await self._workshop.do(
            "contributions", models.checksum, None, written, known, then=next
        )
        if found is None:
            blob = await self._blob(models.manifest.version)
            found = await self._workshop.do(
                "contributions", models.checksum, blob, written, known, then=next
            )
        told: list[tuple[str, float, float]] = found
        return told

    async def listed(self) -> tuple[Pointer | None, list[tuple[Manifest, str]]]:
        """The pointer, and manifests with checksums of all bundles, newest first."""
        written, manifests = await self._store.models()
        pointer = None if written is None else msgspec.json.decode(written, type=Pointer)
        read = [
            (msgspec.json.decode(one, type=Manifest), bundles.checksum(one)) for one in manifests
        ]
        return pointer, sorted(read, key=lambda one: (-one[0].built_at, one[0].version))

    async def activate(self, version: str) -> Models:
        """Verify a bundle here, then put it in charge everywhere.

        Raises:
            NotFound: It is not published.
            BundleRefused: It does not verify; the old one goes on serving.
            Conflict: Somebody else activated another at the same time.
        """
        written, _ = await self._store.models()
        models = await self._load(version)
        old = None if written is None else msgspec.json.decode(written, type=Pointer)
        if old is None or old.active != version:
            pointer = Pointer(version, "" if old is None else old.active)
            if not await self._store.point(written, msgspec.json.encode(pointer)):
                raise Conflict("another bundle was activated just now; list them and try again")
        self._swap(models)
        return models

    async def adopt(self, sealed: Bundle) -> Models:
        """Publish a bundle unless that is done already, and put it in charge."""
        _, known = await self.listed()
        if all(manifest.version != sealed.manifest.version for manifest, _ in known):
            blob = bundles.pack(sealed)
            written = self._business.written()
            await self._workshop.do("models", blob, written, then=list)
            await keep(self._store, sealed, blob)
        return await self.activate(sealed.manifest.version)

    async def rollback(self) -> Models:
        """Put the bundle before the active one back in charge.

        Raises:
            Precondition: There is none.
        """
        pointer, _ = await self.listed()
        if pointer is None or not pointer.previous:
            raise Precondition("no bundle was active before this one; name a version")
        return await self.activate(pointer.previous)

    async def close(self) -> None:
        """Stop following the pointer."""
        await background.end(self._task)


async def publish(store: Store, sealed: Bundle, business: Business) -> None:
    """Verify a bundle as a server would, and keep it in the store; it becomes a candidate.

    Raises:
        BundleRefused: It does not verify.
        Conflict: Its version is taken by another bundle.
    """
    Models(sealed, business)
    await keep(store, sealed, bundles.pack(sealed))


async def keep(store: Store, sealed: Bundle, blob: bytes) -> None:
    """Keep a verified bundle in the store.

    Raises:
        Conflict: Its version is taken by another bundle.
    """
    version = sealed.manifest.version
    manifest = sealed.files[bundles.MANIFEST]
    if not await store.publish(version, manifest, blob):
        raise Conflict(f"version {version!r} is published already; versions are for ever")
