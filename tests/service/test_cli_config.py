"""``rapport config``: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.business import load, published
from service.cli_config import app
from service.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
SAMPLE = load(ROOT / "config")


def config(*arguments: object) -> tuple[int, str]:
    """Run a command of ``rapport config``."""
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the sample configuration."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path / "config"


def edited(folder: Path, file: str, old: str, new: str) -> None:
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))


def test_checking_says_what_there_is_and_who_answers_for_it() -> None:
    code, said = config("check", ROOT / "config")
    assert code == 0
    policies = SAMPLE.policies
    for count, name in (
        (len(SAMPLE.actions), "actions"),
        (len(policies.limits), "limits"),
        (len(policies.ceilings), "ceilings"),
        (len(policies.quiet_hours), "quiet hours"),
        (sum(len(one.prices) for one in SAMPLE.actions), "prices"),
    ):
        assert f"{count} {name}" in said
    rules = re.search(r"(\d+) rules", said)
    assert rules is not None
    assert int(rules[1]) >= len(SAMPLE.checked) - 3, "prices have conditions too"
    release = SAMPLE.release
    for told in (release.name, release.author, release.approver, SAMPLE.digest):
        assert told in said


def test_a_configuration_of_nobody_is_fine_and_says_so() -> None:
    code, said = config("check", ROOT / "config/examples/bpi2012")
    assert code == 0
    assert "written by nobody, approved by nobody" in said
    assert "1 goal," in said
    assert "ceiling" not in said


def test_equal_configurations_print_no_difference_and_end_with_0(folder: Path) -> None:
    assert config("diff", folder, ROOT / "config") == (0, "no difference\n")


def test_different_configurations_are_told_in_words_and_end_with_1(folder: Path) -> None:
    edited(folder, "catalogue/grow.yaml", "value: 95", "value: 90")
    edited(
        folder,
        "policies.yaml",
        "issue: grow, at_most: 6, within: 7d",
        "issue: grow, at_most: 4, within: 7d",
    )
    edited(folder, "placements.yaml", "hold_back: 0.005", "hold_back: 0.01")
    code, said = config("diff", ROOT / "config", folder)
    assert code == 1
    assert said.splitlines() == [
        "Actions",
        "  Action gold_credit_card: value 95 -> 90 EUR",
        "Placements",
        "  Placement agent_hint: hold-back 0.5 % -> 1 %",
        "Policies",
        "  Limit grow_weekly: at most 6 -> 4 within 7d (tighter)",
    ]


def test_a_folder_compares_with_what_was_published_from_it(folder: Path, tmp_path: Path) -> None:
    config("publish", folder, "--output", tmp_path / "published.json")
    assert config("diff", tmp_path / "published.json", folder)[0] == 0
    edited(folder, "release.yaml", "2026-11-autumn", "2026-12-winter")
    code, said = config("diff", tmp_path / "published.json", folder)
    assert (code, said.splitlines()[1]) == (1, "  Release: name 2026-11-autumn -> 2026-12-winter")


def test_a_published_file_holds_all_and_needs_no_compiler(tmp_path: Path) -> None:
    output = tmp_path / "new" / "published.json"
    code, said = config("publish", ROOT / "config", "--output", output)
    assert code == 0
    assert f"{output.stat().st_size:,} bytes" in said
    for told in (SAMPLE.digest, SAMPLE.release.author, SAMPLE.release.approver):
        assert told in said
    assert published(output.read_bytes()) == SAMPLE
    without = (
        "import sys; sys.modules['cel_expr_python'] = None; from service.cli import main; main()"
    )
    command = [sys.executable, "-c", without, "config", "check"]
    for given, code in ((output, 0), (ROOT / "config", 2)):
        done = subprocess.run(
            [*command, str(given)], cwd=ROOT, check=False, capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr


def test_publishing_again_replaces_the_file_in_one_step(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "published.json"
    config("publish", folder, "--output", output)
    with output.open("rb") as reading:
        edited(folder, "release.yaml", "2026-11-autumn", "2026-12-winter")
        config("publish", folder, "--output", output)
        assert published(reading.read()).release.name == "2026-11-autumn"
    assert published(output.read_bytes()).release.name == "2026-12-winter"
    assert [one.name for one in output.parent.iterdir()] == ["published.json"]
    assert output.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("author: Noor de Wit", "author: ''", "author: nobody is named; who wrote it?"),
        ("approver: Pieter Bakker", "approver: ' '", "approver: nobody is named; who approved it?"),
        ("approver: Pieter Bakker", "approver: noor  de WIT",
         "approver: 'noor  de WIT' wrote it; have somebody else approve it"),
    ],
)  # fmt: skip
def test_what_nobody_else_approved_is_not_published(
    folder: Path, tmp_path: Path, old: str, new: str, told: str
) -> None:
    edited(folder, "release.yaml", old, new)
    output = tmp_path / "published.json"
    with pytest.raises(ConfigurationError) as refused:
        config("publish", folder, "--output", output)
    assert str(refused.value).endswith(f"release.yaml: {told}")
    assert not output.exists()


def test_what_is_wrong_is_not_published_and_leaves_what_was_there(
    folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "published.json"
    output.write_bytes(b"before")
    edited(folder, "policies.yaml", "customer.age >= 18.0", "customer.agee >= 18.0")
    with pytest.raises(ConfigurationError, match=r"did you mean 'customer\.age'"):
        config("publish", folder, "--output", output)
    assert output.read_bytes() == b"before"


def test_two_that_cannot_be_read_end_with_2_and_not_with_1(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service.cli", "config", "diff", "config", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no *.yaml there" in done.stderr
