"""The ``rapport`` command. Training adds its commands through the entry-point group
``rapport.commands``, so an image without the training extra simply lacks them.
"""  # noqa: D205

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import entry_points
from itertools import groupby
from pathlib import Path
from typing import Annotated

import msgspec
import structlog
import typer
import uvloop
from rich.console import Console
from rich.text import Text

from features.duration import milliseconds
from service import VERSION, logs
from service import bundle as bundles
from service.business import Business, load
from service.config_diff import differences
from service.embedded import EmbeddedStore
from service.errors import ConfigurationError, RapportError
from service.redis_store import RedisStore
from service.server import Server, Settings

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Real-time customer decisioning: why they are here, and what to do next.",
)
config_app = typer.Typer(no_args_is_help=True, help="Check, compare and publish the configuration.")
app.add_typer(config_app, name="config")

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
) -> None:
    """Serve decisions over gRPC until SIGTERM, then drain."""
    business = load(config)
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
    )
    writer = logs.configure(pretty=sys.stderr.isatty())
    with ExitStack() as held:
        held.callback(writer.close)
        url = store or held.enter_context(EmbeddedStore(data)).url
        if archive is not None:
            held.callback(_end, _exporter(url, tenant, archive))
        uvloop.run(_serve(business, url, settings, bundle))


async def _serve(business: Business, url: str, settings: Settings, bundle: Path | None) -> None:
    server = Server(
        business,
        RedisStore(
            url,
            tenant=settings.tenant,
            horizon=business.ledger_window_ms,
            keep=business.ledger_keep,
            decisions=business.response_window_ms,
        ),
        settings,
    )
    structlog.get_logger().info("store", url=_masked(url))
    await server.start(None if bundle is None else bundles.read(bundle))
    try:
        await server.until_signal()
    finally:
        await server.stop()


def _masked(url: str) -> str:
    """A store's address without the password."""
    return re.sub(r"//[^/@]*@", "//***@", url)


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


Source = Annotated[Path, typer.Argument(help="Configuration folder, or a published file.")]


@config_app.command("check")
def check(config: Source) -> None:
    """Check a configuration folder; every mistake is named with file, place and remedy."""
    business = load(config)
    told = Text.assemble((f"{config} is fine", "green"), f": {', '.join(_holds(business))}")
    console = Console(soft_wrap=True, highlight=False)
    console.print(told)
    console.print(_answered_for(business), markup=False)


def _holds(business: Business) -> Iterator[str]:
    """What there is in a configuration, counted."""
    policies, actions = business.policies, business.actions
    staged = msgspec.structs.astuple(policies.rules)
    counts = {
        "action": len(actions),
        "of them bundles": sum(bool(one.parts) for one in actions),
        "of them mandatory": sum(one.mandatory for one in actions),
        "treatment": sum(len(one.treatments) for one in actions),
        "price": sum(len(one.prices) for one in actions),
        "placement": len(business.placements),
        "rule": sum(
            len(one)
            for rules in (
                *((action.eligibility, action.applicability, action.suitability)
                  for action in actions),
                staged,
            )
            for one in rules
        ),
        "limit": len(policies.limits),
        "suppression": len(policies.suppressions),
        "ceiling": len(policies.ceilings),
        "quiet hours": len(policies.quiet_hours),
        "context weight": len(policies.context_weights),
        "lever": len(policies.levers),
        "goal": len(policies.goals),
        "resource": len(policies.resources),
        "feature": len(business.definitions.features),
    }  # fmt: skip
    for name, count in counts.items():
        if count:
            plural = "" if count == 1 or name.endswith(("s", "mandatory")) else "s"
            yield f"{count} {name}{plural}"


def _answered_for(business: Business) -> str:
    """Release, author, approver and digest of a configuration."""
    release = business.release
    return (
        f"release {release.name or '(unnamed)'}, written by {release.author or 'nobody'}, "
        f"approved by {release.approver or 'nobody'}, version {business.digest}"
    )


@config_app.command("diff")
def diff(old: Source, new: Source) -> None:
    """Tell what changed between two configurations, in words.

    Ends with 0 where nothing did, with 1 where something did, and with 2 where one is wrong.
    """
    console = Console(soft_wrap=True, highlight=False)
    found = differences(load(old), load(new))
    for part, changes in groupby(found, key=lambda one: one.part):
        console.print(Text(part, "bold"))
        for one in changes:
            console.print(Text(f"  {one.text}"))
    if not found:
        console.print("no difference")
    raise typer.Exit(1 if found else 0)


@config_app.command("publish")
def publish(
    config: Source,
    output: Annotated[Path, typer.Option(help="File to write; replaced in one step.")],
) -> None:
    """Check a configuration, and write it as one file that serves without the rule compiler.

    Somebody has to have written it, and somebody else approved it: see release.yaml.
    """
    business = load(config)
    author, approver = business.release.author, business.release.approver
    for field, name in (("author", author), ("approver", approver)):
        if not name.strip():
            raise ConfigurationError(
                f"{config / 'release.yaml'}: {field}: nobody is named; who {_DOES[field]} it?"
            )
    if author.casefold().split() == approver.casefold().split():
        raise ConfigurationError(
            f"{config / 'release.yaml'}: approver: {approver!r} wrote it; have somebody else "
            "approve it"
        )
    written = business.written()
    _replace(output, written)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{output}: {len(written):,} bytes", markup=False)
    console.print(_answered_for(business), markup=False)


_DOES = {"author": "wrote", "approver": "approved"}


def _replace(path: Path, content: bytes) -> None:
    """Write a file in one step: whoever reads it sees the old one or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as new:
        try:
            new.write(content)
            new.flush()
            os.fsync(new.fileno())
            os.fchmod(new.fileno(), 0o644)
            Path(new.name).replace(path)
        except BaseException:
            Path(new.name).unlink(missing_ok=True)
            raise


@app.command()
def version() -> None:
    """Print the version."""
    Console().print(VERSION)


def main() -> None:
    """Run the command; our own errors are told in a line, without a trace."""
    # A server imports nothing of training: it starts faster and holds less.
    serving = sys.argv[1:2] and sys.argv[1] in ("serve", "config", "version")
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
