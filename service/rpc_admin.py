"""AdminService: messages to the domain and back, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import grpc

from rapport.v1 import admin_pb2 as pb
from rapport.v1 import admin_pb2_grpc
from service import answers, callers, logs
from service.bundle import Manifest
from service.capacity import Prices
from service.checks import Checks
from service.configuration import Configuration
from service.errors import ConfigurationError, Precondition, StoreUnavailable, invalid
from service.journal import Journal
from service.registry import Pointer, Registry
from service.retention import Retention
from service.store import Store

_HIGHEST_PRICE: Final = 1e6

Context = grpc.aio.ServicerContext[Any, Any]


class Admin(admin_pb2_grpc.AdminServiceServicer):
    """ListModels, ActivateModel, SetShadowPrices, ReloadConfiguration and GetStatus."""

    def __init__(
        self,
        configuration: Configuration,
        store: Store,
        registry: Registry,
        prices: Prices,
        journal: Journal,
        retention: Retention,
        started_at: int,
        changed: Callable[[], None],
    ) -> None:
        self._configuration = configuration
        self._prices = prices
        self._store = store
        self._registry = registry
        self._journal = journal
        self._retention = retention
        self._started_at = started_at
        self._changed = changed

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        """See the API."""
        callers.current.get().need("admin")
        pointer, manifests = await self._registry.listed()
        return pb.ListModelsResponse(
            bundles=[_bundle(one, checksum, pointer) for one, checksum in manifests]
        )

    async def ActivateModel(
        self, request: pb.ActivateModelRequest, context: Context
    ) -> pb.ActivateModelResponse:
        """See the API."""
        callers.current.get().need("admin")
        if request.WhichOneof("target") is None or not (request.version or request.rollback):
            raise invalid("version", "is absent; send a published version, or rollback")
        if request.rollback:
            models = await self._registry.rollback()
        else:
            models = await self._registry.activate(request.version)
        self._changed()
        logs.note(bundle=models.manifest.version)
        pointer, _ = await self._registry.listed()
        return pb.ActivateModelResponse(active=_bundle(models.manifest, models.checksum, pointer))

    async def SetShadowPrices(
        self, request: pb.SetShadowPricesRequest, context: Context
    ) -> pb.SetShadowPricesResponse:
        """See the API."""
        callers.current.get().need("admin")
        checks = Checks()
        known = dict.fromkeys(self._prices.current, 1)
        for name, price in request.prices.items():
            field = f"prices.{name[:64]}"
            checks.code(field, name, known, required=True)
            checks.finite(field, price, 0.0, _HIGHEST_PRICE)
        checks.finish()
        if request.prices:
            await self._store.set_prices(request.prices)
            self._changed()
            logs.note(prices=dict(request.prices))
        await self._prices.refresh()
        return pb.SetShadowPricesResponse(prices=self._prices.current)

    async def ReloadConfiguration(
        self, request: pb.ReloadConfigurationRequest, context: Context
    ) -> pb.ReloadConfigurationResponse:
        """See the API."""
        callers.current.get().need("admin")
        try:
            changed = await self._configuration.reload()
        except ConfigurationError as error:
            raise Precondition(f"the configuration was refused: {error}") from error
        self._changed()
        business = self._configuration.current.business
        logs.note(configuration=business.digest, changed=changed)
        return pb.ReloadConfigurationResponse(
            versions=answers.versions(business, self._registry.models), changed=changed
        )

    async def GetStatus(
        self, request: pb.GetStatusRequest, context: Context
    ) -> pb.GetStatusResponse:
        """See the API."""
        callers.current.get().need("admin")
        status = pb.GetStatusResponse(
            versions=answers.versions(self._configuration.current.business, self._registry.models),
            started_at=answers.timestamp(self._started_at),
            journal_pending=self._journal.pending,
            journal_dropped=self._journal.dropped,
            log_dropped=self._retention.dropped,
            refused_bundle=self._registry.refused,
            refused_configuration=self._configuration.refused,
        )
        try:
            status.store_latency_ms = (await self._store.status()).latency_ms
            status.store_reachable = True
        except StoreUnavailable as error:
            logs.note(store=str(error))
        return status


def _bundle(manifest: Manifest, checksum: str, pointer: Pointer | None) -> pb.ModelBundle:
    state = pb.ModelBundle.STATE_CANDIDATE
    if pointer is not None and manifest.version == pointer.active:
        state = pb.ModelBundle.STATE_ACTIVE
    elif pointer is not None and manifest.version == pointer.previous:
        state = pb.ModelBundle.STATE_PREVIOUS
    return pb.ModelBundle(
        version=manifest.version,
        state=state,
        built_at=answers.timestamp(manifest.built_at),
        checksum=checksum,
        feature_digest=manifest.feature_digest,
        metrics=manifest.metrics,
    )
