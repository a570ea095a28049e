"""Code of fused conditions that another process compiled.

Python compiles in one go and lets no other thread run meanwhile: 8 ms for a hundred rules, which a
loop that serves must not wait for. So the process beside it compiles, and this one takes the code.
"""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType

_taken: dict[bytes, CodeType] = {}  # until it is used, by what it was compiled from
_gathering: list[Gathered] = []


class Gathered:
    """Code that was compiled while it was gathered."""

    def __init__(self) -> None:
        self.codes: dict[bytes, CodeType] = {}

    def written(self) -> bytes:
        """For :func:`take`, in a process of the same Python."""
        return marshal.dumps(self.codes)


@contextmanager
def gathered() -> Iterator[Gathered]:
    """Gather what is compiled, in this thread's own process."""
    found = Gathered()
    _gathering.append(found)
    try:
        yield found
    finally:
        _gathering.remove(found)


def take(written: bytes) -> None:
    """Have code at hand that was gathered; what was taken before is forgotten."""
    taken = marshal.loads(written)  # noqa: S302  from the process beside us
    _taken.clear()
    _taken.update(taken)


def code(source: str) -> CodeType:
    """The code of a source: what was taken, or else compiled here and now."""
    key = hashlib.blake2b(source.encode(), digest_size=16).digest()
    found = _taken.pop(key, None) or compile(source, "<rules>", "exec")
    for one in _gathering:
        one.codes[key] = found
    return found
