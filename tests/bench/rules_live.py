"""What the rules of 200 actions cost a request, inside the running server.

``python -m tests.bench.rules_live``: the sample bank with every action twice and a rule of its own
for each, beside the bank's rules for issues and groups. A real server process answers real calls,
16 in flight, of 1,000 customers who vary from call to call; clocks around the steps that rules take
are read when it has drained. Medians; absolute times are this machine's.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import msgspec
import uvloop
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from features import profile as profiles
from features.profile import Consent, Profile, Told
from features.record import EMPTY, LogId, encode
from rapport.v1 import decision_pb2, decision_pb2_grpc, event_pb2
from service import business as businesses
from service import keys
from service.business import Business
from service.catalogue import Rule
from service.causes import Filtered
from service.conditions import Conditions
from service.embedded import EmbeddedStore
from service.job import Settings
from service.policies import Policies
from service.redis_store import RedisStore
from service.rules import kernel
from service.server import Server
from tests.bench.people import People

WORK: Final = Path("build/bench")
CUSTOMERS: Final = 1_000
SECONDS: Final = 6.0
IN_FLIGHT: Final = 16
LIMIT_US: Final = 50.0
STEPS: Final = {
    "conditions": "values read, rules evaluated, what they drop joined",
    "causes": "why, written for the log after the answer",
}
_SHAPES: Final = (
    "customer.age >= {n}.0 && customer.age < 90.0",
    "has(customer.products) && customer.products < {n}.0",
    "customer.segment in ['family', 'senior', 'starter'] || customer.balance > {n}00.0",
    "journey.failed_self_service < {n} && context.channel != 'sms'",
    "!('payment_arrears' in intent.all) || intent.all['payment_arrears'] < 0.{n}",
    "customer.digital || context.hour_of_day > {h}",
    "action.value > {n}.0 || customer.value_tier == 'premium'",
    "customer.customer_since_days > {n}.0 && (customer.has_mortgage || customer.balance > 0.0)",
)


def doubled() -> Business:
    """The sample bank with 200 actions, each with a rule of its own."""
    bank = businesses.load(Path("config"))
    codes = dict(bank.vocabulary.actions)
    codes |= {f"{name}_again": code + 1_000 for name, code in bank.vocabulary.actions.items()}
    again = [
        msgspec.structs.replace(
            action, name=f"{action.name}_again", parts=[f"{part}_again" for part in action.parts]
        )
        for action in bank.actions
    ]
    actions = []
    for number, action in enumerate([*bank.actions, *again]):
        text = _SHAPES[number % len(_SHAPES)].format(n=11 + number % 61, h=number % 24)
        rule = Rule(f"own_{number}", text, "Measured")
        actions.append(msgspec.structs.replace(action, suitability=[*action.suitability, rule]))
    vocabulary = msgspec.structs.replace(bank.vocabulary, actions=codes)
    return businesses.complete(
        msgspec.structs.replace(bank, actions=actions, vocabulary=vocabulary)
    )


def _loaded_and_run(of: Conditions, *asked: Any) -> Sequence[str]:
    """Load what rules read and run them once more alone: a decision runs them inside its kernel.

    What they read of the chain of events is that of another decision here, which costs the same.
    """
    reasons = _LOAD(of, *asked)
    kernel.run(of.program.words)
    return reasons


_LOAD: Final = Conditions.load


def serve(url: str, address: str) -> None:
    """Serve with clocks around the steps; print what they say when it has drained."""
    took: dict[str, list[int]] = {name: [] for name in STEPS}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*arguments: Any) -> Any:
            start = time.perf_counter_ns()
            found = function(*arguments)
            took[name].append(time.perf_counter_ns() - start)
            return found

        return run

    filtered: Any = Filtered
    filtered.written = timed("causes", Filtered.written)
    conditions: Any = Conditions
    conditions.load = timed("conditions", _loaded_and_run)

    async def run() -> None:
        bank = doubled()
        store = RedisStore(url, horizon=bank.ledger_window_ms, keep=bank.ledger_keep)
        server = Server(bank, store, Settings(listen=address))
        await server.start()
        try:
            await server.until_signal()
        finally:
            await server.stop()

    uvloop.run(run())
    (WORK / "rules.json").write_text(json.dumps(took))


async def told(url: str, customers: Sequence[str]) -> None:
    """Give every customer a profile; a fifth of the attributes were never told."""
    attributes = businesses.load(Path("config")).vocabulary.attributes
    chance = random.Random(11)
    now = time.time_ns() // 1_000_000
    redis = Redis.from_url(url)
    for customer in customers:
        known: dict[str, Told] = {}
        for name, declared in attributes.items():
            if chance.random() < 0.8:
                value: Any = chance.choice(list(declared.values) or [0.0])
                if declared.kind == "number":
                    value = float(chance.randrange(18, 5_000))
                elif declared.kind == "flag":
                    value = chance.random() < 0.5
                known[name] = Told(value, now)
        profile = Profile(known, [Consent("marketing", "", True, now)])
        header = encode(LogId(now, 1), EMPTY)
        await redis.set(keys.profile("main", customer), header + profiles.encode(profile))
    await redis.aclose()


async def load(address: str, customers: Sequence[str]) -> int:
    """Call as fast as answers come; give the number of calls."""
    calls = 0
    chance = random.Random(3)
    end = time.perf_counter() + SECONDS
    async with grpc.aio.insecure_channel(address) as channel:
        stub = decision_pb2_grpc.DecisionServiceStub(channel)

        async def work() -> None:
            nonlocal calls
            while time.perf_counter() < end:
                request = decision_pb2.DecideRequest(
                    customer=event_pb2.CustomerKey(customer_id=chance.choice(customers)),
                    channel="agent_desktop",
                    placements=["agent_hint"],
                    assurance=decision_pb2.ASSURANCE_VERIFIED,
                )
                await stub.Decide(request, timeout=10, wait_for_ready=True)
                calls += 1

        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return calls


def main() -> int:
    """Measure, print the table, write ``build/bench/rules.json``; 1 where it takes too long."""
    WORK.mkdir(parents=True, exist_ok=True)
    cores = sorted(os.sched_getaffinity(0))
    with EmbeddedStore() as store:
        bank = businesses.load(Path("config"))
        people = People(bank, time.time_ns() // 1_000_000, CUSTOMERS)
        people.fill([store.url], lambda done, of: None)
        uvloop.run(told(store.url, people.ids))
        address = f"unix:{WORK.resolve()}/rules-{os.getpid()}.sock"
        with (WORK / "rules.log").open("wb") as log:
            command = [sys.executable, "-m", "tests.bench.rules_live", "serve", store.url, address]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        os.sched_setaffinity(process.pid, cores[:1])
        os.sched_setaffinity(0, cores[1:] or cores)
        try:
            calls = uvloop.run(load(address, people.ids))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    took = json.loads((WORK / "rules.json").read_text())
    bank = doubled()
    table = Table(
        title=f"Rules of {len(bank.actions)} actions, {calls:,} calls", title_justify="left"
    )
    for column in ("step", "median us", "95 % us"):
        table.add_column(column, justify="left" if column == "step" else "right")
    total = 0.0
    for name, said in STEPS.items():
        microseconds = sorted(one / 1e3 for one in took[name])
        total = total or statistics.median(microseconds)
        table.add_row(
            said,
            f"{statistics.median(microseconds):.1f}",
            f"{microseconds[int(0.95 * len(microseconds))]:.1f}",
        )
    Console().print(table)
    conditions = len(Policies(bank).conditions)
    Console().print(
        f"{len(businesses.conditions(bank))} conditions as written, {conditions} once actions are "
        f"put in; {total:.1f} us a request of at most {LIMIT_US:.0f}"
    )
    return int(total > LIMIT_US)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:])
    else:
        sys.exit(main())
