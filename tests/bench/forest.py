"""What scoring a catalogue costs, against LightGBM on the same rows.

``python -m tests.bench.forest``: models of 80 customer, 5 action and 6 pair features, 31 leaves a
tree; 40 actions touched by the customer's own events; 10,000 customers that vary from call to call.
*Cold* means that 32 MB are touched before each call, as a server does between two requests. The
ways take turns, medians over the rounds; every answer that is timed is compared. Absolute numbers
are this machine's; the ratios are what counts.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import lightgbm
import numba
import numpy as np
from rich.console import Console
from rich.table import Table

from features.elementary import Floats
from features.kernels import Integers
from service import forest
from service.forest import ACTION, CUSTOMER, PAIR, Forest, Trees
from service.forest.kernels import catalogue, customer
from service.forest.reach import Sets, reached, rows_of_leaves
from service.forest.shape import shape_of, whole
from service.forest.walk import goes_right

CUSTOMERS: Final = 10_000
TOUCHED: Final = 40
ROUNDS: Final = 7
CALLS: Final = 12
WORK: Final = Path("build/bench")
COUNTS: Final = (80, 5, 6)
WIDTH: Final = sum(COUNTS)
KINDS: Final = np.repeat([CUSTOMER, ACTION, PAIR], COUNTS)
WITHOUT_EVENTS: Final = np.array([0.0, 0.0, 0.0, np.nan, np.nan, 0.0])
CATEGORICAL: Final = [*range(3, 80, 8), 80, 81, 82, 90]


def customers(chance: np.random.Generator, count: int) -> Floats:
    """Counts, recencies (NaN where there was none), measures and categories: [count, 80]."""
    found = np.empty((count, COUNTS[0]))
    for i in range(COUNTS[0]):
        if i % 4 == 0:
            found[:, i] = chance.poisson(chance.uniform(0.3, 6), count)
        elif i % 4 == 1:
            found[:, i] = chance.exponential(1e6, count)
            found[chance.random(count) < 0.35, i] = np.nan
        elif i % 8 == 3:
            found[:, i] = chance.integers(0, 12, count)
        else:
            found[:, i] = chance.normal(size=count)
    return found


def actions(chance: np.random.Generator, count: int) -> Floats:
    """Code, issue, group, value and cost: [count, 5]."""
    columns = [np.arange(1.0, count + 1), chance.integers(1, 6, count)]
    columns += [chance.integers(1, 15, count), np.round(chance.exponential(40, count), 2)]
    return np.column_stack([*columns, np.round(chance.exponential(5, count), 2)])


def pairs(chance: np.random.Generator, count: int) -> Floats:
    """Presented, accepted, refused, since presented, since accepted, last outcome: [count, 6]."""
    accepted = chance.exponential(1e6, count)
    accepted[chance.random(count) < 0.5] = np.nan
    columns = [chance.poisson(1.5, count) + 1.0, chance.poisson(0.4, count)]
    columns += [chance.poisson(0.6, count), chance.exponential(1e6, count), accepted]
    return np.column_stack([*columns, chance.integers(0, 11, count)])


class Catalogue(NamedTuple):
    """A model and the rows of the catalogue it was trained for."""

    text: str
    rows: Floats


def trained(count: int, trees: int) -> Catalogue:
    """A model for ``count`` actions; kept under ``build/bench`` for the next run."""
    chance = np.random.default_rng(count)
    described = actions(chance, count)
    rows = np.full((count, WIDTH), np.nan)
    rows[:, KINDS == ACTION], rows[:, KINDS == PAIR] = described, WITHOUT_EVENTS
    path = WORK / f"forest-{count}-{trees}.txt"
    if not path.exists():
        size = 20_000
        who, what = customers(chance, size), chance.integers(0, count, size)
        own = np.where(chance.random((size, 1)) < 0.4, pairs(chance, size), WITHOUT_EVENTS)
        likes = np.nan_to_num(who / np.nanstd(who, axis=0)) @ chance.normal(size=COUNTS[0]) / 5
        likes += who[:, 2] * (described[what, 1] - 3) / 2 + np.log1p(described[what, 3]) / 3
        likes += chance.normal(size=count)[what] - (own[:, 0] > 2) - own[:, 2] / 3
        label = chance.random(size) < 1 / (1 + np.exp(np.mean(likes) - likes))
        told = np.column_stack([who, described[what], own])
        _train(path, told, label, {"objective": "binary"}, CATEGORICAL, trees)
    return Catalogue(path.read_text(), rows)


def intents() -> str:
    """A model of 30 intents, 60 trees each, of customer features alone."""
    path = WORK / "forest-intents.txt"
    if not path.exists():
        chance = np.random.default_rng(30)
        who = customers(chance, 8_000)
        label = np.argmax(np.nan_to_num(who / np.nanstd(who, axis=0))
                          @ chance.normal(size=(COUNTS[0], 30)), axis=1)  # fmt: skip
        parameters = {"objective": "multiclass", "num_class": 30}
        _train(path, who, label, parameters, CATEGORICAL[:10], 60)
    return path.read_text()


def _train(path: Path, told: Floats, label: Floats | Integers, parameters: dict[str, object],
           categorical: Sequence[int], trees: int) -> None:  # fmt: skip
    WORK.mkdir(parents=True, exist_ok=True)
    data = lightgbm.Dataset(told, label + 0, categorical_feature=list(categorical))
    settings = {**parameters, "num_leaves": 31, "learning_rate": 0.05, "verbose": -1, "seed": 1,
                "num_threads": 1}  # fmt: skip
    path.write_text(lightgbm.train(settings, data, trees).model_to_string())


@numba.njit(cache=True)
def walked(trees: Trees, kinds: Integers, row: Floats, units: Integers, sets: Sets,
           out: Integers) -> None:  # fmt: skip
    """The other way: walk each tree once, both sides where the action decides."""
    out[:] = 0
    stack = np.empty(64, np.int64)
    for tree in range(trees.of_class.shape[0]):
        first, leaves = trees.node_at[tree], trees.leaf_at[tree]
        stack[0], height = 0, 1
        while height > 0:
            height -= 1
            node = stack[height]
            if node >= 0:
                column = trees.feature[first + node]
                if kinds[column] == 0:
                    right = goes_right(trees, first + node, row[column])
                    stack[height] = trees.right[first + node] if right else trees.left[first + node]
                    height += 1
                else:
                    stack[height] = trees.left[first + node]
                    stack[height + 1] = trees.right[first + node]
                    height += 2
                continue
            value = units[leaves + ~node]
            for part in range(sets.shape[1]):
                members = sets[leaves + ~node, part]
                if members != 0:
                    for bit in range(64):
                        out[64 * part + bit] += value if (members >> np.uint64(bit)) & 1 else 0


def sets_of(trees: Trees, rows: Floats) -> Sets:
    """Rows of each leaf, in the order of the model: [leaves, sets]."""
    shape = shape_of(trees, KINDS, np.zeros(WIDTH, np.bool_))
    masks = np.repeat(whole(trees, shape)[:, None], len(rows), axis=1)
    values = np.ascontiguousarray(rows.T)
    for kind in (ACTION, PAIR):
        chosen = KINDS[trees.feature] == kind
        reached(trees, shape.spans, shape.before, chosen, values, masks)
    words = len(masks)
    found = np.zeros((32 * words, 1 + -(-len(rows) // 64)), np.uint64)
    takes = np.ones((words, len(rows)), np.bool_)
    rows_of_leaves(masks, np.arange(words), takes, found, np.zeros(words, np.uint32))
    tree = np.repeat(np.arange(len(shape.words)), np.diff(trees.leaf_at))
    return np.ascontiguousarray(found[32 * shape.before[tree] + shape.place, 1:])


class Ways:
    """Ways to compute the same thing, timed in turns, each call after 32 MB or after another."""

    def __init__(self, ways: dict[str, Callable[[int], object]]) -> None:
        self._ways, self._elsewhere = ways, np.zeros(32 << 20, np.uint8)

    def microseconds(self, rounds: int = ROUNDS) -> dict[str, tuple[float, float]]:
        """Median of a call, cold and warm, by way."""
        took: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in self._ways}
        for turn in range(rounds):
            for name, way in list(self._ways.items())[:: 1 if turn % 2 == 0 else -1]:
                for cold in (True, False):
                    for call in range(CALLS):
                        number = turn * CALLS + call
                        if cold:
                            self._elsewhere += 1
                        start = time.perf_counter()
                        way(number)
                        took[name][1 - cold].append(1e6 * (time.perf_counter() - start))
        return {
            name: (statistics.median(cold), statistics.median(warm))
            for name, (cold, warm) in took.items()
        }


def measured(count: int, trees: int, text: str, rows: Floats, peers: bool) -> dict[str, float]:
    """Time one catalogue; every answer is compared with LightGBM's first."""
    chance = np.random.default_rng(1)
    start = time.perf_counter()
    parsed = forest.parse(text)
    middle = time.perf_counter()
    ready = Forest(forest.compile(parsed, rows, KINDS))
    compiled = time.perf_counter()
    booster = lightgbm.Booster(model_str=text)
    who = customers(chance, CUSTOMERS)
    calls = ROUNDS * CALLS
    asked = chance.permutation(CUSTOMERS)[:calls]
    touched = [np.sort(chance.permutation(count)[:TOUCHED]) for _ in range(calls)]
    own = [pairs(chance, TOUCHED) for _ in range(calls)]

    def whole(number: int) -> Floats:
        found = rows.copy()
        found[:, KINDS == CUSTOMER] = who[asked[number]]
        found[np.ix_(touched[number], np.flatnonzero(KINDS == PAIR))] = own[number]
        return found

    for number in range(calls if peers else 20):
        ours = ready.score(who[asked[number]], touched[number], own[number])[:, 0]
        theirs = booster.predict(whole(number), raw_score=True, num_threads=1)
        assert np.abs(ours - theirs).max() <= 1e-12 * np.abs(parsed.leaf).max() * trees
    table = [whole(number) for number in range(calls)] if peers else []
    block, scratch = ready.addresses  # the stages of one call
    ways: dict[str, Callable[[int], object]] = {
        "forest": lambda i: ready.score(who[asked[i]], touched[i], own[i]),
        "none touched": lambda i: ready.score(who[asked[i]]),
        "customer": lambda i: customer(block, scratch, who[asked[i]]),
        "catalogue": lambda _: catalogue(block, scratch),
    }
    if peers:
        sets, out = sets_of(parsed, rows), np.zeros(64 * -(-count // 64), np.int64)
        ways["walk"] = lambda i: walked(parsed, KINDS, table[i][0], parsed.units, sets, out)
        ways["walk"](0)
        straight = ready.score(who[asked[0]])[:, 0]
        assert (np.ldexp(out[:count].astype(float), -parsed.shift[0]) == straight).all()
        ways["lightgbm"] = lambda i: booster.predict(table[i], raw_score=True, num_threads=1)
    found = {
        f"{name} {state}": value
        for name, both in Ways(ways).microseconds().items()
        for state, value in zip(("cold", "warm"), both, strict=True)
    }
    sizes = ready.sizes
    return found | {"parse s": middle - start, "compile s": compiled - middle,
                    "block KB": sizes[0] / 1024, "buffers KB": sizes[1] / 1024}  # fmt: skip


def measured_intents() -> dict[str, float]:
    """Time the intents of one customer."""
    text = intents()
    parsed = forest.parse(text)
    kinds = np.zeros(parsed.columns, np.int64)
    ready = Forest(forest.compile(parsed, np.full((1, parsed.columns), np.nan), kinds))
    booster = lightgbm.Booster(model_str=text)
    who = customers(np.random.default_rng(2), CUSTOMERS)
    for row in who[:100]:
        theirs = booster.predict(row.reshape(1, -1), raw_score=True, num_threads=1)
        assert np.abs(ready.score(row) - theirs).max() <= 1e-12 * np.abs(parsed.leaf).sum()
    ways: dict[str, Callable[[int], object]] = {
        "forest": lambda i: ready.score(who[i]),
        "walk": lambda i: forest.row(parsed, who[i]),
        "lightgbm": lambda i: booster.predict(who[i].reshape(1, -1), raw_score=True, num_threads=1),
    }
    found = Ways(ways).microseconds()
    return {f"{name} {state}": value for name, both in found.items()
            for state, value in zip(("cold", "warm"), both, strict=True)} | {
                "block KB": ready.sizes[0] / 1024}  # fmt: skip


def measure() -> dict[str, float]:
    """Everything, printed as it comes; the numbers of ``build/bench.json``."""
    console = Console(width=110)
    table = Table(title="us a call: cold (warm)", title_justify="left")
    names = ("forest", "none touched", "customer", "catalogue", "walk", "lightgbm")
    for name in ("", *names, "lightgbm / forest", "block KB"):
        table.add_column(name, justify="right" if name else "left")

    def told(label: str, found: dict[str, float]) -> dict[str, float]:
        cells = [
            f"{found[f'{name} cold']:.0f} ({found[f'{name} warm']:.0f})"
            if f"{name} cold" in found
            else ""
            for name in names
        ]
        ratio = ""
        if "lightgbm cold" in found:
            ratio = (f"{found['lightgbm cold'] / found['forest cold']:.1f} "
                     f"({found['lightgbm warm'] / found['forest warm']:.1f})")  # fmt: skip
        table.add_row(label, *cells, ratio, f"{found['block KB']:.0f}")
        return found

    hundred = trained(100, 1_000)
    booster = lightgbm.Booster(model_str=hundred.text)
    by_trees = {}
    for trees in (100, 300, 1_000):
        text = booster.model_to_string(num_iteration=trees)
        label = f"100 actions, {trees} trees"
        found = measured(100, trees, text, hundred.rows, peers=True)
        by_trees[trees] = told(label, found)
    thousand = trained(1_000, 300)
    large = told(
        "1,000 actions, 300 trees", measured(1_000, 300, thousand.text, thousand.rows, peers=False)
    )
    asked = told("30 intents, 60 trees each", measured_intents())
    console.print(table)
    small = by_trees[300]
    console.print(
        f"compile: {small['compile s']:.2f} s for 100 actions, {large['compile s']:.2f} s for "
        f"1,000; read the text: {small['parse s']:.2f} s"
    )
    numbers = {
        "forest_speedup_100": small["lightgbm cold"] / small["forest cold"],
        "forest_speedup_100_warm": small["lightgbm warm"] / small["forest warm"],
        "forest_growth_1000": large["forest cold"] / small["forest cold"],
        "forest_growth_1000_warm": large["forest warm"] / small["forest warm"],
        "forest_us_100": small["forest cold"],
        "forest_intents_speedup": asked["lightgbm cold"] / asked["forest cold"],
        "forest_block_kb_100": small["block KB"],
        "forest_block_kb_1000": large["block KB"],
    }
    return {name: round(value, 3) for name, value in numbers.items()}


if __name__ == "__main__":
    Console().print_json(json.dumps(measure()))
    sys.exit(0)
