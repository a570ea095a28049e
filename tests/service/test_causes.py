from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rapport.v1 import decision_pb2 as pb
from rapport.v1 import log_pb2
from service.causes import Cause, Filtered, Rules, union
from service.rules import Answers
from service.rules.kernel import NO, YES

ACTIONS = 12
UNKNOWN = 2  # for the first reason


def cause(number: int, rows: int) -> Cause:
    return Cause(pb.STAGE_SUITABILITY, "RULE", f"Rule {number} says so", rows, f"rule{number}")


def slowly(staged: Sequence[tuple[int, Cause]], verdicts: Sequence[int]) -> list[Cause]:
    """What speaks against actions, rule by rule."""
    found = []
    for condition, failed in staged:
        if verdicts[condition] == NO:
            found.append(failed)
        elif verdicts[condition] != YES:
            text = f"Cannot tell, since something is not known (rule {failed.name})"
            found.append(failed._replace(code="RULE_UNKNOWN", text=text))
    return found


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2**ACTIONS - 1) | st.just(0)), max_size=8),
    st.lists(st.sampled_from([YES, YES, NO, UNKNOWN]), min_size=6, max_size=6),
)
def test_what_rules_say_is_told_of_each_also_where_nothing_is_dropped(
    rules: list[tuple[int, int]], verdicts: list[int]
) -> None:
    staged = [(at, cause(number, rows)) for number, (at, rows) in enumerate(rules)]
    found = slowly(staged, verdicts)
    packed = np.array(verdicts, np.uint16).tobytes()
    results = Answers(packed, union(found), ["something is not known"])
    before, after = [cause(-1, 1)], [cause(99, 2)]
    filtered = Filtered(3 | union(found), before, (Rules(staged, ACTIONS), results), after)
    assert filtered.causes == [*before, *found, *after]
    built = log_pb2.Deliberation(
        causes=[
            log_pb2.Cause(
                stage=one.stage, code=one.code, text=one.text, name=one.name,
                actions=one.actions.to_bytes(2, "little"),
            )
            for one in (*before, *found, *after)
        ]
    )  # fmt: skip
    assert filtered.written(ACTIONS) == built.SerializeToString(deterministic=True)
