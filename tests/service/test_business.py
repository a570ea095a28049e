from __future__ import annotations

import datetime
import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.duration import DAY, HOUR
from features.plan import Plan
from features.profile import Consent, Profile, Told
from features.record import EMPTY, Records
from features.vocabulary import Outcome
from service import config
from service.arbitration import Arbiter, Scores
from service.business import Business, complete, conditions, load, published
from service.catalogue import Action, Price
from service.circumstances import Circumstances
from service.declared import (
    Goal,
    Limit,
    QuietHours,
    Release,
    StageRule,
    StageRules,
    Suppression,
    Target,
)
from service.errors import ConfigurationError
from service.policies import Policies
from service.situation import Situation
from tests.business import ACTIONS, CALLBACK, FILES, OFFER, action, business, rule, written
from tests.chain import NOW, Event, chained, unique

ROOT = Path(__file__).parents[2]


# Reading a folder


def test_the_configuration_of_these_tests_loads(tmp_path: Path) -> None:
    loaded = load(written(tmp_path))
    assert list(loaded.by_name) == ["callback", "offer"]
    assert loaded.rows == {"callback": 0, "offer": 1}
    assert loaded.ledger_window_ms == DAY
    assert loaded.release == Release()


@pytest.mark.parametrize("folder", ["config", "config/examples/bpi2012"])
def test_the_configurations_that_we_ship_load_and_compile(folder: str) -> None:
    loaded = load(ROOT / folder)
    assert Plan(loaded.definitions, loaded.vocabulary).names
    assert loaded.placements
    assert set(loaded.checked) == set(conditions(loaded))


def test_who_answers_for_it_is_read_where_it_is_written(tmp_path: Path) -> None:
    plain = load(written(tmp_path))
    (tmp_path / "release.yaml").write_text("name: spring\nauthor: Ada\napprover: Grace\n")
    released = load(tmp_path)
    assert released.release == Release("spring", "Ada", "Grace")
    assert released.digest != plain.digest


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


def test_a_folder_that_is_not_there_or_holds_no_actions_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none: no such folder; name another with --conf"):
        load(tmp_path / "none")
    with pytest.raises(ConfigurationError, match=r"no \*.yaml there; write one with actions"):
        load(tmp_path)


@pytest.mark.parametrize(
    "file", ["vocabulary.yaml", "features.yaml", "placements.yaml", "policies.yaml"]
)
def test_a_file_that_is_missing_is_told(tmp_path: Path, file: str) -> None:
    (written(tmp_path) / file).unlink()
    with pytest.raises(ConfigurationError, match=rf"{file}: No such file.*create it"):
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
        (("policies.yaml", "ceilings"), [{"name": "c", "each": "day"}]),
        (("policies.yaml", "control"), {"random": 0.6, "hold_out": 0.6}),
        (("policies.yaml", "levers"), [{"name": "l", "target": {}, "factor": 0}]),
        (("policies.yaml", "quiet_hours"),
         [{"name": "q", "from": "22:00", "until": "08:00:00", "channels": ["phone"]}]),
    ],
)  # fmt: skip
def test_a_number_or_word_out_of_range_is_refused_with_its_line(
    tmp_path: Path, path: tuple[str | int, ...], value: Any
) -> None:
    with pytest.raises(ConfigurationError, match=rf"{path[0]}:\d+:\d+: "):
        load(written(tmp_path, (path, value)))


def test_quiet_hours_need_no_quotes(tmp_path: Path) -> None:
    with (written(tmp_path) / "policies.yaml").open("a") as file:
        file.write(
            "quiet_hours:\n"
            "- {name: night, from: 22:00:00, until: 07:30:00, channels: [web], issue: grow}\n"
        )
    assert load(tmp_path).policies.quiet_hours == [
        QuietHours("night", datetime.time(22), datetime.time(7, 30), ["web"], issue="grow")
    ]


def test_features_that_name_what_is_not_declared_are_told(tmp_path: Path) -> None:
    features = [{"op": "count", "name": "n", "where": {"channel": "fone"}}]
    with pytest.raises(ConfigurationError, match=r"features.yaml: .*fone"):
        load(written(tmp_path, (("features.yaml", "features"), features)))


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    changes = [
        ((*OFFER, "group"), "x"),
        ((*CALLBACK, "group"), "y"),
        (("policies.yaml", "levers"), [{"name": "v", "target": {"action": "z"}, "factor": 2}]),
        ((*OFFER, "eligibility"), [{"name": "r", "when": "customer.agee > 1.0", "reason": "r"},
                                   {"name": "s", "when": "customer.age", "reason": "r"}]),
    ]  # fmt: skip
    with pytest.raises(ConfigurationError) as refused:
        load(written(tmp_path, *changes))
    lines = str(refused.value).splitlines()
    assert len(lines) == 5
    assert all(re.match(rf"{tmp_path}/[a-z/]+\.yaml:\d+:\d+: ", line) for line in lines), lines


# Conditions


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ("customer.agee > 18.0", "customer.agee is not known; did you mean 'customer.age'?"),
        ("wait > 1.0", "wait is not known; did you mean 'context.wait'?"),
        ("customer.age > 'x'", "does not take number and text; write a number without quotes"),
        ("customer.age > 18", "does not take number and count; write a number with its point"),
        ("customer.age", "is a number; a rule must be true or false"),
        ("customer.age >", "cannot be read"),
    ],
)
@pytest.mark.parametrize("place", ["eligibility", "applicability", "suitability", "prices", ""])
def test_a_condition_that_does_not_type_check_is_told_with_its_place(
    tmp_path: Path, when: str, told: str, place: str
) -> None:
    one = {"name": "r", "when": when, "reason": "r"}
    if place == "prices":
        change: Any = ((*OFFER, "prices"), [{"amount": 1, "when": when}, {"amount": 2}])
        where = r"catalogue/sales.yaml:\d+:\d+: actions.offer.prices\[0\]: "
    elif place:
        change = ((*OFFER, place), [one])
        where = rf"catalogue/sales.yaml:\d+:\d+: actions.offer.{place}.r: "
    else:
        staged = {"eligibility": [{"rule": one, "target": {"action": "offer"}}]}
        change = (("policies.yaml", "rules"), staged)
        where = r"policies.yaml:\d+:\d+: rules.eligibility.r: "
    with pytest.raises(ConfigurationError) as refused:
        load(written(tmp_path, change))
    message = str(refused.value).removeprefix(f"{tmp_path}/")
    assert re.match(where + re.escape(when), message), message
    assert told in message


def test_every_condition_is_found_in_the_order_of_actions_then_policies() -> None:
    texts = [f"customer.age > {n}.0" for n in range(9)]
    found = business(
        [
            action(
                "discount",
                eligibility=[rule(texts[0])],
                applicability=[rule(texts[1])],
                suitability=[rule(texts[2])],
                prices=[Price(1, when=texts[3]), Price(2)],
            ),
            action("tablet", suitability=[rule(texts[4]), rule(texts[5])]),
        ],
        rules=StageRules(
            eligibility=[StageRule(rule(texts[6]))],
            applicability=[StageRule(rule(texts[7]))],
            suitability=[StageRule(rule(texts[8]))],
        ),
    )
    assert conditions(found) == texts
    assert list(found.checked) == texts


def test_a_business_without_conditions_needs_no_check() -> None:
    plain = business()
    assert complete(plain) is plain
    assert plain.checked == {}


def test_a_name_that_no_condition_could_write_is_told_once_there_is_a_condition() -> None:
    words = msgspec.structs.replace(
        business().vocabulary,
        attributes={"age-band": business().vocabulary.attributes["age"]},
    )
    assert Policies(business(vocabulary=words)).conditions.evaluate({}) == ()
    with pytest.raises(ConfigurationError, match=r"vocabulary.yaml: customer.age-band: .*letters"):
        business([action(eligibility=[rule("context.wait > 1.0")])], vocabulary=words)


# Digest


def test_the_digest_changes_with_anything_that_a_decision_depends_on() -> None:
    base = business()
    goals = {"a": Goal(1), "b": Goal(1)}
    others = [
        business([action("discount")]),
        business([*base.actions[:-1], action("insurance", value=21.0)]),
        business(base.actions[::-1]),
        business(limits=[Limit("l", 1, "1d")]),
        business(goals=goals),
        business(goals=dict(reversed(goals.items()))),
        business(time_zone="Asia/Tokyo"),
        business(placements={}),
        msgspec.structs.replace(base, release=Release("spring")),
        msgspec.structs.replace(
            base, vocabulary=msgspec.structs.replace(base.vocabulary, purposes=[])
        ),
    ]
    assert len({base.digest, *(one.digest for one in others)}) == 1 + len(others)
    assert business().digest == base.digest
    assert re.fullmatch("[0-9a-f]{16}", base.digest)


# Published


RICH = business(
    [
        action(
            "discount", issue="grow", group="sales", purpose="marketing", goals={"a": 7.0},
            eligibility=[rule("customer.age >= 18.0", "adult")],
            prices=[Price(5.0, when="customer.member"), Price(9.0, "Others", per="month")],
        ),
        *ACTIONS[1:],
    ],
    goals={"z": Goal(1.0), "a": Goal(3.0)},
    limits=[Limit("l", 1, "7d", issue="grow")],
    suppressions=[Suppression("s", "rejected", 2, "3d", "30d", per="group")],
    quiet_hours=[QuietHours("q", datetime.time(8), datetime.time(9), ["phone"], ["inbound"])],
    rules=StageRules(suitability=[
        StageRule(rule("action.value < 30.0 || customer.age > 30.0"), Target(group="sales"))
    ]),
    public_attributes=["member"],
)  # fmt: skip


def decided(one: Business, age: float | None, ledger: Records = EMPTY, now: int = NOW) -> Any:
    """All that the filters and the ranking say, without the words."""
    policies = Policies(one)
    profile = Profile(
        {} if age is None else {"age": Told(age, 0), "member": Told(age > 40, 0)},
        [Consent("marketing", "", True, 0)],
    )
    attributes = {name: told.value for name, told in profile.attributes.items()}
    values: Any = {"customer": attributes, "context": {}, "journey": {}, "intent": {}}
    results = policies.conditions.evaluate(values)
    at = Circumstances("phone", 1, 3, now, profile, ledger, results)
    ranked = Arbiter(one).rank(
        (1 << len(one.actions)) - 1, Scores(), Situation("phone", {}, {}, now)
    )
    prices = [policies.conditions.price(row, results) for row in range(len(one.actions))]
    return policies.filtered(at).causes, prices, ranked.rows.tolist(), ranked.priority.tolist()


LEDGERS = st.lists(
    st.builds(
        lambda age, name, outcome: Event(NOW - age, "outcome", 1, action=name, outcome=outcome),
        st.integers(0, 40 * DAY),
        st.sampled_from(["discount", "tablet", "callback"]),
        st.sampled_from([Outcome.presented, Outcome.rejected]),
    ),
    max_size=8,
).map(unique)


@given(
    st.sampled_from([None, 17.0, 18.0, 31.0, 50.0]), LEDGERS, st.integers(0, 48).map(HOUR.__mul__)
)
def test_what_is_published_decides_as_what_was_read(
    age: float | None, ledger: list[Event], later: int
) -> None:
    again = published(RICH.written())
    assert again == RICH
    assert again.digest == RICH.digest
    assert again.written() == RICH.written()
    events, now = chained(ledger), NOW + later
    assert decided(again, age, events, now) == decided(RICH, age, events, now)


@pytest.mark.parametrize("folder", ["config", "config/examples/bpi2012"])
def test_what_we_ship_is_published_and_read_where_it_lies(tmp_path: Path, folder: str) -> None:
    shipped = load(ROOT / folder)
    file = tmp_path / "published.json"
    file.write_bytes(shipped.written())
    again = load(file)
    assert again == shipped
    assert again.digest == shipped.digest
    assert again.written() == shipped.written()
    assert list(again.policies.goals) == list(shipped.policies.goals)


@pytest.mark.parametrize("bad", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"vocabulary": 1}'])
def test_what_is_no_published_file_is_refused(tmp_path: Path, bad: bytes) -> None:
    (tmp_path / "file").write_bytes(bad)
    with pytest.raises(ConfigurationError, match=r"no published configuration: .*publish it again"):
        load(tmp_path / "file")


def test_a_mistake_in_a_published_file_is_told_with_its_place() -> None:
    written = msgspec.json.decode(RICH.written())
    written["actions"][1]["value"] = "dear"
    with pytest.raises(ConfigurationError, match=r"\$\.actions\[1\]\.value"):
        published(msgspec.json.encode(written))


def test_a_published_file_is_served_without_the_compiler_of_conditions(tmp_path: Path) -> None:
    file = tmp_path / "published.json"
    file.write_bytes(RICH.written())
    script = """
import sys
from pathlib import Path
sys.modules["cel_expr_python"] = None
from service.business import load
from service.policies import Policies
business = load(Path(sys.argv[1]))
empty = {"context": {}, "journey": {}, "intent": {}}
policies = Policies(business)
results = policies.conditions.evaluate({**empty, "customer": {"age": 50.0, "member": True}})
print(business.digest, list(results), policies.conditions.price(0, results).amount)
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=False,
        cwd=ROOT,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split(" ", 1) == [RICH.digest, "[True, True, True, True] 5.0\n"]


# What the ledger keeps


def newest(records: Records, keep: int) -> Records:
    """Of every action, outcome and channel only the newest."""
    kept, seen = [], dict[Any, int]()
    for n in reversed(range(len(records))):
        kind = tuple(records[n][["action", "outcome", "channel"]].tolist())
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] <= keep:
            kept.append(n)
    return records[kept[::-1]]


COUNTED = st.sampled_from(["presented", "rejected"])
PER = st.sampled_from(["action", "group", "issue", "channel", "customer"])
SPAN = st.sampled_from(["1h", "5h", "1d", "30h", "3d"])


@given(
    st.lists(
        st.builds(
            lambda at_most, within, outcome, per: Limit("l", at_most, within, outcome, per=per),
            st.integers(0, 3), SPAN, COUNTED, PER,
        ), max_size=2,
    ),
    st.lists(
        st.builds(
            lambda outcome, after, within, lasts, per: Suppression(
                "s", outcome, after, within, lasts, per=per
            ),
            COUNTED, st.integers(1, 3), SPAN, SPAN, PER,
        ), max_size=2,
    ),
    st.lists(
        st.tuples(
            st.integers(0, 140), st.sampled_from(["discount", "tablet"]),
            st.sampled_from([2, 5]), st.sampled_from([1, 3]),
        ), max_size=60,
    ),
)  # fmt: skip
def test_no_count_can_do_without_what_is_kept_and_all_can_with_it(
    limits: list[Limit], suppressions: list[Suppression], happened: list[Any]
) -> None:
    one = business(limits=limits, suppressions=suppressions)
    ledger = chained(
        unique(
            [Event(NOW - hours * HOUR, "outcome", channel, action=name, outcome=outcome)
             for hours, name, outcome, channel in happened]
        )
    )  # fmt: skip
    kept = newest(ledger, one.ledger_keep)
    since = kept["occurred_at"] >= NOW - one.ledger_window_ms
    policies = Policies(one)

    def dropped(records: Records) -> list[Any]:
        results = policies.conditions.evaluate({})
        at = Circumstances("phone", 1, 3, NOW, Profile({}, []), records, results)
        return [(cause.name, cause.code, cause.actions) for cause in policies.filtered(at).causes]

    assert dropped(kept[since]) == dropped(ledger)


@pytest.mark.parametrize(
    ("limits", "suppressions", "keep"),
    [
        ([], [], 1),
        ([("l", 3)], [], 4),
        ([("l", 3), ("m", 0)], [], 4),
        ([], [("1d", "1d")], 4 + 3),
        ([], [("2d", "3d")], 6 + 3),
        ([("l", 20)], [("2d", "3d")], 21),
    ],
)
def test_the_ledger_keeps_as_many_as_the_largest_count_needs(
    limits: list[tuple[str, int]], suppressions: list[tuple[str, str]], keep: int
) -> None:
    found = business(
        limits=[Limit(name, most, "1d") for name, most in limits],
        suppressions=[Suppression("s", "rejected", 3, *spans) for spans in suppressions],
    )
    assert found.ledger_keep == keep


def test_rows_and_names_follow_the_catalogue() -> None:
    found = business(ACTIONS[::-1])
    for (name, row), one in itertools.zip_longest(found.rows.items(), found.actions):
        assert one.name == name
        assert found.actions[row] is found.by_name[name]
