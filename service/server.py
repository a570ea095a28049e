"""One serving process: put together, started, drained."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from features.duration import DAY
from rapport.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    customer_pb2,
    customer_pb2_grpc,
    decision_pb2,
    decision_pb2_grpc,
)
from service import heap, warm
from service.bundle import Bundle
from service.business import Business
from service.callers import Callers
from service.capacity import Prices
from service.configuration import Configuration
from service.decide import World
from service.errors import ConfigurationError
from service.interceptors import Edge
from service.journal import Journal
from service.leases import Leases
from service.redis_store import RedisStore
from service.registry import Registry
from service.retention import Retention
from service.rpc_admin import Admin
from service.rpc_customer import Customers
from service.rpc_decision import Decisions
from service.workshop import Workshop

_MAX_MESSAGE: Final = 8 * 2**20
_SWITCH_SECONDS: Final = 0.0005

SERVICES: Final = (
    decision_pb2.DESCRIPTOR.services_by_name["DecisionService"].full_name,
    customer_pb2.DESCRIPTOR.services_by_name["CustomerService"].full_name,
    admin_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name,
)


class Settings(NamedTuple):
    """How to serve."""

    listen: str = "127.0.0.1:50051"
    tenant: str = "main"
    callers: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    deadline: float = 0.25  # seconds, for calls that bring none
    grace: float = 5.0  # seconds that calls in flight get when it stops
    log_age: int = 7 * DAY  # milliseconds
    log_entries: int = 5_000_000
    archive: Path | None = None
    configuration: Path | None = None  # watched for changes; None: it never changes
    greedy: bool = False  # leave nothing to chance


def _own_machine(listen: str) -> bool:
    """Whether only this machine can reach an address."""
    if listen.startswith("unix:"):
        return True
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def clock() -> int:
    """Milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000


class Server:
    """Everything that serves one configuration from one store.

    Args:
        business: The configuration.
        store: Where customers are; closed with the server.
        settings: How to serve.
        workshop: Where what takes long is done; None: one of its own.

    Raises:
        ConfigurationError: Nobody is told who may call, and the address is not this machine's own;
            or of the certificate and its key, only one is named.
    """

    def __init__(
        self,
        business: Business,
        store: RedisStore,
        settings: Settings,
        workshop: Workshop | None = None,
    ) -> None:
        if not re.fullmatch(r"unix:.+|.+:\d{1,5}", settings.listen) or (
            not settings.listen.startswith("unix:")
            and int(settings.listen.rpartition(":")[2]) > 65_535
        ):
            raise ConfigurationError(f"--listen {settings.listen}: write HOST:PORT or unix:PATH")
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", settings.tenant):
            raise ConfigurationError(
                f"--tenant {settings.tenant!r}: use 1 to 64 letters, digits, '_', '.' and '-'"
            )
        known = Callers(settings.callers)
        if known.open and not _own_machine(settings.listen):
            raise ConfigurationError(
                f"--listen {settings.listen}: without --callers FILE everybody may do "
                "everything, which is allowed on 127.0.0.1 only"
            )
        if (settings.tls_certificate is None) != (settings.tls_key is None):
            raise ConfigurationError(
                "--tls-certificate and --tls-key belong together; name both files, or neither"
            )
        self._store = store
        self._settings = settings
        self._workshop = workshop or Workshop()
        self._shared_workshop = workshop is not None
        self.registry = Registry(store, business, self._workshop)
        self.prices = Prices(store, business.policies.resources)
        self.leases = Leases(store, time.monotonic)
        world = World(
            store,
            lambda: self.registry.models,
            lambda: self.prices.current,
            self.leases,
            clock,
            secrets.token_hex(2),
            settings.greedy,
        )
        self.configuration = Configuration(
            settings.configuration, business, store, self.registry, self.prices, world,
            self._workshop,
        )  # fmt: skip
        self.journal = Journal(store)
        self.retention = Retention(
            store,
            settings.log_age,
            settings.log_entries,
            exporting=settings.archive is not None,
        )
        self._health = HealthServicer()
        self._server = grpc.aio.server(
            interceptors=[Edge(known)],
            options=[
                ("grpc.max_receive_message_length", _MAX_MESSAGE),
                ("grpc.so_reuseport", 0),
            ],
        )
        decision_pb2_grpc.add_DecisionServiceServicer_to_server(
            Decisions(
                self.configuration, store, self.registry, self.journal, clock, settings.deadline
            ),
            self._server,
        )
        customer_pb2_grpc.add_CustomerServiceServicer_to_server(
            Customers(self.configuration, store, clock), self._server
        )
        admin_pb2_grpc.add_AdminServiceServicer_to_server(
            Admin(
                self.configuration,
                store,
                self.registry,
                self.prices,
                self.journal,
                self.retention,
                clock(),
            ),
            self._server,
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (
                *SERVICES,
                reflection.SERVICE_NAME,
                health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
            ),
            self._server,
        )
        self.port = 0

    async def start(self, bundle: Bundle | None = None) -> None:
        """Check the store, load the models, listen.

        Args:
            bundle: To publish and put in charge first.

        Raises:
            BundleRefused: It does not verify.
            ConfigurationError: The store evicts keys, the vocabulary breaks the one claimed, or
                the address cannot be used.
            StoreUnavailable: The store does not answer.
        """
        # A thread that computes gives the interpreter back to the loop after this; 5 ms by default.
        sys.setswitchinterval(_SWITCH_SECONDS)
        self._workshop.start()
        await asyncio.to_thread(warm.kernels)
        await self._store.check()
        await self.configuration.start()
        if bundle is not None:
            await self.registry.adopt(bundle)
        await self.registry.start()
        await self.prices.start()
        self.journal.start()
        self.retention.start()
        self.port = self._bind()
        await self._server.start()
        heap.settle()
        for name in ("", *SERVICES):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        structlog.get_logger().info("serving", address=self._settings.listen, port=self.port)

    def _bind(self) -> int:
        listen, certificate = self._settings.listen, self._settings.tls_certificate
        try:
            if certificate is None or self._settings.tls_key is None:
                return self._server.add_insecure_port(listen)
            pair = (self._settings.tls_key.read_bytes(), certificate.read_bytes())
            return self._server.add_secure_port(listen, grpc.ssl_server_credentials([pair]))
        except OSError as error:
            raise ConfigurationError(f"TLS: {error}; name readable PEM files") from error
        except RuntimeError as error:
            raise ConfigurationError(
                f"--listen {listen}: is taken, is no address of this machine, or the TLS files are "
                "no PEM; choose a free address"
            ) from error

    async def until_signal(self) -> None:
        """Wait for SIGTERM or SIGINT."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop.set)
        await stop.wait()

    async def stop(self) -> None:
        """Drain: tell the health service, let calls in flight end, write what is waiting."""
        structlog.get_logger().info("draining", journal=self.journal.pending)
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._settings.grace)
        await self.journal.close(self._settings.grace)
        await self.retention.close()
        await self.configuration.close()
        await self.leases.close()
        await self.prices.close()
        await self.registry.close()
        if not self._shared_workshop:
            self._workshop.close()
        await self._store.close()
        structlog.get_logger().info("stopped", lost_decisions=self.journal.dropped)
