"""The life of one simulated customer, as a chain of events. Pure: draws and moments come in.

A need arises; it shows on pages; the customer tries to help themselves; where that fails they call,
chat or visit; what stays unresolved brings them back. In between runs ordinary life. Steps wait in
a heap, so state (mood, weariness, open needs) is always as of the moment.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from features.duration import DAY, HOUR, MINUTE, SECOND
from features.vocabulary import Outcome
from training.person import IN, OURS, OUT, Need, Person
from training.world import Customer, World

TYPES: Final = (
    "contact_started", "contact_resolved", "contact_unresolved", "self_service_started",
    "self_service_failed", "self_service_completed", "question_asked", "question_answered",
    "complaint", "complaint_settled", "page_viewed", "search", "login", "login_failed",
    "statement_viewed", "payment", "payment_failed", "card_declined", "salary_received",
    "fee_charged", "repayment_missed", "suspicious_payment", "rate_expiry_notice", "message_sent",
    "message_opened", "outcome", "product_opened",
)  # fmt: skip

# What happens shortly before a need, most of the time.
_OMENS: Final = {
    "card_declined": "card_declined", "payment_failed": "payment_failed",
    "login_trouble": "login_failed", "fee_question": "fee_charged", "refund_fee": "fee_charged",
    "payment_arrears": "repayment_missed", "dispute_transaction": "suspicious_payment",
    "report_fraud": "suspicious_payment", "mortgage_rate_expiry": "rate_expiry_notice",
    "overdraft": "payment_failed", "activate_app": "login_failed",
}  # fmt: skip
_OPEN: Final = {"phone": (8, 20), "chat": (8, 22), "branch": (9, 17)}
_AMSTERDAM: Final = HOUR  # winter time will do


class Contact(NamedTuple):
    """One contact and why it truly was."""

    interaction_id: str
    customer_id: str
    ms: int
    channel: str
    intent: str
    resolved: bool
    again: bool  # for a need that an earlier contact left open


class Life(Person):
    """One customer from ``start`` to ``end`` (milliseconds); :meth:`live` fills the lists."""

    def __init__(
        self, world: World, customer: Customer, rng: np.random.Generator, start: int, end: int
    ) -> None:
        super().__init__(world, customer, rng, start, end)
        self.contacts: list[Contact] = []
        self._steps: list[tuple[int, int, Callable[[int], None]]] = []
        self._pushed = 0
        self._free_at = start
        joined = start
        if not customer.tenure_days:
            joined = start + int(rng.random() * (end - start) * 0.9)
        opened = joined - customer.tenure_days * DAY
        self.joined_at = joined
        self.say(opened, "product_opened", "branch" if rng.random() < 0.5 else "web", IN)
        self._plan(joined)

    def live(self) -> None:
        """Take every step until the end."""
        while self._steps:
            ms, _, step = heapq.heappop(self._steps)
            if ms >= self._end:
                break
            if ms < self._free_at:
                self._later(self._free_at + self.wait(2 * MINUTE), step)
            else:
                step(ms)
        self.happenings = [one for one in self.happenings if one.ms < self._end]

    # Ordinary life

    def _plan(self, start: int) -> None:
        """Spread needs and ordinary days over the time there is."""
        months = (self._end - start) / (30 * DAY)
        busy, skill = self._customer.activity, self._customer.skill
        for rate, step in (
            (0.95 * min(busy, 2.5), self._need_arises),
            ((0.4 + 1.7 * skill) * busy, self._visit),
            (0.8 * busy, self._pay),
            (0.55, self._salary),
            (0.45, self._message),
        ):
            for moment in self._rng.random(self._rng.poisson(rate * months)):
                self._later(self._awake(start + int(moment * (self._end - start))), step)

    def _visit(self, now: int) -> None:
        """Look around in the app or on the site, with no need."""
        chance = self._rng.random
        channel = "app" if chance() < 0.25 + 0.6 * self._customer.skill else "web"
        interaction = self.interaction()
        self.say(now, "login", channel, IN, interaction=interaction)
        if chance() < 0.2:
            self.say(now + 9 * SECOND, "statement_viewed", channel, IN, interaction=interaction)
        if chance() < 0.4:
            intent = self._world.intents[self.drawn_need()]
            self.say(
                now + 20 * SECOND,
                "page_viewed",
                channel,
                IN,
                intent=intent,
                interaction=interaction,
            )
        if chance() < 0.33:
            self.decide(now + 2 * SECOND, channel, interaction, None)
        self._free_at = now + 3 * MINUTE

    def _pay(self, now: int) -> None:
        worth = round(float(self._rng.lognormal(3.4, 0.9)), 2)
        self.say(now, "payment", "app" if self._rng.random() < 0.6 else "", OURS, value=worth)

    def _salary(self, now: int) -> None:
        worth = round(1_200 + 500 * math.log1p(self._customer.balance / 500), 2)
        self.say(now, "salary_received", direction=OURS, value=worth)

    def _message(self, now: int) -> None:
        """Be sent a message that carries an action."""
        channel = "email" if self._rng.random() < 0.7 else "sms"
        interaction = self.interaction()
        self.say(now, "message_sent", channel, OUT, interaction=interaction)
        if self._rng.random() < 0.65:
            self._later(now + self.wait(5 * HOUR), lambda at: self._open(at, channel, interaction))

    def _open(self, now: int, channel: str, interaction: str) -> None:
        self.say(now, "message_opened", channel, OUT, interaction=interaction)
        self.decide(now, channel, interaction, None)

    # Needs

    def _need_arises(self, now: int) -> None:
        need = Need(self.drawn_need())
        intent = self._world.intents[need.intent]
        self._needed_at[need.intent] = now
        omen = _OMENS.get(intent)
        if omen is not None and self._rng.random() < 0.75:
            channel = "app" if omen == "login_failed" else ""
            worth = round(float(self._rng.lognormal(2.5, 0.8)), 2) if "charged" in omen else None
            self.say(now, omen, channel, IN if channel else OURS, value=worth)
            self.feel(now, -0.05)
            now += self.wait(3 * HOUR)
        self._later(self._awake(now + MINUTE), lambda at: self._look(at, need))

    def _look(self, now: int, need: Need) -> None:
        """Read about it, and go on to try, to ask, or to call."""
        chance, skill = self._rng.random, self._customer.skill
        interaction = self.interaction()
        for _ in range(int(self._rng.poisson(0.3 + 1.4 * skill))):
            kind = "search" if chance() < 0.2 else "page_viewed"
            self.say(
                now, kind, "web", IN, intent=self.hinted(need, 0.65, now), interaction=interaction
            )
            now += self.wait(40 * SECOND)
        self._free_at = now
        go = chance()
        if go < 0.08:
            self._later(now + MINUTE, lambda at: self._ask(at, need))
        elif go < 0.33 - 0.2 * skill:
            self._contact_later(now, 2 * HOUR, need)
        else:
            self._later(now + MINUTE, lambda at: self._try(at, need))

    def _try(self, now: int, need: Need) -> None:
        """Help oneself on a screen, with the bot or in the voice menu."""
        chance, skill = self._rng.random, self._customer.skill
        channel = (
            "ivr" if chance() > 0.15 + 0.8 * skill else ("app", "web", "chat")[int(chance() * 3)]
        )
        interaction = self.interaction()
        topic = self.hinted(need, 0.75, now)
        self.say(now, "self_service_started", channel, IN, intent=topic, interaction=interaction)
        if channel == "ivr" or chance() < 0.3:
            self.decide(now + 5 * SECOND, channel, interaction, need)
        hard = self._world.hardness[need.intent] + 2.5 * (0.5 - skill) - 1.5 * need.helped
        fails = chance() < 1 / (1 + math.exp(-hard))
        after = now + 30 * SECOND + self.wait(2 * MINUTE)
        kind = "self_service_failed" if fails else "self_service_completed"
        took = (after - now) / SECOND
        self.say(after, kind, channel, IN, intent=topic, duration=took, interaction=interaction)
        self._free_at = after
        self.feel(after, -0.15 if fails else 0.08)
        if not fails:
            return
        self._failed_at.append(after)
        go = chance()
        if go < 0.30:
            self._later(after + self.wait(20 * MINUTE), lambda at: self._try(at, need))
        elif go < 0.92:
            self._contact_later(after, 10 * MINUTE if channel == "ivr" else 2 * HOUR, need)

    def _ask(self, now: int, need: Need) -> None:
        """Ask by message; a third are never answered."""
        interaction = self.interaction()
        intent = self.hinted(need, 0.75, now)
        self.say(now, "question_asked", "email", IN, intent=intent, interaction=interaction)
        if self._rng.random() < 0.67:
            answered = self._awake(now + self.wait(12 * HOUR))
            self.say(answered, "question_answered", "email", OUT, interaction=interaction)
        else:
            self.feel(now, -0.2)
            self._contact_later(now, 2 * DAY, need)

    # Contacts

    def come_back(self, now: int, need: Need | None) -> None:
        """Contact us some days later, about the need of the moment or another one."""
        intent = self.drawn_need() if need is None else need.intent
        self._contact_later(now, 2 * DAY, Need(intent, contacts=1))

    def _contact_later(self, now: int, mean: int, need: Need) -> None:
        chance = self._rng.random()
        channel = "phone"
        if chance < 0.45 * self._customer.skill:
            channel = "chat"
        elif chance > 0.88:
            channel = "branch"
        when = self._awake(now + MINUTE + self.wait(mean), channel)
        self._later(when, lambda at: self._contact(at, channel, need, ""))

    def _contact(self, now: int, channel: str, need: Need, parent: str) -> None:
        """Talk with somebody: begin, be shown actions, wrap up, perhaps be handed on."""
        if now + HOUR > self._end:
            return  # it would not end in time, and every contact ends in a wrap-up
        chance = self._rng.random
        interaction = self.interaction()
        intent = self._world.intents[need.intent]
        self._needed_at[need.intent] = now
        person = int(chance() * len(self._world.agents))
        agent = f"agent-{person + 1:02d}"
        self.say(
            now, "contact_started", channel, IN,
            interaction=interaction, parent=parent, agent=agent,
        )  # fmt: skip
        self.decide(now + 40 * SECOND, channel, interaction, need)
        after = now + 3 * MINUTE + int(min(self._rng.lognormal(5.2, 0.6), 3_000) * SECOND)
        handed = not parent and channel != "branch" and chance() < 0.09
        easy = 0.75 - 0.35 * self._world.hardness[need.intent] + 1.2 * need.helped
        easy += self._world.agents[person]
        resolved = not handed and chance() < 1 / (1 + math.exp(-easy))
        self.feel(after, 0.3 if resolved else -0.1 if handed else -0.35)
        self.say(
            after,
            "contact_resolved" if resolved else "contact_unresolved",
            channel,
            IN,
            intent=intent,
            outcome=int(Outcome.resolved) if resolved else 0,
            duration=(after - now) / SECOND,
            sentiment=self.shown_mood(after),
            interaction=interaction,
            parent=parent,
            agent=agent,
        )
        self._free_at = after
        again = need.contacts > 0 and not parent
        if again:
            self.say(
                after + SECOND, "outcome", channel, OURS, intent=intent,
                outcome=int(Outcome.repeat_contact), interaction=interaction,
            )  # fmt: skip
        self.contacts.append(
            Contact(interaction, self._customer.customer_id, now, channel, intent, resolved, again)
        )
        if handed:
            # Straight on: a transfer is one visit of the customer, so nothing comes between.
            self._contact(after + MINUTE, channel, need, interaction)
            return
        need.contacts += 1
        if resolved:
            return
        if self.mood_now(after) < -0.5 and chance() < 0.4:
            self._complain(after + self.wait(HOUR), intent)
        if chance() < 0.75 and need.contacts < 5:
            self._contact_later(after, 36 * HOUR, need)

    def _complain(self, now: int, intent: str) -> None:
        interaction = self.interaction()
        mood = self.shown_mood(now)
        self.say(
            now, "complaint", "web", IN, intent=intent, sentiment=mood, interaction=interaction
        )
        if self._rng.random() < 0.7:
            settled = self._awake(now + DAY + self.wait(3 * DAY))
            self.say(settled, "complaint_settled", "email", OUT, interaction=interaction)

    # Time

    def _later(self, ms: int, step: Callable[[int], None]) -> None:
        self._pushed += 1
        heapq.heappush(self._steps, (ms, self._pushed, step))

    def _awake(self, ms: int, channel: str = "") -> int:
        """Move a moment to the next one at which people are up and the channel is open."""
        first, last = _OPEN.get(channel, (7, 24))
        local = ms + _AMSTERDAM
        day, hour = local // DAY, local % DAY // HOUR
        if not first <= hour < last:
            day += hour >= last
            local = (
                day * DAY + first * HOUR + int(self._rng.random() ** 1.5 * (last - first) * HOUR)
            )
        if channel == "branch" and (local // DAY + 3) % 7 >= 5:
            local += 2 * DAY
        return local - _AMSTERDAM
