"""The decisions that an audit looks at: as they were logged, or decided anew for a sample.

A logged decision is seen with the profile that it read, and can be computed again if it says what
it was made with. A sampled customer is decided at their last event on a channel that some placement
serves, best actions first, as a caller who was verified.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from features.partition import partition
from features.profile import Profile
from features.record import DIRECTION, EMPTY, LogId, Records
from features.timeline import LIMIT
from rapport.v1 import log_pb2
from service import VERSION
from service import bundle as bundles
from service.business import Business, published
from service.catalogue import ASSURANCE
from service.errors import NotFound, RapportError
from service.inputs import Inputs, Known, Question
from service.limits import counted_outcomes
from service.models import Models
from service.pipeline import Pipeline
from training import archive, reproduce
from training.archive import Entry
from training.replay import History
from training.reproduce import Past

_READ: Final = ("event", "profile", "reserved", "adopted")


class Case(NamedTuple):
    """One decision."""

    customer_id: str
    moment: int  # milliseconds
    profile: Profile | None  # as the decision saw it
    channel: str
    placements: Sequence[str]
    shown: Sequence[str] | None  # actions; None: it was not taken yet
    wait: float | None = None  # seconds, where the caller told
    inputs: Inputs | None = None  # None: it cannot be computed again
    past: Past | None = None


class Made(NamedTuple):
    """What the newest logged decision was made with; empty: nothing was logged."""

    configuration: str
    bundle: str


class Logged(NamedTuple):
    """Logged decisions, and why some of them cannot be computed again."""

    cases: list[Case]
    lost: dict[str, int]  # how many, by reason


def made(folder: Path) -> Made:
    """Say what the newest decision of an archive was made with."""
    newest, found = -1, Made("", "")
    for entry in archive.read(folder, ("decision",)):
        response = log_pb2.LogEntry.FromString(entry.entry).decision.response
        if entry.id.ms >= newest:
            newest, found = entry.id.ms, Made(response.versions.catalogue, response.versions.bundle)
    return found


def configuration(folder: Path, digest: str) -> Business:
    """Read a configuration that an archive keeps.

    Raises:
        NotFound: It does not.
    """
    kept = archive.configuration(folder, digest)
    if not digest or not kept.exists():
        raise NotFound(
            f"{folder} does not keep configuration {digest!r}, which decided; name it with --config"
        )
    return published(kept.read_bytes())


def models(folder: Path, version: str, business: Business) -> Models | None:
    """Read the models of a bundle that an archive keeps; None where none was in charge.

    Raises:
        NotFound: It does not keep them.
    """
    if not version:
        return None
    kept = archive.bundle(folder, version)
    if not kept.exists():
        raise NotFound(
            f"{folder} does not keep bundle {version!r}, which decided; name it with --bundle"
        )
    return Models(bundles.unpack(kept.read_bytes()), business)


def logged(
    folder: Path,
    histories: Mapping[str, History],
    erased: Mapping[str, int],
    again: int,
    seed: int,
    show: Callable[[int, int], None],
) -> Logged:
    """Read the decisions of an archive.

    Args:
        folder: The archive.
        histories: Its customers.
        erased: Moments up to which nothing may be used, by customer.
        again: How many to prepare for being computed again, drawn at random where there are more.
        seed: Of that draw.
        show: Told what is done, and of how much.
    """
    entries = [
        entry
        for entry in archive.read(folder, ("decision",))
        if entry.id.ms > erased.get(entry.customer_id, -1)
    ]
    told = [log_pb2.LogEntry.FromString(entry.entry).decision for entry in entries]
    lost: dict[str, int] = {}
    pasts: dict[tuple[str, str], Past | None] = {}
    able: list[int] = []
    for number, one in enumerate(told):
        why = _not_again(folder, one, pasts)
        if why:
            lost[why] = lost.get(why, 0) + 1
        else:
            able.append(number)
    chosen = set(able)
    if len(able) > again:
        chosen = set(random.Random(seed).sample(able, again))  # noqa: S311  reproducible
    logs = _logs(folder, [(entries[i], told[i]) for i in sorted(chosen)])
    cases = []
    for number, (entry, one) in enumerate(zip(entries, told, strict=True)):
        inputs = past = None
        if number in chosen:
            past = pasts[_made_with(one)]
            assert past is not None  # noqa: S101  or it were not among the able
            inputs = reproduce.inputs(one, entry.customer_id, logs, past.pipeline.business)
        history = histories.get(entry.customer_id)
        told_by = one.response.read.profile
        profile = _told(history, LogId.parse(told_by)) if history and told_by else None
        cases.append(_case(entry, one, profile, inputs, past))
        if (number + 1) % 200 == 0 or number + 1 == len(told):
            show(number + 1, len(told))
    return Logged(cases, lost)


def _case(
    entry: Entry,
    one: log_pb2.DecisionLogged,
    profile: Profile | None,
    inputs: Inputs | None,
    past: Past | None,
) -> Case:
    wait = one.request.context.get("wait_seconds")
    slates = one.response.slates
    stamp = one.response.decided_at
    return Case(
        entry.customer_id,
        stamp.seconds * 1000 + stamp.nanos // 1_000_000,
        profile if inputs is None else inputs.known.profile,
        one.request.channel,
        [slate.placement for slate in slates],
        [shown.action for slate in slates for shown in slate.recommendations],
        wait.number_value if wait is not None and wait.HasField("number_value") else None,
        inputs,
        past,
    )


def _made_with(one: log_pb2.DecisionLogged) -> tuple[str, str]:
    return one.response.versions.catalogue, one.response.versions.bundle


def _not_again(
    folder: Path, one: log_pb2.DecisionLogged, pasts: dict[tuple[str, str], Past | None]
) -> str:
    """Why a decision cannot be computed again; empty: it can."""
    if not one.HasField("inputs") or not one.HasField("deliberation"):
        return "logged without what it was made of, as the simulator does"
    if one.response.versions.code != VERSION:
        return f"taken by Rapport {one.response.versions.code}, and this is {VERSION}"
    at = _made_with(one)
    if at not in pasts:
        try:
            business = configuration(folder, at[0])
            pasts[at] = Past(Pipeline(business), models(folder, at[1], business))
        except RapportError:
            pasts[at] = None
    if pasts[at] is None:
        return f"made with configuration {at[0]} and bundle {at[1] or 'none'}, not kept or refused"
    return ""


def _logs(
    folder: Path, chosen: Sequence[tuple[Entry, log_pb2.DecisionLogged]]
) -> dict[str, list[Entry]]:
    """The entries of everybody whom some decisions read, in the order of their ids."""
    read = {entry.customer_id for entry, _ in chosen}
    read |= {member.customer_id for _, one in chosen for member in one.response.read.members}
    logs: dict[str, list[Entry]] = {}
    for number in sorted({partition(customer) for customer in read}):
        for entry in archive.read(folder, _READ, number) if archive.files(folder, number) else ():
            if entry.customer_id in read:
                logs.setdefault(entry.customer_id, []).append(entry)
    return logs


def _told(history: History, upto: LogId) -> Profile:
    """The profile as the store held it."""
    changes = [(id, change) for id, change in history.changes if id <= upto]
    return history._replace(changes=changes).profile(2**62)


def sampled(histories: Mapping[str, History], past: Past, customers: int, seed: int) -> list[Case]:
    """Prepare a decision for some customers, at their last event.

    Args:
        histories: All customers.
        past: What to decide with.
        customers: How many, drawn at random where there are more.
        seed: Of the draw, and of the decisions.
    """
    business = past.pipeline.business
    names = {code: name for name, code in business.vocabulary.channels.items()}
    served = {
        channel: [name for name, one in business.placements.items() if channel in one.channels]
        for channel in business.vocabulary.channels
    }
    codes = [business.vocabulary.channels[channel] for channel, some in served.items() if some]
    able = sorted(
        customer
        for customer, history in histories.items()
        if np.isin(history.records["channel"], codes).any()
    )
    if len(able) > customers:
        able = sorted(random.Random(seed).sample(able, customers))  # noqa: S311  reproducible
    counted = [*counted_outcomes(business)]
    cases = []
    for customer in able:
        history = histories[customer]
        records = history.records
        last = int(np.flatnonzero(np.isin(records["channel"], codes))[-1])
        moment, channel = int(records["occurred_at"][last]), names[int(records["channel"][last])]
        seen = records[records["occurred_at"] <= moment]
        profile = history.profile(moment)
        question = Question(
            customer, channel, int(records["flags"][last]) & DIRECTION or 1, served[channel],
            ASSURANCE["verified"], as_of=moment,
        )  # fmt: skip
        known = Known(seen[-LIMIT:], _ledger(seen, counted), profile)
        inputs = Inputs(question, known, moment, seed, greedy=True)
        cases.append(
            Case(customer, moment, profile, channel, served[channel], None, None, inputs, past)
        )
    return cases


def _ledger(records: Records, counted: list[int]) -> Records:
    """What limits count; a sample reserves nothing."""
    kept = records[np.isin(records["outcome"], counted) & (records["action"] > 0)]
    return kept if len(kept) else EMPTY
