"""Check rules before anything runs them: types, names, size, what may be used at all. No I/O.

The C++ engine checks types; this is the one module that knows it, and imports it only when asked,
so that a published configuration runs where it is not installed.

Every scalar is declared as a protobuf wrapper: ``customer.age == null`` type-checks and an unset
number is nowhere a 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, wrappers_pb2

from service.errors import ConfigurationError
from service.rules import fold, tree, wire
from service.rules.environment import Environment
from service.rules.lower import Lowering, Refused
from service.rules.tree import Checked, Fail

LONGEST: Final = 2_000
_SHOWN: Final = 100

_WRAPPERS: Final = {
    "number": "DoubleValue",
    "count": "Int64Value",
    "flag": "BoolValue",
    "text": "StringValue",
}
_KINDS: Final = {
    "double": "number",
    "int": "count",
    "bool": "flag",
    "string": "text",
    "null_type": "null",
}
_REMEDIES: Final = {
    frozenset({"number", "count"}): "write a number with its point, as in 18.0, or convert one "
    "side with double() or int()",
    frozenset({"flag", "text"}): "a flag is true or false, without quotes",
    frozenset({"number", "text"}): "write a number without quotes",
    frozenset({"count", "text"}): "write a count without quotes",
}


class Source(NamedTuple):
    """A rule as written, and where: ``config/policies.yaml:12:15``."""

    text: str
    where: str


class _Mistake(NamedTuple):
    at: int  # offset into the text
    what: str


def check(sources: Sequence[Source], environment: Environment) -> list[Checked]:
    """Check rules and turn them into trees.

    Args:
        sources: Rules in CEL, each of which must be true or false.
        environment: What they may read.

    Returns:
        The checked rules, in the order of ``sources``.

    Raises:
        ConfigurationError: Some rule is wrong, one mistake a line; or the engine is not installed.
    """
    if not sources:
        return []
    engine = _engine(environment)
    found: list[Checked] = []
    lines: list[str] = []
    for source in sources:
        try:
            found.append(_check(source.text, engine, environment))
        except _MistakesError as error:
            lines += [_line(source, mistake) for mistake in error.mistakes]
    if lines:
        raise ConfigurationError("\n".join(lines))
    return found


class _MistakesError(Exception):
    def __init__(self, mistakes: Sequence[_Mistake]) -> None:
        self.mistakes = mistakes
        super().__init__(mistakes)


def _check(text: str, engine: Any, environment: Environment) -> Checked:
    if len(text) > LONGEST:
        raise _MistakesError(
            [_Mistake(0, f"has {len(text)} characters of at most {LONGEST}; split it")]
        )
    try:
        compiled = engine.compile(text)
    except (RuntimeError, ValueError) as error:
        raise _MistakesError(list(_mistakes(str(error), text, environment))) from error
    checked = wire.parse(compiled.serialize())
    lowering = Lowering(checked, environment)
    kind = lowering.kind(checked.expr)
    if kind != "flag":
        at = lowering.at(checked.expr)
        raise _MistakesError([_Mistake(at, f"is {_a(kind)}; a rule must be true or false")])
    try:
        lowered = lowering.node(checked.expr)
    except Refused as refused:
        raise _MistakesError([_Mistake(refused.at, refused.what)]) from refused
    if problem := tree.too_big(lowered):
        raise _MistakesError([_Mistake(0, problem)])
    folded = fold.fold(lowered, {})
    if isinstance(folded, Fail):
        raise _MistakesError([_Mistake(0, f"can never be evaluated: {folded.what}")])
    return Checked(text, folded, tree.reads(folded))


def _engine(environment: Environment) -> Any:
    try:
        from cel_expr_python import cel  # noqa: PLC0415 - a serving image lacks it
    except ImportError as error:
        raise ConfigurationError(
            "rules cannot be checked without cel-expr-python; install 'rapport[rules]', or serve a "
            "published configuration, which is checked already"
        ) from error
    variables = {root: cel.Type(f"rules.{root}") for root in environment.roots}
    return cel.NewEnv(declared(environment), variables=variables)


def declared(environment: Environment) -> descriptor_pool.DescriptorPool:
    """An environment as protobuf messages, ``rules.customer`` for the root ``customer``."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto.FromString(wrappers_pb2.DESCRIPTOR.serialized_pb))
    pool.Add(_declaration(environment))
    return pool


def _declaration(environment: Environment) -> descriptor_pb2.FileDescriptorProto:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="rules.proto",
        package="rules",
        # proto3 refuses two names that differ in an underscore alone, whatever their JSON names.
        syntax="proto2",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    for root, fields in environment.roots.items():
        message = file.message_type.add(name=root)
        for number, (name, kind) in enumerate(fields.items()):
            # 19000 to 19999 belong to protobuf itself.
            one = message.field.add(name=name, number=number + (1 if number < 18_999 else 1_001))
            one.label = field.LABEL_OPTIONAL
            one.json_name = f"f{number}"
            if kind in _WRAPPERS:
                one.type, one.type_name = field.TYPE_MESSAGE, f".google.protobuf.{_WRAPPERS[kind]}"
                continue
            one.label, one.type = field.LABEL_REPEATED, field.TYPE_STRING
            if kind == "numbers":
                camel = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
                entry = message.nested_type.add(name=f"{camel}Entry")
                entry.options.map_entry = True
                for number_, label, type in (
                    (1, "key", field.TYPE_STRING),
                    (2, "value", field.TYPE_DOUBLE),
                ):
                    entry.field.add(
                        name=label, number=number_, type=type, label=field.LABEL_OPTIONAL
                    )
                one.type, one.type_name = field.TYPE_MESSAGE, f".rules.{root}.{camel}Entry"
    return file


def _line(source: Source, mistake: _Mistake) -> str:
    before = source.text[: mistake.at]
    column = f"column {mistake.at - before.rfind(chr(10))}"
    if "\n" in source.text:
        column = f"line {before.count(chr(10)) + 1}, {column}"
    shown = " ".join(source.text.split())
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}..."
    return f"{source.where}: {shown} ({column}): {mistake.what}"


def _mistakes(message: str, text: str, environment: Environment) -> Iterator[_Mistake]:
    """Say what the engine says, in this project's words."""
    found = re.findall(r"ERROR: <input>:(\d+):(\d+): (.*)", message)
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    for line, column, what in found:
        at = starts[min(int(line), len(starts)) - 1] + int(column) - 1
        yield _Mistake(at, _reworded(what, text, at, environment))
    if not found:
        what = re.sub(r"^[A-Z_]+: | \[[A-Z_]+\]$", "", message.strip().splitlines()[0])
        if "recursion" in what:
            what = "nests too deep; split it into several rules"
        yield _Mistake(0, what)


def _reworded(what: str, text: str, at: int, environment: Environment) -> str:
    what = what.removesuffix(" [INVALID_ARGUMENT]")
    if match := re.match(r"undefined field '(.*)' not found in struct 'rules\.(.*)'", what):
        return _not_known(f"{match[2]}.{match[1]}", environment)
    if match := re.match(r"undeclared reference to '(.*?)'", what):
        if text[at : at + 1] == "(":  # the engine points at a call by its parenthesis
            return f"there is no function {match[1]}()"
        return _not_known(match[1], environment)
    if match := re.match(r"found no matching overload for '(.*)' applied to '(.*)'", what):
        taken, dot, given = match[2].rpartition(".(")
        kinds = [_kind(one) for one in _split(given if dot else match[2][1:-1])]
        if dot:
            kinds = [_kind(taken.strip("()")), *(_kind(one) for one in _split(given[:-1]))]
        remedy = _REMEDIES.get(frozenset(_plain(kind) for kind in kinds))
        if "null" in kinds:
            remedy = "ask whether a field is set with has()"
        operator = match[1].strip("@").replace("_", "") or match[1]
        return f"{operator} does not take {' and '.join(kinds)}" + (f"; {remedy}" if remedy else "")
    if what.startswith("Syntax error"):
        return "cannot be read: " + what.partition(": ")[2].partition(" expecting ")[0]
    return what


def _not_known(written: str, environment: Environment) -> str:
    nearest = environment.nearest(written)
    if nearest:
        return f"{written} is not known; did you mean '{nearest}'?"
    known = environment.roots.get(written.partition(".")[0], environment.roots)
    return f"{written} is not known; known are {', '.join(sorted(known)) or 'no fields'}"


def _split(types: str) -> list[str]:
    """Split ``int, map(string, double)`` at its outer commas."""
    return re.split(r", (?![^(]*\))", types)


def _kind(type: str) -> str:
    type = re.sub(r"wrapper\((\w+)\)", r"\1", type)
    match = re.fullmatch(r"(list|map)\((.*)\)", type)
    if match:
        return f"{match[1]} of {_kind(match[2].split(', ')[-1])}s"
    return _KINDS.get(type, type.removeprefix("rules."))


def _plain(kind: str) -> str:
    """The kind of what a list or a map holds, so that ``in`` has the remedies of ``==``."""
    return kind.partition(" of ")[2].removesuffix("s") or kind


def _a(kind: str) -> str:
    return kind if kind == "null" else f"a {kind}"
