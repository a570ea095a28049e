from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from service import variables
from service.business import load
from service.errors import ConfigurationError
from tests.business import CALLBACK, FILES, OFFER, Change, written

LIMIT = {"name": "l", "at_most": 1, "within": "1d"}
REFUSED = {"name": "s", "outcome": "rejected", "after": 1, "within": "1d", "for": "1d"}
CEILING = {"name": "c", "each": "day", "volume": 1}
QUIET = {"name": "q", "from": "22:00:00", "until": "08:00:00", "channels": ["phone"]}
WEIGHT: dict[str, Any] = {"name": "w", "when": {}, "target": {}, "weight": 1, "reason": "r"}
LEVER = {"name": "v", "target": {}, "factor": 2}
NEVER = {"name": "r", "when": "context.wait < 9.0", "reason": "They waited"}
FEELS = {"name": "calm", "when": "journey.relationship != 'enemy'", "reason": "They are upset"}


def policy(field: str, *some: Any) -> Change:
    return ("policies.yaml", field), list(some)


def refused(folder: Path, *changes: Change) -> str:
    with pytest.raises(ConfigurationError) as error:
        load(written(folder, *changes))
    return str(error.value).replace(f"{folder}/", "")


def test_what_fits_together_is_not_complained_about(tmp_path: Path) -> None:
    load(written(tmp_path))


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ((*OFFER, "name"), "offr", "actions.offr.name: 'offr' is not declared; did you mean 'off"),
        ((*OFFER, "group"), "sale", "actions.offer.group: 'sale' is not declared; did you mean 's"),
        ((*OFFER, "group"), "qqq", "actions.offer.group: 'qqq' is not declared; declare it first"),
        ((*OFFER, "purpose"), "marketin",
         "actions.offer.purpose: 'marketin' is not declared; did you mean 'marketing'?"),
        ((*OFFER, "intents"), ["biling"],
         "actions.offer.intents: 'biling' is not declared; did you mean 'billing'?"),
        ((*OFFER, "goals"), {"chrn": 1},
         "actions.offer.goals: 'chrn' is not declared; did you mean 'churn'?"),
        ((*OFFER, "uses"), {"agent": 1},
         "actions.offer.uses: 'agent' is not declared; did you mean 'agents'?"),
        ((*OFFER, "parts"), ["calback", "offer"],
         "actions.offer.parts: 'calback' is not declared; did you mean 'callback'?"),
        ((*OFFER, "treatments", 0, "placements"), ["hnt"],
         "actions.offer.treatments.0.placements: 'hnt' is not declared; did you mean 'hint'?"),
        ((*OFFER, "treatments", 0, "channels"), ["fone"],
         "actions.offer.treatments.0.channels: 'fone' is not declared; did you mean 'phone'?"),
        (("placements.yaml", "placements", "hint", "channels"), ["phones"],
         "hint.channels: 'phones' is not declared; did you mean 'phone'?"),
        (("placements.yaml", "placements", "hint", "defaults"), ["calback"],
         "hint.defaults: 'calback' is not declared; did you mean 'callback'?"),
        (*policy("limits", LIMIT | {"action": "ofer"}),
         "l.action: 'ofer' is not declared; did you mean 'offer'?"),
        (*policy("limits", LIMIT | {"group": "sal", "issue": "grow"}),
         "l.group: 'sal' is not declared; did you mean 'sales'?"),
        (*policy("limits", LIMIT | {"issue": "grow", "channel": "wbe"}),
         "l.channel: 'wbe' is not declared; did you mean 'web'?"),
        (*policy("suppressions", REFUSED | {"action": "ofer"}), "s.action: 'ofer' is not declared"),
        (*policy("ceilings", CEILING | {"group": "sale"}), "c.group: 'sale' is not declared"),
        (*policy("quiet_hours", QUIET | {"group": "sale"}), "q.group: 'sale' is not declared"),
        (*policy("quiet_hours", QUIET | {"issue": "grow", "channels": ["fone"]}),
         "q.channels: 'fone' is not declared; did you mean 'phone'?"),
        (*policy("context_weights", WEIGHT | {"when": {"intent": "billng"}}),
         "w.when.intent: 'billng' is not declared; did you mean 'billing'?"),
        (*policy("context_weights", WEIGHT | {"when": {"fact": "channel_hop"}}),
         "w.when.fact: 'channel_hop' is not declared; did you mean 'channel_hops'?"),
        (*policy("context_weights", WEIGHT | {"when": {"channel": "x"}}),
         "w.when.channel: 'x' is not declared"),
        (*policy("context_weights", WEIGHT | {"target": {"group": "car"}}),
         "w.group: 'car' is not declared; did you mean 'care'?"),
        (*policy("levers", LEVER | {"target": {"action": "oferr"}}),
         "v.action: 'oferr' is not declared; did you mean 'offer'?"),
        (("policies.yaml", "rules"),
         {"suitability": [{"rule": NEVER, "target": {"action": "ofer"}}]},
         "r.action: 'ofer' is not declared; did you mean 'offer'?"),
        (("policies.yaml", "segment_by"), "pln",
         "segment_by: 'pln' is not declared; did you mean 'plan'?"),
        (("policies.yaml", "time_zone_by"), "zon", "time_zone_by: 'zon' is not declared; did you"),
        (("policies.yaml", "value_tier_by"), "x", "value_tier_by: 'x' is not declared"),
        (("policies.yaml", "public_attributes"), ["plan", "agee"],
         "public_attributes: 'agee' is not declared; did you mean 'age'?"),
        (("policies.yaml", "protected_attributes"), ["agee"],
         "protected_attributes: 'agee' is not declared; did you mean 'age'?"),
        (("vocabulary.yaml", "types"), {"x": {"code": 1}}, "types: 'outcome' is not declared"),
    ],
)  # fmt: skip
def test_an_unknown_name_is_told_with_its_place_and_the_nearest_name(
    tmp_path: Path, path: tuple[str | int, ...], value: Any, told: str
) -> None:
    lines = refused(tmp_path, (path, value)).splitlines()
    place = rf"{re.escape(str(path[0]))}:\d+:\d+: {re.escape(told)}"
    assert [line for line in lines if re.match(place, line)], lines


def test_a_weight_by_segment_names_a_segment(tmp_path: Path) -> None:
    goals = {"value": {"worth": 1, "weights": {"bsic": 2}}}
    where = (("policies.yaml", "goals"), goals)
    told = refused(tmp_path, where, (("policies.yaml", "segment_by"), "plan"))
    assert "goals.value.weights: 'bsic' is not declared; did you mean 'basic'?" in told
    assert "'bsic' is not declared; declare it first" in refused(tmp_path, where)


def test_what_customers_are_told_apart_by_is_a_category(tmp_path: Path) -> None:
    for field in ("segment_by", "time_zone_by", "value_tier_by"):
        told = refused(tmp_path, (("policies.yaml", field), "age"))
        assert re.fullmatch(
            rf"policies.yaml:\d+:\d+: {field}: 'age' is a number; name a category", told
        )


def test_a_time_zone_is_one_that_exists(tmp_path: Path) -> None:
    load(written(tmp_path, (("policies.yaml", "time_zone_by"), "zone")))
    told = refused(tmp_path, (("policies.yaml", "time_zone_by"), "plan"))
    assert re.match(r"vocabulary.yaml:\d+:\d+: values: 'basic' is not declared", told)


@pytest.mark.parametrize("name", variables.CONTACT)
def test_a_context_value_may_not_be_named_as_what_every_contact_has(
    tmp_path: Path, name: str
) -> None:
    context = {name: {"code": 1, "kind": "flag"}}
    told = refused(tmp_path, (("vocabulary.yaml", "context"), context))
    assert re.match(
        rf"vocabulary.yaml:\d+:\d+: context.{name}: every contact has it already; rename it", told
    )


# Defaults


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([((*CALLBACK, "purpose"), "marketing")],
         "needs consent for 'marketing'; choose a service"),
        ([((*CALLBACK, "assurance"), "ani")], "needs a caller who is ani; choose another"),
        ([((*CALLBACK, "prior"), 0.0)], "has no priority; give it a prior, and value over cost"),
        ([((*CALLBACK, "cost"), 1.0)], "has no priority"),
        ([(("placements.yaml", "placements", "hint", "nothing"), 0.1)], "has no priority"),
        ([((*CALLBACK, "valid"), {"until": "2030-01-01"})], "is not valid for ever"),
        ([policy("limits", LIMIT)], "has a contact limit; choose one without"),
        ([policy("suppressions", REFUSED | {"issue": "service"})], "has a contact limit"),
        ([policy("ceilings", CEILING | {"group": "care"})], "has a contact limit"),
        ([policy("quiet_hours", QUIET)], "has a contact limit"),
        ([((*CALLBACK, "suitability"), [NEVER])],
         "has rule 'r', which may not hold; choose one without"),
        ([(("policies.yaml", "rules"), {"applicability": [{"rule": NEVER}]})], "has rule 'r'"),
        ([((*CALLBACK, "mandatory"), True)], "is a bundle or mandatory; choose a plain action"),
        ([((*CALLBACK, "parts"), ["offer", "callback"])], "is a bundle or mandatory"),
        ([(("placements.yaml", "placements", "hint", "channels"), ["phone", "web"]),
          ((*CALLBACK, "treatments", 0, "channels"), ["phone"])],
         "has no treatment on 'web'; add one"),
        ([((*CALLBACK, "treatments", 0, "relationships"), ["friend"])],
         "has no treatment on 'phone'"),
    ],
)  # fmt: skip
def test_a_default_that_not_everybody_could_be_shown_is_refused(
    tmp_path: Path, changes: list[Any], told: str
) -> None:
    lines = refused(tmp_path, *changes)
    place = r"placements.yaml:\d+:\d+: hint.defaults: 'callback' "
    assert re.search(place + re.escape(told), lines), lines


def test_a_default_may_need_what_its_placement_needs(tmp_path: Path) -> None:
    placement = ("placements.yaml", "placements", "hint", "assurance")
    loaded = load(written(tmp_path, ((*CALLBACK, "assurance"), "ani"), (placement, "verified")))
    assert loaded.by_name["callback"].assurance == "ani"
    assert "callback" in loaded.placements["hint"].defaults


def test_what_is_about_other_actions_does_not_spoil_a_default(tmp_path: Path) -> None:
    load(
        written(
            tmp_path,
            policy("limits", LIMIT | {"issue": "grow"}),
            policy("ceilings", CEILING | {"action": "offer"}),
            (("policies.yaml", "rules"),
             {"suitability": [{"rule": NEVER, "target": {"issue": "grow"}}]}),
        )
    )  # fmt: skip


# Names that are taken, bundles, prices


def test_an_action_in_two_files_is_refused(tmp_path: Path) -> None:
    told = refused(tmp_path, ((*OFFER, "name"), "callback"))
    assert re.search(
        r"sales.yaml:\d+:\d+: actions.callback.name: is declared in catalogue/care.yaml:\d+:\d+ "
        "too; rename one", told
    )  # fmt: skip


@pytest.mark.parametrize(
    ("field", "one"),
    [
        ("limits", LIMIT | {"issue": "grow"}),
        ("suppressions", REFUSED | {"issue": "grow"}),
        ("ceilings", CEILING | {"issue": "grow"}),
        ("quiet_hours", QUIET | {"issue": "grow"}),
        ("context_weights", WEIGHT),
        ("levers", LEVER),
    ],
)
def test_a_name_that_is_declared_twice_is_refused(
    tmp_path: Path, field: str, one: dict[str, Any]
) -> None:
    told = refused(tmp_path, policy(field, one, one))
    line = rf"policies.yaml:\d+:\d+: {one['name']}: is declared twice in {field}; rename one"
    assert re.fullmatch(line, told)
    load(written(tmp_path, policy(field, one, one | {"name": "other"})))


BUNDLE = {**FILES["catalogue/sales.yaml"]["actions"][0], "name": "both", "purpose": None}


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (["offer"], "a bundle has two or more different parts; name them"),
        (["offer", "offer"], "a bundle has two or more different parts; name them"),
        (["offer", "both"], "'both' is a bundle itself; name its parts instead"),
        (["offer", "callback"], ""),
    ],
)
def test_a_bundle_consists_of_different_plain_actions(
    tmp_path: Path, parts: list[str], told: str
) -> None:
    changes: list[Change] = [
        (("vocabulary.yaml", "actions"), {"callback": 1, "offer": 2, "both": 3}),
        (("catalogue/sales.yaml", "actions"),
         [FILES["catalogue/sales.yaml"]["actions"][0], {**BUNDLE, "parts": parts}]),
    ]  # fmt: skip
    if told:
        assert f"actions.both.parts: {told}" in refused(tmp_path, *changes)
    else:
        assert load(written(tmp_path, *changes)).by_name["both"].parts == parts


def test_a_bundle_of_bundles_or_a_mandatory_one_is_refused(tmp_path: Path) -> None:
    actions = [
        FILES["catalogue/sales.yaml"]["actions"][0],
        {**BUNDLE, "parts": ["offer", "callback"], "mandatory": True},
        {**BUNDLE, "name": "all", "parts": ["both", "offer"]},
    ]
    told = refused(
        tmp_path,
        (("vocabulary.yaml", "actions"), {"callback": 1, "offer": 2, "both": 3, "all": 4}),
        (("catalogue/sales.yaml", "actions"), actions),
    )
    assert "actions.all.parts: 'both' is a bundle itself; name its parts instead" in told
    assert "actions.both.mandatory: a bundle cannot be mandatory; make its parts" in told
    assert len(told.splitlines()) == 2


PLUS = {"amount": 3, "when": "customer.plan == 'plus'"}


def test_prices_end_with_one_for_everybody(tmp_path: Path) -> None:
    told = refused(tmp_path, ((*OFFER, "prices"), [PLUS]))
    assert re.fullmatch(
        r"catalogue/sales.yaml:\d+:\d+: actions.offer.prices: whoever meets no condition has no "
        "price; end with one without `when`", told
    )  # fmt: skip
    assert load(written(tmp_path, ((*OFFER, "prices"), [PLUS, {"amount": 5}])))


def test_a_text_says_the_price_only_where_there_is_one(tmp_path: Path) -> None:
    text = ((*OFFER, "treatments", 0, "text"), "For {price}")
    told = refused(tmp_path, text)
    assert re.fullmatch(
        r"catalogue/sales.yaml:\d+:\d+: actions.offer.treatments.0.text: says {price} and has "
        "none; add prices", told
    )  # fmt: skip
    load(written(tmp_path, text, ((*OFFER, "prices"), [{"amount": 5}])))


@pytest.mark.parametrize(
    "read",
    [
        "customer.age > 50.0", "has(customer.age)", "context.wait > 1.0",
        "journey.channel_hops > 1", "intent.name == 'billing'",
        "'billing' in intent.all", "context.channel == 'web'",
        "action.value > 1.0", "journey.relationship == 'friend'",
        "customer.plan == 'plus' && customer.age > 50.0",
    ],
)  # fmt: skip
def test_a_price_depends_on_public_attributes_alone(tmp_path: Path, read: str) -> None:
    prices = [{"amount": 3, "when": read}, {"amount": 5}]
    told = refused(tmp_path, ((*OFFER, "prices"), prices))
    place = r"catalogue/sales.yaml:\d+:\d+: actions.offer.prices: "
    assert re.match(place + re.escape(f"{read}: a price may not depend on '"), told)
    assert told.endswith("use public attributes: customer.plan")
    told = refused(
        tmp_path,
        ((*OFFER, "prices"), [PLUS, {"amount": 5}]),
        (("policies.yaml", "public_attributes"), []),
    )
    assert "may not depend on 'customer.plan'" in told
    assert told.endswith("none is declared")


# Feelings


def bundled(*more: Change) -> list[Change]:
    """The offer gives a discount, and a bundle holds it."""
    actions = [
        {**FILES["catalogue/sales.yaml"]["actions"][0], "prices": [{"amount": -5}]},
        {**BUNDLE, "parts": ["offer", "callback"]},
    ]
    return [
        (("vocabulary.yaml", "actions"), {"callback": 1, "offer": 2, "both": 3}),
        (("catalogue/sales.yaml", "actions"), actions),
        *more,
    ]


GIVES: list[Change] = [((*OFFER, "prices"), [{"amount": -5}])]
HURRIES: list[Change] = [((*OFFER, "queue_priority"), True)]
ASKS: list[Change] = [((*OFFER, "prices"), [{"amount": 5}])]


@pytest.mark.parametrize("feeling", ["relationship", "sentiment_trend"])
@pytest.mark.parametrize(
    ("changes", "weight", "target", "told"),
    [
        (GIVES, 0.5, {"action": "offer"}, "weighs 'offer', which gives a discount, by how"),
        (GIVES, 2.0, {"issue": "grow"}, "weighs 'offer', which gives a discount, by how"),
        (HURRIES, 0.5, {}, "weighs 'offer', which gives a place in the queue, by how"),
        (ASKS, 1.5, {"group": "sales"}, "weighs 'offer', which gives a price, by how"),
        (ASKS, 0.5, {"group": "sales"}, ""),
        (GIVES, 2.0, {"group": "care"}, ""),
        (bundled(), 0.5, {"action": "both"}, "weighs 'both', which gives a discount, by how"),
    ],
)
def test_feelings_do_not_weigh_on_a_price_or_a_place_in_a_queue(
    tmp_path: Path, changes: list[Change], weight: float, target: Any, told: str, feeling: str
) -> None:
    one = WEIGHT | {"when": {"fact": feeling}, "weight": weight, "target": target}
    changes = [*changes, policy("context_weights", one)]
    if not told:
        load(written(tmp_path, *changes))
        return
    complaint = refused(tmp_path, *changes)
    assert re.search(rf"policies.yaml:\d+:\d+: w: {told} the customer feels; leave it", complaint)
    one["when"] = {"fact": "repeat_contact"}
    load(written(tmp_path, *changes[:-1], policy("context_weights", one)))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([*GIVES, ((*OFFER, "eligibility"), [FEELS])],
         "actions.offer: eligibility rule 'calm' reads 'journey.relationship'"),
        ([*HURRIES, ((*OFFER, "suitability"),
                     [FEELS | {"when": "journey.sentiment_trend > -0.5"}])],
         "actions.offer: suitability rule 'calm' reads 'journey.sentiment_trend'"),
        ([*GIVES, ((*OFFER, "suitability"), [FEELS | {"when": "!has(journey.relationship)"}])],
         "actions.offer: suitability rule 'calm' reads 'journey.relationship'"),
        ([*GIVES, (("policies.yaml", "rules"),
                   {"applicability": [{"rule": FEELS, "target": {"issue": "grow"}}]})],
         "actions.offer: applicability rule 'calm' reads 'journey.relationship'"),
        (bundled((("policies.yaml", "rules"),
                  {"applicability": [{"rule": FEELS, "target": {"action": "both"}}]})),
         "actions.both: applicability rule 'calm' reads 'journey.relationship'"),
        ([*ASKS, ((*OFFER, "suitability"), [FEELS])], ""),
        ([((*OFFER, "suitability"), [FEELS])], ""),
        ([*GIVES, ((*OFFER, "suitability"), [NEVER])], ""),
    ],
)  # fmt: skip
def test_feelings_do_not_decide_over_a_discount_or_a_place_in_a_queue(
    tmp_path: Path, changes: list[Change], told: str
) -> None:
    if told:
        complaint = refused(tmp_path, *changes)
        assert re.match(rf"catalogue/sales.yaml:\d+:\d+: {told}: how the customer feels", complaint)
    else:
        load(written(tmp_path, *changes))


# Where


def test_a_mistake_is_told_at_its_line_and_column(tmp_path: Path) -> None:
    written(tmp_path)
    sales = tmp_path / "catalogue/sales.yaml"
    sales.write_text(
        "actions:\n"
        "  - {name: offer, title: Offer, issue: grow, group: sales, value: 9,\n"
        "     treatments: [{name: say, placements: [hint, hnt]}],\n"
        "     eligibility:\n"
        "       [{name: adult, reason: no child,\n"
        "         when: customer.aeg >= 18.0}]}\n"
    )
    policies = tmp_path / "policies.yaml"
    policies.write_text(
        "goals: {value: {worth: 1}}\n"
        "limits:\n"
        "  - {name: a, at_most: 1, within: 1d, issue: grow}\n"
        "  - name: b\n"
        "    at_most: 1\n"
        "    within: 1d\n"
        "    action: ofer\n"
    )
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path)
    assert str(error.value).splitlines() == [
        f"{sales}:3:31: actions.offer.treatments.0.placements: 'hnt' is not declared; did you mean "
        "'hint'?",
        f"{policies}:4:5: b.action: 'ofer' is not declared; did you mean 'offer'?",
        f"{sales}:6:10: actions.offer.eligibility.adult: customer.aeg >= 18.0 (column 9): "
        "customer.aeg is not known; did you mean 'customer.age'?",
    ]
