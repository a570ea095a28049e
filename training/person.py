"""What a simulated customer feels, remembers and answers. Pure: draws and moments come in.

State is always as of the newest moment that it was told of; ``training.life`` sees to the order.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Final, NamedTuple

import numpy as np

from features.duration import DAY, SECOND
from features.vocabulary import Direction, Outcome
from training.world import MEMORY, SIGNS, Customer, Floats, Incumbent, Mask, Situation, World

PLACEMENTS: Final = {
    "phone": "agent_hint", "branch": "agent_hint", "chat": "chat_reply", "ivr": "ivr_menu",
    "web": "web_banner", "app": "app_card", "email": "outbound_message", "sms": "outbound_message",
}  # fmt: skip
"""Where each channel shows actions."""

IN, OUT, OURS = int(Direction.inbound), int(Direction.outbound), int(Direction.internal)

_ASSURANCE: Final = {"ivr": "ani", "web": "ani", "email": "ani", "sms": "ani", "app": "verified"}
# Chance of refusing aloud and of waving away, of those who do not accept; the rest stay silent.
_REFUSAL: Final = {"phone": (0.6, 0.2), "branch": (0.6, 0.2), "chat": (0.5, 0.25)}
_SCREEN: Final = (0.08, 0.3)
# Agents spare customers whose mood is below this, so often: drawn is not presented.
_COLD, _SPARES = -0.25, 0.6


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
    agent: str = ""


class Decision(NamedTuple):
    """One choice of the incumbent, with the truth about it."""

    decision_id: str
    customer_id: str
    ms: int
    placement: str
    channel: str
    need: str  # true intent; empty: none
    interaction: str
    held_back: bool
    hold_back: float  # the probability of that
    slate: list[int]  # as it was drawn; empty where it was held back
    selection: list[float]  # given that it was not held back
    presented: list[bool]
    accepted: list[bool]
    acceptance: Floats  # [actions]
    eligible: Mask  # [actions]
    harm: Floats  # [actions]


@dataclasses.dataclass
class Need:
    """Something that the customer wants done."""

    intent: int
    contacts: int = 0
    helped: bool = False  # an accepted action answers it


class Person:
    """A customer's state, and all that was seen of them: ``happenings`` and ``decisions``."""

    def __init__(
        self, world: World, customer: Customer, rng: np.random.Generator, start: int, end: int
    ) -> None:
        self.happenings: list[Happening] = []
        self.decisions: list[Decision] = []
        self._world, self._customer, self._rng = world, customer, rng
        self._incumbent = Incumbent(world, rng)
        self._end = end
        self._mood, self._mood_at = customer.calm, start
        self._topic, self._topic_at = -1, 0
        self._failed_at: list[int] = []
        self._needed_at = np.zeros(len(world.intents), np.int64)
        self._seen_at: list[tuple[int, int]] = []
        self._refused_at = np.zeros(len(world.actions), np.int64)
        self._taken = np.zeros(len(world.actions), bool)
        self._interactions = 0

    def decide(self, now: int, channel: str, interaction: str, need: Need | None) -> None:
        """Have the incumbent draw, somebody present it, and answer to each action presented."""
        world, customer, rng = self._world, self._customer, self._rng
        placement = PLACEMENTS[channel]
        eligible = world.eligible(
            customer, placement, channel, _ASSURANCE.get(channel, "verified"), now
        )
        most = min(world.business.placements[placement].max_actions, int(eligible.sum()))
        if most == 0 or now >= self._end:
            return
        self._seen_at = [one for one in self._seen_at if one[0] > now - MEMORY]
        self._failed_at = [at for at in self._failed_at if at > now - DAY]
        seen = np.bincount([action for _, action in self._seen_at], minlength=len(world.actions))
        acceptance = world.acceptance(
            customer,
            Situation(
                channel=channel,
                need=-1 if need is None else need.intent,
                mood=self.mood_now(now),
                failures=len(self._failed_at),
                needed=self._needed_at > max(0, now - MEMORY),
                seen=seen.astype(np.float64),
                refused=self._refused_at > max(0, now - MEMORY),
                taken=self._taken,
            ),
        )
        topic = self._topic if self._topic_at > now - DAY else -1
        slots = min(1 + int(rng.random() * 3), most)
        held_back, hold_back = self._incumbent.holds_back(placement)
        slate, selection = ([], []) if held_back else self._incumbent.slate(eligible, topic, slots)
        spared = channel in ("phone", "branch") and self.mood_now(now) < _COLD
        presented = [not (spared and rng.random() < _SPARES) for _ in slate]
        harm = world.harm(customer)
        # Drawn for what is bought anyway too, whether or not it is presented.
        would = rng.random(len(acceptance)) < acceptance
        accepted = [
            shown and bool(would[action]) for action, shown in zip(slate, presented, strict=True)
        ]
        decision_id = f"{customer.customer_id}-{len(self.decisions):04d}"
        self.decisions.append(
            Decision(
                decision_id, customer.customer_id, now, placement, channel,
                "" if need is None else world.intents[need.intent], interaction, held_back,
                hold_back, slate, selection, presented, accepted, acceptance, eligible, harm,
            )
        )  # fmt: skip
        direction = OUT if channel in ("email", "sms") else IN
        for action in np.flatnonzero(world.anyway & eligible & would).tolist():
            if action not in [slate[slot] for slot, shown in enumerate(presented) if shown]:
                self._buys(now + self.wait(3 * DAY), action)
        for slot, (action, yes) in enumerate(zip(slate, accepted, strict=True)):
            if not presented[slot]:
                continue
            shown = Happening(
                now + slot * 4 * SECOND, "outcome", channel, direction,
                action=world.actions[action], outcome=int(Outcome.presented),
                interaction=interaction, decision=decision_id,
            )  # fmt: skip
            self.happenings.append(shown)
            self._seen_at.append((shown.ms, action))
            self._answer(shown, action, yes)
            if rng.random() < harm[action]:
                self.come_back(shown.ms, need)
            if yes and need is not None and world.answers[need.intent, action]:
                need.helped = True

    def _buys(self, now: int, action: int) -> None:
        """Buy without having been asked; no decision can claim it."""
        self._taken[action] = True
        if self._rng.random() < SIGNS:
            worth = self._world.business.actions[action].value
            self.say(now, "outcome", direction=OURS, outcome=int(Outcome.converted), value=worth)
            self.say(now + SECOND, "product_opened", direction=OURS, value=worth)

    def come_back(self, now: int, need: Need | None) -> None:
        """Have to contact us again because of what was presented; a life knows when."""

    def _answer(self, shown: Happening, action: int, yes: bool) -> None:
        """Log what became of an action that was presented, and feel accordingly."""

        def log(ms: int, outcome: Outcome, value: float | None = None) -> None:
            self.happenings.append(shown._replace(ms=ms, outcome=int(outcome), value=value))

        spoken = shown.channel in _REFUSAL
        after = shown.ms + 15 * SECOND + self.wait(20 * SECOND if spoken else 90 * SECOND)
        reply = self._rng.random()
        if yes:
            self._taken[action] = True
            self.feel(after, 0.04)
            if not spoken and shown.channel != "ivr":
                log(after - 5 * SECOND, Outcome.clicked)
            log(after, Outcome.accepted)
            if self._world.sells[action] and reply < SIGNS:
                signed = after + self.wait(3 * DAY)
                worth = self._world.business.actions[action].value
                log(signed, Outcome.converted, worth)
                self.say(signed + SECOND, "product_opened", direction=OURS, value=worth)
            return
        aloud, away = _REFUSAL.get(shown.channel, _SCREEN)
        if reply < aloud:
            self._refused_at[action] = after
            self.feel(after, -0.03)
            log(after, Outcome.rejected)
        elif reply < aloud + away:
            log(after, Outcome.dismissed)

    # One parameter for each field that a story needs.
    def say(
        self,
        ms: int,
        type: str,
        channel: str = "",
        direction: int = 0,
        *,
        intent: str = "",
        outcome: int = 0,
        value: float | None = None,
        duration: float | None = None,
        sentiment: float | None = None,
        interaction: str = "",
        parent: str = "",
        agent: str = "",
    ) -> None:
        """Log that something happened."""
        self.happenings.append(
            Happening(
                ms, type, channel, direction, intent, "", outcome, value, duration, sentiment,
                interaction, parent, "", agent,
            )
        )  # fmt: skip

    def interaction(self) -> str:
        """Name a new interaction."""
        self._interactions += 1
        return f"{self._customer.customer_id}-i{self._interactions}"

    def wait(self, mean: int) -> int:
        """Draw a waiting time in milliseconds."""
        return int(self._rng.exponential(mean))

    def drawn_need(self) -> int:
        """Draw one of the things that this customer tends to need: index of an intent."""
        cumulative = np.cumsum(self._customer.needs)
        return min(int(np.searchsorted(cumulative, self._rng.random())), len(cumulative) - 1)

    def hinted(self, need: Need, sure: float, now: int) -> str:
        """The topic that shows, which is not always the need; remembered as the last one seen."""
        other = self._rng.random() >= sure
        self._topic = self.drawn_need() if other else need.intent
        self._topic_at = now
        return self._world.intents[self._topic]

    def mood_now(self, now: int) -> float:
        """Mood at a moment, -1 to 1; it returns to calm with a half-life of a week."""
        calm = self._customer.calm
        weeks = max(0, now - self._mood_at) / (7 * DAY)
        return calm + (self._mood - calm) * math.pow(0.5, weeks)

    def feel(self, now: int, by: float) -> None:
        """Move the mood."""
        self._mood = max(-1.0, min(1.0, self.mood_now(now) + by * self._customer.swing))
        self._mood_at = max(now, self._mood_at)

    def shown_mood(self, now: int) -> float:
        """The mood as somebody else would score it, in hundredths."""
        noisy = self.mood_now(now) + self._rng.normal(0, 0.12)
        return round(float(max(-1.0, min(1.0, noisy))), 2)
