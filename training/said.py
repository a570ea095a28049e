"""What an audit found, in sentences. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from training.audited import Cause, Compared, Gap


def sentence(one: Compared) -> str:
    """A gap in one sentence."""
    often = "long" if one.of == "wait_seconds" else "often"
    many = "" if math.isinf(one.ratio) else f", {one.ratio:.2f} times as {often}"
    bounds = f"({one.low:.2f} to {one.high:.2f})"
    if one.of == "wait_seconds":
        rates_ = f"{one.rate:.0f} against {one.rate_others:.0f} seconds for everybody else"
    else:
        rates_ = f"{one.rate:.1%} against {one.rate_others:.1%} for everybody else"
    return f"{titled(one)}, {one.attribute} {one.segment}: {rates_}{many} {bounds}"


def titled(one: Compared) -> str:
    """What is compared, in words."""
    match one.measure:
        case "selection":
            return f"Shown {one.of}"
        case "acceptance":
            return "Accepted" if one.of == "all" else f"Accepted, {one.of}"
        case "concessions":
            return "Shown a concession"
    return {"wait_seconds": "Wait", "transfers": "Transferred", "repeats": "Came back"}[one.of]


def _begun(text: str) -> str:
    return text[:1].upper() + text[1:]


def called(kind: str, name: str) -> str:
    """A cause by its kind and name."""
    return kind if kind.replace(" ", "_") == name else f"{kind} {name}"


def blamed(cause: Cause, one: Compared) -> str:
    """Name the cause of a gap, how much it explains, and what removing it would cost."""
    text = f"{_begun(called(cause.kind, cause.name))} explains {cause.explained:.0%} of it "
    text += f"({cause.explained_low:.0%} to {cause.explained_high:.0%})"
    proxy = next((one for one in cause.reads if one.proxy and one.name != "in effect"), None)
    if proxy is not None and proxy.protected:
        text += f"; it reads {proxy.name}, which is what is compared"
    elif proxy is not None:
        text += f"; it reads {proxy.name}, a proxy ({measured(proxy.association)} "
        text += f"{proxy.strength:.2f})"
    if max(cause.rate_without, cause.rate_others_without) < min(one.rate, one.rate_others):
        text += "; without it, fewer of everybody would get it"
    text += f". Without it, a slate's expected value changes by {cause.cost.change:+.2f}"
    return f"{text} ({cause.cost.low:+.2f} to {cause.cost.high:+.2f}) of {cause.cost.value:.2f}"


def measured(association: str) -> str:
    """Name of a measure of association, as people know it."""
    return "AUC" if association == "auc" else "Cramér's V"


def summary(compared: Sequence[Compared], gaps: Sequence[tuple[Gap, Cause | None]]) -> str:
    """The first thing to read."""
    able = [one for one in compared if one.verdict != "not_enough_data"]
    few = len(compared) - len(able)
    text = f"{len(gaps)} gap{'s' * (len(gaps) != 1)} among {len(able)} comparisons"
    text += f" ({few} more had not enough data)" if few else ""
    if not gaps:
        return f"{text}."
    text += f"; largest: {gaps[0][0].sentence}."
    blamed = Counter((one.kind, one.name) for _, one in gaps if one is not None)
    if blamed:
        (kind, name), count = blamed.most_common(1)[0]
        text += f" {_begun(called(kind, name))} is the first cause of {count} of them."
    return text


def size(one: Compared) -> float:
    """How large a gap is at least: the log of the interval's end nearest to no difference."""
    if one.low > 1:
        return math.log(one.low)
    return -math.log(one.high) if 0 < one.high < 1 else 0.0
