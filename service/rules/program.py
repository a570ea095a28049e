"""All rules of a request as one compact program. Pure.

:mod:`service.rules.assembly` makes the instructions when a configuration loads; a request fills
fields into registers and runs :mod:`service.rules.kernel`. The fused Python function answers the
few parts that have no instruction, and is the oracle of all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, overload

import numpy as np

from features.kernels import Integers, Words
from service.errors import ConfigurationError
from service.rules import kernel, translate
from service.rules.assembly import Assembly
from service.rules.environment import Environment, Value
from service.rules.kernel import Sets, Shorts
from service.rules.tree import Checked
from service.rules.values import Unknown

Known = Mapping[str, Mapping[str, Value]]

_MOST: Final = 65_000  # registers
_NOWHERE: Final = -1  # code of a text that no rule names
_EMPTY: Final[Mapping[str, Value]] = {}


class Answers(Sequence[bool | Unknown]):
    """What every rule says of one request, and what is dropped by those that do not hold.

    Attributes:
        verdicts: [rules] :data:`kernel.NO`, :data:`kernel.YES`, or more: it is not known.
        dropped: Bit set over the rows of the catalogue.
    """

    __slots__ = ("_reasons", "dropped", "verdicts")

    def __init__(self, verdicts: Shorts, dropped: int, reasons: Sequence[str]) -> None:
        self.verdicts = verdicts
        self.dropped = dropped
        self._reasons = reasons

    def __len__(self) -> int:
        return len(self.verdicts)

    @overload
    def __getitem__(self, place: int) -> bool | Unknown: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[bool | Unknown]: ...
    def __getitem__(self, place: int | slice) -> bool | Unknown | Sequence[bool | Unknown]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        verdict = int(self.verdicts[place])
        if verdict <= kernel.YES:
            return verdict == kernel.YES
        return Unknown(self._reasons[verdict - 2])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class Program:
    """Rules compiled together.

    Args:
        rules: Checked rules; equal parts are evaluated once.
        environment: What the program will be given.
        drops: Pairs of a rule's place and the rows, as a bit set, that it drops where it does not
            hold.

    Raises:
        ConfigurationError: A rule does not belong to this environment or this version, or they are
            too many.
    """

    def __init__(
        self,
        rules: Sequence[Checked],
        environment: Environment,
        drops: Sequence[tuple[int, int]] = (),
    ) -> None:
        for rule in rules:
            translate.verify(rule, environment)
        try:
            built = Assembly([rule.tree for rule in rules])
            self._code = built.code()
            self._values, self._states = built.template()
        except (ValueError, IndexError, OverflowError) as error:
            raise ConfigurationError(
                f"rules: cannot be translated ({error}); check them anew"
            ) from error
        self._reasons = built.reasons
        self._numbers, self._wholes, self._texts = built.numbers, built.wholes, built.texts
        self._maps, self._codes = built.maps, built.codes
        self._hard = (
            translate.fuse([Checked("", one, []) for one in built.hard], environment)
            if built.hard
            else None
        )
        self._sets = _sets(drops)
        size = self._code.first + len(self._code.instructions)
        if max(size, len(rules), len(self._reasons)) > _MOST:
            raise ConfigurationError(
                f"rules: {len(rules)} rules need {size} registers of at most {_MOST}; have fewer"
            )

    def __len__(self) -> int:
        """Instructions."""
        return len(self._code.instructions)

    def answers(self, known: Known) -> Answers:
        """Answer all rules.

        Args:
            known: ``{"customer": {"age": 41.0}, ...}``, each value of its declared kind, what is
                unset left out (or None).
        """
        code, sets = self._code, self._sets
        values, states = self._values.copy(), self._states.copy()
        doubles = values.view(np.float64)
        reasons = self._fill(known, values, doubles, states)
        verdicts = np.empty(len(code.answers), np.uint16)
        dropped = np.zeros(sets.members.shape[1], np.uint64)
        kernel.run(
            code.instructions, code.first, doubles, values, states, code.answers, verdicts,
            sets.rules, sets.members, dropped,
        )  # fmt: skip
        return Answers(verdicts, int.from_bytes(dropped.tobytes(), "little"), reasons)

    def _fill(self, known: Known, values: Integers, doubles: Any, states: Shorts) -> Sequence[str]:
        """Load every field; give the reasons that states name."""
        get = known.get
        told: list[Any] = [get(at.root, _EMPTY).get(at.name) for at in self._numbers]
        whys = [
            0 if one is not None else at.why for one, at in zip(told, self._numbers, strict=True)
        ]
        tables: list[Any] = [get(at.root, _EMPTY).get(at.name) for at in self._maps]
        for field, table in zip(self._maps, tables, strict=True):
            if table is None:
                told += [None] * len(field.keys)
                whys += [field.why] * len(field.keys)
            elif field.keys:
                keyed = [table.get(key) for key in field.keys]
                told += keyed
                whys += [
                    0 if one is not None else why
                    for one, why in zip(keyed, field.missing, strict=True)
                ]
        doubles[: len(told)] = [0.0 if one is None else one for one in told]
        whole: list[Any] = [get(at.root, _EMPTY).get(at.name) for at in self._wholes]
        whys += [
            0 if one is not None else at.why for one, at in zip(whole, self._wholes, strict=True)
        ]
        first = len(told)
        told = [0 if one is None else one for one in whole]
        codes = self._codes
        texts: list[Any] = [get(at.root, _EMPTY).get(at.name) for at in self._texts]
        whys += [
            0 if one is not None else at.why for one, at in zip(texts, self._texts, strict=True)
        ]
        told += [codes.get(one, _NOWHERE) for one in texts]
        told += [0] * len(tables)
        whys += [at.why if one is None else 0 for one, at in zip(tables, self._maps, strict=True)]
        reasons: Sequence[str] = self._reasons
        if self._hard is not None:
            reasons = list(reasons)
            for one in self._hard(known):
                if isinstance(one, Unknown):
                    reasons.append(one.what)
                told.append(0 if isinstance(one, Unknown) else one)
                whys.append(len(reasons) if isinstance(one, Unknown) else 0)
        values[first : first + len(told)] = told
        states[: len(whys)] = whys
        return reasons


def _sets(drops: Sequence[tuple[int, int]]) -> Sets:
    words = max((-(-rows.bit_length() // 64) for _, rows in drops), default=0)
    members: Words = np.frombuffer(
        b"".join(rows.to_bytes(8 * words, "little") for _, rows in drops), "<u8"
    ).reshape(len(drops), words)
    return Sets(np.array([place for place, _ in drops], np.uint16), members)
