from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from features.plan import Plan
from rapport.v1 import log_pb2
from service.errors import NotFound, Precondition
from tests.training import people
from tests.training.people import bank, leaning, quiet
from training import archive, audit_page, fairness, ratio_plot, said
from training.audited import Audit, Cause, Compared
from training.causes import named, ranked
from training.fairness import Asked

BANDS = {"age": [60.0]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return people.written(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def planted(folder: Path) -> Audit:
    return fairness.audit(Asked(folder, sample=400, bands=BANDS), bank(planted=True), None, quiet)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = people.written(tmp_path_factory.mktemp("logged"), 300, seed=8)
    return people.decided(at, bank(planted=True))


def compared(audit: Audit, **wanted: str) -> Compared:
    (found,) = [
        one
        for one in audit.comparisons
        if all(getattr(one, name) == value for name, value in wanted.items())
    ]
    return found


def causes(audit: Audit, of: str) -> Sequence[Cause]:
    at = compared(audit, measure="selection", of=of, attribute="age", segment="60 and over").id
    (gap,) = [one for one in audit.gaps if one.comparison == at]
    return gap.causes


def test_a_rule_on_a_proxy_is_named_with_what_it_explains_and_reads(planted: Audit) -> None:
    first = causes(planted, "issue grow")[0]
    assert (first.kind, first.name, first.stage) == ("rule", "screens_only", "suitability")
    assert first.text == "They would rather speak with somebody"
    assert first.expressions == ["customer.digital"]
    assert first.explained > 0.8
    assert first.explained_low > 0.5
    assert first.explained_low < first.explained < first.explained_high
    read = {one.name: one for one in first.reads}
    assert read["customer.digital"].proxy
    assert read["customer.digital"].strength > 0.6
    assert not read["customer.digital"].protected
    assert first.in_effect > 0.8
    assert first.in_effect_others < 0.2
    assert 0.8 < first.ratio_without < 1.25
    assert "Rule screens_only" in planted.summary


def test_removing_the_rule_is_priced_and_says_what_is_shown_instead(planted: Audit) -> None:
    first = causes(planted, "issue grow")[0]
    assert first.cost.low <= first.cost.change <= first.cost.high
    assert first.cost.low > 0, "the rule held back what was worth most"
    assert first.cost.value > 0
    changes = {one.action: one.after - one.before for one in first.shown}
    grows = {one.name for one in bank().actions if one.issue == "grow"}
    assert max(changes, key=lambda name: changes[name]) in grows
    assert any(change < 0 for name, change in changes.items() if name not in grows)


def test_every_gap_in_selection_by_age_is_laid_at_the_rule(planted: Audit) -> None:
    by_age = [
        gap
        for gap in planted.gaps
        if gap.comparison.startswith(("selection/", "concessions/")) and "/age/" in gap.comparison
    ]
    assert len(by_age) >= 2
    assert {gap.causes[0].name for gap in by_age} == {"screens_only"}
    assert all(gap.cause and not gap.note for gap in by_age)


def test_where_nothing_was_planted_nothing_is_flagged(folder: Path) -> None:
    found = fairness.audit(Asked(folder, sample=400, bands=BANDS), bank(), None, quiet)
    assert found.gaps == []
    assert len([one for one in found.comparisons if one.verdict != "not_enough_data"]) > 30
    assert re.match(r"0 gaps among \d+ comparisons", found.summary)


def test_the_rule_is_no_gap_where_age_does_not_go_with_what_it_reads(tmp_path: Path) -> None:
    at = people.written(tmp_path, shuffled=True)
    found = fairness.audit(Asked(at, sample=400, bands=BANDS), bank(planted=True), None, quiet)
    able = [one for one in found.comparisons if one.verdict != "not_enough_data"]
    assert len(found.gaps) <= 0.05 * len(able)


def test_a_model_that_leans_on_a_proxy_is_found_by_its_feature(folder: Path) -> None:
    models = leaning(bank())
    found = fairness.audit(Asked(folder, sample=300, bands=BANDS), bank(), models, quiet)
    gap = next(one for one in found.gaps if one.comparison.startswith("selection/"))
    first = gap.causes[0]
    assert "/age/" in gap.comparison
    assert (first.kind, first.name) == ("feature", "digital")
    assert first.explained > 0.8
    assert first.cost.high < 0, "the model believed in it, so blinding it costs"
    (read,) = first.reads
    assert read.name == "feature.digital"
    assert read.proxy
    assert gap.causes[-1].kind == "model"
    assert gap.causes[-1].explained > 0.5, "without the model the gap goes too; it is told last"


def test_the_protected_attribute_itself_is_called_so(tmp_path: Path) -> None:
    at = people.written(tmp_path, shuffled=True)
    plan = Plan(bank().definitions, bank().vocabulary)
    assert "age" in plan.names
    business = bank(planted=True)
    asked = Asked(at, sample=300, protected=["digital"])
    first = fairness.audit(asked, business, None, quiet).gaps[0]
    assert first.causes[0].reads[0].protected
    assert "which is what is compared" in first.cause


def test_logged_decisions_are_computed_again_as_their_log_says(logged: Path) -> None:
    found = fairness.audit(Asked(logged, bands=BANDS), None, None, quiet)
    assert (found.source.kind, found.source.decisions, found.source.recomputed) == ("log", 600, 600)
    assert found.source.customers == 300
    assert found.source.configuration == bank(planted=True).digest
    assert causes(found, "issue grow")[0].name == "screens_only"
    waited = compared(found, of="wait_seconds", attribute="age", segment="60 and over")
    assert waited.verdict in ("none", "small")
    assert 200 < waited.rate < 400
    assert {one.of for one in found.comparisons if one.measure == "effort"} == {
        "wait_seconds", "transfers", "repeats",
    }  # fmt: skip
    assert any(one.measure == "acceptance" and one.of == "all" for one in found.comparisons)


def test_fewer_logged_decisions_are_computed_again_when_told(logged: Path) -> None:
    found = fairness.audit(Asked(logged, again=250, bands=BANDS), None, None, quiet)
    assert (found.source.decisions, found.source.recomputed) == (600, 250)
    assert causes(found, "issue grow")[0].name == "screens_only"


def test_a_log_that_cannot_be_computed_again_is_measured_and_says_so(
    logged: Path, tmp_path: Path
) -> None:
    for number in range(256):
        if archive.files(logged, number):
            kinds = ("event", "profile", "decision")
            entries = archive.read(logged, kinds, number)
            archive.write(tmp_path, number, sorted(map(without_inputs, entries)))
    found = fairness.audit(Asked(tmp_path, bands=BANDS), bank(planted=True), None, quiet)
    assert found.source.recomputed == 0
    assert any("logged without what it was made of" in one for one in found.not_looked_at)
    assert any("--sample N" in one for one in found.not_looked_at)
    gap = next(one for one in found.gaps if one.comparison.startswith("selection/issue_grow/age"))
    assert gap.causes == []
    assert "--sample N" in gap.note


def without_inputs(entry: archive.Entry) -> archive.Entry:
    if entry.kind != "decision":
        return entry
    read = log_pb2.LogEntry.FromString(entry.entry)
    read.decision.ClearField("inputs")
    read.decision.ClearField("deliberation")
    return entry._replace(entry=read.SerializeToString())


def test_a_configuration_that_the_archive_does_not_keep_is_asked_for(folder: Path) -> None:
    with pytest.raises(NotFound, match="--config"):
        fairness.audit(Asked(folder), None, None, quiet)


def test_a_log_without_decisions_asks_for_a_sample(folder: Path) -> None:
    with pytest.raises(Precondition, match="--sample N"):
        fairness.audit(Asked(folder), bank(), None, quiet)


def test_nothing_protected_is_an_error_with_its_remedy(folder: Path) -> None:
    policies = msgspec.structs.replace(bank().policies, protected_attributes=[], value_tier_by=None)
    business = msgspec.structs.replace(bank(), policies=policies)
    with pytest.raises(Precondition, match="--protected"):
        fairness.audit(Asked(folder, sample=10), business, None, quiet)


def test_the_json_has_the_documented_keys(planted: Audit) -> None:
    written = json.loads(msgspec.json.encode(planted))
    assert set(written) == {
        "audit", "version", "summary", "source", "settings", "segments", "gaps", "comparisons",
        "not_looked_at",
    }  # fmt: skip
    text = (people.CONFIG.parent / "docs" / "fairness.md").read_text("utf-8")
    for part in (
        written, written["source"], written["settings"], written["segments"][0],
        written["comparisons"][0], written["gaps"][0], written["gaps"][0]["causes"][0],
        written["gaps"][0]["causes"][0]["cost"], written["gaps"][0]["causes"][0]["reads"][0],
        written["gaps"][0]["causes"][0]["shown"][0],
    ):  # fmt: skip
        for key in part:
            assert f"`{key}`" in text, key


def test_the_page_stands_alone_and_says_the_summary_first(planted: Audit) -> None:
    page = audit_page.page(planted)
    for forbidden in ("http://", "https://", "<script", "src=", "@import", "url("):
        assert forbidden not in page
    assert "prefers-color-scheme:dark" in page
    body = page[page.index("<body>") :]
    assert body.index(html.escape(planted.summary)) < body.index("<svg") < body.index("<table")
    assert "screens_only" in page
    assert "customer.digital" in page
    assert body.count("<details") == body.count("</details>")
    for note in planted.not_looked_at:
        assert html.escape(note) in page


def test_what_customers_wrote_is_escaped(planted: Audit) -> None:
    evil = msgspec.structs.replace(planted.comparisons[0], segment="<b>&", verdict="none")
    page = audit_page.page(msgspec.structs.replace(planted, gaps=[], comparisons=[evil]))
    assert "<b>&" not in page
    assert "&lt;b&gt;&amp;" in page


def test_a_plot_draws_every_line_and_points_beyond_its_axis(planted: Audit) -> None:
    one = msgspec.structs.replace(planted.comparisons[0], low=0.01, ratio=0.5, high=30.0)
    drawn = ratio_plot.drawn([one, one], 0.8, 1.25, "Two & two")
    assert drawn.count('class="mark"') == 2
    assert drawn.count('class="tip"') == 4
    assert "Two &amp; two" in drawn
    assert drawn.startswith("<svg ")


def test_the_largest_gap_is_the_surest_and_comes_first(planted: Audit) -> None:
    by_id = {one.id: one for one in planted.comparisons}
    sizes = [said.size(by_id[gap.comparison]) for gap in planted.gaps]
    assert sizes == sorted(sizes, reverse=True)
    assert planted.gaps[0].sentence in planted.summary


def test_causes_are_ranked_by_how_much_of_the_gap_they_leave(planted: Audit) -> None:
    known = causes(planted, "issue grow")[0]

    def cause(name: str, kind: str, share: float, low: float = 0.05) -> Cause:
        return msgspec.structs.replace(
            known, name=name, kind=kind, explained=share, explained_low=low
        )

    some = [
        cause("half", "rule", 0.5), cause("all", "rule", 0.98), cause("turned", "limit", 1.7),
        cause("whole", "model", 1.0),
    ]  # fmt: skip
    assert [one.name for one in ranked(some)] == ["all", "half", "turned", "whole"]
    unsure = [cause("unsure", "rule", 0.9, -0.1), cause("whole", "model", 1.0)]
    assert [one.name for one in ranked(unsure)] == ["whole", "unsure"]
    assert not named(unsure[0])


def test_a_gap_that_closes_because_nobody_gets_it_is_said_to(planted: Audit) -> None:
    gap = compared(
        planted, measure="selection", of="issue grow", attribute="age", segment="60 and over"
    )
    known = causes(planted, "issue grow")[0]
    assert "fewer of everybody" not in said.blamed(known, gap)
    vanished = msgspec.structs.replace(known, rate_without=0.0, rate_others_without=0.0)
    assert "fewer of everybody" in said.blamed(vanished, gap)
