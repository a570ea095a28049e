"""What rules cost a request: fused, one function each, the C++ engine.

``python -m tests.bench.rules``: 200 rules over 500 customers that vary from call to call, with all
fields set and with a fifth of them unset. The ways take turns, so that a noisy neighbour meets all;
medians over the rounds. Absolute numbers are this machine's; the ratios are what counts.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from cel_expr_python import cel
from google.protobuf import descriptor_pool
from rich.console import Console
from rich.table import Table

from service.rules import Environment, Source, Unknown, Value, check, fuse

CUSTOMERS: Final = 500
RULES: Final = 200
ROUNDS: Final = 9
SEGMENTS: Final = ("basic", "gold", "platinum", "student", "business")
PRODUCTS: Final = ("current", "savings", "loan", "card", "mortgage", "insurance")
INTENTS: Final = ("close", "complain", "borrow", "save", "travel", "move")

ENVIRONMENT: Final = Environment(
    {
        "customer": {
            "age": "number",
            "income": "number",
            "balance": "number",
            "tenure": "number",
            "products": "count",
            "arrears": "flag",
            "employed": "flag",
            "segment": "text",
            "region": "text",
            "held": "texts",
        },
        "context": {"channel": "text", "hour": "count", "minutes_waiting": "number"},
        "journey": {"failures": "count", "repeat": "flag", "hops": "count", "mood": "number"},
        "intent": {"name": "text", "probability": "number", "all": "numbers"},
    }
)

Customer = Mapping[str, Mapping[str, Value]]


def customers(chance: random.Random, unset: float) -> list[Customer]:
    """Customers of whom each field is unset with the given probability."""

    def kept(fields: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in fields.items() if chance.random() >= unset}

    return [
        {
            "customer": kept(
                {
                    "age": chance.uniform(16, 90),
                    "income": chance.uniform(0, 9_000),
                    "balance": chance.uniform(-2_000, 50_000),
                    "tenure": chance.uniform(0, 30),
                    "products": chance.randrange(7),
                    "arrears": chance.random() < 0.1,
                    "employed": chance.random() < 0.7,
                    "segment": chance.choice(SEGMENTS),
                    "region": chance.choice(("north", "south", "east", "west")),
                    "held": chance.sample(PRODUCTS, chance.randrange(4)),
                }
            ),
            "context": kept(
                {
                    "channel": chance.choice(("phone", "chat", "web", "app")),
                    "hour": chance.randrange(24),
                    "minutes_waiting": chance.uniform(0, 20),
                }
            ),
            "journey": kept(
                {
                    "failures": chance.randrange(4),
                    "repeat": chance.random() < 0.2,
                    "hops": chance.randrange(4),
                    "mood": chance.uniform(-1, 1),
                }
            ),
            "intent": kept(
                {
                    "name": chance.choice(INTENTS),
                    "probability": chance.random(),
                    "all": {name: chance.random() for name in INTENTS if chance.random() < 0.7},
                }
            ),
        }
        for _ in range(CUSTOMERS)
    ]


def parts(chance: random.Random) -> list[str]:
    """What a business asks: some of it again and again, some once."""
    product, intent = chance.choice(PRODUCTS), chance.choice(INTENTS)
    segments = ", ".join(f"'{one}'" for one in chance.sample(SEGMENTS, chance.randrange(2, 4)))
    return [
        "customer.age >= 18.0",
        f"customer.age < {chance.choice((25, 30, 65, 70, 75))}.0",
        f"customer.income > {chance.randrange(5, 60)}00.0",
        f"customer.balance >= {chance.choice((0, 500, 1_000, 10_000))}.0",
        f"customer.tenure > {chance.randrange(1, 10)}.0",
        f"customer.products < {chance.randrange(2, 6)}",
        "!customer.arrears",
        "customer.employed",
        f"customer.segment == '{chance.choice(SEGMENTS)}'",
        f"customer.segment in [{segments}]",
        f"customer.region != '{chance.choice(('north', 'south'))}'",
        f"!('{product}' in customer.held)",
        f"'{product}' in customer.held",
        f"has(customer.{chance.choice(('income', 'tenure', 'balance'))})",
        f"context.channel in ['phone', '{chance.choice(('chat', 'web'))}']",
        f"context.hour >= {chance.randrange(7, 10)} && context.hour < {chance.randrange(17, 22)}",
        "context.minutes_waiting < 10.0",
        "journey.failures == 0",
        "!journey.repeat",
        f"journey.mood > -0.{chance.randrange(1, 6)}",
        f"intent.name == '{intent}'",
        f"'{intent}' in intent.all && intent.all['{intent}'] > 0.{chance.randrange(2, 8)}",
        f"intent.all['{intent}'] < 0.{chance.randrange(5, 9)}",
    ]


def rule_sets(chance: random.Random) -> dict[str, list[str]]:
    """Rule sets by name, 200 rules each."""

    def joined(least: int, most: int) -> str:
        chosen = chance.sample(parts(chance), chance.randint(least, most))
        word = " && " if chance.random() < 0.8 else " || "
        return word.join(f"({one})" if "&&" in one else one for one in chosen)

    return {
        "one part each": [joined(1, 1) for _ in range(RULES)],
        "one to three parts": [joined(1, 3) for _ in range(RULES)],
        "three to six parts": [joined(3, 6) for _ in range(RULES)],
        "with arithmetic": [
            f"{joined(1, 2)} && customer.income / {n + 2}.0 > customer.balance - {n}.0 "
            f"&& customer.products + journey.hops < {n % 9}"
            for n in range(RULES)
        ],
    }


def _engine(rules: Sequence[str]) -> Callable[[Customer], list[Any]]:
    env = cel.NewEnv(
        descriptor_pool.DescriptorPool(),
        variables={root: cel.Type.Map(cel.Type.STRING, cel.Type.DYN) for root in ENVIRONMENT.roots},
    )
    programs = [env.compile(rule) for rule in rules]

    def run(values: Customer) -> list[Any]:
        activation = env.Activation(values)
        return [program.eval(activation) for program in programs]

    return run


def _microseconds(run: Callable[[Customer], Any], inputs: Sequence[Customer]) -> float:
    start = time.perf_counter()
    for values in inputs:
        run(values)
    return 1e6 * (time.perf_counter() - start) / len(inputs)


def measure(rules: Sequence[str], inputs: Sequence[Customer]) -> tuple[dict[str, float], float]:
    """Microseconds a request by way, and the share of answers that are unknown."""
    checked = check([Source(rule, "bench") for rule in rules], ENVIRONMENT)
    alone = [fuse([one], ENVIRONMENT) for one in checked]
    fused = fuse(checked, ENVIRONMENT)
    ways: dict[str, tuple[Callable[[Customer], Any], Sequence[Customer]]] = {
        "fused": (fused, inputs),
        "separate": (lambda values: [one(values)[0] for one in alone], inputs),
        "engine": (_engine(rules), inputs[:60]),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS):
        for name, (run, some) in list(ways.items())[:: 1 if turn % 2 == 0 else -1]:
            took[name].append(_microseconds(run, some))
    answers = [answer for values in inputs for answer in fused(values)]
    unknown = sum(isinstance(answer, Unknown) for answer in answers) / len(answers)
    return {name: statistics.median(all_) for name, all_ in took.items()}, unknown


def main() -> int:
    """Measure and print the table."""
    chance = random.Random(7)
    table = Table(title=f"{RULES} rules, us a request", title_justify="left")
    for name in ("rules", "unset", "unknown", "fused", "separate", "C++ engine", "ratio"):
        table.add_column(name, justify="left" if name == "rules" else "right")
    for name, rules in rule_sets(chance).items():
        for unset in (0.0, 0.2):
            found, unknown = measure(rules, customers(chance, unset))
            table.add_row(
                name,
                f"{unset:.0%}",
                f"{unknown:.0%}",
                *(f"{found[way]:.1f}" for way in ("fused", "separate", "engine")),
                f"1 : {found['separate'] / found['fused']:.1f} : "
                f"{found['engine'] / found['fused']:.0f}",
            )
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
