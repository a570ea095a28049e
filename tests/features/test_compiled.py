from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from features import compiled

_TWO: tuple[tuple[str, str], ...] = (
    (
        "features/__init__.py",
        "from features.compiled import keep_apart\nkeep_apart()\n",
    ),
    (
        "features/inner.py",
        "import numba\n@numba.njit(cache=True)\ndef inner(x):\n    return x + 1\n",
    ),
    (
        "service/outer.py",
        "import numba\nfrom features.inner import inner\n"
        "@numba.njit(cache=True)\ndef outer(x):\n    return 10 * inner(x)\n",
    ),
    ("service/__init__.py", ""),
    ("service/plain.py", "VALUE = 1\n"),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in _TWO:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "features/compiled.py").write_text(Path(compiled.__file__).read_text())
    return tmp_path


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_the_digest_changes_with_modules_that_have_kernels_and_no_others(root: Path) -> None:
    before = compiled.digest(root)
    assert compiled.digest(root) == before
    change(root / "service/plain.py", "1", "2")
    assert compiled.digest(root) == before
    change(root / "features/inner.py", "x + 1", "x + 2")
    assert compiled.digest(root) != before


def test_a_kernel_is_compiled_anew_when_one_that_it_calls_was_changed(root: Path) -> None:
    def told() -> str:
        return subprocess.run(
            [sys.executable, "-c", "from service.outer import outer; print(outer(1))"],
            cwd=root,
            env={key: one for key, one in os.environ.items() if key != "NUMBA_CACHE_DIR"},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    assert told() == told() == "20"
    kept = list((root / "features/__pycache__").glob("kernels-*"))
    assert len(kept) == 1
    change(root / "features/inner.py", "x + 1", "x + 2")
    assert told() == "30"
    assert len(list((root / "features/__pycache__").glob("kernels-*"))) == 2


def test_the_folder_that_numba_was_told_is_kept_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert compiled.keep_apart().parent == tmp_path
