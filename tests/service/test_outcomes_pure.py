from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from google.protobuf import timestamp_pb2

from features import record
from features.duration import DAY, SECOND
from features.record import RECORD
from features.vocabulary import Outcome
from rapport.v1 import decision_pb2, event_pb2, log_pb2
from service import outcomes, store
from service.callers import Caller
from service.checks import Checks
from service.errors import InvalidRequest
from service.intake import Taken
from service.journal import Summary
from tests.chain import NOW, VOCABULARY

DESK = Caller("desk", frozenset({"record"}))
COUNTED = frozenset({int(Outcome.presented)})
CATALOGUE = {"discount": 1, "callback": 1, "tablet": 1}
DECISION = f"07{NOW - 5_000:011x}0a0b00000001"
SUMMARY = Summary("ann", "phone", "call-1", ["discount", "callback"])


def stamp(ms: int) -> timestamp_pb2.Timestamp:
    return timestamp_pb2.Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


def asked(**fields: Any) -> decision_pb2.RecordOutcomeRequest:
    known = {"decision_id": DECISION, "action": "discount", "outcome": 2, **fields}
    return decision_pb2.RecordOutcomeRequest(**known)


def overridden(**fields: Any) -> decision_pb2.RecordOutcomeRequest:
    return asked(**{"outcome": 7, "presented_instead": "tablet", **fields})


def take(request: decision_pb2.RecordOutcomeRequest, summary: Summary = SUMMARY) -> list[Taken]:
    return outcomes.take(request, summary, VOCABULARY, COUNTED, DESK, NOW)


def only(taken: Taken) -> Any:
    (one,) = np.frombuffer(taken.write.record, RECORD)
    return one


def logged(taken: Taken) -> log_pb2.LogEntry:
    return log_pb2.LogEntry.FromString(taken.write.entry)


def complaints(request: decision_pb2.RecordOutcomeRequest) -> dict[str, str]:
    checks = Checks()
    outcomes.check(checks, request, CATALOGUE)
    return {one.field: one.description for one in checks.violations}


def test_an_outcome_is_an_event_of_the_decisions_customer_channel_and_interaction() -> None:
    (found,) = take(asked(value=9.5))
    one, entry = only(found), logged(found)
    assert (one["occurred_at"], one["outcome"], one["channel"]) == (NOW - 5_000, 2, 1)
    assert (one["value"], one["interaction"]) == (9.5, record.interaction_hash("call-1"))
    assert found.who.customer_id == entry.customer_id == "ann"
    assert (entry.event.event.decision_id, entry.event.caller) == (DECISION, "desk")
    assert found.write.counted


def test_an_action_that_was_overridden_and_the_one_shown_instead_are_two_events() -> None:
    said, instead = take(overridden(value=3.0))
    assert (only(said)["action"], only(said)["outcome"]) == (1, Outcome.overridden)
    assert (only(instead)["action"], only(instead)["outcome"]) == (3, Outcome.presented)
    assert (said.write.counted, instead.write.counted) == (False, True)
    assert only(said)["value"] == 3.0
    assert np.isnan(only(instead)["value"])
    assert said.write.releases == released("discount")
    assert instead.write.releases == released("tablet")
    assert logged(instead).event.event.attributes == {"instead_of": "discount"}


def released(action: str) -> bytes:
    return record.reservation_hash(DECISION, action).to_bytes(8, "little")


def test_a_whole_answer_may_be_overridden() -> None:
    said, instead = take(overridden(action=""))
    assert (only(said)["action"], only(instead)["action"]) == (0, 3)
    assert said.write.releases == b""


@pytest.mark.parametrize("event_id", ["", "o-1"])
def test_the_same_request_gives_the_same_events(event_id: str) -> None:
    request = overridden(event_id=event_id)
    first, again = take(request), take(request)
    assert [one.write for one in first] == [one.write for one in again]
    assert len({only(one)["hash"].item() for one in first}) == 2


def test_presented_instead_and_presented_as_such_are_one_event() -> None:
    summary = Summary("ann", "phone", "call-1", ["discount", "tablet"])
    _, instead = take(overridden(), summary)
    (plain,) = take(asked(action="tablet"), summary)
    assert instead.write.record == plain.write.record


def test_an_id_of_the_callers_own_makes_events_of_their_own() -> None:
    requests = [overridden(), overridden(event_id="1"), overridden(event_id="2")]
    hashes = {only(one)["hash"].item() for request in requests for one in take(request)}
    assert len(hashes) == 6


def test_an_id_as_long_as_it_may_be_has_room_for_what_was_presented_instead() -> None:
    request = overridden(event_id="x" * 128)
    assert not complaints(request)
    assert len(take(request)) == 2


@pytest.mark.parametrize(
    ("request_", "field", "told"),
    [
        (asked(outcome=0), "outcome", "send what happened"),
        (asked(outcome=99), "outcome", "send what happened"),
        (asked(event_id="x" * 129), "event_id", "129 characters"),
        (overridden(presented_instead="discount"), "presented_instead", "send the other one"),
        (overridden(presented_instead="tabelt"), "presented_instead", "did you mean 'tablet'?"),
        *(
            (overridden(outcome=kind), "presented_instead", "OUTCOME_OVERRIDDEN only")
            for kind in range(1, 12)
            if kind != Outcome.overridden
        ),
    ],
)
def test_what_is_wrong_is_named(
    request_: decision_pb2.RecordOutcomeRequest, field: str, told: str
) -> None:
    found = complaints(request_)
    assert list(found) == [field]
    assert told in found[field]


def test_a_sound_request_is_not_complained_of() -> None:
    assert not complaints(asked())
    assert not complaints(overridden())
    assert not complaints(overridden(action=""))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"action": "tablet"}, "action"),
        ({"occurred_at": stamp(NOW - DAY)}, "occurred_at"),
        ({"occurred_at": stamp(NOW + DAY)}, "occurred_at"),
        ({"channel": "fax"}, "channel"),
        ({"value": float("nan")}, "value"),
    ],
)
def test_an_outcome_that_does_not_fit_its_decision_is_refused(
    fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        take(asked(**fields))
    assert [one.field for one in caught.value.violations] == [field]


def orphaned(request: decision_pb2.RecordOutcomeRequest) -> list[tuple[bytes, Any]]:
    found = outcomes.orphans(request, VOCABULARY, DESK, NOW)
    return [(hash, log_pb2.LogEntry.FromString(entry)) for hash, entry in found]


def test_an_orphan_is_logged_with_all_that_was_said_and_of_nobody() -> None:
    ((hash, entry),) = orphaned(asked(value=9.5, channel="web"))
    assert entry.customer_id == ""
    assert (entry.orphan.decision_id, entry.orphan.caller) == (DECISION, "desk")
    kept = entry.orphan.event
    assert (kept.action, kept.outcome, kept.value, kept.channel) == ("discount", 2, 9.5, "web")
    assert not kept.HasField("customer")
    assert kept.occurred_at == stamp(NOW - 5_000)
    assert hash == record.event_hash(f"outcome/{DECISION}", "discount/OUTCOME_PRESENTED").to_bytes(
        8, "little"
    )


def test_what_was_presented_instead_is_an_orphan_of_its_own() -> None:
    said, instead = orphaned(overridden())
    assert said[0] != instead[0]
    assert instead[1].orphan.event.action == "tablet"
    assert orphaned(overridden()) == [said, instead]


@pytest.mark.parametrize(
    ("taken_at", "moment"),
    [
        (NOW - 400 * DAY, NOW - 400 * DAY),  # forgotten by now
        (0, NOW),  # no server of ours was there to give these ids
        (16**11 - 1, NOW),
    ],
)
def test_an_orphan_may_be_of_any_time(taken_at: int, moment: int) -> None:
    ((_, entry),) = orphaned(asked(decision_id=f"00{taken_at:011x}{0:012x}"))
    assert entry.orphan.event.occurred_at == stamp(moment)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"action": "tabelt"}, "action"),
        ({"action": "x" * 5_000}, "action"),
        ({"channel": "fax"}, "channel"),
        ({"value": float("inf")}, "value"),
        ({"occurred_at": stamp(NOW + DAY)}, "occurred_at"),
    ],
)
def test_a_wrong_orphan_is_refused_like_any_other(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        orphaned(asked(**fields))
    assert [one.field for one in caught.value.violations] == [field]


def test_a_young_decision_may_still_be_on_its_way() -> None:
    at = outcomes.taken_at(DECISION)
    assert at == NOW - 5_000
    for age, young in ((0, True), (9_999, True), (10_000, False), (-9_999, True), (DAY, False)):
        assert outcomes.on_its_way(DECISION, at + age) is young
    assert not outcomes.on_its_way("0" * 25, 10 * SECOND)


def test_the_status_of_two_events_tells_what_is_new() -> None:
    every = range(1, 7)
    assert {outcomes.settled([one]) for one in every} == set(every)
    for pair in itertools.product(every, every):
        assert outcomes.settled(pair) == outcomes.settled(pair[::-1])
    assert outcomes.settled([store.STORED, store.DUPLICATE]) == store.STORED
    assert outcomes.settled([store.STORED, store.CONFLICT]) == store.STORED
    assert outcomes.settled([store.DUPLICATE, store.CONFLICT]) == store.CONFLICT
    assert outcomes.settled([store.STORED, store.UNAVAILABLE]) == store.UNAVAILABLE


def test_an_outcome_keeps_its_place_among_those_of_its_moment() -> None:
    found = [only(take(asked(outcome=kind))[0])["sequence"] for kind in range(1, 12)]
    assert found == sorted(set(found))
    assert event_pb2.OUTCOME_PRESENTED < event_pb2.OUTCOME_ACCEPTED
