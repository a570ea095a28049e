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

_Marks = dict[tuple[str | int, ...], yaml.Mark]


def load(path: Path, kind: type[T]) -> T:
    """Read a YAML file into a struct.

    Raises:
        ConfigurationError: The file is absent, is no YAML, repeats a key, or does not fit
            ``kind``; the message starts with ``file:line:column``.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; create it or name another") from error
    return parse(text, kind, path)


def parse(text: str, kind: type[T], path: Path) -> T:
    """Read YAML text as :func:`load` does; ``path`` is for messages."""
    marks: _Marks = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = {} if node is None else _build(node, (), marks, path)
    except yaml.MarkedYAMLError as error:
        raise ConfigurationError(
            f"{_place(path, error.problem_mark)}: {error.problem or 'no YAML'}"
        ) from error
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, at = str(error).partition(" - at `")
        location = tuple(_steps(at.rstrip("`")))
        named = re.match(r"Object contains unknown field `(.+)`", message)
        if named and (*location, named[1]) in marks:
            location = (*location, named[1])
        inside = re.match(r"([\w.]+): ", message)
        if inside and (*location, *inside[1].split(".")) in marks:
            location = (*location, *inside[1].split("."))
        mark = next(
            (marks[location[:n]] for n in range(len(location), -1, -1) if location[:n] in marks),
            None,
        )
        field = ".".join(str(step) for step in location) or "the file"
        raise ConfigurationError(f"{_place(path, mark)}: {field}: {message}") from error


def _place(path: Path, mark: yaml.Mark | None) -> str:
    return str(path) if mark is None else f"{path}:{mark.line + 1}:{mark.column + 1}"


def _build(node: yaml.Node, at: tuple[str | int, ...], marks: _Marks, path: Path) -> Any:
    """Turn a node into plain values, noting where each one was written."""
    marks[at] = node.start_mark
    if isinstance(node, yaml.MappingNode):
        built = {}
        for key_node, value_node in node.value:
            key = yaml.SafeLoader("").construct_object(key_node)
            if key in built:
                raise ConfigurationError(
                    f"{_place(path, key_node.start_mark)}: {key!r} is written twice; remove one"
                )
            built[key] = _build(value_node, (*at, key), marks, path)
            marks[(*at, key)] = key_node.start_mark
        return built
    if isinstance(node, yaml.SequenceNode):
        return [_build(one, (*at, i), marks, path) for i, one in enumerate(node.value)]
    return yaml.SafeLoader("").construct_object(node)


def _steps(written: str) -> list[str | int]:
    """Split msgspec's ``$.actions[3].value`` into its steps; ``[...]`` stops it."""
    steps: list[str | int] = []
    for name, index in re.findall(r"\.([\w-]+)|\[(\d+|\.\.\.)\]", written):
        if index == "...":
            break
        steps.append(name or int(index))
    return steps
