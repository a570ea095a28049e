"""What belongs to no customer: bundles, the vocabulary, configurations, prices and ceilings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from service import keys
from service.redis_client import RedisClient, translated


class Shared(RedisClient):
    """What all servers of a tenant share."""

    # Models and vocabulary

    async def models(self) -> tuple[bytes | None, list[bytes]]:
        """The pointer to the active bundle, and the manifests of all bundles."""
        async with translated():
            pointer = await self._redis.get(keys.models(self.tenant))
            return pointer, await self._redis.hvals(keys.manifests(self.tenant))

    async def publish(self, version: str, manifest: bytes, blob: bytes) -> bool:
        """Keep a bundle for ever under its version; False where the version is taken."""
        async with translated():
            key = keys.bundle(self.tenant, version)
            # The same bytes again are welcome: a publisher may have died before the manifest.
            if not await self._redis.set(key, blob, nx=True) and await self._redis.get(key) != blob:
                return False
            await self._redis.hset(keys.manifests(self.tenant), version, manifest)
        return True

    async def bundle(self, version: str) -> bytes | None:
        """The bytes of a bundle."""
        async with translated():
            return cast("bytes | None", await self._redis.get(keys.bundle(self.tenant, version)))

    async def point(self, old: bytes | None, new: bytes) -> bool:
        """Move the pointer to the active bundle; False where somebody else has moved it."""
        return bool(await self._call_one("swap", [keys.models(self.tenant)], [old or b"", new]))

    async def claim(self, vocabulary: bytes, previous: bytes | None) -> bytes | None:
        """Claim a vocabulary where ``previous`` is the one claimed; give what is claimed now."""
        key = keys.vocabulary(self.tenant)
        if vocabulary != previous:
            await self._call_one("swap", [key], [previous or b"", vocabulary])
        async with translated():
            return cast("bytes | None", await self._redis.get(key))

    async def claimed(self) -> bytes | None:
        """The vocabulary that is claimed now."""
        async with translated():
            return cast("bytes | None", await self._redis.get(keys.vocabulary(self.tenant)))

    # Configurations and prices

    async def keep_configuration(self, digest: str, written: bytes) -> None:
        """Keep a configuration for ever under its digest; the first one stays."""
        async with translated():
            await self._redis.set(keys.configuration(self.tenant, digest), written, nx=True)

    async def configuration(self, digest: str) -> bytes | None:
        """A configuration that was kept."""
        async with translated():
            found = await self._redis.get(keys.configuration(self.tenant, digest))
        return cast("bytes | None", found)

    async def prices(self) -> dict[str, float]:
        """Shadow prices by resource."""
        async with translated():
            found = await self._redis.hgetall(keys.prices(self.tenant))
        return {name.decode(): float(price) for name, price in found.items()}

    async def set_prices(self, prices: Mapping[str, float]) -> None:
        """Set the shadow prices of some resources; others keep theirs."""
        if prices:
            written = {name: repr(float(price)) for name, price in prices.items()}
            async with translated():
                await self._redis.hset(keys.prices(self.tenant), mapping=written)

    # Ceilings

    async def lease(self, ceiling: str, period: str, amount: int, limit: int, ttl: int) -> int:
        """Take up to ``amount`` units of a ceiling; give how many there were."""
        key = keys.ceiling(self.tenant, ceiling, period)
        return int(await self._call_one("lease", [key], [max(0, amount), limit, ttl]))

    async def give_back(self, ceiling: str, period: str, amount: int) -> None:
        """Return units that were taken and not used."""
        if amount > 0:
            key = keys.ceiling(self.tenant, ceiling, period)
            await self._call_one("lease", [key], [-amount])
