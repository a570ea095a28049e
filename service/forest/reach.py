"""Which rows of a catalogue can reach which leaves, worked out once. Pure.

After the tests on action features (and on the pair features of a customer without events) some
leaves of a tree are out of reach for a row, whoever the customer is. What is left is kept both
ways: the leaves of a row as bits of 32-bit words, and the rows of a leaf as bits of 64-bit words.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from features.elementary import Floats
from features.kernels import Integers
from service.forest.trees import Trees, Words
from service.forest.walk import goes_right

Flags = npt.NDArray[np.bool_]
Sets = npt.NDArray[np.uint64]


@numba.njit(cache=True)
def reached(
    trees: Trees,
    spans: Integers,
    word_at: Integers,
    chosen: Flags,
    values: Floats,
    out: Words,
) -> None:
    """Clear in ``out`` the leaves that rows cannot reach after the tests of the chosen nodes.

    Args:
        trees: The model.
        spans: [nodes, 3] from :func:`service.forest.walk.spans`.
        word_at: [trees] row of ``out`` that holds a tree's first 32 leaves.
        chosen: [nodes] whose tests to make.
        values: [columns, rows].
        out: [words, rows].
    """
    for tree in range(trees.of_class.shape[0]):
        for node in range(trees.node_at[tree], trees.node_at[tree + 1]):
            if not chosen[node]:
                continue
            column = trees.feature[node]
            for row in range(values.shape[1]):
                right = goes_right(trees, node, values[column, row])
                begin, end = spans[node, 0], spans[node, 1]
                if not right:
                    begin, end = end, spans[node, 2]
                for word in range(begin >> 5, ((end - 1) >> 5) + 1):
                    low, high = max(begin - 32 * word, 0), min(end - 32 * word, 32)
                    gone = ((1 << (high - low)) - 1) << low
                    out[word_at[tree] + word, row] &= np.uint32(~gone & 0xFFFFFFFF)


@numba.njit(cache=True)
def rows_of_leaves(
    masks: Words, source: Integers, takes: Flags, records: Sets, alive: Words
) -> None:
    """Turn leaves by row into rows by leaf.

    Args:
        masks: [words of the model, rows] leaves in reach.
        source: [words] which of these words each is about.
        takes: [words, rows] whether it is the word to look at for a row.
        records: [words x 32, 1 + sets] whose sets to fill.
        alive: [words] overwritten: leaves that any row can reach.
    """
    for word in range(source.shape[0]):
        alive[word] = 0
        for row in range(masks.shape[1]):
            if not takes[word, row]:
                continue
            bits = masks[source[word], row]
            alive[word] |= bits
            for bit in range(32):
                if (bits >> np.uint32(bit)) & 1:
                    records[32 * word + bit, 1 + (row >> 6)] |= np.uint64(1) << np.uint64(row & 63)


@numba.njit(cache=True)
def listed(records: Sets, rows: int) -> tuple[Words, Words]:
    """Rewrite sets of few rows as lists, where their record has room.

    A list is 16-bit numbers: how many follow, and these rows; filled up to eights with ``rows``,
    which is none.

    Args:
        records: [words x 32, 1 + sets]; sets are overwritten.
        rows: Of the catalogue.

    Returns:
        [words] leaves that have a list; [words] leaves of more than half of all rows.
    """
    few = np.zeros(records.shape[0] // 32, np.uint32)
    most = np.zeros(records.shape[0] // 32, np.uint32)
    room = 4 * (records.shape[1] - 1)
    members = np.empty(room, np.uint16)
    for leaf in range(records.shape[0]):
        count = 0
        for row in range(rows):
            if (records[leaf, 1 + (row >> 6)] >> np.uint64(row & 63)) & np.uint64(1):
                count += 1
                if count < room:
                    members[count] = row
        bit = np.uint32(1) << np.uint32(leaf & 31)
        if 2 * count > rows:
            most[leaf >> 5] |= bit
        padded = -(-count // 8) * 8
        if padded < room:
            few[leaf >> 5] |= bit
            members[0] = padded
            members[count + 1 :] = rows
            for i in range(room):
                if i & 3 == 0:
                    records[leaf, 1 + (i >> 2)] = 0
                records[leaf, 1 + (i >> 2)] |= np.uint64(members[i]) << np.uint64(16 * (i & 3))
    return few, most
