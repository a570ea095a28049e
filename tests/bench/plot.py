"""Draw latency against load as an SVG that is readable in dark and light. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

_LEFT, _TOP, _WIDTH, _HEIGHT = 64, 44, 560, 300
_STYLE: Final = """
text { font: 13px system-ui, sans-serif; fill: #333 }
.title { font-weight: 600; font-size: 15px }
.grid { stroke: #8884; stroke-width: 1 }
.floor { stroke: #777; fill: #777 } .full { stroke: #0a6ebd; fill: #0a6ebd }
path { fill: none !important; stroke-width: 2 } circle, text { stroke: none }
.p99 { stroke-dasharray: 7 4 } .p999 { stroke-dasharray: 2 4 }
@media (prefers-color-scheme: dark) {
  text { fill: #ddd } .full { stroke: #5db2f0; fill: #5db2f0 } .floor { stroke: #aaa; fill: #aaa }
}
"""

Line = Sequence[tuple[float, float]]
"""Calls a second, and milliseconds."""


def drawn(lines: Mapping[tuple[str, str], Line], title: str) -> str:
    """Draw latencies by load, milliseconds on a logarithmic axis.

    Args:
        lines: By server (``floor`` or ``full``) and percentile (``p50``, ``p99``, ``p99.9``).
        title: Above the plot.
    """
    points = [point for line in lines.values() for point in line]
    fastest = max(x for x, _ in points) * 1.05
    low = 10 ** math.floor(math.log10(min(y for _, y in points)))
    high = max(10 * low, 10 ** math.ceil(math.log10(max(y for _, y in points))))

    def at(x: float, y: float) -> tuple[float, float]:
        share = math.log(y / low) / math.log(high / low)
        return _LEFT + _WIDTH * x / fastest, _TOP + _HEIGHT * (1 - share)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 110} '
        f'{_TOP + _HEIGHT + 52}" role="img" aria-label="{escape(title)}"><style>{_STYLE}</style>',
        f'<text class="title" x="{_LEFT}" y="22">{escape(title)}</text>',
    ]
    for tick in _decades(low, high):
        x, y = at(0, tick)
        parts.append(
            f'<line class="grid" x1="{x}" x2="{_LEFT + _WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        if math.log10(tick).is_integer() or str(f"{tick:g}").lstrip("0.")[0] in "25":
            parts.append(f'<text x="{x - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g} ms</text>')
    for x in sorted({x for x, _ in points}):
        place = at(x, low)[0]
        parts.append(
            f'<text x="{place:.1f}" y="{_TOP + _HEIGHT + 20}" text-anchor="middle">{x:,.0f}</text>'
        )
    parts.append(
        f'<text x="{_LEFT + _WIDTH / 2}" y="{_TOP + _HEIGHT + 42}" text-anchor="middle">'
        "calls a second</text>"
    )
    ends: list[float] = []
    for (server, percentile), line in sorted(lines.items(), key=lambda one: one[1][-1][1]):
        places = [at(*point) for point in line]
        kind = f"{server} {percentile.replace('.', '')}"
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path class="{kind}" d="M{path}"/>')
        parts += [f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places]
        y = places[-1][1]
        if ends and ends[-1] - y < 15:  # labels beside one another
            y = ends[-1] - 15
        ends.append(y)
        label = f"{server} {percentile}"
        parts.append(f'<text x="{places[-1][0] + 10:.1f}" y="{y + 4:.1f}">{label}</text>')
    return "".join([*parts, "</svg>"]) + "\n"


def _decades(low: float, high: float) -> list[float]:
    """1, 2, 5 of each power of ten from low to high."""
    first, last = round(math.log10(low)), round(math.log10(high))
    ticks = [step * 10.0**power for power in range(first, last) for step in (1, 2, 5)]
    return [*ticks, high]
