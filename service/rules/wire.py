"""The shape of ``cel.expr.CheckedExpr``, as far as rules use it. Pure.

The engine hands out its checked tree as bytes of that message and ships no Python classes for it,
so the few fields that matter are declared here, by the numbers of
https://github.com/google/cel-spec/tree/master/proto/cel/expr.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory

_PACKAGE: Final = "rapport.cel"

# message: {field: (number, type)}; a capital is a message, * repeats, a map is repeated entries.
_MESSAGES: Final[dict[str, dict[str, tuple[int, str]]]] = {
    "Checked": {
        "references": (2, "*ReferenceEntry"),
        "types": (3, "*TypeEntry"),
        "expr": (4, "Expr"),
        "source": (5, "Source"),
    },
    "ReferenceEntry": {"key": (1, "int64"), "value": (2, "Reference")},
    "Reference": {"overloads": (3, "*string")},
    "TypeEntry": {"key": (1, "int64"), "value": (2, "Type")},
    "Source": {"positions": (4, "*PositionEntry")},
    "PositionEntry": {"key": (1, "int64"), "value": (2, "int64")},
    "Type": {
        "dyn": (1, "Empty"),
        "null": (2, "int64"),
        "primitive": (3, "int64"),
        "wrapper": (4, "int64"),
        "list": (6, "ListType"),
        "map": (7, "MapType"),
        "message": (9, "string"),
    },
    "Empty": {},
    "ListType": {"element": (1, "Type")},
    "MapType": {"key": (1, "Type"), "value": (2, "Type")},
    "Expr": {
        "id": (2, "int64"),
        "const": (3, "Constant"),
        "ident": (4, "Ident"),
        "select": (5, "Select"),
        "call": (6, "Call"),
        "list": (7, "List"),
        "struct": (8, "Struct"),
        "comprehension": (9, "Empty"),
    },
    "Constant": {
        "null": (1, "int64"),
        "flag": (2, "bool"),
        "count": (3, "int64"),
        "unsigned": (4, "uint64"),
        "number": (5, "double"),
        "text": (6, "string"),
        "raw": (7, "bytes"),
    },
    "Ident": {"name": (1, "string")},
    "Select": {"operand": (1, "Expr"), "field": (2, "string"), "test": (3, "bool")},
    "Call": {"target": (1, "Expr"), "function": (2, "string"), "args": (3, "*Expr")},
    "List": {"elements": (1, "*Expr")},
    "Struct": {"message": (1, "string"), "entries": (2, "*Entry")},
    "Entry": {"key": (3, "Expr"), "value": (4, "Expr")},
}
_ONE_OF: Final = ("Type", "Expr", "Constant")


@cache
def _checked() -> type[Any]:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="rapport/cel.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        if name in _ONE_OF:
            message.oneof_decl.add(name="kind")
        for label, (number, type) in fields.items():
            bare = type.lstrip("*")
            one = message.field.add(
                name=label,
                number=number,
                label=field.LABEL_REPEATED if bare != type else field.LABEL_OPTIONAL,
            )
            if bare[0].isupper():
                one.type, one.type_name = field.TYPE_MESSAGE, f".{_PACKAGE}.{bare}"
            else:
                one.type = field.Type.Value(f"TYPE_{bare.upper()}")
            if name in _ONE_OF and label != "id":
                one.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Checked"))


def parse(written: bytes) -> Any:
    """Read what ``Expression.serialize()`` gives."""
    return _checked().FromString(any_pb2.Any.FromString(written).value)
