"""Read configuration from YAML, strictly: every mistake names file, line and field.

This module knows files and nothing of what they mean; the structs do (``features.vocabulary``,
``features.definitions``, ``service.catalogue``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from service.errors import ConfigurationError

T = TypeVar("T")

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_Marks = dict[tuple[str | int, ...], yaml.Mark]


class Places:
    """Where each part of a file was written.

    Args:
        path: The file.
        marks: By the steps that lead to a part.
    """

    def __init__(self, path: Path, marks: _Marks) -> None:
        self.path = path
        self._marks = marks

    def at(self, *steps: str | int) -> str:
        """``file:line:column`` of a part, or of what it is missing from."""
        return _place(self.path, _nearest(self._marks, steps))


def load(path: Path, kind: type[T]) -> T:
    """Read a YAML file into a struct; see :func:`read`."""
    return read(path, kind)[0]


def read(path: Path, kind: type[T]) -> tuple[T, Places]:
    """Read a YAML file into a struct, and say where its parts were written.

    Raises:
        ConfigurationError: The file is absent, is no YAML, repeats a key, or does not fit
            ``kind``; the message starts with ``file:line:column``.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; create it or name another") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigurationError(f"{path}:{line}: is no UTF-8; save it as that") from error
    return parse(text, kind, path)


def parse(text: str, kind: type[T], path: Path) -> tuple[T, Places]:
    """Read YAML text as :func:`read` does; ``path`` is for messages."""
    marks: _Marks = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = {} if node is None else _build(node, (), marks, path)
    except yaml.MarkedYAMLError as error:
        raise ConfigurationError(
            f"{_place(path, error.problem_mark)}: {error.problem or 'no YAML'}"
        ) from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        column = error.position - before.rfind("\n")
        raise ConfigurationError(
            f"{path}:{before.count(chr(10)) + 1}:{column}: character "
            f"#x{error.character:04x} may not stand in YAML; remove it"
        ) from error
    except RecursionError as error:
        raise ConfigurationError(f"{path}: an alias holds itself, or it nests too deep") from error
    try:
        return msgspec.convert(value, kind), Places(path, marks)
    except msgspec.ValidationError as error:
        message, _, at = str(error).partition(" - at `")
        location = tuple(_pinpoint(error, value, kind, _steps(at.rstrip("`"))))
        named = re.match(r"Object contains unknown field `(.+)`", message)
        if named and (*location, named[1]) in marks:
            location = (*location, named[1])
        inside = re.match(r"([\w.]+): ", message)
        if inside and (*location, *inside[1].split(".")) in marks:
            location = (*location, *inside[1].split("."))
        mark = _nearest(marks, location)
        field = ".".join(str(step) for step in location) or "the file"
        raise ConfigurationError(f"{_place(path, mark)}: {field}: {message}") from error


def _place(path: Path, mark: yaml.Mark | None) -> str:
    return str(path) if mark is None else f"{path}:{mark.line + 1}:{mark.column + 1}"


def _nearest(marks: _Marks, steps: tuple[str | int, ...]) -> yaml.Mark | None:
    """The mark of a part, or of the smallest part around it that was written."""
    found = (marks[steps[:n]] for n in range(len(steps), -1, -1) if steps[:n] in marks)
    return next(found, None)


def _build(node: yaml.Node, at: tuple[str | int, ...], marks: _Marks, path: Path) -> Any:
    """Turn a node into plain values, noting where each one was written."""
    marks[at] = node.start_mark
    if isinstance(node, yaml.MappingNode):
        built = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigurationError(
                    f"{_place(path, key_node.start_mark)}: a key is a {key_node.id}; write a name, "
                    "in quotes where it starts with a bracket or brace"
                )
            key = _scalar(key_node, path)
            if key in built:
                raise ConfigurationError(
                    f"{_place(path, key_node.start_mark)}: {key!r} is written twice; remove one"
                )
            built[key] = _build(value_node, (*at, key), marks, path)
            marks[(*at, key)] = key_node.start_mark
        return built
    if isinstance(node, yaml.SequenceNode):
        return [_build(one, (*at, i), marks, path) for i, one in enumerate(node.value)]
    return _scalar(node, path)


def _scalar(node: yaml.Node, path: Path) -> Any:
    if node.tag in _NUMBERS and ":" in node.value:
        return node.value  # 22:00:00 is a time here, and no number to the base of sixty
    try:
        return yaml.SafeLoader("").construct_object(node)
    except ValueError as error:  # such as the 31st of February
        raise ConfigurationError(
            f"{_place(path, node.start_mark)}: {node.value!r}: {error}"
        ) from error


def _steps(written: str) -> list[str | int | None]:
    """Split msgspec's ``$.actions[3].value`` into its steps; ``[...]``, any key, is None."""
    return [
        None if index == "..." else name or int(index)
        for name, index in re.findall(r"\.([\w-]+)|\[(\d+|\.\.\.)\]", written)
    ]


def _pinpoint(
    error: msgspec.ValidationError, value: Any, kind: type[Any], steps: list[str | int | None]
) -> list[str | int]:
    """Find the keys that msgspec hides behind ``[...]``: those that fail alike on their own."""
    found: list[str | int] = []
    for step in steps:
        if step is not None:
            found.append(step)
            continue
        alike = (
            key
            for key in _inside(value, found)
            if _fails_alike(error, _alone(value, [*found, key]), kind)
        )
        key = next(alike, None)
        if key is None:
            break
        found.append(key)
    return found


def _inside(value: Any, steps: list[str | int]) -> Any:
    for step in steps:
        value = value[step]
    return value


def _alone(value: Any, steps: list[str | int]) -> Any:
    """A copy of ``value`` in which the mapping at ``steps[:-1]`` holds nothing but its last."""
    if len(steps) == 1:
        return {steps[0]: value[steps[0]]}
    copy = value.copy()
    copy[steps[0]] = _alone(value[steps[0]], steps[1:])
    return copy


def _fails_alike(error: msgspec.ValidationError, value: Any, kind: type[Any]) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as other:
        return str(other) == str(error)
    return False
