from __future__ import annotations

import copy
import itertools
import math
import random
import statistics
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import definitions as declared
from features.definitions import Definitions
from features.duration import DAY, HOUR
from features.elementary import Floats
from features.profile import Consent, Profile, Told
from features.record import EMPTY, Records
from features.vocabulary import Outcome
from rapport.v1 import decision_pb2 as pb
from rapport.v1 import log_pb2
from service import sight
from service.answers import Answers
from service.business import Business, complete
from service.catalogue import Action, Exploration, Placement, Price, Treatment
from service.causes import rows_of
from service.declared import (
    Ceiling,
    ContextWeight,
    ControlGroups,
    Limit,
    Policies,
    Ranking,
    Resource,
    Target,
    When,
)
from service.entries import Entries
from service.inputs import Inputs, Known, Question
from service.layout import Layout
from service.models import Models
from service.pipeline import Pipeline
from service.reasons import Reason
from service.rooms import full
from service.sight import Seen
from service.slates import Answer
from service.usual import Usual
from service.weighed import Reply, Want, Weighed
from tests.chain import NOW, VOCABULARY, Event, chained
from tests.integration.serving import business as bank
from tests.integration.serving import sealed
from tests.service.test_exploration import One, Slate, Slots, slates, too_far

# A shop whose priorities are what a test says: prior 0.5, and a value of twice the priority

WORDS = msgspec.structs.replace(
    VOCABULARY,
    actions={name: code for code, name in enumerate("abcdefghijklmnopqrstuvwxyz", 1)},
    groups={"care": 1, "sales": 2, "more": 3},
)
EVERYWHERE = Treatment("say", ["hint", "banner"])


def thing(name: str, priority: float = 10.0, group: str = "care", **fields: Any) -> Action:
    known: dict[str, Any] = {
        "title": name.upper(), "issue": "service", "value": 2 * priority, "prior": 0.5,
        "treatments": [EVERYWHERE], **fields,
    }  # fmt: skip
    return Action(name=name, group=group, **known)


def shop(
    actions: Sequence[Action], hint: Mapping[str, Any] = {}, banner: Mapping[str, Any] = {},
    **policies: Any,
) -> Business:  # fmt: skip
    return complete(
        Business(
            vocabulary=WORDS,
            definitions=Definitions([declared.Count(name="events")]),
            actions=list(actions),
            placements={
                "hint": Placement(["phone", "chat"], **hint),
                "banner": Placement(["phone"], **banner),
            },
            policies=Policies(**policies),
        )
    )


def question(*placements: str, **fields: Any) -> Question:
    return Question("ann", "phone", 1, list(placements or ["hint"]), **{"assurance": 3, **fields})


WILLING = Profile({}, [Consent("marketing", "", True, 0)])
STRANGER = Known(EMPTY, EMPTY, WILLING)


def given_(*placements: str, known: Known = STRANGER, seed: int = 1, **fields: Any) -> Inputs:
    """Inputs; what is no field of them is one of the question."""
    own = {name: fields.pop(name) for name in list(fields) if name in Inputs._fields}
    return Inputs(question(*placements, **fields), known, NOW, seed, **own)


def replies(wants: Iterable[Want], refused: Collection[int], why: str = "CAPPED") -> list[Reply]:
    return [Reply(why if want.row in refused else "") for want in wants]


def decide(
    of: Business | Pipeline,
    inputs: Inputs,
    refused: Collection[str] = (),
    models: Models | None = None,
) -> Answer:
    pipeline = of if isinstance(of, Pipeline) else Pipeline(of)
    weighed = pipeline.weigh(inputs, models)
    rows = [pipeline.business.rows[name] for name in refused]
    return pipeline.settle(weighed, replies(weighed.wants, rows))


def written(answer: Answer, of: Business) -> bytes:
    """The log entry of an answer."""
    response = Answers(of).written(answer, "id")
    return Entries(of).written(answer, b"", response, "ivr")


def names(answer: Answer, of: Business) -> dict[str, list[str]]:
    return {
        slate.placement: [of.actions[one.row].name for one in slate.shown]
        for slate in answer.slates
    }


def drawn(answer: Answer, of: Business) -> dict[str, Slate]:
    """What was drawn, whatever was shown in its place."""
    return {
        weighing.name: (
            weighing.drawn.held_back,
            tuple(
                of.actions[int(weighing.ranked.rows[slot.place])].name
                for slot in weighing.drawn.slots
            ),
        )
        for weighing in answer.weighed.weighings
    }


def advised(answer: Answer) -> list[str]:
    return [one.code for one in answer.advisories]


def shown_before(name: str, age: int = HOUR, **fields: Any) -> Event:
    code = WORDS.actions[name]
    return Event(NOW - age, "outcome", action=code, **{"outcome": Outcome.presented, **fields})


# Draws, end to end

WARM = Exploration(hold_back=0.2, temperature=2.0, floor=0.4)
WARMER = Exploration(hold_back=0.25, temperature=4.0, floor=0.5)
ONCE = (Limit("b_once", 1, "7d", action="b"), Limit("x_once", 1, "7d", action="x"))
CROWD = (
    thing("a", 9.0, "sales"),
    thing("b", 7.0, "sales"),
    thing("x", 6.0, "care", parts=["d", "e"]),
    thing("d", 5.0, "more"),
    thing("e", 4.0, "more"),
    thing("m", 1.0, "care", mandatory=True),
)


def crowd() -> Business:
    """Two placements over five that may be drawn and one that must be shown."""
    return shop(
        CROWD,
        {"max_actions": 3, "per_group": 2, "defaults": ["d", "e"], "exploration": WARM},
        {"max_actions": 1, "defaults": ["e", "d"], "exploration": WARMER, "nothing": 3.5},
        limits=list(ONCE),
    )


def ones(of: Business) -> tuple[One, ...]:
    found = [
        One(one.name, one.prior * one.value, one.group, one.mandatory, tuple(one.parts))
        for one in of.actions
    ]
    return tuple(sorted(found, key=lambda one: (-one.priority, one.name)))


def slates_of_both(of: Business) -> dict[tuple[Slate, Slate], float]:
    """Every answer over both placements, with its probability, by the slow reference."""
    found = {}
    by_name = {one.name: one for one in ones(of)}
    hint, banner = of.placements["hint"], of.placements["banner"]
    for above, p in slates(
        ones(of), Slots(hint.max_actions, hint.per_group, hint.nothing), hint.exploration
    ).items():
        taken = tuple(by_name[name] for name in above[1])
        slots = Slots(banner.max_actions, banner.per_group, banner.nothing)
        for below, q in slates(ones(of), slots, banner.exploration, taken).items():
            found[above, below] = p * q
    return found


def test_answers_over_two_placements_come_as_often_as_they_should_whatever_is_refused() -> None:
    of = crowd()
    pipeline, expected = Pipeline(of), slates_of_both(of)
    assert len(expected) > 50
    numbers = math.ceil(50.01 / min(expected.values()))
    seen: Counter[tuple[Slate, Slate]] = Counter()
    refused = {of.rows["b"], of.rows["x"]}
    fell_back = 0
    for seed in range(numbers):
        weighed = pipeline.weigh(given_("hint", "banner", seed=seed), None)
        asked = [of.actions[want.row].name for want in weighed.wants]
        answer = pipeline.settle(weighed, replies(weighed.wants, refused))
        above, below = drawn(answer, of).values()
        assert asked == [name for name in (*above[1], *below[1]) if name in "bx"]
        if not seen[above, below]:
            p = answer.slates[0].probability * answer.slates[1].probability
            assert p == pytest.approx(expected[above, below], rel=1e-12)
        seen[above, below] += 1
        everything = {*above[1], *below[1]}
        for slate, weighing, names_ in zip(
            answer.slates, weighed.weighings, (above[1], below[1]), strict=True
        ):
            chances = {
                name: slot.probability
                for name, slot in zip(names_, weighing.drawn.slots, strict=True)
            }
            under = [
                of.actions[one.row if one.instead_of is None else one.instead_of].name
                for one in slate.shown
            ]
            assert under == [name for name in names_ if name in under], "in the drawn order"
            assert set(names_) - set(under) <= {"b", "x"}
            for name, one in zip(under, slate.shown, strict=True):
                assert one.probability == chances[name], "of what was drawn for the slot"
                assert (one.instead_of is not None) == (name in "bx")
                if one.instead_of is not None:
                    fell_back += 1
                    fallback = of.actions[one.row].name
                    assert fallback in of.placements[slate.placement].defaults
                    assert fallback not in everything
                    everything.add(fallback)
                    assert one.reasons[0].code == "FALLBACK"
            assert slate.held_back == weighing.drawn.held_back
    assert fell_back > 100
    assert not too_far(seen, expected, numbers)


def test_what_is_logged_holds_the_drawn_action_with_its_probability_under_the_fallback() -> None:
    of = shop([thing("b"), thing("d", 1.0)], {"max_actions": 1, "defaults": ["d"], "exploration":
              Exploration(0.1, 0.5, 0.2)}, limits=[ONCE[0]])  # fmt: skip
    expected = slates(ones(of), Slots(1), of.placements["hint"].exploration)
    seed = next(
        n for n in range(100)
        if drawn(decide(of, given_(seed=n)), of)["hint"] == (False, ("b",))
    )  # fmt: skip
    logged = log_pb2.LogEntry.FromString(written(decide(of, given_(seed=seed), ["b"]), of)).decision
    (slate,) = logged.response.slates
    (one,) = slate.recommendations
    assert (one.action, one.instead_of) == ("d", "b")
    assert slate.selection_probability == pytest.approx(expected[False, ("b",)])
    assert one.selection_probability == pytest.approx(expected[False, ("b",)] / 0.9)
    (reply,) = logged.inputs.reservations
    assert (reply.placement, reply.action, reply.reserved) == ("hint", "b", False)
    assert reply.refused == "CAPPED"
    assert logged.inputs.seed == seed
    granted = log_pb2.LogEntry.FromString(written(decide(of, given_(seed=seed)), of)).decision
    (one,) = granted.response.slates[0].recommendations
    assert (one.action, one.instead_of) == ("b", "")
    assert granted.response.slates[0].selection_probability == slate.selection_probability
    assert granted.inputs.reservations[0].reserved


REWARDS = {"a": 0.1, "b": 0.7, "x": 0.5, "d": 0.3, "e": 0.6, "m": 0.2}
"""What each brings on average where it is shown; in `b`'s place `d` is."""


def estimates(
    logs: Sequence[tuple[Slate, float, float]], target: Mapping[Slate, float]
) -> dict[str, tuple[float, float]]:
    """Mean and half the width of a 95 % interval, by IPS and by SNIPS (Swaminathan 2015)."""
    weights = np.array([target.get(slate, 0.0) / p for slate, p, _ in logs])
    rewards = np.array([reward for _, _, reward in logs])
    n, total = len(logs), weights.sum()
    mean = float((weights * rewards).mean())
    normal = float((weights * rewards).sum() / total)
    return {
        "ips": (mean, 1.96 * float((weights * rewards).std(ddof=1)) / math.sqrt(n)),
        "snips": (
            normal, 1.96 * math.sqrt(float((weights**2 * (rewards - normal) ** 2).sum())) / total,
        ),
    }  # fmt: skip


def test_what_another_policy_would_bring_is_estimated_by_logged_probabilities_alone() -> None:
    of = shop(
        CROWD,
        {"max_actions": 2, "per_group": 1, "defaults": ["d"], "exploration":
         Exploration(0.1, 1.0, 0.15)},
        limits=[ONCE[0]],
    )  # fmt: skip
    slots = Slots(2, per_group=1)
    policy = slates(ones(of), slots, Exploration(0.0, 0.4, 0.3))
    dice = random.Random(20261122)
    pipeline = Pipeline(of)
    logs: list[tuple[Slate, float, float]] = []
    under_shown: list[tuple[Slate, float, float]] = []
    for seed in range(16_000):
        answer = decide(pipeline, given_(seed=seed), ["b"])
        (slate,) = answer.slates
        shown = [of.actions[one.row].name for one in slate.shown]
        under = [
            of.actions[one.row if one.instead_of is None else one.instead_of].name
            for one in slate.shown
        ]
        reward = sum(dice.random() < REWARDS[name] for name in shown)
        logs.append(((slate.held_back, tuple(under)), slate.probability, reward))
        under_shown.append(((slate.held_back, tuple(shown)), slate.probability, reward))

    def fared(name: str, slate: Slate) -> float:
        if name != "b":
            return REWARDS[name]
        # The fallback of `b`, unless it stands in the slate already; then nothing is shown.
        return 0.0 if "d" in slate[1] else REWARDS["d"]

    truth = sum(p * sum(fared(name, slate) for name in slate[1]) for slate, p in policy.items())
    whole = estimates(logs, policy)
    for mean, reach in whole.values():
        assert abs(mean - truth) < reach < 0.05
    covered = Counter[str]()
    for first in range(0, len(logs), 200):
        for kind, (mean, reach) in estimates(logs[first : first + 200], policy).items():
            covered[kind] += abs(mean - truth) < reach
    assert all(68 <= covered[kind] <= 80 for kind in ("ips", "snips")), covered  # 76 expected

    possible = slates(ones(of), slots, of.placements["hint"].exploration)
    naive = [(slate, 1 / len(possible), reward) for slate, _, reward in logs]
    without_hold_back = [(slate, p / 0.9, reward) for slate, p, reward in logs]
    for wrong in (naive, without_hold_back, under_shown):
        mean, reach = estimates(wrong, policy)["ips"]
        assert abs(mean - truth) > 1.5 * reach


# Seeds, control groups, and what leaves nothing to chance


def test_the_same_seed_gives_the_same_bytes_and_another_another_answer() -> None:
    of = crowd()
    first, again = (
        [written(decide(Pipeline(of), given_("hint", "banner", seed=n)), of) for n in range(40)]
        for _ in range(2)
    )
    assert first == again
    assert (
        len({str(names(decide(of, given_("hint", "banner", seed=n)), of)) for n in range(40)}) > 9
    )


def draws(of: Business, numbers: int = 300, **fields: Any) -> list[Answer]:
    pipeline = Pipeline(of)
    return [decide(pipeline, given_("hint", "banner", seed=n, **fields)) for n in range(numbers)]


def certain(found: Sequence[Answer], of: Business) -> dict[str, list[str]]:
    """The one answer that all of them are, with probability 1."""
    assert len({str(names(one, of)) for one in found}) == 1
    for one in found:
        for slate in one.slates:
            assert not slate.held_back
            assert slate.probability == 1
            assert all(action.probability == 1 for action in slate.shown)
    return names(found[0], of)


BEST = {"hint": ["m", "a", "b"], "banner": ["x"]}


def test_a_server_that_leaves_nothing_to_chance_gives_the_best() -> None:
    of = crowd()
    found = draws(of, greedy=True)
    assert certain(found, of) == BEST
    assert log_pb2.LogEntry.FromString(written(found[0], of)).decision.inputs.greedy


def test_without_temperature_and_floor_the_best_has_probability_one() -> None:
    of = crowd()
    for name in of.placements:
        still = msgspec.structs.replace(of.placements[name], exploration=Exploration())
        of.placements[name] = still
    assert certain(draws(of), of) == BEST


def grouped(group: str, **more: Any) -> Business:
    of = crowd()
    control = ControlGroups("s", **{group: 1.0})
    policies = msgspec.structs.replace(of.policies, control=control, **more)
    return msgspec.structs.replace(of, policies=policies)


def test_the_random_group_gets_any_slate_that_fits_and_is_never_held_back() -> None:
    of = grouped("random")
    expected = slates(ones(of), Slots(3, per_group=2), Exploration(floor=1.0))
    numbers = math.ceil(50.01 / min(expected.values()))
    pipeline, seen = Pipeline(of), Counter[Slate]()
    for seed in range(numbers):
        answer = decide(pipeline, given_(seed=seed))
        slate = drawn(answer, of)["hint"]
        seen[slate] += 1
        assert answer.slates[0].probability == pytest.approx(expected[slate])
        assert answer.weighed.group == "random"
    assert not too_far(seen, expected, numbers)


def test_who_is_held_out_gets_what_is_mandatory_and_is_told_so_once() -> None:
    of = grouped("hold_out")
    found = draws(of, 20)
    assert certain(found, of) == {"hint": ["m"], "banner": []}
    assert advised(found[0]).count("HELD_OUT") == 1
    assert "NOTHING_QUALIFIED" not in advised(found[0])
    assert not found[0].weighed.wants


def test_the_groups_without_model_and_by_probability_leave_nothing_to_chance() -> None:
    of = grouped("no_model")
    likely = {"d": 0.9, "e": 0.8, "a": 0.1}
    models = scoring(of, lambda row: likely.get(of.actions[row].name, 0.01))
    found = [
        decide(of, given_("hint", "banner", seed=n), models=models) for n in range(50)
    ]  # fmt: skip
    assert certain(found, of) == BEST
    assert found[0].slates[0].shown[0].factors.model is None
    of = grouped("probability_only")
    found = [decide(of, given_("hint", "banner", seed=n), models=models) for n in range(50)]
    assert certain(found, of)["hint"] == ["m", "d", "e"]
    numbers = found[0].slates[0].shown[1].factors
    assert numbers.priority == numbers.acceptance_probability == 0.9
    assert {one.weighed.group for one in found} == {"probability_only"}
    live = crowd()
    assert decide(live, given_(greedy=True), models=models).weighed.group == ""
    assert names(decide(live, given_(greedy=True), models=models), live)["hint"][1] == "d"


def test_only_those_in_a_group_are_on_a_baseline_and_membership_stays() -> None:
    of = crowd()
    control = ControlGroups("s", random=0.2, no_model=0.3)
    of = msgspec.structs.replace(of, policies=msgspec.structs.replace(of.policies, control=control))
    pipeline = Pipeline(of)
    found = Counter[str]()
    for n in range(500):
        inputs = given_()
        inputs = inputs._replace(question=inputs.question._replace(customer_id=f"c{n}"))
        first = pipeline.weigh(inputs, None)
        assert pipeline.weigh(inputs._replace(seed=n, clock=NOW + DAY), None).group == first.group
        found[first.group] += 1
    assert 70 <= found["random"] <= 130
    assert 110 <= found["no_model"] <= 190
    assert found[""] == 500 - found["random"] - found["no_model"]


def test_the_lowest_rung_draws_nothing_and_takes_the_defaults() -> None:
    of = crowd()
    late = Reason("OUT_OF_TIME", "late")
    found = draws(of, 50, unscored=late, known=Known(None, None, None, unread=late))
    assert certain(found, of) == {"hint": ["d", "e"], "banner": []}
    assert {one.weighed.rung for one in found} == {pb.RUNG_DEFAULTS}
    for group in ("random", "probability_only", "no_model"):
        assert certain(draws(grouped(group), 20, unscored=late), of)["hint"] == ["d", "e"]


# What the models say


class _Plan:
    lens = None
    digest = "plan"
    names = ("events", "row")


class Scoring:
    """Stands for a bundle whose models say what a test says."""

    scores_intents = False
    scores_acceptance = True
    evidence: Floats | None = None

    def __init__(self, acceptance: Floats, lifts: Floats | None, lens: Any) -> None:
        self._acceptance, self._lifts = acceptance, lifts
        self._asked = 0
        self.plan = _Plan()
        self.plan.lens = lens
        self.manifest = self
        self.version = "v"
        count = len(acceptance)
        self.layout = Layout(features=1, actions=count, rows=count)
        rows = np.column_stack([np.full(count, np.nan), np.arange(count)])
        self.usual = Usual(rows, 1, 2, np.zeros(count, np.int64), np.zeros(0, np.int64))

    @property
    def scores_uplift(self) -> bool:
        return self._lifts is not None

    def customer(self, *args: Any) -> Floats:
        self._asked += 1
        return np.array([float(self._asked)])

    def seen(self, vector: Floats, *args: Any) -> Seen:
        return Seen(vector, np.zeros(0, np.int64), np.zeros((0, 0)))

    def look(self, records: Records, profile: Profile, context: Any, now: int) -> sight.Sight:
        return sight.said(cast(sight.Says, self), records, profile, context, now)

    def intents(self, vector: Floats) -> Floats:
        return np.empty(0)

    def row(self, seen: Seen, row: int) -> Floats:
        return np.append(seen.vector, row)

    def acceptance(self, seen: Seen) -> Floats:
        return self._acceptance

    def uplift(self, seen: Seen) -> Floats | None:
        return self._lifts


def scoring(
    of: Business,
    acceptance: Callable[[int], float],
    lifts: Mapping[str, tuple[float, float, float]] | None = None,
) -> Models:
    nan = (math.nan,) * 3
    lifted = None if lifts is None else np.array([lifts.get(a.name, nan) for a in of.actions])
    rows = np.array([acceptance(row) for row in range(len(of.actions))])
    return cast(Models, Scoring(rows, lifted, Pipeline(of)._lens))


def test_what_the_model_saw_of_the_answer_is_kept_though_the_next_decision_overwrites_it() -> None:
    of = crowd()
    models, pipeline = scoring(of, lambda row: 0.5), Pipeline(of)
    answer = decide(pipeline, given_(greedy=True), models=models)
    kept = written(answer, of)
    decide(pipeline, given_(greedy=True), models=models)
    assert written(answer, of) == kept
    logged = log_pb2.LogEntry.FromString(kept).decision
    assert {one.action: np.frombuffer(one.vector).tolist() for one in logged.action_vectors} == {
        name: [1.0, of.rows[name]] for name in "mab"
    }


def test_what_ranks_by_uplift_is_worth_what_it_adds_and_harm_is_never_shown() -> None:
    lifts = {"a": (3.0, -1.0, 7.0), "b": (2.0, 0.5, 3.0), "c": (5.0, 4.0, 6.0)}
    of = shop([thing(name, 8.0, cost=1.0) for name in "abcd"], ranking={"service":
              Ranking("uplift")})  # fmt: skip
    answer = decide(of, given_(), models=scoring(of, lambda row: 0.5, lifts))
    assert names(answer, of) == {"hint": ["d", "c", "b"]}
    found = {of.actions[one.row].name: one.factors for one in answer.slates[0].shown}
    assert found["c"].priority == 4.0
    assert found["d"].uplift is None
    assert names(decide(of, given_(max_actions=4), models=scoring(of, lambda row: 0.5, lifts)), of)[
        "hint"
    ] == ["d", "c", "b"]


# What is known, and what is missing


def test_somebody_new_is_told_so_and_nobody_who_could_not_be_read() -> None:
    of = crowd()
    late = Known(None, None, None, unread=Reason("TIMELINE_LATE", "late"))
    assert advised(decide(of, given_(greedy=True))) == ["NEW_CUSTOMER", "NO_MODEL"]
    assert advised(decide(of, given_(greedy=True, known=late))) == ["TIMELINE_LATE", "NO_MODEL"]
    known = STRANGER._replace(records=chained([Event(NOW - HOUR)]))
    assert advised(decide(of, given_(greedy=True, known=known))) == ["NO_MODEL"]


def test_what_could_not_be_read_is_advised_and_logged() -> None:
    of = crowd()
    broken = Reason("LEDGER_UNREADABLE", "12 bytes")
    answer = decide(
        of, given_(greedy=True, known=STRANGER._replace(ledger=None, unreadable=[broken]))
    )
    assert advised(answer)[0] == "LEDGER_UNREADABLE"
    logged = log_pb2.LogEntry.FromString(written(answer, of)).decision
    assert [one.code for one in logged.inputs.unreadable] == ["LEDGER_UNREADABLE"]
    assert names(answer, of)["hint"] == ["m", "a", "d"], "what a limit counts is left out"


def test_an_utterance_is_said_to_be_unread_also_when_nothing_is_known() -> None:
    of = crowd()
    for known in (STRANGER, Known(None, None, None, unread=Reason("TIMELINE_LATE", "late"))):
        assert "UTTERANCE_NOT_READ" in advised(decide(of, given_(known=known, utterance="hello")))


def test_the_moment_is_never_before_what_a_faster_clock_has_dated() -> None:
    of = crowd()
    fast = STRANGER._replace(records=chained([Event(NOW - 1), Event(NOW + HOUR)]))
    weighed = Pipeline(of).weigh(given_(known=fast), None)
    assert (weighed.now, weighed.events) == (NOW + HOUR, 2)
    profile = Profile({"age": Told(30.0, NOW + 1_000)}, [])
    weighed = Pipeline(of).weigh(given_(known=STRANGER._replace(profile=profile)), None)
    assert weighed.now == NOW + 1_000
    far = Profile({"age": Told(30.0, NOW + 365 * DAY)}, [])
    weighed = Pipeline(of).weigh(given_(known=STRANGER._replace(profile=far)), None)
    assert weighed.now == NOW


def test_as_of_sees_nothing_that_came_later_and_wants_nothing() -> None:
    of = shop([thing("b", purpose="marketing"), thing("a")], limits=[ONCE[0]])
    noon = NOW - DAY
    known = Known(
        chained([Event(noon), Event(noon + 1)]),
        chained([shown_before("b")]),
        Profile({}, [Consent("marketing", "", True, noon)]),
    )
    weighed = Pipeline(of).weigh(given_(known=known, as_of=noon), None)
    assert (weighed.now, weighed.events, weighed.wants) == (noon, 1, [])
    assert names(Pipeline(of).settle(weighed, []), of) == {"hint": ["a", "b"]}
    weighed = Pipeline(of).weigh(given_(known=known, as_of=noon - 1), None)
    assert weighed.events == 0
    assert names(Pipeline(of).settle(weighed, []), of) == {"hint": ["a"]}, "no consent yet"
    now = decide(of, given_(known=known))
    assert names(now, of) == {"hint": ["a"]}, "shown since"


def test_a_dry_run_wants_nothing() -> None:
    of = crowd()
    assert [
        of.actions[w.row].name for w in Pipeline(of).weigh(given_(greedy=True), None).wants
    ] == ["b"]
    assert not Pipeline(of).weigh(given_(greedy=True, dry_run=True), None).wants


def test_what_has_to_be_reserved_brings_its_caps_and_ceilings() -> None:
    of = shop(
        [thing("a", 9.0), thing("b", 8.0, cost=2.0), thing("c", 7.0)],
        limits=[Limit("on_chat", 1, "7d", action="c", channel="chat"), ONCE[0]],
        ceilings=[Ceiling("daily", "day", volume=5, action="b"),
                  Ceiling("spent", "month", budget=9.0, action="a")],
    )  # fmt: skip
    wants = Pipeline(of).weigh(given_(), None).wants
    told = [(of.actions[w.row].name, len(w.caps), list(w.ceilings)) for w in wants]
    assert told == [("a", 0, ["spent"]), ("b", 1, ["daily"])]
    chat = question()._replace(channel="chat")
    wants = Pipeline(of).weigh(given_()._replace(question=chat), None).wants
    assert [of.actions[w.row].name for w in wants] == ["a", "b", "c"]
    full = decide(of, given_(full_ceilings=frozenset({"daily"})))
    assert names(full, of) == {"hint": ["a", "c"]}
    logged = log_pb2.LogEntry.FromString(written(full, of)).decision
    assert list(logged.inputs.full_ceilings) == ["daily"]


def test_what_is_shown_in_one_placement_is_not_shown_in_another() -> None:
    of = shop([thing("a", 9.0), thing("b", 8.0)], {"max_actions": 1})
    answer = decide(of, given_("hint", "banner"))
    assert names(answer, of) == {"hint": ["a"], "banner": ["b"]}
    assert names(decide(of, given_("banner", "hint")), of) == {"banner": ["a", "b"], "hint": []}


def test_a_slot_that_nothing_qualifies_for_stays_empty_and_says_so() -> None:
    never = ContextWeight("never", When(channel="phone"), Target(action="a"), 0.0, "Not now")
    of = shop([thing("a")], context_weights=[never])
    answer = decide(of, given_())
    assert names(answer, of) == {"hint": []}
    assert "NOTHING_QUALIFIED" in advised(answer)


def test_a_slate_that_is_held_back_is_empty_and_says_so() -> None:
    of = shop([thing("a")], {"exploration": Exploration(hold_back=0.5)})
    found = [decide(of, given_(seed=n)) for n in range(40)]
    back = [one for one in found if one.slates[0].held_back]
    assert 10 <= len(back) <= 30
    for one in back:
        assert names(one, of) == {"hint": []}
        assert "HELD_BACK" in advised(one)
        assert one.slates[0].probability == 0.5


def test_a_scarce_resource_costs_its_shadow_price() -> None:
    of = shop(
        [thing("a", 9.0, uses={"agents": 2.0}), thing("b", 8.0)],
        resources={"agents": Resource("minutes")},
    )
    assert names(decide(of, given_()), of)["hint"] == ["a", "b"]
    answer = decide(of, given_(prices={"agents": 1.5}))
    assert names(answer, of)["hint"] == ["b", "a"]
    assert answer.slates[0].shown[1].factors.capacity == 3.0
    logged = log_pb2.LogEntry.FromString(written(answer, of)).decision
    assert [(one.name, one.value) for one in logged.inputs.prices] == [("agents", 1.5)]


def test_who_meets_a_public_condition_pays_its_price() -> None:
    prices = [Price(5.0, "Members", "customer.member"), Price(8.0)]
    of = shop([thing("a", prices=prices)], public_attributes=["member"])
    member = STRANGER._replace(profile=Profile({"member": Told(True, 0)}, []))
    told = [decide(of, given_(known=one)).slates[0].shown[0].price for one in (member, STRANGER)]
    assert [one.amount for one in told if one] == [5.0, 8.0]


# A fallback


@pytest.mark.parametrize(
    ("defaults", "shown"),
    [
        ([], []),
        (["d"], ["d"]),
        (["a", "d"], ["d"]),  # `a` is in the answer already
        (["c", "d"], ["d"]),  # `c` is not to be had
        (["b", "d"], ["d"]),  # `b` could not be reserved
        (["p", "d"], ["d"]),  # `p` is a part of the bundle in the answer
        (["s", "d"], ["d"]),  # `s` is one too many of its group
        (["p", "s"], []),
    ],
)
def test_the_first_default_that_may_stand_beside_the_rest_is_shown(
    defaults: list[str], shown: list[str]
) -> None:
    of = shop(
        [
            thing("a", 9.0, "sales"),
            thing("b", 8.0, "care"),
            thing("x", 7.0, "sales", parts=["p", "q"]),
            thing("s", 0.2, "sales"),
            thing("c", 0.2, "more", purpose="marketing"),
            thing("p", 0.2, "more"),
            thing("d", 0.1, "more"),
            thing("q", 0.1, "more"),
        ],
        {"max_actions": 3, "defaults": defaults, "per_group": 2},
        limits=[ONCE[0]],
    )
    nobody = Known(EMPTY, EMPTY, Profile())
    answer = decide(of, given_(known=nobody), ["b"])
    assert names(answer, of) == {"hint": ["a", *shown, "x"]}
    assert "RESERVATION_FAILED" in advised(answer)


def test_a_part_may_stand_in_for_its_bundle_that_could_not_be_reserved() -> None:
    of = shop(
        [thing("x", 7.0, "sales", parts=["p", "q"]), thing("p", 0.2), thing("q", 0.1)],
        {"max_actions": 1, "defaults": ["p"]},
        limits=[ONCE[1]],
    )
    assert names(decide(of, given_(), ["x"]), of) == {"hint": ["p"]}


def test_two_that_could_not_be_reserved_have_different_fallbacks() -> None:
    limits = [Limit(name, 1, "7d", action=name) for name in "ab"]
    of = shop([thing("a", 9.0), thing("b", 8.0), thing("d", 0.2), thing("e", 0.1)],
              {"max_actions": 2, "defaults": ["d", "e"]}, {"max_actions": 1, "defaults": ["d"]},
              limits=limits)  # fmt: skip
    assert names(decide(of, given_(), ["a", "b"]), of) == {"hint": ["d", "e"]}
    both = decide(of, given_("hint", "banner", max_actions=1), ["a", "b"])
    assert names(both, of) == {"hint": ["d"], "banner": []}


def test_fallbacks_may_stand_beside_each_other() -> None:
    limits = [Limit(name, 1, "7d", action=name) for name in "ab"]
    of = shop(
        [
            thing("a", 9.0), thing("b", 8.0), thing("x", 0.3, "sales", parts=["p", "q"]),
            thing("p", 0.2, "more"), thing("q", 0.2), thing("s", 0.2, "sales"),
            thing("d", 0.1, "more"),
        ],
        {"max_actions": 2, "defaults": ["x", "p", "s", "d"], "per_group": 1},
        {"max_actions": 2, "defaults": ["x", "p", "d"]},
        limits=limits,
    )  # fmt: skip
    of.placements["hint"] = msgspec.structs.replace(of.placements["hint"], per_group=2)
    assert names(decide(of, given_("banner"), ["a", "b"]), of) == {"banner": ["x", "d"]}
    assert names(decide(of, given_("hint"), ["a", "b"]), of) == {"hint": ["x", "s"]}
    of.placements["banner"] = msgspec.structs.replace(
        of.placements["hint"], channels=["phone"], per_group=1, max_actions=1
    )
    both = decide(of, given_("hint", "banner", max_actions=1), ["a", "b"])
    assert names(both, of) == {"hint": ["x"], "banner": ["s"]}, "p is a part of x"


def test_fallbacks_fill_their_group_too() -> None:
    limits = [Limit(name, 1, "7d", action=name) for name in "ab"]
    of = shop(
        [
            thing("a", 9.0), thing("b", 8.0, "sales"), thing("c", 0.3, "more"),
            thing("e", 0.2, "more"), thing("d", 0.1),
        ],
        {"max_actions": 2, "defaults": ["c", "e", "d"], "per_group": 1},
        limits=limits,
    )  # fmt: skip
    assert names(decide(of, given_(), ["a", "b"]), of) == {"hint": ["c", "d"]}


# Whatever the business


SHARED = [
    Limit("few", 2, "7d", issue="grow", per="issue"),
    Limit("once", 1, "7d", per="group"),
    Limit("all", 2, "7d", per="customer"),
]


@st.composite
def businesses(draw: st.DrawFn) -> Business:
    count = draw(st.integers(2, 7))
    letters = "abcdefg"[:count]
    actions = []
    for name in letters:
        where = draw(st.sampled_from([["hint", "banner"], ["hint"], ["banner"]]))
        actions.append(
            thing(
                name,
                draw(st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0])),
                draw(st.sampled_from(["care", "sales", "more"])),
                mandatory=draw(st.integers(0, 5)) == 0,
                purpose=draw(st.sampled_from([None, None, "marketing"])),
                assurance=draw(st.sampled_from(["none", "none", "verified"])),
                issue=draw(st.sampled_from(["grow", "service"])),
                treatments=[Treatment("say", where)],
            )
        )
    if count > 3 and draw(st.booleans()):
        bundle = draw(st.integers(0, count - 1))
        others = [one.name for one in actions if one.name != letters[bundle]]
        parts = draw(st.lists(st.sampled_from(others), min_size=2, max_size=3, unique=True))
        actions[bundle] = msgspec.structs.replace(actions[bundle], parts=parts, mandatory=False)

    def placement() -> dict[str, Any]:
        return {
            "max_actions": draw(st.integers(1, 4)),
            "per_group": draw(st.integers(1, 3)),
            "nothing": draw(st.sampled_from([0.0, 0.0, 1.0])),
            "defaults": draw(st.lists(st.sampled_from(letters), max_size=3, unique=True)),
            "assurance": draw(st.sampled_from(["none", "ani"])),
            "exploration": Exploration(
                draw(st.sampled_from([0.0, 0.1])),
                draw(st.sampled_from([0.0, 0.5, 3.0])),
                draw(st.sampled_from([0.0, 0.3, 1.0])),
            ),
        }

    group = draw(st.sampled_from(["", "", "random", "probability_only", "no_model", "hold_out"]))
    limited = draw(st.lists(st.sampled_from(letters), max_size=4, unique=True))
    shared = draw(st.lists(st.sampled_from(SHARED), max_size=1))
    return shop(
        actions, placement(), placement(),
        limits=[*(Limit(f"l_{name}", 1, "7d", action=name) for name in limited), *shared],
        ceilings=[Ceiling("many", "day", volume=9, issue="grow")] if draw(st.booleans()) else [],
        control=msgspec.convert({group: 1.0} if group else {}, ControlGroups),
    )  # fmt: skip


@st.composite
def situations(draw: st.DrawFn) -> tuple[Business, Inputs]:
    of = draw(businesses())
    letters = list(of.rows)
    seen = draw(st.lists(st.sampled_from(letters), max_size=2))
    known = Known(
        draw(st.sampled_from([None, EMPTY, chained([Event(NOW - HOUR, "failed", "web")])])),
        draw(st.sampled_from([None, EMPTY, chained([shown_before(name) for name in seen])])),
        draw(st.sampled_from([None, Profile(), WILLING])),
    )
    some = st.lists(st.sampled_from(letters), max_size=2, unique=True)
    fields: dict[str, Any] = {
        "assurance": draw(st.integers(1, 3)),
        "max_actions": draw(st.sampled_from([None, None, 1, 2, 20])),
        "allow": draw(st.sampled_from([[], [], letters[:3]])),
        "block": draw(some),
        "unscored": draw(st.sampled_from([None, None, Reason("OUT_OF_TIME", "late")])),
        "full_ceilings": draw(st.sampled_from([frozenset[str](), frozenset({"many"})])),
        "greedy": draw(st.sampled_from([False, False, True])),
        "dry_run": draw(st.sampled_from([False, False, True])),
    }
    asked = draw(st.sampled_from([["hint", "banner"], ["banner", "hint"], ["hint"]]))
    return of, given_(*asked, known=known, seed=draw(st.integers(0, 2**64 - 1)), **fields)


def sound(answer: Answer, of: Business) -> None:
    """Check what holds of every answer."""
    weighed, asked = answer.weighed, answer.weighed.inputs.question
    everything = [one.row for slate in answer.slates for one in slate.shown]
    assert len(everything) == len(set(everything)), "no action twice"
    shown = {of.actions[row].name for row in everything}
    for name in shown:
        assert not shown & set(of.by_name[name].parts), "no bundle beside its part"
    assert [slate.placement for slate in answer.slates] == list(asked.placements)
    for slate, weighing in zip(answer.slates, weighed.weighings, strict=True):
        placement = of.placements[slate.placement]
        assert len(slate.shown) <= (asked.max_actions or placement.max_actions)
        groups = Counter(of.actions[one.row].group for one in slate.shown)
        assert max(groups.values(), default=0) <= placement.per_group
        assert 0 < slate.probability <= 1
        for one in slate.shown:
            action = of.actions[one.row]
            for cause in (*weighed.causes, *weighing.causes):
                assert not cause.actions >> one.row & 1, cause
            assert slate.placement in one.treatment.placements
            assert 0 < one.probability <= 1
            if one.instead_of is not None:
                assert action.name in placement.defaults
                assert one.instead_of not in everything
            elif not action.mandatory:
                by_chance = weighed.group == "probability_only"  # no money to compare with
                assert one.factors.priority > (0.0 if by_chance else placement.nothing)
            if weighed.rung == pb.RUNG_DEFAULTS:
                assert action.name in placement.defaults
            if slate.held_back or weighed.group == "hold_out":
                assert action.mandatory or one.instead_of is not None
            if action.purpose is not None:
                assert weighed.inputs.known.profile == WILLING
            assert action.name not in asked.block
            assert not asked.allow or action.name in asked.allow
            assert {"none": 1, "verified": 3}[action.assurance] <= asked.assurance
    for must in of.actions:  # what must be shown and qualifies is, but for want of room
        if not must.mandatory:
            continue
        for slate, weighing in zip(answer.slates, weighed.weighings, strict=True):
            row = of.rows[must.name]
            if row in weighing.ranked.rows and row not in everything and not answer.replies:
                others = [of.actions[other.row] for other in slate.shown]
                most = asked.max_actions or of.placements[slate.placement].max_actions
                same = sum(other.group == must.group for other in others)
                assert (
                    sum(other.mandatory for other in others) == most
                    or same >= of.placements[slate.placement].per_group
                    or any(must.name in of.actions[at].parts for at in everything)
                    or full(weighed.rooms, rows_of(everything)) >> row & 1
                )


@settings(max_examples=200)
@given(situations(), st.data())
def test_whatever_is_asked_and_refused_the_answer_is_sound(
    situation: tuple[Business, Inputs], data: st.DataObject
) -> None:
    of, inputs = situation
    pipeline = Pipeline(of)
    weighed = pipeline.weigh(inputs, None)
    refused = [data.draw(st.sampled_from(["", "CAPPED", "CEILING"])) for _ in weighed.wants]
    answer = pipeline.settle(weighed, [Reply(why) for why in refused])
    sound(answer, of)
    granted = pipeline.settle(weighed, [Reply() for _ in weighed.wants])
    sound(granted, of)
    assert [
        one.instead_of for slate in granted.slates for one in slate.shown if one.instead_of
    ] == []
    for before, after in zip(granted.slates, answer.slates, strict=True):
        assert before.probability == after.probability, "the drawn slate's, whatever is refused"
    wanted = {(w.placement, w.row) for w, why in zip(weighed.wants, refused, strict=True) if why}
    assert advised(answer).count("RESERVATION_FAILED") == len(wanted)
    kept = [
        (slate.placement, one.row) for slate in granted.slates for one in slate.shown
        if (slate.placement, one.row) not in wanted
    ]  # fmt: skip
    told = [
        (slate.placement, one.row) for slate in answer.slates for one in slate.shown
        if one.instead_of is None
    ]  # fmt: skip
    assert told == kept, "what could be reserved stays in its order"


@settings(max_examples=100)
@given(situations())
def test_where_everything_is_refused_only_defaults_are_left_of_what_had_to_be_reserved(
    situation: tuple[Business, Inputs],
) -> None:
    of, inputs = situation
    pipeline = Pipeline(of)
    weighed = pipeline.weigh(inputs, None)
    answer = pipeline.settle(weighed, [Reply("UNAVAILABLE") for _ in weighed.wants])
    wanted = {want.row for want in weighed.wants}
    for slate in answer.slates:
        for one in slate.shown:
            assert one.row not in wanted
            if one.instead_of is not None:
                assert of.actions[one.row].name in of.placements[slate.placement].defaults
                assert one.instead_of in wanted
    assert len(answer.replies) == len(wanted)


def same(one: Weighed, other: Weighed, of: Business) -> bool:
    pipeline = Pipeline(of)
    first, second = (
        written(pipeline.settle(w, [Reply() for _ in w.wants]), of) for w in (one, other)
    )
    return first == second and one.wants == other.wants and one.causes == other.causes


@settings(max_examples=50)
@given(situations())
def test_weighing_is_pure(situation: tuple[Business, Inputs]) -> None:
    of, inputs = situation
    before = copy.deepcopy(inputs)
    catalogue = of.digest
    pipeline = Pipeline(of)
    first = pipeline.weigh(inputs, None)
    random.seed(1)
    assert same(pipeline.weigh(inputs, None), first, of)
    assert same(Pipeline(of).weigh(before, None), first, of)
    assert msgspec.structs.replace(of).digest == catalogue
    for part, kept in zip(inputs.known, before.known, strict=True):
        if isinstance(part, np.ndarray):
            assert isinstance(kept, np.ndarray)
            assert part.tobytes() == kept.tobytes()
        else:
            assert part == kept
    assert inputs._replace(known=STRANGER) == before._replace(known=STRANGER)


def test_settling_is_pure_too() -> None:
    of = crowd()
    pipeline = Pipeline(of)
    weighed = pipeline.weigh(given_("hint", "banner", seed=3), None)
    for refused in itertools.product([Reply(), Reply("CAPPED")], repeat=len(weighed.wants)):
        one, other = (written(pipeline.settle(weighed, list(refused)), of) for _ in range(2))
        assert one == other
    advisories = list(weighed.advisories)
    pipeline.settle(weighed, [Reply("CAPPED")] * len(weighed.wants))
    assert weighed.advisories == advisories


def test_a_reply_for_each_want_or_none_at_all_is_an_error() -> None:
    of = crowd()
    pipeline = Pipeline(of)
    weighed = pipeline.weigh(given_(greedy=True), None)
    with pytest.raises(ValueError, match="zip"):
        pipeline.settle(weighed, [])


# The sample bank with its models


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(sealed(), bank())


def test_the_bank_decides_alike_twice_with_its_models(models: Models) -> None:
    of = bank()
    pipeline = Pipeline(of)
    entries = []
    for _ in range(2):
        for n in range(20):
            asked = Question(f"c{n}", "phone", 1, ["agent_hint"], 3)
            inputs = Inputs(asked, Known(EMPTY, EMPTY, WILLING), NOW, n)
            weighed = pipeline.weigh(inputs, models)
            answer = pipeline.settle(weighed, replies(weighed.wants, ()))
            assert weighed.rung == pb.RUNG_FULL
            assert abs(math.fsum(p for _, p in weighed.sight.intents) - 1) < 1e-9
            entries.append(written(answer, of))
    assert entries[:20] == entries[20:]
    assert statistics.fmean(map(len, entries)) < 20_000
