"""Compile trees against the rows of a catalogue into one block of bytes. Pure.

``docs/decisions/0007-a-forest-for-one-catalogue.md`` says how a score is found and why this way.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.elementary import Floats
from features.kernels import Integers
from service.forest import asked, layout
from service.forest.reach import Flags, listed, reached, rows_of_leaves
from service.forest.shape import ACTION, CUSTOMER, PAIR, Shape, places, shape_of, whole
from service.forest.trees import Bytes, Trees, Words
from service.forest.vectors import TABLED, WIDE

_LARGEST: Final = 1 << 31
_WIDEST: Final = 1 << 16


def compile(
    trees: Trees,
    rows: Floats,
    kinds: Integers,
    hidden_rows: Flags | None = None,
    hidden_columns: Integers | None = None,
) -> Bytes:
    """Compile a forest for the rows of one catalogue.

    Args:
        trees: Model or models.
        rows: [rows, columns] action features, and the pair features of a customer without events
            about the action; what customer columns hold does not matter.
        kinds: [columns] CUSTOMER, ACTION or PAIR.
        hidden_rows: [rows] True where ``hidden_columns`` are always NaN.
        hidden_columns: Customer columns.

    Returns:
        A block for :class:`service.forest.Forest`.

    Raises:
        ValueError: Shapes do not fit, or the forest is too large to be addressed.
    """
    count, columns = rows.shape
    if columns != trees.columns or kinds.shape != (columns,):
        raise ValueError(
            f"rows have {columns} columns, kinds {len(kinds)}, the forest {trees.columns}"
        )
    if not 0 < count < _WIDEST:
        raise ValueError(f"a catalogue has 1 to {_WIDEST - 1} rows, this one {count}")
    hides = np.zeros(count, np.bool_) if hidden_rows is None else np.asarray(hidden_rows, np.bool_)
    unseen = np.zeros(columns, np.bool_)
    if hidden_columns is not None and hides.any():
        unseen[hidden_columns] = True
    if (unseen & (kinds != CUSTOMER)).any():
        raise ValueError("only columns of the customer can be hidden")
    shape = shape_of(trees, kinds, unseen)
    if 32 * shape.total * (1 + -(-count // WIDE)) >= _LARGEST:
        raise ValueError(
            f"{shape.total} x 32 leaves for {count} rows are too many; use fewer trees"
        )
    kind = kinds[trees.feature]
    values = np.ascontiguousarray(rows.T, np.float64)
    by_action = np.repeat(whole(trees, shape)[:, None], count, axis=1)
    reached(trees, shape.spans, shape.before, kind == ACTION, values, by_action)
    by_row = by_action.copy()
    reached(trees, shape.spans, shape.before, kind == PAIR, values, by_row)
    usual = np.ascontiguousarray(rows[:, kinds == PAIR], np.float64)
    sections = {
        **asked.customer(trees, shape, kinds, unseen),
        **_read(trees, shape, by_row, hides),
        **asked.pairs(trees, shape, kinds, by_action),
        layout.HIDES: hides.astype(np.uint8),
        layout.USUAL: usual,
    }
    pair_words = sections[layout.PAIR_WORD].shape[1]
    flips = max(len(sections[of + layout.USUAL_FLIPS]) for of in (layout.CUSTOMER, layout.PAIR))
    each = -(-count // WIDE)
    leaves = 32 * shape.total + 1
    numbers = {
        layout.ROWS: count,
        layout.CLASSES: trees.classes,
        layout.WORDS: shape.total,
        layout.VECTOR: int((kinds == CUSTOMER).sum()),
        layout.PAIRS: usual.shape[1],
        layout.PAIR_WORDS: pair_words,
        layout.SETS_EACH: each,
    }
    scratch = {
        layout.TABLE: (TABLED, 1),
        layout.FLIPS: (flips, 8),
        layout.EXITS: (WIDE, 1),
        layout.STEADY_TOTALS: (trees.classes, 8),
        layout.MASKS: (len(sections[layout.WHOLE]), 4),
        layout.HIT_AT: (leaves, 4),
        layout.HIT_VALUE: (leaves, 8),
        layout.TOTALS: (trees.classes * 2 * (WIDE * each + 8), 8),
        layout.BASES: (trees.classes * 2, 8),
        layout.PAIR_MASKS: (2 * pair_words, 4),
        layout.ROW_MASKS: (WIDE * len(sections[layout.PAIR_PACKS]), 4),
        layout.ROW_TOTALS: (trees.classes, 8),
        layout.KEPT: (count, 8),
        layout.ANSWER: (count * trees.classes, 8),
    }
    return layout.write(numbers, sections, scratch)


def _read(trees: Trees, shape: Shape, by_row: Words, hides: Flags) -> dict[int, npt.NDArray[Any]]:
    """Leaves of words, and which rows each adds to."""
    tree = np.repeat(np.arange(len(shape.words)), np.diff(trees.leaf_at))
    leaves = np.zeros(32 * shape.total, np.int64)
    for at in (shape.word[tree], shape.twin[tree]):
        there = at >= 0
        leaves[32 * at[there] + shape.place[there]] = trees.units[there]
    # one entry a word: its tree, its word in the model, its rows
    owner, source = np.zeros((2, shape.total), np.int64)
    start = np.zeros(shape.total, np.uint8)
    takes = np.ones((shape.total, len(hides)), np.bool_)
    of, model, word = places(shape, shape.word >= 0)
    owner[word], source[word] = of, model
    start[shape.word[shape.word >= 0]] = 1
    felt = shape.twin[of] >= 0
    away = word[felt] + shape.words[of[felt]]
    owner[away], source[away] = of[felt], model[felt]
    takes[word[felt]], takes[away] = ~hides, hides
    start[shape.word[shape.twin >= 0]] = 2
    start[shape.twin[shape.twin >= 0]] = 2
    family = (2 * trees.of_class + shape.paired)[owner]
    records = np.zeros((32 * shape.total, 1 + -(-len(hides) // 64)), np.uint64)
    alive = np.zeros(shape.total, np.uint32)
    rows_of_leaves(by_row, source, takes, records, alive)
    few, most = listed(records, len(hides))
    records[:, 0] = leaves.view(np.uint64)
    ends = np.searchsorted(family, np.arange(2 * trees.classes + 1))
    return {
        layout.SCALE: np.ldexp(1.0, -trees.shift),
        layout.SPANS: ends.astype(np.int32),
        layout.START: start,
        layout.ALIVE: alive,
        layout.FEW: few,
        layout.MOST: most,
        layout.RECORDS: records,
    }
