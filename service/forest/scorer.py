"""A compiled forest, ready to answer."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from features.elementary import Floats
from features.kernels import Integers
from service.forest import layout
from service.forest.kernels import score
from service.forest.layout import aligned, number
from service.forest.trees import Bytes

_NOBODY: Final = np.zeros(0, np.int64)


class Forest:
    """Scores all rows of the catalogue that a block was compiled for.

    Buffers are reused from call to call: not for several threads at once.

    Args:
        block: From :func:`service.forest.compile`, or what :meth:`pack` wrote.

    Raises:
        ValueError: The bytes are no block, or one of another version.
    """

    def __init__(self, block: Bytes | bytes | Path) -> None:
        self._block = block if isinstance(block, np.ndarray) else layout.read(block)
        self._scratch = aligned(number(self._block, layout.SCRATCH))
        self.addresses = int(self._block.ctypes.data), int(self._scratch.ctypes.data)
        """Of the block and of its buffers, for :func:`service.forest.kernels.score`."""
        self.rows, self.classes, self._vector, self._pairs = (
            number(self._block, which)
            for which in (layout.ROWS, layout.CLASSES, layout.VECTOR, layout.PAIRS)
        )
        answer = layout.section(self._block, layout.ANSWER, self._scratch, np.float64)
        self._out = answer.reshape(self.rows, self.classes)
        self._none = np.empty((0, self._pairs))

    def __reduce__(self) -> tuple[type[Forest], tuple[Bytes]]:
        return Forest, (self._block,)

    def score(
        self, vector: Floats, touched: Integers = _NOBODY, pairs: Floats | None = None
    ) -> Floats:
        """Score every row for one customer.

        Args:
            vector: [customer columns].
            touched: [n] rows whose pair features may differ from the usual ones, each once.
            pairs: [n, pair columns] these.

        Returns:
            [rows, classes] raw scores; overwritten by the next call.

        Raises:
            ValueError: A shape does not fit, or a row is not of this catalogue.
        """
        own = self._none if pairs is None else pairs
        if vector.shape != (self._vector,) or own.shape != (len(touched), self._pairs):
            raise ValueError(
                f"{self._vector} customer columns and {self._pairs} pair columns are needed; "
                f"given {vector.shape}, and {own.shape} for {len(touched)} rows"
            )
        if not score(*self.addresses, vector, touched, own):
            raise ValueError(f"touched names rows beyond the {self.rows} of the catalogue")
        return self._out

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of the block, and of the buffers beside it."""
        return len(self._block), len(self._scratch)

    def pack(self) -> bytes:
        """Write the block, for :class:`Forest` in another process."""
        return self._block.tobytes()
