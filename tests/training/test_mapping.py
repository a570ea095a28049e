from __future__ import annotations

from pathlib import Path

import pytest

from features.definitions import Last
from features.plan import Plan
from service import config
from service.business import load
from service.declared import OUTCOME_TYPE
from service.errors import ConfigurationError
from training.mapper import Mapped, Mapper
from training.mapping import Mapping


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "source: x\nevent: {customer_id: '{a', occurred_at: b, type: c}",
            r"m.yaml:2:9: event.cus",
        ),
        (
            "source: x\nevent: {customer_id: '{a:big}', occurred_at: b, type: c}",
            "nothing or :whole",
        ),
        ("source: x\nevent: {customer_id: '{#a}', occurred_at: b, type: c}", "#row_in_customer"),
        ("source: ''\nevent: {customer_id: a, occurred_at: b, type: c}", r"m.yaml:1:1: source"),
        ("time: {format: julian}", r"m.yaml:1:8: time.format"),
        ("time: {zone: Europe/Nowhere}", r"m.yaml:1:8: time.zone"),
        (
            "source: x\nevent: {customer_id: a, occurred_at: b, type: c}\n"
            "rename: {type: {'/(/': x}}",
            "write a regular expression",
        ),
        (
            "source: x\nevent: {customer_id: a, occurred_at: b, type: c}\n"
            r"rename: {type: {'/a/': '\1'}}",
            "write a regular expression",
        ),
        (
            "source: x\nevent: {customer_id: a, occurred_at: b, type: c}\nrename: {value: {}}",
            "'value' has no table",
        ),
    ],
)
def test_a_mistake_in_the_file_names_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        config.parse(text, Mapping, Path("m.yaml"))


EXAMPLE = Path("config/examples/bpi2012")
BANK = load(EXAMPLE)


def test_the_example_of_a_bank_maps_the_log_and_its_split_alike() -> None:
    mapping = config.load(EXAMPLE / "mapping.yaml", Mapping)
    header = ("case_id", "amount_req", "activity", "lifecycle", "timestamp", "resource")
    moment = "2011-10-01T00:38:44.546+02:00"
    log, split = (Mapper(mapping, BANK.vocabulary, header) for _ in range(2))
    names = [name for name in BANK.vocabulary.types if name != OUTCOME_TYPE]
    assert len(names) == 36
    for name in names:
        activity, lifecycle = name.split("+")
        one = log(2, 1, ("1", "5", activity, lifecycle, moment, ""))
        assert isinstance(one, Mapped)
        assert one.event.type == name
        assert one == split(2, 1, ("1", "5", name, lifecycle, moment, "nan"))


def test_the_example_of_a_bank_looks_at_whole_chains() -> None:
    types = [name for name in BANK.vocabulary.types if name != OUTCOME_TYPE]
    where = {
        feature.name: feature.where.type
        for feature in BANK.definitions.features
        if isinstance(feature, Last)
    }
    starting = {start: [name for name in types if name.startswith(start)] for start in "AOW"}
    assert where["last_application_type"] == starting["A"]
    assert where["last_offer_type"] == starting["O"]
    assert where["last_work_type"] == where["last_but_one_work_type"] == starting["W"]
    assert where["last_application_or_offer_type"] == starting["A"] + starting["O"]
    assert where["last_scheduled_type"] == [name for name in types if name.endswith("+SCHEDULE")]


def test_the_example_of_a_bank_shows_each_model_its_own_features() -> None:
    plan = Plan(BANK.definitions, BANK.vocabulary)
    intent, acceptance = (set(plan.definitions.chosen(model)) for model in ("intent", "acceptance"))
    since = {name for name in plan.names if name.startswith("since_")}
    assert len(since) == 6
    assert intent == {*plan.names} - since
    shared = {"amount_req", "application_age", "events", "minute_of_day"}
    assert acceptance == since | shared
