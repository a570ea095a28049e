"""A checked rule as plain structs: what is published, compared, specialised and translated. Pure.

Only what stands here can run. A tree knows its types already (each operation is named for the
kinds it takes), so neither folding nor translation has to guess, and it is equal to another exactly
if both say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import msgspec

MAX_DEPTH: Final = 40
MAX_NODES: Final = 600


class Number(msgspec.Struct, frozen=True, tag="number"):
    """A double, as Python writes it: JSON lacks NaN and infinities, and NaN equals nothing."""

    text: str


class Count(msgspec.Struct, frozen=True, tag="count"):
    """An int64."""

    value: int


class Flag(msgspec.Struct, frozen=True, tag="flag"):
    """A truth value."""

    value: bool


class Text(msgspec.Struct, frozen=True, tag="text"):
    """A string."""

    value: str


class Many(msgspec.Struct, frozen=True, tag="many"):
    """A list of scalars of one kind."""

    items: tuple[Node, ...]


class Table(msgspec.Struct, frozen=True, tag="table"):
    """A map from text to constant scalars of one kind, ordered by key."""

    keys: tuple[str, ...]
    values: tuple[Node, ...]


class Field(msgspec.Struct, frozen=True, tag="field"):
    """What is known of a customer, a journey, an action; an error where it is unset."""

    root: str
    name: str
    kind: str


class Has(msgspec.Struct, frozen=True, tag="has"):
    """Whether a field is set; never an error."""

    root: str
    name: str


class Call(msgspec.Struct, frozen=True, tag="call"):
    """An operation that fails where an argument fails; ``service.rules.values`` lists them."""

    op: str
    args: tuple[Node, ...]


class And(msgspec.Struct, frozen=True, tag="and"):
    """False if any argument is false, else an error if any is, else true."""

    args: tuple[Node, ...]


class Or(msgspec.Struct, frozen=True, tag="or"):
    """True if any argument is true, else an error if any is, else false."""

    args: tuple[Node, ...]


class Choose(msgspec.Struct, frozen=True, tag="choose"):
    """One of two, by a test; the other does not matter, errors included."""

    test: Node
    yes: Node
    no: Node


class Fail(msgspec.Struct, frozen=True, tag="fail"):
    """An error found before the rule ran, as when a constant is unset."""

    what: str


Constant: TypeAlias = Number | Count | Flag | Text
Node: TypeAlias = (
    Number | Count | Flag | Text | Many | Table | Field | Has | Call | And | Or | Choose | Fail
)


class Checked(msgspec.Struct, frozen=True):
    """A rule whose types are right.

    Attributes:
        text: The rule as it was written.
        tree: What it means.
        reads: The fields that can matter to it, sorted, such as ``["customer.age"]``.
    """

    text: str
    tree: Node
    reads: list[str]


def children(node: Node) -> tuple[Node, ...]:
    """The nodes right below one."""
    match node:
        case Many(items=below) | Table(values=below):
            return below
        case Call(args=below) | And(args=below) | Or(args=below):
            return below
        case Choose(test=test, yes=yes, no=no):
            return (test, yes, no)
        case _:
            return ()


def walk(node: Node) -> Iterator[Node]:
    """A node and all below it, each before those below it, in the order they are written."""
    waiting = [node]
    while waiting:
        yield (one := waiting.pop())
        waiting.extend(reversed(children(one)))


def depth(node: Node) -> int:
    """Levels of a tree; stops counting just above ``MAX_DEPTH``."""
    level, levels = [node], 0
    while level and levels <= MAX_DEPTH:
        level, levels = [below for one in level for below in children(one)], levels + 1
    return levels


def too_big(node: Node) -> str | None:
    """Say which limit a tree breaks, or None."""
    if depth(node) > MAX_DEPTH:
        return f"nests deeper than {MAX_DEPTH}; split it into several rules"
    if sum(1 for _ in walk(node)) > MAX_NODES:
        return f"has more than {MAX_NODES} parts; split it into several rules"
    return None


def reads(node: Node) -> list[str]:
    """The fields that a tree reads or asks for, sorted."""
    return sorted({f"{one.root}.{one.name}" for one in walk(node) if isinstance(one, Field | Has)})


def rebuilt(node: Node, change: Callable[[Node], Node]) -> Node:
    """The same node over changed ones."""
    match node:
        case Many(items=items):
            return Many(tuple(map(change, items)))
        case Call(op=op, args=args):
            return Call(op, tuple(map(change, args)))
        case And(args=args):
            return And(tuple(map(change, args)))
        case Or(args=args):
            return Or(tuple(map(change, args)))
        case Choose(test=test, yes=yes, no=no):
            return Choose(change(test), change(yes), change(no))
        case _:
            return node
