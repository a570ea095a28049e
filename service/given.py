"""What a choice is given, by number: what no customer changes, and how to choose. Numbers alone.

:mod:`service.chooser` lays it out in this order, and the loops of :mod:`service.choosing` read it.
numba compiles these numbers in, so :mod:`features.compiled` looks at this file too, by that word.
"""

from __future__ import annotations

(
    CATALOGUE, COLUMNS, CONDITIONS, COUNTING, KEYS, KEY_ROWS, SHARES, SHARE_ROWS, BUNDLES, TRAITS,
    ROW_OF_CODE, LOADS, TABLES, INTENTS, FACT_AT, MATCH, OF_CLASS,
) = range(17)  # fmt: skip
"""Arrays that do not depend on the customer, see :class:`service.chooser.Chooser`."""
ACTIONS, WIDTH, AT_CHANCES, CLASSES, AT_ACCEPTANCE, SCORED, VERDICTS, PIECES = range(34, 42)
"""Numbers behind them: rows, words of a set of rows, where probabilities are, words of verdicts,
and the address of what answers are made of."""

LEDGER_KNOWN, CHAIN_KNOWN, ASKED_MODELS, BY_MODELS, BY_PROBABILITY, HELD_OUT, FILTERS = (
    1, 2, 4, 8, 16, 32, 64,
)  # fmt: skip
"""Bits of how to choose: what is known, whether the models said something, whether that ranks."""
