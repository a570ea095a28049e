"""A small business for tests: a few actions, two placements, whatever rules a test wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from features import definitions as declared
from features.definitions import Definitions
from features.vocabulary import Attribute, Vocabulary
from service.business import Business, complete
from service.catalogue import Action, Placement, Rule, Treatment
from service.declared import Policies
from tests.chain import VOCABULARY


def action(name: str = "discount", **fields: Any) -> Action:
    """An action with a treatment everywhere; it serves, unless told otherwise."""
    known: dict[str, Any] = {
        "title": name.title(),
        "issue": "service",
        "group": "care",
        "value": 10.0,
        "treatments": [Treatment("say", ["hint", "banner"])],
        **fields,
    }
    return Action(name=name, **known)


def rule(when: str, name: str = "r", reason: str = "It does not fit") -> Rule:
    """A rule that must hold."""
    return Rule(name, when, reason)


ACTIONS = (
    action("discount", issue="grow", group="sales", purpose="marketing"),
    action("callback"),
    action("tablet", issue="grow", group="sales", value=50.0),
    action("insurance", issue="grow", group="care", value=20.0),
)
PLACEMENTS: Final = {"hint": Placement(["phone", "chat"]), "banner": Placement(["web"])}

AROUND: Final[Vocabulary] = msgspec.structs.replace(
    VOCABULARY,
    attributes={
        **VOCABULARY.attributes,
        "zone": Attribute(
            5, "category", {"Europe/Amsterdam": 1, "America/New_York": 2, "Asia/Kolkata": 3}
        ),
    },
)
"""The words of a business that knows where its customers live."""


def business(
    actions: Sequence[Action] = ACTIONS,
    *,
    vocabulary: Vocabulary = VOCABULARY,
    placements: Mapping[str, Placement] = PLACEMENTS,
    time_zone: str = "UTC",
    **policies: Any,
) -> Business:
    """A business with some policies; its conditions are checked."""
    return complete(
        Business(
            vocabulary=vocabulary,
            definitions=Definitions([declared.Count(name="events")], time_zone=time_zone),
            actions=list(actions),
            placements=dict(placements),
            policies=Policies(**policies),
        )
    )


FILES: Final[dict[str, Any]] = {
    "vocabulary.yaml": {
        "channels": {"phone": 1, "web": 2},
        "types": {"outcome": {"code": 1}},
        "intents": {"billing": {"code": 1, "title": "The bill"}},
        "actions": {"callback": 1, "offer": 2},
        "groups": {"care": 1, "sales": 2},
        "attributes": {
            "age": {"code": 1, "kind": "number"},
            "plan": {"code": 2, "kind": "category", "values": {"basic": 1, "plus": 2}},
            "zone": {"code": 3, "kind": "category", "values": {"Asia/Kolkata": 1}},
        },
        "context": {"wait": {"code": 1, "kind": "number"}},
        "purposes": ["marketing"],
    },
    "features.yaml": {"features": [{"op": "count", "name": "events"}]},
    "placements.yaml": {"placements": {"hint": {"channels": ["phone"], "defaults": ["callback"]}}},
    "policies.yaml": {
        "goals": {"value": {"worth": 1}, "churn": {"worth": 2}},
        "resources": {"agents": {"unit": "minute"}},
        "public_attributes": ["plan"],
    },
    "catalogue/care.yaml": {
        "actions": [
            {"name": "callback", "title": "Call back", "issue": "service", "group": "care",
             "value": 1, "treatments": [{"name": "say", "placements": ["hint"]}]},
        ]
    },
    "catalogue/sales.yaml": {
        "actions": [
            {"name": "offer", "title": "Offer", "issue": "grow", "group": "sales", "value": 9,
             "purpose": "marketing", "treatments": [{"name": "say", "placements": ["hint"]}]},
        ]
    },
}  # fmt: skip
"""The files of a configuration without a mistake."""

Change = tuple[tuple[str | int, ...], Any]
"""Steps to a value in :data:`FILES`, and what to write there."""

OFFER: Final = ("catalogue/sales.yaml", "actions", 0)
CALLBACK: Final = ("catalogue/care.yaml", "actions", 0)


def written(folder: Path, *changes: Change) -> Path:
    """A configuration folder with some values changed."""
    files = msgspec.json.decode(msgspec.json.encode(FILES))
    for path, value in changes:
        at = files
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(msgspec.yaml.encode(content))
    return folder
