"""Cut customers into the segments that an audit compares. Pure.

Every value of a category and of a flag is a segment. Numbers are cut into declared bands, or at the
quartiles of the customers. Who has no value is a segment too: being unknown is a way to be treated.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from features.profile import Value
from features.vocabulary import Vocabulary
from service.errors import ConfigurationError

UNKNOWN: Final = "unknown"
_EACH: Final = 5
"""Numbers with no more different values than this are segments one by one."""


class Cut(NamedTuple):
    """How one attribute is cut."""

    attribute: str
    labels: list[str]
    how: str  # in words
    edges: list[float] | None = None  # first number of every band but the lowest; None: by value

    def place(self, value: Value | None) -> int:
        """Which of the labels a value belongs to."""
        if value is None or (isinstance(value, float) and value != value):  # noqa: PLR0124  NaN
            return len(self.labels) - 1
        if self.edges is None or isinstance(value, str):
            return self.labels.index(_written(value))
        return int(np.searchsorted(self.edges, float(value), side="right"))


def cut(
    attribute: str,
    values: Sequence[Value | None],
    vocabulary: Vocabulary,
    edges: Sequence[float] | None = None,
) -> Cut:
    """Decide how an attribute is cut.

    Args:
        attribute: Its name.
        values: One for each customer.
        vocabulary: Which declares it.
        edges: First number of every band but the lowest, ascending; None: at the quartiles.

    Raises:
        ConfigurationError: The attribute is not declared, or bands are given for no number.
    """
    declared = vocabulary.attributes.get(attribute)
    if declared is None:
        raise ConfigurationError(
            f"{attribute!r} is no attribute; name one of {', '.join(vocabulary.attributes)}"
        )
    known = [value for value in values if value is not None]
    if declared.kind != "number":
        if edges is not None:
            raise ConfigurationError(f"--bands {attribute}: it is a {declared.kind}, no number")
        every = [True, False] if declared.kind == "flag" else [*declared.values]
        labels = [_written(one) for one in every]
        labels += sorted({_written(one) for one in known} - set(labels))
        return Cut(attribute, [*labels, UNKNOWN], "by value")
    numbers = np.array([float(one) for one in known if not isinstance(one, str)])
    if edges is None:
        if len(np.unique(numbers)) <= _EACH:
            labels = [_written(one) for one in np.unique(numbers).tolist()]
            return Cut(attribute, [*labels, UNKNOWN], "by value")
        edges = np.unique(np.quantile(numbers, [0.25, 0.5, 0.75], method="higher")).tolist()
        edges = [one for one in edges if one > numbers.min()]
        how = f"at the quartiles: {', '.join(map(_written, edges))}"
    else:
        how = f"in declared bands, from {', '.join(map(_written, edges))}"
    return Cut(attribute, [*_bands(edges), UNKNOWN], how, [*edges])


def _bands(edges: Sequence[float]) -> list[str]:
    between = [
        f"{_written(low)} to under {_written(high)}" for low, high in itertools.pairwise(edges)
    ]
    return [f"under {_written(edges[0])}", *between, f"{_written(edges[-1])} and over"]


def _written(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:g}"


def bands(written: Sequence[str]) -> Mapping[str, list[float]]:
    """Read bands as ``age=25,40,65``.

    Raises:
        ConfigurationError: One is not written so, or does not ascend.
    """
    read: dict[str, list[float]] = {}
    for one in written:
        name, _, numbers = one.partition("=")
        try:
            edges = [float(number) for number in numbers.split(",")]
        except ValueError:
            edges = []
        if not name or not edges or edges != sorted(set(edges)):
            raise ConfigurationError(f"--bands {one!r}: write ascending numbers, as age=25,40,65")
        read[name] = edges
    return read
