"""All conditions of a configuration, compiled into one function. Pure.

What a condition reads of its action is put in when the configuration loads, so that one rule over a
group becomes the few conditions in which its actions differ, and equal ones are evaluated once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from service import variables
from service.business import Business
from service.catalogue import Price
from service.rules import Checked, Unknown, fuse, specialise
from service.variables import Values

Fused = Callable[[Values], list[bool | Unknown]]

Results = Sequence[bool | Unknown]
"""One for each compiled condition."""


class Conditions:
    """The conditions of one configuration.

    Args:
        business: Its conditions are checked.
    """

    def __init__(self, business: Business) -> None:
        self._business = business
        self._constants = [variables.of_action(action) for action in business.actions]
        self._compiled: list[Checked] = []
        self._places: dict[bytes, int] = {}
        self._seen: dict[tuple[str, int], int] = {}
        self._run: Fused | None = None
        self.prices: list[list[tuple[int | None, Price]]] = [
            [
                (None if one.when is None else self.place(one.when, row), one)
                for one in action.prices
            ]
            for row, action in enumerate(business.actions)
        ]

    def place(self, text: str, row: int) -> int:
        """Where the result of a condition about an action will be found."""
        checked = self._business.checked[text]
        about_action = any(read.startswith("action.") for read in checked.reads)
        at = (text, row if about_action else -1)
        if at not in self._seen:
            if about_action:
                checked = specialise(checked, {"action": self._constants[row]})
            key = msgspec.json.encode(checked.tree)
            if key not in self._places:
                self._places[key] = len(self._compiled)
                self._compiled.append(checked)
                self._run = None
            self._seen[at] = self._places[key]
        return self._seen[at]

    def __len__(self) -> int:
        return len(self._compiled)

    def compile(self) -> None:
        """Compile what was placed, which takes tens of milliseconds: not while serving."""
        if self._compiled and self._run is None:
            environment = variables.environment(self._business.vocabulary)
            self._run = fuse(self._compiled, environment)

    def evaluate(self, values: Values) -> Results:
        """Evaluate all of them; an :class:`service.rules.Unknown` says why one could not be."""
        self.compile()
        return () if self._run is None else self._run(values)
