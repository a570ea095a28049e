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

from features.profile import Profile, Value
from service import VERSION
from service.business import Business
from service.errors import Precondition
from service.models import Models
from service.pipeline import Pipeline
from training import cases, rates, replay, segments
from training.audited import Audit, Cause, Compared, Gap, Segment, Settings, Source, Verdict
from training.cases import Case
from training.causes import FEATURES, FILTERS, Causes, Stage, closeness
from training.effort import Effort, Happened
from training.rates import Mask, Ratio, Tally
from training.recomputed import Recomputed
from training.replay import History
from training.reproduce import Past
from training.segments import Cut

SETTINGS: Final = Settings(rates.LEVEL, 0.05, 0.8, 1.25, 30, 10, 1)
_NAMED: Final = 0.1
"""Share of a gap that a cause must explain, surely more than nothing, to be called its cause."""


class Asked(NamedTuple):
    """What to audit."""

    archive: Path
    sample: int | None = None  # customers to decide for; None: the log
    again: int = 2_000  # logged decisions that are computed again at most
    protected: Sequence[str] = ()  # empty: as the policies say
    value_tier: str = ""  # empty: as the policies say
    bands: Mapping[str, Sequence[float]] = {}
    settings: Settings = SETTINGS


class _Measure(NamedTuple):
    """One rate."""

    name: str
    of: str
    tally: Tally
    segments: Mapping[str, np.ndarray]  # [rows] place of the segment, by attribute
    rows: Sequence[int] = ()  # actions any of which counts; empty: no decision makes it


class _Found(NamedTuple):
    measure: _Measure
    cut: Cut
    place: int
    ratio: Ratio


def audit(
    asked: Asked, business: Business | None, models: Models | None, show: Stage
) -> Audit:
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
        models = models or cases.models(asked.archive, made.bundle, business)
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
    shown = _shown(decided, business, again, base)
    possible = _possible(decided, business)
    places = {cut.attribute: _places(cut, (one.profile for one in decided)) for cut in cuts}
    who = np.array([numbers[one.customer_id] for one in decided])
    happened = list(Effort(business, _end(histories)).of(histories.values()))
    measures = [
        *_selection(business, shown, possible, who, places),
        *_waits(decided, who, places),
        *_effort(happened, histories, business, numbers, cuts),
    ]
    compared, flagged = _compare(measures, cuts, settings, show)
    gaps = _gaps(flagged, base, np.array(again, np.int64), possible, who, show)
    moments = [one.moment for one in decided]
    counts = Counter(one.what for one in happened if one.possible)
    source = Source(
        str(asked.archive),
        "log" if asked.sample is None else "sample",
        business.digest,
        "" if models is None else models.manifest.version,
        len(set(who.tolist())),
        len(decided),
        len(again),
        counts["accepted"],
        counts["transfers"],
        min(moments),
        max(moments),
    )
    return Audit(
        _summary(compared, gaps),
        source,
        settings,
        [*_told(cuts, places, who)],
        [gap for gap, _ in gaps],
        compared,
        [*_not_looked_at(asked, lost, bool(models), gaps)],
        version=VERSION,
    )


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
            name, [_value(one, name) for one in newest], business.vocabulary, asked.bands.get(name)
        )
        for name in names
    ]


def _value(profile: Profile | None, name: str) -> Value | None:
    told = None if profile is None else profile.attributes.get(name)
    return None if told is None else told.value


def _places(cut: Cut, people: Iterable[Profile | None]) -> np.ndarray:
    return np.array([cut.place(_value(one, cut.attribute)) for one in people], np.int64)


def _end(histories: Mapping[str, History]) -> int:
    return max(
        (int(one.records["occurred_at"][-1]) for one in histories.values() if len(one.records)),
        default=0,
    )


def _shown(
    decided: Sequence[Case], business: Business, again: Sequence[int], base: Recomputed | None
) -> Mask:
    """Which actions each decision showed: [decisions, actions]."""
    shown = np.zeros((len(decided), len(business.actions)), bool)
    for number, one in enumerate(decided):
        for name in one.shown or ():
            if name in business.rows:
                shown[number, business.rows[name]] = True
    if base is not None:
        for place, number in enumerate(again):
            if decided[number].shown is None:
                shown[number] = base.shown[place]
    return shown


def _possible(decided: Sequence[Case], business: Business) -> Mask:
    """Which actions have a treatment for what was asked: [decisions, actions]."""
    known: dict[tuple[str, str], Mask] = {}
    rows = np.zeros((len(decided), len(business.actions)), bool)
    for number, one in enumerate(decided):
        for placement in one.placements:
            at = placement, one.channel
            if at not in known:
                known[at] = np.array(
                    [
                        any(
                            placement in t.placements and (not t.channels or one.channel in t.channels)
                            for t in action.treatments
                        )
                        for action in business.actions
                    ],
                    bool,
                )
            rows[number] |= known[at]
    return rows


def _counted(business: Business) -> dict[tuple[str, str], tuple[int, ...]]:
    """The sets of actions whose showing is compared, by measure and name; none of them twice."""
    actions = list(enumerate(business.actions))
    named = {("selection", one.name): (row,) for row, one in actions}
    conceding = tuple(
        row
        for row, one in actions
        if one.issue == "recover" or any(price.amount < 0 for price in one.prices)
    )
    if conceding:
        named["concessions", "recover or a negative price"] = conceding
    for kind in ("group", "issue"):
        for name in dict.fromkeys(getattr(one, kind) for _, one in actions):
            rows = tuple(row for row, one in actions if getattr(one, kind) == name)
            if rows not in named.values():
                named["selection", f"{kind} {name}"] = rows
    return named


def _selection(
    business: Business,
    shown: Mask,
    possible: Mask,
    who: np.ndarray,
    places: Mapping[str, np.ndarray],
) -> Iterable[_Measure]:
    for (name, of), rows in _counted(business).items():
        could = possible[:, rows].any(axis=1)
        was = shown[:, rows].any(axis=1) & could
        yield _Measure(name, of, Tally(was.astype(float), could.astype(float), who), places, rows)


def _waits(
    decided: Sequence[Case], who: np.ndarray, places: Mapping[str, np.ndarray]
) -> Iterable[_Measure]:
    told = np.array([one.wait is not None for one in decided])
    if told.any():
        seconds = np.array([one.wait or 0.0 for one in decided])
        yield _Measure("effort", "wait_seconds", Tally(seconds, told.astype(float), who), places)


def _effort(
    happened: Sequence[Happened],
    histories: Mapping[str, History],
    business: Business,
    numbers: Mapping[str, int],
    cuts: Sequence[Cut],
) -> Iterable[_Measure]:
    """Acceptance and effort, with the segment that the customer was in at that moment."""
    profile_at = {name: cases.profiles_of(one) for name, one in histories.items()}
    people = [profile_at[one.customer_id](one.moment) for one in happened]
    places = {cut.attribute: _places(cut, people) for cut in cuts}
    who = np.array([numbers[one.customer_id] for one in happened], np.int64)
    was = np.array([one.happened for one in happened], float)
    could = np.array([one.possible for one in happened], float)
    kinds = np.array([one.what for one in happened], object)
    actions = {one.name: one for one in business.actions}
    of = {
        "issue": np.array([actions[o.action].issue if o.action in actions else "" for o in happened],
                          object),
        "group": np.array([actions[o.action].group if o.action in actions else "" for o in happened],
                          object),
    }  # fmt: skip

    def measure(name: str, of: str, rows: Mask) -> _Measure:
        tally = Tally(was[rows], could[rows], who[rows])
        return _Measure(name, of, tally, {name: one[rows] for name, one in places.items()})

    accepted = kinds == "accepted"
    if accepted.any():
        yield measure("acceptance", "all", accepted)
        for kind, names in of.items():
            for name in sorted(set(names[accepted].tolist()) - {""}):
                yield measure("acceptance", f"{kind} {name}", accepted & (names == name))
    for what in ("transfers", "repeats"):
        if (kinds == what).any():
            yield measure("effort", what, kinds == what)


def _compare(
    measures: Sequence[_Measure], cuts: Sequence[Cut], settings: Settings, show: Stage
) -> tuple[list[Compared], list[tuple[Compared, _Found]]]:
    """Compare every rate of every segment, and say which differ."""
    found = []
    for number, measure in enumerate(measures, 1):
        for cut in cuts:
            for place in range(len(cut.labels)):
                members = measure.segments[cut.attribute] == place
                if members.any():
                    told = rates.ratio(measure.tally, members)
                    found.append(_Found(measure, cut, place, told))
        show("compare rates", number, len(measures))
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
    flagged.sort(key=lambda pair: -size(pair[0]))
    return compared, flagged


def _verdict(told: Ratio, q: float, settings: Settings) -> Verdict:
    if q > settings.false_discovery_rate or told.low <= 1 <= told.high:
        return "none"
    return "gap" if not settings.below <= told.ratio <= settings.above else "small"


def size(one: Compared) -> float:
    """How large a gap is at least: the log of the interval's end nearest to no difference."""
    if one.low > 1:
        return math.log(one.low)
    return -math.log(one.high) if 0 < one.high < 1 else 0.0


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
) -> list[tuple[Gap, Cause | None]]:
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
        text = "" if first is None else _blamed(first)
        gaps.append((Gap(compared.id, sentence(compared), text, told, note), first))
    return gaps


def named(cause: Cause) -> bool:
    """Whether a cause surely explains enough to be named."""
    return closeness(cause) >= _NAMED and cause.explained_low > 0


def sentence(one: Compared) -> str:
    """A gap in one sentence."""
    many = "" if math.isinf(one.ratio) else f", {one.ratio:.2f} times as much"
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


def _blamed(cause: Cause) -> str:
    text = f"{cause.kind.capitalize()} {cause.name} explains {cause.explained:.0%} of it "
    text += f"({cause.explained_low:.0%} to {cause.explained_high:.0%})"
    proxy = next((one for one in cause.reads if one.proxy and one.name != "in effect"), None)
    if proxy is not None and proxy.protected:
        text += f"; it reads {proxy.name}, which is what is compared"
    elif proxy is not None:
        text += f"; it reads {proxy.name}, a proxy ({measured(proxy.association)} "
        text += f"{proxy.strength:.2f})"
    text += f". Without it, a slate's expected value changes by {cause.cost.change:+.2f}"
    return f"{text} ({cause.cost.low:+.2f} to {cause.cost.high:+.2f}) of {cause.cost.value:.2f}"


def measured(association: str) -> str:
    """Name of a measure of association, as people know it."""
    return "AUC" if association == "auc" else "Cramér's V"


def _summary(compared: Sequence[Compared], gaps: Sequence[tuple[Gap, Cause | None]]) -> str:
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
        text += f" {kind.capitalize()} {name} explains most of {count} of them."
    return text


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
    asked: Asked, lost: Mapping[str, int], models: bool, gaps: Sequence[tuple[Gap, Cause | None]]
) -> Iterable[str]:
    for why, count in lost.items():
        yield f"{count:,} decisions cannot be computed again: {why}; use --sample N for causes"
    if asked.sample is not None:
        yield "What the bank did decide: selection is that of the configuration, best actions first"
        yield "Waiting, which is logged with decisions and not with events"
    if not models:
        yield "Features of models, since none is in charge"
    if gaps:
        yield (
            f"Causes beyond the {FILTERS} whose effect differs most and the {FEATURES} features "
            "that are relied on and tell the segments apart; causes in pairs; levers, ceilings and "
            "validity that treat everybody alike; features of actions and of pairs"
        )
    yield "Whether a difference is justified: need, channel and wishes differ between segments"
    yield "Combinations of attributes, such as old and of low value"


def files(audited: Audit, folder: Path) -> tuple[Path, Path]:
    """Where JSON and HTML of an audit are written."""
    return folder / f"fairness-{audited.source.kind}.json", folder / f"fairness-{audited.source.kind}.html"


