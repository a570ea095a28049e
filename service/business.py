"""A whole configuration: read from its folder, checked, and written as one published file.

Pure but for :func:`load`. Conditions are type-checked here, once; a published file carries them
checked, so that a server needs no compiler.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import msgspec

from features import duration
from features.definitions import Definitions
from features.plan import Plan
from features.vocabulary import Vocabulary
from service import coherence, config, variables
from service.catalogue import Action, Placement
from service.config import Places
from service.declared import Policies, Release
from service.errors import ConfigurationError
from service.rules import Checked, Source, check


class _Actions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    actions: list[Action]


class _Placements(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    placements: dict[str, Placement]


class Business(msgspec.Struct, frozen=True, dict=True):
    """A configuration whose parts fit together: nothing in it names what does not exist."""

    vocabulary: Vocabulary
    definitions: Definitions
    actions: list[Action]
    placements: dict[str, Placement]
    policies: Policies
    release: Release = Release()
    checked: dict[str, Checked] = {}  # every condition in it, by its text

    @cached_property
    def by_name(self) -> dict[str, Action]:
        """Actions by name."""
        return {action.name: action for action in self.actions}

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row of each action: its place in the catalogue."""
        return {action.name: row for row, action in enumerate(self.actions)}

    @cached_property
    def beside(self) -> list[int]:
        """Of each row, the set of those that may not stand beside it, bit by bit.

        A bundle and its parts, and bundles that share one.
        """
        parts = [sum(1 << self.rows[part] for part in action.parts) for action in self.actions]
        bundles = [row for row, held in enumerate(parts) if held]
        return [
            held
            | sum(
                1 << other
                for other in bundles
                if other != row and (parts[other] >> row & 1 or parts[other] & held)
            )
            for row, held in enumerate(parts)
        ]

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that change with anything a decision depends on."""
        parts = (
            self.actions, self.placements, self.policies, self.vocabulary, self.definitions,
            self.release, list(self.policies.goals),
        )  # fmt: skip
        written = msgspec.json.encode(parts, order="sorted")
        return hashlib.blake2b(written, digest_size=8).hexdigest()

    @cached_property
    def ledger_window_ms(self) -> int:
        """The longest window that anything counts over, at least a day."""
        windows = [limit.within_ms for limit in self.policies.limits]
        windows += [
            duration.milliseconds(one.within) + duration.milliseconds(one.lasts)
            for one in self.policies.suppressions
        ]
        return max([duration.DAY, self.policies.reserves_for_ms, *windows])

    @cached_property
    def response_window_ms(self) -> int:
        """The longest time in which an outcome may answer a decision, at least 30 days."""
        windows = [one.responds_within for one in self.actions if one.responds_within is not None]
        spans = [duration.milliseconds(one) for one in [*windows, self.policies.responds_within]]
        return max([30 * duration.DAY, *spans])

    @cached_property
    def ledger_keep(self) -> int:
        """Newest records of an action, outcome and channel that no count can do without.

        A limit asks only whether there are more than ``at_most``. A suppression asks whether any
        ``after`` records lie within ``within`` of each other, while it lasts: so many records in
        that time cannot all lie further apart.
        """
        needed = [limit.at_most + 1 for limit in self.policies.limits]
        for one in self.policies.suppressions:
            spans = -(-duration.milliseconds(one.lasts) // duration.milliseconds(one.within)) + 1
            needed.append((one.after - 1) * spans + one.after)
        return max(needed, default=1)

    def written(self) -> bytes:
        """The published file: all of it, conditions checked, in one JSON document.

        Names stay in the order in which they were written: the first goal is the actions' own.
        """
        return msgspec.json.encode(self)


class _Rest(msgspec.Struct):
    """A published file without its longest parts."""

    vocabulary: Vocabulary
    definitions: Definitions
    placements: dict[str, Placement]
    policies: Policies
    release: Release = Release()


class _Parts(msgspec.Struct):
    """A published file whose longest parts are still as they were written."""

    actions: list[msgspec.Raw]
    checked: dict[str, msgspec.Raw] = {}


def published(written: bytes) -> Business:
    """Read what :meth:`Business.written` wrote.

    Part by part: other threads have their turn in between.

    Raises:
        ConfigurationError: It is no published configuration, or of another version of Rapport.
    """
    try:
        try:
            return _by_parts(written)
        except msgspec.DecodeError:
            return msgspec.json.decode(written, type=Business)  # says where it is wrong
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"no published configuration: {error}; publish it again with this version"
        ) from error


def _by_parts(written: bytes) -> Business:
    parts = msgspec.json.decode(written, type=_Parts)
    rest = msgspec.json.decode(written, type=_Rest)
    return Business(
        rest.vocabulary,
        rest.definitions,
        [msgspec.json.decode(one, type=Action) for one in parts.actions],
        rest.placements,
        rest.policies,
        rest.release,
        {text: msgspec.json.decode(one, type=Checked) for text, one in parts.checked.items()},
    )


class Written(NamedTuple):
    """Where the parts of a configuration were written."""

    vocabulary: Places
    features: Places
    placements: Places
    policies: Places
    actions: list[tuple[Places, int]]  # file of each action, and its place there


def load(path: Path) -> Business:
    """Read and check a configuration.

    Args:
        path: A published file, or a folder with ``vocabulary.yaml``, ``features.yaml``,
            ``placements.yaml``, ``policies.yaml``, perhaps ``release.yaml``, and
            ``catalogue/*.yaml``, in which business people may group actions as they like.

    Raises:
        ConfigurationError: A file is wrong, or names what another does not declare; the message
            names file, line, value and remedy, of every mistake that was found.
    """
    if path.is_file():
        return published(path.read_bytes())
    if not path.is_dir():
        raise ConfigurationError(f"{path}: no such folder; name another with --config")
    files = sorted((path / "catalogue").glob("*.yaml"))
    if not files:
        raise ConfigurationError(f"{path / 'catalogue'}: no *.yaml there; write one with actions")
    actions: list[Action] = []
    at: list[tuple[Places, int]] = []
    for file in files:
        read, places = config.read(file, _Actions)
        actions += read.actions
        at += [(places, i) for i in range(len(read.actions))]
    vocabulary, vocabulary_at = config.read(path / "vocabulary.yaml", Vocabulary)
    definitions, features_at = config.read(path / "features.yaml", Definitions)
    placements, placements_at = config.read(path / "placements.yaml", _Placements)
    policies, policies_at = config.read(path / "policies.yaml", Policies)
    release = path / "release.yaml"
    business = Business(
        vocabulary=vocabulary,
        definitions=definitions,
        actions=actions,
        placements=placements.placements,
        policies=policies,
        release=config.load(release, Release) if release.exists() else Release(),
    )
    try:
        Plan(definitions, vocabulary)
    except ValueError as error:
        raise ConfigurationError(f"{path / 'features.yaml'}: {error}") from error
    written = Written(vocabulary_at, features_at, placements_at, policies_at, at)
    problems = [*coherence.problems(business, written)]
    try:
        business = complete(business, _conditions_at(business, written))
    except ConfigurationError as error:
        problems.append(str(error))
    else:
        problems += coherence.of_conditions(business, written)
    if problems:
        raise ConfigurationError("\n".join(problems))
    return business


def complete(business: Business, where: Mapping[str, str] | None = None) -> Business:
    """Type-check every condition of a configuration.

    Args:
        business: Perhaps with conditions that were never checked.
        where: Place of each condition, for messages.

    Raises:
        ConfigurationError: A condition is wrong.
    """
    texts = list(dict.fromkeys(conditions(business)))
    if not texts:
        return business
    places = where or {}
    sources = [Source(text, places.get(text, "condition")) for text in texts]
    try:
        environment = variables.environment(business.vocabulary)
    except ValueError as error:
        raise ConfigurationError(f"vocabulary.yaml: {error}") from error
    checked = check(sources, environment)
    return msgspec.structs.replace(business, checked=dict(zip(texts, checked, strict=True)))


def conditions(business: Business) -> list[str]:
    """Every condition in a configuration, in the order of its actions, then policies."""
    found = []
    for action in business.actions:
        for rules in (action.eligibility, action.applicability, action.suitability):
            found += [rule.when for rule in rules]
        found += [price.when for price in action.prices if price.when is not None]
    stages = business.policies.rules
    for staged in (stages.eligibility, stages.applicability, stages.suitability):
        found += [one.rule.when for one in staged]
    return found


def _conditions_at(business: Business, written: Written) -> dict[str, str]:
    """Where each condition was first written, with the name of what it belongs to."""
    places: dict[str, str] = {}
    for action, (file, i) in zip(business.actions, written.actions, strict=True):
        for stage in ("eligibility", "applicability", "suitability"):
            for j, rule in enumerate(getattr(action, stage)):
                at = file.at("actions", i, stage, j, "when")
                places.setdefault(rule.when, f"{at}: actions.{action.name}.{stage}.{rule.name}")
        for j, price in enumerate(action.prices):
            if price.when is not None:
                at = file.at("actions", i, "prices", j, "when")
                places.setdefault(price.when, f"{at}: actions.{action.name}.prices[{j}]")
    for stage in ("eligibility", "applicability", "suitability"):
        for j, one in enumerate(getattr(business.policies.rules, stage)):
            at = written.policies.at("rules", stage, j, "rule", "when")
            places.setdefault(one.rule.when, f"{at}: rules.{stage}.{one.rule.name}")
    return places
