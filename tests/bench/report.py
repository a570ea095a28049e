"""One table, one file of numbers, one plot; and the guard's bounds on the ratios."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from tests.bench import plot, space
from tests.bench.firsts import Firsts
from tests.bench.growth import Curve
from tests.bench.machine import Machine
from tests.bench.measure import QUANTILES, SHARES, Series
from tests.bench.processes import Memory
from tests.bench.recording import SPREADS, Recorded
from tests.bench.staged import Report
from tests.bench.verify import Verified

_NONE: Final = float("nan")


class Bound(NamedTuple):
    """What a ratio may be; generous, since machines are shared."""

    least: float = -math.inf
    most: float = math.inf


GUARD: Final[Mapping[str, Bound]] = {
    "throughput_ratio_16": Bound(least=0.2),
    "p50_ratio_1": Bound(most=4.5),
    "p99_ratio_half_peak": Bound(most=15.0),
    "cpu_ratio_16": Bound(most=5.0),
    "forest_speedup_100": Bound(least=8.0),
    "record_ratio": Bound(least=0.25),
    "first_request_ratio": Bound(most=15.0),
    "worker_rss_mib": Bound(most=270.0),
    "store_bytes_per_event": Bound(most=80.0),
}
"""What ``--guard`` holds a quick run to: about twice as bad as runs beside busy neighbours are."""

TARGETS: Final[Mapping[str, Bound]] = {
    "throughput_ratio_16": Bound(least=0.50),
    "p50_ratio_1": Bound(most=2.0),
    "p99_ratio_half_peak": Bound(most=3.0),
    "forest_speedup_100": Bound(least=15.0),
    "forest_growth_1000": Bound(most=3.0),
    "first_request_ratio": Bound(most=5.0),
    "record_ratio": Bound(least=0.5),
    "worker_rss_mib": Bound(most=250.0),
    "store_bytes_per_event": Bound(most=80.0),
}
"""What the project wants to reach."""


class Found(msgspec.Struct):
    """All that was measured."""

    ways: dict[str, Series]  # by way between the processes, "unix" the first
    peaks: dict[str, float]
    verified: dict[str, Verified]
    stages: Report
    stages_cpu_us: float
    firsts: Firsts
    recorded: Recorded
    memory: Memory
    space: space.Bytes
    curves: list[Curve]
    machine: Machine


def keys(found: Found) -> dict[str, float]:
    """The numbers that are aimed at, by their names."""
    series = found.ways["unix"]
    scored, predicted = found.stages.scored_us, found.stages.predicted_us
    growth = {
        point.size: point.scored_us
        for curve in found.curves
        if curve.what == "actions"
        for point in curve.points
    }
    return {
        "throughput_ratio_16": _median(series.ratios("per_second.16")),
        "p50_ratio_1": _median(series.ratios("1 in flight.p50")),
        "p99_ratio_half_peak": _median(series.ratios("50% of peak.p99")),
        # Neighbours take time from both servers; CPU they can only take by the caches.
        "cpu_ratio_16": _median(series.ratios("cpu_us.16")),
        "forest_speedup_100": _median(predicted) / _median(scored),
        "forest_growth_1000": growth[1_000] / growth[100] if growth else _NONE,
        "first_request_ratio": found.firsts.ratio(),
        "record_ratio": found.recorded.worst(),
        "worker_rss_mib": found.memory.resident,
        "store_bytes_per_event": found.space.per_event,
    }


def _median(values: list[float]) -> float:
    return float(np.median(values)) if values else _NONE


def _meets(value: float, bound: Bound) -> bool:
    return bound.least <= value <= bound.most


def missed(found: Found) -> list[str]:
    """Bounds of the guard that do not hold, in sentences."""
    values = keys(found)
    return [
        f"{name} is {values[name]:.3f}; {_said(bound)} is asked for"
        for name, bound in GUARD.items()
        if not _meets(values[name], bound)
    ]


def _said(bound: Bound) -> str:
    least = "" if bound.least == -math.inf else f"at least {bound.least:g}"
    return least or f"at most {bound.most:g}"


def written(found: Found) -> bytes:
    """``bench.json``: the numbers aimed at first, then everything that they come from."""
    everything: dict[str, Any] = {
        **{name: _number(value) for name, value in keys(found).items()},
        "first_request_worst_ratio": _number(found.firsts.worst_ratio()),
        "scoring_largest_difference": found.stages.difference,
        "worker_pss_mib": _number(found.memory.proportional),
        "peak_per_second": {way: round(value, 1) for way, value in found.peaks.items()},
        "verified": {way: msgspec.to_builtins(one) for way, one in found.verified.items()},
        "rounds": {
            way: {name: [_number(one) for one in values] for name, values in series.values.items()}
            for way, series in found.ways.items()
        },
        "stages_us": {
            name: round(stage.total_us / max(1, found.stages.decisions), 2)
            for name, stage in found.stages.stages.items()
        },
        "stages_missing": found.stages.missing,
        "firsts_ms": msgspec.to_builtins(found.firsts),
        "record_events_per_second": msgspec.to_builtins(found.recorded),
        "store": {
            "full_timeline_bytes_per_event": _number(found.space.full_per_event),
            "worst_length": found.space.worst_length,
            "worst_bytes_per_event": _number(found.space.worst_per_event),
        },
        "growth": [msgspec.to_builtins(curve) for curve in found.curves],
        "machine": msgspec.to_builtins(found.machine),
    }
    return msgspec.json.format(msgspec.json.encode(everything), indent=1) + b"\n"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.5g}")


def curve(found: Found) -> str:
    """The latency curve as SVG."""
    series, peak = found.ways["unix"], found.peaks["unix"]
    shares = [one for one in SHARES if f"full.{one:.0%} of peak.p50" in series.values]
    lines = {
        (server, label): [
            (share * peak, series.median(f"{server}.{share:.0%} of peak.{label}"))
            for share in shares
        ]
        for server in ("floor", "full")
        for label in ("p50", "p99", "p99.9")
    }
    return plot.drawn(lines, "Latency of a decision and of the floor, by load")


def show(found: Found, console: Console) -> None:
    """Print everything."""
    console.print(f"Machine: {found.machine}", highlight=False)
    for way, series in found.ways.items():
        console.print(_pairs(way, series, found.peaks[way]))
    console.print(steps(found.stages, found.stages_cpu_us))
    for one in found.curves:
        console.print(f"{one.what}: skipped, {one.skipped}" if one.skipped else _growth(one))
    console.print(_others(found))
    for way, verified in found.verified.items():
        console.print(
            f"{way}: the log holds {verified.decisions:,} decisions, as many as there were calls; "
            f"{verified.recomputed:,} of them came out alike from the slow reference and from "
            f"replay, {verified.candidates:.0f} actions ranked in each, "
            f"{verified.entry_bytes:,.0f} bytes logged of each"
        )
    console.print(_targets(found))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left")
    return table


def _spread(values: list[float], digits: int = 2) -> str:
    return (
        f"{np.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"
    )


def _pairs(way: str, series: Series, peak: float) -> Table:
    rounds = len(series.values["full.1 in flight.p50"])
    title = f"Over {way}, {rounds} pairs of runs in turns; median (lowest to highest)"
    table = _table(title, "", "floor", "full", "full / floor")

    def row(label: str, name: str, digits: int) -> None:
        if f"full.{name}" in series.values:
            sides = [_spread(series.values[f"{one}.{name}"], digits) for one in ("floor", "full")]
            table.add_row(label, *sides, _spread(series.ratios(name)))

    for in_flight in (1, 16, 64):
        row(f"calls/s, {in_flight} in flight", f"per_second.{in_flight}", 0)
    table.add_section()
    for place in ("1 in flight", *(f"{share:.0%} of peak" for share in SHARES)):
        said = place
        if place.endswith("peak"):
            said = f"{place}, {float(place.split('%')[0]) / 100 * peak:,.0f}/s"
        for label in QUANTILES:
            row(f"{label} ms, {said}", f"{place}.{label}", 2)
    table.add_section()
    for in_flight in (1, 16, 64):
        row(f"CPU us a call, server, {in_flight} in flight", f"cpu_us.{in_flight}", 0)
    row("CPU us a call, store, 16 in flight", "store_us.16", 0)
    row("CPU us a call, sender, 16 in flight", "sender_us.16", 0)
    row("us too late that the sender is, 99 % of calls, 50% of peak", "behind_us.50%", 0)
    return table


def steps(report: Report, cpu_us: float) -> Table:
    """Where the CPU of a decision goes.

    Args:
        report: Of the clocks.
        cpu_us: CPU microseconds of a whole call.
    """
    table = _table(
        f"Where the CPU of a decision goes, {report.decisions:,} decisions, 16 in flight",
        "step", "us a decision",
    )  # fmt: skip
    total = 0.0
    for name, stage in report.stages.items():
        if stage.calls:
            each = stage.total_us / report.decisions
            total += each
            table.add_row(name, f"{each:.1f}")
    rest = cpu_us - total
    table.add_row("gRPC, the event loop, the store's client, clocks", f"{rest:.1f}")
    table.add_row("all", f"{cpu_us:.1f}")
    for name in report.missing:
        table.add_row(f"not found: {name}", "")
    return table


def _growth(one: Curve) -> Table:
    table = _table(f"By {one.what}", one.what, "CPU us a call", "calls/s, 16", "p50 ms, 1",
                   "scored us")  # fmt: skip
    for point in one.points:
        scored = f"{point.scored_us:.0f}" if point.scored_us else ""
        table.add_row(f"{point.size:,}", f"{point.cpu_us:,.0f}", f"{point.per_second:,.0f}",
                      f"{point.p50_ms:.2f}", scored)  # fmt: skip
    return table


def _others(found: Found) -> Table:
    table = _table("Beside", "", "")
    scored, predicted = _median(found.stages.scored_us), _median(found.stages.predicted_us)
    table.add_row(f"{found.stages.actions:,} actions scored inside the server, us", f"{scored:.0f}")
    table.add_row("the same rows by Booster.predict, at the same place, us", f"{predicted:.0f}")
    table.add_row("largest difference of a raw score", f"{found.stages.difference:.1e}")
    firsts = found.firsts
    table.add_row("first call after a start, ms", _spread(firsts.start))
    table.add_row("slowest of the first 100, ms", _spread(firsts.start_worst))
    table.add_row("first call after a swap, ms", _spread(firsts.swap))
    table.add_row("slowest of the first 100, ms", _spread(firsts.swap_worst))
    table.add_row("median later, ms", _spread(firsts.later))
    for spread in SPREADS:
        label = f"events/s, batches of 100 of {spread} customers: RecordEvents; bare script; ratio"
        served, bare = found.recorded.served[str(spread)], found.recorded.bare[str(spread)]
        numbers = f"{_spread(served, 0)}; {_spread(bare, 0)}; {found.recorded.ratio(spread):.2f}"
        table.add_row(label, numbers)
    memory = found.memory
    table.add_row(
        "server holds, MiB (its share)", f"{memory.resident:.0f} ({memory.proportional:.0f})"
    )
    held = found.space
    table.add_row(
        f"store, bytes an event: mean of 1 to 512 events; 512; worst ({held.worst_length} events)",
        f"{held.per_event:.1f}; {held.full_per_event:.1f}; {held.worst_per_event:.0f}",
    )
    return table


def _targets(found: Found) -> Table:
    table = _table("Targets", "", "measured", "target", "met")
    values = keys(found)
    for name, bound in TARGETS.items():
        value = values[name]
        met = "not measured" if math.isnan(value) else "yes" if _meets(value, bound) else "no"
        table.add_row(name, f"{value:.2f}", _said(bound), met)
    return table
