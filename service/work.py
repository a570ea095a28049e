"""What the process beside the server does: ``service.workshop`` starts it and asks.

One task at a time, each a function of :data:`TASKS`. It is polite: it leaves the processor to
whoever serves, is the first to go when memory runs out, and ends after a minute without work.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from service import bundle as bundles
from service import parcel
from service.business import load, published
from service.models import Models
from service.policies import Policies
from service.rules import compiled

_IDLE_SECONDS: Final = 60.0
_POLITE: Final = 5
_FIRST_TO_GO: Final = b"800"  # of 1,000


class _Latest(NamedTuple):
    checksum: str
    models: Models


_latest: list[_Latest] = []


def models(blob: bytes, written: bytes) -> Iterable[object]:
    """Verify a bundle against a configuration; give the models, part by part.

    Raises:
        BundleRefused: It does not verify, or does not fit.
    """
    found = Models(bundles.unpack(blob), published(written))
    _latest[:] = [_Latest(found.checksum, found)]
    return found.parts()


def contributions(checksum: str, blob: bytes | None, written: bytes, row: bytes) -> list[object]:
    """What each feature added to a row's log-odds; None where the bundle is needed and absent."""
    if not _latest or _latest[0].checksum != checksum:
        if blob is None:
            return [None]
        models(blob, written)
    return [_latest[0].models.contributions(np.frombuffer(row))]


def configuration(path: Path, known: str) -> list[object]:
    """Read and check a configuration, and compile its conditions.

    Args:
        path: Folder or file.
        known: Digest of the one that serves.

    Returns:
        Its digest, what it publishes, and code for :func:`service.rules.compiled.take`; nothing
        where it is the one that is known.

    Raises:
        ConfigurationError: A file is wrong.
    """
    business = load(path)
    if business.digest == known:
        return []
    with compiled.gathered() as code:
        Policies(business)
    return [business.digest, business.written(), code.written()]


TASKS: Final[dict[str, Callable[..., Iterable[object]]]] = {
    one.__name__: one for one in (models, contributions, configuration)
}


def _done(task: str, arguments: tuple[Any, ...]) -> int:
    try:
        return parcel.pack([None, *TASKS[task](*arguments)])
    except Exception as error:  # noqa: BLE001  whoever asked is told
        return parcel.pack([(type(error).__name__, str(error))])


def _behave() -> None:
    os.nice(_POLITE)
    if hasattr(os, "SCHED_BATCH"):  # when it wakes, whoever serves goes on
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_bytes(_FIRST_TO_GO)


def main() -> None:
    """Do what is asked over the socket whose number was given, until it closes."""
    _behave()
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        while select.select([channel], [], [], _IDLE_SECONDS)[0]:
            told, found, _, _ = socket.recv_fds(channel, 1, 1)
            if not told:
                return
            ((task, arguments),) = parcel.unpack(found[0])
            answer = _done(task, arguments)
            with suppress(BrokenPipeError):
                socket.send_fds(channel, [b"."], [answer])
            os.close(answer)


if __name__ == "__main__":
    main()
