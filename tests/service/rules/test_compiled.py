from __future__ import annotations

import builtins
import os
import subprocess
import sys
from typing import Any

import pytest

from service.rules import compiled

SOURCE = "def answers(values):\n    return [values['a'] > 1]\n"


def run(source: str) -> Any:
    names: dict[str, Any] = {}
    exec(compiled.code(source), names)  # noqa: S102  as fuse does
    return names["answers"]


def test_code_that_was_taken_is_used_once_and_does_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with compiled.gathered() as there:
        run(SOURCE)
    compiled.take(there.written())
    with monkeypatch.context() as patched:
        patched.delattr(builtins, "compile")
        assert run(SOURCE)({"a": 2}) == [True]
        with pytest.raises(NameError):
            run(SOURCE)
    assert run(SOURCE)({"a": 0}) == [False]


def test_code_of_another_source_is_not_mistaken_for_it() -> None:
    with compiled.gathered() as there:
        run(SOURCE)
    compiled.take(there.written())
    assert run(SOURCE.replace("> 1", "< 1"))({"a": 2}) == [False]
    compiled.take(compiled.Gathered().written())
    assert not compiled._taken


def test_nothing_is_gathered_outside() -> None:
    with compiled.gathered() as there:
        pass
    run(SOURCE)
    assert not there.codes


def test_every_process_writes_the_same_source_for_the_same_conditions() -> None:
    """Else what one compiled would be of no use to another."""
    code = (
        "from pathlib import Path; from service.business import load\n"
        "from service.policies import Policies; from service.rules import compiled\n"
        "with compiled.gathered() as found: Policies(load(Path('config')))\n"
        "print([key.hex() for key in found.codes])"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(told) == 1
