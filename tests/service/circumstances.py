from __future__ import annotations

import datetime
from typing import Any

from features.duration import DAY
from features.profile import Consent, Profile
from features.record import EMPTY
from features.vocabulary import Direction, Outcome
from service.causes import Cause
from service.circumstances import Circumstances
from service.policies import Policies
from service.rules import Value as RuleValue
from tests.chain import NOW, Event

TODAY = datetime.datetime.fromtimestamp(NOW / 1000, datetime.UTC).date()
ONE_DAY = datetime.timedelta(days=1)
WILLING = Profile({}, [Consent("marketing", "", True, 0), Consent("profiling", "", True, 0)])
NOTHING: dict[str, dict[str, RuleValue]] = {
    "customer": {}, "context": {}, "journey": {}, "intent": {},
}  # fmt: skip


def shown(age: int, name: str | int = "discount", **fields: Any) -> Event:
    return Event(NOW - age, "outcome", action=name, **{"outcome": Outcome.presented, **fields})


def circumstances(policies: Policies, **given: Any) -> Circumstances:
    known: dict[str, Any] = {
        "channel": "phone", "direction": Direction.inbound, "assurance": 3, "now": NOW,
        "profile": WILLING, "ledger": EMPTY, **given,
    }  # fmt: skip
    values = {**NOTHING, **known.pop("values", {})}
    known["results"] = policies.conditions.evaluate(values)
    return Circumstances(**known)


def causes(policies: Policies, name: str = "discount", **given: Any) -> list[Cause]:
    """All that speaks against one action, the decisive cause first."""
    row = policies.business.rows[name]
    found = policies.filtered(circumstances(policies, **given)).causes
    return [cause for cause in found if cause.actions >> row & 1]


def codes(policies: Policies, name: str = "discount", **given: Any) -> list[str]:
    return [cause.code for cause in causes(policies, name, **given)]


def only(policies: Policies, name: str = "discount", **given: Any) -> Cause:
    (cause,) = causes(policies, name, **given)
    return cause


MIDNIGHT = NOW // DAY * DAY
