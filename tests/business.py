"""A small business for tests: a few actions, two placements, whatever rules a test wants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from features import definitions as declared
from features.definitions import Definitions
from service.business import Business
from service.catalogue import Action, Placement, Treatment
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


ACTIONS = (
    action("discount", issue="grow", group="sales", purpose="marketing"),
    action("callback"),
    action("tablet", issue="grow", group="sales", value=50.0),
    action("insurance", issue="grow", group="care", value=20.0),
)


def business(actions: Sequence[Action] = ACTIONS, **policies: Any) -> Business:
    """A business with some policies."""
    return Business(
        vocabulary=VOCABULARY,
        definitions=Definitions([declared.Count(name="events")]),
        actions=list(actions),
        placements={"hint": Placement(["phone", "chat"]), "banner": Placement(["web"])},
        policies=Policies(**policies),
    )
