from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from features import journey
from features.duration import DAY
from features.plan import Plan
from features.record import EMPTY
from service import config, facts
from service.business import load
from service.catalogue import Action, Treatment, Validity, treatment
from service.declared import Limit, Target
from service.errors import ConfigurationError
from tests.business import action, business
from tests.chain import VOCABULARY

ROOT = Path(__file__).parents[2]

FILES: dict[str, Any] = {
    "vocabulary.yaml": {
        "channels": {"phone": 1, "web": 2},
        "types": {"outcome": {"code": 1}},
        "intents": {"billing": {"code": 1, "title": "The bill"}},
        "actions": {"callback": 1, "offer": 2},
        "groups": {"care": 1, "sales": 2},
        "purposes": ["marketing"],
    },
    "features.yaml": {"features": [{"op": "count", "name": "events"}]},
    "placements.yaml": {"placements": {"hint": {"channels": ["phone"], "defaults": ["callback"]}}},
    "policies.yaml": {},
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
LIMIT = {"name": "l", "at_most": 1, "within": "1d"}
OFFER = ("catalogue/sales.yaml", "actions", 0)
CALLBACK = ("catalogue/care.yaml", "actions", 0)


def written(folder: Path, *changes: tuple[tuple[str | int, ...], Any]) -> Path:
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


def test_the_configuration_of_these_tests_loads(tmp_path: Path) -> None:
    loaded = load(written(tmp_path))
    assert list(loaded.by_name) == ["callback", "offer"]
    assert loaded.ledger_window_ms == DAY


@pytest.mark.parametrize("folder", ["config", "config/examples/bpi2012"])
def test_the_configurations_that_we_ship_load_and_compile(folder: str) -> None:
    loaded = load(ROOT / folder)
    assert Plan(loaded.definitions, loaded.vocabulary).names
    assert loaded.placements


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ((*OFFER, "name"), "offr",
         "catalogue/sales.yaml: actions.offr: name: 'offr' is not declared; did you mean 'offer'?"),
        ((*OFFER, "group"), "sale", "actions.offer.group: 'sale' is not declared; did you mean 's"),
        ((*OFFER, "group"), "qqq", "actions.offer.group: 'qqq' is not declared; declare it first"),
        ((*OFFER, "purpose"), "marketin", "actions.offer.purpose: 'marketin' is not declared"),
        ((*OFFER, "intents"), ["biling"], "actions.offer.intents: 'biling' is not declared; did"),
        ((*OFFER, "treatments", 0, "placements"), ["hnt"],
         "actions.offer.treatments.say.placements: 'hnt' is not declared; did you mean 'hint'?"),
        ((*OFFER, "treatments", 0, "channels"), ["fone"],
         "actions.offer.treatments.say.channels: 'fone' is not declared; did you mean 'phone'?"),
        (("placements.yaml", "placements", "hint", "channels"), ["phones"],
         "placements.yaml: hint.channels: 'phones' is not declared; did you mean 'phone'?"),
        (("placements.yaml", "placements", "hint", "defaults"), ["calback"],
         "placements.yaml: hint.defaults: 'calback' is not declared; did you mean 'callback'?"),
        (("policies.yaml", "limits"), [LIMIT | {"action": "ofer"}],
         "policies.yaml: l.action: 'ofer' is not declared; did you mean 'offer'?"),
        (("policies.yaml", "limits"), [LIMIT | {"group": "sal", "issue": "grow"}],
         "policies.yaml: l.group: 'sal' is not declared; did you mean 'sales'?"),
        (("policies.yaml", "limits"), [LIMIT | {"issue": "grow", "channel": "wbe"}],
         "policies.yaml: l.channel: 'wbe' is not declared; did you mean 'web'?"),
        (("policies.yaml", "context_weights"),
         [{"name": "w", "when": {"intent": "billng"}, "target": {}, "weight": 1, "reason": "r"}],
         "policies.yaml: w.when.intent: 'billng' is not declared; did you mean 'billing'?"),
        (("policies.yaml", "context_weights"),
         [{"name": "w", "when": {"fact": "channel_hop"}, "target": {}, "weight": 1, "reason": "r"}],
         "policies.yaml: w.when.fact: 'channel_hop' is not declared; did you mean 'channel_hops'?"),
        (("policies.yaml", "context_weights"),
         [{"name": "w", "when": {"channel": "x"}, "target": {}, "weight": 1, "reason": "r"}],
         "policies.yaml: w.when.channel: 'x' is not declared"),
        (("policies.yaml", "levers"), [{"name": "v", "target": {"action": "oferr"}, "factor": 2}],
         "policies.yaml: v.action: 'oferr' is not declared; did you mean 'offer'?"),
        (("vocabulary.yaml", "types"), {"x": {"code": 1}},
         "vocabulary.yaml: types: 'outcome' is not declared"),
    ],
)  # fmt: skip
def test_an_unknown_name_is_told_with_its_place_and_the_nearest_name(
    tmp_path: Path, path: tuple[str | int, ...], value: Any, told: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(written(tmp_path, (path, value)))
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([((*CALLBACK, "purpose"), "marketing")], "'callback' needs consent for 'marketing'"),
        ([((*CALLBACK, "assurance"), "ani")], "'callback' needs a caller who is ani"),
        ([((*CALLBACK, "prior"), 0.0)], "'callback' has no priority"),
        ([((*CALLBACK, "valid"), {"until": "2030-01-01"})], "'callback' is not valid for ever"),
        ([(("policies.yaml", "limits"), [{"name": "l", "at_most": 1, "within": "1d"}])],
         "'callback' has a contact limit"),
        ([(("placements.yaml", "placements", "hint", "channels"), ["phone", "web"]),
          ((*CALLBACK, "treatments", 0, "channels"), ["phone"])],
         "'callback' has no treatment on 'web'"),
    ],
)  # fmt: skip
def test_a_default_that_not_everybody_could_be_shown_is_refused(
    tmp_path: Path, changes: list[Any], told: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(written(tmp_path, *changes))
    assert f"placements.yaml: hint.defaults: {told}" in str(refused.value)


def test_a_default_may_need_what_its_placement_needs(tmp_path: Path) -> None:
    placement = ("placements.yaml", "placements", "hint", "assurance")
    loaded = load(written(tmp_path, ((*CALLBACK, "assurance"), "ani"), (placement, "verified")))
    assert loaded.by_name["callback"].assurance == "ani"
    assert "callback" in loaded.placements["hint"].defaults


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    changes = [((*OFFER, "group"), "x"), ((*CALLBACK, "group"), "y")]
    with pytest.raises(ConfigurationError) as refused:
        load(written(tmp_path, *changes))
    assert len(str(refused.value).splitlines()) == 2


def test_an_action_in_two_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"actions.callback: is declared in .*care.yaml"):
        load(written(tmp_path, ((*OFFER, "name"), "callback")))


def test_a_folder_without_actions_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no \*.yaml there"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((*OFFER, "value"), -1),
        ((*OFFER, "prior"), 1.5),
        ((*OFFER, "treatments"), []),
        ((*OFFER, "issue"), "sell"),
        ((*OFFER, "valid"), {"from": "2026-02-01", "until": "2026-01-01"}),
        (("placements.yaml", "placements", "hint", "max_actions"), 0),
        (("policies.yaml", "limits"), [{"name": "l", "at_most": -1, "within": "1d"}]),
        (("policies.yaml", "limits"), [{"name": "l", "at_most": 1, "within": "often"}]),
        (("policies.yaml", "levers"), [{"name": "l", "target": {}, "factor": 0}]),
    ],
)
def test_a_number_or_word_out_of_range_is_refused_with_its_line(
    tmp_path: Path, path: tuple[str | int, ...], value: Any
) -> None:
    with pytest.raises(ConfigurationError, match=rf"{path[0]}:\d+:\d+: "):
        load(written(tmp_path, (path, value)))


def test_validity_holds_its_first_and_last_day_in_whole() -> None:
    first, last = Validity(datetime.date(2026, 1, 1), datetime.date(2026, 1, 1)).milliseconds
    assert first == 1_767_225_600_000
    assert last == first + DAY - 1
    assert Validity().milliseconds == (0, 2**62)


def test_the_digest_changes_with_anything_that_a_decision_depends_on() -> None:
    base = business()
    others = [
        business([action("discount")]),
        business([*base.actions[:-1], action("insurance", value=21.0)]),
        business(base.actions[::-1]),
        business(limits=[Limit("l", 1, "1d")]),
        msgspec.structs.replace(base, placements={}),
        msgspec.structs.replace(
            base, definitions=msgspec.structs.replace(base.definitions, time_zone="Asia/Tokyo")
        ),
        msgspec.structs.replace(
            base, vocabulary=msgspec.structs.replace(base.vocabulary, purposes=[])
        ),
    ]
    assert len({base.digest, *(one.digest for one in others)}) == 1 + len(others)
    assert business().digest == base.digest


def test_the_ledger_keeps_what_the_longest_limit_counts() -> None:
    limits = [Limit("a", 1, "7d"), Limit("b", 1, "90d"), Limit("c", 1, "1h")]
    assert business(limits=limits).ledger_window_ms == 90 * DAY
    assert business(limits=limits[2:]).ledger_window_ms == DAY


def test_the_treatment_of_the_language_is_chosen_where_there_is_one() -> None:
    spoken = action(
        treatments=[
            Treatment("banner", ["banner"], ["web"]),
            Treatment("english", ["hint"], ["phone"]),
            Treatment("dutch", ["hint"], ["phone"], locale="nl-NL"),
        ]
    )

    def name(*where: str) -> str | None:
        found = treatment(spoken, *where)
        return None if found is None else found.name

    assert name("hint", "phone") == "english"
    assert name("hint", "phone", "nl-NL") == "dutch"
    assert name("hint", "phone", "fr-FR") == "english"
    assert name("hint", "chat") is None
    assert name("banner", "web", "nl-NL") == "banner"
    assert name("else", "web") is None


@pytest.mark.parametrize(
    ("target", "covers"),
    [
        (Target(), True),
        (Target(action="discount"), True),
        (Target(action="tablet"), False),
        (Target(issue="grow", group="sales"), True),
        (Target(issue="grow", group="care"), False),
        (Target(issue="retain"), False),
    ],
)
def test_a_target_covers_what_matches_all_that_it_says(target: Target, covers: bool) -> None:
    discount = action("discount", issue="grow", group="sales")
    assert target.covers(discount) is covers
    limit = Limit("l", 1, "1d", action=target.action, group=target.group, issue=target.issue)
    assert covered(limit, discount) is covers


def test_the_facts_that_weights_may_name_are_those_that_are_computed() -> None:
    lens = journey.Lens.of(VOCABULARY, business().definitions.journey)
    assert set(facts.magnitudes(journey.read(EMPTY, 0, lens))) == set(FACTS)


def test_a_catalogue_file_may_hold_several_actions_in_any_order(tmp_path: Path) -> None:
    actions = [
        FILES["catalogue/sales.yaml"]["actions"][0],
        *FILES["catalogue/care.yaml"]["actions"],
    ]
    loaded = load(
        written(
            tmp_path,
            (("catalogue/care.yaml", "actions"), []),
            (("catalogue/sales.yaml", "actions"), actions),
        )
    )
    assert [one.name for one in loaded.actions] == ["offer", "callback"]
    assert config.load(tmp_path / "placements.yaml", dict)
    assert isinstance(loaded.actions[0], Action)
