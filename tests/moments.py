"""Seven classic moments of a contact centre, played against a real server, and told in docs.

The moments are data; :func:`play` is the runner. ``python -m tests.moments --write`` writes
docs/moments.md from what was answered; without ``--write`` it says whether the file has drifted.
What depends on the day (probabilities, ranks by a hair, ids) is not told, so the file is stable.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import re
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import structlog

from features.duration import DAY, HOUR, MINUTE
from rapport.v1 import decision_pb2, event_pb2
from service.bundle import Bundle
from service.embedded import EmbeddedStore
from service.situation import Situation, holds
from tests.integration.serving import (
    CONFIG,
    Client,
    Status,
    business,
    event,
    flushed,
    now,
    serving,
    stamp,
    until,
)
from training import simulate, workflow
from training.stories import Happened

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "moments.md"

_LEARNT: Final = datetime.datetime(2026, 11, 16, 12, tzinfo=datetime.UTC)
"""Where the simulated history ends: the same models every day."""

PATIENCE: Final = 0.25
"""Seconds that a caller waits while the store is down."""

PROFILE: Final[dict[str, float | bool | str]] = {
    "age": 41, "segment": "family", "household": "with_children", "value_tier": "plus",
    "customer_since_days": 900, "products": 2, "balance": 6_000, "digital": True,
    "has_mortgage": False, "in_arrears": False,
}  # fmt: skip

# What can happen between two questions


class Events(NamedTuple):
    """The customer's chain grows."""

    happened: Sequence[Happened]


class Shown(NamedTuple):
    """The customer saw an action: so many times, a day apart, the last of them so long ago."""

    action: str
    channel: str
    times: int = 1
    ago: int = HOUR


class Said(NamedTuple):
    """What became of an action of an earlier answer; by default, of the last."""

    action: str
    outcomes: Sequence[event_pb2.Outcome.ValueType]
    instead: str = ""  # what the agent presented
    answer: int = -1


class Consent(NamedTuple):
    """The customer gives or withdraws consent for marketing."""

    granted: bool


class StoreStops(NamedTuple):
    """The process of the store ends."""


class StoreReturns(NamedTuple):
    """It starts again on the same folder."""


Step = Events | Shown | Said | Consent | StoreStops | StoreReturns


class Ask(NamedTuple):
    """One question."""

    heading: str  # of its column
    steps: Sequence[Step] = ()  # what happens before it
    channel: str = "phone"
    placement: str = "agent_hint"
    interaction: str = ""
    slots: int = 2
    only: Sequence[str] = ()  # actions to consider; empty: all
    dry_run: bool = False
    timeout: float = 5.0


class Seen(NamedTuple):
    """One answer, and what Explain says of each action."""

    answer: decision_pb2.DecideResponse
    told: dict[str, decision_pb2.Candidate]
    seconds: float

    @property
    def shown(self) -> dict[str, decision_pb2.Recommendation]:
        return {one.action: one for slate in self.answer.slates for one in slate.recommendations}

    @property
    def first(self) -> decision_pb2.Recommendation:
        return next(iter(self.shown.values()))

    def of(self, *issues: str) -> list[str]:
        """Shown actions of some issues, in the order of the catalogue."""
        return [
            one.name for one in business().actions if one.name in self.shown and one.issue in issues
        ]

    def code(self, action: str) -> str:
        """Why an action is not shown; empty: it is."""
        return self.told[action].reason.code

    @property
    def advisories(self) -> set[str]:
        return {one.code for one in self.answer.advisories}

    @property
    def facts(self) -> dict[str, decision_pb2.Fact]:
        return {one.kind: one for one in self.answer.facts}


Look = Callable[[Seen], str]


class Moment(NamedTuple):
    """One of the seven."""

    name: str
    customer: str  # in no control group
    title: str
    story: str
    before: Sequence[Step]
    asks: Sequence[Ask]  # the first gives the answer before
    changes: Mapping[str, Look]  # differ from answer to answer
    stays: Mapping[str, Look]  # the same in the first two
    explained: Sequence[tuple[int, str]]  # answer and action
    profile: Mapping[str, float | bool | str] = PROFILE


class Played(NamedTuple):
    """A moment with its answers."""

    moment: Moment
    seen: Sequence[Seen]


# What the tables look at


def plain(text: str) -> str:
    """A text without what depends on the day."""
    text = re.sub(r" with \d+% probability", "", text)
    text = re.sub(r"\d+ other actions? ranks? higher", "other actions rank higher", text)
    text = re.sub(r"accepted by \d+% of", "accepted by a share of", text)
    text = re.sub(r"; rank \d+: P .*", "; and the numbers that ranked it", text)
    return text.rstrip(".")


def titles(actions: Sequence[str]) -> str:
    return ", ".join(business().by_name[one].title for one in actions) or "none"


def first(seen: Seen) -> str:
    """The best suggestion, with the strongest reason that is no number."""
    wanted = ("CONTEXT_WEIGHT", "INTENT_MATCH")
    why = [one.text for code in wanted for one in seen.first.reasons if one.code == code]
    return f"**{seen.first.title}**: {plain(why[0])}" if why else f"**{seen.first.title}**"


def of(*issues: str) -> Look:
    """What is shown of some issues."""
    return lambda seen: titles(seen.of(*issues))


def issues(seen: Seen) -> str:
    """Kinds of actions that are shown."""
    return ", ".join(sorted({business().by_name[name].issue for name in seen.shown}))


def with_consent(seen: Seen) -> str:
    """What is shown that needs consent."""
    every = (one.name for one in business().actions if one.purpose)
    return titles([name for name in every if name in seen.shown])


def may(action: str) -> Look:
    """Whether it passes every rule and limit, and why not; where it ranks is another matter."""

    def look(seen: Seen) -> str:
        one = seen.told[action]
        return (
            "allowed" if one.rank else f"left out: {plain(one.reason.text)} (`{one.reason.code}`)"
        )

    return look


def wording(action: str) -> Look:
    return lambda seen: f'"{seen.shown[action].treatment.text}"'


def price(action: str) -> Look:
    def look(seen: Seen) -> str:
        told = seen.shown[action].price
        return f"{told.amount:.2f} {told.currency} a {told.per}"

    return look


def weight_of_mood(action: str) -> Look:
    """The declared factors that their relationship and mood put on an action."""

    def look(seen: Seen) -> str:
        felt = {
            kind: one.magnitude
            for kind, one in seen.facts.items()
            if kind in ("relationship", "sentiment_trend")
        }
        at = Situation(seen.answer.slates[0].placement, {}, felt, now())
        factors = [
            one.weight
            for one in business().policies.context_weights
            if one.when.fact in felt
            and one.target.covers(business().by_name[action])
            and holds(one.when, at)
        ]
        return " x ".join(f"{one:g}" for one in factors) or "1"

    return look


def fact(*kinds: str) -> Look:
    return lambda seen: (
        "; ".join(seen.facts[one].text for one in kinds if one in seen.facts) or "nothing"
    )


def rung(seen: Seen) -> str:
    return decision_pb2.Rung.Name(seen.answer.rung).removeprefix("RUNG_").lower().replace("_", " ")


def missing(seen: Seen) -> str:
    return ", ".join(f"`{one}`" for one in sorted(seen.advisories)) or "nothing"


def events_read(seen: Seen) -> str:
    return f"{seen.answer.read.events} events"


# The seven

_INTERNAL: Final = event_pb2.DIRECTION_INTERNAL
_PRESENTED: Final = event_pb2.OUTCOME_PRESENTED
_REJECTED: Final = event_pb2.OUTCOME_REJECTED
_OVERRIDDEN: Final = event_pb2.OUTCOME_OVERRIDDEN

_KNOWN: Final = [
    Happened(400 * DAY, "product_opened", "branch"),
    Happened(20 * DAY, "salary_received", "web", value=2_900, direction=_INTERNAL),
    Happened(6 * DAY, "payment", "app", value=-60),
]
_SAVING: Final = [
    *_KNOWN,
    Happened(3 * DAY, "page_viewed", "web", "savings_rate"),
    Happened(2 * DAY, "page_viewed", "web", "savings_rate"),
    Happened(2 * HOUR, "page_viewed", "web", "savings_rate"),
    Happened(10 * MINUTE, "page_viewed", "web", "savings_rate"),
]
_TRAVELLING: Final = [
    *_KNOWN,
    Happened(2 * DAY, "page_viewed", "web", "travel_abroad"),
    Happened(1 * DAY, "page_viewed", "web", "travel_abroad"),
    Happened(9 * MINUTE, "page_viewed", "app", "travel_abroad"),
]


def _calls(channel: str, interaction: str) -> Happened:
    return Happened(0, "contact_started", channel, interaction=interaction)


def _left_alone(days: int, interaction: str) -> list[Happened]:
    """A complaint by phone that ended without a solution."""
    start = days * DAY
    return [
        Happened(start, "contact_started", "phone", interaction=interaction),
        Happened(
            start - 10 * MINUTE, "contact_unresolved", "phone", "complain_service", interaction
        ),
    ]


MOMENTS: Final = [
    Moment(
        name="failed_payment",
        customer="maria",
        title="A payment fails in the voice menu, then the customer calls",
        story="Maria has been reading about savings. This morning an offer would have been right. "
        "Then she tries to pay by voice menu, and it fails; a quarter of an hour later she calls. "
        "What failed is put right first, and nothing is sold.",
        before=[Consent(True), Events(_SAVING)],
        asks=[
            Ask("Before the failure"),
            Ask(
                "After the failure",
                [
                    Events(
                        [
                            Happened(20 * MINUTE, "contact_started", "ivr", interaction="m2"),
                            Happened(
                                19 * MINUTE, "self_service_started", "ivr", "payment_failed", "m2"
                            ),
                            Happened(17 * MINUTE, "payment_failed", "ivr", "payment_failed", "m2"),
                            Happened(
                                16 * MINUTE, "self_service_failed", "ivr", "payment_failed", "m2"
                            ),
                            _calls("phone", "m3"),
                        ]
                    )
                ],
                interaction="m3",
            ),
        ],
        changes={
            "First": first,
            "What went wrong": fact("failed_self_service"),
            "To put right": of("recover"),
            "Offers to sell": of("grow"),
        },
        stays={
            "Savings account, by the rules": may("savings_flexible"),
            "Better savings rate, by the rules": may("better_savings_rate"),
        },
        explained=[(1, "finish_for_them"), (1, "savings_flexible")],
        profile={**PROFILE, "balance": 400},
    ),
    Moment(
        name="rejected_offer",
        customer="ben",
        title="An offer is rejected",
        story="Ben chats about his savings and says no to a savings account. He is not asked "
        "again, here or on any other channel. He says no to a second savings product: we stop "
        "selling him savings for three months. What he asked for, a better rate, stays.",
        before=[Consent(True), Events([*_SAVING, _calls("chat", "b1")])],
        asks=[
            Ask("Before", channel="chat", placement="chat_reply", interaction="b1"),
            Ask(
                "After the first no",
                [Said("savings_flexible", [_PRESENTED, _REJECTED])],
                channel="chat",
                placement="chat_reply",
                interaction="b1",
            ),
            Ask(
                "After the second no, in the app",
                [Said("savings_child", [_PRESENTED, _REJECTED])],
                channel="app",
                placement="app_card",
            ),
        ],
        changes={
            "Savings account": may("savings_flexible"),
            "Savings plan for a child": may("savings_child"),
            "Round up and save": may("savings_round_up"),
        },
        stays={"First": first, "Better savings rate": may("better_savings_rate")},
        explained=[(1, "savings_flexible"), (2, "savings_round_up")],
        profile={**PROFILE, "balance": 400},
    ),
    Moment(
        name="cap_elsewhere",
        customer="cees",
        title="The limit is reached on another channel",
        story="Nobody hears of the same offer more than three times in thirty days. Cees saw the "
        "savings account twice in the app, and by phone it may be mentioned. Then the app shows "
        "it a third time: on the phone, where he never heard of it, it is over too.",
        before=[
            Consent(True),
            Events(_SAVING),
            Shown("savings_flexible", "app", times=2, ago=4 * DAY),
            Events([_calls("phone", "c1")]),
        ],
        asks=[
            Ask("Shown twice in the app", interaction="c1"),
            Ask(
                "Shown three times in the app", [Shown("savings_flexible", "app")], interaction="c1"
            ),
        ],
        changes={
            "Savings account, by phone": may("savings_flexible"),
            "Offers to sell": of("grow"),
        },
        stays={"First": first, "Savings plan for a child": may("savings_child")},
        explained=[(1, "savings_flexible")],
        profile={**PROFILE, "balance": 400},
    ),
    Moment(
        name="consent_withdrawn",
        customer="dewi",
        title="Consent is withdrawn during the call",
        story="Dewi calls about her card abroad. Half-way she says: no more offers. The agent "
        "notes it, and the very next answer of the same call is without marketing. The help that "
        "she called for goes on.",
        before=[Consent(True), Events([*_TRAVELLING, _calls("phone", "d1")])],
        asks=[
            Ask("With consent", interaction="d1", slots=5),
            Ask("A moment later", [Consent(False)], interaction="d1", slots=5),
        ],
        changes={"Needs consent": with_consent, "Gold credit card": may("gold_credit_card")},
        stays={"Help": of("service"), "A year without fees": may("fee_waiver")},
        explained=[(1, "gold_credit_card")],
    ),
    Moment(
        name="love_hate",
        customer="lena",
        title="A customer who loves us and hates us",
        story="Lena was left without an answer twice. Her surveys swing from delight to anger. We "
        "choose other words and go easy on offers. No rule lets how she feels buy another price "
        "or another place in the queue.",
        before=[
            Consent(True),
            Events(
                [
                    *_TRAVELLING,
                    *_left_alone(12, "l0"),
                    *_left_alone(9, "l1"),
                    _calls("chat", "l2"),
                ]
            ),
        ],
        asks=[
            Ask(
                heading,
                steps,
                channel="chat",
                placement="chat_reply",
                interaction="l2",
                slots=4,
                only=["apologise_and_own", "card_controls", "skip_the_queue", "travel_insurance"],
            )
            for heading, steps in (
                ("Mood unknown", []),
                (
                    "Love and hate",
                    [
                        Events(
                            [
                                Happened(40 * DAY, "survey_answered", "email", sentiment=0.9),
                                Happened(30 * DAY, "survey_answered", "email", sentiment=0.8),
                                Happened(3 * DAY, "survey_answered", "email", sentiment=-0.8),
                                Happened(2 * DAY, "survey_answered", "email", sentiment=-0.7),
                            ]
                        )
                    ],
                ),
            )
        ],
        changes={
            "What we know": fact("relationship", "sentiment_trend"),
            "How we apologise": wording("apologise_and_own"),
            "Weight of mood on the offer": weight_of_mood("travel_insurance"),
            "First": first,
        },
        stays={
            "Price of travel insurance": price("travel_insurance"),
            "Straight to a person": may("skip_the_queue"),
            "Weight of mood on it": weight_of_mood("skip_the_queue"),
        },
        explained=[(1, "travel_insurance")],
    ),
    Moment(
        name="agent_overrides",
        customer="otto",
        title="The agent decides otherwise",
        story="Otto has seen the better savings rate three times; the fourth is the last that the "
        "limit allows, and it is held for the agent he speaks with, so that no other channel shows "
        "it meanwhile. The agent offers the savings account instead. That one counts as shown, for "
        "the third and last time; when he calls again, the better rate is free.",
        before=[
            Consent(True),
            Events(_SAVING),
            Shown("better_savings_rate", "app", times=3, ago=8 * DAY),
            Shown("savings_flexible", "app", times=2, ago=8 * DAY),
            Events([_calls("phone", "o1")]),
        ],
        asks=[
            Ask("The hint to the agent", interaction="o1", slots=1),
            Ask("Meanwhile, in the app", channel="app", placement="app_card", dry_run=True),
            Ask(
                "After the agent's choice",
                [Said("better_savings_rate", [_OVERRIDDEN], "savings_flexible", answer=0)],
                interaction="o2",
                slots=1,
            ),
        ],
        changes={
            "First": first,
            "Better savings rate": may("better_savings_rate"),
            "Savings account": may("savings_flexible"),
        },
        stays={"Savings plan for a child": may("savings_child")},
        explained=[(2, "better_savings_rate"), (2, "savings_flexible")],
        profile={**PROFILE, "balance": 400},
    ),
    Moment(
        name="store_down",
        customer="sara",
        title="The store is down",
        story="The machine that holds every customer's history stops while Sara is on the line. "
        "The agent's screen waits a quarter of a second at most, and gets its answer. It knows "
        "less, says so, and keeps to service that needs neither consent nor a limit. The store "
        "returns, and so does everything else.",
        before=[Consent(True), Events([*_SAVING, _calls("phone", "s1")])],
        asks=[
            Ask("Before", interaction="s1"),
            Ask("Store down", [StoreStops()], interaction="s1", timeout=PATIENCE),
            Ask("Store back", [StoreReturns()], interaction="s1"),
        ],
        changes={
            "How much took part": rung,
            "Missing": missing,
            "History": events_read,
            "Kinds of suggestions": issues,
            "Needs consent": with_consent,
            "Savings account": may("savings_flexible"),
            "Better savings rate": may("better_savings_rate"),
        },
        stays={"Call back": may("callback")},
        explained=[(1, "savings_flexible"), (1, "fee_waiver")],
        profile={**PROFILE, "balance": 400},
    ),
]


# The runner


def learnt() -> Bundle:
    """Models for the sample bank, the same every day: enough customers to know an intent."""
    with tempfile.TemporaryDirectory() as folder:
        simulate.simulate(
            business(), Path(folder), customers=500, days=120, seed=1, end=_LEARNT,
            progress=lambda done, of: None,
        )  # fmt: skip
        return workflow.fit(
            Path(folder), business(), workflow.targets(CONFIG), lambda name, done, of: None
        )


async def play(moments: Sequence[Moment], bundle: Bundle) -> list[Played]:
    """Play moments one after the other, on one server and one store."""
    with tempfile.TemporaryDirectory() as folder:
        stage = _Stage(Path(folder))
        try:
            async with serving(stage.store.url, bundle=bundle) as stage.client:
                return [await stage.play(one) for one in moments]
        finally:
            stage.store.stop()


class _Stage:
    """A server and its store, on which one moment is played at a time."""

    client: Client

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.store = EmbeddedStore(folder, port=0)

    async def play(self, moment: Moment) -> Played:
        self._moment = moment
        self._seen: list[Seen] = []
        await self.client.update(moment.customer, moment.profile)
        for step in moment.before:
            await self._do(step)
        for ask in moment.asks:
            for step in ask.steps:
                await self._do(step)
            self._seen.append(await self._ask(ask))
        return Played(moment, self._seen)

    async def _do(self, step: Step) -> None:
        client, customer = self.client, self._moment.customer
        match step:
            case Events(happened):
                await self._record([_event(customer, one) for one in happened])
            case Shown(action, channel, times, ago):
                shown = [Happened(ago + n * DAY, "outcome", channel) for n in range(times)]
                fields = {"action": action, "outcome": _PRESENTED}
                await self._record([_event(customer, one, **fields) for one in shown])
            case Said(action, outcomes, instead, answer):
                if action not in self._seen[answer].shown:
                    return  # nobody says no to what they were not shown; the tests will tell
                id = self._seen[answer].answer.decision_id
                fields = {"presented_instead": instead} if instead else {}
                for outcome in outcomes:
                    status = await client.outcome(id, action, outcome, **fields)
                    assert status == Status.STATUS_STORED
            case Consent(granted):
                await client.consent(customer, granted)
            case StoreStops():
                await flushed(client)
                self.store.stop()
            case StoreReturns():
                self.store = EmbeddedStore(self._folder, port=self.store.port)
                await until(self._whole)

    async def _record(self, events: Sequence[event_pb2.Event]) -> None:
        statuses = await self.client.record(*events)
        assert set(statuses) == {Status.STATUS_STORED}

    async def _whole(self) -> bool:
        """Whether answers are whole again."""
        answer = await self.client.decide(self._moment.customer, dry_run=True)
        return answer.rung == decision_pb2.RUNG_FULL

    async def _ask(self, ask: Ask) -> Seen:
        for left in range(3, -1, -1):
            start = time.monotonic()
            try:
                answer = await self._decide(ask)
            except grpc.aio.AioRpcError as error:
                # Cores are shared: a tight deadline gets a few tries.
                if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED or not left:
                    raise
            else:
                break
        seconds = time.monotonic() - start
        assert not answer.control_group, f"choose another name than {self._moment.customer!r}"
        candidates = answer.trace
        if answer.decision_id:
            explained = await self.client.decisions.Explain(
                decision_pb2.ExplainRequest(decision_id=answer.decision_id), timeout=5
            )
            candidates = explained.candidates
        return Seen(answer, {one.action: one for one in candidates}, seconds)

    async def _decide(self, ask: Ask) -> decision_pb2.DecideResponse:
        return await self.client.decide(
            self._moment.customer,
            ask.channel,
            placements=[ask.placement],
            interaction_id=ask.interaction,
            max_actions=ask.slots,
            allow_actions=ask.only,
            dry_run=ask.dry_run,
            timeout=ask.timeout,
        )


def _event(customer: str, one: Happened, **fields: Any) -> event_pb2.Event:
    if one.sentiment is not None:
        fields["sentiment"] = event_pb2.Sentiment(
            score=one.sentiment,
            subject=event_pb2.Sentiment.SUBJECT_CUSTOMER,
            modality=event_pb2.Sentiment.MODALITY_STATED,
            source="survey-2026",
            basis=event_pb2.Sentiment.BASIS_CONSENT,
        )
    if one.value is not None:
        fields["value"] = one.value
    return event(
        customer,
        occurred_at=stamp(now() - one.ago),
        type=one.type,
        channel=one.channel,
        direction=one.direction,
        intent=one.intent,
        interaction_id=one.interaction,
        **fields,
    )


# The document

_OPENING: Final = """\
# Seven moments

What Rapport answers in seven moments that every contact centre knows, before and after. Each was
played against a real server with the sample bank in [`config/`](../config); the texts are those of
the answers and of Explain. Numbers that depend on the day are left out.

Written by `python -m tests.moments --write` from [`tests/moments.py`](../tests/moments.py); a test
holds the moments, and this page, to what is answered.
"""


def document(played: Sequence[Played]) -> str:
    """The page, from what was answered."""
    return "\n".join([_OPENING, *(_section(number, one) for number, one in enumerate(played, 1))])


def _section(number: int, played: Played) -> str:
    moment, seen = played
    headings = [ask.heading for ask in moment.asks]
    lines = [f"## {number}. {moment.title}", "", *textwrap.wrap(moment.story, 99), ""]
    lines += _table(
        ["", *headings], [(name, *map(look, seen)) for name, look in moment.changes.items()]
    )
    lines += ["", "What did not change:", ""]
    lines += [f"- {name}: {look(seen[0])}" for name, look in moment.stays.items()]
    for place, action in moment.explained:
        told = seen[place].told[action]
        shown = action in seen[place].shown
        lines += [
            "",
            f"Why {'' if shown else 'not '}*{titles([action])}*? ({headings[place]})",
            "",
            f"- the agent hears: {plain(told.voices.agent)}.",
            f"- the customer hears: {plain(told.voices.customer)}.",
            f"- the auditor reads: {plain(told.voices.auditor)}.",
        ]
    return "\n".join([*lines, ""])


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [headings, ["---"] * len(headings), *rows]
    return [f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines]


def main() -> int:
    """Write the page with ``--write``; otherwise compare it, and exit 1 on a difference."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    page = document(asyncio.run(play(MOMENTS, learnt())))
    if "--write" in sys.argv:
        DOCUMENT.write_text(page, encoding="utf-8")
        return 0
    if not DOCUMENT.exists() or DOCUMENT.read_text(encoding="utf-8") != page:
        sys.stderr.write(f"{DOCUMENT.name} has drifted; run 'python -m tests.moments --write'\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
