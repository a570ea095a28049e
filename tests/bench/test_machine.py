from __future__ import annotations

import os

from tests.bench.machine import here


def test_a_machine_tells_what_it_can_and_how_far_its_memory_is() -> None:
    before = os.sched_getaffinity(0)
    found = here((16, 65536), 20_000)
    assert os.sched_getaffinity(0) == before
    assert found.load_ns[65536] > 2 * found.load_ns[16] > 0
    assert str(found).startswith(f"{found.processor}, {found.vectors}; ns for a load after another")
    assert " in 16 KiB, " in str(found)
    assert str(found).endswith(" in 64 MiB")
