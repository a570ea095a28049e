"""The life of one simulated customer, as a chain of events. Pure: draws and moments come in.

A need arises; it shows on pages; the customer tries to help themselves; where that fails they call,
chat or visit; what stays unresolved brings them back. In between runs ordinary life. Steps wait in
a heap, so state (mood, weariness, open needs) is always as of the moment.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from features.duration import DAY, HOUR, MINUTE, SECOND
from features.vocabulary import Direction, Outcome
from training.world import MEMORY, Customer, Floats, Incumbent, Mask, Situation, World

TYPES: Final = (
    "contact_started", "contact_resolved", "contact_unresolved", "self_service_started",
    "self_service_failed", "self_service_completed", "question_asked", "question_answered",
    "complaint", "complaint_settled", "page_viewed", "search", "login", "login_failed",
    "statement_viewed", "payment", "payment_failed", "card_declined", "salary_received",
    "fee_charged", "repayment_missed", "suspicious_payment", "rate_expiry_notice", "message_sent",
    "message_opened", "offer_outcome", "product_opened",
)  # fmt: skip
PLACEMENTS: Final = {
    "phone": "agent_hint", "branch": "agent_hint", "chat": "chat_reply", "ivr": "ivr_menu",
    "web": "web_banner", "app": "app_card", "email": "outbound_message", "sms": "outbound_message",
}  # fmt: skip
"""Where each channel shows actions."""

# What happens shortly before a need, most of the time.
_OMENS: Final = {
    "card_declined": "card_declined", "payment_failed": "payment_failed",
    "login_trouble": "login_failed", "fee_question": "fee_charged", "refund_fee": "fee_charged",
    "payment_arrears": "repayment_missed", "dispute_transaction": "suspicious_payment",
    "report_fraud": "suspicious_payment", "mortgage_rate_expiry": "rate_expiry_notice",
    "overdraft": "payment_failed", "activate_app": "login_failed",
}  # fmt: skip
_ASSURANCE: Final = {"ivr": "ani", "web": "ani", "email": "ani", "sms": "ani", "app": "verified"}
_OPEN: Final = {"phone": (8, 20), "chat": (8, 22), "branch": (9, 17)}
_AMSTERDAM: Final = HOUR  # winter time will do
# Chance of refusing aloud and of waving away, of those who do not accept; the rest stay silent.
_REFUSAL: Final = {"phone": (0.6, 0.2), "branch": (0.6, 0.2), "chat": (0.5, 0.25)}
_SCREEN: Final = (0.08, 0.3)

IN, OUT, OURS = int(Direction.inbound), int(Direction.outbound), int(Direction.internal)


class Happening(NamedTuple):
    """One event to be logged, in names."""

    ms: int
    type: str
    channel: str = ""
    direction: int = 0
    intent: str = ""
    action: str = ""
    outcome: int = 0
    value: float | None = None
    duration: float | None = None
    sentiment: float | None = None
    interaction: str = ""
    parent: str = ""
    decision: str = ""


class Decision(NamedTuple):
    """One choice of the incumbent, with the truth about it."""

    decision_id: str
    customer_id: str
    ms: int
    placement: str
    channel: str
    need: str  # true intent; empty: none
    slate: list[int]
    selection: list[float]
    accepted: list[bool]
    acceptance: Floats  # [actions]
    eligible: Mask  # [actions]


class Contact(NamedTuple):
    """One contact and why it truly was."""

    interaction_id: str
    customer_id: str
    ms: int
    channel: str
    intent: str
    resolved: bool
    again: bool  # for a need that an earlier contact left open


@dataclasses.dataclass
class Need:
    """Something that the customer wants done."""

    intent: int
    contacts: int = 0
    helped: bool = False  # an accepted action answers it


class Life:
    """One customer from ``start`` to ``end`` (milliseconds); :meth:`live` fills the lists."""

    def __init__(
        self, world: World, customer: Customer, rng: np.random.Generator, start: int, end: int
    ) -> None:
        self.happenings: list[Happening] = []
        self.decisions: list[Decision] = []
        self.contacts: list[Contact] = []
        self._world, self._customer, self._rng = world, customer, rng
        self._incumbent = Incumbent(world, rng)
        self._end = end
        self._steps: list[tuple[int, int, Callable[[int], None]]] = []
        self._pushed = 0
        self._free_at = start
        self._mood, self._mood_at = customer.calm, start
        self._topic, self._topic_at = -1, 0
        self._failed_at: list[int] = []
        self._needed_at = np.zeros(len(world.intents), np.int64)
        self._seen_at: list[tuple[int, int]] = []
        self._refused_at = np.zeros(len(world.actions), np.int64)
        self._taken = np.zeros(len(world.actions), bool)
        self._interactions = 0
        joined = start
        if not customer.tenure_days:
            joined = start + int(rng.random() * (end - start) * 0.9)
        opened = joined - customer.tenure_days * DAY
        self.joined_at = joined
        self._say(opened, "product_opened", "branch" if rng.random() < 0.5 else "web", IN)
        self._plan(joined)

    def live(self) -> None:
        """Take every step until the end."""
        while self._steps:
            ms, _, step = heapq.heappop(self._steps)
            if ms >= self._end:
                break
            if ms < self._free_at:
                self._later(self._free_at + self._wait(2 * MINUTE), step)
            else:
                step(ms)
        self.happenings = [one for one in self.happenings if one.ms < self._end]

    # Ordinary life

    def _plan(self, start: int) -> None:
        """Spread needs and ordinary days over the time there is."""
        months = (self._end - start) / (30 * DAY)
        busy, skill = self._customer.activity, self._customer.skill
        for rate, step in (
            (0.62 * min(busy, 2.5), self._need_arises),
            ((0.5 + 3.0 * skill) * busy, self._visit),
            (1.6 * busy, self._pay),
            (0.9, self._salary),
            (0.45, self._message),
        ):
            for moment in self._rng.random(self._rng.poisson(rate * months)):
                self._later(self._awake(start + int(moment * (self._end - start))), step)

    def _visit(self, now: int) -> None:
        """Look around in the app or on the site, with no need."""
        chance = self._rng.random
        channel = "app" if chance() < 0.25 + 0.6 * self._customer.skill else "web"
        interaction = self._interaction()
        self._say(now, "login", channel, IN, interaction=interaction)
        if chance() < 0.2:
            self._say(now + 9 * SECOND, "statement_viewed", channel, IN, interaction=interaction)
        if chance() < 0.4:
            intent = self._world.intents[self._drawn_need()]
            self._say(
                now + 20 * SECOND, "page_viewed", channel, IN, intent=intent, interaction=interaction
            )
        if chance() < 0.33:
            self._decide(now + 2 * SECOND, channel, interaction, None)
        self._free_at = now + 3 * MINUTE

    def _pay(self, now: int) -> None:
        worth = round(float(self._rng.lognormal(3.4, 0.9)), 2)
        self._say(now, "payment", "app" if self._rng.random() < 0.6 else "", OURS, value=worth)

    def _salary(self, now: int) -> None:
        worth = round(1_200 + 500 * math.log1p(self._customer.balance / 500), 2)
        self._say(now, "salary_received", direction=OURS, value=worth)

    def _message(self, now: int) -> None:
        """Be sent a message that carries an action."""
        channel = "email" if self._rng.random() < 0.7 else "sms"
        interaction = self._interaction()
        self._say(now, "message_sent", channel, OUT, interaction=interaction)
        if self._rng.random() < 0.65:
            opened = now + self._wait(5 * HOUR)
            self._say(opened, "message_opened", channel, OUT, interaction=interaction)
            self._decide(opened, channel, interaction, None)

    # Needs

    def _need_arises(self, now: int) -> None:
        need = Need(self._drawn_need())
        intent = self._world.intents[need.intent]
        self._needed_at[need.intent] = now
        omen = _OMENS.get(intent)
        if omen is not None and self._rng.random() < 0.75:
            channel = "app" if omen == "login_failed" else ""
            worth = round(float(self._rng.lognormal(2.5, 0.8)), 2) if "charged" in omen else None
            self._say(now, omen, channel, IN if channel else OURS, value=worth)
            self._feel(now, -0.05)
            now += self._wait(3 * HOUR)
        self._later(self._awake(now + MINUTE), lambda at: self._look(at, need))

    def _look(self, now: int, need: Need) -> None:
        """Read about it, and go on to try, to ask, or to call."""
        chance, skill = self._rng.random, self._customer.skill
        interaction = self._interaction()
        for _ in range(int(self._rng.poisson(0.3 + 1.4 * skill))):
            kind = "search" if chance() < 0.2 else "page_viewed"
            self._say(
                now, kind, "web", IN, intent=self._hinted(need, 0.75, now), interaction=interaction
            )
            now += self._wait(40 * SECOND)
        self._free_at = now
        go = chance()
        if go < 0.08:
            self._later(now + MINUTE, lambda at: self._ask(at, need))
        elif go < 0.25 - 0.15 * skill:
            self._contact_later(now, 2 * HOUR, need)
        else:
            self._later(now + MINUTE, lambda at: self._try(at, need))

    def _try(self, now: int, need: Need) -> None:
        """Help oneself on a screen, with the bot or in the voice menu."""
        chance, skill = self._rng.random, self._customer.skill
        channel = "ivr" if chance() > 0.15 + 0.8 * skill else ("app", "web", "chat")[int(chance() * 3)]
        interaction = self._interaction()
        topic = self._hinted(need, 0.85, now)
        self._say(now, "self_service_started", channel, IN, intent=topic, interaction=interaction)
        if channel == "ivr" or chance() < 0.3:
            self._decide(now + 5 * SECOND, channel, interaction, need)
        hard = self._world.hardness[need.intent] + 2.5 * (0.5 - skill) - 1.5 * need.helped
        fails = chance() < 1 / (1 + math.exp(-hard))
        after = now + 30 * SECOND + self._wait(2 * MINUTE)
        kind = "self_service_failed" if fails else "self_service_completed"
        took = (after - now) / SECOND
        self._say(after, kind, channel, IN, intent=topic, duration=took, interaction=interaction)
        self._free_at = after
        self._feel(after, -0.15 if fails else 0.08)
        if not fails:
            return
        self._failed_at.append(after)
        go = chance()
        if go < 0.30:
            self._later(after + self._wait(20 * MINUTE), lambda at: self._try(at, need))
        elif go < 0.92:
            self._contact_later(after, 10 * MINUTE if channel == "ivr" else 2 * HOUR, need)

    def _ask(self, now: int, need: Need) -> None:
        """Ask by message; a third are never answered."""
        interaction = self._interaction()
        intent = self._hinted(need, 0.85, now)
        self._say(now, "question_asked", "email", IN, intent=intent, interaction=interaction)
        if self._rng.random() < 0.67:
            answered = self._awake(now + self._wait(12 * HOUR))
            self._say(answered, "question_answered", "email", OUT, interaction=interaction)
        else:
            self._feel(now, -0.2)
            self._contact_later(now, 2 * DAY, need)

    # Contacts

    def _contact_later(self, now: int, mean: int, need: Need) -> None:
        chance = self._rng.random()
        channel = "phone"
        if chance < 0.45 * self._customer.skill:
            channel = "chat"
        elif chance > 0.88:
            channel = "branch"
        when = self._awake(now + MINUTE + self._wait(mean), channel)
        self._later(when, lambda at: self._contact(at, channel, need, ""))

    def _contact(self, now: int, channel: str, need: Need, parent: str) -> None:
        """Talk with somebody: begin, be shown actions, wrap up, perhaps be handed on."""
        chance = self._rng.random
        interaction = self._interaction()
        intent = self._world.intents[need.intent]
        self._needed_at[need.intent] = now
        self._say(now, "contact_started", channel, IN, interaction=interaction, parent=parent)
        self._decide(now + 40 * SECOND, channel, interaction, need)
        after = now + 3 * MINUTE + int(self._rng.lognormal(5.2, 0.6) * SECOND)
        handed = not parent and channel != "branch" and chance() < 0.09
        easy = 0.75 - 0.35 * self._world.hardness[need.intent] + 1.2 * need.helped
        resolved = not handed and chance() < 1 / (1 + math.exp(-easy))
        self._feel(after, 0.3 if resolved else -0.1 if handed else -0.35)
        self._say(
            after,
            "contact_resolved" if resolved else "contact_unresolved",
            channel,
            IN,
            intent=intent,
            outcome=int(Outcome.resolved) if resolved else 0,
            duration=(after - now) / SECOND,
            sentiment=self._shown_mood(after),
            interaction=interaction,
            parent=parent,
        )
        self._free_at = after
        again = need.contacts > 0 and not parent
        self.contacts.append(
            Contact(interaction, self._customer.customer_id, now, channel, intent, resolved, again)
        )
        if handed:
            # Straight on: a transfer is one visit of the customer, so nothing comes between.
            if after + MINUTE < self._end:
                self._contact(after + MINUTE, channel, need, interaction)
            return
        need.contacts += 1
        if resolved:
            return
        if self._mood_now(after) < -0.5 and chance() < 0.4:
            self._complain(after + self._wait(HOUR), intent)
        if chance() < 0.75 and need.contacts < 5:
            self._contact_later(after, 36 * HOUR, need)

    def _complain(self, now: int, intent: str) -> None:
        interaction = self._interaction()
        mood = self._shown_mood(now)
        self._say(
            now, "complaint", "web", IN, intent=intent, sentiment=mood, interaction=interaction
        )
        if self._rng.random() < 0.7:
            settled = self._awake(now + DAY + self._wait(3 * DAY))
            self._say(settled, "complaint_settled", "email", OUT, interaction=interaction)

    # Decisions

    def _decide(self, now: int, channel: str, interaction: str, need: Need | None) -> None:
        world, customer, rng = self._world, self._customer, self._rng
        placement = PLACEMENTS[channel]
        eligible = world.eligible(
            customer, placement, channel, _ASSURANCE.get(channel, "verified"), now
        )
        most = min(world.business.placements[placement].max_actions, int(eligible.sum()))
        if most == 0:
            return
        self._seen_at = [one for one in self._seen_at if one[0] > now - MEMORY]
        self._failed_at = [at for at in self._failed_at if at > now - DAY]
        seen = np.bincount([action for _, action in self._seen_at], minlength=len(world.actions))
        acceptance = world.acceptance(
            customer,
            Situation(
                channel=channel,
                need=-1 if need is None else need.intent,
                mood=self._mood_now(now),
                failures=len(self._failed_at),
                needed=self._needed_at > max(0, now - MEMORY),
                seen=seen.astype(np.float64),
                refused=self._refused_at > max(0, now - MEMORY),
                taken=self._taken,
            ),
        )
        topic = self._topic if self._topic_at > now - DAY else -1
        slots = min(1 + int(rng.random() * 3), most)
        slate, selection = self._incumbent.slate(eligible, topic, slots)
        accepted = [bool(rng.random() < acceptance[action]) for action in slate]
        decision_id = f"{customer.customer_id}-{len(self.decisions):04d}"
        self.decisions.append(
            Decision(
                decision_id, customer.customer_id, now, placement, channel,
                "" if need is None else world.intents[need.intent], slate, selection, accepted,
                acceptance, eligible,
            )
        )  # fmt: skip
        for slot, (action, yes) in enumerate(zip(slate, accepted, strict=True)):
            self._present(now + slot * 4 * SECOND, channel, interaction, decision_id, action, yes)
            if yes and need is not None and world.answers[need.intent, action]:
                need.helped = True

    def _present(
        self, now: int, channel: str, interaction: str, decision: str, action: int, yes: bool
    ) -> None:
        """Show an action and log what became of it."""
        chance = self._rng.random
        catalogue = self._world.business.actions[action]
        direction = OUT if channel in ("email", "sms") else IN

        def log(ms: int, outcome: Outcome, value: float | None = None) -> None:
            self.happenings.append(
                Happening(
                    ms, "offer_outcome", channel, direction, action=catalogue.name,
                    outcome=int(outcome), value=value, interaction=interaction, decision=decision,
                )
            )  # fmt: skip

        log(now, Outcome.presented)
        self._seen_at.append((now, action))
        spoken = channel in _REFUSAL
        after = now + 15 * SECOND + self._wait(20 * SECOND if spoken else 90 * SECOND)
        if yes:
            self._taken[action] = True
            self._feel(after, 0.04)
            if not spoken and channel != "ivr":
                log(after - 5 * SECOND, Outcome.clicked)
            log(after, Outcome.accepted)
            if catalogue.issue == "grow" and chance() < 0.6:
                signed = after + self._wait(3 * DAY)
                log(signed, Outcome.converted, catalogue.value)
                self._say(signed + SECOND, "product_opened", direction=OURS, value=catalogue.value)
            return
        aloud, away = _REFUSAL.get(channel, _SCREEN)
        reply = chance()
        if reply < aloud:
            self._refused_at[action] = after
            self._feel(after, -0.03)
            log(after, Outcome.rejected)
        elif reply < aloud + away:
            log(after, Outcome.dismissed)

    # State

    def _say(
        self, ms: int, type: str, channel: str = "", direction: int = 0, *, intent: str = "",
        outcome: int = 0, value: float | None = None, duration: float | None = None,
        sentiment: float | None = None, interaction: str = "", parent: str = "",
    ) -> None:  # fmt: skip
        self.happenings.append(
            Happening(
                ms, type, channel, direction, intent, "", outcome, value, duration, sentiment,
                interaction, parent,
            )
        )  # fmt: skip

    def _later(self, ms: int, step: Callable[[int], None]) -> None:
        self._pushed += 1
        heapq.heappush(self._steps, (ms, self._pushed, step))

    def _wait(self, mean: int) -> int:
        """Draw a waiting time in milliseconds."""
        return int(self._rng.exponential(mean))

    def _awake(self, ms: int, channel: str = "") -> int:
        """Move a moment to the next one at which people are up and the channel is open."""
        first, last = _OPEN.get(channel, (7, 24))
        local = ms + _AMSTERDAM
        day, hour = local // DAY, local % DAY // HOUR
        if not first <= hour < last:
            day += hour >= last
            local = day * DAY + first * HOUR + int(self._rng.random() ** 1.5 * (last - first) * HOUR)
        if channel == "branch" and (local // DAY + 3) % 7 >= 5:
            local += 2 * DAY
        return local - _AMSTERDAM

    def _interaction(self) -> str:
        self._interactions += 1
        return f"{self._customer.customer_id}-i{self._interactions}"

    def _drawn_need(self) -> int:
        cumulative = np.cumsum(self._customer.needs)
        return min(int(np.searchsorted(cumulative, self._rng.random())), len(cumulative) - 1)

    def _hinted(self, need: Need, sure: float, now: int) -> str:
        """The topic that shows, which is not always the need; remembered as the last one seen."""
        other = self._rng.random() >= sure
        self._topic = self._drawn_need() if other else need.intent
        self._topic_at = now
        return self._world.intents[self._topic]

    def _mood_now(self, now: int) -> float:
        calm = self._customer.calm
        return calm + (self._mood - calm) * 0.5 ** (max(0, now - self._mood_at) / (7 * DAY))

    def _feel(self, now: int, by: float) -> None:
        self._mood = max(-1.0, min(1.0, self._mood_now(now) + by * self._customer.swing))
        self._mood_at = max(now, self._mood_at)

    def _shown_mood(self, now: int) -> float:
        noisy = self._mood_now(now) + self._rng.normal(0, 0.12)
        return round(float(max(-1.0, min(1.0, noisy))), 2)
