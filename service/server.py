"""One serving process: put together, started, drained."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

from rapport.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    customer_pb2,
    customer_pb2_grpc,
    decision_pb2,
    decision_pb2_grpc,
)
from service import heap, threads, warm
from service.addresses import own_machine, place
from service.afterwards import Afterwards
from service.bundle import Bundle
from service.business import Business
from service.callers import Callers
from service.capacity import Prices
from service.configuration import Configuration
from service.decide import World
from service.errors import ConfigurationError
from service.interceptors import Edge, Unregistered
from service.job import Settings
from service.journal import Journal
from service.lag import LoopLag
from service.leases import Leases
from service.metrics import Metrics, Reading
from service.pages import METRICS, Page, PageServer
from service.redis_store import RedisStore
from service.registry import Registry
from service.retention import Retention
from service.rpc_admin import Admin
from service.rpc_customer import Customers
from service.rpc_decision import Decisions
from service.workshop import Workshop

_MAX_MESSAGE: Final = 8 * 2**20
_FOREVER: Final = 2**31 - 1  # milliseconds, as gRPC understands it
_SWITCH_SECONDS: Final = 0.0005

SERVICES: Final = (
    decision_pb2.DESCRIPTOR.services_by_name["DecisionService"].full_name,
    customer_pb2.DESCRIPTOR.services_by_name["CustomerService"].full_name,
    admin_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name,
)


def clock() -> int:
    """Milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000


class Server:
    """Everything that serves one configuration from one store.

    Args:
        business: The configuration.
        store: Where customers are; closed with the server.
        settings: How to serve.
        changed: Called when somebody has changed here what other workers follow too.
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
        changed: Callable[[], None] = lambda: None,
        workshop: Workshop | None = None,
    ) -> None:
        at = place(settings.listen)
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", settings.tenant):
            raise ConfigurationError(
                f"--tenant {settings.tenant!r}: use 1 to 64 letters, digits, '_', '.' and '-'"
            )
        known = Callers(settings.callers)
        if known.open and not own_machine(at):
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
            settings.worker or secrets.token_hex(2),
            settings.greedy,
        )
        self.configuration = Configuration(
            settings.configuration, business, store, self.registry, self.prices, world,
            self._workshop,
        )  # fmt: skip
        self._afterwards = Afterwards(heap.Sweeper().sweep)
        self.journal = Journal(store, moment=self._afterwards.wait)
        self.retention = Retention(
            store,
            settings.log_age,
            settings.log_entries,
            exporting=settings.archive is not None,
        )
        self.metrics = Metrics(settings.number)
        self.metrics.add(*self._readings())
        self._lag = LoopLag(self.metrics.lag.observe)
        self._pages = PageServer({"/metrics": self._page, "/ready": self._ready, "/live": _live})
        self._ready_to_serve = False
        self._health = HealthServicer()
        with threads.patient():  # gRPC starts its threads now
            self._server = grpc.aio.server(options=_options(settings))
        # To the stubs it is the server.
        edge: Any = Edge(self._server, known, self.metrics, self._afterwards)
        decision_pb2_grpc.add_DecisionServiceServicer_to_server(
            Decisions(
                self.configuration,
                store,
                self.registry,
                self.journal,
                clock,
                settings.deadline,
                self._afterwards,
            ),
            edge,
        )
        customer_pb2_grpc.add_CustomerServiceServicer_to_server(
            Customers(self.configuration, store, clock), edge
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
                changed,
            ),
            edge,
        )
        open_to_all: Any = Unregistered(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, open_to_all)
        told = (
            *SERVICES,
            reflection.SERVICE_NAME,
            health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
        )
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
            ReflectionServicer(told), open_to_all
        )
        self.port = 0

    def _readings(self) -> tuple[Reading, ...]:
        return (
            Reading(
                "rapport_journal_pending",
                "Decisions that wait to be written to the log.",
                lambda: self.journal.pending,
            ),
            Reading(
                "rapport_journal_lost_total",
                "Decisions that could not be written.",
                lambda: self.journal.dropped,
            ),
            Reading(
                "rapport_log_dropped_total",
                "Log entries that retention dropped before they were exported.",
                lambda: self.retention.dropped,
            ),
            Reading("process_cpu_seconds_total", "CPU time of the process.", time.process_time),
            Reading("process_resident_memory_bytes", "Memory of the process.", _resident),
        )

    async def _page(self) -> Page:
        self._afterwards.finish()
        return Page(self.metrics.page(), kind=METRICS)

    async def _ready(self) -> Page:
        if self._ready_to_serve:
            return Page("ready\n")
        return Page("not ready\n", HTTPStatus.SERVICE_UNAVAILABLE)

    def look(self) -> None:
        """Look at once whether bundle, configuration or prices have changed."""
        self.registry.look()
        self.configuration.look()
        self.prices.look()

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
        heap.give_back()
        self._workshop.start()
        await asyncio.to_thread(warm.kernels)
        await self._store.check()
        await self.configuration.start()
        if bundle is not None:
            await self.registry.adopt(bundle)
        await self.registry.start()
        await self.prices.start()
        await self.configuration.current.decider.rehearse()
        self.journal.start()
        self.retention.start()
        page = await self._pages.start(self._settings.metrics) if self._settings.metrics else ""
        self.port = self._bind(self._settings.listen)
        if self._settings.own:
            self._bind(self._settings.own)
        await self._server.start()
        heap.settle()
        for name in ("", *SERVICES):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._ready_to_serve = True
        self._lag.start()
        more = {"own": self._settings.own, "metrics": page}
        structlog.get_logger().info(
            "serving",
            address=self._settings.listen,
            port=self.port,
            **{name: one for name, one in more.items() if one},
        )

    def _bind(self, listen: str) -> int:
        certificate = self._settings.tls_certificate
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
        self._ready_to_serve = False
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._settings.grace)
        self._afterwards.finish()
        await self.journal.close(self._settings.grace)
        await self.retention.close()
        await self.configuration.close()
        await self.leases.close()
        await self.prices.close()
        await self.registry.close()
        if not self._shared_workshop:
            self._workshop.close()
        await self._store.close()
        await self._lag.close()
        await self._pages.close()
        structlog.get_logger().info("stopped", lost_decisions=self.journal.dropped)


def _options(settings: Settings) -> list[tuple[str, int]]:
    """Options of the gRPC server."""
    options = [
        ("grpc.max_receive_message_length", _MAX_MESSAGE),
        ("grpc.so_reuseport", int(bool(settings.own))),
        ("grpc.enable_channelz", 0),  # counts each call for a service that is not served here
    ]
    if settings.connection_age:
        options += [
            ("grpc.max_connection_age_ms", min(round(1e3 * settings.connection_age), _FOREVER)),
            ("grpc.max_connection_age_grace_ms", round(1e3 * settings.grace)),
        ]
    return options


async def _live() -> Page:
    return Page("live\n")


def _resident() -> float:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        return 0.0
    return float(pages * os.sysconf("SC_PAGE_SIZE"))
