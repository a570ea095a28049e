"""Objects for another process of ours, their arrays beside them in one file that is mapped.

The file has no name and no place on a disk where the kernel can do without. Who unpacks it reads no
array: pages come in as they are looked at, and stay private where they are written to. Only for
files that a process of our own wrote: to unpack is to trust.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any, Final

_ALIGNED: Final = 64  # bytes: a cache line
_WORD: Final = 8
_SMALL: Final = 256  # bytes; an array below this is not worth a place of its own


def pack(parts: Iterable[object]) -> int:
    """Write objects, which may share what they refer to; give the file's descriptor."""
    beside: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < _SMALL:
            return True  # goes with the object
        beside.append(raw)
        return False

    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, protocol=5, buffer_callback=keep)
    count = 0
    for count, part in enumerate(parts, 1):  # noqa: B007  their number is wanted
        pickler.dump(part)
    written = stream.getbuffer()
    sizes = [count, written.nbytes, *(raw.nbytes for raw in beside)]
    descriptor = _nameless()
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(b"".join(size.to_bytes(_WORD) for size in [len(sizes), *sizes]))
            for raw in (written, *beside):
                file.write(bytes(-file.tell() % _ALIGNED))
                file.write(raw)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def unpack(descriptor: int) -> Iterator[Any]:
    """Give the objects one after another; arrays are views of the mapped file.

    Each is made in one go, and between two of them another thread may run: what is large is packed
    in parts. The descriptor is closed at once; the mapping ends with the last array.
    """
    try:
        mapped = memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY))
    finally:
        os.close(descriptor)
    words = int.from_bytes(mapped[:_WORD])
    at = _WORD * (words + 1)
    sizes = [int.from_bytes(mapped[i : i + _WORD]) for i in range(_WORD, at, _WORD)]
    places = []
    for size in sizes[1:]:
        at += -at % _ALIGNED
        places.append(mapped[at : at + size])
        at += size
    unpickler = pickle.Unpickler(io.BytesIO(places[0]), buffers=places[1:])  # noqa: S301  ours
    for _ in range(sizes[0]):
        yield unpickler.load()


def _nameless() -> int:
    """A file that ends with its last descriptor."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("rapport")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
