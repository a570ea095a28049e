"""What a request knows, straight into the registers of a program of rules. Pure.

:func:`service.variables.known` says the same as dictionaries of all that could be read. A request
reads only what some rule asks for: one function without a loop or a dictionary of its own, written
when the configuration loads, takes a third of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np

from features.clock import Clock
from features.journey import Relationship, Stage
from features.kernels import Integers
from features.vocabulary import Direction
from service import facts, loading
from service.catalogue import ASSURANCE
from service.rules import Program
from service.rules.assembly import Loaded
from service.rules.program import NOWHERE
from service.variables import CONTACT, Subject

_NAMED: Final[Mapping[tuple[str, str], Mapping[int, str]]] = {
    ("context", "direction"): {int(one): one.name for one in Direction},
    ("context", "assurance"): {level: name for name, level in ASSURANCE.items()},
    ("journey", "relationship"): {int(one): one.name for one in Relationship},
    ("journey", "lifetime_stage"): {int(one): one.name for one in Stage},
}
"""Texts that a subject holds as numbers."""

Load = Callable[[Subject], tuple[list[Any], list[int]]]
"""Gives the value and the state of each field of a program."""


SEEN: Final = frozenset({"journey", "intent"})
"""Roots whose fields are read off the chain of events: kernels know them (:func:`sources`)."""


def loader(program: Program, zone: ZoneInfo, without: frozenset[str] = frozenset()) -> Load:
    """Write the function that loads what a program reads.

    Args:
        program: The conditions of a configuration.
        zone: Of the business.
        without: Roots that somebody else loads.
    """
    names: dict[str, Any] = {
        "__builtins__": {"int": int}, "EMPTY": {}, "N": NOWHERE,
        "clock": Clock(zone),
    }  # fmt: skip
    lines = ["def load(of):", f" states = [0] * {len(program.fields)}"]
    roots = {one.root for one in program.fields} - without
    if "customer" in roots:
        lines.append(" customer = EMPTY if of.profile is None else of.profile.attributes")
    if any(one.name in ("hour_of_day", "day_of_week") for one in program.fields):
        lines += [" hour_of_day, _, weekday = clock(of.now)", " day_of_week = weekday + 1"]
    if "intent" in roots:
        lines.append(" intents, chances = of.intents, of.chances")
    for at, one in enumerate(program.fields):
        if one.root in without:
            lines.append(f" v{at} = 0")
            continue
        codes = program.code(one)
        if codes is not None:
            named = _NAMED.get((one.root, one.name))
            names[f"c{at}"] = (
                codes if named is None else {n: codes.get(t, NOWHERE) for n, t in named.items()}
            )
        lines += [f" {line}" for line in _field(f"v{at}", at, one, text=codes is not None)]
    told = ", ".join(f"v{at}" for at in range(len(program.fields)))
    lines.append(f" return [{told}], states")
    exec(compile("\n".join(lines), "<fields>", "exec"), names)  # noqa: S102  of declared names alone
    # Taken out: a function that its own globals name is garbage that only a collection finds.
    load: Load = names.pop("load")
    return load


def _field(to: str, at: int, one: Loaded, *, text: bool) -> Iterator[str]:
    """The lines that load one field."""
    number = (one.root, one.name) in _NAMED or one.root == "journey"
    match one:
        case Loaded(root="customer", name=name):
            yield f"{to} = customer.get({name!r})"
            yield f"if {to} is not None: {to} = {to}.value"
        case Loaded(root="journey", name=name):
            yield f"{to} = of.facts.get({name!r})"
            yield f"if {to} != {to}: {to} = None"  # NaN
        case Loaded(root="intent", key=str() as key):
            yield f"{to} = chances.get({key!r})"
        case Loaded(root="intent", name=name):
            which = {"name": "intents[0][0]", "probability": "intents[0][1]"}.get(name, "0")
            yield f"{to} = {which} if intents else None"
        case Loaded(name="hour_of_day" | "day_of_week" as name):
            yield f"{to} = {name}"
        case Loaded(name="channel" | "direction" | "assurance" as name):
            yield f"{to} = of.{name}"
        case Loaded(name="locale"):
            yield f"{to} = of.locale or None"
        case Loaded(name=name) if name in CONTACT:
            yield f"{to} = of.contact.get({name!r}) or None"
        case Loaded(name=name):
            yield f"{to} = of.context.get({name!r})"
    missing = one.why if one.key is None else f"{one.missing} if intents else {one.why}"
    yield f"if {to} is None: {to} = 0; states[{at}] = {missing}"
    if one.kind == "presence":
        yield f"else: {to} = 0"
    elif text:
        yield f"else: {to} = c{at}.get({f'int({to})' if number else to}, N)"
    elif one.root == "journey" and one.kind == "whole":
        yield f"else: {to} = int({to})"


def sources(program: Program, intents: Sequence[str]) -> tuple[Integers, Integers]:
    """Say where the fields of :data:`SEEN` come from, for :func:`service.loading.load`.

    Args:
        program: The conditions of a configuration.
        intents: Names of the classes of the intent model, in their order.

    Returns:
        [fields, LOAD] and the tables of codes that texts are looked up in.
    """
    loads: list[list[int]] = []
    tables: list[int] = []
    for register, one in enumerate(program.fields):
        if one.root not in SEEN:
            continue
        source, at, table = loading.WHETHER, 0, len(tables)
        if one.root == "journey":
            at = facts.PLACES[one.name]
            source = loading.WHOLE_OF_FACT if one.kind == "whole" else loading.NUMBER_OF_FACT
        elif one.key is not None:
            source = loading.CHANCE
            at = intents.index(one.key) if one.key in intents else -1
        elif one.name == "probability":
            source = loading.LIKELIEST_CHANCE
        codes = program.code(one)
        if codes is not None:
            names = _NAMED.get((one.root, one.name))
            source = loading.TEXT_OF_FACT if names else loading.LIKELIEST_NAME
            listed = [names[code] for code in sorted(names)] if names else intents
            tables += [codes.get(name, NOWHERE) for name in listed]
        if one.kind == "presence":
            table = loading.PRESENCE
        loads.append([register, source, at, one.why, one.missing, table])
    return np.array(loads, np.int64), np.array(tables, np.int64)
