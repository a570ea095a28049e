"""Everything that Rapport raises on purpose, as one tree.

    RapportError
    ├── InvalidRequest       INVALID_ARGUMENT    a field is wrong; carries violations
    ├── NotFound             NOT_FOUND           a decision, a bundle that does not exist
    ├── Denied               PERMISSION_DENIED   the caller lacks the scope
    ├── Unauthenticated      UNAUTHENTICATED     the token is not known
    ├── Conflict             ABORTED             somebody else was faster; read and try again
    ├── Precondition         FAILED_PRECONDITION the state forbids it
    ├── StoreUnavailable     UNAVAILABLE         the store did not answer; try again
    ├── Unfinished           UNAVAILABLE         work beside the server was cut off; try again
    ├── Unreadable           DATA_LOSS           what is stored of a customer cannot be read
    ├── ConfigurationError   (at start)          a file is wrong; names file, line and field
    └── BundleRefused        FAILED_PRECONDITION a bundle does not verify; says why

Each class carries its gRPC status; one interceptor translates. A message names field, value and
remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import grpc


class Violation(NamedTuple):
    """One wrong field: its path, and a sentence that names the value and the remedy."""

    field: str
    description: str


class RapportError(Exception):
    """Root of the tree."""

    status: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL


class InvalidRequest(RapportError):
    """One or more fields of a request are wrong."""

    status = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(f"{field}: {why}" for field, why in self.violations))


def invalid(field: str, description: str) -> InvalidRequest:
    """Build the error for a single wrong field."""
    return InvalidRequest([Violation(field, description)])


class NotFound(RapportError):
    """What was asked for is not there."""

    status = grpc.StatusCode.NOT_FOUND


class Denied(RapportError):
    """The caller is known and may not do this."""

    status = grpc.StatusCode.PERMISSION_DENIED


class Unauthenticated(RapportError):
    """The caller is not known."""

    status = grpc.StatusCode.UNAUTHENTICATED


class Conflict(RapportError):
    """The state changed since the caller read it."""

    status = grpc.StatusCode.ABORTED


class Precondition(RapportError):
    """The state does not allow it, and trying again will not help."""

    status = grpc.StatusCode.FAILED_PRECONDITION


class StoreUnavailable(RapportError):
    """The store did not answer. Trying again is safe: nothing is stored twice."""

    status = grpc.StatusCode.UNAVAILABLE


class Unfinished(RapportError):
    """The process that works beside the server ended before its task; nothing has changed."""

    status = grpc.StatusCode.UNAVAILABLE


class Unreadable(RapportError):
    """What is stored of a customer is no timeline or profile; somebody else wrote to its key."""

    status = grpc.StatusCode.DATA_LOSS


class ConfigurationError(RapportError):
    """A file of the configuration is wrong."""

    status = grpc.StatusCode.FAILED_PRECONDITION


class BundleRefused(RapportError):
    """A bundle is truncated, altered, or does not fit this server; the old one goes on serving."""

    status = grpc.StatusCode.FAILED_PRECONDITION
