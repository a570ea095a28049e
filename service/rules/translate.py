"""From trees to one Python function that answers all rules of a request at once. Pure.

Each field is loaded once into a local, None where it is unset. Rules that read the same fields
stand together under one test that these are set: there plain Python means what CEL means, and
nothing has to be caught. Where one is unset, the *careful* form runs: every part gives a value or
an :class:`Unknown`, and ``&&`` and ``||`` absorb what CEL absorbs. Operations that can fail on set
fields (integer arithmetic, an index, a key) raise, and the careful form says what that means.

The function has no builtins and no names but those passed here; what a rule wrote reaches the
source only through ``repr``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from service.errors import ConfigurationError
from service.rules import fold, parts, tree
from service.rules.environment import Environment, Value
from service.rules.tree import (
    And,
    Call,
    Checked,
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
    Table,
    Text,
)  # fmt: skip
from service.rules.values import NAMES, OPERATIONS, Unknown

Fused: TypeAlias = Callable[[Mapping[str, Mapping[str, Value]]], list[bool | Unknown]]


def fuse(rules: Sequence[Checked], environment: Environment) -> Fused:
    """Compile rules into one function.

    Args:
        rules: Checked rules; equal trees are evaluated once.
        environment: What the function will be given.

    Returns:
        A function of ``{"customer": {"age": 41.0}, ...}``, each value of its declared kind, what is
        unset left out (or None). It gives one answer a rule: true, false, or why not known.

    Raises:
        ConfigurationError: A rule does not belong to this environment or this version.
    """
    for rule in rules:
        verify(rule, environment)
    try:
        writer = _Writer([rule.tree for rule in rules])
        code = compile(writer.source(), "<rules>", "exec")
    except (ValueError, IndexError, RecursionError, MemoryError, SyntaxError) as error:
        raise ConfigurationError(
            f"rules: cannot be translated ({error}); check them anew"
        ) from error
    exec(code, writer.names)  # noqa: S102 - written by the class below from verified trees
    # Taken out: a function that its own globals name is garbage that only a collection finds.
    fused: Fused = writer.names.pop("answers")
    return fused


def verify(rule: Checked, environment: Environment) -> None:
    """Refuse a tree that this environment or this version does not know."""
    if tree.depth(rule.tree) > tree.MAX_DEPTH:
        raise ConfigurationError(f"{rule.text}: nests deeper than {tree.MAX_DEPTH}; split it")
    for node in tree.walk(rule.tree):
        match node:
            case Field(root=root, name=name, kind=kind):
                if environment.kind(root, name) != kind:
                    raise ConfigurationError(
                        f"{rule.text}: {root}.{name} was a {kind} when this was checked and is "
                        f"{environment.kind(root, name) or 'not declared'}; check it anew"
                    )
            case Has(root=root, name=name):
                if environment.kind(root, name) is None:
                    raise ConfigurationError(
                        f"{rule.text}: {root}.{name} is not declared; check it anew"
                    )
            case Call(op=op) if op not in OPERATIONS:
                raise ConfigurationError(f"{rule.text}: no operation {op!r} here; check it anew")


class _Writer:
    """Writes the source, and gathers the names it needs."""

    def __init__(self, trees: Sequence[Node]) -> None:
        self.names: dict[str, Any] = {"__builtins__": {}, "EMPTY": {}, **NAMES}
        self._trees = trees
        self._lines: list[str] = []
        self._indent = 1
        self._locals: dict[parts.Leaf, str] = {}
        self._shared: dict[Node, str] = {}
        self._bound: dict[Node, str] = {}
        self._temporaries = 0

    def source(self) -> str:
        """The module that defines ``answers``."""
        unique = {one: f"r{at}" for at, one in enumerate(dict.fromkeys(self._trees))}
        groups: dict[frozenset[parts.Leaf], tuple[list[Node], list[Node]]] = {}
        for part in parts.sharable(list(unique)):
            groups.setdefault(frozenset(parts.leaves(part)), ([], []))[0].append(part)
        for one in unique:
            if not isinstance(one, Flag | Fail):
                groups.setdefault(frozenset(parts.leaves(one)), ([], []))[1].append(one)
        # A shared part stands in a group of no more leaves than any rule that has it.
        for leaves in sorted(groups, key=len):
            self._group(leaves, *groups[leaves], unique)
        answers = [
            str(one.value) if isinstance(one, Flag)
            else self._reason(one.what) if isinstance(one, Fail)
            else unique[one]
            for one in self._trees
        ]  # fmt: skip
        body = "\n".join(self._lines)
        return f"def answers(known):\n{self._loads()}\n{body}\n return [{', '.join(answers)}]\n"

    def _group(
        self,
        leaves: frozenset[parts.Leaf],
        common: list[Node],
        rules: list[Node],
        names: dict[Node, str],
    ) -> None:
        """Common parts and rules that read the same leaves, under one test."""
        if leaves:
            test = " and ".join(f"{self._local(leaf)} is not None" for leaf in sorted(leaves))
            self._line(f"if {test}:")
            self._indent += 1
        for part in common:
            text = self._text(part, None)
            self._shared[part] = f"s{len(self._shared)}"
            self._line(f"{self._shared[part]} = {text}")
        for rule in rules:
            self._direct(rule, names[rule])
        if leaves:
            self._indent -= 1
            if rules:
                self._line("else:")
                self._indent += 1
                for rule in rules:
                    self._line(f"{names[rule]} = {self._careful(rule)}")
                self._indent -= 1

    def _direct(self, rule: Node, name: str) -> None:
        """A rule whose leaves are set: plain Python where that can be."""
        if any(isinstance(one, Fail) for one in tree.walk(rule)):
            self._line(f"{name} = {self._careful(rule)}")
        elif parts.certain(rule):
            self._line(f"{name} = {self._text(rule, None)}")
        else:
            self._line("try:")
            self._line(f" {name} = {self._text(rule, None)}")
            if parts.strict(rule):
                self._line("except Failure as failure:")
                self._line(f" {name} = failure.unknown")
                return
            self._line("except Failure:")
            self._indent += 1
            self._line(f"{name} = {self._careful(rule)}")
            self._indent -= 1

    def _line(self, text: str) -> None:
        self._lines.append(" " * self._indent + text)

    def _temporary(self) -> str:
        self._temporaries += 1
        return f"t{self._temporaries}"

    def _bind(self, node: Node, value: Any) -> str:
        if node not in self._bound:
            self._bound[node] = f"C{len(self._bound)}"
            self.names[self._bound[node]] = value
        return self._bound[node]

    def _reason(self, what: str) -> str:
        return self._bind(Fail(what), Unknown(what))

    def _local(self, leaf: parts.Leaf) -> str:
        if len(leaf) > 2:
            self._local(leaf[:2])
        return self._locals.setdefault(leaf, f"f{len(self._locals)}")

    def _loads(self) -> str:
        """Load every leaf: by root, fields before the keys into them."""
        roots = {leaf[0]: f"of{at}" for at, leaf in enumerate(self._locals)}
        lines = [f" {local} = known.get({root!r}, EMPTY)" for root, local in roots.items()]
        for leaf, local in self._locals.items():
            if len(leaf) == 2:
                lines.append(f" {local} = {roots[leaf[0]]}.get({leaf[1]!r})")
            else:
                within = self._locals[leaf[:2]]
                lines.append(f" {local} = None if {within} is None else {within}.get({leaf[2]!r})")
        return "\n".join(lines)

    def _unset(self, leaf: parts.Leaf) -> str:
        """Why a leaf is None."""
        field = f"{leaf[0]}.{leaf[1]}"
        unknown = self._reason(f"{field} is not known")
        if len(leaf) == 2:
            return unknown
        missing = self._reason(f"no key {leaf[2]!r} in {field}")
        return f"({unknown} if {self._local(leaf[:2])} is None else {missing})"

    def _careful(self, node: Node) -> str:
        """Write what works out a tree whatever is unset; give the expression for the outcome."""
        match node:
            case Fail(what=what):
                return self._reason(what)
            case And(args=args):
                return self._absorbing(args, "True", "False")
            case Or(args=args):
                return self._absorbing(args, "False", "True")
            case Choose(test=test, yes=yes, no=no):
                chosen, outcome = self._temporary(), self._temporary()
                self._line(f"{chosen} = {self._careful(test)}")
                for value, side in ((True, yes), (False, no)):
                    self._line(f"{'if' if value else 'elif'} {chosen} is {value}:")
                    self._indent += 1
                    self._line(f"{outcome} = {self._careful(side)}")
                    self._indent -= 1
                self._line("else:")
                self._line(f" {outcome} = {chosen}")
                return outcome
        failing: dict[str, str] = {}
        text = self._text(node, failing)
        text = "".join(f"{why} if {when} else " for when, why in failing.items()) + text
        if parts.certain(node):
            return f"({text})"
        outcome = self._temporary()
        self._line("try:")
        self._line(f" {outcome} = {text}")
        self._line("except Failure as failure:")
        self._line(f" {outcome} = failure.unknown")
        return outcome

    def _absorbing(self, args: Sequence[Node], neutral: str, decisive: str) -> str:
        """``&&`` or ``||``: the decisive value wins over errors, an error over the neutral."""
        simple = [arg for arg in args if parts.certain(arg) and parts.strict(arg)]
        others = [arg for arg in args if arg not in simple]
        # Those that fail only by an unset leaf make one expression: half the time of a step each.
        outcome, steps = self._temporary(), [self._careful(arg) for arg in others[:1] if not simple]
        self._line(f"{outcome} = {steps[0] if steps else self._simple(simple, neutral, decisive)}")
        for arg in others[len(steps) :]:
            self._line(f"if {outcome} is not {decisive}:")
            self._indent += 1
            other = self._temporary()
            self._line(f"{other} = {self._careful(arg)}")
            self._line(f"if {outcome} is {neutral} or {other} is {decisive}: {outcome} = {other}")
            self._indent -= 1
        return outcome

    def _simple(self, args: Sequence[Node], neutral: str, decisive: str) -> str:
        """The same as one expression, for arguments that fail only by an unset leaf."""
        deciding, failing = [], dict[str, str]()
        for arg in args:
            unset: dict[str, str] = {}
            text = self._text(arg, unset)
            sets = "".join(
                f"{when[:-4]}not None and " for when in unset
            )  # "f1 is None" turned round
            deciding.append(f"({sets}{'' if decisive == 'True' else 'not '}{text})")
            failing |= unset
        whys = "".join(f"{why} if {when} else " for when, why in failing.items())
        return f"({decisive} if {' or '.join(deciding)} else {whys}{neutral})"

    def _text(self, node: Node, failing: dict[str, str] | None) -> str:
        """A tree as a Python expression.

        Args:
            node: The tree.
            failing: None where every leaf is set and failures raise. Else gathers, in the order of
                evaluation, the tests that tell where the expression must not be evaluated, with the
                outcome instead.
        """
        if node in self._shared:
            self._guard(node, failing)
            return self._shared[node]
        match node:
            case Number(text=text):
                value = float(text)
                return f"({value!r})" if math.isfinite(value) else self._bind(node, value)
            case Count(value=value) | Flag(value=value) | Text(value=value):
                return f"({value!r})"
            case Many(items=items):
                return "(" + "".join(f"{one}, " for one in self._arguments(items, failing)) + ")"
            case Table():
                return self._bind(node, fold.value(node))
            case Field(root=root, name=name):
                self._guard(node, failing)
                return self._local((root, name))
            case Has(root=root, name=name):
                return f"({self._local((root, name))} is not None)"
            case And(args=args) | Or(args=args) if failing is None:
                word = " and " if isinstance(node, And) else " or "
                return f"({word.join(self._text(one, None) for one in args)})"
            case Choose(test=test, yes=yes, no=no) if failing is None:
                sides = self._text(yes, None), self._text(no, None)
                return f"({sides[0]} if {self._text(test, None)} else {sides[1]})"
            case Call():
                return self._operation(node, failing)
        assert failing is not None  # noqa: S101 - only && || and choices are left
        outcome = self._temporary()
        self._line(f"{outcome} = {self._careful(node)}")
        failing[f"{outcome}.__class__ is Unknown"] = outcome
        return outcome

    def _arguments(self, args: Sequence[Node], failing: dict[str, str] | None) -> list[str]:
        """Several, one after the other: the first that fails says why, though a later is unset."""
        texts = []
        for at, arg in enumerate(args):
            if failing is None or parts.certain(arg) or all(map(fold.is_constant, args[at + 1 :])):
                texts.append(self._text(arg, failing))
            else:
                texts.append(outcome := self._careful(arg))
                failing[f"{outcome}.__class__ is Unknown"] = outcome
        return texts

    def _guard(self, node: Node, failing: dict[str, str] | None) -> None:
        if failing is not None:
            for leaf in parts.leaves(node):
                failing.setdefault(f"{self._local(leaf)} is None", self._unset(leaf))

    def _operation(self, node: Call, failing: dict[str, str] | None) -> str:
        if leaf := parts.keyed(node):
            self._guard(node, failing)
            local = self._local(leaf)
            return local if node.op == "lookup" else f"({local} is not None)"
        match node:
            case Call(op="in_list" | "in_numbers", args=(one, Many() as many)) if fold.is_constant(
                many
            ):
                # A NaN among these is no object that a request holds, so `in` does not find it.
                values = fold.value(many)
                finite = all(not isinstance(v, float) or math.isfinite(v) for v in values)
                items = "{" + ", ".join(map(repr, values)) + "}" if values else "()"
                among = items if finite else self._bind(many, frozenset(values))
                return f"({self._text(one, failing)} in {among})"
            case Call(op="divide_numbers", args=(one, Number(text=text))) if float(text):
                return f"({self._text(one, failing)} / {self._text(node.args[1], failing)})"
        args = self._arguments(node.args, failing)
        return f"({OPERATIONS[node.op].python.format(*args, name=repr(fold.name(node.args[0])))})"
