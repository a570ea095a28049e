"""What speaks against actions, as sets of them. Pure.

A *cause* is one reason with the set of all actions that it speaks against, as the bits of a whole
number: bit ``n`` is row ``n`` of the catalogue. The first cause that names an action is decisive;
every later one would have dropped it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from rapport.v1 import decision_pb2 as pb
from rapport.v1 import log_pb2
from service.rules import Answers, Unknown
from service.rules.kernel import NO, YES

Rows = int
"""A set of actions: bit ``n`` is row ``n`` of the catalogue."""


class Cause(NamedTuple):
    """One reason with all the actions that it speaks against."""

    stage: pb.Stage.ValueType
    code: str
    text: str
    actions: Rows
    name: str = ""  # of the rule, limit, purpose or whatever it is


def rows_of(rows: Iterable[int]) -> Rows:
    """The set of some rows."""
    found = 0
    for row in rows:
        found |= 1 << row
    return found


def union(causes: Iterable[Cause]) -> Rows:
    """All actions that any of them speaks against."""
    dropped = 0
    for cause in causes:
        dropped |= cause.actions
    return dropped


@lru_cache(4096)  # most of what a configuration can say against actions is said again and again
def written(cause: Cause, actions: int, placement: str = "") -> bytes:
    """A cause as it stands in the bytes of a ``Deliberation``.

    Args:
        cause: What spoke against actions.
        actions: Rows of the catalogue.
        placement: That it holds in; empty: in all.
    """
    one = log_pb2.Cause(
        stage=cause.stage,
        code=cause.code,
        text=cause.text,
        name=cause.name,
        actions=cause.actions.to_bytes((actions + 7) // 8, "little"),
        placement=placement,
    )
    return log_pb2.Deliberation(causes=[one]).SerializeToString()


def unset(cause: Cause) -> bytes:
    """The bytes of a :class:`log_pb2.Cause` before its actions, for whoever writes these."""
    one = log_pb2.Cause(stage=cause.stage, code=cause.code, text=cause.text, name=cause.name)
    return one.SerializeToString()


class _Rule(NamedTuple):
    """One way a rule turns out for some actions."""

    condition: int  # place among the conditions
    failed: Cause
    written: bytes
    unknown: dict[str, tuple[Cause, bytes]]  # by why it could not be evaluated, made as they come


class Rules:
    """The rules of a configuration with what they drop.

    Args:
        staged: Place of a condition, and the cause where it does not hold, stage by stage.
        actions: Rows of the catalogue.
    """

    def __init__(self, staged: Iterable[tuple[int, Cause]], actions: int) -> None:
        self._actions = actions
        self._rules = [
            _Rule(condition, cause, written(cause, actions), {}) for condition, cause in staged
        ]
        self._conditions = np.array([one.condition for one in self._rules], np.int64)
        self._all_drop = all(one.failed.actions for one in self._rules)

    def drops(self) -> list[tuple[int, Rows]]:
        """Place of each rule's condition, and what it drops where that does not hold."""
        return [(one.condition, one.failed.actions) for one in self._rules]

    def laid(self) -> list[tuple[int, bytes]]:
        """Place of each rule's condition, and its cause as written where that does not hold."""
        return [(one.condition, one.written) for one in self._rules]

    def causes(self, results: Answers) -> list[Cause]:
        """Each rule that does not hold or is not known, as a cause."""
        return [
            rule.failed if verdict == NO else self._unknown(rule, results)[0]
            for rule, verdict in self._against(results)
        ]

    def written(self, results: Answers) -> list[bytes]:
        """The same as they stand in the bytes of a ``Deliberation``."""
        return [
            rule.written if verdict == NO else self._unknown(rule, results)[1]
            for rule, verdict in self._against(results)
        ]

    def _against(self, results: Answers) -> list[tuple[_Rule, int]]:
        """Rules that do not hold or are not known, with their verdicts."""
        if not self._rules or (self._all_drop and not results.dropped):
            return []
        verdicts = results.verdicts.take(self._conditions)
        against = np.flatnonzero(verdicts != YES)
        rules = self._rules
        return [
            (rules[number], verdict)
            for number, verdict in zip(against.tolist(), verdicts[against].tolist(), strict=True)
        ]

    def _unknown(self, rule: _Rule, results: Answers) -> tuple[Cause, bytes]:
        """A rule that could not be evaluated, as a cause and as written."""
        result = results[rule.condition]
        assert isinstance(result, Unknown)  # noqa: S101  its verdict says so
        known = rule.unknown.get(result.what)
        if known is None:
            text = f"Cannot tell, since {result.what} (rule {rule.failed.name})"
            cause = rule.failed._replace(code="RULE_UNKNOWN", text=text)
            known = rule.unknown[result.what] = cause, written(cause, self._actions)
        return known


class Filtered:
    """What the filter stages say of one customer, here and now.

    Attributes:
        dropped: All actions that something speaks against.

    A request needs no more than the set; causes are made of it for whoever asks why.
    """

    def __init__(
        self,
        dropped: Rows,
        before: Sequence[Cause],
        ruled: tuple[Rules, Answers] | None = None,
        after: Sequence[Cause] = (),
    ) -> None:
        self.dropped = dropped
        self._before, self._ruled, self._after = before, ruled, after

    @cached_property
    def causes(self) -> list[Cause]:
        """All causes, in the order of the stages."""
        ruled = [] if self._ruled is None else self._ruled[0].causes(self._ruled[1])
        return [*self._before, *ruled, *self._after]

    def written(self, actions: int) -> bytes:
        """All causes as they stand in the bytes of a ``Deliberation``."""
        ruled = [] if self._ruled is None else self._ruled[0].written(self._ruled[1])
        return b"".join(
            [
                *[written(cause, actions) for cause in self._before],
                *ruled,
                *[written(cause, actions) for cause in self._after],
            ]
        )
