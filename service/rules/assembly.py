"""Turn trees into the instructions and registers of a program. Pure.

Equal parts of any rules become one instruction. A text is the code of a constant that it may equal;
a lookup by a constant key is loaded as if it were a field. What needs more than that (functions of
texts, lists, integer arithmetic, keys that are not constant) is a *hard* part: the smallest flag
around it is left to Python and filled in like a field.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from features.kernels import Integers
from service.rules import fold, parts, tree
from service.rules.kernel import Code, Op, Shorts
from service.rules.tree import (
    And,
    Call,
    Choose,
    Count,
    Fail,
    Field,
    Flag,
    Has,
    Many,
    Node,
    Number,
    Or,
    Text,
)  # fmt: skip

_COMPARISONS: Final = {
    "equal": (Op.equal_numbers, Op.equal),
    "unequal": (Op.unequal_numbers, Op.unequal),
    "less": (Op.less_numbers, Op.less),
    "at_most": (Op.at_most_numbers, Op.at_most),
    "greater": (Op.greater_numbers, Op.greater),
    "at_least": (Op.at_least_numbers, Op.at_least),
}
_ARITHMETIC: Final = {
    "add_numbers": Op.add,
    "subtract_numbers": Op.subtract,
    "multiply_numbers": Op.multiply,
    "divide_numbers": Op.divide,
}
_OF_FLAGS: Final = frozenset({"not", "in_map", "in_list", "in_numbers"})


class Loaded(NamedTuple):
    """A field, or what a map has under a key, that a request loads into a register."""

    root: str
    name: str
    key: str | None
    kind: str  # number, whole, text, or presence: of which it only matters whether it is set
    why: int  # state where the field is unset
    missing: int = 0  # state where the map has no such key


class _HardError(Exception):
    """Nothing that the kernel has an instruction for."""


class _Register(NamedTuple):
    part: str  # of the file of registers
    at: int
    kind: str  # number, whole, text


_PARTS: Final = ("fields", "hard", "constants", "made")
_KINDS: Final = {"number": "number", "count": "whole", "flag": "whole", "text": "text"}


class Assembly:
    """Builds the instructions, and gathers what they need."""

    def __init__(self, trees: Sequence[Node]) -> None:
        self.reasons: list[str] = []
        self.hard: list[Node] = []
        self.fields: list[Loaded] = []
        self.codes: dict[str, int] = {}
        self._constants: list[tuple[int, int]] = []  # raw 8 bytes and state
        self._made: list[tuple[Op, tuple[_Register, ...]]] = []
        self._seen: dict[Any, _Register] = {}
        for loaded in _fields(trees):  # root by root, which is how they are told
            self._load(*loaded)
        self._answers = [self._flag(one) for one in trees]

    def code(self) -> Code:
        """The instructions, once everything is gathered."""
        sizes = [len(self.fields), len(self.hard), len(self._constants), len(self._made)]
        offset = dict(zip(_PARTS, itertools.accumulate([0, *sizes]), strict=False))

        def place(register: _Register) -> int:
            return min(offset[register.part] + register.at, 65_535)

        rows = [
            [op, *(place(one) for one in args), *[0] * (3 - len(args))] for op, args in self._made
        ]
        return Code(
            np.array(rows, np.uint16).reshape(-1, 4),
            np.array([place(one) for one in self._answers], np.uint16),
            offset["constants"],
            offset["made"],
        )

    def template(self) -> tuple[Integers, Shorts]:
        """Registers and states with the constants in them: [registers] each."""
        code = self.code()
        size = code.first + len(self._made)
        values, states = np.zeros(size, np.int64), np.zeros(size, np.uint16)
        values[code.fields : code.first] = [raw for raw, _ in self._constants]
        states[code.fields : code.first] = [state for _, state in self._constants]
        return values, states

    def _why(self, reason: str) -> int:
        """State of what is not known for a reason."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        return self.reasons.index(reason) + 1

    def _make(self, op: Op, kind: str, *args: _Register) -> _Register:
        key = (op, *args)
        if key not in self._seen:
            self._made.append((op, args))
            self._seen[key] = _Register("made", len(self._made) - 1, kind)
        return self._seen[key]

    def _constant(self, raw: int, kind: str, state: int = 0) -> _Register:
        key = ("constant", raw, kind, state)
        if key not in self._seen:
            self._constants.append((raw, state))
            self._seen[key] = _Register("constants", len(self._constants) - 1, kind)
        return self._seen[key]

    def _flag(self, node: Node) -> _Register:
        """A tree that is true or false; what the kernel cannot do is asked of Python."""
        if node in self._seen:
            return self._seen[node]
        made, constants = len(self._made), len(self._constants)
        try:
            found = self._simple_flag(node)
        except _HardError:
            # Instructions of its parts that nobody else uses would be run for nothing.
            self._forget(made, constants)
            self.hard.append(node)
            found = _Register("hard", len(self.hard) - 1, "whole")
        self._seen[node] = found
        return found

    def _forget(self, made: int, constants: int) -> None:
        del self._made[made:]
        del self._constants[constants:]
        self._seen = {
            key: one
            for key, one in self._seen.items()
            if not (one.part == "made" and one.at >= made)
            and not (one.part == "constants" and one.at >= constants)
        }

    def _simple_flag(self, node: Node) -> _Register:
        match node:
            case And(args=args):
                return self._absorbing(Op.conjunction, args)
            case Or(args=args):
                return self._absorbing(Op.disjunction, args)
            case Call(op="not", args=(one,)):
                return self._make(Op.negation, "whole", self._flag(one))
            case Choose(test=test, yes=yes, no=no):
                return self._make(
                    Op.choice, "whole", self._flag(test), self._flag(yes), self._flag(no)
                )
            case Call(op="in_map") if leaf := parts.keyed(node):
                return self._make(Op.holds, "whole", self._key(leaf), self._presence(*leaf[:2]))
            case Call(op=op, args=(one, other)) if op in _COMPARISONS:
                return self._comparison(op, one, other)
            case Call(op="in_list" | "in_numbers", args=(one, Many(items=items) as many)) if (
                items and fold.is_constant(many)
            ):
                chosen = [self._comparison("equal", one, item) for item in items]
                found = chosen[0]
                for equal in chosen[1:]:
                    found = self._make(Op.disjunction, "whole", found, equal)
                return found
            case _:
                return self._leaf(node)

    def _absorbing(self, op: Op, args: Sequence[Node]) -> _Register:
        # In the order in which the fused function asks: it decides whose reason is told.
        simple = [arg for arg in args if parts.certain(arg) and parts.strict(arg)]
        first, *others = [*simple, *(arg for arg in args if arg not in simple)]
        found = self._flag(first)
        for other in others:
            found = self._make(op, "whole", found, self._flag(other))
        return found

    def _comparison(self, op: str, one: Node, other: Node) -> _Register:
        a, b = self._value(one), self._value(other)
        if a.kind != b.kind:
            raise _HardError
        # Codes are equal where texts are, as long as a rule names one of them; they have no order.
        named = "constants" in (a.part, b.part)
        if a.kind == "text" and not (named and op in ("equal", "unequal")):
            raise _HardError
        of_numbers, of_others = _COMPARISONS[op]
        return self._make(of_numbers if a.kind == "number" else of_others, "whole", a, b)

    def _value(self, node: Node, kind: str | None = None) -> _Register:
        """A tree of any kind; of the given kind, where one is given."""
        found = self._any(node)
        if kind is not None and found.kind != kind:
            raise _HardError
        return found

    def _any(self, node: Node) -> _Register:
        match node:
            case Call(op="lookup") if leaf := parts.keyed(node):
                return self._key(leaf)
            case Call(op="count_to_number", args=(one,)):
                return self._make(Op.to_number, "number", self._value(one, "whole"))
            case Call(op="negate_number", args=(one,)):
                return self._make(Op.negate, "number", self._value(one, "number"))
            case Call(op=op, args=(one, other)) if op in _ARITHMETIC:
                a, b = self._value(one, "number"), self._value(other, "number")
                return self._make(_ARITHMETIC[op], "number", a, b)
            case Choose(test=test, yes=yes, no=no):
                a, b = self._value(yes), self._value(no)
                if a.kind != b.kind or a.kind == "text":
                    raise _HardError
                return self._make(Op.choice, a.kind, self._flag(test), a, b)
            case And() | Or():
                return self._flag(node)
            case Call(op=op) if op in _OF_FLAGS or op in _COMPARISONS:
                return self._flag(node)
            case _:
                return self._leaf(node)

    def _leaf(self, node: Node) -> _Register:
        """A constant or a field."""
        match node:
            case Number(text=text):
                raw = int(np.array(float(text)).view(np.int64))
                return self._constant(raw, "number")
            case Count(value=value):
                return self._constant(value, "whole")
            case Flag(value=value):
                return self._constant(int(value), "whole")
            case Text(value=value):
                return self._constant(self.codes.setdefault(value, len(self.codes)), "text")
            case Fail(what=what):
                return self._constant(0, "whole", self._why(what))
            case Field(root=root, name=name, kind=kind):
                return self._field(root, name, kind)
            case Has(root=root, name=name):
                return self._make(Op.known, "whole", self._presence(root, name))
            case _:
                raise _HardError

    def _field(self, root: str, name: str, kind: str) -> _Register:
        if kind not in _KINDS:
            raise _HardError
        return self._load(root, name, None, _KINDS[kind])

    def _presence(self, root: str, name: str) -> _Register:
        """A register that is known exactly if a field of any kind is set."""
        return self._seen.get(("field", root, name, None)) or self._load(
            root, name, None, "presence"
        )

    def _key(self, leaf: parts.Leaf) -> _Register:
        """The value under a constant key."""
        return self._load(leaf[0], leaf[1], leaf[2], "number")

    def _load(self, root: str, name: str, key: str | None, kind: str) -> _Register:
        at = ("field", root, name, key)
        if at not in self._seen:
            why = self._why(f"{root}.{name} is not known")
            missing = 0 if key is None else self._why(f"no key {key!r} in {root}.{name}")
            self.fields.append(Loaded(root, name, key, kind, why, missing))
            self._seen[at] = _Register("fields", len(self.fields) - 1, kind)
        return self._seen[at]


def _fields(trees: Sequence[Node]) -> list[tuple[str, str, str | None, str]]:
    """What rules read: root, name, key and kind, sorted; a field says itself whether it is set."""
    found: dict[tuple[str, str, str | None], str] = {}
    for node in (one for root in trees for one in tree.walk(root)):
        match node:
            case Field(root=root, name=name, kind=kind) if kind in _KINDS:
                found[root, name, None] = _KINDS[kind]
            case Has(root=root, name=name):
                found.setdefault((root, name, None), "presence")
            case Call() if leaf := parts.keyed(node):
                found[leaf[0], leaf[1], leaf[2]] = "number"
                if node.op == "in_map":
                    found.setdefault((leaf[0], leaf[1], None), "presence")
    return [(*at, found[at]) for at in sorted(found, key=lambda at: (at[0], at[1], at[2] or ""))]
