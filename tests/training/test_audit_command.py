from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.errors import ConfigurationError
from tests.training import people
from tests.training.people import bank
from training import cli


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = people.written(tmp_path_factory.mktemp("logged"), 150, seed=9)
    return people.decided(at, bank(planted=True), each=1)


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, ["audit", "fairness", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, re.sub(r"\s+", " ", done.output)


def test_an_audit_of_the_log_writes_json_and_a_page_and_exits_0(
    logged: Path, tmp_path: Path
) -> None:
    code, text = run("--archive", logged, "--bands", "age=60", "--out", tmp_path)
    assert code == 0
    written = json.loads((tmp_path / "fairness.json").read_text())
    assert written["audit"] == "fairness"
    assert written["source"]["decisions"] == 150
    assert re.sub(r"\s+", "", written["summary"]) in re.sub(r"\s+", "", text)
    assert "screens_only" in text
    assert "fairness.html" in re.sub(r"\s", "", text)
    assert (tmp_path / "fairness.html").read_text().startswith("<!doctype html>")


def test_fail_on_gap_exits_1_where_there_is_one(logged: Path, tmp_path: Path) -> None:
    asked = ("--archive", logged, "--bands", "age=60", "--out", tmp_path)
    assert run(*asked, "--fail-on-gap")[0] == 1


def test_fail_on_gap_exits_0_where_there_is_none(tmp_path: Path) -> None:
    at = people.written(tmp_path / "few", 20)
    asked = ("--archive", at, "--config", people.CONFIG, "--sample", 20, "--out", tmp_path)
    code, text = run(*asked, "--fail-on-gap", "--protected", "age")
    assert code == 0
    assert "0 gaps among" in text


def test_bands_that_cannot_be_read_are_refused(logged: Path) -> None:
    with pytest.raises(ConfigurationError, match="ascending numbers"):
        run("--archive", logged, "--bands", "age=60,20")
