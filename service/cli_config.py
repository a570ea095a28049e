"""``rapport config``: check, compare and publish a configuration."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from service.business import Business, load
from service.config_diff import differences
from service.errors import ConfigurationError

app = typer.Typer(no_args_is_help=True, help="Check, compare and publish the configuration.")

Source = Annotated[Path, typer.Argument(help="Configuration folder, or a published file.")]


@app.command("check")
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


@app.command("diff")
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


@app.command("publish")
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
