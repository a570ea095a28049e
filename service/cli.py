"""The ``rapport`` command. Training adds its commands through the entry-point group
``rapport.commands``, so an image without the training extra simply lacks them.
"""  # noqa: D205

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import ExitStack
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.text import Text

from features.duration import milliseconds
from service import VERSION, logs
from service.addresses import Held
from service.child import Process
from service.embedded import EmbeddedStore
from service.errors import ConfigurationError, RapportError
from service.job import Job, Settings
from service.workers import CONNECTION_AGE, Supervisor

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Real-time customer decisioning: why they are here, and what to do next.",
)

Config = Annotated[
    Path, typer.Option(help="Configuration folder, or a file that `config publish` wrote.")
]
StoreUrl = Annotated[
    str | None,
    typer.Option("--store", envvar="REDIS_URL", help="Redis or Valkey; absent: an embedded one."),
]


@app.command()
def serve(
    config: Config = Path("config"),
    listen: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1:50051",
    store: StoreUrl = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the embedded store; absent: kept in memory.")
    ] = None,
    tenant: Annotated[
        str, typer.Option(help="Keeps several businesses apart in a store.")
    ] = "main",
    callers: Annotated[
        Path | None, typer.Option(help="Who may call; absent: everybody, from this machine only.")
    ] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM chain of the server.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM key of the server.")] = None,
    deadline: Annotated[str, typer.Option(help="For calls that bring none.")] = "250ms",
    archive: Annotated[
        Path | None, typer.Option(help="Export the log to Parquet files in this folder.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Publish and activate this bundle before serving.")
    ] = None,
    log_age: Annotated[str, typer.Option(help="How long the store keeps the log.")] = "7d",
    log_entries: Annotated[
        int, typer.Option(help="Entries the store keeps where nothing exports them.")
    ] = 5_000_000,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Leave nothing to chance: always the best.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=1, max=256, help="Processes that serve; one for each core.")
    ] = 1,
    worker_ports: Annotated[
        int | None,
        typer.Option(
            min=1, max=65_535,
            help="Port of the first worker's own address, the others follow; absent: the one "
            "after --listen's.",
        ),
    ] = None,
    connection_age: Annotated[
        str | None,
        typer.Option(
            help="How long a connection lasts, give or take a fifth, or 'never'; absent: 5m where "
            "several workers serve."
        ),
    ] = None,
    metrics: Annotated[
        str, typer.Option(help="Address of /metrics, /ready and /live; absent: nowhere.")
    ] = "",
) -> None:  # fmt: skip
    """Serve decisions over gRPC until SIGTERM, then drain."""
    alone = workers == 1
    settings = Settings(
        listen=listen,
        tenant=tenant,
        callers=callers,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        deadline=milliseconds(deadline) / 1000,
        log_age=milliseconds(log_age),
        log_entries=log_entries,
        archive=archive,
        configuration=config,
        greedy=greedy,
        connection_age=_age(connection_age or ("never" if alone else CONNECTION_AGE)),
        metrics=metrics,
    )
    if alone:
        # Here, since whoever keeps several needs none of it: a hundred megabytes.
        from service.business import load  # noqa: PLC0415
        from service.worker import serve as serve_alone  # noqa: PLC0415

        business = load(config)
    writer = logs.configure(pretty=sys.stderr.isatty())
    with ExitStack() as held:
        held.callback(writer.close)
        url = store or held.enter_context(EmbeddedStore(data)).url
        if archive is not None:
            held.callback(_end, _exporter(url, tenant, archive))
        job = Job(config, url, settings, bundle)
        if alone:
            uvloop.run(serve_alone(business, job))
        else:
            _supervise(job, workers, worker_ports)


def _supervise(job: Job, workers: int, first: int | None) -> None:
    with Held(job.settings.listen, workers, first) as held:
        well = asyncio.run(Supervisor(job, held, Process.start).run())
    if not well:
        raise typer.Exit(1)


def _age(written: str) -> float:
    """Seconds that a connection lasts; 0 for ``never``."""
    return 0.0 if written == "never" else milliseconds(written) / 1000


def _exporter(url: str, tenant: str, archive: Path) -> subprocess.Popen[bytes]:
    """Start the exporter as a process of its own: writing Parquet must not stall a decision."""
    if not any(entry.name == "training" for entry in entry_points(group="rapport.commands")):
        raise ConfigurationError("--archive needs the training extra; install 'rapport[training]'")
    command = [sys.executable, "-m", "service.cli", "export", "--follow", "--archive", str(archive),
               "--tenant", tenant]  # fmt: skip
    return subprocess.Popen(
        command, env={**os.environ, "REDIS_URL": url}, start_new_session=True, stdin=subprocess.PIPE
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let the exporter write what is left; it stops when its standard input closes."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()


@app.command()
def version() -> None:
    """Print the version."""
    Console().print(VERSION)


def main() -> None:
    """Run the command; our own errors are told in a line, without a trace."""
    # A server imports nothing of training: it starts faster and holds less.
    serving = sys.argv[1:2] and sys.argv[1] in ("serve", "config", "version")
    if sys.argv[1:2] != ["serve"]:
        from service.cli_config import app as config_app  # noqa: PLC0415

        app.add_typer(config_app, name="config")
    for entry in () if serving else entry_points(group="rapport.commands"):
        try:
            app.add_typer(entry.load())
        except ModuleNotFoundError as error:
            if error.name is not None and error.name.split(".")[0] in ("service", "features"):
                raise
    try:
        app()
    except (RapportError, FileNotFoundError, ValueError) as error:
        told = Text.assemble(("error: ", "red"), str(error))
        Console(stderr=True, soft_wrap=True).print(told)
        sys.exit(2)


if __name__ == "__main__":
    main()
