"""The primary that Sentinels name: redis-py asks them for it whenever it connects."""

from __future__ import annotations

import re
from typing import Any, Final

from redis.asyncio import Redis, Sentinel
from redis.asyncio.connection import parse_url

_URL: Final = re.compile(
    r"(rediss?)\+sentinel://(?:([^/?#]*)@)?([^/?#@]+)/([^/?#]+)((?:/\d+)?(?:\?.*)?)", re.DOTALL
)
_PORT: Final = 26_379
_OF_SENTINELS: Final = "sentinel_"
"""First part of the options that are for the Sentinels themselves: their user and password."""


def is_sentinel(url: str) -> bool:
    """Whether an address is that of Sentinels: ``redis+sentinel://`` or ``rediss+sentinel://``."""
    return url.startswith(("redis+sentinel:", "rediss+sentinel:"))


def primary(url: str, **options: Any) -> Redis:
    """A client of the primary of a service.

    Args:
        url: Such as ``redis+sentinel://user:password@host:26379,host2:26379/service/0``, with
            ``?sentinel_username=...&sentinel_password=...`` where the Sentinels ask for them.
            ``rediss+sentinel`` is with TLS, to the Sentinels too.
        options: Of the connections to the primary.

    Raises:
        ValueError: The address is of another form.
    """
    parts = _URL.fullmatch(url)
    if parts is None:
        raise ValueError(
            "the address of a service behind Sentinels is redis+sentinel://host:port,host2/service"
        )
    scheme, user, hosts, service, rest = parts.groups()
    owner = "" if user is None else f"{user}@"
    known: dict[str, Any] = dict(parse_url(f"{scheme}://{owner}any{rest}"))
    for of_a_server in ("host", "connection_class"):
        known.pop(of_a_server, None)
    tls = {"ssl": True} if scheme == "rediss" else {}
    theirs = {
        name.removeprefix(_OF_SENTINELS): known.pop(name)
        for name in list(known)
        if name.startswith(_OF_SENTINELS)
    }
    shared = {
        name: value
        for name, value in {**known, **options}.items()
        if name.startswith(("socket_", "ssl_"))
    }
    addresses = [parse_url(f"redis://{host}") for host in hosts.split(",")]
    connect: Any = Sentinel  # redis-py does not type it
    asked = connect(
        [(str(one.get("host", "localhost")), int(one.get("port", _PORT))) for one in addresses],
        sentinel_kwargs={**shared, **tls, **theirs},
    )
    client: Redis = asked.master_for(service, **known, **options, **tls)
    return client


async def close(client: Any) -> None:
    """Give back the connections to the Sentinels, where a client has some."""
    sentinels = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    if sentinels is not None:
        await sentinels.aclose()
