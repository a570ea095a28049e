"""Draw ratios with their intervals, one line each, as an inline SVG. Pure.

Colours and type come from the page's style, so that a plot is readable in dark and light; numbers
stand beside the lines, so that nothing is told by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from training import said
from training.audited import Compared

_LINE: Final = 22
_LABEL, _PLOT, _NUMBERS = 330, 340, 190
_LEAST, _MOST = 1 / 8, 8.0
_TICKS: Final = (1 / 8, 1 / 4, 1 / 2, 0.8, 1, 1.25, 2, 4, 8)


def drawn(compared: Sequence[Compared], below: float, above: float, title: str) -> str:
    """Draw a forest plot on a logarithmic axis; ends beyond it are arrows.

    Args:
        compared: One line each, from the top down.
        below: Lower end of the band in which a ratio is no gap.
        above: Upper end of that band.
        title: What a screen reader says of it.
    """
    height = _LINE * (len(compared) + 2)
    width = _LABEL + _PLOT + _NUMBERS
    bottom = _LINE * (len(compared) + 0.6)
    parts = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}">',
        f'<rect class="band" x="{_x(below):.1f}" y="0" width="{_x(above) - _x(below):.1f}" '
        f'height="{bottom:.1f}"/>',
    ]
    for tick in _TICKS:
        kind = "one" if tick == 1 else "grid"
        x = _x(tick)
        parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{bottom:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{bottom + 15:.1f}">{_tick(tick)}</text>'
            if tick not in (0.8, 1.25)
            else ""
        )
    for place, one in enumerate(compared):
        parts.append(_line(one, _LINE * (place + 0.5) + 4))
    return "".join([*parts, "</svg>"])


def _line(one: Compared, y: float) -> str:
    label = f"{said.titled(one)} · {one.attribute} {one.segment}"
    shown = label if len(label) <= 52 else f"{label[:51]}…"
    low, high = _x(one.low), _x(one.high)
    parts = [
        f'<g class="{one.verdict}"><title>{escape(said.sentence(one))}</title>',
        f'<text class="label" x="{_LABEL - 12}" y="{y + 4:.1f}">{escape(shown)}</text>',
        f'<line class="reach" x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>',
    ]
    if one.low < _LEAST:
        parts.append(_arrow(low, y, -1))
    if one.high > _MOST:
        parts.append(_arrow(high, y, 1))
    middle = _x(one.ratio)
    parts.append(f'<rect class="mark" x="{middle - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>')
    ratio = "none others" if math.isinf(one.ratio) else f"{one.ratio:.2f}"
    text = f"{ratio} ({one.low:.2f} to {_high(one.high)})"
    parts.append(
        f'<text class="numbers" x="{_LABEL + _PLOT + 14}" y="{y + 4:.1f}">{text}</text></g>'
    )
    return "".join(parts)


def _x(ratio: float) -> float:
    """Where a ratio is on the axis, at its end where it is beyond."""
    held = min(max(ratio, _LEAST), _MOST)
    return _LABEL + _PLOT * math.log(held / _LEAST) / math.log(_MOST / _LEAST)


def _arrow(x: float, y: float, towards: int) -> str:
    back = x - towards * 7
    return f'<path class="tip" d="M{x:.1f} {y:.1f}L{back:.1f} {y - 4:.1f}V{y + 4:.1f}Z"/>'


def _tick(ratio: float) -> str:
    return f"{ratio:g}" if ratio >= 1 else f"1/{1 / ratio:g}"


def _high(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 100 else "over 100"
