"""A compiled forest is bytes: written by one process, mapped by another, the same scores."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from service import forest
from service.forest import Forest
from tests.service.forest.texts import rows, text

KINDS = np.array([0, 1, 2, 0, 1, 0])


@pytest.fixture(name="ready")
def _ready() -> Forest:
    return Forest(forest.compile(forest.parse(text(9, [31] * 10, 2)), rows(1, 70), KINDS))


def test_a_block_scores_the_same_from_bytes_and_from_a_file(ready: Forest, tmp_path: Path) -> None:
    customer, touched, own = rows(2, 1)[0, KINDS == 0], np.arange(9), rows(3, 9)[:, KINDS == 2]
    wanted = ready.score(customer, touched, own).tobytes()
    path = tmp_path / "forest"
    path.write_bytes(ready.pack())
    mapped = Forest(path)
    path.unlink()
    assert mapped.score(customer, touched, own).tobytes() == wanted
    assert Forest(ready.pack()).score(customer, touched, own).tobytes() == wanted
    assert ready.sizes[0] == len(ready.pack())


def test_compiling_again_gives_the_same_bytes(ready: Forest) -> None:
    again = forest.compile(forest.parse(text(9, [31] * 10, 2)), rows(1, 70), KINDS)
    assert again.tobytes() == ready.pack()


def elsewhere(path: Path, ready: Forest, **environment: str) -> tuple[str, str]:
    """Scores of a block in another process, and here."""
    path.write_bytes(ready.pack())
    customer, touched, own = rows(2, 1)[0, KINDS == 0], np.arange(9), rows(3, 9)[:, KINDS == 2]
    code = (
        "import sys, numpy, pathlib; from service.forest import Forest;"
        "x, y = (numpy.frombuffer(bytes.fromhex(one)) for one in sys.argv[2:]);"
        "ready = Forest(pathlib.Path(sys.argv[1]));"
        "print(ready.score(x, numpy.arange(9), y.reshape(9, -1)).tobytes().hex())"
    )
    command = [sys.executable, "-c", code, str(path), customer.tobytes().hex(), own.tobytes().hex()]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, **environment}
    )
    return done.stdout.strip(), ready.score(customer, touched, own).tobytes().hex()


def test_another_process_maps_it(ready: Forest, tmp_path: Path) -> None:
    found, wanted = elsewhere(tmp_path / "forest", ready)
    assert found == wanted


@pytest.mark.slow
def test_a_processor_without_its_special_features_gives_the_same_bits(
    ready: Forest, tmp_path: Path
) -> None:
    masked = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    cache = str(tmp_path / "compiled")
    found, wanted = elsewhere(tmp_path / "forest", ready, NUMBA_CACHE_DIR=cache, **masked)
    assert found == wanted


def test_other_bytes_are_refused(ready: Forest) -> None:
    packed = ready.pack()
    with pytest.raises(ValueError, match="too short"):
        Forest(packed[:100])
    with pytest.raises(ValueError, match="in place of"):
        Forest(packed[:-64])
    with pytest.raises(ValueError, match="another version"):
        Forest(b"\x01" + packed[1:])
    with pytest.raises(ValueError, match="another version"):
        Forest(packed[:8] + b"\x63" + packed[9:])
