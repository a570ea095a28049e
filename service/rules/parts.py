"""What translation has to know of a tree: its leaves, whether it can fail, what is shared. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from service.rules import tree
from service.rules.tree import And, Call, Choose, Fail, Field, Node, Or, Text
from service.rules.values import OPERATIONS

Leaf: TypeAlias = tuple[str, ...]  # root, field, and perhaps a key into that

# A part that this many rules have in common is worth a local: a fifth less time on the larger rule
# sets of tests/bench/rules.py than without, and no less with 2 or 6.
SHARED: Final = 3


def keyed(node: Node) -> Leaf | None:
    """The leaf of a lookup by a constant key: it is loaded as if it were a field."""
    match node:
        case Call(op="lookup", args=(Field(root=root, name=name), Text(value=key))):
            return (root, name, key)
        case Call(op="in_map", args=(Text(value=key), Field(root=root, name=name))):
            return (root, name, key)
        case _:
            return None


def leaves(node: Node) -> Iterator[Leaf]:
    """Every leaf that has to be set before plain Python means what CEL means."""
    match node:
        case Field(root=root, name=name):
            yield (root, name)
        case Call(op=op) if leaf := keyed(node):
            yield leaf if op == "lookup" else leaf[:2]
        case _:
            for below in tree.children(node):
                yield from leaves(below)


def certain(node: Node) -> bool:
    """Whether a tree cannot fail once its leaves are set."""
    return not any(
        isinstance(one, Fail)
        or (isinstance(one, Call) and OPERATIONS[one.op].partial and not keyed(one))
        for one in tree.walk(node)
    )


def strict(node: Node) -> bool:
    """Whether a tree fails wherever a part of it does: no ``&&``, ``||`` or choice in it."""
    return not any(isinstance(one, And | Or | Choose) for one in tree.walk(node))


def sharable(trees: Sequence[Node]) -> list[Node]:
    """Parts that enough rules have in common, smaller ones first."""

    def uses(stop: frozenset[Node]) -> Counter[Node]:
        found: Counter[Node] = Counter()

        def visit(node: Node) -> None:
            if isinstance(node, Call) and not keyed(node) and certain(node) and strict(node):
                found[node] += 1
                if node in stop and found[node] > 1:
                    return
            for below in tree.children(node):
                visit(below)

        for one in trees:
            visit(one)
        return found

    often = frozenset(node for node, count in uses(frozenset()).items() if count >= SHARED)
    # Counted again: what occurs only within a shared part occurs once.
    kept = [node for node, count in uses(often).items() if node in often and count >= SHARED]
    return sorted(kept, key=lambda node: sum(1 for _ in tree.walk(node)))
