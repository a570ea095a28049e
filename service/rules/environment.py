"""What a rule may read: roots, their fields and the kind of each. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

Kind: TypeAlias = Literal["number", "count", "flag", "text", "numbers", "texts"]
Value: TypeAlias = float | int | bool | str | Mapping[str, float] | Sequence[str]

RESERVED: Final = frozenset(
    {"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in",
     "let", "loop", "namespace", "null", "package", "return", "true", "var", "void", "while"}
)  # fmt: skip
TYPES: Final = frozenset(
    {"bool", "bytes", "double", "dyn", "duration", "google", "int", "list", "map", "null_type",
     "string", "timestamp", "type", "uint"}
)  # fmt: skip


class Environment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of each root, such as ``{"customer": {"age": "number"}}``.

    Kinds are those of CEL: ``number`` is a double, ``count`` an int64, ``flag`` a bool, ``text`` a
    string, ``numbers`` a map from string to double, ``texts`` a list of strings.

    Raises:
        ValueError: A name cannot be written in a rule.
    """

    roots: dict[str, dict[str, Kind]]

    def __post_init__(self) -> None:
        for root, fields in self.roots.items():
            entries: dict[str, str] = {}
            for name, where in [(root, root), *((field, f"{root}.{field}") for field in fields)]:
                taken = name in RESERVED or (name in TYPES and name == where)
                if taken or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                    raise ValueError(
                        f"{where}: {name!r} is no name in a rule; use letters, digits and _, "
                        "and no word of the rule language"
                    )
            for field, kind in fields.items():
                # Protobuf names the type of a map after its field without the underscores.
                entry = field.replace("_", "").lower()
                if kind == "numbers" and entry in entries:
                    raise ValueError(
                        f"{root}.{field}: too like {root}.{entries[entry]}; rename one of them"
                    )
                if kind == "numbers":
                    entries[entry] = field

    def kind(self, root: str, field: str) -> Kind | None:
        """Kind of a field, or None where there is none of that name."""
        return self.roots.get(root, {}).get(field)

    def nearest(self, written: str) -> str | None:
        """The known field most like what somebody wrote, or None if nothing is like it."""
        known = [f"{root}.{field}" for root, fields in self.roots.items() for field in fields]
        by_field = {name.partition(".")[2]: name for name in reversed(known)}
        close = difflib.get_close_matches(written, known, n=1, cutoff=0.7)
        if close:
            return close[0]
        close = difflib.get_close_matches(written.rpartition(".")[2], by_field, n=1, cutoff=0.7)
        return by_field[close[0]] if close else None
