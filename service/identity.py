"""Who a caller means: identifiers evened out, and customers who are one person. Pure."""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from features.profile import Consent, Profile, Value
from features.vocabulary import Vocabulary
from service.errors import Violation

MAX_CUSTOMER_ID: Final = 128
MAX_IDENTIFIER: Final = 256


def normalise(vocabulary: Vocabulary, namespace: str, value: str) -> str | Violation:
    """Even out case and spacing as the namespace declares.

    Returns:
        The value as it is stored, or what is wrong with it.
    """
    declared = vocabulary.namespaces.get(namespace)
    if declared is None:
        known = ", ".join(vocabulary.namespaces) or "none is declared"
        return Violation("namespace", f"{namespace[:64]!r} is not declared; use one of: {known}")
    if not value.strip() or len(value) > MAX_IDENTIFIER:
        return Violation("value", f"{len(value)} characters; send 1 to {MAX_IDENTIFIER}")
    if declared.normalise in ("digits", "phone"):
        digits = "".join(str(int(one)) for one in value if one.isdecimal())
        if declared.normalise == "phone":
            digits = digits.removeprefix("00")
        return digits or Violation("value", f"{value!r} holds no digit; send a number")
    stripped = " ".join(value.split())
    return stripped.casefold() if declared.normalise == "lower" else stripped


def newcomer(namespace: str, value: str) -> str:
    """The customer that an identifier names while it is linked to nobody, always the same one."""
    digest = hashlib.blake2b(f"{namespace}\0{value}".encode(), digest_size=12).hexdigest()
    return f"{namespace}-{digest}"


class News(NamedTuple):
    """What was told of a customer at one moment."""

    moment: int  # milliseconds
    attributes: dict[str, Value | None]
    consents: list[Consent]


def news(told: Profile, known: Profile) -> list[News]:
    """What a member's profile adds to that of the root: what was told later, oldest first.

    Changing ``known`` by each, at its own moment, gives the newest of both. Of two values told at
    the same moment the root's stays; of two consents, the withdrawal.
    """
    found: dict[int, News] = {}

    def at(moment: int) -> News:
        return found.setdefault(moment, News(moment, {}, []))

    for name, one in told.attributes.items():
        before = known.attributes.get(name)
        if before is None or before.updated_at < one.updated_at:
            at(one.updated_at).attributes[name] = one.value
    said = {(one.purpose, one.channel): one for one in known.consents}
    for consent in told.consents:
        if _outweighs(consent, said.get((consent.purpose, consent.channel))):
            at(consent.updated_at).consents.append(consent)
    return [found[moment] for moment in sorted(found)]


def _outweighs(one: Consent, other: Consent | None) -> bool:
    if other is None or one.updated_at != other.updated_at:
        return other is None or one.updated_at > other.updated_at
    return other.granted and not one.granted
