"""An audit as one HTML page that needs nothing else: no script, no font, no request. Pure."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Final

from training import ratio_plot, said
from training.audited import Audit, Cause, Compared, Gap, Read

_PLOTTED: Final = 40
_OPEN: Final = 5

_STYLE: Final = Path(__file__).with_suffix(".css").read_text("utf-8")

_VERDICTS: Final = {
    "gap": "gap",
    "small": "differs, within the band",
    "none": "no difference found",
    "not_enough_data": "not enough data",
}


def page(audit: Audit) -> str:
    """Write the page."""
    kind = " gaps" if audit.gaps else ""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Fairness audit</title><style>{_STYLE}</style></head><body>",
        "<h1>Fairness audit</h1>",
        f'<p class="summary{kind}">{escape(audit.summary)}</p>',
        _looked_at(audit),
        *_gaps(audit),
        *_all(audit),
        _segments(audit),
        "<h2>What was not looked at</h2><ul>",
        *(f"<li>{escape(one)}</li>" for one in audit.not_looked_at),
        "</ul>",
        _reading(audit),
        "</body></html>",
    ]
    return "\n".join(parts)


def _looked_at(audit: Audit) -> str:
    one = audit.source
    first, last = (
        datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC).date().isoformat()
        for ms in (one.first, one.last)
    )
    kind = "logged decisions" if one.kind == "log" else "decisions made anew for a sample"
    told = {
        "Decisions": f"{one.decisions:,} {kind}, of {one.customers:,} customers",
        "Computed again": f"{one.recomputed:,}, to look for causes",
        "Presentations": f"{one.presentations:,} with a known answer",
        "Contacts": f"{one.contacts:,}",
        "Between": f"{first} and {last}",
        "Configuration": f"{one.configuration}, bundle {one.bundle or 'none'}",
        "Archive": one.archive,
    }
    rows = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in told.items())
    return f"<h2>What was looked at</h2><dl>{rows}</dl>"


def _gaps(audit: Audit) -> Iterable[str]:
    yield "<h2>Gaps</h2>"
    if not audit.gaps:
        yield "<p>No rate of any segment differs enough, and surely enough, to be called a gap.</p>"
        return
    compared = {one.id: one for one in audit.comparisons}
    found = [compared[gap.comparison] for gap in audit.gaps]
    yield _plot(audit, found[:_PLOTTED], "The gaps")
    if len(found) > _PLOTTED:
        yield f'<p class="dim">The {_PLOTTED} largest of {len(found)}.</p>'
    yield "<h2>Causes</h2>"
    for place, gap in enumerate(audit.gaps):
        yield _gap(gap, compared[gap.comparison], opened=place < _OPEN)


def _gap(gap: Gap, one: Compared, *, opened: bool) -> str:
    title = f"{said.titled(one)} · {one.attribute} {one.segment}"
    parts = [
        f"<details{' open' if opened else ''}><summary>{escape(title)}</summary>",
        f"<p>{escape(gap.sentence)}.</p>",
        f'<p class="cause">{escape(gap.cause or gap.note)}.</p>',
    ]
    if gap.causes:
        parts += [
            _table(
                (
                    "Cause",
                    "What it reads",
                    "#Said something:<br>segment, others",
                    "#Gap explained",
                    "#Rates without it:<br>segment, others",
                    "#Value of a slate<br>without it",
                    "Shown without it",
                ),
                map(_cause, gap.causes),
            )
        ]
    return "".join([*parts, "</details>"])


def _cause(one: Cause) -> str:
    expressions = "".join(f"<br><code>{escape(text)}</code>" for text in one.expressions)
    reads = "<br>".join(map(_read, one.reads)) or "-"
    change = f"{one.cost.change:+.2f}<br>({one.cost.low:+.2f} to {one.cost.high:+.2f})"
    if one.cost.value:
        change += f"<br>{one.cost.change / one.cost.value:+.1%}"
    shown = "<br>".join(f"{escape(o.action)} {o.before:.1%} → {o.after:.1%}" for o in one.shown[:4])
    return (
        f"<tr><td><b>{escape(one.name)}</b><br>{escape(_kind(one))}<br>{escape(one.text)}"
        f'{expressions}</td><td>{reads}</td><td class="n">{one.in_effect:.0%}, '
        f'{one.in_effect_others:.0%}</td><td class="n">{one.explained:.0%}<br>'
        f'({one.explained_low:.0%} to {one.explained_high:.0%})</td><td class="n">'
        f'{one.rate_without:.1%}, {one.rate_others_without:.1%}</td><td class="n">{change}</td>'
        f"<td>{shown or '-'}</td></tr>"
    )


def _kind(one: Cause) -> str:
    return f"{one.kind}, {one.stage}" if one.stage else one.kind


def _read(one: Read) -> str:
    tag = ""
    if one.protected:
        tag = ' <span class="tag">compared itself</span>'
    elif one.proxy:
        tag = ' <span class="tag">proxy</span>'
    strength = "" if math.isnan(one.strength) else f" {one.strength:.2f}"
    return f"<code>{escape(one.name)}</code> {said.measured(one.association)}{strength}{tag}"


def _all(audit: Audit) -> Iterable[str]:
    yield "<h2>All comparisons</h2>"
    for attribute in dict.fromkeys(one.attribute for one in audit.comparisons):
        own = [one for one in audit.comparisons if one.attribute == attribute]
        able = [one for one in own if one.verdict != "not_enough_data"]
        yield (
            f"<details><summary>{escape(attribute)}: {len(able)} compared, "
            f"{len(own) - len(able)} without enough data</summary>"
        )
        if able:
            yield _plot(audit, able, f"All comparisons by {attribute}")
        yield _table(
            (
                "Rate",
                "Segment",
                "#Segment's rate",
                "#Others' rate",
                "#Ratio",
                "#q",
                "#Customers",
                "Verdict",
            ),
            map(_row, own),
        )
        yield "</details>"


def _row(one: Compared) -> str:
    def number(value: float, kind: str) -> str:
        return "-" if math.isnan(value) or math.isinf(value) else format(value, kind)

    kind = ".1f" if one.of == "wait_seconds" else ".1%"
    numbers = (
        number(one.rate, kind),
        number(one.rate_others, kind),
        number(one.ratio, ".2f"),
        number(one.q, ".3f"),
        f"{one.customers:,}, {one.customers_others:,}",
    )
    cells = "".join(f'<td class="n">{text}</td>' for text in numbers)
    return (
        f"<tr><td>{escape(said.titled(one))}</td><td>{escape(one.segment)}</td>{cells}"
        f"<td>{_VERDICTS[one.verdict]}</td></tr>"
    )


def _plot(audit: Audit, compared: Sequence[Compared], title: str) -> str:
    drawing = ratio_plot.drawn(compared, audit.settings.below, audit.settings.above, title)
    return f'<div class="wide">{drawing}</div>'


def _segments(audit: Audit) -> str:
    rows = "".join(
        f"<tr><td>{escape(one.attribute)}</td><td>{escape(one.segment)}</td>"
        f'<td class="n">{one.customers:,}</td><td class="n">{one.decisions:,}</td>'
        f"<td>{escape(one.cut)}</td></tr>"
        for one in audit.segments
    )
    columns = ("Attribute", "Segment", "#Customers", "#Decisions", "How it was cut")
    return "<h2>Segments</h2>" + _table(columns, [rows])


def _table(columns: Sequence[str], rows: Iterable[str]) -> str:
    """A table; columns of numbers are marked ``#``."""
    head = "".join(
        f'<th class="n">{name[1:]}</th>' if name.startswith("#") else f"<th>{name}</th>"
        for name in columns
    )
    body = "".join(rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _reading(audit: Audit) -> str:
    one = audit.settings
    return (
        "<h2>How to read this</h2>"
        "<p>A ratio compares a segment's rate with that of everybody else: 0.5 is half as often, 2 "
        f"is twice. Its interval holds the true ratio in {one.level:.0%} of audits; customers, not "
        "decisions, are what it counts. A gap is a ratio under "
        f"{one.below:g} or over {one.above:g} whose interval leaves out 1 and that is still there "
        "when allowance is made for the number of comparisons: of all that differ, about "
        f"{one.false_discovery_rate:.0%} differ by chance. Under {one.customers} customers, or "
        f"{one.events} happenings to be expected, on either side there is not enough data.</p>"
        "<p>A cause was taken out, alone, and the same decisions were computed again. What it "
        "explains is the share of the difference of the two rates that was gone; over 100% turns "
        "the gap around. Shares of several causes need not add up. The value of a slate is what "
        "the business expects of it today: the sum of its priorities. A proxy is something read "
        "that tells members from others (Cramér's V from 0.3, AUC from 0.7).</p>"
        "<p>A gap is a question, not a finding of wrong: segments may differ in what they need. "
        "And no gap is no proof: what was not compared was not seen.</p>"
        f'<p class="dim">Rapport {escape(audit.version)}; the JSON beside this page holds every '
        "number.</p>"
    )
