"""All conditions of a configuration, compiled into one program. Pure.

What a condition reads of its action is put in when the configuration loads, so that one rule over a
group becomes the few conditions in which its actions differ, and equal ones are evaluated once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from zoneinfo import ZoneInfo

import msgspec

from service import variables
from service.business import Business
from service.catalogue import Price
from service.loader import SEEN, Load, loader
from service.rules import Answers, Checked, Environment, Program, Unknown, specialise
from service.variables import Subject, Values


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
        self._drops: Sequence[tuple[int, int]] = ()
        self._zone = ZoneInfo(business.definitions.time_zone)
        self._program: Program | None = None
        self._load: Load | None = None
        self._beside: Load | None = None
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
                self._program = None
            self._seen[at] = self._places[key]
        return self._seen[at]

    def __len__(self) -> int:
        return len(self._compiled)

    def compile(self, drops: Sequence[tuple[int, int]] = ()) -> Program:
        """Compile what was placed, which takes tens of milliseconds: not while serving.

        Args:
            drops: Places of conditions, and the rows that each drops where it does not hold.
        """
        self._drops = drops
        # Names that no condition could write are no mistake as long as there is none.
        words = self._business.vocabulary
        environment = variables.environment(words) if self._compiled else Environment({})
        self._program = Program(self._compiled, environment, drops)
        self._load = loader(self._program, self._zone)
        self._beside = loader(self._program, self._zone, SEEN)
        return self._program

    @property
    def program(self) -> Program:
        """All of them, compiled."""
        program = self._program  # one without conditions is none the less one
        return self.compile(self._drops) if program is None else program

    def load(self, subject: Subject, whole: Callable[[], Subject]) -> Sequence[str]:
        """Load what no event tells into the program, for :func:`service.choosing.choose`.

        Args:
            subject: Whom a request is about; its facts and intents are not looked at.
            whole: Gives the subject with facts and intents, for what has to ask Python.

        Returns:
            The reasons why something is not known.
        """
        program = self.program
        assert self._beside is not None  # noqa: S101  compiled with the program
        values, states = self._beside(subject)
        known = variables.known(whole(), self._zone) if program.asks_python else {}
        return program.fill(values, states, known)

    def of(self, subject: Subject) -> Answers:
        """Evaluate all of them for one request, the plain way."""
        program = self.program
        assert self._load is not None  # noqa: S101  compiled with the program
        values = variables.known(subject, self._zone) if program.asks_python else {}
        return program.answers(*self._load(subject), values)

    def evaluate(self, values: Values) -> Answers:
        """Evaluate all of them; an :class:`service.rules.Unknown` says why one could not be."""
        return self.program.answers(*self.program.told(values), values)

    def price(self, row: int, results: Sequence[bool | Unknown]) -> Price | None:
        """What a customer pays who meets a public condition; None where there is no price."""
        for place, price in self.prices[row]:
            if place is None or results[place] is True:
                return price
        return None
