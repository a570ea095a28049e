"""Audit decisions for unequal treatment: who is shown what, who accepts, who has to work for it.

Every rate of every segment is compared with everybody else's. Where a gap is flagged and decisions
can be computed again, they are, without one suspected cause at a time. ``docs/fairness.md`` says
how to read the result. Nothing here judges whether a difference is justified.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from service import VERSION
from service.business import Business
from service.errors import Precondition
from service.models import Models
from service.pipeline import Pipeline
from training import cases, measures, rates, replay, said, segments
from training.audited import Audit, Cause, Compared, Gap, Segment, Settings, Source, Verdict
from training.cases import Case
from training.causes import FEATURES, FILTERS, Causes, Stage, named
from training.effort import Effort
from training.measures import Measure
from training.rates import Mask, Ratio
from training.recomputed import Recomputed
from training.replay import History
from training.reproduce import Past
from training.segments import Cut

SETTINGS: Final = Settings(rates.LEVEL, 0.05, 0.8, 1.25, 30, 10, 1)


class Asked(NamedTuple):
    """What to audit."""

    archive: Path
    sample: int | None = None  # customers to decide for; None: the log
    again: int = 2_000  # logged decisions that are computed again at most
    protected: Sequence[str] = ()  # empty: as the policies say
    value_tier: str = ""  # empty: as the policies say
    bands: Mapping[str, Sequence[float]] = {}
    settings: Settings = SETTINGS


class _Found(NamedTuple):
    measure: Measure
    cut: Cut
    place: int
    ratio: Ratio


def audit(asked: Asked, business: Business | None, models: Models | None, show: Stage) -> Audit:
    """Look for gaps and their causes.

    Args:
        asked: What to audit.
        business: Names, segments and, for a sample, policies; None: of the newest logged decision.
        models: To decide a sample with; None: those of the newest logged decision, where there is
            no ``business``.
        show: Told how far each stage is.

    Raises:
        FileNotFoundError: The archive is empty.
        NotFound: It does not keep what decided.
        Precondition: There is nothing to compare.
    """
    settings = asked.settings
    show("read the archive", 0, 1)
    made = cases.made(asked.archive)
    if business is None:
        business = cases.configuration(asked.archive, made.configuration)
        if asked.sample is not None and models is None:
            models = cases.models(asked.archive, made.bundle, business)
    erased = replay.erasures(asked.archive)
    histories = {one.customer_id: one for one in replay.histories(asked.archive, erased=erased)}
    show("read the archive", 1, 1)
    cuts = _cuts(asked, business, histories)
    if asked.sample is None:
        found = cases.logged(
            asked.archive, histories, erased, asked.again, settings.seed,
            lambda done, of: show("read the decisions", done, of),
        )  # fmt: skip
        decided, lost = found.cases, found.lost
    else:
        past = Past(Pipeline(business), models)
        decided, lost = cases.sampled(histories, past, asked.sample, settings.seed), {}
    bundle = made.bundle if models is None else models.manifest.version
    if asked.sample is not None and models is None:
        bundle = ""
    if not decided:
        raise Precondition(
            f"{asked.archive}: no decision is logged there; decide for customers with --sample N"
        )
    numbers = {customer: i for i, customer in enumerate(sorted(histories))}
    for case in decided:
        numbers.setdefault(case.customer_id, len(numbers))
    again = [i for i, one in enumerate(decided) if one.inputs is not None]
    base = None
    if again:
        base = Recomputed(
            [decided[i] for i in again], business,
            lambda done, of: show("decide again", done, of),
        )  # fmt: skip
    shown = measures.shown(decided, business, again, base)
    possible = measures.possible(decided, business)
    places = {cut.attribute: measures.places(cut, (one.profile for one in decided)) for cut in cuts}
    who = np.array([numbers[one.customer_id] for one in decided])
    happened = list(Effort(business, _end(histories)).of(histories.values()))
    measured = [
        *measures.selection(business, shown, possible, who, places),
        *measures.waits(decided, who, places),
        *measures.effort(happened, histories, business, numbers, cuts),
    ]
    compared, flagged = _compare(measured, cuts, settings, show)
    gaps, passed_over = _gaps(flagged, base, np.array(again, np.int64), possible, who, show)
    moments = [one.moment for one in decided]
    counts = Counter(one.what for one in happened if one.possible)
    source = Source(
        str(asked.archive),
        "log" if asked.sample is None else "sample",
        business.digest,
        bundle,
        len(set(who.tolist())),
        len(decided),
        len(again),
        counts["accepted"],
        counts["transfers"],
        min(moments),
        max(moments),
    )
    return Audit(
        said.summary(compared, gaps),
        source,
        settings,
        [*_told(cuts, places, who)],
        [gap for gap, _ in gaps],
        compared,
        [*_not_looked_at(asked, lost, decided, bool(gaps), passed_over)],
        version=VERSION,
    )


def recorded(folder: Path) -> Business:
    """The configuration of the newest logged decision.

    Raises:
        NotFound: The archive does not keep it.
    """
    return cases.configuration(folder, cases.made(folder).configuration)


def _cuts(asked: Asked, business: Business, histories: Mapping[str, History]) -> list[Cut]:
    policies = business.policies
    names = [*(asked.protected or policies.protected_attributes)]
    tier = asked.value_tier or policies.value_tier_by
    names += [tier] if tier and tier not in names else []
    if not names:
        raise Precondition(
            "protected_attributes: none is declared, so there is nothing to compare; declare them "
            "in policies.yaml, or name them with --protected"
        )
    newest = [history.profile(2**62) for history in histories.values()]
    return [
        segments.cut(
            name,
            [measures.value(one, name) for one in newest],
            business.vocabulary,
            asked.bands.get(name),
        )
        for name in names
    ]


def _end(histories: Mapping[str, History]) -> int:
    return max(
        (int(one.records["occurred_at"][-1]) for one in histories.values() if len(one.records)),
        default=0,
    )


def _compare(
    measured: Sequence[Measure], cuts: Sequence[Cut], settings: Settings, show: Stage
) -> tuple[list[Compared], list[tuple[Compared, _Found]]]:
    """Compare every rate of every segment, and say which differ."""
    found = []
    for number, measure in enumerate(measured, 1):
        for cut in cuts:
            for place in range(len(cut.labels)):
                members = measure.segments[cut.attribute] == place
                if members.any():
                    told = rates.ratio(measure.tally, members)
                    found.append(_Found(measure, cut, place, told))
        show("compare rates", number, len(measured))
    able = [
        not math.isnan(one.ratio.p)
        and rates.enough(one.ratio.segment, one.ratio.others, settings.customers, settings.events)
        for one in found
    ]
    q = np.full(len(found), math.nan)
    q[able] = rates.adjusted(np.array([o.ratio.p for o, ok in zip(found, able, strict=True) if ok]))
    compared = [
        _compared(one, _verdict(one.ratio, float(q[i]), settings) if able[i] else "not_enough_data",
                  float(q[i]))
        for i, one in enumerate(found)
    ]  # fmt: skip
    flagged = [pair for pair in zip(compared, found, strict=True) if pair[0].verdict == "gap"]
    flagged.sort(key=lambda pair: -said.size(pair[0]))
    return compared, flagged


def _verdict(told: Ratio, q: float, settings: Settings) -> Verdict:
    if q > settings.false_discovery_rate or told.low <= 1 <= told.high:
        return "none"
    return "gap" if not settings.below <= told.ratio <= settings.above else "small"


def _compared(one: _Found, verdict: Verdict, q: float) -> Compared:
    label = one.cut.labels[one.place]
    segment, others = one.ratio.segment, one.ratio.others
    parts = (one.measure.name, one.measure.of, one.cut.attribute, label)
    return Compared(
        "/".join(part.replace(" ", "_") for part in parts),
        one.measure.name,
        one.measure.of,
        one.cut.attribute,
        label,
        verdict,
        one.ratio.ratio,
        one.ratio.low,
        one.ratio.high,
        one.ratio.p,
        q,
        segment.rate,
        others.rate,
        segment.happened,
        others.happened,
        segment.possible,
        others.possible,
        segment.customers,
        others.customers,
    )


def _gaps(
    flagged: Sequence[tuple[Compared, _Found]],
    base: Recomputed | None,
    again: np.ndarray,
    possible: Mask,
    who: np.ndarray,
    show: Stage,
) -> tuple[list[tuple[Gap, Cause | None]], int]:
    """The causes of every gap, and how many suspects were too many to be taken out."""
    causes = None
    decided = [found for _, found in flagged if found.measure.rows]
    if base is not None and decided:
        members = {
            (one.cut.attribute, one.place): one.measure.segments[one.cut.attribute][again]
            == one.place
            for one in decided
        }
        masks = [one for one in members.values() if 0 < one.sum() < len(one)]
        causes = Causes(base, who[again], masks, show)
    gaps: list[tuple[Gap, Cause | None]] = []
    for compared, found in flagged:
        told: list[Cause] = []
        note = ""
        if not found.measure.rows:
            note = "What people do cannot be computed again, so no cause is looked for"
        elif causes is None:
            note = "No decision can be computed again, so no cause is looked for; use --sample N"
        else:
            rows = found.measure.rows
            inside = found.measure.segments[found.cut.attribute][again] == found.place
            could = possible[again][:, rows].any(axis=1)
            if could[inside].any() and could[~inside].any():
                told = causes.of(rows, could, inside, found.cut.attribute)
        first = told[0] if told and named(told[0]) else None
        if first is None and not note:
            note = (
                "No single cause explains it: what brings these customers here may differ, or "
                "several causes each would be enough"
            )
        text = "" if first is None else said.blamed(first, compared)
        gaps.append((Gap(compared.id, said.sentence(compared), text, told, note), first))
    return gaps, 0 if causes is None else causes.passed_over


def _told(
    cuts: Sequence[Cut], places: Mapping[str, np.ndarray], who: np.ndarray
) -> Iterable[Segment]:
    for cut in cuts:
        for place, label in enumerate(cut.labels):
            inside = places[cut.attribute] == place
            yield Segment(
                cut.attribute, label, cut.how, len(np.unique(who[inside])), int(inside.sum())
            )


def _not_looked_at(
    asked: Asked, lost: Mapping[str, int], decided: Sequence[Case], gaps: bool, passed_over: int
) -> Iterable[str]:
    for why, count in lost.items():
        yield f"{count:,} decisions cannot be computed again: {why}; use --sample N for causes"
    if asked.sample is not None:
        yield "What the bank did decide: selection is that of the configuration, best actions first"
        yield "Waiting, which is logged with decisions and not with events"
    if not any(one.past is not None and one.past.models is not None for one in decided):
        yield "Features of models, since none was in charge"
    if passed_over:
        yield (
            f"{passed_over} suspected causes beyond the {FILTERS} whose effect differs most and "
            f"the {FEATURES} features that are relied on most and tell the segments apart"
        )
    if gaps:
        yield (
            "Causes in pairs; levers, ceilings and validity that treat everybody alike; features "
            "of actions and of their past with the customer; what intents are scored by"
        )
    yield "Whether a difference is justified: need, channel and wishes differ between segments"
    yield "Combinations of attributes, such as old and of low value"
