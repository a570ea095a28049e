"""All rules of a request as one compact program. Pure.

:mod:`service.rules.assembly` makes the instructions when a configuration loads; a request fills
fields into registers and runs :mod:`service.rules.kernel`. The fused Python function answers the
few parts that have no instruction, and is the oracle of all others.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, overload

import numpy as np

from features.kernels import Words
from service.errors import ConfigurationError
from service.rules import kernel, translate
from service.rules.assembly import Assembly, Loaded
from service.rules.environment import Environment, Value
from service.rules.kernel import Shorts
from service.rules.tree import Checked
from service.rules.values import Unknown

Known = Mapping[str, Mapping[str, Value]]

_MOST: Final = 65_000  # registers
NOWHERE: Final = -1
"""Code of a text that no rule names."""

_EMPTY: Final[Mapping[str, Any]] = {}


class Answers(Sequence[bool | Unknown]):
    """What every rule says of one request, and what is dropped by those that do not hold.

    Attributes:
        dropped: Bit set over the rows of the catalogue.
    """

    __slots__ = ("_reasons", "_verdicts", "dropped")

    def __init__(self, verdicts: bytes, dropped: int, reasons: Sequence[str]) -> None:
        self.dropped = dropped
        self._verdicts = verdicts
        self._reasons = reasons

    @property
    def verdicts(self) -> Shorts:
        """[rules] :data:`kernel.NO`, :data:`kernel.YES`, or more: it is not known."""
        return np.frombuffer(self._verdicts, np.uint16)

    def __len__(self) -> int:
        return len(self._verdicts) // 2

    @overload
    def __getitem__(self, place: int) -> bool | Unknown: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[bool | Unknown]: ...
    def __getitem__(self, place: int | slice) -> bool | Unknown | Sequence[bool | Unknown]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        at = range(len(self))[place]
        verdict = int.from_bytes(self._verdicts[2 * at : 2 * at + 2], sys.byteorder)
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
            code = built.code()
            values, states = built.template()
        except (ValueError, IndexError, OverflowError) as error:
            raise ConfigurationError(
                f"rules: cannot be translated ({error}); check them anew"
            ) from error
        self._reasons, self._codes = built.reasons, built.codes
        self.fields: Sequence[Loaded] = built.fields
        self._hard = (
            translate.fuse([Checked("", one, []) for one in built.hard], environment)
            if built.hard
            else None
        )
        size = code.first + len(code.instructions)
        if max(size, len(rules), len(drops), len(self._reasons)) > _MOST:
            raise ConfigurationError(
                f"rules: {len(rules)} rules need {size} registers of at most {_MOST}; have fewer"
            )
        self.instructions = len(code.instructions)
        self._memory = kernel.memory(code, values, states, *_sets(drops))
        formats = "".join("d" if one.kind == "number" else "q" for one in self.fields)
        self._values = struct.Struct(f"={formats}{'q' * len(built.hard)}")
        self._states = struct.Struct(f"={'H' * (len(formats) + len(built.hard))}")
        self.words = self._memory.words
        """For :func:`kernel.run`: registers, instructions, verdicts."""
        self._words = self.words.data.cast("B")
        self._values_at, self._states_at = 8 * self._memory.values, 8 * self._memory.states
        self._rules = len(rules)
        at = 8 * self._memory.verdicts
        self._verdicts = self._words[at : at + 2 * len(rules)]
        self._dropped = self._words[8 * self._memory.dropped :]

    def __len__(self) -> int:
        return self._rules

    def code(self, at: Loaded) -> Mapping[str, int] | None:
        """The codes of texts that a field may hold; None: it holds no text."""
        return self._codes if at.kind == "text" else None

    @property
    def asks_python(self) -> bool:
        """Whether a part of some rule has no instruction."""
        return self._hard is not None

    def told(self, known: Known) -> tuple[list[Any], list[int]]:
        """What a request knows of each of :attr:`fields`, for :meth:`answers`."""
        values: list[Any] = []
        states: list[int] = []
        for at in self.fields:
            value: Any = known.get(at.root, _EMPTY).get(at.name)
            state = at.why if value is None else 0
            if value is not None and at.key is not None:
                value = value.get(at.key)
                state = at.missing if value is None else 0
            elif value is not None and at.kind == "text":
                value = self._codes.get(value, NOWHERE)
            elif at.kind == "presence":
                value = None
            values.append(0 if value is None else value)
            states.append(state)
        return values, states

    def answers(self, values: list[Any], states: list[int], known: Known = _EMPTY) -> Answers:
        """Answer all rules. Not to be called by two threads at a time.

        Args:
            values: Of each of :attr:`fields` the number, flag, or code of a text; 0 where unset.
            states: 0, or the field's ``why`` or ``missing``.
            known: ``{"customer": {"age": 41.0}, ...}``, for parts that ask Python.
        """
        reasons = self.fill(values, states, known)
        kernel.run(self.words)
        dropped = int.from_bytes(self._dropped, "little")
        return Answers(self._verdicts.tobytes(), dropped, reasons)

    def fill(self, values: list[Any], states: list[int], known: Known = _EMPTY) -> Sequence[str]:
        """Fill registers for :func:`kernel.run`; give the reasons why something is not known.

        Args:
            values: As for :meth:`answers`, and so the rest.
            states: See there.
            known: See there.
        """
        reasons = self._reasons
        if self._hard is not None:
            reasons = [*reasons]
            for one in self._hard(known):
                if isinstance(one, Unknown):
                    reasons.append(one.what)
                values.append(0 if isinstance(one, Unknown) else one)
                states.append(len(reasons) if isinstance(one, Unknown) else 0)
        self._values.pack_into(self._words, self._values_at, *values)
        self._states.pack_into(self._words, self._states_at, *states)
        return reasons


def _sets(drops: Sequence[tuple[int, int]]) -> tuple[Shorts, Words]:
    words = max((-(-rows.bit_length() // 64) for _, rows in drops), default=0)
    members: Words = np.frombuffer(
        b"".join(rows.to_bytes(8 * words, "little") for _, rows in drops), "<u8"
    ).reshape(len(drops), words)
    return np.array([place for place, _ in drops], np.uint16), members
