"""What runs where, and what it takes, seen from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.bench import processes


def test_cores_stay_what_they_were_when_this_process_takes_its_own_place() -> None:
    mine = os.sched_getaffinity(0)
    processes.cores.cache_clear()
    found = processes.cores()
    try:
        os.sched_setaffinity(0, found.others)
        assert processes.cores() == found
    finally:
        os.sched_setaffinity(0, mine)
        processes.cores.cache_clear()
    if len(mine) > 1:
        assert not set(found.server) & set(found.others)


def test_cpu_of_another_process_is_what_it_computed() -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        found = processes.cpu_of(process.pid)
        time.sleep(0.1)
        assert found == pytest.approx(0.3, abs=0.1)
        assert processes.cpu_of(process.pid) == pytest.approx(found, abs=0.02)
        processes.pin(process.pid, processes.cores().server)
        assert os.sched_getaffinity(process.pid) == set(processes.cores().server)
    finally:
        process.kill()
        process.communicate()
