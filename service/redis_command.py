"""A command for a cluster, and the hash slot of the key that it is about. Pure."""

from __future__ import annotations

from binascii import crc_hqx
from typing import Any, Final, NamedTuple

from redis.exceptions import DataError

SLOTS: Final = 16_384

_SCRIPTS: Final = frozenset({"EVAL", "EVALSHA"})
_KEYED: Final = frozenset(
    {
        *("DEL", "EXISTS", "EXPIRE", "PERSIST", "PEXPIRE", "PTTL", "TTL", "TYPE", "UNLINK"),
        *("APPEND", "GET", "GETDEL", "GETEX", "GETRANGE", "INCR", "INCRBY", "MGET", "SET"),
        *("SETEX", "SETNX", "SETRANGE", "PSETEX", "STRLEN"),
        *("HDEL", "HEXISTS", "HGET", "HGETALL", "HINCRBY", "HKEYS", "HLEN", "HMGET", "HSET"),
        *("HSETNX", "HVALS", "SADD", "SCARD", "SISMEMBER", "SMEMBERS", "SMISMEMBER", "SREM"),
        *("XADD", "XDEL", "XLEN", "XRANGE", "XREVRANGE", "XTRIM"),
        *("ZADD", "ZCARD", "ZCOUNT", "ZINCRBY", "ZMSCORE", "ZRANGE", "ZRANGEBYSCORE", "ZRANK"),
        *("ZREM", "ZREMRANGEBYRANK", "ZREMRANGEBYSCORE", "ZREVRANGE", "ZSCORE"),
    }
)
"""Commands whose first argument is a key. One that is not here is refused: a guess at its key would
send it to any node."""


def slot(key: str | bytes) -> int:
    """Hash slot of a key: CRC16/XMODEM of its hash tag (Redis Cluster specification)."""
    hashed = key.encode() if isinstance(key, str) else key
    start = hashed.find(b"{")
    end = hashed.find(b"}", start + 1)
    if 0 <= start < end - 1:  # an empty tag is none
        hashed = hashed[start + 1 : end]
    return crc_hqx(hashed, 0) % SLOTS


class Command(NamedTuple):
    """One command as redis-py builds it."""

    arguments: tuple[Any, ...]
    options: dict[str, Any]

    @property
    def slot(self) -> int:
        """Slot of the first key; the server refuses a command whose keys are of several slots.

        Raises:
            DataError: We do not know where its key stands, or it has none.
        """
        name = self.arguments[0]
        at = 3 if name in _SCRIPTS else 1
        if len(self.arguments) <= at or not (name in _KEYED or name in _SCRIPTS):
            raise DataError(f"{name}: its key is not known; see service.redis_command._KEYED")
        return slot(self.arguments[at])
