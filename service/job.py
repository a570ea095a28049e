"""What one serving process has to do, and what it says to whoever keeps it. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from features.duration import DAY

LOOK: Final = b"look\n"
"""Word to a worker: look at once what has changed in the store and the files."""


class Settings(NamedTuple):
    """How to serve."""

    listen: str = "127.0.0.1:50051"
    tenant: str = "main"
    callers: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    deadline: float = 0.25  # seconds, for calls that bring none
    grace: float = 5.0  # seconds that calls in flight get when it stops
    log_age: int = 7 * DAY  # milliseconds
    log_entries: int = 5_000_000
    archive: Path | None = None
    configuration: Path | None = None  # watched for changes; None: it never changes
    greedy: bool = False  # leave nothing to chance
    connection_age: float = 0.0  # seconds until a connection is asked to go elsewhere; 0: never
    metrics: str = ""  # address of the pages; empty: none
    own: str = ""  # an address of this worker alone; it shares ``listen`` with others then
    number: int = 0  # of this worker among those that serve together
    worker: str = ""  # its four hexadecimal digits in decision ids; empty: drawn


class Job(msgspec.Struct, frozen=True):
    """What a worker is started with."""

    config: Path
    url: str  # of the store; it may hold a password, so it never is an argument of a process
    settings: Settings
    bundle: Path | None = None  # to publish and put in charge before serving


class Serving(msgspec.Struct, frozen=True, tag=True):
    """It takes calls from now on."""


class Refused(msgspec.Struct, frozen=True, tag=True):
    """It can't start, and trying again won't help before somebody mends what it names."""

    why: str


class Changed(msgspec.Struct, frozen=True, tag=True):
    """An operator changed bundle, configuration or prices here."""


Report = Serving | Refused | Changed


def written(message: Job | Report) -> bytes:
    """A job or report as a line."""
    return msgspec.json.encode(message, enc_hook=str) + b"\n"


def job(line: bytes) -> Job:
    """Read a job.

    Raises:
        ValueError: It is none.
    """
    return msgspec.json.decode(line, type=Job, dec_hook=_decoded)


def report(line: bytes) -> Report:
    """Read a report.

    Raises:
        ValueError: It is none.
    """
    decoded: Report = msgspec.json.decode(line, type=Report)
    return decoded


def _decoded(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError(kind)
