from __future__ import annotations

from service.declared import Target
from service.factors import Factors
from tests.business import action
from tests.service.test_arbitration import SURE, texts, weight


def test_reasons_come_strongest_first() -> None:
    weights = [weight(2.0, Target()), weight(4.0, Target()), weight(3.0, Target())]
    assert texts(action(prior=0.5), context_weights=weights) == [
        "CONTEXT_WEIGHT: because of 4",
        "CONTEXT_WEIGHT: because of 3",
        "CONTEXT_WEIGHT: because of 2",
        "VALUE: Worth 10.00 when accepted",
    ]


def test_being_likelier_than_usual_is_a_reason() -> None:
    one = action(prior=0.1)
    assert texts(one, Factors(0.5, 10.0, 1.0, 1.0, 5.0)) == [
        "LIKELY_ACCEPTED: 5.0 times as likely to be accepted as usual (50%)",
        "VALUE: Worth 10.00 when accepted",
    ]
    assert texts(one, Factors(0.12, 10.0, 1.0, 1.0, 5.0))[0].startswith("LIKELY_ACCEPTED: 1.2")
    assert texts(one, Factors(0.119, 10.0, 1.0, 1.0, 5.0)) == ["VALUE: Worth 10.00 when accepted"]
    never = texts(action(prior=0.0), Factors(0.5, 10.0, 1.0, 1.0, 5.0))
    assert never == ["VALUE: Worth 10.00 when accepted"]


def test_what_is_ranked_by_uplift_says_what_it_brings() -> None:
    factors = Factors(0.1, 10.0, 1.0, 1.0, 5.0, uplift=SURE)
    assert texts(action(), factors) == [
        "UPLIFT: Brings 3.00 more than doing nothing (1.00 to 5.00)"
    ]


def test_what_must_be_shown_says_so_first() -> None:
    told = texts(action(mandatory=True), context_weights=[weight(9.0, Target())])
    assert told[0] == "MANDATORY: It must be shown whenever it qualifies"
