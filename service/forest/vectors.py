"""What is done to 64 trees or rows at once, which numba has no words for. Pure.

Vectors of LLVM's own, which it translates for any processor, with the same result: where there is
AVX-512, 64 look-ups in a table of 128 bytes are two instructions, and a sum over a set of rows is
one for eight of them. Only shuffles of AVX2 are named, since LLVM does not find them. Whoever calls
vouches for the addresses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

BLOCK: Final = 16
"""Thresholds that a value is compared with at once."""
WIDE: Final = 64
"""Trees, words or rows side by side."""
TABLED: Final = 128
"""Bytes of the table that tests look their customer's rank up in."""
STEADY_ROW: Final = 3 * WIDE
"""Bytes of 64 tests of :data:`exits`: lanes, places, first leaves."""
WORD_ROW: Final = 10 * WIDE
"""Bytes of 64 tests of :data:`remains`: lanes, places, what is kept if failed, if passed."""

_PERMUTES: Final = "+avx512vbmi"
_SHUFFLES: Final = "+avx2"
_SIXTEEN: Final = 16  # bytes that a shuffle looks up in
_HALF: Final = WIDE // 2
_INT32: Final = ir.IntType(32)
_INT64: Final = ir.IntType(64)
_BYTES: Final = ir.VectorType(ir.IntType(8), WIDE)
_FLAGS: Final = ir.VectorType(ir.IntType(1), WIDE)
_MASKS: Final = ir.VectorType(_INT32, WIDE)
_SUMS: Final = ir.VectorType(_INT64, WIDE)
_SHUFFLED: Final = ir.VectorType(ir.IntType(8), _HALF)

Build = Callable[[Any, Any, Any], None]

_variable: Final[Any] = cgutils.alloca_once_value
_function: Final[Any] = cgutils.get_or_insert_function


def _loaded(builder: Any, address: Any, kind: Any, offset: int = 0) -> Any:
    at = builder.add(address, _INT64(offset)) if offset else address
    return builder.load(builder.inttoptr(at, kind.as_pointer()), align=1)


def _stored(builder: Any, value: Any, address: Any) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=1)


def _times(builder: Any, index: Any, size: int) -> Any:
    return builder.mul(index, _INT64(size))


def _everywhere(builder: Any, value: Any, kind: Any) -> Any:
    one = builder.insert_element(kind(ir.Undefined), value, _INT32(0))
    places = ir.VectorType(_INT32, kind.count)([0] * kind.count)
    return builder.shuffle_vector(one, kind(ir.Undefined), places)


def _can(context: Any, feature: str) -> bool:
    """Whether the processor that is compiled for has some instructions."""
    return feature in context.codegen().magic_tuple()[2].split(",")


def _permuted(builder: Any, table: Any, places: Any) -> Any:
    """Elements of a table at 64 places: said one by one, which LLVM knows for a permutation."""
    found = _BYTES(ir.Undefined)
    for i in range(WIDE):
        place = builder.zext(builder.extract_element(places, _INT32(i)), _INT32)
        found = builder.insert_element(found, builder.extract_element(table, place), _INT32(i))
    return found


def _shuffled(builder: Any, table: Any, places: Any) -> Any:
    """The bytes of a table of ``TABLED``, at 32 places: looked up in each 16, then chosen by bits.

    A shuffle looks at the lowest four bits of a place, in the same 16 bytes for either half.
    """
    kind = ir.FunctionType(_SHUFFLED, [_SHUFFLED, _SHUFFLED])
    shuffle = _function(builder.module, kind, "llvm.x86.avx2.pshuf.b")
    sixteen = ir.VectorType(ir.IntType(8), _SIXTEEN)
    twice = ir.VectorType(_INT32, _HALF)([*range(_SIXTEEN)] * 2)
    found = []
    for begin in range(0, TABLED, _SIXTEEN):
        part = _loaded(builder, table, sixteen, begin)
        both = builder.shuffle_vector(part, sixteen(ir.Undefined), twice)
        found.append(builder.call(shuffle, [both, places]))
    pairs = ir.VectorType(ir.IntType(16), _HALF // 2)  # there is no shift of single bytes
    for bit in (4, 5, 6):  # to where the sign is
        moved = builder.shl(builder.bitcast(places, pairs), pairs([7 - bit] * pairs.count))
        signs = builder.bitcast(moved, _SHUFFLED)
        set_ = builder.icmp_signed("<", signs, _SHUFFLED([0] * _HALF))
        found = [builder.select(set_, *found[i : i + 2][::-1]) for i in range(0, len(found), 2)]
    return found[0]


def _looked_up(context: Any, builder: Any, table: Any, lanes: Any) -> Any:
    """The bytes of a table of ``TABLED``, at 64 places.

    Where the processor can neither permute 64 bytes nor shuffle 16, each is fetched from memory.
    """
    if _can(context, _PERMUTES):
        places = _loaded(builder, lanes, _BYTES)
        inside = builder.and_(places, _BYTES([WIDE - 1] * WIDE))
        low = _permuted(builder, _loaded(builder, table, _BYTES), inside)
        high = _permuted(builder, _loaded(builder, table, _BYTES, WIDE), inside)
        return builder.select(builder.icmp_unsigned("<", places, _BYTES([WIDE] * WIDE)), low, high)
    if _can(context, _SHUFFLES):
        halves = [
            _shuffled(builder, table, _loaded(builder, lanes, _SHUFFLED, begin))
            for begin in (0, _HALF)
        ]
        return builder.shuffle_vector(*halves, ir.VectorType(_INT32, WIDE)([*range(WIDE)]))
    found = _BYTES(ir.Undefined)
    for i in range(WIDE):
        lane = builder.zext(_loaded(builder, lanes, _BYTES.element, i), _INT64)
        rank = _loaded(builder, builder.add(table, lane), _BYTES.element)
        found = builder.insert_element(found, rank, _INT32(i))
    return found


def _bits(context: Any, builder: Any, word: Any) -> Any:
    """The bits of a word as flags; where these are bytes, each is spread over eight of them."""
    if _can(context, _PERMUTES):
        return builder.bitcast(word, _FLAGS)
    bytes_ = ir.VectorType(ir.IntType(8), 8)
    spread = ir.VectorType(_INT32, WIDE)([i // 8 for i in range(WIDE)])
    each = builder.shuffle_vector(builder.bitcast(word, bytes_), bytes_(ir.Undefined), spread)
    own = builder.and_(each, _BYTES([1 << i % 8 for i in range(WIDE)]))
    return builder.icmp_unsigned("!=", own, _BYTES([0] * WIDE))


def _failed(context: Any, builder: Any, tests: Any, table: Any, flips: Any) -> Any:
    """Who fails: the customer's rank in the test's lane is above its place, or a flip says so."""
    ranks = _looked_up(context, builder, table, tests)
    places = _loaded(builder, tests, _BYTES, WIDE)
    flipped = _bits(context, builder, _loaded(builder, flips, _INT64))
    return builder.xor(builder.icmp_unsigned(">", ranks, places), flipped)


def _of_addresses(count: int, build: Build) -> Any:
    """An intrinsic of whole numbers that returns nothing."""

    def made(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        build(context, builder, arguments)
        return context.get_dummy_value()

    return types.void(*[types.int64] * count), made


def _exits(_typing: Any, _tests: Any, _count: Any, _table: Any, _flips: Any, _leaves: Any) -> Any:
    def build(context: Any, builder: Any, arguments: Any) -> None:
        tests, count, table, flips, leaves = arguments
        kept = _variable(builder, _BYTES([0] * WIDE))
        with cgutils.for_range(builder, count) as loop:
            row = builder.add(tests, _times(builder, loop.index, STEADY_ROW))
            flip = builder.add(flips, _times(builder, loop.index, 8))
            failed = _failed(context, builder, row, table, flip)
            leaf, first = builder.load(kept), _loaded(builder, row, _BYTES, 2 * WIDE)
            moves = builder.and_(failed, builder.icmp_unsigned("<=", first, leaf))
            after = builder.trunc(builder.add(loop.index, _INT64(1)), _BYTES.element)
            after = _everywhere(builder, after, _BYTES)
            builder.store(builder.select(moves, after, leaf), kept)
        _stored(builder, builder.load(kept), leaves)

    return _of_addresses(5, build)


def _remains(_typing: Any, _tests: Any, _count: Any, _table: Any, _flips: Any, _masks: Any) -> Any:
    def build(context: Any, builder: Any, arguments: Any) -> None:
        tests, count, table, flips, masks = arguments
        kept = _variable(builder, _loaded(builder, masks, _MASKS))
        with cgutils.for_range(builder, count) as loop:
            row = builder.add(tests, _times(builder, loop.index, WORD_ROW))
            flip = builder.add(flips, _times(builder, loop.index, 8))
            failed = _failed(context, builder, row, table, flip)
            left = _loaded(builder, row, _MASKS, 2 * WIDE)
            right = _loaded(builder, row, _MASKS, 6 * WIDE)
            keeps = builder.select(failed, left, right)
            builder.store(builder.and_(builder.load(kept), keeps), kept)
        _stored(builder, builder.load(kept), masks)

    return _of_addresses(5, build)


def _added(_typing: Any, _hits: Any, _values: Any, _count: Any, _records: Any, _sums: Any) -> Any:
    def build(_context: Any, builder: Any, arguments: Any) -> None:
        hits, values, count, records, sums = arguments
        kept = _variable(builder, _SUMS([0] * WIDE))
        with cgutils.for_range(builder, count) as loop:
            hit = _loaded(builder, builder.add(hits, _times(builder, loop.index, 4)), _INT32)
            word = _times(builder, builder.zext(hit, _INT64), 8)
            members = _loaded(builder, builder.add(records, word), _INT64)
            value = _loaded(builder, builder.add(values, _times(builder, loop.index, 8)), _INT64)
            before = builder.load(kept)
            more = builder.add(before, _everywhere(builder, value, _SUMS))
            builder.store(builder.select(builder.bitcast(members, _FLAGS), more, before), kept)
        _stored(builder, builder.load(kept), sums)

    return _of_addresses(5, build)


def _below(_typing: Any, _thresholds: Any, _value: Any) -> Any:
    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = ir.VectorType(ir.DoubleType(), BLOCK)
        thresholds = _loaded(builder, arguments[0], kind)
        value = _everywhere(builder, arguments[1], kind)
        flags = builder.fcmp_ordered("<", thresholds, value)
        count = builder.ctpop(builder.bitcast(flags, ir.IntType(BLOCK)))
        return builder.zext(count, _INT64)

    return types.int64(types.int64, types.float64), build


below: Any = intrinsic(_below)
"""How many thresholds of a block are below a value: ``below(thresholds, value)``."""

exits: Any = intrinsic(_exits)
"""The leaves that a customer reaches in 64 trees: ``exits(tests, count, table, flips, leaves)``.

All are addresses but ``count``, of rows of 64 tests. Nodes are in the order of their trees from
left to right: node ``i`` stands between leaves ``i`` and ``i + 1``, and who fails it is in none of
those from the first of its left subtree on. So the first leaf that is left over is found in one
pass: where a node that is failed begins at or before it, it moves behind the node.
"""

remains: Any = intrinsic(_remains)
"""The leaves left over in 64 words: ``remains(tests, count, table, flips, masks)``.

``masks`` is what there is before, 64 words of 32 bits, and is overwritten.
"""

added: Any = intrinsic(_added)
"""Sums of 64 rows: ``added(hits, values, count, records, sums)``.

``hits`` are places of 64-bit sets of rows, counted in words from ``records``; the value of a hit is
added for the rows of its set, and ``sums``, 64 of them, are overwritten.
"""
