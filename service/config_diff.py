"""What changed between two configurations, in the words of those who write them. Pure.

It walks the structs and knows next to nothing of their fields, so that a new field shows up by
itself; the tables below only make some lines read better.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Final, NamedTuple, TypeVar, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo

from features import duration
from service.business import Business
from service.catalogue import Action, Exploration, Price, Rule, Validity
from service.declared import (
    Ceiling,
    Goal,
    Limit,
    Policies,
    Resource,
    StageRule,
    Suppression,
)

T = TypeVar("T")

_PARTS: Final = {
    "release": "Release",
    "actions": "Actions",
    "placements": "Placements",
    "policies": "Policies",
    "definitions": "Features",
    "vocabulary": "Vocabulary",
}
"""Every field of a configuration, in the order told, but for ``checked``, which follows from it."""

# What one of several is called, where that is more than the field without its s.
_NOUNS: Final = {
    "eligibility": "eligibility rule",
    "applicability": "applicability rule",
    "suitability": "suitability rule",
    "types": "event type",
    "context": "context value",
    "quiet_hours": "quiet hours",
}
_SILENT: Final = {"valid", "exploration", "target", "rule", "rules"}
"""Fields whose name adds nothing to those inside."""
_LABELS: Final[Mapping[tuple[type, str], str]] = {
    (Validity, "start"): "starts",
    (Validity, "until"): "ends",
    (Exploration, "hold_back"): "hold-back",
}
_MONEY: Final = {
    (Action, "value"), (Action, "cost"), (Price, "amount"), (Ceiling, "budget"), (Goal, "worth"),
    (Resource, "price"),
}  # fmt: skip
_ORDERED: Final = {(Policies, "goals")}
"""Mappings whose order means something; that of every list does."""
_BESIDE: Final[Mapping[tuple[type, str], str]] = {(Limit, "at_most"): "within"}
"""A field that says more next to another."""
# Whether more of it leaves less room (1) or more room (-1) for offers.
_TIGHTER: Final[Mapping[tuple[type, str], int]] = {
    (Limit, "at_most"): -1,
    (Limit, "within"): 1,
    (Suppression, "after"): -1,
    (Suppression, "within"): 1,
    (Suppression, "lasts"): 1,
    (Ceiling, "volume"): -1,
    (Ceiling, "budget"): -1,
}


class Difference(NamedTuple):
    """One change."""

    part: str  # Release, Actions, Placements, Policies, Features or Vocabulary
    text: str


def differences(old: Business, new: Business) -> list[Difference]:
    """Tell every change from one configuration to another, in the order of the files.

    Moving an entry within a list is a change; moving one between files that are read in the same
    order is not.
    """
    compare = _Comparison(new.policies.currency)
    return [
        Difference(part, text)
        for field, part in _PARTS.items()
        for text in compare.part(part, field, getattr(old, field), getattr(new, field))
    ]


class _Comparison:
    def __init__(self, currency: str) -> None:
        self._currency = currency

    def part(self, part: str, field: str, old: Any, new: Any) -> Iterator[str]:
        """Changes of one field of the configuration."""
        if isinstance(old, msgspec.Struct):
            yield from self.fields(part, old, new, top=True)
        else:
            yield from self.several(part, field, old, new, top=True)

    def fields(
        self,
        subject: str,
        old: msgspec.Struct,
        new: msgspec.Struct,
        *,
        prefix: str = "",
        top: bool = False,
    ) -> Iterator[str]:
        """Changes between two structs of the same type."""
        for field in _fields(type(old)):
            before, after = getattr(old, field.name), getattr(new, field.name)
            reordered = (type(old), field.name) in _ORDERED and [*before] != [*after]
            if before == after and not reordered:
                continue
            label = _join(prefix, _label(type(old), field))
            alike = type(before) is type(after)
            if isinstance(before, msgspec.Struct) and alike:
                inside = prefix if field.name in _SILENT else label
                yield from self.fields(subject, before, after, prefix=inside, top=top)
            elif _holds_structs(before) or _holds_structs(after):
                yield from self.several(subject, field.name, before, after, top=top)
                if reordered:
                    yield from _order(f"{subject}: {label}", [*before], [*after])
            elif isinstance(before, dict):
                for key in _ordered_keys(before, after):
                    if before.get(key) != after.get(key):
                        pair = before.get(key), after.get(key)
                        yield f"{subject}: {label} {key} {_arrow(*pair, field)}"
            else:
                yield f"{subject}: {label} {self._change(old, new, field)}"

    def several(
        self, subject: str, field: str, old: Any, new: Any, *, top: bool = False
    ) -> Iterator[str]:
        """Changes between entries that have names: new ones, removed ones, and those in both."""
        noun = _NOUNS.get(field, field.removesuffix("s").replace("_", " "))
        before, after = _named(old), _named(new)
        for key, one in before.items():
            called = _renamed(key, one, before, after)
            thing = _thing(subject, noun, key, top=top)
            if called is not None:
                yield f"{thing} is now called {_spoken(called)}"
            elif key not in after:
                yield f"{thing} is gone"
            elif one != after[key]:
                if type(one) is type(after[key]):
                    yield from self.fields(thing, one, after[key])
                else:
                    yield f"{thing}: {self._all(one)} -> {self._all(after[key])}"
        for key, one in after.items():
            if key not in before and _renamed(key, one, after, before) is None:
                yield f"{_thing(subject, noun, key, top=top)} is new{self._introduced(one)}"
        if not isinstance(old, dict):
            yield from _order(
                f"{subject}: {field.replace('_', ' ')}",
                [key for key in before if key in after],
                [key for key in after if key in before],
            )

    def _change(self, old: Any, new: Any, field: FieldInfo) -> str:
        """A changed value, with its unit, what it goes with, and whether that is stricter."""
        at = type(old), field.name
        before, after = getattr(old, field.name), getattr(new, field.name)
        told = _arrow(before, after, field)
        if at in _MONEY:
            told += f" {self._currency}"
        if at in _BESIDE:
            told += f" {_BESIDE[at]} {getattr(new, _BESIDE[at])}"
        if at in _TIGHTER and before is not None and after is not None:
            more = _measured(after) > _measured(before)
            told += " (tighter)" if more == (_TIGHTER[at] > 0) else " (looser)"
        return told

    def _introduced(self, one: Any) -> str:
        """What somebody has to know of a new entry."""
        match one:
            case StageRule(rule=rule, target=target):
                return f" for {self._all(target) or 'every action'}: {_spoken(rule.when)}"
            case Rule(when=when):
                return f": {_spoken(when)}"
        told = self._all(one)
        return f": {told}" if told else ""

    def _all(self, one: Any) -> str:
        """Every field that is not as it would be if it were left out."""
        if not isinstance(one, msgspec.Struct):
            return _say(one)
        told = []
        tag = one.__struct_config__.tag
        if tag is not None:
            told.append(str(tag))
        for field in _fields(type(one)):
            value = getattr(one, field.name)
            named = field.name in ("name", "condition") and value == _name(one)
            if named or value == _default(field):
                continue
            label = _label(type(one), field)
            if isinstance(value, msgspec.Struct):
                inside = self._all(value)
                told.append(inside if field.name in _SILENT else _join(label, inside))
            elif _holds_structs(value):
                told.append(_join(label, ", ".join(_spoken(key[0]) for key in _named(value))))
            else:
                unit = f" {self._currency}" if (type(one), field.name) in _MONEY else ""
                told.append(_join(label, _say(value, field)) + unit)
        return ", ".join(told)


_Key = tuple[str, int]
"""Name of an entry, and how many of that name come before it."""


def _named(entries: Any) -> dict[_Key, Any]:
    """Entries by what they are called."""
    if isinstance(entries, dict):
        return {(name, 0): one for name, one in entries.items()}
    seen: Counter[str] = Counter()
    found: dict[_Key, Any] = {}
    for place, one in enumerate(entries):
        name = _name(one) or str(place + 1)
        found[name, seen[name]] = one
        seen[name] += 1
    return found


def _name(one: Any) -> str:
    """What an entry of a list is called; empty where it has no name."""
    match one:
        case StageRule(rule=rule):
            return rule.name
        case Price(condition=condition):
            return condition
    return getattr(one, "name", "")


def _called(one: T, name: str) -> T:
    """The same entry under another name."""
    match one:
        case StageRule(rule=rule):
            return msgspec.structs.replace(one, rule=msgspec.structs.replace(rule, name=name))
        case Price():
            return msgspec.structs.replace(one, condition=name)
    return msgspec.structs.replace(one, name=name) if hasattr(one, "name") else one  # type: ignore[type-var]


def _renamed(
    key: _Key, one: Any, here: Mapping[_Key, Any], there: Mapping[_Key, Any]
) -> str | None:
    """What an entry is called on the other side, if it is there and nothing but its name differs.

    The first of several alike is taken on both sides, so that each has one partner at most.
    """
    if key in there:
        return None
    alike = [other for other in here if other not in there and _same(here[other], one)]
    theirs = [other for other in there if other not in here and _same(there[other], one)]
    place = alike.index(key)
    return theirs[place][0] if place < len(theirs) else None


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(_called(one, _name(other)) == other)


def _order(label: str, old: Sequence[Any], new: Sequence[Any]) -> Iterator[str]:
    """Say where entries that are in both begin to come in another order."""
    for before, after in zip(old, new, strict=True) if sorted(old) == sorted(new) else ():
        if before != after:
            told = [_spoken(one[0] if isinstance(one, tuple) else one) for one in (before, after)]
            yield f"{label} in another order, from {told[0]} -> {told[1]}"
            return


def _thing(subject: str, noun: str, key: _Key, *, top: bool) -> str:
    number = f" ({key[1] + 1})" if key[1] else ""
    named = f"{noun} {_spoken(key[0])}{number}"
    return named[0].upper() + named[1:] if top else f"{subject}, {named}"


def _ordered_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys([*old, *new]))


def _holds_structs(value: Any) -> bool:
    inside = value.values() if isinstance(value, dict) else value
    return isinstance(value, list | tuple | dict) and any(
        isinstance(one, msgspec.Struct) for one in inside
    )


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[FieldInfo, ...]:
    return msgspec.structs.fields(kind)


def _default(field: FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def _label(kind: type, field: FieldInfo) -> str:
    return _LABELS.get((kind, field.name), field.encode_name.replace("_", " "))


def _join(*words: str) -> str:
    return " ".join(word for word in words if word)


def _arrow(before: Any, after: Any, field: FieldInfo) -> str:
    return f"{_say(before, field)} -> {_say(after, field)}"


def _say(value: Any, field: FieldInfo | None = None) -> str:
    """A value as a person writes it."""
    if value is None or (isinstance(value, str | list | tuple | dict) and not value):
        return "none"
    match value:
        case bool():
            return "yes" if value else "no"
        case float() if field is not None and _is_share(field.type):
            return f"{value * 100:.12g} %"
        case float():
            return f"{value:.15g}"
        case str():
            return _spoken(value)
        case datetime.date() | datetime.time():
            return value.isoformat()
        case list() | tuple():
            return ", ".join(_say(one) for one in value)
        case dict():
            return ", ".join(f"{_spoken(key)} {_say(one)}" for key, one in value.items())
    return str(value)


def _spoken(text: str) -> str:
    """Text on one line, in quotes where it is more than a word or a condition."""
    line = " ".join(text.split())
    return f'"{line}"' if line[:1].isupper() and " " in line else line


def _is_share(kind: Any) -> bool:
    """Whether a number is a probability or share: from 0 to at most 1."""
    metas = [one for one in get_args(kind) if isinstance(one, msgspec.Meta)]
    if get_origin(kind) is Annotated:
        return any(one.ge == 0 and one.le is not None and one.le <= 1 for one in metas)
    return False


def _measured(value: Any) -> float:
    return duration.milliseconds(value) if isinstance(value, str) else value
