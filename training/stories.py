"""The customers of the demo: what happened to them, and what they say to our answer. Pure."""

from __future__ import annotations

from typing import NamedTuple

from features.duration import DAY, HOUR, MINUTE
from rapport.v1 import decision_pb2, event_pb2


class Happened(NamedTuple):
    """An event, so long before the contact."""

    ago: int  # milliseconds
    type: str
    channel: str
    intent: str = ""
    interaction: str = ""
    sentiment: float | None = None
    value: float | None = None
    direction: event_pb2.Direction.ValueType = event_pb2.DIRECTION_INBOUND


class Story(NamedTuple):
    """A customer who calls in, and what they say to the best action."""

    customer: str
    title: str
    profile: dict[str, float | bool | str]
    marketing: bool
    before: list[Happened]
    channel: str
    placement: str
    assurance: decision_pb2.Assurance.ValueType
    said: event_pb2.Outcome.ValueType | None  # to the action below
    about: str  # issue of what we may offer; empty: of any
    then: str  # what the next answer shows


STORIES = [
    Story(
        customer="anna",
        title="Anna calls. She is locked out: the app failed, the voice menu failed.",
        profile={"age": 41, "segment": "family", "digital": True, "value_tier": "plus"},
        marketing=True,
        before=[
            Happened(400 * DAY, "product_opened", "branch"),
            Happened(
                40 * DAY,
                "salary_received",
                "web",
                value=2_900,
                direction=event_pb2.DIRECTION_INTERNAL,
            ),
            Happened(6 * DAY, "payment", "app", value=-60),
            Happened(50 * MINUTE, "login_failed", "app", "login_trouble"),
            Happened(41 * MINUTE, "self_service_failed", "app", "login_trouble", "a1", -0.4),
            Happened(22 * MINUTE, "self_service_failed", "ivr", "login_trouble", "a2", -0.6),
            Happened(0, "contact_started", "phone", interaction="a3"),
        ],
        channel="phone",
        placement="agent_hint",
        assurance=decision_pb2.ASSURANCE_VERIFIED,
        said=event_pb2.OUTCOME_RESOLVED,
        about="",
        then="Solved: it is not offered again, and the failed tries weigh no more.",
    ),
    Story(
        customer="ben",
        title="Ben asks in the chat what we have for him. He refuses what is offered.",
        profile={"age": 58, "segment": "senior", "digital": True, "value_tier": "premium"},
        marketing=True,
        before=[
            Happened(90 * DAY, "product_opened", "branch"),
            Happened(3 * DAY, "page_viewed", "web", "savings_rate", "b1"),
            Happened(2 * DAY, "page_viewed", "web", "savings_rate", "b2"),
            Happened(2 * HOUR, "statement_viewed", "app"),
            Happened(8 * MINUTE, "page_viewed", "web", "savings_rate", "b3"),
            Happened(0, "contact_started", "chat", interaction="b4"),
        ],
        channel="chat",
        placement="chat_reply",
        assurance=decision_pb2.ASSURANCE_VERIFIED,
        said=event_pb2.OUTCOME_REJECTED,
        about="grow",
        then="He said no: that offer is gone for thirty days, on every channel.",
    ),
    Story(
        customer="nobody-yet",
        title="Somebody new opens the website.",
        profile={},
        marketing=False,
        before=[],
        channel="web",
        placement="web_banner",
        assurance=decision_pb2.ASSURANCE_NONE,
        said=None,
        about="",
        then="",
    ),
]
