"""The reference work: a business with as many actions as are wanted, written as configuration.

Words and features are the sample bank's: 30 intents, 80 features. The catalogue is made up, so that
every action qualifies for everybody at the one placement and passes through all four stages to get
there: each has rules, half ask for consent, half are capped. Exploration, reservations, goals,
levers and weights are on.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import msgspec

from service import business as businesses
from service.business import Business
from service.catalogue import ISSUES

BANK: Final = Path("config")
PLACEMENT: Final = "bench"
CHANNEL: Final = "phone"
ACTIONS: Final = 100
INTENTS: Final = 30
FEATURES: Final = 80
SLOTS: Final = 3

_DEFAULTS: Final = (1, 3, 5)  # actions that have to suit anybody
_GROUPS: Final = 14  # even ones are capped, and so every other action
_ELIGIBILITY: Final = (
    "customer.age >= {a}.0",
    "customer.segment in ['student', 'starter', 'family', 'self_employed', 'senior']"
    " && customer.age < {b}.0",
    "has(customer.products) && customer.products < {b}.0",
    "customer.value_tier != 'none' || customer.balance > {a}00.0",
)
_APPLICABILITY: Final = (
    "!has(context.page_topic) || context.page_topic != 'help' || customer.age > {a}.0",
    "context.hour_of_day < {c} || customer.digital",
    "!has(intent.name) || intent.probability < 0.99{d} || customer.products > {d}.0",
)
_SUITABILITY: Final = (
    "!customer.in_arrears || customer.balance > -{b}000.0",
    "!has(journey.failed_self_service) || journey.failed_self_service < {b}00",
    "customer.customer_since_days >= {d}.0 || customer.has_mortgage",
)


def business(actions: int, folder: Path) -> Business:
    """The reference business, read back from the files that :func:`write` wrote."""
    found = businesses.load(write(folder, actions))
    features = len(found.definitions.features)
    if (features, len(found.vocabulary.intents)) != (FEATURES, INTENTS):
        raise SystemExit(
            f"{BANK} declares {features} features and {len(found.vocabulary.intents)} intents; the "
            f"reference work has {FEATURES} and {INTENTS}: give tests/bench/reference.py its own"
        )
    return found


def write(folder: Path, actions: int) -> Path:
    """Write the configuration; give its folder."""
    if not 10 <= actions <= 2_000:
        raise ValueError(f"{actions} actions; ask for 10 to 2,000")
    shutil.rmtree(folder, ignore_errors=True)
    bank = businesses.load(BANK)
    names = [f"action_{i:04d}" for i in range(actions)]
    vocabulary = msgspec.structs.replace(
        bank.vocabulary,
        actions={name: code for code, name in enumerate(names, 1)},
        groups={f"group_{i}": i + 1 for i in range(_GROUPS)},
    )
    intents = list(vocabulary.intents)
    files: dict[str, Any] = {
        "vocabulary.yaml": msgspec.to_builtins(vocabulary),
        "features.yaml": msgspec.to_builtins(bank.definitions),
        "placements.yaml": {"placements": {PLACEMENT: _placement(names)}},
        "policies.yaml": _policies(intents),
        "release.yaml": {"name": f"bench-{actions}", "author": "bench", "approver": "make"},
        "catalogue/actions.yaml": {
            "actions": [_action(i, name, intents) for i, name in enumerate(names)]
        },
    }
    for name, content in files.items():
        at = folder / name
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(msgspec.yaml.encode(content))
    return folder


def _placement(names: list[str]) -> dict[str, Any]:
    return {
        "channels": [CHANNEL],
        "defaults": [names[i] for i in _DEFAULTS],
        "max_actions": SLOTS,
        "per_group": 2,
        "exploration": {"hold_back": 0.005, "temperature": 0.03, "floor": 0.01},
    }


def _action(i: int, name: str, intents: list[str]) -> dict[str, Any]:
    """One action; the defaults stay free of all that an unknown customer could not meet."""
    plain = i in _DEFAULTS
    group = 2 * (i % (_GROUPS // 2)) + i % 2
    action: dict[str, Any] = {
        "name": name,
        "title": f"The offer number {i}",
        "issue": "service" if plain else ISSUES[i % len(ISSUES)],
        "group": f"group_{group}",
        "value": 20 + i * 37 % 60,
        "cost": i % 7 / 2,
        "goals": {"satisfaction": i % 4},
        "prior": 0.05 + i % 11 / 40,
        "evidence": 40,
        "treatments": [
            {
                "name": "talk",
                "placements": [PLACEMENT],
                "kind": "talk_track",
                "text": f"We could offer you number {i} for {{price}} a month." if not plain
                else "What can I do for you today?",
            },
            {
                "name": "talk_friend",
                "placements": [PLACEMENT],
                "relationships": ["friend"],
                "kind": "talk_track",
                "text": f"Good to hear from you again. Number {i} might be something for you.",
            },
        ],
    }  # fmt: skip
    if plain:
        return action
    a, b, c, d = 1 + i % 16, 100 + i % 23, 24 + i % 5, i % 8
    action["eligibility"] = [_rule("eligible", _ELIGIBILITY[i % 4].format(a=a, b=b))]
    if i % 2:
        action["purpose"] = "marketing"
        action["applicability"] = [_rule("apt", _APPLICABILITY[i % 3].format(a=a, c=c, d=d))]
    if i % 3 == 0:
        action["suitability"] = [_rule("right", _SUITABILITY[i // 3 % 3].format(b=b, d=d))]
        action["assurance"] = "verified"
        action["uses"] = {"back_office": 1}
    action["intents"] = list(dict.fromkeys([intents[i % INTENTS], intents[i * 7 % INTENTS]]))
    action["prices"] = [
        {"amount": i % 9 + 0.5, "condition": "Students", "when": "customer.segment == 'student'",
         "per": "month"},
        {"amount": i % 9 + 1.5, "per": "month"},
    ]  # fmt: skip
    return action


def _rule(name: str, when: str) -> dict[str, str]:
    return {"name": name, "when": when, "reason": "It would not fit them"}


def _policies(intents: list[str]) -> dict[str, Any]:
    capped = [f"group_{i}" for i in range(0, _GROUPS, 2)]
    return {
        "goals": {
            "margin": {"worth": 1.0, "unit": "EUR", "weights": {"student": 0.8}},
            "satisfaction": {"worth": 2.5, "unit": "point", "weights": {"senior": 1.2}},
        },
        "segment_by": "segment",
        "time_zone_by": "time_zone",
        "public_attributes": ["age", "segment"],
        "resources": {"back_office": {"unit": "minute", "price": 0.8}},
        "reserves_for": "60s",  # the store is called all the time: what is held has to end again
        "intent_match": {"floor": 0.5, "ceiling": 5.0},
        "rules": {
            "eligibility": [
                {"rule": _rule("people", "customer.age >= 16.0"), "target": {"issue": "grow"}}
            ],
            "suitability": [
                {
                    "rule": _rule("sane", "!has(customer.balance) || customer.balance > -900000.0"),
                    "target": {"issue": "retain"},
                }
            ],
        },
        # A decision is asked for over and over, which no customer would do: the caps are wide.
        "limits": [
            {"name": f"{group}_monthly", "group": group, "at_most": 60, "within": "30d",
             "per": "action"}
            for group in capped
        ] + [
            {"name": f"{group}_phone", "group": group, "channel": CHANNEL, "at_most": 400,
             "within": "7d", "per": "group"}
            for group in capped
        ],
        "suppressions": [
            {"name": f"{group}_refused", "group": group, "outcome": "rejected", "after": 2,
             "within": "60d", "for": "90d"}
            for group in capped
        ],
        "quiet_hours": [
            {"name": "at_night", "issue": "grow", "channels": ["email", "sms"],
             "from": "21:00:00", "until": "08:00:00"}
        ],
        "context_weights": [
            {"name": f"weight_{i}", "when": when, "target": {"issue": ISSUES[i % 5]},
             "weight": 1.2 - i / 10, "reason": "The situation asks for it"}
            for i, when in enumerate(
                (
                    {"fact": "failed_self_service"},
                    {"fact": "repeat_contact", "magnitude": 2},
                    {"intent": intents[3], "at_least": 0.2},
                    {"intent": intents[7], "at_least": 0.4, "channel": CHANNEL},
                    {"fact": "sentiment_trend", "magnitude": -0.2},
                    {"fact": "relationship", "magnitude": 2},
                )
            )
        ],
        "levers": [
            {"name": f"lever_{i}", "target": {"group": f"group_{i}"}, "factor": 1.1 + i / 20}
            for i in range(3)
        ],
    }  # fmt: skip
