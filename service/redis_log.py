"""The log as the exporter and the retention see it: pages of a partition, and what was exported."""

from __future__ import annotations

from features.record import LogId
from service import keys
from service.redis_client import RedisClient, translated


class LogPages(RedisClient):
    """Reads and trims the log, partition by partition."""

    async def log_page(self, number: int, after: LogId, count: int) -> list[tuple[LogId, bytes]]:
        """Entries of a partition's log that come after an id, oldest first."""
        async with translated():
            page = await self._redis.xrange(
                keys.log(self.tenant, number), f"({after}", "+", count=count
            )
        return [(LogId.parse(id.decode()), fields[b"e"]) for id, fields in page]

    async def trim(self, number: int, before: LogId) -> int:
        """Drop the entries of a partition's log that come before an id; give their number."""
        async with translated():
            return int(
                await self._redis.xtrim(
                    keys.log(self.tenant, number), minid=str(before), approximate=False
                )
            )

    async def trim_to(self, number: int, entries: int) -> int:
        """Drop all but the newest entries of a partition's log; give the number dropped."""
        async with translated():
            return int(
                await self._redis.xtrim(
                    keys.log(self.tenant, number), maxlen=entries, approximate=False
                )
            )

    async def exported(self) -> dict[int, LogId]:
        """The last exported id of each partition that was ever exported."""
        async with translated():
            found = await self._redis.hgetall(keys.exported(self.tenant))
        return {int(number): LogId.parse(id.decode()) for number, id in found.items()}

    async def mark_exported(self, number: int, id: LogId) -> None:
        """Note that a partition's log is exported up to and with an id."""
        async with translated():
            await self._redis.hset(keys.exported(self.tenant), str(number), str(id))
