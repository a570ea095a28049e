"""What must hold between the files of a configuration; every mistake is named with its place. Pure.

Beyond names that must be declared: defaults must suit somebody of whom nothing is known; prices may
depend on public attributes alone; and what a relationship is like may change tone, channel and how
much we sell, but never a price or a place in a queue.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from zoneinfo import available_timezones

from service import declared, variables
from service.catalogue import ASSURANCE, Action, Placement, Rule, Validity, treatment

if TYPE_CHECKING:
    from service.business import Business, Written

_EMOTIONAL = ("journey.relationship", "journey.sentiment_trend")
_STAGES = ("eligibility", "applicability", "suitability")


def problems(business: Business, written: Written) -> Iterator[str]:
    """Everything that does not fit together, conditions aside."""
    if declared.OUTCOME_TYPE not in business.vocabulary.types:
        yield (
            f"{written.vocabulary.at('types')}: types: {declared.OUTCOME_TYPE!r} is not declared; "
            "RecordOutcome stores events of that type"
        )
    for name in business.vocabulary.context:
        if name in variables.CONTACT:
            yield (
                f"{written.vocabulary.at('context', name)}: context.{name}: every contact has it "
                "already; rename it"
            )
    yield from _of_actions(business, written)
    yield from _of_placements(business, written)
    yield from _of_policies(business, written)


def _unknown(where: str, names: Iterable[str | None], known: Iterable[str]) -> Iterator[str]:
    choices = list(known)
    for name in names:
        if name is not None and name not in choices:
            near = difflib.get_close_matches(name, choices, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "declare it first"
            yield f"{where}: {name!r} is not declared; {hint}"


def _of_actions(business: Business, written: Written) -> Iterator[str]:
    vocabulary, policies = business.vocabulary, business.policies
    seen: dict[str, str] = {}
    for action, (file, i) in zip(business.actions, written.actions, strict=True):

        def at(*steps: str | int, file=file, i=i, action=action) -> str:  # type: ignore[no-untyped-def]
            path = ".".join(str(step) for step in steps)
            return f"{file.at('actions', i, *steps)}: actions.{action.name}.{path}".rstrip(".")

        if action.name in seen:
            yield f"{at('name')}: is declared in {seen[action.name]} too; rename one"
        seen[action.name] = file.at("actions", i)
        yield from _unknown(at("name"), [action.name], vocabulary.actions)
        yield from _unknown(at("group"), [action.group], vocabulary.groups)
        yield from _unknown(at("purpose"), [action.purpose], vocabulary.purposes)
        yield from _unknown(at("intents"), action.intents, vocabulary.intents)
        yield from _unknown(at("goals"), action.goals, policies.goals)
        yield from _unknown(at("uses"), action.uses, policies.resources)
        for j, one in enumerate(action.treatments):
            yield from _unknown(
                at("treatments", j, "placements"), one.placements, business.placements
            )
            yield from _unknown(at("treatments", j, "channels"), one.channels, vocabulary.channels)
            if "{price}" in one.text and not action.prices:
                yield f"{at('treatments', j, 'text')}: says {{price}} and has none; add prices"
            if one.name in [other.name for other in action.treatments[:j]]:
                yield f"{at('treatments', j, 'name')}: {one.name!r} is there twice; rename one"
        yield from _of_parts(business, action, at("parts"))
        if action.prices and action.prices[-1].when is not None:
            yield (
                f"{at('prices')}: whoever meets no condition has no price; end with one "
                "without `when`"
            )
        for j, price in enumerate(action.prices[:-1]):
            if price.when is None:
                yield f"{at('prices', j)}: everybody meets it; move it behind those with `when`"
        if action.mandatory and action.parts:
            yield f"{at('mandatory')}: a bundle cannot be mandatory; make its parts mandatory"


def _of_parts(business: Business, action: Action, where: str) -> Iterator[str]:
    yield from _unknown(where, action.parts, business.by_name)
    if len(action.parts) == 1 or len(set(action.parts)) < len(action.parts):
        yield f"{where}: a bundle has two or more different parts; name them"
    for part in action.parts:
        if part == action.name or (part in business.by_name and business.by_name[part].parts):
            yield f"{where}: {part!r} is a bundle itself; name its parts instead"


def _of_placements(business: Business, written: Written) -> Iterator[str]:
    for name, placement in business.placements.items():
        at = f"{written.placements.at('placements', name)}: {name}"
        yield from _unknown(f"{at}.channels", placement.channels, business.vocabulary.channels)
        yield from _unknown(f"{at}.defaults", placement.defaults, business.by_name)
        for default in placement.defaults:
            yield from _unfit(at, business, name, placement, default)


def _unfit(
    at: str, business: Business, name: str, placement: Placement, default: str
) -> Iterator[str]:
    """Say why a default could not be shown to somebody of whom nothing is known."""
    action = business.by_name.get(default)
    if action is None:
        return
    where, policies = f"{at}.defaults: {default!r}", business.policies
    if action.purpose is not None:
        yield f"{where} needs consent for {action.purpose!r}; choose a service"
    if ASSURANCE[action.assurance] > ASSURANCE[placement.assurance]:
        yield f"{where} needs a caller who is {action.assurance}; choose another"
    targets = [
        *(one.target for one in policies.limits),
        *(one.target for one in policies.suppressions),
        *(one.target for one in policies.ceilings),
        *(one.target for one in policies.quiet_hours),
    ]
    if any(target.covers(action) for target in targets):
        yield f"{where} has a contact limit; choose one without"
    rules = [rule for stage in _STAGES for rule in getattr(action, stage)]
    rules += [
        one.rule
        for stage in _STAGES
        for one in getattr(policies.rules, stage)
        if one.target.covers(action)
    ]
    if rules:
        yield f"{where} has rule {rules[0].name!r}, which may not hold; choose one without"
    if any(price.when is not None for price in action.prices):
        yield f"{where} has a price that depends on who asks; choose one without"
    if action.parts or action.mandatory:
        yield f"{where} is a bundle or mandatory; choose a plain action"
    if action.prior * (action.value - action.cost) <= placement.nothing:
        yield f"{where} has no priority; give it a prior, and value over cost"
    if action.valid != Validity():
        yield f"{where} is not valid for ever; choose one that is"
    for channel in placement.channels:
        if treatment(action, name, channel) is None:
            yield f"{where} has no treatment on {channel!r}; add one"


def _of_policies(business: Business, written: Written) -> Iterator[str]:
    policies, vocabulary, places = business.policies, business.vocabulary, written.policies

    def target(where: str, one: declared.Target) -> Iterator[str]:
        yield from _unknown(f"{where}.action", [one.action], business.by_name)
        yield from _unknown(f"{where}.group", [one.group], vocabulary.groups)

    for field in ("limits", "suppressions", "ceilings", "quiet_hours", "context_weights", "levers"):
        names: set[str] = set()
        for i, one in enumerate(getattr(policies, field)):
            where = f"{places.at(field, i)}: {one.name}"
            yield from target(where, one.target)
            if one.name in names:
                yield f"{where}: is declared twice in {field}; rename one"
            names.add(one.name)
    for i, limit in enumerate(policies.limits):
        where = f"{places.at('limits', i)}: {limit.name}.channel"
        yield from _unknown(where, [limit.channel], vocabulary.channels)
    for i, suppression in enumerate(policies.suppressions):
        if suppression.outcome == "presented":
            where = f"{places.at('suppressions', i)}: {suppression.name}.outcome"
            yield f"{where}: 'presented' is for limits, which are reserved; write a limit"
    for i, quiet in enumerate(policies.quiet_hours):
        where = f"{places.at('quiet_hours', i)}: {quiet.name}.channels"
        yield from _unknown(where, quiet.channels, vocabulary.channels)
    for stage in _STAGES:
        known: set[str] = set()
        for i, one in enumerate(getattr(policies.rules, stage)):
            where = f"{places.at('rules', stage, i)}: {one.rule.name}"
            yield from target(where, one.target)
            if one.rule.name in known:
                yield f"{where}: is declared twice in {stage}; rename one"
            known.add(one.rule.name)
    for i, weight in enumerate(policies.context_weights):
        where = f"{places.at('context_weights', i)}: {weight.name}"
        yield from _unknown(f"{where}.when.intent", [weight.when.intent], vocabulary.intents)
        yield from _unknown(f"{where}.when.channel", [weight.when.channel], vocabulary.channels)
        yield from _unknown(f"{where}.when.fact", [weight.when.fact], declared.FACTS)
        if weight.when.fact in ("relationship", "sentiment_trend"):
            yield from _bought(business, where, weight)
    yield from _of_attributes(business, written)


def _bought(business: Business, where: str, weight: declared.ContextWeight) -> Iterator[str]:
    """Name what a feeling would buy: a price or a place in a queue. It may suppress a sale."""
    for action in business.actions:
        if not weight.target.covers(action):
            continue
        given = _gives(business, action)
        priced = any(one.prices for one in _with_parts(business, action))
        if given or (priced and weight.weight > 1):
            yield (
                f"{where}: weighs {action.name!r}, which gives {given or 'a price'}, by "
                "how the customer feels; leave it out of the target"
            )


def _with_parts(business: Business, action: Action) -> list[Action]:
    return [action, *(business.by_name[one] for one in action.parts if one in business.by_name)]


def _gives(business: Business, action: Action) -> str:
    """What an action or a part of it gives that feelings may not decide over; empty for nothing."""
    shown = _with_parts(business, action)
    if any(one.queue_priority for one in shown):
        return "a place in the queue"
    return "a discount" if any(price.amount < 0 for one in shown for price in one.prices) else ""


def _of_attributes(business: Business, written: Written) -> Iterator[str]:
    policies, places = business.policies, written.policies
    attributes = business.vocabulary.attributes
    for field in ("segment_by", "time_zone_by", "value_tier_by"):
        where, name = f"{places.at(field)}: {field}", getattr(policies, field)
        yield from _unknown(where, [name], attributes)
        if name in attributes and not attributes[name].values:
            yield f"{where}: {name!r} is a {attributes[name].kind}; name a category"
    for field in ("public_attributes", "protected_attributes"):
        yield from _unknown(f"{places.at(field)}: {field}", getattr(policies, field), attributes)
    segments = attributes[policies.segment_by].values if policies.segment_by in attributes else {}
    for name, goal in policies.goals.items():
        where = f"{places.at('goals', name)}: goals.{name}.weights"
        yield from _unknown(where, goal.weights, segments)
    if policies.time_zone_by in attributes:
        where = f"{written.vocabulary.at('attributes', policies.time_zone_by)}: values"
        zones = attributes[policies.time_zone_by].values
        yield from _unknown(where, zones, available_timezones())


def of_conditions(business: Business, written: Written) -> Iterator[str]:
    """What conditions may not read where they stand."""
    public = {f"customer.{name}" for name in business.policies.public_attributes}
    for action, (file, i) in zip(business.actions, written.actions, strict=True):
        for j, price in enumerate(action.prices):
            if price.when is None:
                continue
            where = f"{file.at('actions', i, 'prices', j, 'when')}: actions.{action.name}.prices"
            for read in business.checked[price.when].reads:
                if read not in public:
                    yield (
                        f"{where}: {price.when}: a price may not depend on {read!r}; use "
                        f"public attributes: {', '.join(sorted(public)) or 'none is declared'}"
                    )
        given = _gives(business, action)
        if not given:
            continue
        for stage, rule in _rules_about(business, action):
            feelings = [one for one in business.checked[rule.when].reads if one in _EMOTIONAL]
            if feelings:
                yield (
                    f"{file.at('actions', i)}: actions.{action.name}: {stage} rule {rule.name!r} "
                    f"reads {feelings[0]!r}: how the customer feels may not decide over "
                    f"{given}; leave the action out of its target"
                )


def _rules_about(business: Business, action: Action) -> Iterator[tuple[str, Rule]]:
    for stage in _STAGES:
        yield from ((stage, rule) for rule in getattr(action, stage))
        for one in getattr(business.policies.rules, stage):
            if one.target.covers(action):
                yield stage, one.rule
