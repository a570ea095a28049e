"""The commands that training adds to ``rapport``."""

from __future__ import annotations

import asyncio
import datetime
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from features.duration import milliseconds
from features.plan import Plan
from service import bundle as bundles
from service import registry
from service.bundle import Bundle
from service.business import Business, load
from service.errors import ConfigurationError
from service.models import Models
from service.redis_store import RedisStore
from service.workshop import Workshop
from training import (
    audit_page,
    demo,
    fairness,
    importer,
    parity,
    publish,
    said,
    segments,
    simulate,
    workflow,
)
from training import export as exporter
from training.audited import Audit
from training.export import Exported
from training.past import Sources
from training.progress import Bars
from training.reproduce import Reproduced

app = typer.Typer()
audit_app = typer.Typer(no_args_is_help=True, help="Look for what should not be so.")
app.add_typer(audit_app, name="audit")

Config = Annotated[Path, typer.Option(help="Configuration folder.")]
Archive = Annotated[Path, typer.Option(help="Folder of the Parquet log.")]
StoreUrl = Annotated[str | None, typer.Option("--store", envvar="REDIS_URL", help="The store.")]
Tenant = Annotated[str, typer.Option(help="Of the store.")]


@app.command("simulate")
def simulate_(
    config: Config = Path("config"),
    archive: Archive = Path("build/archive"),
    customers: Annotated[int, typer.Option(min=1, help="How many.")] = 2_000,
    days: Annotated[int, typer.Option(min=1, help="How long.")] = 180,
    seed: Annotated[
        int, typer.Option(help="The same seed gives the same log, within the hour.")
    ] = 1,
    fresh: Annotated[bool, typer.Option(help="Remove what the archive holds first.")] = False,
) -> None:
    """Write the log of a simulated bank, and the truth about it beside it."""
    if fresh and archive.exists():
        shutil.rmtree(archive)
    business = load(config)
    with Bars() as bars:
        made = simulate.simulate(
            business,
            archive,
            customers=customers,
            days=days,
            seed=seed,
            end=simulate.last_hour(datetime.datetime.now(datetime.UTC)),
            progress=lambda done, of: bars("simulate customers", done, of),
        )
    Console().print(
        f"{made.events:,} events, {made.decisions:,} decisions and {made.contacts:,} contacts of "
        f"{made.customers:,} customers in {archive}; {made.acceptance_rate:.1%} of what was "
        f"presented was accepted; the truth is in {made.truth}"
    )


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="CSV (also .gz) or Parquet.")],
    mapping: Annotated[Path, typer.Option(help="How its columns become events.")],
    config: Config = Path("config"),
    target: Annotated[
        str | None, typer.Option(help="Address of a server; absent: map only.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(envvar="RAPPORT_TOKEN", help="Of the caller.")
    ] = None,
    refused: Annotated[Path, typer.Option(help="Where refused rows go.")] = Path(
        "build/refused.csv"
    ),
    limit: Annotated[int | None, typer.Option(help="Rows to read at most.")] = None,
) -> None:
    """Send an event log to a server; bad rows are reported by line and reason."""
    importer.run(path, mapping, config, target, token=token, refused=refused, limit=limit)


@app.command("export")
def export_(
    archive: Archive = Path("build/archive"),
    store: StoreUrl = None,
    tenant: Tenant = "main",
    follow: Annotated[bool, typer.Option(help="Go on until stopped.")] = False,
    every: Annotated[str, typer.Option(help="Pause between two rounds.")] = "60s",
) -> None:
    """Copy the store's log to Parquet: what is new since the last time."""
    uvloop.run(_export(_needed(store), tenant, archive, follow, milliseconds(every) / 1000))


@app.command("replay")
def replay_(
    decision_id: Annotated[str, typer.Argument(help="Of the answer.")],
    archive: Archive = Path("build/live"),
    store: StoreUrl = None,
    tenant: Tenant = "main",
) -> None:
    """Compute a logged decision again; says whether every byte came out the same."""
    if not re.fullmatch("[0-9a-f]{25}", decision_id):
        raise ConfigurationError(
            f"{decision_id!r} is no decision id; copy that of an answer, 25 letters and digits"
        )
    folder = archive if archive.exists() else None
    done = uvloop.run(_replay(decision_id, folder, store, tenant))
    if done.same:
        Console().print(f"[green]{decision_id}: every byte is the same[/]")
        return
    Console().print(f"[red]{decision_id}: came out differently[/]")
    for difference in done.differences:
        Console().print(f"  {difference}", markup=False)
    raise typer.Exit(1)


async def _replay(
    decision_id: str, folder: Path | None, url: str | None, tenant: str
) -> Reproduced:
    store = None if url is None else RedisStore(url, tenant=tenant, timeout=30)
    try:
        return await Sources(folder, store).replay(decision_id)
    finally:
        if store is not None:
            await store.close()


async def _export(url: str, tenant: str, archive: Path, follow: bool, every: float) -> None:
    store = RedisStore(url, tenant=tenant, timeout=30)
    try:
        if not follow:
            with Bars() as bars:
                done = await exporter.export(
                    store, archive, lambda parts, of: bars("export partitions", parts, of)
                )
            _told(done, 0.0)
            return
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop.set)
        if not sys.stdin.isatty():
            # The server that started us closes our standard input when it stops.
            reader = asyncio.StreamReader()
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
            task = asyncio.create_task(reader.read())
            task.add_done_callback(lambda _: stop.set())
        await exporter.follow(store, archive, every, stop, _told)
    finally:
        await store.close()


def _told(done: Exported, seconds: float) -> None:
    if done.entries or not seconds:
        Console(stderr=True).print(f"exported {done.entries} entries to {done.files} files")


@app.command("train")
def train_(
    config: Config = Path("config"),
    archive: Archive = Path("build/archive"),
    out: Annotated[Path, typer.Option(help="Folder of bundles.")] = Path("build/bundles"),
) -> None:
    """Replay the archive, train, calibrate, and write a bundle."""
    business = load(config)
    with Bars() as bars:
        sealed = workflow.fit(archive, business, workflow.targets(config), bars)
    at = publish.save(sealed, out)
    Console().print(report(sealed))
    for note in sealed.manifest.notes:
        Console().print(note, highlight=False)
    Console().print(f"bundle: {at}")


def report(sealed: Bundle) -> Table:
    """The numbers of a bundle as a table."""
    table = Table(title=f"bundle {sealed.manifest.version}", title_justify="left")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in sorted(sealed.manifest.metrics.items()):
        table.add_row(name, f"{value:,.0f}" if value.is_integer() else f"{value:.4f}")
    return table


@app.command("publish")
def publish_(
    bundle: Annotated[Path, typer.Argument(help="Folder of one bundle.")],
    config: Config = Path("config"),
    store: StoreUrl = None,
    tenant: Tenant = "main",
    activate: Annotated[bool, typer.Option(help="Put it in charge at once.")] = False,
) -> None:
    """Verify a bundle as a server would, and keep it in the store as a candidate."""
    sealed = bundles.read(bundle)
    business = load(config)
    uvloop.run(_publish(sealed, business, _needed(store), tenant, activate))


async def _publish(
    sealed: Bundle, business: Business, url: str, tenant: str, activate: bool
) -> None:
    store, workshop = RedisStore(url, tenant=tenant, timeout=30), Workshop()
    try:
        await registry.publish(store, sealed, business)
        if activate:
            known = registry.Registry(store, business, workshop)
            await known.activate(sealed.manifest.version)
    finally:
        workshop.close()
        await store.close()
    state = "active" if activate else "a candidate"
    Console().print(f"{sealed.manifest.version} is {state}")


@app.command("parity")
def parity_(config: Config = Path("config"), archive: Archive = Path("build/archive")) -> None:
    """Recompute the vectors of all logged decisions and compare them bit for bit."""
    business = load(config)
    plan = Plan(business.definitions, business.vocabulary)
    found = parity.of_archive(archive, plan, business)
    if not found.checked:
        Console().print(
            "nothing to compare: the archive holds no decision that these definitions served; "
            "serve, decide, 'rapport export', and ask again"
        )
        raise typer.Exit(1)
    Console().print(f"{found.equal} of {found.checked} vectors are equal bit for bit")
    if found.differing:
        Console().print("differing: " + ", ".join(found.differing))
        raise typer.Exit(1)


@audit_app.command("fairness")
def fairness_(
    archive: Archive = Path("build/archive"),
    sample: Annotated[
        int | None, typer.Option(min=1, help="Decide anew for so many customers; absent: the log.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Configuration folder; absent: as the archive recorded.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Folder of one bundle; absent: as the archive recorded.")
    ] = None,
    protected: Annotated[
        list[str] | None, typer.Option(help="Attribute to compare by; absent: as declared.")
    ] = None,
    value_tier: Annotated[
        str, typer.Option(help="Attribute that is the value tier; absent: as declared.")
    ] = "",
    bands: Annotated[
        list[str] | None, typer.Option(help="Bands of a number, as age=25,40,65.")
    ] = None,
    again: Annotated[
        int, typer.Option(min=1, help="Logged decisions to compute again at most.")
    ] = 2_000,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("build/audit"),
    fail_on_gap: Annotated[
        bool, typer.Option("--fail-on-gap", help="Exit with 1 where a gap is found.")
    ] = False,
) -> None:
    """Compare what segments are shown, accept and go through; name what causes a gap."""
    business = None if config is None else load(config)
    models = None
    asked = fairness.Asked(
        archive, sample, again, protected or (), value_tier, segments.bands(bands or ())
    )
    if bundle is not None:
        if business is None:
            business = fairness.recorded(archive)
        models = Models(bundles.read(bundle), business)
    with Bars() as bars:
        audited = fairness.audit(asked, business, models, bars)
    out.mkdir(parents=True, exist_ok=True)
    written, page = out / "fairness.json", out / "fairness.html"
    written.write_bytes(msgspec.json.format(msgspec.json.encode(audited), indent=1))
    page.write_text(audit_page.page(audited), "utf-8")
    Console().print(gaps(audited))
    Console().print(audited.summary, highlight=False, markup=False)
    for note in audited.not_looked_at:
        if "--sample" in note:
            Console().print(note, highlight=False, markup=False)
    Console().print(f"{page} and {written}", highlight=False, markup=False)
    if fail_on_gap and audited.gaps:
        raise typer.Exit(1)


def gaps(audited: Audit, most: int = 10) -> Table:
    """The largest gaps of an audit as a table."""
    table = Table(title="gaps", title_justify="left")
    for name in ("what", "segment", "rate", "others", "ratio", "cause", "explains"):
        table.add_column(name, justify="right" if name in ("rate", "others", "ratio") else "left")
    compared = {one.id: one for one in audited.comparisons}
    for gap in audited.gaps[:most]:
        one = compared[gap.comparison]
        first = gap.causes[0] if gap.cause else None
        kind = ".0f" if one.of == "wait_seconds" else ".1%"
        table.add_row(
            said.titled(one),
            f"{one.attribute} {one.segment}",
            format(one.rate, kind),
            format(one.rate_others, kind),
            f"{one.ratio:.2f}",
            "" if first is None else said.called(first.kind, first.name),
            "" if first is None else f"{first.explained:.0%}",
        )
    return table


@app.command("demo")
def demo_(
    config: Config = Path("config"),
    work: Annotated[Path, typer.Option(help="Folder for what it makes.")] = Path("build/demo"),
) -> None:
    """Simulate a bank, train, serve, and let a few customers call in."""
    demo.run(config, work, Console())


def _needed(store: str | None) -> str:
    if store is None:
        raise ConfigurationError(
            "name the store with --store URL or REDIS_URL; 'rapport serve' prints that of an "
            "embedded one"
        )
    return store
