"""The reasons of a decision, told to three people: the agent, the customer, the auditor. Pure.

The agent hears what helps in the conversation. The customer hears what is true and concerns them,
without the names of our rules. The auditor hears codes, names and numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from rapport.v1 import decision_pb2 as pb

_NAMED: Final = re.compile(r" \((?:limit |ceiling |quiet hours |rule )?[\w-]+\)$")
"""The name of a rule at the end of a sentence: nothing for a conversation."""

_CUSTOMER: Final = {
    "": "We suggested this because it looked useful to you now.",
    "NO_TREATMENT": "This is not something we offer here.",
    "NO_DEFAULT": "We could not look into this in the time we had.",
    "NOT_ALLOWED": "This was not what we were looking at just now.",
    "BLOCKED": "This was ruled out for this conversation.",
    "NOT_VALID_NOW": "This is not available at the moment.",
    "ASSURANCE_TOO_LOW": "We first need to be sure that it is you.",
    "NO_CONSENT": "We have no agreement of yours to suggest this here. You may change that.",
    "CONSENT_UNREADABLE": "We could not see whether you agreed to this, so we left it out.",
    "RULE": "You do not meet the conditions for this at the moment.",
    "RULE_UNKNOWN": "We do not know enough about you to suggest this.",
    "PART_DROPPED": "A part of this is not available to you at the moment.",
    "LEDGER_UNREADABLE": "We could not see what we showed you lately, so we left it out.",
    "CONTACT_LIMIT": "You have seen or answered this lately, so we left it out.",
    "SUPPRESSED": "You told us that this is not for you, so we leave it be for a while.",
    "CEILING": "We can only offer this to so many people at a time.",
    "QUIET_HOURS": "It was late where you are, so we did not get in touch.",
    "RESERVATION_FAILED": "Just then we could not offer this to you.",
    "NO_PRIORITY": "This did not seem useful to you now.",
    "SHOWN_ELSEWHERE": "We showed you this in another place.",
    "GROUP_FULL": "We showed you something like it instead.",
    "BUNDLED": "It is part of something else that we showed you.",
    "LIMIT_FULL": "We do not show you more of this kind at a time; other things went first.",
    "RANKED_LOWER": "Other things seemed more useful to you now.",
    "NOT_DRAWN": "Now and then we show something else, to learn what helps.",
    "HELD_BACK": "Now and then we suggest nothing, to learn whether our suggestions help.",
    "HELD_OUT": "For some customers we suggest nothing for a while, to learn whether it helps.",
}


def voices(candidate: pb.Candidate, reasons: Sequence[pb.Reason] = ()) -> pb.Voices:
    """Tell why an action is, or is not, part of an answer.

    Args:
        candidate: With its decisive reason, or without one where it was shown.
        reasons: Why it was shown, strongest first.
    """
    code = candidate.reason.code
    return pb.Voices(
        agent=_agent(candidate, reasons), customer=_CUSTOMER[code], auditor=_auditor(candidate)
    )


def _agent(candidate: pb.Candidate, reasons: Sequence[pb.Reason]) -> str:
    f = candidate.factors
    if candidate.reason.code:
        text = _NAMED.sub("", candidate.reason.text).rstrip(".")
        against = ""
        if candidate.reason.code in ("RANKED_LOWER", "GROUP_FULL") and f.context_weight < 1:
            against = f" The situation weighs against it (x{f.context_weight:.2g})."
        return f"Not now: {text}.{against}"
    telling = next((one.text for one in reasons if one.code != "VALUE"), "")
    if telling:
        return f"{telling.rstrip('.')}."
    whose = "by the model's estimate" if f.HasField("model_probability") else "as usual"
    return f"Accepted by {f.acceptance_probability:.0%} of customers like this one, {whose}."


def _auditor(candidate: pb.Candidate) -> str:
    told = []
    if candidate.reason.code:
        stage = pb.Stage.Name(candidate.dropped_by).removeprefix("STAGE_").lower()
        told.append(f"{stage}: {candidate.reason.code}: {candidate.reason.text}")
        if candidate.also:
            told.append("also " + ", ".join(one.code for one in candidate.also))
    else:
        told.append(f"shown, selection probability {candidate.selection_probability:.4g}")
    if candidate.rank:
        f = candidate.factors
        told.append(
            f"rank {candidate.rank}: P {f.acceptance_probability:.4f}, V {f.value:.2f}, "
            f"C {f.context_weight:.3g}, L {f.lever:.3g}, priority {f.priority:.4g}"
        )
        if f.HasField("uplift"):
            told.append(f"uplift {f.uplift:.3f} [{f.uplift_low:.3f}, {f.uplift_high:.3f}]")
    return "; ".join(told)


CODES: Final = frozenset(_CUSTOMER) - {""}
"""Every code that a decisive reason may have."""
