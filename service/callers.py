"""Who may call what. Tokens are compared by their SHA-256; the file holds no secret."""

from __future__ import annotations

import hashlib
import re
from contextvars import ContextVar
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

from service import config
from service.errors import ConfigurationError, Denied, Unauthenticated

Scope = Literal["decide", "record", "import", "replay", "profile", "admin"]
SCOPES: Final[frozenset[str]] = frozenset(
    ("decide", "record", "import", "replay", "profile", "admin")
)


class Caller(NamedTuple):
    """Somebody who calls."""

    name: str
    scopes: frozenset[str]
    sources: frozenset[str] = frozenset()  # that it may send events of, besides its own name

    def speaks_for(self, source: str) -> bool:
        """Whether it may send events of a source; an importer brings those of others."""
        return source == self.name or source in self.sources or "import" in self.scopes

    def need(self, scope: Scope) -> None:
        """Insist on a scope.

        Raises:
            Denied: The caller lacks it.
        """
        if scope not in self.scopes:
            raise Denied(
                f"caller {self.name!r} lacks scope {scope!r}; it has: "
                f"{', '.join(sorted(self.scopes)) or 'none'}"
            )


class _Declared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    token_sha256: str
    scopes: list[Scope]
    sources: list[str] = []

    def __post_init__(self) -> None:
        if re.fullmatch("[0-9a-fA-F]{64}", self.token_sha256) is None:
            raise ValueError("write the 64 hexadecimal digits of `printf %s TOKEN | sha256sum`")


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    callers: dict[str, _Declared]


_REMEMBERED: Final = 1_000

EVERYBODY: Final = Caller("local", SCOPES)
NOBODY: Final = Caller("nobody", frozenset())

current: ContextVar[Caller] = ContextVar("caller", default=NOBODY)
"""The caller of the request that is being answered."""


class Callers:
    """The callers that a server knows; without a file, everybody may do everything."""

    def __init__(self, path: Path | None) -> None:
        declared = config.load(path, _File).callers if path is not None else {}
        self.open = path is None
        self._by_digest: dict[str, Caller] = {}
        self._known: dict[str, Caller] = {}  # by the headers that they have sent
        for name, one in declared.items():
            caller = Caller(name, frozenset(one.scopes), frozenset(one.sources))
            other = self._by_digest.setdefault(one.token_sha256.lower(), caller)
            if other is not caller:
                raise ConfigurationError(
                    f"{path}: callers.{name}: has the same token as {other.name!r}; "
                    "give every caller one of its own"
                )

    def identify(self, authorization: str) -> Caller:
        """Find the caller behind an ``authorization`` header.

        Raises:
            Unauthenticated: The header is absent, no bearer token, or of nobody known.
        """
        if self.open:
            return EVERYBODY
        if (known := self._known.get(authorization)) is not None:
            return known
        kind, _, token = authorization.partition(" ")
        caller = self._by_digest.get(hashlib.sha256(token.strip().encode()).hexdigest())
        if kind.lower() != "bearer" or caller is None:
            raise Unauthenticated(
                "send the metadata 'authorization: Bearer TOKEN' of a known caller"
            )
        if len(self._known) >= _REMEMBERED:  # by one who pads the token of theirs
            self._known.clear()
        self._known[authorization] = caller
        return caller
