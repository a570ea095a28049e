"""``rapport serve`` as a process, with the lines it writes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration.serving import CONFIG


class Process:
    """A server with its lines."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "service.cli", "serve", "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [*command, *arguments],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env={name: one for name, one in os.environ.items() if name != "REDIS_URL"},
        )
        self.lines: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr:
            for line in self.process.stderr:
                if line.startswith("{"):
                    self.lines.append(json.loads(line))

    def line(self, event: str, seconds: float = 30) -> dict[str, Any]:
        """The first line of an event, once it is there."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            over = self.process.poll() is not None
            if over:  # all that it said is read then
                self._reader.join(seconds)
            for one in list(self.lines):
                if one["event"] == event:
                    return one
            if over:
                break
            time.sleep(0.01)
        raise AssertionError(f"no {event!r} in {self.lines}")

    def children(self, name: str) -> list[int]:
        """Processes that it started."""
        found = []
        for at in Path("/proc").glob("[0-9]*/stat"):
            try:
                pid, rest = at.read_text().split(" (", 1)
            except OSError:
                continue
            comm, fields = rest.rsplit(") ", 1)
            if int(fields.split()[1]) == self.process.pid and name in comm:
                found.append(int(pid))
        return found

    def ended(self, seconds: float) -> int:
        """The code it ends with, once its last line is here."""
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            print(*self.lines, sep="\n")
            self.process.kill()
        self.ended(10)


@contextmanager
def process(*arguments: str) -> Iterator[Process]:
    running = Process(*arguments)
    try:
        yield running
    finally:
        running.close()


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def refused(*arguments: str) -> str:
    """What a server says that ends with code 2."""
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", "serve", "--listen", "127.0.0.1:0", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env={name: one for name, one in os.environ.items() if name != "REDIS_URL"},
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def copied(folder: Path) -> Path:
    """A copy of the sample configuration to spoil."""
    for path in CONFIG.glob("*.yaml"):
        shutil.copy(path, folder)
    shutil.copytree(CONFIG / "catalogue", folder / "catalogue")
    return folder
