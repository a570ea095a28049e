"""Work out before a rule runs what cannot change: constants, and fields of a known root. Pure.

Errors fold as CEL has them: a failed argument fails its operation, ``&&`` and ``||`` absorb it
where the other side decides. So a folded rule answers as the whole one would, for every customer.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from service.rules import tree, values
from service.rules.environment import Value
from service.rules.tree import (
    And,
    Call,
    Checked,
    Choose,
    Constant,
    Count,
    Fail,
    Field,
    Flag,
    Has,
    Many,
    Node,
    Number,
    Or,
    Table,
    Text,
)  # fmt: skip

Roots = Mapping[str, Mapping[str, Value]]

_pieces = cache(values.pieces)


def specialise(rule: Checked, constants: Roots) -> Checked:
    """Put constants into a rule, such as the fields of one action, and fold what became constant.

    Args:
        rule: A checked rule.
        constants: Fields of the roots that are known now; a field they lack is unset for good.

    Returns:
        The rule that is left. Two that ask the same have equal trees.
    """
    folded = fold(rule.tree, constants)
    return Checked(rule.text, folded, tree.reads(folded))


def fold(node: Node, constants: Roots) -> Node:
    """Fold a tree from its leaves up."""
    match node:
        case Field(root=root, name=field, kind=kind) if root in constants:
            value = constants[root].get(field)
            return Fail(f"{root}.{field} is not known") if value is None else _of_kind(value, kind)
        case Has(root=root, name=field) if root in constants:
            return Flag(constants[root].get(field) is not None)
    written = node
    node = tree.rebuilt(node, lambda below: fold(below, constants))
    match node:
        case And(args=args):
            return _logic(args, And, decides=False)
        case Or(args=args):
            return _logic(args, Or, decides=True)
        case Choose(test=Flag(value=value), yes=yes, no=no):
            return yes if value else no
        case Choose(test=Fail() as failed):
            return failed
        case Many(items=below) | Call(args=below) if failures := _failures(below):
            return failures[0]
        case Call(op=op, args=args) if all(map(is_constant, args)):
            return _run(op, args, name(tree.children(written)[0]))
        case _:
            return node


def name(node: Node) -> str:
    """How an error calls what a key or an index was looked up in."""
    return f"{node.root}.{node.name}" if isinstance(node, Field) else "the values"


def is_constant(node: Node) -> bool:
    """Whether a tree has a value of its own."""
    match node:
        case Many(items=items):
            return all(map(is_constant, items))
        case _:
            return isinstance(node, Constant | Table)


def value(node: Node) -> Any:
    """The value of a constant tree."""
    match node:
        case Number(text=text):
            return float(text)
        case Count(value=found) | Flag(value=found) | Text(value=found):
            return found
        case Many(items=items):
            return [value(item) for item in items]
        case Table(keys=keys, values=below):
            return dict(zip(keys, map(value, below), strict=True))
        case _:
            raise TypeError(f"{type(node).__name__} has no value of its own")


def constant(value: Any) -> Constant:
    """The tree of a scalar."""
    if isinstance(value, bool):
        return Flag(value)
    if isinstance(value, int):
        return Count(value)
    return Number(repr(value)) if isinstance(value, float) else Text(value)


def _of_kind(value: Any, kind: str) -> Node:
    match kind:
        case "number":
            return constant(float(value))
        case "numbers":
            keys = sorted(value)
            return Table(tuple(keys), tuple(constant(float(value[key])) for key in keys))
        case "texts":
            return Many(tuple(map(constant, value)))
        case _:
            return constant(value)


def _failures(nodes: tuple[Node, ...]) -> list[Fail]:
    return [node for node in nodes if isinstance(node, Fail)]


def _run(op: str, args: tuple[Node, ...], of: str) -> Node:
    first, second = value(args[0]), value(args[1]) if len(args) > 1 else None
    try:
        return constant(_pieces()[op](first, second, of))
    except values.Failure as failure:
        return Fail(failure.unknown.what)


def _logic(args: tuple[Node, ...], kind: type[And | Or], *, decides: bool) -> Node:
    """Flatten, drop what cannot decide, stop at what does."""
    kept: dict[Node, None] = {}
    for arg in args:
        kept.update(
            dict.fromkeys(arg.args if isinstance(arg, And | Or) and type(arg) is kind else [arg])
        )
    if Flag(decides) in kept:
        return Flag(decides)
    kept.pop(Flag(not decides), None)
    for late in _failures(tuple(kept))[1:]:  # the first one names the reason
        del kept[late]
    if not kept:
        return Flag(not decides)
    return next(iter(kept)) if len(kept) == 1 else kind(tuple(kept))
