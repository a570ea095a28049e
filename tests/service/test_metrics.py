from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.metrics import Counter, Histogram, Metrics, Reading, Sheet, joined

SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)')
seconds = st.floats(0, 1e4, allow_subnormal=False)


def samples(page: str, name: str) -> dict[str, float]:
    """Values of a family by their labels as written."""
    found = {}
    for line in page.splitlines():
        if not line.startswith("#"):
            match = SAMPLE.fullmatch(line)
            assert match is not None, line
            if match[1] == name:
                assert match[2] not in found, "one sample twice"
                found[match[2]] = float(match[3])
    return found


def test_calls_are_counted_by_method_and_status() -> None:
    metrics = Metrics(3)
    for status in ("OK", "OK", "UNAVAILABLE"):
        metrics.call("Decide", status, 0.004)
    metrics.decision("RUNG_FULL")
    page = metrics.page()
    assert samples(page, "rapport_calls_total") == {
        'worker="3",method="Decide",status="OK"': 2,
        'worker="3",method="Decide",status="UNAVAILABLE"': 1,
    }
    assert samples(page, "rapport_call_seconds_count") == {'worker="3",method="Decide"': 3}
    assert samples(page, "rapport_call_seconds_sum") == pytest.approx(
        {'worker="3",method="Decide"': 0.012}
    )
    assert samples(page, "rapport_decisions_total") == {'worker="3",rung="RUNG_FULL"': 1}


@given(st.lists(seconds, max_size=40), st.lists(st.floats(0.001, 100), min_size=1, unique=True))
def test_a_bucket_holds_what_is_at_most_its_bound(seen: list[float], bounds: list[float]) -> None:
    bounds = sorted({float(f"{one:g}") for one in bounds})
    sheet, histogram = Sheet(), Histogram("rapport_x_seconds", "Help.", tuple(bounds))
    sheet.add(histogram)
    for one in seen:
        histogram.observe(one)
    page = sheet.page()
    buckets = samples(page, "rapport_x_seconds_bucket")
    for bound in bounds:
        assert buckets[f'worker="0",le="{bound:g}"'] == sum(one <= bound for one in seen)
    assert buckets['worker="0",le="+Inf"'] == len(seen)
    assert samples(page, "rapport_x_seconds_count") == {'worker="0"': len(seen)}
    assert samples(page, "rapport_x_seconds_sum") == pytest.approx({'worker="0"': sum(seen)})


@given(st.text(max_size=20))
def test_any_text_stays_inside_its_label(text: str) -> None:
    sheet, counter = Sheet(), Counter("rapport_x_total", "Help.", ("name",))
    sheet.add(counter)
    counter.add(text)
    line = sheet.page().split("\n", 2)[2].removesuffix("\n")
    prefix, suffix = 'rapport_x_total{worker="0",name="', '"} 1'
    assert line.startswith(prefix)
    assert line.endswith(suffix)
    inside = line[len(prefix) : -len(suffix)]
    back = re.sub(r"\\(.)", lambda one: "\n" if one[1] == "n" else one[1], inside)
    assert back == text
    assert "\n" not in inside
    assert re.fullmatch(r'(?:[^"\\]|\\.)*', inside, re.DOTALL)


def test_a_reading_is_asked_each_time() -> None:
    pending = [1]
    sheet = Sheet()
    sheet.add(Reading("rapport_pending", "Help.", lambda: pending[0]))
    assert samples(sheet.page(), "rapport_pending") == {'worker="0"': 1}
    pending[0] = 5
    assert samples(sheet.page(), "rapport_pending") == {'worker="0"': 5}
    assert "# TYPE rapport_pending gauge" in sheet.page()


def test_a_counter_without_labels_begins_at_nothing() -> None:
    sheet = Sheet()
    sheet.add(Counter("rapport_x_total", "Help."))
    assert samples(sheet.page(), "rapport_x_total") == {'worker="0"': 0}


def test_joined_pages_tell_each_family_once_with_the_samples_of_all() -> None:
    workers = [Metrics(number) for number in range(3)]
    for number, worker in enumerate(workers):
        for _ in range(number + 1):
            worker.call("Decide", "OK", 0.001)
    page = joined(worker.page() for worker in workers)
    calls = samples(page, "rapport_calls_total")
    assert calls == {f'worker="{i}",method="Decide",status="OK"': i + 1 for i in range(3)}
    kinds = [line for line in page.splitlines() if line.startswith("# TYPE ")]
    assert len(kinds) == len(set(kinds)) == len({line.split()[2] for line in kinds})
    assert sum(len(one.page().splitlines()) for one in workers) == (
        len(page.splitlines()) + 2 * 2 * len(kinds)  # two heads a family, of two workers
    )
    # The samples of a family are together, behind its heads.
    seen = [line.split("{")[0].split(" ")[0] for line in page.splitlines() if line[0] != "#"]
    families = [re.sub("_(bucket|sum|count)$", "", one) for one in seen]
    runs = [one for one, before in zip(families, ["", *families], strict=False) if one != before]
    assert len(runs) == len(set(runs))


def test_nothing_joined_is_an_empty_page() -> None:
    assert joined([]) == ""
