"""From the engine's checked tree to ours, by an allow-list. Pure.

Whatever is not named here is refused, with its place and what to write instead: an operation is
recognised by the overload that the type checker chose, so its kinds are certain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from service.rules.environment import Environment
from service.rules.fold import constant, fold, is_constant
from service.rules.tree import And, Call, Choose, Field, Has, Many, Node, Or, Table, Text

_ORDERED: Final = ("bool", "int64", "double", "string")

# The overload that the checker chose -> our operation. Those of "" give back their argument.
OVERLOADS: Final[Mapping[str, str]] = {
    "logical_not": "not",
    "equals": "equal",
    "not_equals": "unequal",
    **{f"less_{kind}": "less" for kind in _ORDERED},
    **{f"less_equals_{kind}": "at_most" for kind in _ORDERED},
    **{f"greater_{kind}": "greater" for kind in _ORDERED},
    **{f"greater_equals_{kind}": "at_least" for kind in _ORDERED},
    "add_double": "add_numbers",
    "subtract_double": "subtract_numbers",
    "multiply_double": "multiply_numbers",
    "divide_double": "divide_numbers",
    "negate_double": "negate_number",
    "add_int64": "add_counts",
    "subtract_int64": "subtract_counts",
    "multiply_int64": "multiply_counts",
    "divide_int64": "divide_counts",
    "modulo_int64": "remainder",
    "negate_int64": "negate_count",
    "add_string": "join",
    "in_list": "in_list",
    "in_map": "in_map",
    "index_list": "item",
    "index_map": "lookup",
    **dict.fromkeys(("size_string", "string_size", "size_list", "list_size"), "size"),
    **dict.fromkeys(("size_map", "map_size"), "size"),
    "starts_with_string": "starts_with",
    "ends_with_string": "ends_with",
    "contains_string": "contains",
    "double_to_int64": "number_to_count",
    "int64_to_double": "count_to_number",
    "int64_to_string": "count_to_text",
    "bool_to_string": "flag_to_text",
    **{f"{kind}_to_{kind}": "" for kind in _ORDERED},
}

_PATTERN: Final = (
    "regular expressions are not allowed; use startsWith(), endsWith(), contains() or in"
)
_INSTEAD: Final[Mapping[str, str]] = {
    "matches": _PATTERN,
    "matches_string": _PATTERN,
    "string_to_int64": "text is not read as a count; declare the field as one",
    "string_to_double": "text is not read as a number; declare the field as one",
    "double_to_string": "a number is not written as text; compare it as a number",
    "add_list": "lists are not joined; ask twice, with ||",
    "to_dyn": "dyn() is not allowed; leave it out, and convert with double() or int()",
}
_PRIMITIVES: Final = ("", "flag", "count", "uint", "number", "text", "bytes")
_SCALARS: Final = ("flag", "count", "number", "text")


class Refused(Exception):
    """Something that rules may not use, at an offset into the text."""

    def __init__(self, at: int, what: str) -> None:
        self.at, self.what = at, what
        super().__init__(what)


class Lowering:
    """One checked expression on its way to a tree."""

    def __init__(self, checked: Any, environment: Environment) -> None:
        self._environment = environment
        self._types = {entry.key: entry.value for entry in checked.types}
        self._overloads = {entry.key: list(entry.value.overloads) for entry in checked.references}
        self._positions = {entry.key: entry.value for entry in checked.source.positions}

    def at(self, expr: Any) -> int:
        """Where an expression's operator or name stands."""
        return int(self._positions.get(expr.id, 0))

    def kind(self, expr: Any) -> str:
        """Kind of an expression's value, in words."""
        return _kind(self._types.get(expr.id))

    def node(self, expr: Any) -> Node:
        """Translate one expression and all below it.

        Raises:
            Refused: It uses what a rule may not.
        """
        kind = self.kind(expr)
        if kind in {"dyn", "list of dyns", "map of dyns"}:
            raise self._no(expr, "mixes kinds; write values of one kind, numbers with their point")
        match expr.WhichOneof("kind"):
            case "const":
                return self._constant(expr, kind)
            case "ident":
                raise self._no(expr, f"{expr.ident.name} as a whole; name one of its fields")
            case "select":
                return self._select(expr)
            case "call":
                return self._call(expr)
            case "list":
                items = tuple(self.node(one) for one in expr.list.elements)
                self._flat(expr.list.elements)
                return Many(items)
            case "struct" if not expr.struct.message:
                return self._table(expr)
            case "comprehension":
                raise self._no(
                    expr,
                    "all(), exists(), exists_one(), filter() and map() are not allowed; ask with "
                    "in, or name the values one by one",
                )
            case _:
                raise self._no(expr, "messages are not allowed; compare fields one by one")

    def _no(self, expr: Any, what: str) -> Refused:
        return Refused(self.at(expr), what)

    def _constant(self, expr: Any, kind: str) -> Node:
        if kind == "null":
            raise self._no(expr, "null is only for asking whether a field is set: use has()")
        if kind not in _SCALARS:
            raise self._no(expr, f"a value of kind {kind} is not allowed; use a number or a text")
        return constant(getattr(expr.const, kind))

    def _flat(self, elements: Sequence[Any]) -> None:
        for one in elements:
            if self.kind(one) not in _SCALARS:
                raise self._no(one, f"a list may not hold a {self.kind(one)}; list plain values")

    def _table(self, expr: Any) -> Node:
        entries: dict[str, Node] = {}
        self._flat([entry.value for entry in expr.struct.entries])
        for entry in expr.struct.entries:
            key, value = fold(self.node(entry.key), {}), fold(self.node(entry.value), {})
            if not isinstance(key, Text) or not is_constant(value):
                raise self._no(expr, "a map must be of constants, with texts as keys")
            entries[key.value] = value
        keys = sorted(entries)
        return Table(tuple(keys), tuple(entries[key] for key in keys))

    def _field(self, expr: Any) -> Field | None:
        """The field that an expression is, if it is one."""
        if expr.WhichOneof("kind") != "select" or expr.select.test:
            return None
        operand = expr.select.operand
        if operand.WhichOneof("kind") != "ident":
            return None
        root, name = operand.ident.name, expr.select.field
        kind = self._environment.kind(root, name)
        return None if kind is None else Field(root, name, kind)

    def _select(self, expr: Any) -> Node:
        select = expr.select
        if field := self._field(expr):
            return field
        if select.operand.WhichOneof("kind") == "ident":
            return Has(select.operand.ident.name, select.field)
        found, key = self.node(select.operand), Text(select.field)
        return Call("in_map", (key, found)) if select.test else Call("lookup", (found, key))

    def _call(self, expr: Any) -> Node:
        call = expr.call
        given = [*([call.target] if call.HasField("target") else []), *call.args]
        overload, *more = self._overloads.get(expr.id, [""])
        if more:
            raise self._no(expr, "mixes kinds; write values of one kind, numbers with their point")
        if overload in {"equals", "not_equals"} and (asked := self._is_null(expr, given)):
            return asked if overload == "not_equals" else Call("not", (asked,))
        op = OVERLOADS.get(overload)
        if op is None and overload not in {"logical_and", "logical_or", "conditional"}:
            raise self._no(
                expr,
                _INSTEAD.get(overload)
                or f"{_operator(call.function)} is not allowed on {self.kind(given[0])}",
            )
        args = tuple(self.node(one) for one in given)
        match overload:
            case "logical_and":
                return And(_flattened(args, And))
            case "logical_or":
                return Or(_flattened(args, Or))
            case "conditional":
                return Choose(*args)
            case "equals" | "not_equals" if self.kind(given[0]).startswith(("list", "map")):
                return Call(f"{op}_many", args)
            case "in_list" if self.kind(given[0]) == "number":
                return Call("in_numbers", args)
        return Call(op, args) if op else args[0]

    def _is_null(self, expr: Any, given: Sequence[Any]) -> Has | None:
        """The question whether a field is set, where one side is null."""
        kinds = [self.kind(one) for one in given]
        if "null" not in kinds:
            return None
        field = self._field(given[1 - kinds.index("null")])
        if field is None:
            raise self._no(expr, "compare null with a field alone, or use has()")
        return Has(field.root, field.name)


def _flattened(args: tuple[Node, ...], kind: type[And | Or]) -> tuple[Node, ...]:
    """Take up the arguments of ``&&`` within ``&&``: a long chain is no deep tree."""
    below = (
        arg.args if isinstance(arg, And | Or) and type(arg) is kind else (arg,) for arg in args
    )
    return tuple(one for ones in below for one in ones)


def _operator(function: str) -> str:
    return function.strip("@").replace("_", "") or function


def _kind(type: Any) -> str:
    match type and type.WhichOneof("kind"):
        case "primitive":
            return _PRIMITIVES[type.primitive]
        case "wrapper":
            return _PRIMITIVES[type.wrapper]
        case "list":
            return f"list of {_kind(type.list.element)}s"
        case "map":
            return f"map of {_kind(type.map.value)}s"
        case "message":
            return str(type.message).removeprefix("rules.")
        case None:
            return "other"
        case named:
            return str(named)
