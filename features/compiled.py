"""Where compiled kernels are kept: apart for every state of their sources.

Numba looks at the file of a kernel to see whether what it has kept still holds, and not at the
files of the kernels that this one calls. After an update of one of them it would go on with the old
one inside, over data that is laid out anew. Looks at files when the package is imported; not pure.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import numba

PACKAGES: Final = ("features", "service")
"""Folders beside each other that have kernels."""


def digest(root: Path) -> str:
    """Sixteen hexadecimal digits that change with any module that has kernels.

    Args:
        root: What holds the :data:`PACKAGES`.
    """
    found = hashlib.blake2b(numba.__version__.encode(), digest_size=8)
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            source = path.read_bytes()
            if b"numba" in source:
                found.update(b"%b\0%d\0" % (str(path.relative_to(root)).encode(), len(source)))
                found.update(source)
    return found.hexdigest()


def keep_apart() -> Path:
    """Let numba keep what it compiles in a folder of its own for these sources; before any kernel.

    It is a folder of ``NUMBA_CACHE_DIR`` where that is set, and else of ours; where it cannot be
    written numba has places of its own.
    """
    root = Path(__file__).parent.parent
    base = numba.config.CACHE_DIR or root / "features" / "__pycache__"  # type: ignore[attr-defined]
    folder = Path(base) / f"kernels-{digest(root)}"
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    return folder
