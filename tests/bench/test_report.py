"""The numbers aimed at come out of the rounds as they are meant to, and the guard reads them."""

from __future__ import annotations

import io
import json
import math
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
from rich.console import Console

from tests.bench import plot, report, space
from tests.bench.firsts import Firsts
from tests.bench.growth import Curve, Point
from tests.bench.machine import Machine
from tests.bench.measure import SHARES, Series
from tests.bench.processes import Memory
from tests.bench.recording import Recorded
from tests.bench.report import Bound, Found
from tests.bench.staged import STAGES, Report, Stage
from tests.bench.verify import Verified


def series() -> Series:
    """Three rounds; the machine is half as fast in the second, for both."""
    found = Series()
    for slower in (1.0, 2.0, 1.0):
        for name, cost in (("floor", 1.0), ("full", 1.6)):
            for in_flight in (1, 16, 64):
                found.add(f"{name}.per_second.{in_flight}", 4_000 / cost / slower)
                found.add(f"{name}.cpu_us.{in_flight}", 200 * cost * slower)
                found.add_latencies(f"{name}.{in_flight} in flight", np.full(9, cost * slower))
            for kind in ("store_us", "sender_us"):
                found.add(f"{name}.{kind}.16", 9 * cost)
            for share in SHARES:
                found.add_latencies(
                    f"{name}.{share:.0%} of peak", np.linspace(1, 2, 99) * cost**2 * slower
                )
            found.add(f"{name}.behind_us.50%", 20.0)
    return found


@pytest.fixture
def found() -> Found:
    stages = {name: Stage(50.0, 10) for name in STAGES}
    return Found(
        ways={"unix": series()},
        peaks={"unix": 2_500.0},
        verified={"unix": Verified(9_000, 1_000, 100.0, 9_500.0)},
        stages=Report(
            10, stages, ["drawn: gone"], [40.0, 50.0, 90.0], [900.0, 1_000.0], 1e-15, 100
        ),
        stages_cpu_us=400.0,
        firsts=Firsts([2.0, 3.0, 9.0], [4.0], [5.0], [6.0, 6.0], [1.0, 1.0, 1.0]),
        recorded=Recorded(
            {"1": [60.0, 60.0], "10": [50.0, 70.0], "100": [90.0, 90.0]},
            {"1": [100.0, 100.0], "10": [100.0, 100.0], "100": [100.0, 150.0]},
        ),
        memory=Memory(180.0, 150.0),
        space=space.Bytes(41.0, 1, 120.0, 40.2),
        curves=[
            Curve("actions", [Point(100, 1, 1, 1, 50.0), Point(1_000, 1, 1, 1, 125.0)]),
            Curve("workers", [], "there is one core"),
        ],
        machine=Machine("znver3", "AVX2", {1024: 20.0, 4096: 180.4}),
    )


def test_ratios_are_taken_round_by_round(found: Found) -> None:
    keys = report.keys(found)
    assert keys["throughput_ratio_16"] == pytest.approx(1 / 1.6)
    assert keys["p50_ratio_1"] == pytest.approx(1.6)
    assert keys["p99_ratio_half_peak"] == pytest.approx(1.6**2)


def test_the_other_numbers(found: Found) -> None:
    keys = report.keys(found)
    assert keys["forest_speedup_100"] == 950 / 50
    assert keys["forest_growth_1000"] == 2.5
    assert keys["first_request_ratio"] == 5.0, "of starts and swaps, the worse"
    assert keys["record_ratio"] == pytest.approx(0.6), "of the spreads, the worst"
    assert keys["worker_rss_mib"] == 180.0
    assert keys["store_bytes_per_event"] == 41.0
    assert keys["cpu_ratio_16"] == pytest.approx(1.6)
    assert set(keys) >= set(report.TARGETS)
    assert set(report.GUARD) <= set(keys)


def test_what_was_not_measured_is_null_and_no_number(found: Found) -> None:
    found.curves = []
    written = json.loads(report.written(found))
    assert written["forest_growth_1000"] is None
    assert written["machine"]["load_ns"] == {"1024": 20.0, "4096": 180.4}
    assert set(report.TARGETS) <= set(written)
    assert math.isnan(report.keys(found)["forest_growth_1000"])


def test_the_guard_names_what_got_worse(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    assert report.missed(found) == []
    monkeypatch.setattr(report, "GUARD", {"p50_ratio_1": Bound(most=1.5)})
    assert report.missed(found) == ["p50_ratio_1 is 1.600; at most 1.5 is asked for"]
    monkeypatch.setattr(report, "GUARD", {"throughput_ratio_16": Bound(least=0.7)})
    assert report.missed(found) == ["throughput_ratio_16 is 0.625; at least 0.7 is asked for"]


def test_a_number_that_is_missing_meets_no_bound(found: Found) -> None:
    found.stages.scored_us = []
    assert any("forest_speedup_100 is nan" in one for one in report.missed(found))


def test_everything_is_printed(found: Found) -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    report.show(found, console)
    told = console.export_text()
    for text in ("p99.9 ms, 80% of peak, 2,000/s", "not found: drawn: gone", "workers: skipped",
                 "1,000 of them came out alike", "throughput_ratio_16",
                 "Machine: znver3, AVX2; ns for a load after another: 20 in 1 MiB"):  # fmt: skip
        assert text in told


def test_the_curve_is_an_svg_with_a_line_for_each_server_and_percentile(found: Found) -> None:
    drawn = ElementTree.fromstring(report.curve(found))  # noqa: S314
    paths = [one.get("class") for one in drawn.iter("{http://www.w3.org/2000/svg}path")]
    assert sorted(map(str, paths)) == sorted(
        f"{server} {label}" for server in ("floor", "full") for label in ("p50", "p99", "p999")
    )
    for path in drawn.iter("{http://www.w3.org/2000/svg}path"):
        for point in (path.get("d") or "").removeprefix("M").split("L"):
            x, y = map(float, point.split())
            assert 0 <= x <= 700
            assert 40 <= y <= 350


def test_a_plot_of_one_load(found: Found) -> None:
    drawn = plot.drawn({("full", "p50"): [(100.0, 1.0)]}, "One & only")
    ElementTree.fromstring(drawn)  # noqa: S314
    assert msgspec.json.encode(report.keys(found))
