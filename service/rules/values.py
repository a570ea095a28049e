"""CEL's semantics at run time: every operation a rule may use, and what makes it fail. Pure.

An operation is a piece of Python over its arguments, so that translation can put it straight into
the fused function, and folding runs the very same piece. Where CEL and Python differ (overflow,
division, NaN in lists) the piece calls a function from here.

Reference: https://github.com/google/cel-spec/blob/master/doc/langdef.md; where it leaves room,
cel-cpp as the tests meet it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

T = TypeVar("T")

LOWEST: Final = -(2**63)
HIGHEST: Final = 2**63 - 1


class Unknown(NamedTuple):
    """Why a rule could not be evaluated, such as "customer.age is not known"."""

    what: str


class Failure(Exception):
    """An operation failed; carries the answer of the rule unless ``&&`` or ``||`` absorbs it."""

    def __init__(self, what: str) -> None:
        self.unknown = Unknown(what)
        super().__init__(what)


class Operation(NamedTuple):
    """One operation: Python over ``{0}`` and ``{1}``, and whether it can fail on set arguments."""

    python: str
    partial: bool = False


def int64(value: int) -> int:
    """Refuse what has no room in 64 bits."""
    if LOWEST <= value <= HIGHEST:
        return value
    raise Failure("integer overflow")


def quotient(a: int, b: int) -> int:
    """Integer division towards zero, as C's."""
    if b == 0:
        raise Failure("division by zero")
    return int64(a // b if (a < 0) == (b < 0) else -(-a // b))


def remainder(a: int, b: int) -> int:
    """What integer division leaves, with the sign of ``a``."""
    if b == 0:
        raise Failure("division by zero")
    return a - b * quotient(a, b)


def ratio(a: float, b: float) -> float:
    """IEEE division, where Python would raise."""
    if b:
        return a / b
    if a == 0 or math.isnan(a) or math.isnan(b):
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1, b)


def truncated(value: float) -> int:
    """A double without its fraction; cel-cpp leaves out both ends of the range."""
    if LOWEST < value < 2**63:
        return int(value)
    raise Failure(f"{value!r} has no room in a count")


def among(value: float, items: Sequence[float]) -> bool:
    """Membership by ``==`` alone: Python's ``in`` finds the very same NaN."""
    return any(value == item for item in items)


def same(a: Any, b: Any) -> bool:
    """Whether two lists or two maps are equal, NaN in them equal to nothing."""
    if len(a) != len(b):
        return False
    if isinstance(a, Mapping):
        return all(key in b and value == b[key] for key, value in a.items())
    return all(one == other for one, other in zip(a, b, strict=True))


def item(items: Sequence[T], at: int, name: str) -> T:
    """A list's item; never from its end, as Python's."""
    if 0 <= at < len(items):
        return items[at]
    raise Failure(f"no item {at} in {name}")


def lookup(items: Mapping[str, T], key: str, name: str) -> T:
    """A map's value."""
    found = items.get(key)
    if found is None:
        raise Failure(f"no key {key!r} in {name}")
    return found


OPERATIONS: Final[Mapping[str, Operation]] = {
    "not": Operation("not {0}"),
    "equal": Operation("{0} == {1}"),
    "unequal": Operation("{0} != {1}"),
    "equal_many": Operation("same({0}, {1})"),
    "unequal_many": Operation("not same({0}, {1})"),
    "less": Operation("{0} < {1}"),
    "at_most": Operation("{0} <= {1}"),
    "greater": Operation("{0} > {1}"),
    "at_least": Operation("{0} >= {1}"),
    "add_numbers": Operation("{0} + {1}"),
    "subtract_numbers": Operation("{0} - {1}"),
    "multiply_numbers": Operation("{0} * {1}"),
    "divide_numbers": Operation("ratio({0}, {1})"),
    "negate_number": Operation("-{0}"),
    "add_counts": Operation("int64({0} + {1})", partial=True),
    "subtract_counts": Operation("int64({0} - {1})", partial=True),
    "multiply_counts": Operation("int64({0} * {1})", partial=True),
    "divide_counts": Operation("quotient({0}, {1})", partial=True),
    "remainder": Operation("remainder({0}, {1})", partial=True),
    "negate_count": Operation("int64(-{0})", partial=True),
    "join": Operation("{0} + {1}"),
    "in_numbers": Operation("among({0}, {1})"),
    "in_list": Operation("{0} in {1}"),
    "in_map": Operation("{0} in {1}"),
    "item": Operation("item({0}, {1}, {name})", partial=True),
    "lookup": Operation("lookup({0}, {1}, {name})", partial=True),
    "size": Operation("length({0})"),
    "starts_with": Operation("{0}.startswith({1})"),
    "ends_with": Operation("{0}.endswith({1})"),
    "contains": Operation("{0}.find({1}) >= 0"),  # `in` would look at the other one first
    "number_to_count": Operation("truncated({0})", partial=True),
    "count_to_number": Operation("number({0})"),
    "count_to_text": Operation("text({0})"),
    "flag_to_text": Operation("'true' if {0} else 'false'"),
}

NAMES: Final[Mapping[str, Callable[..., Any] | type]] = {
    "int64": int64,
    "quotient": quotient,
    "remainder": remainder,
    "ratio": ratio,
    "truncated": truncated,
    "among": among,
    "same": same,
    "item": item,
    "lookup": lookup,
    "length": len,
    "number": float,
    "text": str,
    "Failure": Failure,
    "Unknown": Unknown,
}


def pieces() -> Mapping[str, Callable[[Any, Any, str], Any]]:
    """Each operation as a function of two arguments and the name of the first."""
    world = {**NAMES, "__builtins__": {}}
    return {
        op: eval(f"lambda a, b, name: {one.python.format('a', 'b', name='name')}", world)  # noqa: S307 - the table above
        for op, one in OPERATIONS.items()
    }
