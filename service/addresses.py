"""Where a server listens: checked, and held for as long as its workers come and go."""

from __future__ import annotations

import ipaddress
import re
import socket
from contextlib import ExitStack
from types import TracebackType
from typing import Final, NamedTuple

from service.errors import ConfigurationError

_HIGHEST: Final = 65_535


class Place(NamedTuple):
    """A host with a port, or a unix socket, whose port is 0."""

    host: str  # empty: a unix socket
    port: int
    path: str = ""

    def __str__(self) -> str:
        """The address as gRPC reads it."""
        return f"unix:{self.path}" if self.path else f"{self.host}:{self.port}"


def place(written: str, option: str = "--listen") -> Place:
    """Read an address.

    Raises:
        ConfigurationError: It is none; the message names the option.
    """
    if written.startswith("unix:") and len(written) > len("unix:"):
        return Place("", 0, written.removeprefix("unix:"))
    host, _, port = written.rpartition(":")
    if not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > _HIGHEST:
        raise ConfigurationError(f"{option} {written}: write HOST:PORT or unix:PATH")
    return Place(host, int(port))


def own_machine(at: Place) -> bool:
    """Whether only this machine can reach an address."""
    if at.path:
        return True
    host = at.host.strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Held:
    """The addresses of several workers: one that they share, and one for each alone.

    The ports are bound and never listened on, so that they stay ours while a worker is replaced,
    and nothing is sent here. Workers bind them again with SO_REUSEPORT.

    Args:
        listen: The address they share. Of a unix socket there is none to share: the kernel gives
            its connections to one listener.
        workers: How many there are.
        first: Port of the first worker's own address; None: the one after the shared port, or any
            that is free where that is 0.

    Raises:
        ConfigurationError: A port is taken, or the host is not this machine's.
    """

    def __init__(self, listen: str, workers: int, first: int | None = None) -> None:
        at = place(listen)
        self.shared = ""
        self.own: tuple[str, ...] = ()
        self._sockets = ExitStack()
        if at.path:
            self.own = tuple(f"{at}.{number}" for number in range(workers))
            return
        begin = at.port + 1 if first is None and at.port else first or 0
        if begin and begin + workers - 1 > _HIGHEST:
            raise ConfigurationError(
                f"ports {begin} to {begin + workers - 1} of the workers: there is none over "
                f"{_HIGHEST}; choose others with --worker-ports FIRST"
            )
        if begin and begin <= at.port < begin + workers:
            raise ConfigurationError(
                f"--worker-ports {begin}: port {at.port} is the one they share; choose others"
            )
        try:
            self.shared = str(self._hold(at, "--listen"))
            self.own = tuple(
                str(self._hold(Place(at.host, begin and begin + number), "--worker-ports"))
                for number in range(workers)
            )
        except BaseException:
            self.close()
            raise

    def _hold(self, at: Place, option: str) -> Place:
        try:
            found = socket.getaddrinfo(at.host.strip("[]"), at.port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys((one[0], one[4]) for one in found))
            if at.port:
                for family, address in addresses:
                    with socket.socket(family) as alone:  # without SO_REUSEPORT: nobody else has it
                        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        alone.bind(address)
            port = at.port
            for family, address in addresses:
                held = self._sockets.enter_context(socket.socket(family))
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                # For the bind alone: connections that a server before us closed may linger.
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                held.bind((address[0], port, *address[2:]))
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
                port = held.getsockname()[1]
        except OSError as error:
            raise ConfigurationError(
                f"{option} {at}: is taken, or is no address of this machine ({error.strerror}); "
                "choose a free one"
            ) from error
        return Place(at.host, port)

    def close(self) -> None:
        """Let go of the ports."""
        self._sockets.close()

    def __enter__(self) -> Held:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
