"""Compile the kernels into numba's cache, so that no request waits for a compiler.

Run once at install or image build; a server does it again at start, in milliseconds by then.
"""

from __future__ import annotations

import numpy as np

from features import elementary, journey, timeline, usage
from features.definitions import Count, Definitions
from features.plan import Context, Plan, rows_of
from features.profile import EMPTY
from features.record import NEVER, Records, decode, encode, pack
from features.usage import Counting
from features.vocabulary import Type, Vocabulary
from service import deliberation, exploration, forest
from service.arbitration import Arbiter, Scores
from service.business import Business
from service.catalogue import Action, Placement, Treatment
from service.chance import Chance
from service.declared import Policies, Ranking
from service.entries import Entries
from service.exploration import Candidates, Shape
from service.inputs import Inputs, Known, Question
from service.layout import Layout
from service.pipeline import Pipeline
from service.rules import Environment, Program
from service.sight import Compiled, Seer
from service.situation import Situation
from service.weighed import Reply

_MODEL = """tree
version=v4
num_tree_per_iteration=1
max_feature_idx=2
tree_sizes=1

Tree=0
num_leaves=4
num_cat=0
split_feature=0 1 2
threshold=0 0 0
decision_type=0 0 0
left_child=1 2 -1
right_child=-2 -3 -4
leaf_value=1 2 3 4
leaf_count=1 1 1 1
internal_count=4 3 2

end of trees
"""


def kernels() -> None:
    """Call every kernel with the types that serving and training use."""
    vocabulary = Vocabulary(channels={"a": 1}, types={"b": Type(1)}, actions={"c": 1})
    features: list[Count] = [Count(name="d"), Count(name="e", per_action=True)]
    definitions = Definitions(features=list(features))
    plan = Plan(definitions, vocabulary)
    folded, _ = timeline.fold([pack(occurred_at=1, hash=1, type=1, action=1)])
    _, records = decode(encode(NEVER, folded))
    facts = journey.read(records, 2, plan.lens)
    plan.customer(records, EMPTY, Context(), 2, facts)
    plan.pairs(records, 2, rows_of([1]), 1)
    none = np.zeros(0, np.int64)
    first = np.zeros(usage.OUTCOMES * 2 + 1, np.int64)
    usage.count(records, 2, Counting(2, first, none, none, none, none, none))
    Program([], Environment({})).answers([], [])
    _decided(vocabulary, definitions, records)
    elementary.softmax(elementary.sigmoid(np.zeros(2)))
    trees = forest.parse(_MODEL)
    kinds = np.array([forest.CUSTOMER, forest.ACTION, forest.PAIR])
    ready = forest.Forest(forest.compile(trees, np.zeros((1, 3)), kinds))
    ready.score(np.zeros(1), np.zeros(1, np.int64), np.ones((1, 1)))
    forest.row(trees, np.zeros(3))
    _seen(plan, ready, records)


def _seen(plan: Plan, forests: forest.Forest, records: Records) -> None:
    """Look at a customer with models."""
    at = forests.addresses
    models = Compiled(
        plan.lens.words, plan.of_customer, plan.of_pair, rows_of([1]), at, at, 1.0, 1.0, 0.0
    )
    layout = Layout(["a"], {"a": 0}, [0], 1, 1, 1, 1)
    Seer(models, layout).see(records, plan.beside(EMPTY, Context(), 2), 2)


def _decided(vocabulary: Vocabulary, definitions: Definitions, records: Records) -> None:
    """Rank and draw, with models and without, decide as a whole, and log it."""
    action = Action("c", "", "grow", "", 1.0, [Treatment("", [""])])
    policies = Policies(ranking={action.issue: Ranking("uplift")})
    of = Business(vocabulary, definitions, [action], {"e": Placement(["a"])}, policies)
    scores = Scores(np.zeros(1), np.zeros(1), np.zeros((1, 3)))
    ranked = Arbiter(of).rank(1, scores, Situation("a", {}, {}, 2))
    candidates = Candidates(ranked.rows, ranked.priority, of.traits)
    exploration.draw(candidates, Shape(1, 1, 0.0), exploration.UNIFORM, Chance(0))
    question = Question("d", "a", 1, ["e"])
    pipeline = Pipeline(of)
    weighed = pipeline.weigh(Inputs(question, Known(records, records, EMPTY), 2, 0), None)
    answer = pipeline.settle(weighed, [Reply()] * len(weighed.wants))
    Entries(of).written(answer, b"", b"", "")
    deliberation.written(weighed, 1)


if __name__ == "__main__":
    kernels()
